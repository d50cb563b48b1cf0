//! Depthwise convolutions: each output channel reads one input channel, so there is no matrix to multiply.

use std::sync::Arc;

use crate::backend::BackendError;
use crate::network::{Conv, Role};

use super::kernel::{Inputs, Job, Kernel};
use super::parallel::{Scratch, for_each_plane};
use super::window::{Window, fold_strided};

/// Adds one tap after the other to a row of the output.
pub(super) struct DepthwiseKernel {
    window: Window,
    out_channels: usize,
    /// Output channels for each input channel.
    multiplier: usize,
    /// Output channels x taps.
    weights: Arc<[f32]>,
    bias: Option<Arc<[f32]>>,
}

impl DepthwiseKernel {
    pub(super) fn new(job: &Job<'_>, conv: &Conv, window: Window) -> Result<Self, BackendError> {
        Ok(Self {
            window,
            out_channels: conv.out_channels,
            multiplier: conv.out_channels / conv.groups,
            weights: job.required(Role::Weight)?,
            bias: job.stored(Role::Bias),
        })
    }

    fn plane(&self, input: &[f32], weights: &[f32], bias: f32, out: &mut [f32]) {
        let Window { input: [_, width], output, kernel, stride, .. } = self.window;
        for (y, row) in out.chunks_exact_mut(output[1]).enumerate() {
            row.fill(bias);
            for ky in (0..kernel[0]).filter(|&ky| self.window.inside(0, ky).contains(&y)) {
                let source = &input[self.window.source(0, y, ky) * width..][..width];
                for kx in 0..kernel[1] {
                    let columns = self.window.inside(1, kx);
                    if columns.is_empty() {
                        continue;
                    }
                    let source = &source[self.window.source(1, columns.start, kx)..];
                    let weight = weights[ky * kernel[1] + kx];
                    fold_strided(&mut row[columns], source, stride[1], |sum, x| *sum += weight * x);
                }
            }
        }
    }
}

impl Kernel for DepthwiseKernel {
    fn algorithm(&self) -> &'static str {
        "direct_depthwise"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], _: &Scratch) {
        let (input, taps, plane) = (inputs.get(0), self.window.taps(), self.window.output_plane());
        for_each_plane(out, plane, plane.saturating_mul(taps), |index, out| {
            let channel = index % self.out_channels;
            let bias = self.bias.as_ref().map_or(0.0, |bias| bias[channel]);
            // A multiple of the input channels, so this counts the planes of the whole batch.
            let source = &input[index / self.multiplier * self.window.input_plane()..];
            let source = &source[..self.window.input_plane()];
            self.plane(source, &self.weights[channel * taps..][..taps], bias, out);
        });
    }
}
