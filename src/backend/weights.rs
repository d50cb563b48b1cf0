//! Numbers for weights and input.

use std::sync::Arc;

use crate::network::Network;

/// How to draw what the network file does not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightOptions {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Items in the input.
    pub batch: usize,
}

/// All stored tensors of a network and one batch of input.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensors {
    /// For each layer, its parameters in the order of [`crate::network::Layer::parameters`], row-major.
    pub parameters: Vec<Vec<Arc<[f32]>>>,
    /// The whole batch, row-major: batch x the network's input shape.
    pub input: Vec<f32>,
    /// How they were made, in words.
    pub distribution: String,
}

impl Tensors {
    /// Takes the file's numbers and draws the others.
    pub fn new(_network: &Network, _options: &WeightOptions) -> Self {
        Self { parameters: Vec::new(), input: Vec::new(), distribution: String::new() }
    }
}
