//! What reading the meters costs the work that is measured.

use std::collections::BTreeMap;

use crate::stats::Uncertain;
use crate::trace::{SpanKind, Trace};

/// How many times as long a pass takes when the meter is read as often as in a replay as when it is read at the
/// edges only. None with fewer than two pairs of windows.
///
/// Each pair stands alone, since its two windows follow each other and share clock, temperature and neighbours;
/// the result is the mean over pairs.
pub fn slow_down(trace: &Trace) -> Option<Uncertain> {
    let mut watched: BTreeMap<usize, f64> = BTreeMap::new();
    let mut unwatched = watched.clone();
    for span in trace.spans.iter().filter(|span| span.executions > 0.0) {
        let times = match span.kind {
            SpanKind::Watched => &mut watched,
            SpanKind::Unwatched => &mut unwatched,
            _ => continue,
        };
        times.insert(span.round, span.length().value() / span.executions);
    }
    let ratios: Vec<f64> =
        watched.iter().filter_map(|(pair, time)| Some(time / unwatched.get(pair)?)).collect();
    Uncertain::mean_of(&ratios)
}
