//! The network as the trace and the run file describe it.

use crate::network::Network;
use crate::plan::Plan;
use crate::trace::{LayerRecord, NetworkRecord};

/// The network's totals for one pass of the plan's batch.
pub fn network_record(network: &Network, batch: usize) -> NetworkRecord {
    NetworkRecord {
        name: network.name.clone(),
        source: network.file.clone(),
        sha256: network.sha256.clone(),
        batch,
        set: network.set.clone(),
        parameters: network.trainable(),
        buffers: network.buffers(),
        flops: network.layers.iter().map(|l| whole(l.cost.flops, batch)).fold(0, u64::saturating_add),
        flops_elementwise: network
            .layers
            .iter()
            .map(|l| whole(l.cost.flops_elementwise, batch))
            .fold(0, u64::saturating_add),
    }
}

/// What computes a step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Computed {
    /// The algorithm.
    pub algorithm: Option<String>,
    /// Bytes that it needs beside its tensors.
    pub workspace_bytes: Option<u64>,
    /// The device's kernels that it runs, in order.
    pub kernels: Vec<String>,
}

/// The network's layers; `computed` tells what computes a step of the plan. The work of layers that are computed
/// together stands at the first of them.
pub fn layer_records(
    network: &Network,
    plan: &Plan,
    computed: impl Fn(usize) -> Computed,
) -> Vec<LayerRecord> {
    let names = |layers: &[usize]| layers.iter().map(|&i| network.layers[i].name.clone()).collect();
    let record = |(index, step): (usize, &Option<usize>)| {
        let layer = &network.layers[index];
        let bare = LayerRecord {
            name: layer.name.clone(),
            kind: layer.kind.name().to_string(),
            signature: None,
            fused: Vec::new(),
            fused_into: None,
            algorithm: None,
            workspace_bytes: None,
            kernels: Vec::new(),
            output: layer.output.clone(),
            flops: 0,
            flops_elementwise: 0,
            bytes: 0,
        };
        let Some(step) = *step else {
            return LayerRecord {
                flops_elementwise: whole(layer.cost.flops_elementwise, plan.batch),
                ..bare
            };
        };
        let layers = &plan.steps[step].layers;
        match layers.split_first() {
            Some((&first, fused)) if first == index => {
                let (flops, flops_elementwise, bytes) = work(network, plan, layers);
                let signature = Some(plan.steps[step].signature);
                let fused = names(fused);
                let Computed { algorithm, workspace_bytes, kernels } = computed(step);
                let bare = LayerRecord { algorithm, workspace_bytes, kernels, ..bare };
                LayerRecord { signature, fused, flops, flops_elementwise, bytes, ..bare }
            }
            first => LayerRecord { fused_into: first.map(|(&i, _)| network.layers[i].name.clone()), ..bare },
        }
    };
    plan.step_of_layer.iter().enumerate().map(record).collect()
}

/// FLOPs, element-wise FLOPs and bytes of layers that one step computes. What they hand to each other is neither
/// written nor read.
fn work(network: &Network, plan: &Plan, layers: &[usize]) -> (u64, u64, u64) {
    let batch = plan.batch;
    let sum = |of: &dyn Fn(usize) -> u64| layers.iter().map(|&i| of(i)).fold(0, u64::saturating_add);
    let handed_over = |&i: &usize| whole(network.layers[i].output.iter().product::<usize>() as u64, batch);
    let inner = layers.split_last().map_or(&[][..], |(_, inner)| inner);
    let inner = inner.iter().map(handed_over).fold(0, u64::saturating_add);
    let elements = sum(&|i| network.layers[i].elements(batch)).saturating_sub(inner.saturating_mul(2));
    (
        sum(&|i| whole(network.layers[i].cost.flops, batch)),
        sum(&|i| whole(network.layers[i].cost.flops_elementwise, batch)),
        elements.saturating_mul(plan.precision.bytes() as u64),
    )
}

fn whole(per_item: u64, batch: usize) -> u64 {
    per_item.saturating_mul(batch as u64)
}
