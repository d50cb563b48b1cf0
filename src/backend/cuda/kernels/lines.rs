//! Reductions over whole lines: global pooling and softmax.

use super::launch::{FormError, Launch, THREADS, Tensor, long};
use super::source::Family;

/// From this length on a line of neighbouring numbers has a block of its own.
const WORTH_A_BLOCK: usize = 32;

/// y = the mean over height and width of x, C x 1 x 1.
///
/// # Errors
///
/// x was flattened from channels-last order, or is not C x H x W.
pub(in crate::backend::cuda) fn global_average_pool(
    x: Tensor<'_>,
    y: Tensor<'_>,
) -> Result<Launch, FormError> {
    global_pool("global_pool_average", "global_avg_pool", x, y)
}

/// y = the maximum over height and width of x, C x 1 x 1.
///
/// # Errors
///
/// As [`global_average_pool`].
pub(in crate::backend::cuda) fn global_max_pool(x: Tensor<'_>, y: Tensor<'_>) -> Result<Launch, FormError> {
    global_pool("global_pool_max", "global_max_pool", x, y)
}

fn global_pool(
    kernel: &'static str,
    operation: &'static str,
    x: Tensor<'_>,
    y: Tensor<'_>,
) -> Result<Launch, FormError> {
    let [channels, height, width] = x.form.planes().ok_or_else(|| x.wrong_axes(operation))?;
    x.strides(operation)?;
    let inner = if x.form.channels_last.is_some() { channels } else { 1 };
    let lines = x.form.batch * channels;
    let arguments = vec![x.pointer(), y.pointer(), long(lines), long(height * width), long(inner)];
    let family = Family::GlobalPool;
    // The kernel makes the same choice by `inner`.
    Ok(if inner == 1 {
        Launch::blocks(family, kernel, lines, [THREADS, 1, 1], arguments)
    } else {
        Launch::threads(family, kernel, lines, arguments)
    })
}

/// y = softmax of x along an axis of the item. Both lie the same way and may be the same.
///
/// # Errors
///
/// x was flattened from channels-last order, or has no such axis.
pub(in crate::backend::cuda) fn softmax(
    axis: usize,
    x: Tensor<'_>,
    y: Tensor<'_>,
) -> Result<Launch, FormError> {
    debug_assert_eq!(x.form, y.form);
    let (length, inner) = x.axis(axis, "softmax")?;
    let lines = x.form.elements() / length;
    let mut arguments = vec![x.pointer(), y.pointer(), long(lines), long(length)];
    let family = Family::Softmax;
    Ok(if inner == 1 && length >= WORTH_A_BLOCK {
        Launch::blocks(family, "softmax_block", lines, [THREADS, 1, 1], arguments)
    } else {
        arguments.push(long(inner));
        Launch::threads(family, "softmax_thread", lines, arguments)
    })
}
