//! Energy of a span: the difference of a meter's readings at its two edges.

use crate::trace::{Span, SpanKind, Trace};
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
    /// Executions of the work.
    pub executions: u64,
    /// Farthest that an edge lies from the meter's true change, in seconds.
    pub edge: f64,
}

/// For each span of a trace: what a meter read over it; none if it has no reading at exactly the span's edges,
/// for nothing is interpolated.
pub(super) fn span_energies(trace: &Trace, meter: usize) -> Vec<Option<Joules>> {
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
            if span.length() > Seconds::ZERO { Some(end? - start?) } else { None }
        })
        .collect()
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
