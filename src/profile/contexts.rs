//! What each kind of work is measured within.

use std::collections::HashMap;

use crate::network::Network;
use crate::plan::{Excerpt, Plan, beginnings, excerpts};
use crate::trace::{Base, BeginningRecord, Context, ExcerptRecord, LayerRecord};

/// Bytes that two steps of one signature may differ by, as a part of all that they move, to be measured together.
const ALIKE: f64 = 0.02;
/// Parts of the pass whose energy is compared with that of their layers.
const PARTS: usize = 6;

/// Kinds of work that are measured once each, and within what.
pub(super) struct Contexts {
    /// Their texts.
    pub(super) signatures: Vec<String>,
    /// That of each step of the plan.
    pub(super) of_step: Vec<usize>,
    /// Within what each is measured; none where each is repeated alone.
    pub(super) contexts: Vec<Context>,
    /// What runs beside these.
    pub(super) excerpts: Vec<ExcerptRecord>,
    /// Those of them against which sums of layers are checked.
    pub(super) beginnings: Vec<BeginningRecord>,
}

impl Contexts {
    /// Every signature of the plan, repeated alone.
    pub(super) fn alone(plan: &Plan) -> Self {
        Self {
            signatures: plan.signatures.iter().map(|signature| signature.text.clone()).collect(),
            of_step: plan.steps.iter().map(|step| step.signature).collect(),
            contexts: Vec::new(),
            excerpts: Vec::new(),
            beginnings: Vec::new(),
        }
    }

    /// Every signature within what comes before it in the network, on a device with a last-level cache of so many bytes.
    /// Steps of one signature that find other data there stand apart.
    pub(super) fn of(network: &Network, plan: &Plan, cache_bytes: f64) -> Self {
        let all = excerpts(network, plan, cache_bytes);
        let mut all_of: Vec<(usize, Excerpt)> = Vec::new();
        let mut of_step = Vec::with_capacity(all.len());
        for (step, excerpt) in all.iter().enumerate() {
            let signature = plan.steps[step].signature;
            let alike = |(other, known): &(usize, Excerpt)| {
                let larger = known.memory_bytes.max(excerpt.memory_bytes);
                *other == signature && (known.memory_bytes - excerpt.memory_bytes).abs() <= ALIKE * larger
            };
            let at = all_of.iter().position(alike).unwrap_or_else(|| {
                all_of.push((signature, *excerpt));
                all_of.len() - 1
            });
            // The shortest is the one in which the layer's own part is the largest.
            let length = |excerpt: &Excerpt| (excerpt.last - excerpt.first, excerpt.error_bytes);
            if length(excerpt) < length(&all_of[at].1) {
                all_of[at].1 = *excerpt;
            }
            of_step.push(at);
        }
        let records: Vec<ExcerptRecord> = all_of.iter().map(|(_, excerpt)| record(excerpt)).collect();
        let measured: HashMap<ExcerptRecord, usize> =
            records.iter().enumerate().map(|(at, record)| (*record, at)).collect();
        let mut others: Vec<ExcerptRecord> = Vec::new();
        let contexts = all_of.iter().zip(&records).map(|((_, excerpt), &record)| {
            let base = (record.first < record.last).then(|| {
                let base = ExcerptRecord { last: record.last - 1, ..record };
                measured
                    .get(&base)
                    .map_or_else(|| Base::Excerpt(place(&mut others, base)), |&at| Base::Replay(at))
            });
            Context { excerpt: record, base, error_bytes: excerpt.error_bytes }
        });
        let contexts = contexts.collect();
        let of_pass = beginnings(network, plan, cache_bytes, PARTS).into_iter().map(|beginning| {
            let excerpt = ExcerptRecord { first: 0, last: beginning.last, fresh: beginning.fresh };
            BeginningRecord { excerpt: place(&mut others, excerpt), excess_bytes: beginning.excess_bytes }
        });
        let beginnings = of_pass.collect();
        let text = |(signature, _): &(usize, Excerpt)| plan.signatures[*signature].text.clone();
        Self {
            signatures: all_of.iter().map(text).collect(),
            of_step,
            contexts,
            excerpts: others,
            beginnings,
        }
    }

    /// Layers with the numbers of these signatures.
    pub(super) fn layers(&self, plan: &Plan, mut layers: Vec<LayerRecord>) -> Vec<LayerRecord> {
        for (layer, step) in layers.iter_mut().zip(&plan.step_of_layer) {
            layer.signature = layer.signature.and(step.and_then(|step| self.of_step.get(step).copied()));
        }
        layers
    }
}

fn record(excerpt: &Excerpt) -> ExcerptRecord {
    ExcerptRecord { first: excerpt.first, last: excerpt.last, fresh: excerpt.fresh }
}

/// The place of an excerpt in a list, where it is put if it is not there.
fn place(list: &mut Vec<ExcerptRecord>, excerpt: ExcerptRecord) -> usize {
    list.iter().position(|known| *known == excerpt).unwrap_or_else(|| {
        list.push(excerpt);
        list.len() - 1
    })
}
