//! Network to plan.

use std::collections::HashMap;

use crate::network::{Layer, Network, TensorRef, shape_text};

use super::buffers::Buffers;
use super::{BufferId, Plan, PlanError, PlanOptions, Signature, Step, fuse};

impl Plan {
    /// Plans a network: one step for each layer that moves data, or for several with [`PlanOptions::fuse`];
    /// buffers are reused when free.
    ///
    /// # Errors
    ///
    /// An empty batch, or a tensor that does not fit the address space.
    pub fn new(network: &Network, options: &PlanOptions) -> Result<Self, PlanError> {
        let batch = options.batch;
        if batch == 0 {
            return Err(PlanError::EmptyBatch);
        }
        let size = |name: &str, shape: &[usize]| {
            let elements: usize = shape.iter().product();
            elements
                .checked_mul(batch)
                .filter(|&n| n <= isize::MAX as usize / 8)
                .ok_or_else(|| PlanError::TooLarge { layer: name.to_string(), batch, elements })
        };
        let readers = reader_counts(network);
        let mut buffers = Buffers::new(options.keep_all);
        // The input and the results are read once more than the graph says, so that they are never reused.
        let input = buffers.take(size("input", &network.input)?, readers.input + 1);
        let mut plan = Self {
            batch,
            precision: options.precision,
            layout: options.layout,
            steps: Vec::new(),
            buffers: Vec::new(),
            input,
            signatures: Vec::new(),
            step_of_layer: vec![None; network.layers.len()],
            buffer_of_layer: vec![input; network.layers.len()],
        };
        let mut by_text: HashMap<String, usize> = HashMap::new();
        // A step runs where its last layer stands: there everything that any of its layers reads exists.
        let mut chain_ending_at = vec![None; network.layers.len()];
        for chain in fuse::chains(network, options.fuse) {
            if let Some(&last) = chain.last() {
                chain_ending_at[last] = Some(chain);
            }
        }
        for (index, layer) in network.layers.iter().enumerate() {
            let Some(layers) = chain_ending_at[index].take() else { continue };
            let reads = outside_tensors(network, &layers);
            let inputs: Vec<BufferId> = reads.iter().map(|&t| plan.buffer(t)).collect();
            let uses = readers.layers[index].max(1);
            if layer.kind.is_view() {
                buffers.add_readers(inputs[0], uses);
                buffers.release(inputs[0]);
                plan.buffer_of_layer[index] = inputs[0];
                continue;
            }
            let output = buffers.take(size(&layer.name, &layer.output)?, uses);
            inputs.iter().for_each(|&id| buffers.release(id));
            let text = signature_text(network, &layers, options);
            let signature = *by_text.entry(text.clone()).or_insert_with(|| {
                plan.signatures.push(Signature { text, steps: Vec::new() });
                plan.signatures.len() - 1
            });
            plan.signatures[signature].steps.push(plan.steps.len());
            for &layer in &layers {
                plan.step_of_layer[layer] = Some(plan.steps.len());
                plan.buffer_of_layer[layer] = output;
            }
            plan.steps.push(Step { layers, reads, inputs, output, signature });
        }
        plan.buffers = buffers.into_sizes();
        Ok(plan)
    }

    /// Bytes of all buffers.
    pub fn buffer_bytes(&self) -> u64 {
        self.buffers.iter().map(|&n| (n * self.precision.bytes()) as u64).sum()
    }

    /// The buffer that holds a tensor after its step.
    pub fn buffer(&self, tensor: TensorRef) -> BufferId {
        match tensor {
            TensorRef::Input => self.input,
            TensorRef::Layer(index) => self.buffer_of_layer[index],
        }
    }
}

struct Readers {
    input: usize,
    layers: Vec<usize>,
}

fn reader_counts(network: &Network) -> Readers {
    let mut readers = Readers { input: 0, layers: vec![0; network.layers.len()] };
    for tensor in network.layers.iter().flat_map(|l| &l.inputs) {
        match *tensor {
            TensorRef::Input => readers.input += 1,
            TensorRef::Layer(index) => readers.layers[index] += 1,
        }
    }
    readers
}

/// What the layers of a step read that none of them computes.
fn outside_tensors(network: &Network, layers: &[usize]) -> Vec<TensorRef> {
    let inside = |tensor: &TensorRef| matches!(tensor, TensorRef::Layer(i) if layers.contains(i));
    let inputs = layers.iter().flat_map(|&index| &network.layers[index].inputs);
    inputs.copied().filter(|tensor| !inside(tensor)).collect()
}

/// Everything that decides what a kernel does; equal texts mean equal work.
fn signature_text(network: &Network, layers: &[usize], options: &PlanOptions) -> String {
    let part = |&index: &usize| {
        let layer: &Layer = &network.layers[index];
        let inputs: Vec<String> = layer.inputs.iter().map(|&t| shape_text(network.shape(t))).collect();
        format!("{} {} -> {}", inputs.join("+"), layer.kind, shape_text(&layer.output))
    };
    let parts: Vec<String> = layers.iter().map(part).collect();
    let PlanOptions { batch, precision, layout, .. } = options;
    format!("forward {precision} {layout} n{batch} {}", parts.join(" then "))
}
