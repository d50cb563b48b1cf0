//! Calibration loads: work that comes and goes at known times, with meters read all the while.

use std::collections::VecDeque;

use crate::backend::{BackendError, Executor, Mark, Task};
use crate::clock::{Clock, Instant};
use crate::meter::{Meter, ReadError};
use crate::units::{Joules, Seconds, Watts};

/// Work that a queue is given at once, and how many of these it holds: enough never to run dry between two looks, and
/// little enough to end when the load does.
const BURST: Seconds = Seconds::new(0.02);
const BURSTS: usize = 3;
/// Longest time between two looks at the queue, and how many of them a load has at least: its end is seen that late.
const LOOK: Seconds = Seconds::new(0.005);
const LOOKS: f64 = 20.0;
/// Longest time between two looks at whether the user wants to stop.
const ASK: Seconds = Seconds::new(0.1);
/// How long work runs before its own length is believed.
const TIMED: Seconds = Seconds::new(0.05);

/// Why a calibration load ended.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A meter can be read no more.
    #[error("{error}")]
    Meter {
        /// Its place among those that were read.
        index: usize,
        /// Why.
        error: ReadError,
    },
    /// The user wants to stop.
    #[error("interrupted; nothing of it is kept")]
    Stopped,
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
    /// Of a square wave: when each cycle began.
    pub cycles: Vec<Instant>,
    /// Readings of each meter, in order.
    pub readings: Vec<Vec<MeterReading>>,
}

impl Watched {
    fn of(meters: usize) -> Self {
        Self { loads: Vec::new(), cycles: Vec::new(), readings: vec![Vec::new(); meters] }
    }
}

/// A load that comes and goes with a period of its own, half of each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SquareWave {
    /// From one load's start to the next one's.
    pub period: Seconds,
    /// Number of loads.
    pub cycles: usize,
    /// Time between readings; none for one before the first load and one behind the last.
    pub poll: Option<Seconds>,
}

/// A device with one kind of work.
pub struct Loads<'a> {
    executor: &'a mut dyn Executor,
    clock: &'a dyn Clock,
    stop: &'a dyn Fn() -> bool,
    task: Task,
    /// Length of one execution, once it is prepared.
    each: Seconds,
}

/// The meters that are read during a load, and what they showed.
struct Watching<'a, 'm> {
    meters: &'a mut [&'m mut dyn Meter],
    /// None to read at the ends only.
    poll: Option<Seconds>,
    seen: Watched,
}

impl<'a> Loads<'a> {
    /// Runs nothing yet. What is asked with `stop` becomes true when the user wants to stop.
    pub fn new(
        executor: &'a mut dyn Executor,
        clock: &'a dyn Clock,
        task: Task,
        stop: &'a dyn Fn() -> bool,
    ) -> Self {
        Self { executor, clock, stop, task, each: TIMED }
    }

    /// Prepares the task and gives how long it takes, about.
    ///
    /// # Errors
    ///
    /// The device failed, or the user wants to stop.
    pub fn prepare(&mut self) -> Result<Seconds, LoadError> {
        self.executor.ready(self.task, self.clock)?;
        let mut times = 1;
        loop {
            self.ask()?;
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

    /// The time now, by the clock that loads and readings are timed by.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Whether the device goes on by itself.
    pub fn queues(&self) -> bool {
        self.executor.queues()
    }

    /// Leaves the device alone for a time.
    ///
    /// # Errors
    ///
    /// The user wants to stop.
    pub fn rest(&self, length: Seconds) -> Result<(), LoadError> {
        self.rest_until(self.clock.now() + length)
    }

    fn rest_until(&self, until: Instant) -> Result<(), LoadError> {
        while self.clock.now() < until {
            self.ask()?;
            self.clock.sleep_until(until.min(self.clock.now() + ASK));
        }
        Ok(())
    }

    fn ask(&self) -> Result<(), LoadError> {
        if (self.stop)() { Err(LoadError::Stopped) } else { Ok(()) }
    }

    /// Runs loads and rests of these lengths in turn, and reads the meters every `poll` or as often as they can be read.
    ///
    /// # Errors
    ///
    /// The device failed, a meter can be read no more, or the user wants to stop.
    pub fn run(
        &mut self,
        parts: &[(Seconds, Seconds)],
        poll: Seconds,
        meters: &mut [&mut dyn Meter],
    ) -> Result<Watched, LoadError> {
        let seen = Watched::of(meters.len());
        let mut watching = Watching { meters, poll: Some(poll), seen };
        for &(load, rest) in parts {
            self.load(load, &mut watching)?;
            self.watched_rest(self.clock.now() + rest, &mut watching)?;
        }
        Ok(watching.seen)
    }

    /// Runs a square wave. Loads begin when the clock says so, however long those before them took: their period is
    /// exact, and their length that of half a period within one execution.
    ///
    /// # Errors
    ///
    /// The device failed, a meter can be read no more, or the user wants to stop.
    pub fn square(&mut self, wave: SquareWave, meters: &mut [&mut dyn Meter]) -> Result<Watched, LoadError> {
        let seen = Watched::of(meters.len());
        let mut watching = Watching { meters, poll: wave.poll, seen };
        watching.look(self.clock)?;
        let begun = self.clock.now();
        for cycle in 0..wave.cycles {
            watching.seen.cycles.push(self.clock.now());
            self.load(wave.period / 2.0, &mut watching)?;
            self.watched_rest(begun + wave.period * (cycle + 1) as f64, &mut watching)?;
        }
        watching.look(self.clock)?;
        Ok(watching.seen)
    }

    fn load(&mut self, length: Seconds, watching: &mut Watching<'_, '_>) -> Result<(), LoadError> {
        match length {
            _ if length <= Seconds::ZERO => Ok(()),
            _ if self.executor.queues() => self.queued(length, watching),
            _ => self.in_turn(length, watching),
        }
    }

    fn watched_rest(&self, until: Instant, watching: &mut Watching<'_, '_>) -> Result<(), LoadError> {
        let Some(poll) = watching.poll else { return self.rest_until(until) };
        while self.clock.now() < until {
            self.ask()?;
            let next = self.clock.now() + poll;
            watching.look(self.clock)?;
            self.rest_until(next.min(until))?;
        }
        Ok(())
    }

    /// A load on a device that goes on by itself: it ends where the device came past its last mark.
    fn queued(&mut self, load: Seconds, watching: &mut Watching<'_, '_>) -> Result<(), LoadError> {
        let mut left = ((load / self.each).round() as u64).max(1);
        let burst = ((BURST / self.each).round() as u64).max(1);
        let mut marks: VecDeque<Mark> = VecDeque::new();
        let start = self.clock.now();
        let (mut end, mut next) = (start, start);
        let look = shorter(LOOK, load / LOOKS);
        loop {
            self.ask()?;
            while left > 0 && marks.len() < BURSTS {
                let times = burst.min(left);
                self.executor.repeat(self.task, times)?;
                marks.push_back(self.executor.mark(self.clock)?);
                left -= times;
            }
            match watching.poll {
                Some(poll) if self.clock.now() >= next => {
                    next = self.clock.now() + poll;
                    watching.look(self.clock)?;
                }
                Some(_) => {}
                None => next = self.clock.now() + look,
            }
            while let Some(&mark) = marks.front()
                && let Some(at) = self.executor.passed(mark, self.clock)?
            {
                marks.pop_front();
                end = at;
            }
            if marks.is_empty() && left == 0 {
                watching.seen.loads.push((start, end));
                return Ok(());
            }
            self.clock.sleep_until(next.min(self.clock.now() + look));
        }
    }

    /// A load on a device that keeps its caller waiting: bursts with a reading after each.
    fn in_turn(&mut self, load: Seconds, watching: &mut Watching<'_, '_>) -> Result<(), LoadError> {
        let until = self.clock.now() + load;
        let most = shorter(watching.poll.unwrap_or(load), ASK);
        while self.clock.now() < until {
            self.ask()?;
            let start = self.clock.now();
            // What is left of the load, so that it ends within one execution of its time.
            let burst = ((shorter(most, until - start) / self.each).round() as u64).max(1);
            self.executor.repeat(self.task, burst)?;
            let end = self.clock.now();
            match watching.seen.loads.last_mut() {
                Some(before) if before.1 == start => before.1 = end,
                _ => watching.seen.loads.push((start, end)),
            }
            if watching.poll.is_some() {
                watching.look(self.clock)?;
            }
        }
        Ok(())
    }
}

fn shorter(a: Seconds, b: Seconds) -> Seconds {
    if a < b { a } else { b }
}

impl Watching<'_, '_> {
    /// Reads each meter once.
    fn look(&mut self, clock: &dyn Clock) -> Result<(), LoadError> {
        for (index, (meter, readings)) in self.meters.iter_mut().zip(&mut self.seen.readings).enumerate() {
            let begun = clock.now();
            let energy = match meter.read(begun) {
                Ok(energy) => Some(energy),
                // Watts are what they are, however long ago the last ones were read.
                Err(ReadError::Lost(_)) => None,
                // The next look shows it.
                Err(ReadError::Retry(_)) => continue,
                Err(error) => return Err(LoadError::Meter { index, error }),
            };
            readings.push(MeterReading { begun, ended: clock.now(), energy, power: meter.power() });
        }
        Ok(())
    }
}
