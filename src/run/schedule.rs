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
    /// What runs beside its work.
    pub mixing: Mixing,
}

/// What runs in a window beside the work that it is about, so that the clock is that of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mixing {
    /// Repetitions of the work before the filler has its turn; 0 for one, and no filler.
    pub times: u64,
    /// A step of the plan and its repetitions.
    pub filler: Option<(usize, u64)>,
    /// Part of the time for which the device rests, in thousandths.
    pub rest_permille: u32,
}

impl Request {
    /// A window of the work alone.
    pub fn of(kind: SpanKind, round: usize) -> Self {
        Self { kind, round, mixing: Mixing::default() }
    }
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

/// Fewest pairs of short windows that tell what reading the meter costs: with three degrees of freedom Student's t
/// is 3.2, with one it is 12.7.
const FEWEST_PAIRS: usize = 4;
/// Most of a run's time for these pairs.
const SHARE_OF_PAIRS: f64 = 0.2;
/// Most time for these pairs, where passes are longer than their windows.
const TIME_OF_PAIRS: Seconds = Seconds::new(8.0);

/// A fixed number of rounds; in each, every kind of work, whole passes and an idle window in random order, so
/// that drift of clocks and temperature falls on all alike. After the rounds, pairs of short windows of passes,
/// one read as usual and one at its edges only, as far as a short run has time for them.
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
        let idle = |round| Request::of(SpanKind::Idle, round);
        // The null run has nothing to be slowed down.
        let pairs = if signatures == 0 { 0 } else { options.sampling_pairs };
        requests.extend((0..IDLE_WINDOWS).map(idle));
        requests.push(Request::of(SpanKind::WarmUp, 0));
        for round in 0..options.rounds {
            let mut kinds: Vec<SpanKind> = (0..signatures).map(SpanKind::Replay).collect();
            kinds.extend([SpanKind::Pass, SpanKind::ActiveIdle]);
            shuffle(round, &mut kinds);
            requests.extend(kinds.into_iter().map(|kind| Request::of(kind, round)));
        }
        let last: Vec<Request> = (IDLE_WINDOWS..2 * IDLE_WINDOWS).map(idle).collect();
        let rest: Seconds =
            requests.iter().chain(&last).map(|request| least_time(request.kind, options)).sum();
        let fitting = enough((rest * SHARE_OF_PAIRS / pair_time(options)) as usize, pairs);
        requests.extend((0..fitting).flat_map(pair));
        requests.extend(last);
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
        self.requests.iter().map(|request| least_time(request.kind, options)).sum()
    }
}

fn least_time(kind: SpanKind, options: &RecordOptions) -> Seconds {
    match kind {
        SpanKind::WarmUp => options.warm_up_s,
        SpanKind::Replay(_) | SpanKind::Excerpt(_) | SpanKind::Filler(_) => {
            options.settle_s + options.window_s
        }
        SpanKind::Pass => options.settle_s + options.pass_window_s,
        SpanKind::Idle | SpanKind::ActiveIdle => options.settle_s + options.idle_window_s,
        SpanKind::Watched | SpanKind::Unwatched => pair_time(options) / 2.0,
    }
}

/// A pair's two windows, each with half its length of settling.
fn pair_time(options: &RecordOptions) -> Seconds {
    options.sampling_window_s * 3.0
}

impl Request {
    /// A pair of short windows of passes, one read as usual and one at its edges only.
    pub fn pair(round: usize) -> [Self; 2] {
        pair(round)
    }
}

/// Which of the two comes first alternates, so that a steady drift cancels (ABBA).
fn pair(round: usize) -> [Request; 2] {
    let (first, second) = match round % 2 {
        0 => (SpanKind::Watched, SpanKind::Unwatched),
        _ => (SpanKind::Unwatched, SpanKind::Watched),
    };
    [Request::of(first, round), Request::of(second, round)]
}

/// The pairs that fit, of those asked for; none where too few fit.
fn enough(fitting: usize, asked: usize) -> usize {
    let pairs = fitting.min(asked);
    if pairs < FEWEST_PAIRS { 0 } else { pairs }
}

/// How many pairs to measure, by the time that a pass took.
fn pairs_for_passes_of(trace: &Trace) -> usize {
    let passes = || trace.spans.iter().filter(|span| span.kind == SpanKind::Pass);
    let executions: f64 = passes().map(|span| span.executions).sum();
    if executions <= 0.0 {
        return 0;
    }
    let pass = passes().map(|span| span.length()).sum::<Seconds>() / executions;
    // A window takes a pass more than its length at worst, and so does settling.
    let pair = pair_time(&trace.header.options) + pass * 4.0;
    enough((TIME_OF_PAIRS / pair) as usize, trace.header.options.sampling_pairs)
}

impl Controller for Schedule {
    fn next(&mut self, trace: &Trace, now: Instant) -> Option<Request> {
        let mut request = self.requests.get(self.next).copied()?;
        let of_pair = |r: &Request| matches!(r.kind, SpanKind::Watched | SpanKind::Unwatched);
        if of_pair(&request) {
            let pairs = pairs_for_passes_of(trace);
            while of_pair(&request) && request.round >= pairs {
                self.next += 1;
                request = self.requests.get(self.next).copied()?;
            }
        }
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
