//! Whether two runs of the same network say the same.

use std::collections::BTreeMap;

use crate::stats::Uncertain;
use crate::trace::{SpanKind, Trace};

use super::{Attribution, SignatureEnergy, attribute, work_sum};

/// One energy in two runs, in joules.
#[derive(Debug, Clone, PartialEq)]
pub struct EnergyPair {
    /// Whose energy.
    pub name: String,
    /// In the first run.
    pub first: Uncertain,
    /// In the second run.
    pub second: Uncertain,
}

impl EnergyPair {
    /// Second less first; the runs are independent.
    pub fn difference(&self) -> Uncertain {
        self.second.minus(self.first)
    }

    /// Whether zero lies within the difference's interval at a confidence.
    pub fn agrees(&self, confidence: f64) -> bool {
        let difference = self.difference();
        difference.value.abs() <= difference.half_width(confidence)
    }
}

/// The confidence of each of `count` intervals with which all of them hold at 95 % or more, whatever their
/// dependence (Bonferroni: Dunn 1961, 10.1080/01621459.1961.10482090).
pub fn family_confidence(count: usize) -> f64 {
    1.0 - 0.05 / count.max(1) as f64
}

/// The energies that two runs of one network have in common, by their primary meters: each signature under the
/// name of its first layer, each kind, and the whole pass.
pub fn energy_pairs(first: &Trace, second: &Trace) -> Vec<EnergyPair> {
    let [a, b] = [first, second].map(|trace| attribute(trace, trace.header.primary_meter));
    let mut pairs = Vec::new();
    let mut pair = |name: String, first: Option<Uncertain>, second: Option<Uncertain>| {
        pairs.extend(first.zip(second).map(|(first, second)| EnergyPair { name, first, second }));
    };
    let mut kinds: BTreeMap<&str, BTreeMap<usize, usize>> = BTreeMap::new();
    let mut named = vec![false; a.signatures.len()];
    for layer in &first.header.layers {
        let Some(signature) = layer.signature.filter(|&s| s < named.len()) else { continue };
        *kinds.entry(&layer.kind).or_default().entry(signature).or_default() += 1;
        if !std::mem::replace(&mut named[signature], true) {
            let energy = |run: &Attribution| run.signatures.get(signature)?.energy;
            pair(layer.name.clone(), energy(&a), energy(&b));
        }
    }
    for (kind, counts) in kinds {
        let energy = |run: &Attribution| {
            let part = |(&s, &n): (&usize, &usize)| Some((n as f64, run.signatures.get(s)?));
            let parts: Option<Vec<(f64, &SignatureEnergy)>> = counts.iter().map(part).collect();
            Some(work_sum(&parts?)?.energy)
        };
        pair(format!("all {kind}"), energy(&a), energy(&b));
    }
    pair("pass".to_string(), a.pass.energy, b.pass.energy);
    pairs
}

/// Mean power above active idle in the windows of a null run, in watts: zero within its interval, unless the
/// procedure itself makes joules. None without two windows of each.
pub fn null_power(trace: &Trace) -> Option<Uncertain> {
    debug_assert!(!trace.spans.iter().any(|span| matches!(span.kind, SpanKind::Replay(_))));
    let attribution = attribute(trace, trace.header.primary_meter);
    Some(attribution.pass.power?.minus(attribution.active_idle_power?))
}
