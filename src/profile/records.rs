//! The network as the trace and the run file describe it.

use crate::network::Network;
use crate::plan::Plan;
use crate::trace::{LayerRecord, NetworkRecord};

/// The network's totals for one pass of the plan's batch.
pub fn network_record(network: &Network, batch: usize) -> NetworkRecord {
    let whole = |per_item: u64| per_item.saturating_mul(batch as u64);
    NetworkRecord {
        name: network.name.clone(),
        source: network.file.clone(),
        sha256: network.sha256.clone(),
        batch,
        set: network.set.clone(),
        parameters: network.trainable(),
        buffers: network.buffers(),
        flops: network.layers.iter().map(|l| whole(l.cost.flops)).fold(0, u64::saturating_add),
        flops_elementwise: network
            .layers
            .iter()
            .map(|l| whole(l.cost.flops_elementwise))
            .fold(0, u64::saturating_add),
    }
}

/// The network's layers; `algorithm` names what computes a step of the plan.
pub fn layer_records(
    network: &Network,
    plan: &Plan,
    algorithm: impl Fn(usize) -> Option<String>,
) -> Vec<LayerRecord> {
    let whole = |per_item: u64| per_item.saturating_mul(plan.batch as u64);
    network
        .layers
        .iter()
        .zip(&plan.step_of_layer)
        .map(|(layer, step)| LayerRecord {
            name: layer.name.clone(),
            kind: layer.kind.name().to_string(),
            signature: step.map(|s| plan.steps[s].signature),
            algorithm: step.and_then(&algorithm),
            output: layer.output.clone(),
            flops: whole(layer.cost.flops),
            flops_elementwise: whole(layer.cost.flops_elementwise),
            bytes: if step.is_some() { layer.bytes(plan.batch) } else { 0 },
        })
        .collect()
}
