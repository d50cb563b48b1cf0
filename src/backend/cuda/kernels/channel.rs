//! Activations, biases and batch normalisation: each number by itself, perhaps by its channel.

use crate::network::Activation;

use super::launch::{Argument, FormError, Launch, Tensor, long, packs};
use super::source::Family;

/// Where the four f32 vectors of a batch normalisation lie.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend::cuda) struct NormVectors {
    pub(in crate::backend::cuda) scale: u64,
    pub(in crate::backend::cuda) shift: u64,
    pub(in crate::backend::cuda) mean: u64,
    pub(in crate::backend::cuda) variance: u64,
}

/// y = the activation of x. Both lie the same way, whatever it is, and may be the same.
pub(in crate::backend::cuda) fn activation(kind: &Activation, x: Tensor<'_>, y: Tensor<'_>) -> Launch {
    debug_assert_eq!((x.form.elements(), x.form.channels_last), (y.form.elements(), y.form.channels_last));
    let (kernel, a, b) = match *kind {
        Activation::Relu => ("activation_relu", 0.0, 0.0),
        Activation::Relu6 => ("activation_relu6", 0.0, 0.0),
        Activation::LeakyRelu { alpha } => ("activation_leaky_relu", alpha, 0.0),
        Activation::Sigmoid => ("activation_sigmoid", 0.0, 0.0),
        Activation::Tanh => ("activation_tanh", 0.0, 0.0),
        Activation::Silu => ("activation_silu", 0.0, 0.0),
        Activation::HardSwish => ("activation_hard_swish", 0.0, 0.0),
        Activation::HardSigmoid { alpha, beta } => ("activation_hard_sigmoid", alpha, beta),
        Activation::Clip { min, max } => ("activation_clip", min, max),
    };
    let (count, packs) = (x.form.elements(), packs(x.form, &[x.at, y.at]));
    let arguments =
        vec![x.pointer(), y.pointer(), long(count), long(packs), Argument::F32(a), Argument::F32(b)];
    Launch::threads(Family::Activation, kernel, threads(count, packs), arguments)
}

/// y += bias along an axis of the item: 0 after a convolution, the last after a fully connected layer. The bias is f32.
///
/// # Errors
///
/// The form has no such axis.
pub(in crate::backend::cuda) fn bias(axis: usize, bias: u64, y: Tensor<'_>) -> Result<Launch, FormError> {
    let (channels, inner) = y.axis(axis, "bias")?;
    let (count, packs) = (y.form.elements(), packs(y.form, &[y.at]));
    let arguments =
        vec![y.pointer(), Argument::Pointer(bias), long(count), long(packs), long(channels), long(inner)];
    Ok(Launch::threads(Family::Bias, "bias_add", threads(count, packs), arguments))
}

/// y = batch normalisation of x along the first axis of the item. Both lie the same way and may be the same.
///
/// # Errors
///
/// The form has no such axis.
pub(in crate::backend::cuda) fn batch_norm(
    epsilon: f32,
    x: Tensor<'_>,
    vectors: NormVectors,
    y: Tensor<'_>,
) -> Result<Launch, FormError> {
    debug_assert_eq!(x.form, y.form);
    let (channels, inner) = x.axis(0, "batch_norm")?;
    let (count, packs) = (x.form.elements(), packs(x.form, &[x.at, y.at]));
    let arguments = vec![
        x.pointer(),
        y.pointer(),
        Argument::Pointer(vectors.scale),
        Argument::Pointer(vectors.shift),
        Argument::Pointer(vectors.mean),
        Argument::Pointer(vectors.variance),
        Argument::F32(epsilon),
        long(count),
        long(packs),
        long(channels),
        long(inner),
    ];
    Ok(Launch::threads(Family::BatchNorm, "batch_norm", threads(count, packs), arguments))
}

/// A thread for each pack, or for each number where there are no packs.
pub(super) fn threads(count: usize, packs: usize) -> usize {
    if packs > 0 { packs } else { count }
}
