//! Element-wise activations.

use crate::network::Activation;

use super::kernel::{Inputs, Kernel};
use super::parallel::{Workers, for_each_piece};

/// Elements that are copied and then transformed in place: they stay in the L1 cache.
const PART: usize = 2048;

/// One function of each element. NaN stays NaN.
pub(super) struct ActivationKernel(pub(super) Activation);

impl Kernel for ActivationKernel {
    fn algorithm(&self) -> &'static str {
        "direct"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        let x = inputs.get(0);
        for_each_piece(workers, out, |start, piece| {
            for (y, x) in piece.chunks_mut(PART).zip(x[start..].chunks(PART)) {
                y.copy_from_slice(&x[..y.len()]);
                apply(self.0, y);
            }
        });
    }
}

/// Replaces each value by its activation.
#[inline(always)]
pub(super) fn apply(activation: Activation, values: &mut [f32]) {
    // The match is outside the loops, so that each closure becomes a loop of its own.
    match activation {
        Activation::Relu => map(values, |x| if x < 0.0 { 0.0 } else { x }),
        Activation::Relu6 => map(values, |x| clip(x, 0.0, 6.0)),
        Activation::LeakyRelu { alpha } => map(values, |x| if x < 0.0 { alpha * x } else { x }),
        Activation::Sigmoid => map(values, |x| 1.0 / (1.0 + (-x).exp())),
        Activation::Tanh => map(values, f32::tanh),
        Activation::Silu => map(values, |x| x / (1.0 + (-x).exp())),
        Activation::HardSwish => map(values, |x| x * clip(x * (1.0 / 6.0) + 0.5, 0.0, 1.0)),
        Activation::HardSigmoid { alpha, beta } => map(values, |x| clip(alpha * x + beta, 0.0, 1.0)),
        Activation::Clip { min, max } => map(values, |x| clip(x, min, max)),
    }
}

#[inline(always)]
fn map(values: &mut [f32], f: impl Fn(f32) -> f32) {
    values.iter_mut().for_each(|value| *value = f(*value));
}

/// min(max(x, low), high), but NaN stays NaN, which `f32::max` would drop.
#[inline(always)]
fn clip(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}
