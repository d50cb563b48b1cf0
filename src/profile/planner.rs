//! What to measure next, so that every layer is known well enough in the least time.
//!
//! 1. Warm-up by the network itself until its temperature leads nowhere far, or it is known where.
//! 2. A pilot of a few rounds: every kind of work within its excerpt, whole passes, active idle, in random order. A window
//!    whose clock is not that of the network is measured again with rests or with other work between ([`super::clock`]).
//! 3. As many more rounds of each kind as its target asks for, by the spread of the pilot (Stein 1945,
//!    10.1214/aoms/1177731088): the number is fixed before these are seen, so that looking does not spoil the intervals.

use std::collections::{HashMap, VecDeque};

use crate::attribution::{
    Attribution, attribute, span_energy, steady_clock, steady_power, steady_temperature,
};
use crate::clock::Instant;
use crate::run::{Controller, Request, Schedule};
use crate::stats::Rng;
use crate::trace::{Base, Header, PrecisionTarget, SpanKind, Trace};
use crate::units::Seconds;

use super::clock::{Clocks, Load};

/// Least and most time of the warm-up: the notes of the field ask for half a minute, and 300 s settle every cooler.
const WARM_UP: [f64; 2] = [30.0, 300.0];
/// How far the temperature may still be from where it leads, in kelvin, if that is known this well.
const NEAR: f64 = 3.0;
const KNOWN: f64 = 0.6;
/// The same where more than this part of the power limit will be drawn.
const VERY_NEAR: f64 = 0.7;
const NEAR_LIMIT: f64 = 0.97;
/// A rise in 20 s that is none, in kelvin.
const STILL: f64 = 1.0;
const STILL_FOR: f64 = 20.0;
/// Rounds of the pilot, and at most in all.
const PILOT: usize = 2;
const MOST_ROUNDS: usize = 30;
/// Windows of whole passes, and of active idle, in each.
const PASSES: usize = 3;
/// Attempts at the clock of the network, for each kind of work.
const ATTEMPTS: usize = 3;
/// Seed of the order within rounds.
const ORDER_STREAM: u64 = 3;

/// A controller that plans.
pub(super) struct Planner {
    target: PrecisionTarget,
    seed: u64,
    deadline: Option<Instant>,
    /// The round to begin with.
    first_round: usize,
    /// Kinds of work that belong together: a signature's excerpt and the same without its last step.
    groups: Vec<Vec<SpanKind>>,
    queue: VecDeque<Request>,
    stage: Stage,
    clocks: Clocks,
    attempts: HashMap<SpanKind, usize>,
    /// Spans that have been looked at.
    seen: usize,
    /// Rounds that each kind of work needs; known after the pilot.
    needed: HashMap<SpanKind, usize>,
    handed_out: usize,
    late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    WarmUp(usize),
    Round(usize),
    Last,
    Done,
}

impl Planner {
    /// A plan; of a recording that was interrupted, what its windows tell counts, and the round that was begun is
    /// measured anew.
    pub(super) fn new(header: &Header, target: PrecisionTarget, unfinished: Option<&Trace>) -> Self {
        let mut taken: Vec<SpanKind> = Vec::new();
        let mut groups = Vec::new();
        for signature in 0..header.signatures.len() {
            let mut group = vec![SpanKind::Replay(signature)];
            let base = header.contexts.get(signature).and_then(|context| context.base);
            if let Some(Base::Excerpt(excerpt)) = base
                && !taken.contains(&SpanKind::Excerpt(excerpt))
            {
                taken.push(SpanKind::Excerpt(excerpt));
                group.push(SpanKind::Excerpt(excerpt));
            }
            groups.push(group);
        }
        let beginnings = header.beginnings.iter().map(|beginning| SpanKind::Excerpt(beginning.excerpt));
        groups.extend(beginnings.filter(|kind| !taken.contains(kind)).map(|kind| vec![kind]));
        let first_round = unfinished.map_or(0, |trace| {
            let rounds = trace.spans.iter().filter(|span| matches!(span.kind, SpanKind::Replay(_)));
            rounds.map(|span| span.round + 1).max().unwrap_or(0)
        });
        let mut planner = Self {
            target,
            seed: header.options.seed,
            deadline: None,
            first_round,
            groups,
            queue: VecDeque::new(),
            stage: Stage::Begin,
            clocks: Clocks::default(),
            attempts: HashMap::new(),
            seen: 0,
            needed: HashMap::new(),
            handed_out: 0,
            late: false,
        };
        if let Some(trace) = unfinished {
            planner.note(trace);
            planner.queue.clear();
        }
        planner
    }

    /// Takes note of windows that are new, and puts one whose clock is not the network's in front again.
    fn note(&mut self, trace: &Trace) {
        for at in self.seen..trace.spans.len() {
            let span = &trace.spans[at];
            let Some(energy) = span_energy(trace, trace.header.primary_meter, span) else { continue };
            if span.kind == SpanKind::Pass {
                steady_clock(trace).into_iter().for_each(|clock| self.clocks.lead_to(clock));
            }
            let load = Load::of(span, energy.value());
            if !self.clocks.note(span.kind, load) {
                continue;
            }
            let attempts = self.attempts.entry(span.kind).or_default();
            if *attempts < ATTEMPTS {
                *attempts += 1;
                self.queue.push_front(Request::of(span.kind, span.round));
            }
        }
        self.seen = trace.spans.len();
    }

    /// What comes after all that was asked for.
    fn advance(&mut self, trace: &Trace) {
        self.stage = match self.stage {
            Stage::Begin => {
                self.queue.extend([0, 1].map(|round| Request::of(SpanKind::Idle, round)));
                // Active idle on a device that is still cool: what a kelvin costs is told by the difference.
                self.queue.push_back(Request::of(SpanKind::WarmUp, 0));
                self.queue.push_back(Request::of(SpanKind::ActiveIdle, 0));
                Stage::WarmUp(1)
            }
            Stage::WarmUp(_) if is_warm(trace) => {
                self.queue.push_back(Request::of(SpanKind::Pass, self.first_round * PASSES));
                Stage::Round(self.first_round)
            }
            Stage::WarmUp(round) => {
                self.queue.push_back(Request::of(SpanKind::WarmUp, round));
                Stage::WarmUp(round + 1)
            }
            Stage::Round(round) => {
                self.round(trace, round);
                if self.queue.is_empty() { Stage::Last } else { Stage::Round(round + 1) }
            }
            Stage::Last => {
                let pairs = trace.header.options.sampling_pairs;
                self.queue.extend((0..pairs).flat_map(Request::pair));
                self.queue.extend([2, 3].map(|round| Request::of(SpanKind::Idle, round)));
                Stage::Done
            }
            Stage::Done => Stage::Done,
        };
    }

    /// One round: everything that still needs windows, in random order, and whole passes and active idle.
    fn round(&mut self, trace: &Trace, round: usize) {
        if round >= PILOT && self.needed.is_empty() {
            self.needed = needed_rounds(trace, &self.target);
        }
        let small = if round == 1 { self.clocks.small(&self.target, trace) } else { Vec::new() };
        let wanted = |kind: &SpanKind| match round {
            0 => true,
            1 => !small.contains(kind),
            _ => self.needed.get(kind).is_some_and(|&n| round < n),
        };
        let mut groups: Vec<Vec<SpanKind>> = self.groups.clone();
        groups.retain(|group| group.iter().any(wanted));
        if groups.is_empty() || round >= MOST_ROUNDS {
            return;
        }
        // The filler is known from the second round on: in the first nobody knows yet which step draws most.
        if round == 1 {
            let light = self.clocks.choose_filler(trace);
            self.attempts.clear();
            // The windows of the first round that were too light are measured again within it.
            self.queue.extend(self.clocks.filler().map(|kind| Request::of(kind, 0)));
            let again: Vec<Request> = light.into_iter().map(|kind| Request::of(kind, 0)).collect();
            self.queue.extend(again);
        }
        let mut rng = Rng::stream(Rng::stream(self.seed, ORDER_STREAM).number(), round as u64);
        groups.extend(self.clocks.filler().map(|kind| vec![kind]));
        rng.shuffle(&mut groups);
        let parts = groups.len().div_ceil(if round < PILOT { PASSES } else { 1 });
        for (at, mut group) in groups.into_iter().enumerate() {
            // Passes and active idle come in between, at even distances: they tell how the device drifts.
            if at.is_multiple_of(parts) {
                let number = round * PASSES + at / parts;
                if number > self.first_round * PASSES {
                    self.queue.push_back(Request::of(SpanKind::Pass, number));
                }
                self.queue.push_back(Request::of(SpanKind::ActiveIdle, number + 1));
            }
            // A B, then B A: what drifts steadily cancels.
            if round % 2 == 1 {
                group.reverse();
            }
            let requests: Vec<Request> = group.into_iter().map(|kind| Request::of(kind, round)).collect();
            self.queue.extend(requests);
        }
    }
}

/// A controller that can be held to a time.
pub(super) trait Planned: Controller {
    /// Starts no window after a time.
    fn stop_at(&mut self, deadline: Instant);

    /// About how long all of it takes.
    fn expected(&self, header: &Header) -> Seconds;
}

impl Planned for Schedule {
    fn stop_at(&mut self, deadline: Instant) {
        *self = self.clone().until(deadline);
    }

    fn expected(&self, header: &Header) -> Seconds {
        self.expected(&header.options)
    }
}

impl Planned for Planner {
    fn stop_at(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// The pilot; what comes behind it is planned then.
    fn expected(&self, header: &Header) -> Seconds {
        let options = &header.options;
        let kinds: usize = self.groups.iter().map(Vec::len).sum();
        let window = options.settle_s + options.window_s * 1.2;
        Seconds::new(2.0 * WARM_UP[0])
            + (window * kinds as f64 + options.settle_s + options.pass_window_s) * PILOT as f64
    }
}

impl Controller for Planner {
    fn next(&mut self, trace: &Trace, now: Instant) -> Option<Request> {
        self.note(trace);
        while self.queue.is_empty() && self.stage != Stage::Done {
            self.advance(trace);
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) && self.stage != Stage::Done {
            self.late = matches!(self.stage, Stage::Begin | Stage::WarmUp(_) | Stage::Round(0..=PILOT));
            return None;
        }
        let mut request = self.queue.pop_front()?;
        // What was learnt since it was put into the queue counts.
        request.mixing = self.clocks.mixing(request.kind);
        self.handed_out += 1;
        Some(request)
    }

    fn out_of_time(&self) -> bool {
        self.late
    }

    fn total(&self) -> usize {
        let rounds: usize = self.groups.iter().map(|group| group.len()).sum::<usize>() + 2;
        let pilot = rounds * PILOT + 20;
        pilot.max(self.handed_out + self.queue.len())
    }
}

/// Whether the temperature has settled, or it is known where it will.
fn is_warm(trace: &Trace) -> bool {
    let warm: Vec<_> = trace.spans.iter().filter(|span| span.kind == SpanKind::WarmUp).collect();
    let (Some(first), Some(last)) = (warm.first(), warm.last()) else { return false };
    let time = (last.end - first.start).value();
    let [least, most] = WARM_UP;
    if time < least || time >= most {
        return time >= most;
    }
    let Some(now) = last.state.celsius else { return true };
    // A limit may begin to act on the way that is left, and lead elsewhere.
    let limit = trace.header.environment.power_limit_w.filter(|_| !last.state.limited);
    let power = steady_power(trace, trace.header.primary_meter);
    let ahead = limit.zip(power).is_some_and(|(limit, power)| power > NEAR_LIMIT * limit);
    let near = if ahead { VERY_NEAR } else { NEAR };
    let known = steady_temperature(trace)
        .is_some_and(|end| end.std_error <= KNOWN && (end.value - now).abs() <= near);
    let before = warm.iter().rev().find(|span| last.end - span.end >= Seconds::new(STILL_FOR));
    let still =
        before.and_then(|span| span.state.celsius).is_some_and(|then| (now - then).abs() <= STILL / 4.0);
    known || still
}

/// Rounds that each kind of work needs for the target.
fn needed_rounds(trace: &Trace, target: &PrecisionTarget) -> HashMap<SpanKind, usize> {
    let Attribution { signatures, pass, counting, .. } = attribute(trace, trace.header.primary_meter);
    let mut needed: HashMap<SpanKind, usize> = HashMap::new();
    let Some(pass) = pass.energy else { return needed };
    for (signature, work) in signatures.iter().enumerate() {
        let Some(energy) = work.energy else { continue };
        let wanted = target.half_width(energy.value, pass.value);
        // What windows share is not lowered by more of them; they need not be much better than it.
        let shared = work.beyond.combined() * 1.96;
        let left =
            (wanted.powi(2) - shared.powi(2)).max((shared / 2.0).powi(2)).max((wanted / 4.0).powi(2)).sqrt();
        let base = trace.header.contexts.get(signature).and_then(|context| context.base);
        let kinds = [Some(SpanKind::Replay(signature)), base.map(Base::windows)];
        let variance: f64 = kinds.iter().flatten().map(|kind| counting.variance(*kind)).sum();
        let rounds = (counting.quantile().powi(2) * variance / left.powi(2)).ceil() as usize;
        for kind in kinds.into_iter().flatten() {
            let rounds = rounds.clamp(1, MOST_ROUNDS);
            needed.entry(kind).and_modify(|n| *n = rounds.max(*n)).or_insert(rounds);
        }
    }
    needed
}
