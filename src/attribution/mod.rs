//! From a trace to joules per kind of work, idle power and the balance. Pure: same trace, same result.
//!
//! Every quantity is a mean over rounds with Student's t; the formulas are those of JCGM 100:2008 (GUM), in
//! [`crate::stats::Uncertain`].

mod balance;
mod integrate;
mod signature;
mod sum;

pub use balance::{Balance, balance};
pub use integrate::{Reading, reading};
pub use signature::{RoundEnergy, SignatureEnergy, work_energy};
pub use sum::{WorkSum, work_sum};

use crate::stats::Uncertain;
use crate::trace::{SpanKind, Trace};

use signature::mean_power;

/// Everything one meter says about a run. Energies in joules, times in seconds, power in watts.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
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
}

/// Attributes a trace by one of its meters.
pub fn attribute(trace: &Trace, meter: usize) -> Attribution {
    let readings: Vec<Reading> = trace.spans.iter().filter_map(|span| reading(trace, span, meter)).collect();
    let power_of =
        |kind: SpanKind| mean_power(&readings.iter().filter(|r| r.kind == kind).copied().collect::<Vec<_>>());
    let active_idle_power = power_of(SpanKind::ActiveIdle);
    let of_kind = |kind: SpanKind| {
        let windows: Vec<Reading> = readings.iter().filter(|r| r.kind == kind).copied().collect();
        work_energy(&windows, active_idle_power)
    };
    let signatures: Vec<SignatureEnergy> =
        (0..trace.header.signatures.len()).map(|s| of_kind(SpanKind::Replay(s))).collect();
    let pass = of_kind(SpanKind::Pass);
    let counts = signature_counts(trace);
    let balance = balance(&signatures, &counts, &pass, active_idle_power);
    Attribution { idle_power: power_of(SpanKind::Idle), active_idle_power, signatures, pass, balance }
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
