//! Batch norm at inference.

use crate::backend::BackendError;
use crate::network::Role;

use super::kernel::{Inputs, Job, Kernel};
use super::parallel::{Scratch, for_each_plane};

/// One multiplication and one addition for each element; the statistics are folded into two numbers a channel.
pub(super) struct BatchNormKernel {
    plane: usize,
    /// gamma / sqrt(variance + epsilon)
    factors: Vec<f32>,
    /// beta - mean * factor
    offsets: Vec<f32>,
}

impl BatchNormKernel {
    pub(super) fn new(job: &Job<'_>, epsilon: f32) -> Result<Self, BackendError> {
        let [scale, shift] = [job.required(Role::Scale)?, job.required(Role::Shift)?];
        let [mean, variance] = [job.required(Role::Mean)?, job.required(Role::Variance)?];
        // In f64, so that folding adds no error of its own.
        let factor = |c: usize| f64::from(scale[c]) / (f64::from(variance[c]) + f64::from(epsilon)).sqrt();
        let offset = |c: usize| f64::from(shift[c]) - f64::from(mean[c]) * factor(c);
        Ok(Self {
            plane: job.input().iter().skip(1).product(),
            factors: (0..scale.len()).map(|c| factor(c) as f32).collect(),
            offsets: (0..scale.len()).map(|c| offset(c) as f32).collect(),
        })
    }
}

impl Kernel for BatchNormKernel {
    fn algorithm(&self) -> &'static str {
        "direct"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], _: &Scratch) {
        let x = inputs.get(0);
        for_each_plane(out, self.plane, self.plane, |index, out| {
            let (factor, offset) =
                (self.factors[index % self.factors.len()], self.offsets[index % self.offsets.len()]);
            let x = &x[index * self.plane..];
            out.iter_mut().zip(x).for_each(|(y, &x)| *y = x * factor + offset);
        });
    }
}
