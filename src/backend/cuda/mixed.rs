//! What mixes of steps compute in each copy of their memory, to be held to what the pass computes.

use crate::backend::{BackendError, Executor, Mark, Mix, Task};
use crate::clock::{Clock, Instant, MonotonicClock};
use crate::units::Seconds;

use super::executor::CudaExecutor;

/// Between two looks whether a mark is passed.
const POLL: Seconds = Seconds::new(1e-4);

/// How often a turn of all graphs is timed.
const TURNS: usize = 3;

/// What one mix came to, after each copy had its turn several times.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixed {
    /// Executions that the device takes at once.
    pub unit: u64,
    /// One execution, by the device's time.
    pub each: Seconds,
    /// What the last step left in each copy: the whole batch, row-major.
    pub outputs: Vec<Vec<f32>>,
    /// The same of the filler.
    pub fillers: Vec<Vec<f32>>,
    /// What the pass leaves of the last step, and of the filler.
    pub expected: [Vec<f32>; 2],
    /// What was not as it was asked for.
    pub notes: Vec<String>,
}

/// Runs mixes as windows do, one after the other.
pub(super) fn mixed(executor: &mut CudaExecutor, mixes: &[Mix]) -> Result<Vec<Mixed>, BackendError> {
    let mut outputs = Vec::new();
    for step in 0..executor.steps() {
        executor.launch(step)?;
        outputs.push(executor.output(step)?);
    }
    let clock = MonotonicClock::start();
    mixes.iter().map(|mix| one(executor, mix, &outputs, &clock)).collect()
}

fn one(
    executor: &mut CudaExecutor,
    mix: &Mix,
    outputs: &[Vec<f32>],
    clock: &dyn Clock,
) -> Result<Mixed, BackendError> {
    let task = Task::Mix(*mix);
    let unit = executor.ready(task, clock)?;
    // Every graph several times, and what does not fill one: what a copy computes again depends on what it left.
    let turn = unit * executor.graphs_in_turn();
    let mut marks = Vec::new();
    for _ in 0..=TURNS {
        executor.repeat(task, turn)?;
        marks.push(executor.mark(clock)?);
    }
    let mut instants = Vec::new();
    for mark in marks {
        instants.push(passed(executor, mark, clock)?);
    }
    // A host that is late makes it longer, never shorter.
    let times = instants.windows(2).map(|pair| pair[1] - pair[0]);
    let least = times.reduce(|least, time| if time < least { time } else { least });
    executor.repeat(task, 1)?;
    let [copies, fillers] = executor.left()?;
    let filler = mix.filler.map_or_else(Vec::new, |(step, _)| outputs[step].clone());
    Ok(Mixed {
        unit,
        each: least.unwrap_or(Seconds::ZERO) / turn as f64,
        outputs: copies,
        fillers,
        expected: [outputs[mix.last].clone(), filler],
        notes: executor.notes(),
    })
}

/// Waits until the device came past a mark.
fn passed(executor: &mut CudaExecutor, mark: Mark, clock: &dyn Clock) -> Result<Instant, BackendError> {
    loop {
        match executor.passed(mark, clock)? {
            Some(at) => return Ok(at),
            None => clock.sleep_until(clock.now() + POLL),
        }
    }
}
