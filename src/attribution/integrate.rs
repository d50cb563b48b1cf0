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

/// What a meter read over a span; none if it has no reading at exactly its edges: nothing is interpolated.
pub fn reading(trace: &Trace, span: &Span, meter: usize) -> Option<Reading> {
    let at = |instant| -> Option<Joules> {
        let first = trace.samples.partition_point(|s| s.at < instant);
        trace.samples[first..]
            .iter()
            .take_while(|s| s.at == instant)
            .find(|s| s.meter == meter)
            .map(|s| s.energy)
    };
    let energy = at(span.end)? - at(span.start)?;
    let time = span.length();
    if time <= Seconds::ZERO {
        return None;
    }
    // The edges are aligned to the primary meter; another one may be as stale as its own period.
    let own_period = trace.header.meters.get(meter).and_then(|m| m.update_period_s).unwrap_or(Seconds::ZERO);
    let primary = meter == trace.header.primary_meter;
    let edge = if primary || own_period < span.edge_s { span.edge_s } else { own_period };
    Some(Reading {
        kind: span.kind,
        round: span.round,
        energy: energy.value(),
        time: time.value(),
        executions: span.executions,
        edge: edge.value(),
    })
}
