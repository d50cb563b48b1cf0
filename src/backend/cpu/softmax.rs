//! Softmax along an axis.

use super::kernel::{Inputs, Job, Kernel};
use super::parallel::{Workers, for_each_plane};

/// exp(x - max) / sum: subtracting the maximum keeps the exponential from overflowing.
pub(super) struct SoftmaxKernel {
    /// Elements along the axis.
    len: usize,
    /// Distance between neighbours along the axis.
    stride: usize,
}

impl SoftmaxKernel {
    pub(super) fn new(job: &Job<'_>, axis: usize) -> Self {
        let shape = job.input();
        Self { len: shape[axis], stride: shape[axis + 1..].iter().product() }
    }
}

impl Kernel for SoftmaxKernel {
    fn algorithm(&self) -> &'static str {
        "direct"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        let input = inputs.get(0);
        let block = self.len * self.stride;
        // An exponential costs some ten elementary operations.
        for_each_plane(workers, out, block, block.saturating_mul(10), |index, out| {
            let x = &input[index * block..][..block];
            for first in 0..self.stride {
                let places = || (first..block).step_by(self.stride);
                let largest = places().fold(f32::NEG_INFINITY, |m, i| m.max(x[i]));
                let mut sum = 0.0;
                for i in places() {
                    out[i] = (x[i] - largest).exp();
                    sum += out[i];
                }
                places().for_each(|i| out[i] /= sum);
            }
        });
    }
}
