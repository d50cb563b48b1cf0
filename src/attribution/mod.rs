//! From a trace to joules per kind of work, idle power and the balance. Pure: same trace, same result.
//!
//! Every quantity is a mean over rounds with Student's t; the formulas are those of JCGM 100:2008 (GUM), in
//! [`crate::stats::Uncertain`].

mod agreement;
mod balance;
mod commensurate;
mod counting;
mod frozen;
mod in_situ;
mod integrate;
mod limited;
mod read_rate;
mod reference;
mod sampling;
mod signature;
mod steady;
mod sum;

pub use agreement::{EnergyPair, energy_pairs, family_confidence, null_power};
pub use balance::{Balance, balance};
pub use commensurate::{Commensurate, commensurate};
pub use counting::Counting;
pub use frozen::{Frozen, frozen};
pub use in_situ::Stretch;
pub use integrate::{Reading, span_energy};
pub use limited::{HeldWindows, held_windows};
pub use read_rate::{ReadRate, read_rate};
pub use reference::{Reference, steady_clock, steady_power, steady_temperature};
pub use sampling::slow_down;
pub use signature::{Beyond, RoundEnergy, SignatureEnergy, work_energy};
pub use sum::{WorkSum, work_sum};

use std::collections::HashMap;

use crate::stats::Uncertain;
use crate::trace::{Span, SpanKind, Trace};
use crate::units::{Joules, Seconds};

use in_situ::stretches;
use integrate::{edge_energies, reading, still, too_short};
use signature::mean_power;
use steady::Steady;

/// Everything one meter says about a run. Energies in joules, times in seconds, power in watts.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    /// Windows that the meter read at both edges.
    pub windows: usize,
    /// Those over which it stood still although it is a counter; neither they nor their neighbours, in which it may
    /// have stopped, count below.
    pub still_windows: usize,
    /// Those that are too short for a side counter that moves so seldom; they do not count below.
    pub short_windows: usize,
    /// Power with nothing running, before and after the rounds.
    pub idle_power: Option<Uncertain>,
    /// Power with nothing running between rounds, on the warm device.
    pub active_idle_power: Option<Uncertain>,
    /// For each signature: one execution.
    pub signatures: Vec<SignatureEnergy>,
    /// One whole pass.
    pub pass: SignatureEnergy,
    /// Layers, gaps and residual against the measured pass; none if a part is missing.
    pub balance: Option<Balance>,
    /// How far windows of equal work differ.
    pub counting: Counting,
    /// The steady state that all energies are of.
    pub reference: Reference,
    /// Parts of the pass, each by itself and as the sum of its layers.
    pub stretches: Vec<Stretch>,
}

/// Attributes a trace by one of its meters.
pub fn attribute(trace: &Trace, meter: usize) -> Attribution {
    let windows = Windows::of(trace, meter);
    let idle: Vec<(Reading, Option<f64>)> =
        windows.spans_of(SpanKind::ActiveIdle).map(|(span, reading)| (reading, span.state.celsius)).collect();
    // The first window of the warm-up has the boost of a rested device.
    let warm = windows.spans_of(SpanKind::WarmUp).filter(|(span, _)| span.round > 0);
    let busy: Vec<(Reading, Option<f64>)> = warm
        .chain(windows.spans_of(SpanKind::Pass))
        // What a kelvin costs is told by work of one power.
        .filter(|(span, _)| span.state.rest_s == Seconds::ZERO)
        .map(|(span, reading)| (reading, span.state.celsius))
        .collect();
    // Rounds of fixed number are short, and hardly tell where the temperature leads: they are taken as they are.
    let planned = !trace.header.contexts.is_empty();
    let reference = if planned { Reference::of(trace, &idle, &busy) } else { Reference::default() };
    let means: Vec<Reading> = idle.into_iter().map(|(reading, _)| reading).collect();
    let active_idle_power = reference.active_idle.or_else(|| mean_power(&means));
    let steady = Steady::new(&windows, reference, active_idle_power);
    let signatures: Vec<SignatureEnergy> =
        (0..trace.header.signatures.len()).map(|s| steady.signature(s)).collect();
    let pass = steady.work(SpanKind::Pass);
    let counts = signature_counts(trace);
    let stretches = stretches(&trace.header, meter, &steady, &signatures, &pass);
    let balance = balance(&signatures, &counts, &pass, active_idle_power);
    Attribution {
        windows: windows.energies.iter().flatten().count(),
        still_windows: windows.still,
        short_windows: windows.short,
        idle_power: mean_power(&windows.of_kind(SpanKind::Idle)),
        active_idle_power,
        signatures,
        pass,
        balance,
        counting: steady.counting,
        reference: steady.reference,
        stretches,
    }
}

/// The windows of a trace by what ran in them, with one meter's energies.
struct Windows<'a> {
    trace: &'a Trace,
    meter: usize,
    energies: Vec<Option<Joules>>,
    /// Windows over which the meter stood still.
    still: usize,
    /// Windows that are too short for the meter.
    short: usize,
    /// Positions of the spans that the meter read and that count.
    kinds: HashMap<SpanKind, Vec<u32>>,
}

impl<'a> Windows<'a> {
    fn of(trace: &'a Trace, meter: usize) -> Self {
        let edges = edge_energies(trace, meter);
        let still = still(trace, meter, &edges);
        let short = too_short(trace, meter);
        let frozen = frozen(trace, meter).map_or(Vec::new(), |found| found.doubtful);
        let energies: Vec<Option<Joules>> =
            edges.iter().map(|edges| edges.map(|[start, end]| end - start)).collect();
        let mut kinds: HashMap<SpanKind, Vec<u32>> = HashMap::new();
        let counts = energies
            .iter()
            .zip(still.doubtful.iter().zip(&short))
            .map(|(energy, (&doubtful, &short))| energy.is_some() && !doubtful && !short)
            .enumerate()
            .map(|(span, counts)| counts && !frozen.get(span).is_some_and(|&frozen| frozen));
        for ((at, span), _) in (0..).zip(&trace.spans).zip(counts).filter(|&(_, counts)| counts) {
            kinds.entry(span.kind).or_default().push(at);
        }
        let short = energies.iter().zip(&short).filter(|(energy, short)| energy.is_some() && **short).count();
        Self { trace, meter, energies, still: still.windows, short, kinds }
    }

    fn of_kind(&self, kind: SpanKind) -> Vec<Reading> {
        self.spans_of(kind).map(|(_, reading)| reading).collect()
    }

    fn spans_of(&self, kind: SpanKind) -> impl Iterator<Item = (&'a Span, Reading)> {
        let spans = self.kinds.get(&kind).map_or(&[][..], Vec::as_slice);
        spans.iter().filter_map(|&at| {
            let span = &self.trace.spans[at as usize];
            Some((span, reading(self.trace, span, self.meter, self.energies[at as usize]?)))
        })
    }
}

/// How many layers of a pass have each signature.
pub fn signature_counts(trace: &Trace) -> Vec<u64> {
    let mut counts = vec![0; trace.header.signatures.len()];
    for signature in trace.header.layers.iter().filter_map(|layer| layer.signature) {
        if let Some(count) = counts.get_mut(signature) {
            *count += 1;
        }
    }
    counts
}
