//! Sums by kind.

use std::collections::BTreeMap;

use crate::attribution::{Attribution, SignatureEnergy, work_sum};
use crate::stats::Uncertain;
use crate::trace::Trace;

use super::run_file::{KindRow, Phase};

/// One row for each kind that executes something, most energy first. Layers without an energy are left out of
/// the sums, and of the row's count.
pub(super) fn kind_rows(trace: &Trace, attribution: &Attribution, whole: Option<f64>) -> Vec<KindRow> {
    // For each kind, how many of its layers have which signature.
    let mut kinds: BTreeMap<&str, BTreeMap<usize, usize>> = BTreeMap::new();
    for layer in &trace.header.layers {
        if let Some(signature) = layer.signature {
            *kinds.entry(layer.kind.as_str()).or_default().entry(signature).or_default() += 1;
        }
    }
    let mut rows: Vec<KindRow> =
        kinds.into_iter().map(|(kind, counts)| kind_row(kind, &counts, attribution, whole)).collect();
    let energy = |row: &KindRow| row.energy_j.map_or(f64::NEG_INFINITY, |e| e.value.value());
    rows.sort_by(|a, b| energy(b).total_cmp(&energy(a)).then_with(|| a.kind.cmp(&b.kind)));
    rows
}

fn kind_row(
    kind: &str,
    counts: &BTreeMap<usize, usize>,
    attribution: &Attribution,
    whole: Option<f64>,
) -> KindRow {
    let known: Vec<(usize, &SignatureEnergy)> = counts
        .iter()
        .filter_map(|(&signature, &count)| Some((count, attribution.signatures.get(signature)?)))
        .filter(|(_, work)| work.energy.is_some())
        .collect();
    let parts: Vec<(f64, &SignatureEnergy)> =
        known.iter().map(|&(count, work)| (count as f64, work)).collect();
    let sum = work_sum(&parts);
    // The idle power's own error multiplies the kind's whole time.
    let dynamic = sum.and_then(|s| s.dynamic_alone.zip(attribution.active_idle_power).zip(Some(s.time)));
    KindRow {
        kind: kind.to_string(),
        phase: Phase::Forward,
        layers: known.iter().map(|(count, _)| count).sum(),
        time_s: sum.map(|s| s.time.estimate()),
        energy_j: sum.map(|s| s.energy.estimate()),
        energy_dynamic_j: dynamic.map(|((dynamic, idle), time)| {
            dynamic.plus(Uncertain { value: 0.0, ..idle.times(time.value) }).estimate()
        }),
        share: sum.zip(whole).map(|(s, whole)| s.energy.value / whole),
    }
}
