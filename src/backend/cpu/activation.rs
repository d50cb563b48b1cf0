//! Element-wise activations.

use crate::network::Activation;

use super::kernel::{Inputs, Kernel};
use super::parallel::{Scratch, for_each_piece};

/// One function of each element. NaN stays NaN.
pub(super) struct ActivationKernel(pub(super) Activation);

impl Kernel for ActivationKernel {
    fn algorithm(&self) -> &'static str {
        "direct"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], _: &Scratch) {
        let x = inputs.get(0);
        // The match is outside the loops, so that each closure becomes a loop of its own.
        match self.0 {
            Activation::Relu => map(x, out, |x| if x < 0.0 { 0.0 } else { x }),
            Activation::Relu6 => map(x, out, |x| clip(x, 0.0, 6.0)),
            Activation::LeakyRelu { alpha } => map(x, out, |x| if x < 0.0 { alpha * x } else { x }),
            Activation::Sigmoid => map(x, out, |x| 1.0 / (1.0 + (-x).exp())),
            Activation::Tanh => map(x, out, f32::tanh),
            Activation::Silu => map(x, out, |x| x / (1.0 + (-x).exp())),
            Activation::HardSwish => map(x, out, |x| x * clip(x * (1.0 / 6.0) + 0.5, 0.0, 1.0)),
            Activation::HardSigmoid { alpha, beta } => map(x, out, |x| clip(alpha * x + beta, 0.0, 1.0)),
            Activation::Clip { min, max } => map(x, out, |x| clip(x, min, max)),
        }
    }
}

fn map(x: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
    for_each_piece(out, |start, piece| {
        piece.iter_mut().zip(&x[start..]).for_each(|(y, &x)| *y = f(x));
    });
}

/// min(max(x, low), high), but NaN stays NaN, which `f32::max` would drop.
fn clip(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}
