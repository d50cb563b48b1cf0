//! What mixes of steps compute in each copy of their memory, to be held to what the pass computes.

use crate::backend::{BackendError, Executor, Mix, Task};
use crate::clock::{Clock, MonotonicClock};
use crate::units::Seconds;

use super::executor::CudaExecutor;

/// Between two looks whether a mark is passed.
const POLL: Seconds = Seconds::new(1e-4);

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
    // Every graph twice, and what does not fill one: what a copy computes a second time depends on what it left.
    let turn = unit * executor.graphs_in_turn();
    executor.repeat(task, turn)?;
    let from = executor.mark(clock)?;
    executor.repeat(task, turn)?;
    let to = executor.mark(clock)?;
    let [from, to] = [from, to].map(|mark| {
        loop {
            match executor.passed(mark, clock)? {
                Some(at) => return Ok::<_, BackendError>(at),
                None => clock.sleep_until(clock.now() + POLL),
            }
        }
    });
    executor.repeat(task, 1)?;
    let [copies, fillers] = executor.left()?;
    let filler = mix.filler.map_or_else(Vec::new, |(step, _)| outputs[step].clone());
    Ok(Mixed {
        unit,
        each: (to? - from?) / turn as f64,
        outputs: copies,
        fillers,
        expected: [outputs[mix.last].clone(), filler],
        notes: executor.notes(),
    })
}
