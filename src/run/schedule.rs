//! What to measure next.

use crate::clock::Instant;
use crate::trace::{RecordOptions, SpanKind, Trace};
use crate::units::Seconds;

/// A window to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Request {
    /// What runs in it.
    pub kind: SpanKind,
    /// The round it counts for.
    pub round: usize,
}

/// Decides what to measure next, from what is there.
pub trait Controller {
    /// The next window, or none to stop.
    fn next(&mut self, trace: &Trace, now: Instant) -> Option<Request>;

    /// Whether it stopped because the time given was used up.
    fn out_of_time(&self) -> bool;

    /// Windows in all, as far as is known, for the progress display.
    fn total(&self) -> usize;
}

/// Idle windows before the first and after the last round. Two on each side give the idle power a spread.
const IDLE_WINDOWS: usize = 2;

/// A fixed number of rounds; in each, every kind of work, whole passes and an idle window in random order, so
/// that drift of clocks and temperature falls on all alike.
#[derive(Debug, Clone)]
pub struct Schedule {
    requests: Vec<Request>,
    next: usize,
    deadline: Option<Instant>,
    late: bool,
}

impl Schedule {
    /// The schedule for a number of signatures. `shuffle` puts indices 0..n into the random order of a round;
    /// equal seeds give equal schedules, which is what lets an interrupted run go on.
    pub fn new(
        signatures: usize,
        options: &RecordOptions,
        mut shuffle: impl FnMut(usize, &mut [SpanKind]),
    ) -> Self {
        let mut requests = Vec::new();
        let idle = |round| Request { kind: SpanKind::Idle, round };
        requests.extend((0..IDLE_WINDOWS).map(idle));
        requests.push(Request { kind: SpanKind::WarmUp, round: 0 });
        for round in 0..options.rounds {
            let mut kinds: Vec<SpanKind> = (0..signatures).map(SpanKind::Replay).collect();
            kinds.extend([SpanKind::Pass, SpanKind::ActiveIdle]);
            shuffle(round, &mut kinds);
            requests.extend(kinds.into_iter().map(|kind| Request { kind, round }));
        }
        requests.extend((IDLE_WINDOWS..2 * IDLE_WINDOWS).map(idle));
        Self { requests, next: 0, deadline: None, late: false }
    }

    /// Starts no window after `deadline`.
    pub fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Leaves out windows that an earlier, interrupted recording has. The device is warmed up again.
    pub fn without(mut self, trace: &Trace) -> Self {
        let done: std::collections::HashSet<(SpanKind, usize)> =
            trace.spans.iter().map(|span| (span.kind, span.round)).collect();
        self.requests.retain(|r| r.kind == SpanKind::WarmUp || !done.contains(&(r.kind, r.round)));
        self
    }

    /// The least time that all windows take, without the staging of inputs.
    pub fn expected(&self, options: &RecordOptions) -> Seconds {
        self.requests
            .iter()
            .map(|r| match r.kind {
                SpanKind::WarmUp => options.warm_up_s,
                SpanKind::Replay(_) => options.settle_s + options.window_s,
                SpanKind::Pass => options.settle_s + options.pass_window_s,
                SpanKind::Idle | SpanKind::ActiveIdle => options.settle_s + options.idle_window_s,
            })
            .sum()
    }
}

impl Controller for Schedule {
    fn next(&mut self, _trace: &Trace, now: Instant) -> Option<Request> {
        let request = self.requests.get(self.next).copied()?;
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.late = true;
            return None;
        }
        self.next += 1;
        Some(request)
    }

    fn out_of_time(&self) -> bool {
        self.late
    }

    fn total(&self) -> usize {
        self.requests.len()
    }
}
