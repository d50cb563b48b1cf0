//! Energy of a span: the difference of a meter's readings at its two edges.

use crate::trace::{MeterKind, Span, SpanKind, Trace};
use crate::units::{Joules, Seconds};

/// One window by one meter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// What ran.
    pub kind: SpanKind,
    /// The round.
    pub round: usize,
    /// Energy of the whole window in joules.
    pub energy: f64,
    /// Length of the window in seconds.
    pub time: f64,
    /// Executions of the work, with the parts of those at its edges.
    pub executions: f64,
    /// Farthest that an edge lies from the meter's true change, in seconds.
    pub edge: f64,
}

/// For each span of a trace: what a meter read at its two edges; none if it has no reading at exactly these, for
/// nothing is interpolated.
pub(super) fn edge_energies(trace: &Trace, meter: usize) -> Vec<Option<[Joules; 2]>> {
    let samples = &trace.samples;
    // Spans follow each other in time, and so do samples: each search begins where the last one ended.
    let mut position = 0;
    let mut energy_at = |instant| {
        position = samples.position(position, instant);
        (position..)
            .map_while(|at| samples.get(at))
            .take_while(|sample| sample.at == instant)
            .find(|sample| sample.meter == meter)
            .map(|sample| sample.energy)
    };
    trace
        .spans
        .iter()
        .map(|span| {
            let (start, end) = (energy_at(span.start), energy_at(span.end));
            if span.length() > Seconds::ZERO { Some([start?, end?]) } else { None }
        })
        .collect()
}

/// What a meter read in a window; none if it has no reading at exactly its edges.
pub fn span_energy(trace: &Trace, meter: usize, span: &Span) -> Option<Joules> {
    let samples = &trace.samples;
    // Mostly of the latest window.
    let near = samples.len().saturating_sub(64);
    let at = |instant| {
        (samples.position(near, instant)..)
            .map_while(|at| samples.get(at))
            .take_while(|sample| sample.at == instant)
            .find(|sample| sample.meter == meter)
            .map(|sample| sample.energy)
    };
    Some(at(span.end)? - at(span.start)?)
}

/// Update periods that a window of a side counter has at least. Its edges are those of the primary meter, so each
/// reading may be a period old, and the energy of a shorter window is as likely that of the windows around it.
const LEAST_PERIODS: f64 = 2.0;

/// For each span: whether it is too short for a side counter that moves as seldom as this one.
pub(super) fn too_short(trace: &Trace, meter: usize) -> Vec<bool> {
    let record = &trace.header.meters[meter];
    let side_counter = record.kind == MeterKind::Counter && meter != trace.header.primary_meter;
    let period = record.update_period_s.filter(|_| side_counter);
    let is_short = |span: &Span| period.is_some_and(|period| span.length() < period * LEAST_PERIODS);
    trace.spans.iter().map(is_short).collect()
}

/// Update periods without a change after which a counter is called still.
const STILL_PERIODS: f64 = 50.0;

/// Windows of a side meter whose differences are no energies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Still {
    /// Windows over which the counter stood still.
    pub(super) windows: usize,
    /// For each span: whether the counter stood still, or may have stopped or started again within it.
    pub(super) doubtful: Vec<bool>,
}

/// Where a counter stood still: in windows on end that together last longer than [`STILL_PERIODS`].
///
/// A counter of no power cannot be told from one that stopped, so neither has an energy. The primary meter moves at
/// each edge of its windows.
pub(super) fn still(trace: &Trace, meter: usize, edges: &[Option<[Joules; 2]>]) -> Still {
    let mut still = Still { windows: 0, doubtful: vec![false; edges.len()] };
    let record = &trace.header.meters[meter];
    let Some(period) = record.update_period_s.filter(|_| record.kind == MeterKind::Counter) else {
        return still;
    };
    if meter == trace.header.primary_meter {
        return still;
    }
    let read: Vec<(usize, [Joules; 2])> =
        edges.iter().enumerate().filter_map(|(at, edges)| Some((at, (*edges)?))).collect();
    let unmoved = |a: &(usize, [Joules; 2]), b: &(usize, [Joules; 2])| a.1[0] == a.1[1] && a.1 == b.1;
    let mut next = 0;
    for stretch in read.chunk_by(unmoved) {
        let (begin, end) = (next, next + stretch.len());
        next = end;
        let ((first, edges), (last, _)) = (stretch[0], stretch[stretch.len() - 1]);
        let length = trace.spans[last].end - trace.spans[first].start;
        if edges[0] == edges[1] && length > period * STILL_PERIODS {
            still.windows += stretch.len();
            for (at, _) in &read[begin.saturating_sub(1)..read.len().min(end + 1)] {
                still.doubtful[*at] = true;
            }
        }
    }
    still
}

/// A window by one of the trace's meters, with the energy that the meter read.
pub(super) fn reading(trace: &Trace, span: &Span, meter: usize, energy: Joules) -> Reading {
    // The edges are aligned to the primary meter; another one may be as stale as its own period.
    let own_period = trace.header.meters.get(meter).and_then(|m| m.update_period_s).unwrap_or(Seconds::ZERO);
    let primary = meter == trace.header.primary_meter;
    let edge = if primary || own_period < span.edge_s { span.edge_s } else { own_period };
    Reading {
        kind: span.kind,
        round: span.round,
        energy: energy.value(),
        time: span.length().value(),
        executions: span.executions,
        edge: edge.value(),
    }
}
