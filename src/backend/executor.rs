//! The seam between measuring and whatever executes layers.

use crate::clock::{Clock, Instant};

use super::BackendError;

/// What a window repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// One step of the plan.
    Step(usize),
    /// All steps in order.
    Pass,
    /// Some steps, and behind them another.
    Mix(Mix),
}

/// Consecutive steps of the plan, several times on end, and behind them another step several times: one execution of a
/// task. What the steps are mixed with holds the device at the clock that it has in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mix {
    /// The first step.
    pub first: usize,
    /// The last one.
    pub last: usize,
    /// Whether each repetition works on buffers that no cache holds, where the executor can see to that; otherwise on
    /// those that it used before.
    pub fresh: bool,
    /// Repetitions; at least one.
    pub times: u64,
    /// The other step, which works on buffers that no cache holds, and its repetitions.
    pub filler: Option<(usize, u64)>,
}

impl Mix {
    /// Some steps alone.
    pub const fn of(first: usize, last: usize, fresh: bool) -> Self {
        Self { first, last, fresh, times: 1, filler: None }
    }

    /// The steps of one execution, in order.
    pub fn steps(&self) -> impl Iterator<Item = usize> {
        let filler = self.filler.unwrap_or((0, 0));
        let once = (0..self.times).flat_map(move |_| self.first..=self.last);
        once.chain((0..filler.1).map(move |_| filler.0))
    }
}

/// A point in a device's queue. What its number means only the executor knows that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(pub u64);

/// A prepared plan on a device.
///
/// A device that queues goes on working while the caller reads its meters: [`Executor::repeat`] returns at once,
/// [`Executor::mark`] puts a mark behind what was started, and [`Executor::passed`] tells when the device came past it.
/// On one that does not, every call returns when its work is done, and a mark is passed as soon as it is set.
pub trait Executor {
    /// How many steps its plan has.
    fn steps(&self) -> usize;

    /// Starts one step; it reads what the plan's earlier steps left in its input buffers.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn launch(&mut self, step: usize) -> Result<(), BackendError>;

    /// Prepares a task to be repeated, and waits until that is done: a step has its own inputs afterwards, those that the
    /// steps before it leave. Gives the number of executions that the device takes at once; [`Executor::repeat`] is
    /// cheapest with multiples of it. Never called inside a window.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn ready(&mut self, task: Task, _clock: &dyn Clock) -> Result<u64, BackendError> {
        let last = match task {
            Task::Step(step) => Some(step),
            Task::Mix(mix) => Some(mix.filler.map_or(mix.last, |(filler, _)| filler.max(mix.last))),
            Task::Pass => None,
        };
        if let Some(last) = last {
            (0..=last).try_for_each(|earlier| self.launch(earlier))?;
            self.sync()?;
        }
        Ok(1)
    }

    /// Starts a task that is [`Executor::ready`] `times` times, one after the other.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn repeat(&mut self, task: Task, times: u64) -> Result<(), BackendError> {
        (0..times).try_for_each(|_| match task {
            Task::Step(step) => self.launch(step),
            Task::Pass => (0..self.steps()).try_for_each(|step| self.launch(step)),
            Task::Mix(mix) => mix.steps().try_for_each(|step| self.launch(step)),
        })
    }

    /// Bytes of the device's last-level cache, where steps can be repeated on buffers that it does not hold; none
    /// elsewhere.
    fn fresh_past(&self) -> Option<f64> {
        None
    }

    /// What could not be done as it was asked for since the last call, such as copies of buffers for which memory is
    /// short: a text each, for the warnings of a run. Asked after [`Executor::ready`].
    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Returns when everything started has finished.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn sync(&mut self) -> Result<(), BackendError>;

    /// Whether work goes on after the call that started it has returned.
    fn queues(&self) -> bool {
        false
    }

    /// Puts a mark behind everything started so far.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn mark(&mut self, clock: &dyn Clock) -> Result<Mark, BackendError> {
        self.sync()?;
        Ok(Mark(clock.now().nanos()))
    }

    /// When the device came past a mark, by the same clock; none if it has not yet. Asked once more after that, or
    /// for an older mark, the answer may be lost.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn passed(&mut self, mark: Mark, _clock: &dyn Clock) -> Result<Option<Instant>, BackendError> {
        Ok(Some(Instant::from_nanos(mark.0)))
    }

    /// The algorithm that a step uses, by its field's name.
    fn algorithm(&self, step: usize) -> &str;

    /// Bytes that the algorithm needs beside inputs, parameters and output.
    fn workspace(&self, _step: usize) -> u64 {
        0
    }

    /// The device's kernels that a step runs, by their own names in order; empty where it has none or does not tell.
    fn kernels(&self, _step: usize) -> &[String] {
        &[]
    }

    /// What a step left in its output buffer: the whole batch, row-major NCHW. Not for use inside a window.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn output(&mut self, step: usize) -> Result<Vec<f32>, BackendError>;
}
