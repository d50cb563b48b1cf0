//! Kernel Tuner: one second of the kernel, the median of instantaneous power, times the kernel's time.
//!
//! Described in Kernel Tuner's documentation of its NVML observer (KernelTuner/kernel_tuner, `NVMLObserver`,
//! `continuous_duration`): after seven timed executions, ceil(1 s / kernel time) launches are queued; until they
//! are done, power is read as fast as possible, and a reading is kept when it changed or 10 ms after the last kept
//! one. Energy = median of the kept readings x mean time of the seven. The pass is taken for one more kernel.

use super::super::board::{Answer, Board, Value, Work, each_signature};
use super::super::subject::Subject;

const TIMED: usize = 7;
const CONTINUOUS: f64 = 1.0;
const KEEP_EVERY: f64 = 0.01;

/// Each kind of layer and the pass, one after the other, on a board that starts cold.
pub(crate) fn measure(subject: &Subject, seed: u64) -> Result<Answer, String> {
    let mut board = Board::new(subject, seed)?;
    let sensor = board.instant_power()?;
    each_signature(&mut board, sensor, |board, work| {
        let each = board.time_of(work, TIMED)?;
        let watts = median_while(board, work, sensor, each)?;
        Ok(Value::bare(watts * each))
    })
}

fn median_while(board: &mut Board<'_>, work: Work, sensor: usize, each: f64) -> Result<f64, String> {
    let (mut kept, mut next) = (Vec::<(f64, f64)>::new(), board.now());
    let takes = board.query_time(sensor);
    board.run_watched(work, (CONTINUOUS / each).ceil() as u64, each, takes, |board| {
        let now = board.now();
        if now < next {
            return;
        }
        next = now + takes;
        let watts = board.glance(sensor);
        let keep = |&(at, before): &(f64, f64)| before.to_bits() != watts.to_bits() || now - at >= KEEP_EVERY;
        if kept.last().is_none_or(keep) {
            kept.push((now, watts));
        }
    })?;
    board.sync()?;
    Ok(median(kept.into_iter().map(|(_, watts)| watts).collect()))
}

/// The middle value, or the mean of both; zero of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
