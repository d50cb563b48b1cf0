//! Sums by kind.

use std::collections::BTreeMap;

use crate::attribution::Attribution;
use crate::stats::Uncertain;
use crate::trace::Trace;

use super::run_file::{KindRow, Phase};

/// Sum of one kind's layers so far.
struct Sum {
    layers: usize,
    time: Uncertain,
    energy: Uncertain,
    dynamic: Option<Uncertain>,
}

/// One row for each kind that executes something, most energy first.
///
/// Layers of one signature are fully correlated, so their errors add up linearly; signatures are independent
/// but for the idle power, whose error multiplies the kind's whole time.
pub(super) fn kind_rows(trace: &Trace, attribution: &Attribution, whole: Option<f64>) -> Vec<KindRow> {
    // Layers of one kind and signature: their number.
    let mut groups: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    for layer in &trace.header.layers {
        if let Some(signature) = layer.signature {
            *groups.entry((layer.kind.as_str(), signature)).or_default() += 1;
        }
    }
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for ((kind, signature), count) in groups {
        let sum = sums.entry(kind).or_insert(Sum {
            layers: 0,
            time: Uncertain::exact(0.0),
            energy: Uncertain::exact(0.0),
            dynamic: Some(Uncertain::exact(0.0)),
        });
        let Some(work) = attribution.signatures.get(signature) else { continue };
        let (Some(energy), Some(time)) = (work.energy, work.time) else { continue };
        let n = count as f64;
        sum.layers += count;
        sum.time = sum.time.plus(time.times(n));
        sum.energy = sum.energy.plus(energy.times(n));
        sum.dynamic = sum.dynamic.zip(work.dynamic_alone).map(|(s, d)| s.plus(d.times(n)));
    }
    let mut rows: Vec<KindRow> = sums
        .into_iter()
        .map(|(kind, sum)| kind_row(kind, &sum, attribution.active_idle_power, whole))
        .collect();
    let energy = |row: &KindRow| row.energy_j.map_or(f64::NEG_INFINITY, |e| e.value.value());
    rows.sort_by(|a, b| energy(b).total_cmp(&energy(a)).then_with(|| a.kind.cmp(&b.kind)));
    rows
}

fn kind_row(kind: &str, sum: &Sum, idle: Option<Uncertain>, whole: Option<f64>) -> KindRow {
    let known = sum.layers > 0;
    let dynamic = sum
        .dynamic
        .zip(idle)
        .map(|(dynamic, idle)| dynamic.plus(Uncertain { value: 0.0, ..idle.times(sum.time.value) }));
    KindRow {
        kind: kind.to_string(),
        phase: Phase::Forward,
        layers: sum.layers,
        time_s: known.then(|| sum.time.estimate()),
        energy_j: known.then(|| sum.energy.estimate()),
        energy_dynamic_j: dynamic.filter(|_| known).map(|d| d.estimate()),
        share: whole.filter(|_| known).map(|whole| sum.energy.value / whole),
    }
}
