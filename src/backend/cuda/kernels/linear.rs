//! Fully connected layers.

use super::launch::{Argument, FormError, Launch, Tensor, long};
use super::source::Family;

/// y = x times the weights (`outputs x features`, in y's precision), plus the f32 bias where there is one, over the last axis
/// of each item. Where the weights' columns were put into the order of a flattened channels-last x, x is passed as
/// [`row_major`](crate::backend::cuda::tensor::TensorForm::row_major).
///
/// # Errors
///
/// A tensor was flattened from channels-last order, or has no axis.
pub(in crate::backend::cuda) fn linear(
    x: Tensor<'_>,
    weights: u64,
    bias: Option<u64>,
    y: Tensor<'_>,
) -> Result<Launch, FormError> {
    let last = |tensor: Tensor<'_>| match (tensor.form.channels_last, tensor.form.shape.last()) {
        (None, Some(&size)) => Ok(size),
        (Some(channels_last), _) => {
            Err(FormError::Flattened { operation: "linear", shape: tensor.form.shape.clone(), channels_last })
        }
        (None, None) => Err(tensor.wrong_axes("linear")),
    };
    let (features, outputs, count) = (last(x)?, last(y)?, y.form.elements());
    let arguments = vec![
        x.pointer(),
        Argument::Pointer(weights),
        Argument::Pointer(bias.unwrap_or(0)),
        y.pointer(),
        long(count),
        long(features),
        long(outputs),
    ];
    Ok(Launch::threads(Family::Linear, "linear_direct", count, arguments))
}
