//! What happens to the sums of a convolution or a linear layer before they are stored.

use crate::backend::BackendError;
use crate::network::{Activation, Role};

use super::activation;
use super::kernel::Job;
use super::panels::RowTerms;

/// Bias, then the layers that a plan fused with this one: batch norm (folded into weights and bias), a sum
/// with another tensor, an activation.
#[derive(Debug, Clone)]
pub(super) struct Epilogue {
    /// What each output channel's weights are multiplied with.
    factors: Option<Vec<f32>>,
    /// One for each output channel.
    bias: Vec<f32>,
    activation: Option<Activation>,
}

impl Epilogue {
    /// That of a step whose layer has `channels` output channels.
    pub(super) fn new(job: &Job<'_>, channels: usize) -> Result<Self, BackendError> {
        let stored = job.stored(Role::Bias);
        let bias = |c: usize| stored.as_ref().map_or(0.0, |bias| bias[c]);
        let affine = &job.fused.affine;
        if affine.as_ref().is_some_and(|affine| affine.factors.len() != channels) {
            return Err(job.unsupported(format!("its batch norm has not {channels} channels")));
        }
        let folded = |c: usize| affine.as_ref().map_or(bias(c), |affine| affine.of(c, bias(c)));
        Ok(Self {
            bias: (0..channels).map(folded).collect(),
            factors: affine.as_ref().map(|affine| affine.factors.clone()),
            activation: job.fused.activation,
        })
    }

    /// Factor and bias of an output channel.
    pub(super) fn terms(&self, channel: usize) -> RowTerms {
        RowTerms { factor: self.factor(channel), bias: self.bias(channel) }
    }

    /// What an output channel's weights are multiplied with.
    pub(super) fn factor(&self, channel: usize) -> f32 {
        self.factors.as_ref().map_or(1.0, |factors| factors[channel])
    }

    pub(super) fn bias(&self, channel: usize) -> f32 {
        self.bias[channel]
    }

    /// Applies the fused activation, if there is one.
    #[inline(always)]
    pub(super) fn activate(&self, out: &mut [f32]) {
        if let Some(activation) = self.activation {
            activation::apply(activation, out);
        }
    }
}
