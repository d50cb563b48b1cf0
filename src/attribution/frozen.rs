//! A power reading that stays at one value while the load changes.
//!
//! A counter that stops can be seen to stop. A power sensor that does shows watts as before, and their sum grows as that of
//! a steady load does; what gives it away is that rest and work draw exactly the same.

use crate::trace::{MeterKind, SpanKind, Trace};
use crate::units::{Joules, Seconds};

use super::integrate::edge_energies;

/// Relative difference that the clock's whole nanoseconds and sums of joules make between the powers of two windows with
/// equal readings, where both begin and end with a reading.
const ROUNDING: f64 = 1e-6;
/// Update periods by which the edges of a window may miss a side meter's readings.
const STALE_PERIODS: f64 = 2.0;
/// How much farther apart than what stale edges allow the primary meter's powers are where the load has changed.
const CHANGED: f64 = 2.0;

/// Windows on end in which a power reading did not change.
#[derive(Debug, Clone, PartialEq)]
pub struct Frozen {
    /// What it showed, in watts; the first such value.
    pub watts: f64,
    /// From the beginning of the first window of the recording to that of the first frozen one.
    pub since: Seconds,
    /// Windows of all such stretches.
    pub windows: usize,
    /// For each span: whether it is one of them, or next to one, in which the reading may have stopped or started again.
    pub doubtful: Vec<bool>,
}

/// A window as a meter saw it.
struct Seen {
    span: usize,
    watts: f64,
    /// How far that may be from the sensor's mean, as a part of it.
    off: f64,
}

/// Where a meter that reads power showed one value through windows of rest and of work. None where it did not, and for
/// counters and models.
///
/// A side meter is not read where its windows begin and end, so that equal readings do not make equal energies; there the
/// primary meter has to say that the load changed.
pub fn frozen(trace: &Trace, meter: usize) -> Option<Frozen> {
    let record = trace.header.meters.get(meter).filter(|record| record.kind == MeterKind::Power)?;
    let primary = meter == trace.header.primary_meter;
    let stale = record.update_period_s.filter(|_| !primary).unwrap_or(Seconds::ZERO) * STALE_PERIODS;
    let seen = windows(trace, &edge_energies(trace, meter), stale);
    let by_primary = if primary { Vec::new() } else { edge_energies(trace, trace.header.primary_meter) };
    let same = |a: &Seen, b: &Seen| (a.watts - b.watts).abs() <= (a.off + b.off) * a.watts.abs();
    let mut found =
        Frozen { watts: 0.0, since: Seconds::ZERO, windows: 0, doubtful: vec![false; trace.spans.len()] };
    let mut next = 0;
    while next < seen.len() {
        let begin = next;
        let on_end = seen[begin..].iter().take_while(|window| same(&seen[begin], window)).count();
        next = begin + on_end.max(1);
        let stretch = &seen[begin..next];
        let is_rest =
            |window: &&Seen| matches!(trace.spans[window.span].kind, SpanKind::Idle | SpanKind::ActiveIdle);
        let rests = stretch.iter().filter(is_rest).count();
        let mixed = rests > 0 && rests < stretch.len();
        if !mixed || !(primary || load_changed(trace, &by_primary, stretch)) {
            continue;
        }
        if found.windows == 0 {
            found.watts = stretch[0].watts;
            found.since = trace.spans[stretch[0].span].start - trace.spans[0].start;
        }
        found.windows += stretch.len();
        for window in &seen[begin.saturating_sub(1)..seen.len().min(next + 1)] {
            found.doubtful[window.span] = true;
        }
    }
    (found.windows > 0).then_some(found)
}

/// The windows that a meter read.
fn windows(trace: &Trace, edges: &[Option<[Joules; 2]>], stale: Seconds) -> Vec<Seen> {
    let window = |(span, edges): (usize, &Option<[Joules; 2]>)| {
        let ([start, end], length) = ((*edges)?, trace.spans[span].length());
        Some(Seen { span, watts: ((end - start) / length).value(), off: stale / length + ROUNDING })
    };
    edges.iter().enumerate().filter_map(window).collect()
}

/// Whether the primary meter's power differs between windows by more than a side meter could have missed.
fn load_changed(trace: &Trace, primary: &[Option<[Joules; 2]>], stretch: &[Seen]) -> bool {
    let watts = || {
        let of = |window: &Seen| {
            let [start, end] = primary[window.span]?;
            Some(((end - start) / trace.spans[window.span].length()).value())
        };
        stretch.iter().filter_map(of)
    };
    let (least, most) = (watts().fold(f64::INFINITY, f64::min), watts().fold(f64::NEG_INFINITY, f64::max));
    let off = stretch.iter().map(|window| window.off).fold(0.0, f64::max);
    most > least * (1.0 + CHANGED * 2.0 * off)
}
