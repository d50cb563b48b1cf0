//! What our own recordings tell of the sensors that they were made with.
//!
//! The edges of windows are changes of the primary meter's reading, so they tell its period. Joules of several meters
//! over the same windows can be compared. Nothing tells a window or a delay: the device works before, in and behind each
//! window, and a trace keeps joules, not what a reading of power showed.

use crate::stats::Estimate;
use crate::trace::{MeterKind, MeterRecord, Span, SpanKind, Trace};
use crate::units::{Joules, Seconds, Watts};

use super::facts::{ReadingFacts, Unknown};
use super::grid::{Grid, grid_near};
use super::health::{Beside, Witnesses, health};
use super::series::{quantile, sorted};

/// Time in windows by which two meters are compared, in periods of the slower one: each edge may be one of them late.
const LEAST_PERIODS: f64 = 100.0;

/// One for each meter that was read. `name` is the recording's.
pub fn traced_facts(trace: &Trace, name: &str) -> Vec<ReadingFacts> {
    let meters = 0..trace.header.meters.len();
    let read = meters.filter(|&meter| trace.samples.has(meter));
    read.filter(|&meter| is_sensor(&trace.header.meters[meter]))
        .map(|meter| meter_facts(trace, name, meter))
        .collect()
}

fn is_sensor(record: &MeterRecord) -> bool {
    matches!(record.kind, MeterKind::Counter | MeterKind::Power)
}

fn meter_facts(trace: &Trace, name: &str, meter: usize) -> ReadingFacts {
    let record = &trace.header.meters[meter];
    let mut facts = ReadingFacts::unknown(name, &record.id, &Unknown(
        "the device works before, in and behind each window of a profile, and this takes loads that come and go: \
         calibrate --device"
            .to_string(),
    ));
    facts.needs_the_device();
    let period = if meter == trace.header.primary_meter {
        edge_grid(trace, record)
    } else {
        Err(Unknown(format!(
            "{} was read at the edges of windows only, which are those of {}",
            record.id, trace.header.meters[trace.header.primary_meter].id
        )))
    };
    facts.reasons.remove("update_period_s");
    facts.update_period_s = facts.keep("update_period_s", period.map(|grid| grid.period));
    let totals = Totals::of(trace, meter, works);
    facts.reasons.remove("energy_j");
    let energy = totals
        .as_ref()
        .map(|totals| totals.energy)
        .ok_or_else(|| Unknown(format!("{} has no reading at the edges of any window with work", record.id)));
    facts.energy_j = facts.keep("energy_j", energy);
    if let Some(beside) = beside(trace, meter) {
        facts.reasons.remove("health");
        facts.health = Some(health(&Witnesses { moves: true, beside: Some(beside), ..Witnesses::default() }));
    }
    facts
}

fn works(span: &Span) -> bool {
    !rests(span)
}

/// Rest before the first round; that between rounds follows a load too closely to be one.
fn rests(span: &Span) -> bool {
    matches!(span.kind, SpanKind::Idle)
}

/// The grid of the primary meter by the edges of windows.
fn edge_grid(trace: &Trace, record: &MeterRecord) -> Result<Grid, Unknown> {
    let about = record
        .update_period_s
        .ok_or_else(|| Unknown(format!("{} had no update period when the trace was recorded", record.id)))?;
    let edges = trace.spans.iter().flat_map(|span| [span.start, span.end]);
    let mut instants: Vec<f64> = edges.map(|at| at.since_origin().value()).collect();
    // Where a window begins as the one before it ends.
    instants.dedup_by(|later, earlier| later <= earlier);
    let within = sorted(trace.spans.iter().map(|span| span.edge_s.value()));
    let within = quantile(&within, 0.5).unwrap_or_default();
    grid_near(&instants, about, Seconds::new(2.0 * within))
}

/// Joules and time of windows by one meter.
struct Totals {
    energy: Estimate<Joules>,
    time: Seconds,
}

impl Totals {
    /// Of the windows of a kind that have readings at both edges.
    fn of(trace: &Trace, meter: usize, wanted: impl Fn(&Span) -> bool) -> Option<Self> {
        let own = trace.header.meters[meter].update_period_s.unwrap_or_default();
        let primary = meter == trace.header.primary_meter;
        let (mut joules, mut time, mut squares, mut from) = (0.0, 0.0, 0.0, 0);
        for span in trace.spans.iter().filter(|span| wanted(span)) {
            let mut at = |instant| {
                from = trace.samples.position(from, instant);
                (from..)
                    .map_while(|place| trace.samples.get(place))
                    .take_while(|sample| sample.at == instant)
                    .find(|sample| sample.meter == meter)
            };
            let (Some(start), Some(end)) = (at(span.start), at(span.end)) else { continue };
            let energy = (end.energy - start.energy).value();
            let edge = if primary { span.edge_s.value() } else { span.edge_s.value().max(own.value()) };
            joules += energy;
            time += span.length().value();
            squares += 2.0 * (energy / span.length().value() * edge).powi(2);
        }
        let half = squares.sqrt();
        let [value, low, high] = [joules, joules - half, joules + half].map(Joules::new);
        (time > 0.0).then(|| Self { energy: Estimate { value, low, high }, time: Seconds::new(time) })
    }

    fn power(&self) -> Watts {
        self.energy.value / self.time
    }
}

/// A counter beside a reading of power of the same part, over the same windows.
fn beside(trace: &Trace, meter: usize) -> Option<Beside> {
    let records = &trace.header.meters;
    let record = &records[meter];
    let fits = |(index, other): &(usize, &MeterRecord)| {
        other.kind == MeterKind::Power && other.scope == record.scope && trace.samples.has(*index)
    };
    let (other, power) =
        records.iter().enumerate().find(fits).filter(|_| record.kind == MeterKind::Counter)?;
    let slower = [record, power].into_iter().filter_map(|record| record.update_period_s?.value().into());
    let least = LEAST_PERIODS * slower.fold(0.0, f64::max);
    let both = |wanted: fn(&Span) -> bool| {
        let [counted, integrated] = [meter, other].map(|meter| Totals::of(trace, meter, wanted));
        let (counted, integrated) = (counted?, integrated?);
        let enough = counted.time.value() >= least && counted.time == integrated.time;
        enough.then(|| [counted.power(), integrated.power()])
    };
    let (at_rest, under_load) = (both(rests), both(works));
    under_load.is_some().then(|| Beside { id: power.id.clone(), at_rest, under_load })
}
