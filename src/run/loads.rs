//! Calibration loads: work that comes and goes at known times, with one meter read all the while.

use std::collections::VecDeque;

use crate::backend::{BackendError, Executor, Mark, Task};
use crate::clock::{Clock, Instant};
use crate::meter::{Meter, ReadError};
use crate::units::{Joules, Seconds, Watts};

/// Work that a queue is given at once, and how many of these it holds: enough never to run dry between two looks, and
/// little enough to end when the load does.
const BURST: Seconds = Seconds::new(0.02);
const BURSTS: usize = 3;
/// Longest time between two looks at the queue.
const LOOK: Seconds = Seconds::new(0.005);
/// How long work runs before its own length is believed.
const TIMED: Seconds = Seconds::new(0.05);

/// Why a calibration load ended.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The meter can be read no more.
    #[error(transparent)]
    Meter(ReadError),
}

/// One reading of a meter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeterReading {
    /// Before the call.
    pub begun: Instant,
    /// After the call.
    pub ended: Instant,
    /// Joules since the first reading; none where readings of power were too far apart to be joined.
    pub energy: Option<Joules>,
    /// Watts, where the meter reads power.
    pub power: Option<Watts>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Watched {
    /// Loads in order, as (start, end).
    pub loads: Vec<(Instant, Instant)>,
    /// Readings in order.
    pub readings: Vec<MeterReading>,
}

/// A device with one kind of work, and one meter.
pub struct Loads<'a> {
    executor: &'a mut dyn Executor,
    meter: &'a mut dyn Meter,
    clock: &'a dyn Clock,
    task: Task,
    /// Length of one execution, once it is prepared.
    each: Seconds,
}

impl<'a> Loads<'a> {
    /// Runs nothing yet.
    pub fn new(
        executor: &'a mut dyn Executor,
        meter: &'a mut dyn Meter,
        clock: &'a dyn Clock,
        task: Task,
    ) -> Self {
        Self { executor, meter, clock, task, each: TIMED }
    }

    /// Prepares the task and gives how long it takes, about.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn prepare(&mut self) -> Result<Seconds, LoadError> {
        self.executor.ready(self.task, self.clock)?;
        let mut times = 1;
        loop {
            let begun = self.clock.now();
            self.executor.repeat(self.task, times)?;
            self.executor.sync()?;
            let took = self.clock.now() - begun;
            if took >= TIMED {
                self.each = took / times as f64;
                return Ok(self.each);
            }
            times *= 2;
        }
    }

    /// Leaves the device alone for a time.
    pub fn rest(&self, length: Seconds) {
        self.clock.sleep_until(self.clock.now() + length);
    }

    /// Runs loads and rests of these lengths in turn, and reads the meter every `poll` or as often as it can be read.
    ///
    /// # Errors
    ///
    /// The device failed, or the meter can be read no more.
    pub fn run(&mut self, parts: &[(Seconds, Seconds)], poll: Seconds) -> Result<Watched, LoadError> {
        let mut watched = Watched::default();
        for &(load, rest) in parts {
            if load > Seconds::ZERO {
                if self.executor.queues() {
                    self.queued(load, poll, &mut watched)?;
                } else {
                    self.in_turn(load, poll, &mut watched)?;
                }
            }
            let until = self.clock.now() + rest;
            while self.clock.now() < until {
                let next = self.clock.now() + poll;
                self.look(&mut watched)?;
                self.clock.sleep_until(next.min(until));
            }
        }
        Ok(watched)
    }

    /// A load on a device that goes on by itself: it ends where the device came past its last mark.
    fn queued(&mut self, load: Seconds, poll: Seconds, watched: &mut Watched) -> Result<(), LoadError> {
        let mut left = ((load / self.each).round() as u64).max(1);
        let burst = ((BURST / self.each).round() as u64).max(1);
        let mut marks: VecDeque<Mark> = VecDeque::new();
        let start = self.clock.now();
        let (mut end, mut next) = (start, start);
        loop {
            while left > 0 && marks.len() < BURSTS {
                let times = burst.min(left);
                self.executor.repeat(self.task, times)?;
                marks.push_back(self.executor.mark(self.clock)?);
                left -= times;
            }
            if self.clock.now() >= next {
                next = self.clock.now() + poll;
                self.look(watched)?;
            }
            while let Some(&mark) = marks.front()
                && let Some(at) = self.executor.passed(mark, self.clock)?
            {
                marks.pop_front();
                end = at;
            }
            if marks.is_empty() && left == 0 {
                watched.loads.push((start, end));
                return Ok(());
            }
            self.clock.sleep_until(next.min(self.clock.now() + LOOK));
        }
    }

    /// A load on a device that keeps its caller waiting: bursts with a reading after each.
    fn in_turn(&mut self, load: Seconds, poll: Seconds, watched: &mut Watched) -> Result<(), LoadError> {
        let until = self.clock.now() + load;
        let burst = ((poll / self.each).round() as u64).max(1);
        while self.clock.now() < until {
            let start = self.clock.now();
            self.executor.repeat(self.task, burst)?;
            let end = self.clock.now();
            match watched.loads.last_mut() {
                Some(before) if before.1 == start => before.1 = end,
                _ => watched.loads.push((start, end)),
            }
            self.look(watched)?;
        }
        Ok(())
    }

    fn look(&mut self, watched: &mut Watched) -> Result<(), LoadError> {
        let begun = self.clock.now();
        let energy = match self.meter.read(begun) {
            Ok(energy) => Some(energy),
            // Watts are what they are, however long ago the last ones were read.
            Err(ReadError::Lost(_)) => None,
            // The next look shows it.
            Err(ReadError::Retry(_)) => return Ok(()),
            Err(error) => return Err(LoadError::Meter(error)),
        };
        let power = self.meter.power();
        watched.readings.push(MeterReading { begun, ended: self.clock.now(), energy, power });
        Ok(())
    }
}
