//! What reading the meters cost, and whether that spoils the numbers.

use crate::attribution::slow_down;
use crate::trace::{Trace, Warning};
use crate::units::Seconds;

use super::run_file::SamplingRow;

/// Share of time beyond which reading disturbs what it reads: the half width of an interval that a run aims at
/// (docs/measuring.md, sampling).
const LIMIT: f64 = 0.02;

/// The row of a trace; none for a trace that does not count its readings.
pub(super) fn sampling_row(trace: &Trace) -> Option<SamplingRow> {
    let sampling = trace.sampling;
    if sampling.windows_s <= Seconds::ZERO {
        return None;
    }
    let share = |time: Seconds| time / sampling.windows_s;
    let slow_down = slow_down(trace);
    Some(SamplingRow {
        reads: sampling.reads.count,
        time_s: sampling.reads.time_s,
        share: Some(share(sampling.reads.time_s)),
        cpu_s: sampling.reads.cpu_s,
        cpu_share: sampling.reads.cpu_s.map(share),
        slow_down: slow_down.map(|ratio| ratio.estimate()),
        reason: slow_down.is_none().then(|| reason(trace).to_string()),
    })
}

fn reason(trace: &Trace) -> &'static str {
    if !trace.complete {
        return "the run ended before passes were compared";
    }
    if trace.header.signatures.is_empty() {
        return "nothing runs that reading could slow down";
    }
    "too few pairs of short windows: the run is too short for them, or one pass is too long"
}

/// Says when reading takes more of the time than the numbers can bear.
pub(super) fn sampling_warning(row: &SamplingRow) -> Option<Warning> {
    let slower = row.slow_down.filter(|ratio| ratio.value - 1.0 > LIMIT && ratio.low > 1.0);
    let busy = row.share.filter(|&share| share > LIMIT);
    let what = match (slower, busy) {
        (Some(ratio), _) => format!(
            "passes take {:.1} % longer when the meter is read as often as in a layer's window",
            (ratio.value - 1.0) * 100.0
        ),
        (None, Some(share)) => {
            format!("reading the meters takes {:.1} % of the windows' time", share * 100.0)
        }
        (None, None) => return None,
    };
    Some(Warning::new(
        "sampling",
        format!(
            "{what}, more than {:.0} %: energies include it; give a longer --window or fewer meters to --meter",
            LIMIT * 100.0
        ),
    ))
}
