//! Which layers are computed in one step.

use crate::network::{LayerKind, Network, TensorRef};

/// For each layer that begins a step, the layers of the step; empty for the others. With `fuse` off, every
/// layer is a step of its own.
///
/// A chain grows only through tensors that nobody else reads: a convolution takes up a batch norm, a sum with a
/// tensor of the same shape, and an activation, in this order; a linear layer, a batch norm or a sum takes up
/// an activation.
pub(super) fn chains(network: &Network, fuse: bool) -> Vec<Vec<usize>> {
    let mut chains: Vec<Vec<usize>> = (0..network.layers.len()).map(|index| vec![index]).collect();
    if !fuse {
        return chains;
    }
    let readers = only_readers(network);
    let mut taken = vec![false; network.layers.len()];
    for head in 0..network.layers.len() {
        if taken[head] {
            chains[head].clear();
            continue;
        }
        let mut stage = Stage::of(&network.layers[head].kind);
        let mut last = head;
        while let Some(next) = readers[last].filter(|&next| !taken[next]) {
            let Some(reached) = stage.after(network, last, next) else { break };
            stage = reached;
            taken[next] = true;
            chains[head].push(next);
            last = next;
        }
    }
    chains
}

/// How much of "convolution, batch norm, sum, activation" a chain already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Convolved,
    Normalised,
    Summed,
    Activated,
}

impl Stage {
    /// What a step that begins with this kind may still take up.
    fn of(head: &LayerKind) -> Self {
        match head {
            LayerKind::Conv(_) => Self::Convolved,
            LayerKind::Linear(_) | LayerKind::BatchNorm { .. } | LayerKind::Add { .. } => Self::Summed,
            _ => Self::Activated,
        }
    }

    /// The stage after `next` has been taken up; none if it cannot be.
    fn after(self, network: &Network, last: usize, next: usize) -> Option<Self> {
        let layer = &network.layers[next];
        let reached = match &layer.kind {
            LayerKind::BatchNorm { .. } => Self::Normalised,
            LayerKind::Add { operand: None } if is_plain_sum(network, last, next) => Self::Summed,
            LayerKind::Activation(_) => Self::Activated,
            _ => return None,
        };
        (self < reached).then_some(reached)
    }
}

/// Whether a layer adds two different tensors of its output's shape.
fn is_plain_sum(network: &Network, last: usize, sum: usize) -> bool {
    let layer = &network.layers[sum];
    let others = layer.inputs.iter().filter(|&&tensor| tensor != TensorRef::Layer(last)).count();
    let whole = |&tensor: &TensorRef| network.shape(tensor) == layer.output.as_slice();
    layer.inputs.len() == 2 && others == 1 && layer.inputs.iter().all(whole)
}

/// For each layer, the layer that reads its output if there is exactly one, which reads it once.
fn only_readers(network: &Network) -> Vec<Option<usize>> {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); network.layers.len()];
    for (index, layer) in network.layers.iter().enumerate() {
        for &tensor in &layer.inputs {
            if let TensorRef::Layer(read) = tensor {
                readers[read].push(index);
            }
        }
    }
    readers.iter().map(|r| if let &[only] = r.as_slice() { Some(only) } else { None }).collect()
}
