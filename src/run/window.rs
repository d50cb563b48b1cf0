//! One window: load until settled, open at a change of the meter, run, close at a change of the meter.
//!
//! A counter that moves every U seconds is read up to U too old, which costs up to U/T of a window T. Opening
//! and closing where the reading changes, with the load running until the closing edge, leaves only the
//! time between two looks (Hähnel 2012, 10.1145/2425248.2425252).
//!
//! On a device that works while it is called, the load runs in short bursts with the looks between them. One that
//! queues is kept busy all the time: there the looks come when the meter should change, and what was executed between
//! two of them is told by the device itself ([`Queue`]).

use crate::backend::{Executor, Mix, Task};
use crate::clock::{Clock, Instant};
use crate::meter::{Meter, ReadError};
use crate::trace::{Condition, Reads, Sample, WindowState};
use crate::units::{Joules, Seconds};

use super::changes::{Changes, NextLook};
use super::environment::Probe;
use super::queue::Queue;
use super::record::RecordError;
use super::still::{PATIENCE, Stillness};

/// Longest time between two looks at all meters, so that no counter wraps unseen inside a long window.
const LONGEST_UNREAD: Seconds = Seconds::new(5.0);
/// The same while settling, where looking costs no window anything.
const SETTLE_UNREAD: Seconds = Seconds::new(0.05);
/// What is waited for is due after this much more: the clock has whole nanoseconds only.
const MOMENT: Seconds = Seconds::new(1e-6);
/// Readings of the meter in a window for each look at the device.
const LOOK_EVERY: usize = 3;
/// Longest sleep in an idle window: often enough for Ctrl-C, and seldom enough to let the processor sleep.
const NAP: Seconds = Seconds::new(0.05);
/// How often a device in active idle is woken by a short step: most hold their clocks for a second or more after work.
const WAKE: Seconds = Seconds::new(0.05);
/// How long a counter may stand still, or be unreadable for a moment, before it is given up.
const STILL: Seconds = Seconds::new(3.0);
/// Fewest executions of a window on a device that queues, where edges lie amid executions.
const FEWEST: f64 = 4.0;
/// How far the energy within an execution may run ahead of its time, as a part of the execution. A load that is at a
/// power P1 for a share x of its time, and at P2 for the rest, is ahead by x (1 - x) (P1 - P2) / P: a quarter at most
/// where the two differ by as much as their mean.
const AHEAD: f64 = 0.25;

/// How much of a window a device that queues may have nothing to do: what it draws then is booked as work. A moment is
/// allowed in the shortest windows too, which only compare two ways of reading.
const IDLE: f64 = 2e-3;
const SHORT_IDLE: Seconds = Seconds::new(1e-3);

/// What runs in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// One step again and again.
    Step(usize),
    /// All steps in order.
    Pass,
    /// Some steps, with others or with rests between.
    Mix(Mix),
    /// Nothing.
    Idle,
    /// Nothing but a step now and then, so that a device that queues holds its clocks as it does between two kernels.
    Awake(usize),
}

impl Load {
    fn is_idle(self) -> bool {
        matches!(self, Self::Idle | Self::Awake(_))
    }
}

/// How long to load, and to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    pub(super) settle: Seconds,
    pub(super) window: Seconds,
    /// Between two readings of the primary meter inside the window; none for the edges only.
    pub(super) every: Option<Seconds>,
    /// Part of the time for which a device that queues rests between bursts.
    pub(super) rest: f64,
    /// Whether the window waits for a clock that stands still.
    pub(super) still: bool,
}

/// A finished window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) start: Instant,
    pub(super) end: Instant,
    pub(super) executions: f64,
    pub(super) edge: Seconds,
    pub(super) reads: Reads,
    /// What it was measured under; what ran beside the work is for the caller to add.
    pub(super) state: WindowState,
}

/// Device, meters and clock while a window is measured.
pub(super) struct Rig<'a> {
    pub(super) executor: &'a mut dyn Executor,
    pub(super) steps: usize,
    pub(super) clock: &'a dyn Clock,
    /// Meters with their index in the header; the first is the primary one.
    pub(super) meters: &'a mut [(usize, Box<dyn Meter>)],
    /// Update period of the primary meter; none for a continuous one.
    pub(super) period: Option<Seconds>,
    /// Readings since the last finished window.
    pub(super) samples: Vec<Sample>,
    /// What the device showed of itself in the window at hand.
    seen: Vec<Condition>,
    pub(super) stop: &'a dyn Fn() -> bool,
    /// What a device that queues works on; none on another, and while nothing runs.
    queue: Option<Queue>,
    /// The step that wakes the device at times, and when it did last.
    awake: Option<(usize, Instant)>,
    still: Stillness,
    /// Executions that a device that does not queue has done.
    done: u64,
    /// When the primary meter changes.
    changes: Changes,
    /// Longest time between two looks at all meters.
    unread: Seconds,
    /// When all meters were last read.
    last_read: Instant,
    /// For each meter but the primary one: why its difference over the window at hand means nothing.
    lost: Vec<Option<String>>,
    /// Readings since the window's opening edge, but the latest.
    reads: Reads,
    /// The latest reading. It counts as soon as another follows, since the one that closes a window no longer
    /// lies in it.
    latest: Reads,
}

/// A reading of the primary meter with the times around it.
#[derive(Debug, Clone, Copy)]
struct Look {
    before: Instant,
    after: Instant,
    energy: Joules,
}

impl<'a> Rig<'a> {
    pub(super) fn new(
        executor: &'a mut dyn Executor,
        steps: usize,
        clock: &'a dyn Clock,
        meters: &'a mut [(usize, Box<dyn Meter>)],
        period: Option<Seconds>,
        stop: &'a dyn Fn() -> bool,
    ) -> Self {
        let last_read = clock.now();
        // Room for all samples of a window: nothing is allocated while one is open.
        let samples = Vec::with_capacity(256);
        let lost = vec![None; meters.len()];
        let (reads, latest) = (Reads::NONE, Reads::NONE);
        let unread = longest_unread(meters);
        Self {
            executor,
            steps,
            clock,
            meters,
            period,
            samples,
            seen: Vec::with_capacity(64),
            stop,
            queue: None,
            awake: None,
            still: Stillness::default(),
            done: 0,
            changes: Changes::default(),
            unread,
            last_read,
            lost,
            reads,
            latest,
        }
    }

    /// Measures one window; behind its end, while the load still runs, the probe has a look.
    ///
    /// # Errors
    ///
    /// The device or the primary meter failed, the host was too late to keep the device busy, or the user stopped the
    /// run.
    pub(super) fn measure(
        &mut self,
        load: Load,
        lengths: Lengths,
        probe: &mut dyn Probe,
    ) -> Result<Window, RecordError> {
        self.samples.clear();
        self.seen.clear();
        let burst = self.settle(load, lengths, probe)?;
        let (opening, opened_within) = self.edge(load, burst)?;
        let done_before = self.done;
        let start = opening.before;
        self.lost.fill(None);
        self.reads = Reads::NONE;
        self.sample_all(start, opening.energy)?;
        let length = lengths.window;
        let mut looks = 0;
        let mut sampled = start;
        let mut now = start;
        while now - start < length || self.has_too_few_since(start) {
            if self.executor.queues() {
                let sample = lengths.every.map(|every| every - (now - sampled));
                let due = [length - (now - start), self.unread - (now - self.last_read)];
                self.go_on(next_due(now, due.into_iter().chain(sample)))?;
            } else if load.is_idle() {
                self.nap(lengths.every.filter(|&every| every < NAP).unwrap_or(NAP))?;
            } else {
                self.run(load, burst)?;
            }
            now = self.clock.now();
            if now - self.last_read > self.unread {
                self.read_all(now)?;
            }
            if lengths.every.is_some_and(|every| now - sampled >= every) {
                sampled = now;
                if let Some(look) = self.look()?
                    && look.before - start < length
                {
                    self.push(self.meters[0].0, look.before, look.energy);
                }
                // A look takes some queries of a driver, so there are fewer than readings.
                looks += 1;
                if self.queue.is_some() && looks % LOOK_EVERY == 0 {
                    self.seen.push(probe.look(true));
                }
            }
        }
        let (closing, closed_within) = self.edge(load, burst)?;
        let reads = self.reads;
        let end = closing.before;
        self.sample_all(end, closing.energy)?;
        // A look takes milliseconds, which a full queue outlasts.
        self.top_up()?;
        let seen = probe.look(self.queue.is_some());
        self.seen.push(seen);
        let state = WindowState::of(&self.seen);
        let edge = longer(opened_within, closed_within);
        let Some(mut queue) = self.queue.take() else {
            let executions = (self.done - done_before) as f64;
            return Ok(Window { start, end, executions, edge, reads, state });
        };
        queue.drain(self.executor, self.clock, self.stop)?;
        let idle = queue.idle(start, end);
        if lengths.rest <= 0.0 && idle > longer((end - start) * IDLE, SHORT_IDLE) {
            return Err(RecordError::HeldUp { idle });
        }
        // Executions are spread evenly over their burst: they are equal work, and in 20 ms no clock changes by so much
        // that it shifts one by a share of the time between two looks. Energy is not spread evenly inside of one.
        let amid = queue.each().unwrap_or(Seconds::ZERO) * AHEAD;
        let state = WindowState { rest_s: if lengths.rest > 0.0 { idle } else { Seconds::ZERO }, ..state };
        Ok(Window { start, end, executions: queue.executed(start, end), edge: edge + amid, reads, state })
    }

    /// Whether a device that queues has finished too few executions for a window.
    fn has_too_few_since(&self, start: Instant) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.executed(start, self.clock.now()) < FEWEST)
    }

    /// Runs the load until it is in its steady state; the number of executions that make a short burst.
    fn settle(&mut self, load: Load, lengths: Lengths, probe: &mut dyn Probe) -> Result<u64, RecordError> {
        let settle = lengths.settle;
        // Left by an attempt that failed.
        self.drain()?;
        self.read_all_before_window()?;
        let task = match load {
            Load::Step(step) => Some(Task::Step(step)),
            Load::Pass => Some(Task::Pass),
            Load::Mix(mix) => Some(Task::Mix(mix)),
            Load::Idle | Load::Awake(_) => None,
        };
        self.awake = match load {
            Load::Awake(step) => Some((step, self.clock.now())),
            _ => None,
        };
        let unit = task.map_or(Ok(1), |task| self.executor.ready(task, self.clock))?.max(1);
        if self.executor.queues() {
            self.queue = task.map(|task| Queue::new(task, unit, lengths.rest));
            let patience = if lengths.still { settle * PATIENCE } else { settle };
            return self.settle_queue(settle, patience, probe).map(|()| unit);
        }
        let until = self.clock.now() + settle;
        let target = self.burst_target();
        let mut burst = unit;
        loop {
            if self.clock.now() - self.last_read > SETTLE_UNREAD {
                self.read_all_before_window()?;
            }
            let begin = self.clock.now();
            if load.is_idle() {
                if begin >= until {
                    return Ok(1);
                }
                self.nap(if until - begin < NAP { until - begin } else { NAP })?;
                continue;
            }
            self.run(load, burst)?;
            let now = self.clock.now();
            let took = (now - begin).value().max(1e-9);
            let fitting = (burst as f64 * target.value() / took).max(1.0);
            // Grows at most tenfold a time, so that one interrupted burst does not make a huge one.
            burst = ((fitting as u64).clamp(1, burst.saturating_mul(10)) / unit).max(1) * unit;
            if now >= until && took >= target.value() / 2.0 || now > until + settle + target * 100.0 {
                return Ok(burst);
            }
        }
    }

    /// Keeps the queue full until the load is in its steady state, and, for so long at most, until the clock is still.
    fn settle_queue(
        &mut self,
        settle: Seconds,
        for_clock: Seconds,
        probe: &mut dyn Probe,
    ) -> Result<(), RecordError> {
        let begin = self.clock.now();
        let until = begin + settle;
        let patience = until + settle + STILL;
        let mut moves = for_clock > settle;
        let moves_until = begin + for_clock;
        self.still.begin();
        loop {
            let now = self.clock.now();
            if now - self.last_read > SETTLE_UNREAD {
                self.read_all_before_window()?;
            }
            let steady = self.queue.as_ref().is_none_or(Queue::is_steady);
            // A look takes milliseconds, which short bursts do not outlast.
            if moves && steady && now >= self.still.due(now) {
                self.top_up()?;
                // Of a device that shows no clock there is nothing to wait for.
                moves = self.still.note(now, probe.look(true));
            }
            let still = !moves || now >= moves_until || self.still.is_still(begin, now);
            if now >= until && (steady || now > patience) && still {
                return Ok(());
            }
            let next = if until > now { until } else { now + self.burst_target() };
            let next = if moves && steady { next.min(self.still.due(now)) } else { next };
            self.go_on(next.min(now + SETTLE_UNREAD))?;
        }
    }

    /// Wakes a device in active idle, if that is due.
    fn wake(&mut self, now: Instant) -> Result<(), RecordError> {
        let Some((step, _)) = self.awake.filter(|(_, last)| now - *last >= WAKE) else { return Ok(()) };
        self.awake = Some((step, now));
        self.executor.launch(step)?;
        Ok(self.executor.sync()?)
    }

    /// Waits until a device that queues has nothing left.
    fn drain(&mut self) -> Result<(), RecordError> {
        match self.queue.take() {
            Some(mut queue) => queue.drain(self.executor, self.clock, self.stop),
            None => Ok(()),
        }
    }

    /// Reads every meter. What they count before the window is nobody's energy, so what is lost here does not matter,
    /// and a meter that stays lost is found at the opening edge.
    fn read_all_before_window(&mut self) -> Result<(), RecordError> {
        match self.read_all(self.clock.now()) {
            Ok(()) | Err(RecordError::Meter(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Keeps a device that queues busy until an instant, or lets it rest where it has nothing to do.
    fn go_on(&mut self, until: Instant) -> Result<(), RecordError> {
        loop {
            if (self.stop)() {
                return Err(RecordError::Stopped);
            }
            self.top_up()?;
            self.wake(self.clock.now())?;
            let now = self.clock.now();
            if now >= until {
                return Ok(());
            }
            let wanted = self.queue.as_ref().map_or(until, |queue| queue.wants_more_at(now));
            self.clock.sleep_until(until.min(wanted).min(now + NAP));
        }
    }

    /// Gives a device that queues more to do, if there is room.
    fn top_up(&mut self) -> Result<(), RecordError> {
        match &mut self.queue {
            Some(queue) => queue.top_up(self.executor, self.clock),
            None => Ok(()),
        }
    }

    /// A fifth of the update period finds its changes well, and 5 ms keep Ctrl-C and samples prompt.
    fn burst_target(&self) -> Seconds {
        let fifth = self.period.map_or(2e-3, |period| period.value() / 5.0);
        Seconds::new(fifth.clamp(0.2e-3, 5e-3))
    }

    /// Runs on until the primary reading changes, and how far the change may lie before it was seen.
    ///
    /// A continuous meter has no changes: its edge is now, within the time that the reading took.
    fn edge(&mut self, load: Load, burst: u64) -> Result<(Look, Seconds), RecordError> {
        let begin = self.clock.now();
        let patience = longer(STILL, self.period.unwrap_or(Seconds::ZERO) * 50.0);
        let mut previous: Option<Look> = None;
        // Whether the look to come follows the one before it closely.
        let mut close = true;
        loop {
            if let Some(look) = self.look()? {
                match (self.period, previous) {
                    (None, _) => return Ok((look, look.after - look.before)),
                    (Some(period), Some(before)) if before.energy != look.energy => {
                        if close {
                            let unseen = look.after - before.before;
                            self.changes.saw(before.before + unseen / 2.0, unseen / 2.0, period);
                            return Ok((look, if unseen < period { unseen } else { period }));
                        }
                        self.changes.surprise();
                        previous = Some(look);
                    }
                    _ => previous = Some(look),
                }
            }
            if self.clock.now() - begin > patience {
                let answers = previous.is_some_and(|look| self.clock.now() - look.after < patience / 2.0);
                let seconds = patience.value();
                return Err(if answers {
                    RecordError::Still { seconds }
                } else {
                    RecordError::Silent { seconds }
                });
            }
            // The primary meter is looked at here all the time, and a change must not be seen by anyone else.
            if self.clock.now() - self.last_read > self.unread {
                self.read_others(self.clock.now())?;
            }
            if self.executor.queues() {
                let now = self.clock.now();
                let next = match (self.period, previous) {
                    (Some(period), Some(look)) => self.changes.next_look(look.before, now, period),
                    // The file was just being written.
                    _ => NextLook { at: now + self.burst_target(), close: true },
                };
                close = next.close;
                self.go_on(next.at)?;
            } else {
                self.run(load, burst)?;
            }
        }
    }

    /// Executes the load `burst` times and waits for it; idle waits only. For devices that do not queue.
    fn run(&mut self, load: Load, burst: u64) -> Result<(), RecordError> {
        if (self.stop)() {
            return Err(RecordError::Stopped);
        }
        match load {
            Load::Step(step) => {
                self.executor.repeat(Task::Step(step), burst)?;
            }
            Load::Mix(mix) => self.executor.repeat(Task::Mix(mix), burst)?,
            Load::Pass => {
                for _ in 0..burst {
                    for step in 0..self.steps {
                        self.launch(step)?;
                    }
                }
            }
            Load::Idle | Load::Awake(_) => {
                return self.nap(self.burst_target());
            }
        }
        self.executor.sync()?;
        self.done += burst;
        Ok(())
    }

    /// Sleeps, unless the user wants to stop.
    fn nap(&self, time: Seconds) -> Result<(), RecordError> {
        if (self.stop)() {
            return Err(RecordError::Stopped);
        }
        self.clock.sleep_until(self.clock.now() + time);
        Ok(())
    }

    /// Launches one step of a pass and reads all meters when nobody has for long: twice as long as between passes,
    /// where a change of the primary meter is seen by those who wait for it.
    fn launch(&mut self, step: usize) -> Result<(), RecordError> {
        let unread = self.unread * 2.0;
        let unread = if unread < LONGEST_UNREAD { unread } else { LONGEST_UNREAD };
        if self.clock.now() - self.last_read > unread {
            self.executor.sync()?;
            self.read_all(self.clock.now())?;
        }
        Ok(self.executor.launch(step)?)
    }

    /// Reads the primary meter; none if the file was just being written.
    fn look(&mut self) -> Result<Option<Look>, RecordError> {
        match self.read(0)? {
            (before, after, Ok(energy)) => Ok(Some(Look { before, after, energy })),
            (.., Err(ReadError::Retry(_))) => Ok(None),
            (.., Err(error)) => Err(RecordError::Meter(error)),
        }
    }

    /// Reads a meter, with the times before and after, and notes what that took.
    ///
    /// # Errors
    ///
    /// Those of a device that queues, which gets more to do before its meters keep us.
    fn read(&mut self, meter: usize) -> Result<(Instant, Instant, Result<Joules, ReadError>), RecordError> {
        self.top_up()?;
        // Asking for the processor time takes longer than asking for the time, so it stays outside the edges.
        let cpu_before = self.clock.thread_time();
        let before = self.clock.now();
        let energy = self.meters[meter].1.read(before);
        let after = self.clock.now();
        let cpu_s = cpu_before.zip(self.clock.thread_time()).map(|(begin, end)| end - begin);
        self.reads = self.reads.plus(self.latest);
        self.latest = Reads { count: 1, time_s: after - before, cpu_s };
        Ok((before, after, energy))
    }

    /// Reads every meter, so that each sees its wraps. Only the primary one's failure ends a window.
    fn read_all(&mut self, now: Instant) -> Result<(), RecordError> {
        self.read_others(now)?;
        match self.read(0)?.2 {
            Ok(_) | Err(ReadError::Retry(_)) => Ok(()),
            Err(error) => Err(RecordError::Meter(error)),
        }
    }

    /// Reads every meter but the primary one.
    fn read_others(&mut self, now: Instant) -> Result<(), RecordError> {
        self.last_read = now;
        for i in 1..self.meters.len() {
            match self.read(i)?.2 {
                Ok(_) | Err(ReadError::Retry(_)) => {}
                Err(error) => self.lose(i, &error),
            }
        }
        Ok(())
    }

    /// Gives every meter a sample of exactly this edge. A side meter that failed has none; the reason is in
    /// [`Self::losses`].
    fn sample_all(&mut self, at: Instant, primary: Joules) -> Result<(), RecordError> {
        self.last_read = at;
        self.push(self.meters[0].0, at, primary);
        for i in 1..self.meters.len() {
            match self.read(i)?.2 {
                Ok(energy) if self.lost[i].is_none() => self.push(self.meters[i].0, at, energy),
                Ok(_) => {}
                Err(error) => self.lose(i, &error),
            }
        }
        Ok(())
    }

    /// Notes why a side meter has no reading of this window; the first reason stands.
    fn lose(&mut self, meter: usize, error: &ReadError) {
        self.lost[meter].get_or_insert_with(|| error.to_string());
    }

    /// The side meters without a reading of the window that was measured last: index in the header, and why.
    pub(super) fn losses(&self) -> impl Iterator<Item = (usize, &str)> {
        let reasons = self.meters.iter().zip(&self.lost);
        reasons.filter_map(|((meter, _), reason)| Some((*meter, reason.as_deref()?)))
    }

    fn push(&mut self, meter: usize, at: Instant, energy: Joules) {
        self.samples.push(Sample { meter, at, energy });
    }
}

/// How often the meters must be looked at: power readings a fifth of their longest gap apart, which is their period;
/// counters seldom.
fn longest_unread(meters: &[(usize, Box<dyn Meter>)]) -> Seconds {
    let gaps = meters.iter().filter_map(|(_, meter)| meter.longest_gap());
    gaps.map(|gap| gap / 5.0).fold(LONGEST_UNREAD, |a, b| if b < a { b } else { a })
}

/// When the next of some things is due, with the times until then; what is overdue waits for its own reason.
fn next_due(now: Instant, due: impl Iterator<Item = Seconds>) -> Instant {
    let ahead = due.filter(|due| *due > Seconds::ZERO).map(|due| now + (due + MOMENT));
    ahead.fold(now + NAP, Instant::min)
}

fn longer(a: Seconds, b: Seconds) -> Seconds {
    if a > b { a } else { b }
}
