//! Zeus PowerMonitor: power polled beside the program, joined by straight lines inside a window.
//!
//! Described in Zeus's documentation and in the notes of its behaviour (ml-energy/zeus, `PowerMonitor`,
//! `get_energy`):
//!
//! - The period of polling is inferred at the start: power is read 1000 times as fast as possible, the shortest
//!   time between two changes is halved, and the period is 0.1 s at most. Where no change is seen it is 0.1 s.
//! - Equal readings in a row count once, those strictly inside the window are kept, and the trapezoid rule joins
//!   them; nothing is extrapolated to the window's edges, and fewer than two are 0 J.
//!
//! A user who wants the energy of layers puts a window around each in a pass, as around anything else; that of the
//! pass is the same pass's. The reading is the instantaneous one, the first of its three domains.

use super::super::board::{Answer, Board, Value, Work};
use super::super::subject::Subject;

const WARM_UP: f64 = 10.0;
const READS: usize = 1000;
const LONGEST_PERIOD: f64 = 0.1;

/// One pass with windows around it and around each of its layers.
pub(crate) fn measure(subject: &Subject, seed: u64) -> Result<Answer, String> {
    let mut board = Board::new(subject, seed)?;
    let sensor = board.instant_power()?;
    let period = inferred_period(READS, || (board.now(), board.query(sensor)));
    board.warm_up(WARM_UP)?;
    // The poller's first look falls anywhere, as it does not know of windows.
    let (begin, mut next, mut samples) = (board.now(), board.now() + period / 2.0, Vec::new());
    let mut windows = Vec::new();
    for step in 0..subject.plan.steps.len() {
        let start = board.now();
        board.launch(Work::Step(step))?;
        board.sync()?;
        // Looks are due within kernels and are made at their ends, at most a kernel later.
        while next <= board.now() {
            samples.push((board.now(), board.glance(sensor)));
            next += period;
        }
        windows.push((start, board.now()));
    }
    let seconds = board.now();
    let layers = windows.iter().map(|&(from, to)| Some(Value::bare(energy(&samples, from, to)))).collect();
    let pass = Some(Value::bare(energy(&samples, begin, seconds)));
    Ok(Answer { layers, pass, gaps: 0.0, seconds, sensor })
}

/// The period of polling; `read` gives the time and the power, and takes its time.
pub(crate) fn inferred_period(reads: usize, mut read: impl FnMut() -> (f64, f64)) -> f64 {
    let (mut changed_at, mut last) = (None, None);
    let mut shortest = f64::INFINITY;
    for _ in 0..reads {
        let (at, watts) = read();
        if last.is_some_and(|last: f64| last.to_bits() != watts.to_bits()) {
            shortest = changed_at.map_or(shortest, |before: f64| shortest.min(at - before));
            changed_at = Some(at);
        }
        last = Some(watts);
    }
    (shortest / 2.0).min(LONGEST_PERIOD)
}

/// Joules of a window from polled (time, watts).
pub(crate) fn energy(samples: &[(f64, f64)], from: f64, to: f64) -> f64 {
    let mut changes = samples.to_vec();
    changes.dedup_by(|later, earlier| later.1.to_bits() == earlier.1.to_bits());
    let inside: Vec<_> = changes.into_iter().filter(|&(at, _)| from < at && at < to).collect();
    inside.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum()
}
