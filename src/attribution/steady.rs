//! Energy of each kind of work in the network's steady state: windows corrected, fillers and the steps before it taken off.

use std::collections::{BTreeSet, HashMap};

use crate::stats::Uncertain;
use crate::trace::{Base, SpanKind};

use super::Windows;
use super::counting::Counting;
use super::integrate::Reading;
use super::reference::{Correction, Reference, Sensitivity};
use super::signature::{Beyond, SignatureEnergy, work_energy};

/// What a byte between memory and cache costs, for the bytes by which an excerpt may differ from the network: 12 pJ/bit
/// (SC25, 10.1145/3712285.3759815), and a third more for the static power of its time.
pub(super) const BYTE_J: f64 = 130e-12;
/// Scatter of the time of one window, in parts.
const SCATTER: f64 = 0.003;
/// Part by which the clock of a window may differ from the network's; others are left out where there are enough.
const OFF: [f64; 3] = [0.012, 0.025, 0.05];
const FEWEST: usize = 2;

/// The windows of a trace, corrected.
pub(super) struct Steady<'a> {
    windows: &'a Windows<'a>,
    pub(super) reference: Reference,
    active_idle: Option<Uncertain>,
    /// Steps that others were mixed with, alone.
    fillers: HashMap<usize, SignatureEnergy>,
    /// Signatures and excerpts, as their windows have them.
    works: HashMap<SpanKind, Corrected>,
    /// How far windows of equal work differ.
    pub(super) counting: Counting,
}

/// A kind of work with the mean of its windows' corrections.
struct Corrected {
    work: SignatureEnergy,
    correction: Correction,
    sensitivity: Sensitivity,
    /// Whether the device rested between bursts.
    rests: bool,
}

impl<'a> Steady<'a> {
    pub(super) fn new(
        windows: &'a Windows<'a>,
        reference: Reference,
        active_idle: Option<Uncertain>,
    ) -> Self {
        let mut steady = Self {
            windows,
            reference,
            active_idle,
            fillers: HashMap::new(),
            works: HashMap::new(),
            counting: Counting::default(),
        };
        // In order, so that sums are the same in every run of the program.
        let mut kinds: Vec<SpanKind> = windows.kinds.keys().copied().collect();
        kinds.sort_unstable();
        let steps = kinds.iter().filter_map(|kind| match kind {
            SpanKind::Filler(step) => Some(*step),
            _ => None,
        });
        let fillers: Vec<(usize, SignatureEnergy)> =
            steps.map(|step| (step, steady.work(SpanKind::Filler(step)))).collect();
        steady.fillers.extend(fillers);
        let works = kinds.iter().filter(|kind| matches!(kind, SpanKind::Replay(_) | SpanKind::Excerpt(_)));
        let works: Vec<(SpanKind, Corrected)> = works.map(|&kind| (kind, steady.corrected(kind))).collect();
        if !windows.trace.header.contexts.is_empty() {
            let all = works.iter().map(|(kind, corrected)| (*kind, &corrected.work, corrected.rests));
            steady.counting = Counting::of(all);
        }
        steady.works.extend(works);
        steady
    }

    /// One execution of a kind of work, as its windows have it.
    pub(super) fn work(&self, kind: SpanKind) -> SignatureEnergy {
        let corrected = self.corrected(kind);
        let beyond = self.beyond(&corrected.work, &corrected, corrected.work.beyond.clock);
        corrected.work.with(beyond)
    }

    /// One execution of a signature in the network: its excerpt less what that is without its last step.
    pub(super) fn signature(&self, signature: usize) -> SignatureEnergy {
        let kind = SpanKind::Replay(signature);
        let Some(context) = self.windows.trace.header.contexts.get(signature) else { return self.work(kind) };
        let Some(whole) = self.works.get(&kind) else { return self.work(kind) };
        let base_kind = context.base.map(Base::windows);
        let base = base_kind.and_then(|kind| self.works.get(&kind));
        let work = match (base_kind, base) {
            (Some(_), Some(base)) => whole.work.without(&base.work, self.active_idle),
            // Nothing to take off yet: no number.
            (Some(_), None) => work_energy(&[], self.active_idle),
            (None, _) => whole.work.clone(),
        };
        let clock = base.map_or(0.0, |base| base.work.beyond.clock).hypot(whole.work.beyond.clock);
        let work = self.counted(work, [Some(kind), base_kind]);
        let filler = base.map_or(0.0, |base| base.work.beyond.filler).hypot(whole.work.beyond.filler);
        let cache = context.error_bytes * BYTE_J / 3.0_f64.sqrt();
        let beyond = self.beyond(&work, whole, clock);
        work.with(Beyond { cache, filler, ..beyond })
    }

    /// One repetition of some steps, and what its energy's windows share, which is not in it.
    pub(super) fn repeated(&self, kind: SpanKind) -> Option<(SignatureEnergy, Beyond)> {
        let whole = self.works.get(&kind)?;
        let work = self.counted(whole.work.clone(), [Some(kind), None]);
        let beyond = self.beyond(&work, whole, work.beyond.clock);
        Some((work, beyond))
    }

    /// With the scatter that all kinds of work tell together in place of its own.
    fn counted(&self, work: SignatureEnergy, kinds: [Option<SpanKind>; 2]) -> SignatureEnergy {
        let of = |kind: SpanKind| {
            let n = self.works.get(&kind).map_or(1, |corrected| corrected.work.rounds.len()) as f64;
            let (variance, dof) = self.counting.with_dof(kind);
            Uncertain { value: 0.0, std_error: (variance / n).sqrt(), dof }
        };
        let scatter = Uncertain::sum(kinds.into_iter().flatten().map(of)).widened(work.alignment);
        // Of a single window, where nothing tells how such windows scatter, there is no number.
        let known = scatter.std_error.is_finite();
        let counted = |own: Option<Uncertain>| {
            own.filter(|_| known).map(|own| Uncertain { value: own.value, ..scatter })
        };
        SignatureEnergy {
            energy: counted(work.energy),
            dynamic_alone: counted(work.dynamic_alone),
            dynamic: work.dynamic.zip(work.time).filter(|_| known).map(|(dynamic, time)| {
                let idle = self.active_idle.unwrap_or(Uncertain::exact(0.0)).times(time.value);
                scatter.plus(Uncertain { value: dynamic.value, ..idle })
            }),
            ..work
        }
    }

    /// What windows share; `clock` is what correcting them to the network's clock leaves open.
    fn beyond(&self, work: &SignatureEnergy, of: &Corrected, clock: f64) -> Beyond {
        let energy = work.energy.map_or(0.0, |energy| energy.value);
        Beyond {
            temperature: self
                .reference
                .temperature_error(work.time.map_or(0.0, |time| time.value), of.correction.kelvin),
            clock: self.reference.clock_error(energy, of.sensitivity).hypot(clock),
            ..work.beyond
        }
    }

    /// The windows of a kind of work, each as it would have been in the steady state.
    fn corrected(&self, kind: SpanKind) -> Corrected {
        let idle = self.active_idle.map_or(0.0, |idle| idle.value);
        let (mut windows, mut fillers) = (Vec::new(), Vec::new());
        let (mut rests, mut magnified) = (false, 0.0);
        for (span, reading) in self.windows.spans_of(kind) {
            rests |= span.state.rest_s.value() > 0.0;
            let (mut reading, correction) = self.reference.warmed(span, reading, idle);
            let (mut unsure, whole) = (0.0, reading.energy);
            if let Some(run) = span.state.filler {
                let other = self.fillers.get(&run.step);
                let Some(other) = other.and_then(|other| Some((other.energy?, other.time?))) else {
                    continue;
                };
                let at_window = Correction { clock: -correction.clock, ..correction };
                let filler = Reading { energy: other.0.value, time: other.1.value, ..reading };
                let filler = Sensitivity::of(&[(filler, at_window)], idle, 1.0).at_clock(filler, at_window);
                reading.energy -= run.executions * filler.energy;
                reading.time -= run.executions * filler.time;
                unsure = run.executions * other.0.std_error / reading.executions;
            }
            // A window that has no time of its own holds no work. One whose energy is below zero by chance counts like any
            // other: without it the mean would be too high.
            if reading.time > 0.0 && reading.executions > 0.0 {
                windows.push((reading, correction));
                fillers.push(unsure);
                magnified += whole / reading.energy;
            }
        }
        // What is taken off has a scatter too.
        magnified /= windows.len().max(1) as f64;
        let sensitivity = Sensitivity::of(&windows, idle, magnified);
        let rounds = |windows: &mut dyn Iterator<Item = &(Reading, Correction)>| {
            windows.map(|window| window.0.round).collect::<BTreeSet<usize>>().len()
        };
        let enough = rounds(&mut windows.iter()).min(FEWEST);
        for off in OFF {
            let near = |window: &(Reading, Correction)| window.1.clock.abs() <= off;
            if rounds(&mut windows.iter().filter(|window| near(window))) >= enough {
                let mut keep = windows.iter().map(near).collect::<Vec<_>>().into_iter();
                fillers.retain(|_| keep.next().unwrap_or(true));
                windows.retain(near);
                break;
            }
        }
        let n = windows.len().max(1) as f64;
        let mean = |of: &dyn Fn(&Correction) -> f64| windows.iter().map(|w| of(&w.1)).sum::<f64>() / n;
        let correction = Correction { kelvin: mean(&|c| c.kelvin), clock: mean(&|c| c.clock) };
        let readings: Vec<Reading> = windows.iter().map(|&(r, c)| sensitivity.at_clock(r, c)).collect();
        let mut work = work_energy(&readings, self.active_idle);
        work.beyond.filler = fillers.iter().sum::<f64>() / n;
        work.beyond.clock =
            work.energy.map_or(0.0, |energy| energy.value) * sensitivity.error(correction.clock);
        // The scatter of others tells that of a single window; what that is, is put in later.
        if let ([one], false) = (&work.rounds[..], self.windows.trace.header.contexts.is_empty()) {
            work.time.get_or_insert(Uncertain::known(one.time, one.time * SCATTER));
            work.energy.get_or_insert(Uncertain::known(one.energy, 0.0));
            work.dynamic_alone = work.dynamic_alone.or(one.dynamic.map(Uncertain::exact));
            work.dynamic = work.dynamic.or(work.dynamic_alone);
        }
        Corrected { work, correction, sensitivity, rests }
    }
}
