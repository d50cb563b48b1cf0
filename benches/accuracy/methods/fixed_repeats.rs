//! `zeus.profile`: repeated trials of a fixed length, accepted by an absolute threshold.
//!
//! Described in Zeus's documentation of thermally stable profiling (ml-energy/zeus, `zeus.profile`): a trial sleeps
//! for the cooldown, warms up for ten iterations, runs ceil(duration / iteration time) iterations, and divides the
//! difference of the energy counter by them. Ten trials follow two warm-up trials. Durations and cooldowns of 1 to
//! 10 s are swept, and a setting is valid where the standard deviation of the energy of an iteration is below 0.01 J.
//!
//! Our reduction: the cooldown stays at its default of 10 s, and the sweep over durations ends at the first valid
//! one; where none is valid, the longest is taken. It gives a standard deviation and no interval, so the interval
//! here is Student's: t x deviation / sqrt(10).

use layerjoule::stats::Uncertain;
use layerjoule::units::Joules;

use super::super::board::{Answer, Board, Value, Work, each_signature};
use super::super::subject::Subject;

const COOLDOWN: f64 = 10.0;
const WARM_UP_ITERATIONS: usize = 10;
const TRIALS: usize = 10;
const WARM_UP_TRIALS: usize = 2;
const DURATIONS: std::ops::RangeInclusive<u32> = 1..=10;
const LARGEST_DEVIATION: f64 = 0.01;

/// Each kind of layer and the pass, one after the other.
pub(crate) fn measure(subject: &Subject, seed: u64) -> Result<Answer, String> {
    let mut board = Board::new(subject, seed)?;
    let sensor = board.counter_index()?;
    each_signature(&mut board, sensor, sweep)
}

fn sweep(board: &mut Board<'_>, work: Work) -> Result<Value, String> {
    let each = board.time_of(work, WARM_UP_ITERATIONS)?;
    let mut found = Uncertain::exact(f64::NAN);
    for duration in DURATIONS {
        let trials = (0..WARM_UP_TRIALS + TRIALS)
            .map(|_| trial(board, work, each, f64::from(duration)))
            .collect::<Result<Vec<_>, String>>()?;
        let kept = &trials[WARM_UP_TRIALS..];
        found = Uncertain::mean_of(kept).ok_or("fewer than two trials")?;
        if found.std_error * (kept.len() as f64).sqrt() < LARGEST_DEVIATION {
            break;
        }
    }
    Ok(found.estimate::<Joules>().into())
}

/// Joules of one iteration.
fn trial(board: &mut Board<'_>, work: Work, each: f64, duration: f64) -> Result<f64, String> {
    board.rest(COOLDOWN);
    for _ in 0..WARM_UP_ITERATIONS {
        board.launch(work)?;
    }
    let iterations = (duration / each).ceil().max(1.0) as u64;
    let before = board.counter()?;
    board.run(work, iterations, each)?;
    Ok((board.counter()? - before) / iterations as f64)
}
