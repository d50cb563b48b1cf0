//! Batch norm at inference.

use std::sync::Arc;

use crate::backend::BackendError;
use crate::network::{Activation, Role};

use super::activation;
use super::kernel::{Inputs, Job, Kernel};
use super::parallel::{Workers, for_each_plane};

/// A factor and an offset for each channel: what the statistics of a batch norm amount to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Affine {
    /// gamma / sqrt(variance + epsilon)
    pub(super) factors: Vec<f32>,
    /// beta - mean * factor
    offsets: Vec<f32>,
}

impl Affine {
    /// That of a batch-norm layer.
    pub(super) fn new(job: &Job<'_>, epsilon: f32) -> Result<Self, BackendError> {
        let [scale, shift] = [job.required(Role::Scale)?, job.required(Role::Shift)?];
        let [mean, variance] = [job.required(Role::Mean)?, job.required(Role::Variance)?];
        // In f64, so that folding adds no error of its own.
        let factor = |c: usize| f64::from(scale[c]) / (f64::from(variance[c]) + f64::from(epsilon)).sqrt();
        let offset = |c: usize| f64::from(shift[c]) - f64::from(mean[c]) * factor(c);
        Ok(Self {
            factors: (0..scale.len()).map(|c| factor(c) as f32).collect(),
            offsets: (0..scale.len()).map(|c| offset(c) as f32).collect(),
        })
    }

    /// What becomes of a value in a channel.
    pub(super) fn of(&self, channel: usize, value: f32) -> f32 {
        value * self.factors[channel] + self.offsets[channel]
    }
}

/// One multiplication and one addition for each element, then the activation that was fused with it.
#[derive(Clone)]
pub(super) struct BatchNormKernel {
    plane: usize,
    affine: Affine,
    activation: Option<Activation>,
}

impl BatchNormKernel {
    pub(super) fn new(job: &Job<'_>, epsilon: f32) -> Result<Self, BackendError> {
        Ok(Self {
            plane: job.input().iter().skip(1).product(),
            affine: Affine::new(job, epsilon)?,
            activation: job.fused.activation,
        })
    }
}

impl Kernel for BatchNormKernel {
    fn algorithm(&self) -> &'static str {
        "direct"
    }

    fn copied(&self) -> Option<Arc<dyn Kernel>> {
        Some(Arc::new(self.clone()))
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        let x = inputs.get(0);
        for_each_plane(workers, out, self.plane, self.plane, |index, out| {
            let channel = index % self.affine.factors.len();
            let (factor, offset) = (self.affine.factors[channel], self.affine.offsets[channel]);
            let x = &x[index * self.plane..];
            out.iter_mut().zip(x).for_each(|(y, &x)| *y = x * factor + offset);
            if let Some(activation) = self.activation {
                activation::apply(activation, out);
            }
        });
    }
}
