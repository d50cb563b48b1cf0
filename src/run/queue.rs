//! The queue of a device that works on while its meters are read: kept full, and what of it is done at an instant.
//!
//! ```text
//! host    top up     look ……… look          top up          look
//! device  ▕ burst ▕ burst ▕ burst ▕ burst ▕        marks ▕ are passed, at known instants
//!                       ▲ edge: so much of the second burst as of its time
//! ```

use std::collections::VecDeque;

use crate::backend::{Executor, Mark, Task};
use crate::clock::{Clock, Instant};
use crate::units::Seconds;

use super::record::RecordError;

/// Work in a burst: long against what it takes to start one and to notice its end, short against a window.
const BURST: Seconds = Seconds::new(0.02);
/// The same where the device rests between bursts: short against the time in which a power limit acts, and against that over
/// which a sensor averages.
const SHORT_BURST: Seconds = Seconds::new(0.001);
/// How far rests differ in length, so that they keep step with no sensor, and the part of a turn from one to the next: that
/// which is farthest from all simple fractions.
const DITHER: f64 = 0.6;
const GOLDEN: f64 = 0.618_033_988_75;
/// How late the host may be, held up by a driver or by other programs, before the device has nothing to do: while one
/// burst is worked off, the others in the queue last for this long.
const LATE: Seconds = Seconds::new(0.06);
/// Bursts in the queue: at most, and where nothing is known of their time.
const DEPTH: usize = 4;
const FEWEST: usize = 2;
/// A moment in which nothing is missed.
const MOMENT: Seconds = Seconds::new(1e-5);
/// Between two looks at a burst that is overdue: short, where a rest begins with its end.
const OVERDUE: Seconds = Seconds::new(1e-3);
const OVERDUE_REST: Seconds = Seconds::new(2e-5);
/// How long a burst may take beyond what it should before the device is given up.
const PATIENCE: Seconds = Seconds::new(60.0);
/// How long the first may take, of which nothing is known: nobody measures executions of ten minutes.
const FIRST_PATIENCE: Seconds = Seconds::new(600.0);
/// Finished bursts that there is room for: nothing is allocated in a window of less than 20 s.
const ROOM: usize = 1024;

/// A burst that is not known to be finished.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    behind: Mark,
    started: Instant,
    executions: u64,
}

/// A finished burst. Its executions are equal work on end, so they are spread evenly over its time.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: Instant,
    to: Instant,
    executions: u64,
}

/// A task in a device's queue.
#[derive(Debug)]
pub(super) struct Queue {
    task: Task,
    /// Executions that the device takes at once.
    unit: u64,
    /// Executions of the next burst, whole units.
    burst: u64,
    /// Part of the time for which the device rests between bursts; none to keep it busy.
    rest: f64,
    /// Bursts so far, for the lengths of rests.
    rests: u32,
    /// In order; never more than [`DEPTH`].
    waiting: VecDeque<Waiting>,
    /// In order, since the task began.
    done: VecDeque<Stretch>,
}

impl Queue {
    /// An empty queue for a task that is ready; `unit` is what [`Executor::ready`] gave.
    pub(super) fn new(task: Task, unit: u64, rest: f64) -> Self {
        let (waiting, done) = (VecDeque::with_capacity(DEPTH), VecDeque::with_capacity(ROOM));
        Self { task, unit, burst: unit, rest, rests: 0, waiting, done }
    }

    /// Takes note of finished bursts and starts new ones for them.
    ///
    /// # Errors
    ///
    /// The device failed, or has not finished a burst for long.
    pub(super) fn top_up(
        &mut self,
        executor: &mut dyn Executor,
        clock: &dyn Clock,
    ) -> Result<(), RecordError> {
        self.note_finished(executor, clock)?;
        if self.is_resting(clock.now()) {
            return Ok(());
        }
        let depth = self.depth();
        while self.waiting.len() < depth {
            self.rests = self.rests.wrapping_add(1);
            let (started, executions) = (clock.now(), self.burst);
            executor.repeat(self.task, executions)?;
            self.waiting.push_back(Waiting { behind: executor.mark(clock)?, started, executions });
        }
        Ok(())
    }

    /// Waits until nothing is left. At most the bursts in the queue are waited for, and less if the user stops it.
    ///
    /// # Errors
    ///
    /// The device failed or hangs, or the user stopped the run.
    pub(super) fn drain(
        &mut self,
        executor: &mut dyn Executor,
        clock: &dyn Clock,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), RecordError> {
        loop {
            self.note_finished(executor, clock)?;
            if self.waiting.is_empty() {
                return Ok(());
            }
            if stop() {
                return Err(RecordError::Stopped);
            }
            clock.sleep_until(clock.now() + OVERDUE);
        }
    }

    /// Whether the device is to rest now.
    fn is_resting(&self, now: Instant) -> bool {
        self.rest > 0.0 && (!self.waiting.is_empty() || self.rests_until().is_some_and(|until| now < until))
    }

    /// Until when the device rests behind its last burst: as long as makes the part of the time asked for, more or less.
    fn rests_until(&self) -> Option<Instant> {
        let last = self.done.back()?;
        let mean = (last.to - last.from) * (self.rest / (1.0 - self.rest));
        let turn = (f64::from(self.rests) * GOLDEN).fract();
        Some(last.to + mean * (1.0 + DITHER * (turn - 0.5)))
    }

    /// Work in a burst.
    fn target(&self) -> Seconds {
        if self.rest > 0.0 { SHORT_BURST } else { BURST }
    }

    /// Whether bursts are as long as they should be.
    pub(super) fn is_steady(&self) -> bool {
        let long = |last: &Stretch| last.to - last.from >= self.target() * 0.5;
        self.done.back().is_some_and(long)
    }

    /// When the oldest burst should be finished, so that the queue wants another; a moment from now if it is overdue,
    /// or nothing is known.
    pub(super) fn wants_more_at(&self, now: Instant) -> Instant {
        let due = self.waiting.front().and_then(|front| {
            let each = self.each()?;
            Some(self.begun(front) + each * front.executions as f64)
        });
        let soon = now + if self.rest > 0.0 { OVERDUE_REST } else { OVERDUE };
        if let Some(until) = self.rests_until().filter(|_| self.rest > 0.0 && self.waiting.is_empty()) {
            return if until > now { until } else { now + MOMENT };
        }
        due.filter(|&due| due > now).unwrap_or(soon)
    }

    /// Time of one execution, by the last burst; none before the first.
    pub(super) fn each(&self) -> Option<Seconds> {
        self.done.back().map(|last| (last.to - last.from) / last.executions as f64)
    }

    /// Executions between two instants that are known to be finished, with the parts of those at the edges. Once the
    /// queue is drained that is all.
    pub(super) fn executed(&self, from: Instant, to: Instant) -> f64 {
        let within = |stretch: &Stretch| {
            if from <= stretch.from && stretch.to <= to {
                return stretch.executions as f64;
            }
            let begin = if stretch.from < from { from } else { stretch.from };
            let end = if to < stretch.to { to } else { stretch.to };
            if end <= begin {
                return 0.0;
            }
            stretch.executions as f64 * ((end - begin) / (stretch.to - stretch.from))
        };
        self.done.iter().map(within).sum()
    }

    /// Time between two instants in which the device had nothing to do, as far as bursts are known to be finished.
    pub(super) fn idle(&self, from: Instant, to: Instant) -> Seconds {
        let gap = |(before, after): (&Stretch, &Stretch)| {
            let (begin, end) = (before.to.max(from), after.from.min(to));
            if end > begin { end - begin } else { Seconds::ZERO }
        };
        self.done.iter().zip(self.done.iter().skip(1)).map(gap).sum()
    }

    /// How many bursts the queue should hold: fewer where one lasts long, since all of them are waited for in the end.
    fn depth(&self) -> usize {
        if self.rest > 0.0 {
            return 1;
        }
        let Some(each) = self.each() else { return FEWEST };
        let others = (LATE / (each * self.burst as f64)).ceil() as usize;
        others.saturating_add(1).clamp(FEWEST, DEPTH)
    }

    fn note_finished(&mut self, executor: &mut dyn Executor, clock: &dyn Clock) -> Result<(), RecordError> {
        while let Some(&front) = self.waiting.front() {
            let Some(to) = executor.passed(front.behind, clock)? else {
                return self.check_patience(&front, clock.now());
            };
            let from = self.begun(&front);
            self.waiting.pop_front();
            self.done.push_back(Stretch { from, to, executions: front.executions });
            self.fit(to - from, front.executions);
        }
        Ok(())
    }

    /// A burst begins where the one before it ends, or when it was started if the device had nothing to do then.
    fn begun(&self, burst: &Waiting) -> Instant {
        let free = self.done.back().map_or(burst.started, |last| last.to);
        if free > burst.started { free } else { burst.started }
    }

    /// Makes bursts as long as they should be, in whole units. They grow at most tenfold a time, so that one that was
    /// held up does not make a huge one, and stay as they are where they are about right: then equal bursts make
    /// equal stretches.
    fn fit(&mut self, took: Seconds, executions: u64) {
        let took = took.value().max(1e-9);
        if (0.5..=2.0).contains(&(took / self.target().value())) {
            return;
        }
        let fitting = (executions as f64 * self.target().value() / took) as u64;
        let units = fitting.min(executions.saturating_mul(10)) / self.unit;
        self.burst = units.max(1).saturating_mul(self.unit);
    }

    fn check_patience(&self, front: &Waiting, now: Instant) -> Result<(), RecordError> {
        let most = self.each().map_or(FIRST_PATIENCE, |each| each * front.executions as f64 + PATIENCE);
        let waited = now - self.begun(front);
        if waited > most {
            return Err(RecordError::Hangs { seconds: waited.value() });
        }
        Ok(())
    }
}
