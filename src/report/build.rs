//! From a trace to the run report.

use crate::attribution::{Attribution, SignatureEnergy, Stretch, attribute, signature_counts};
use crate::stats::{Estimate, Uncertain};
use crate::trace::{LayerRecord, MeterStatus, Trace, Warning};
use crate::units::Joules;

use super::doubts::doubt;
use super::kinds::kind_rows;
use super::run_file::{
    AlsoRow, BudgetRow, ClosureRow, IdleRow, InSituRow, LayerRow, Method, PassRow, Phase, RUN_SCHEMA,
    RunReport, Status,
};
use super::sampling::{sampling_row, sampling_warning};
use super::sanity::check_sanity;

/// Residual beyond which the balance is called open: 3 % of the pass (docs/measuring.md, balance).
const CLOSURE_LIMIT: f64 = 0.03;
/// Other processes' share of the machine above which a run is called disturbed.
const DISTURBED: f64 = 0.05;
/// Standard uncertainties that an energy must have to be told from zero (docs/measuring.md, detection).
const DETECTION: f64 = 2.0;
/// Half width of an interval, relative to its value, beyond which a row is called uncertain.
const WIDE: f64 = 0.2;

/// Attributes a trace and lays out the result.
pub fn run_report(trace: &Trace) -> RunReport {
    let header = &trace.header;
    // Before the primary one, whose windows stay in memory: of others only rows do.
    let others: Vec<SideMeter> = (0..header.meters.len())
        .filter(|&m| m != header.primary_meter && trace.samples.has(m))
        .map(|m| SideMeter::of(trace, m))
        .collect();
    let primary = attribute(trace, header.primary_meter);
    let sum = layer_sum(trace, &primary);
    let layers: Vec<LayerRow> = header
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| layer_row(trace, index, layer, &primary, &others, sum))
        .collect();
    let closure = closure_row(trace, &primary);
    let mut warnings = trace.warnings.clone();
    let mut read: Vec<(usize, usize)> = others.iter().map(|meter| (meter.index, meter.windows)).collect();
    read.push((header.primary_meter, primary.windows));
    read.sort_unstable();
    warnings.extend(trace_warnings(trace, &read));
    warnings.extend(others.iter().filter_map(|meter| meter.still_warning(trace)));
    warnings.extend(others.iter().filter_map(|meter| meter.short_warning(trace)));
    warnings.extend(row_warnings(&layers, &closure));
    let sampling = sampling_row(trace);
    warnings.extend(sampling.as_ref().and_then(sampling_warning));
    let mut report = RunReport {
        schema: RUN_SCHEMA.to_string(),
        tool: header.tool.clone(),
        created: header.created.clone(),
        simulated: header.simulated,
        emulated: header.emulated,
        network: header.network.clone(),
        device: header.device.clone(),
        meters: header.meters.clone(),
        primary_meter: header.meters[header.primary_meter].id.clone(),
        environment: trace.environment.clone().unwrap_or_else(|| header.environment.clone()),
        kinds: kind_rows(trace, &primary, sum),
        pass: vec![pass_row(trace, &primary.pass)],
        idle: IdleRow {
            power_w: primary.idle_power.map(|p| p.estimate()),
            active_power_w: primary.active_idle_power.map(|p| p.estimate()),
        },
        closure: vec![closure],
        in_situ: primary.stretches.iter().map(|stretch| in_situ_row(trace, stretch)).collect(),
        sampling,
        layers,
        warnings,
    };
    doubt(&mut report, trace, &primary);
    check_sanity(&mut report, &primary);
    report
}

fn in_situ_row(trace: &Trace, stretch: &Stretch) -> InSituRow {
    let [first, last] = stretch.layers.map(|layer| trace.header.layers[layer].name.clone());
    InSituRow {
        phase: Phase::Forward,
        first,
        last,
        energy_dynamic_j: stretch.in_situ.estimate(),
        sum_of_layers_dynamic_j: stretch.rows.estimate(),
        disagrees: stretch.disagrees,
    }
}

/// The rows of layers that nobody has measured: what they are and what they cost in operations and bytes.
pub fn unmeasured_rows(layers: &[LayerRecord], signatures: &[String]) -> Vec<LayerRow> {
    layers
        .iter()
        .enumerate()
        .map(|(index, layer)| {
            let mut row = bare_row(index, layer, signatures);
            match layer.signature {
                Some(_) => row.reason = Some("not measured".to_string()),
                None => runs_no_step(&mut row, layer),
            }
            row
        })
        .collect()
}

/// A row with what is known without measuring.
fn bare_row(index: usize, layer: &LayerRecord, signatures: &[String]) -> LayerRow {
    LayerRow {
        index,
        name: layer.name.clone(),
        kind: layer.kind.clone(),
        phase: Phase::Forward,
        covers: Vec::new(),
        fused: layer.fused.clone(),
        signature: layer.signature.and_then(|s| signatures.get(s).cloned()),
        algorithm: layer.algorithm.clone(),
        workspace_bytes: layer.workspace_bytes,
        kernels: layer.kernels.clone(),
        executions: u64::from(layer.signature.is_some()),
        replays: 0,
        windows: 0,
        method: Method::Replay,
        time_s: None,
        energy_j: None,
        energy_dynamic_j: None,
        power_w: None,
        uncertainty: None,
        flops: layer.flops,
        flops_elementwise: layer.flops_elementwise,
        bytes: layer.bytes,
        share: None,
        also: Vec::new(),
        status: Status::Unavailable,
        upper_j: None,
        reason: None,
        warnings: Vec::new(),
    }
}

/// Sum over all layers that have an energy, in joules; the whole that shares are of.
fn layer_sum(trace: &Trace, attribution: &Attribution) -> Option<f64> {
    let energies = attribution.signatures.iter().zip(signature_counts(trace));
    let known: Vec<f64> = energies.filter_map(|(s, n)| Some(s.energy?.value * n as f64)).collect();
    (!known.is_empty()).then(|| known.iter().sum())
}

fn layer_row(
    trace: &Trace,
    index: usize,
    layer: &LayerRecord,
    primary: &Attribution,
    others: &[SideMeter],
    sum: Option<f64>,
) -> LayerRow {
    let header = &trace.header;
    let work = layer.signature.and_then(|s| primary.signatures.get(s));
    let energy = work.and_then(|w| w.energy);
    let mut row = LayerRow {
        // Parts of executions at the edges of windows add up to about whole ones.
        replays: work.map_or(0, |w| w.executions.round() as u64),
        windows: work.map_or(0, |w| w.windows),
        time_s: work.and_then(|w| w.time).map(|t| t.estimate()),
        energy_j: energy.map(|e| e.estimate()),
        energy_dynamic_j: work.and_then(|w| w.dynamic).map(|d| d.estimate()),
        power_w: work.and_then(|w| w.power).map(|p| p.estimate()),
        method: match layer.signature.and_then(|s| header.contexts.get(s)?.base) {
            Some(_) => Method::Differential,
            None => Method::Replay,
        },
        uncertainty: work.filter(|_| !header.contexts.is_empty()).and_then(budget_row),
        share: energy.zip(sum).map(|(e, sum)| e.value / sum),
        also: layer
            .signature
            .map_or(Vec::new(), |s| others.iter().filter_map(|m| m.rows.get(s).cloned()).collect()),
        status: match header.meters[header.primary_meter].status {
            MeterStatus::Measured => Status::Measured,
            _ => Status::Estimated,
        },
        ..bare_row(index, layer, &header.signatures)
    };
    match work {
        None => runs_no_step(&mut row, layer),
        Some(work) => judge(&mut row, work),
    }
    row
}

/// What the uncertainty of an energy is made of.
fn budget_row(work: &SignatureEnergy) -> Option<BudgetRow> {
    let all = work.energy?.std_error.powi(2);
    let (beyond, alignment) = (work.beyond, work.alignment);
    // What no other cause explains is the scatter of windows.
    let counting = (all - beyond.combined().powi(2) - alignment.powi(2)).max(0.0).sqrt();
    Some(BudgetRow {
        counting_j: Joules::new(counting),
        alignment_j: Joules::new(alignment),
        temperature_j: Joules::new(beyond.temperature),
        clock_j: Joules::new(beyond.clock),
        cache_j: Joules::new(beyond.cache),
        filler_j: Joules::new(beyond.filler),
    })
}

/// What a meter other than the primary one says.
struct SideMeter {
    index: usize,
    windows: usize,
    /// Windows over which it stood still.
    still: usize,
    /// Windows too short for it.
    short: usize,
    /// For each signature.
    rows: Vec<AlsoRow>,
}

impl SideMeter {
    fn of(trace: &Trace, index: usize) -> Self {
        let attribution = attribute(trace, index);
        let id = &trace.header.meters[index].id;
        let row = |work: &SignatureEnergy| AlsoRow {
            meter: id.clone(),
            energy_j: work.energy.map(|e| e.estimate()),
            energy_dynamic_j: work.dynamic.map(|d| d.estimate()),
        };
        Self {
            index,
            windows: attribution.windows,
            still: attribution.still_windows,
            short: attribution.short_windows,
            rows: attribution.signatures.iter().map(row).collect(),
        }
    }

    fn short_warning(&self, trace: &Trace) -> Option<Warning> {
        let record = &trace.header.meters[self.index];
        let text = format!(
            "{} moves every {:.3} s, too seldom for {} of {} windows, which have no energy by it; give a --window of \
             two of its periods or more, or name it first in --meter",
            record.id,
            record.update_period_s?.value(),
            self.short,
            self.windows
        );
        (self.short > 0).then(|| Warning::new("slow_counter", text))
    }

    fn still_warning(&self, trace: &Trace) -> Option<Warning> {
        let (id, still, read) = (&trace.header.meters[self.index].id, self.still, self.windows);
        let text = format!(
            "{id} stood still in {still} of {read} windows, for more than 50 of its update periods; it has no energy \
             of these and of those next to them, in which it may have stopped: run `layerjoule doctor`"
        );
        (still > 0).then(|| Warning::new("still_counter", text))
    }
}

/// Says why a layer has no work of its own: a view executes nothing, so its bound is zero; a layer that is computed
/// together with another one has no reading.
fn runs_no_step(row: &mut LayerRow, layer: &LayerRecord) {
    if let Some(first) = &layer.fused_into {
        row.status = Status::Unavailable;
        row.reason = Some(format!("computed together with {first}, whose row holds its energy"));
        return;
    }
    row.status = Status::BelowDetection;
    row.upper_j = Some(Joules::ZERO);
    row.reason = Some("no-op: nothing is executed, the output is the input's buffer".to_string());
}

/// Says of a row with windows whether its energy can be told from nothing, and how well it is known.
fn judge(row: &mut LayerRow, work: &SignatureEnergy) {
    let Some(energy) = work.energy else {
        row.status = Status::Unavailable;
        row.reason = Some(match work.windows {
            0 => "no window of this layer was measured before the run ended".to_string(),
            _ => "one window has no measured spread; an interval needs two or more rounds".to_string(),
        });
        return;
    };
    if energy.value < DETECTION * energy.std_error {
        let upper: Estimate<Joules> = energy.estimate();
        row.status = Status::BelowDetection;
        row.energy_j = None;
        row.energy_dynamic_j = None;
        row.power_w = None;
        row.share = None;
        row.upper_j = Some(upper.high);
        row.reason = Some("its energy cannot be told from zero".to_string());
        return;
    }
    // The total is known, but it is all static share of the layer's time as far as anyone can tell.
    if work.dynamic.is_some_and(|dynamic| dynamic.value < DETECTION * dynamic.std_error) {
        row.warnings.push("not_above_idle".to_string());
    }
    if energy.half_width(0.95) > WIDE * energy.value.abs() {
        row.warnings.push("wide_interval".to_string());
    }
}

fn pass_row(trace: &Trace, pass: &SignatureEnergy) -> PassRow {
    let batch = trace.header.network.batch.max(1) as f64;
    PassRow {
        phase: Phase::Forward,
        time_s: pass.time.map(|t| t.estimate()),
        energy_j: pass.energy.map(|e| e.estimate()),
        energy_per_image_j: pass.energy.map(|e| e.times(1.0 / batch).estimate()),
        warnings: Vec::new(),
    }
}

fn closure_row(trace: &Trace, attribution: &Attribution) -> ClosureRow {
    let show = |u: Option<Uncertain>| u.map(|u| u.estimate());
    let balance = attribution.balance.as_ref();
    let layers = &trace.header.layers;
    ClosureRow {
        phase: Phase::Forward,
        sum_of_layers_j: show(balance.map(|b| b.layers)),
        gaps_j: show(balance.map(|b| b.gaps)),
        pass_j: show(attribution.pass.energy),
        residual_j: show(balance.map(|b| b.residual)),
        residual_ratio: balance.map(|b| b.residual.value / b.pass.value).filter(|r| r.is_finite()),
        reconciled_j: layers
            .iter()
            .map(|layer| Some(Joules::new(*balance?.reconciled.get(layer.signature?)?)))
            .collect(),
        warnings: Vec::new(),
    }
}

/// What the end of the recording and its surroundings mean for the numbers.
///
/// `read` tells for meters how many windows each has read.
fn trace_warnings(trace: &Trace, read: &[(usize, usize)]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if !trace.complete {
        let why = trace.ended_by.as_deref().unwrap_or("the program ended unexpectedly");
        warnings.push(Warning::new(
            "incomplete",
            format!("the run ended early ({why}); the same command goes on where it stopped"),
        ));
    }
    let all = trace.spans.len();
    for &(meter, there) in read.iter().filter(|(_, there)| (1..all).contains(there)) {
        let id = &trace.header.meters[meter].id;
        warnings.push(Warning::new(
            "missing_readings",
            format!("{id} has no reading in {} of {all} windows", all - there),
        ));
    }
    let Some(environment) = &trace.environment else { return warnings };
    if let Some(share) = environment.other_processes.filter(|&share| share > DISTURBED) {
        warnings.push(Warning::new(
            "disturbed",
            format!(
                "other processes used {:.0} % of the processors during the run; stop them and run again",
                share * 100.0
            ),
        ));
    }
    if let Some(others) = environment.device_processes.filter(|&others| others > 0) {
        let (processes, computed) =
            if others == 1 { ("process", "computes") } else { ("processes", "compute") };
        warnings.push(Warning::new(
            "shared_device",
            format!(
                "{others} other {processes} {computed} on the device, and their energy is in these numbers; stop them \
                 and run again"
            ),
        ));
    }
    if !environment.throttle_reasons.is_empty() {
        warnings.push(Warning::new(
            "throttled",
            format!(
                "the device was throttled ({}); {} and run again",
                environment.throttle_reasons.join(", "),
                remedies(&environment.throttle_reasons)
            ),
        ));
    }
    warnings
}

/// What to do against what throttled a device, each thing once.
fn remedies(reasons: &[String]) -> String {
    let mut remedies = Vec::new();
    for reason in reasons {
        let remedy = match reason.as_str() {
            "power limit" => "raise the limit or lower the load",
            "power brake" => "look after its power supply",
            "hardware slowdown" => "cool it and look after its power supply",
            "sync boost" => "take it out of its group of GPUs that share a clock",
            _ => "cool it",
        };
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    remedies.join(", ")
}

fn row_warnings(layers: &[LayerRow], closure: &ClosureRow) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let (Some(residual), Some(ratio)) = (&closure.residual_j, closure.residual_ratio)
        && ratio.abs() > CLOSURE_LIMIT
        && residual.value.abs().value() > residual.half_width()
    {
        let cause = if ratio < 0.0 {
            "the layers alone cost more than inside the network"
        } else {
            "the network costs more than its layers alone, as with colder caches"
        };
        warnings.push(Warning::new(
            "closure",
            format!("layers and gaps miss the measured pass by {:+.1} %: {cause}", ratio * 100.0),
        ));
    }
    let wide = layers.iter().filter(|l| l.warnings.iter().any(|w| w == "wide_interval")).count();
    if wide > 0 {
        warnings.push(Warning::new(
            "wide_interval",
            format!(
                "{wide} of {} rows are known to no better than ±{:.0} %; stop other programs, or ask for more with a smaller --target or more --rounds",
                layers.len(),
                WIDE * 100.0
            ),
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_throttles_has_its_remedy_once() {
        let against =
            |reasons: &[&str]| remedies(&reasons.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(against(&["power limit"]), "raise the limit or lower the load");
        assert_eq!(against(&["thermal", "thermal, by hardware"]), "cool it");
        assert_eq!(against(&["power limit", "thermal"]), "raise the limit or lower the load, cool it");
    }
}
