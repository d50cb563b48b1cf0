//! Windows over C x H x W items: convolution, pooling, padding and local response normalisation. x and y may lie in
//! different layouts.

use crate::network::{Border, Conv, Lrn, Pool};
use crate::plan::Layout;

use super::launch::{Argument, FormError, Launch, Tensor, long, word};
use super::source::Family;

/// The weights of a convolution, in the precision of its tensors.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend::cuda) struct Weights {
    /// Address of the first.
    pub(in crate::backend::cuda) at: u64,
    /// NCHW: output channels, input channels of a group, rows, columns (KCRS); NHWC: input channels last (KRSC).
    pub(in crate::backend::cuda) layout: Layout,
}

/// The first arguments of every kernel here: x, y, y's numbers, `Output`, `Input`.
fn planes(operation: &'static str, x: Tensor<'_>, y: Tensor<'_>) -> Result<Vec<Argument>, FormError> {
    let [_, height, width] = x.form.planes().ok_or_else(|| x.wrong_axes(operation))?;
    let [channels, rows, columns] = y.form.planes().ok_or_else(|| y.wrong_axes(operation))?;
    let (from, _) = (x.strides(operation)?, y.strides(operation)?);
    let last = usize::from(y.form.channels_last.is_some());
    Ok(vec![
        x.pointer(),
        y.pointer(),
        long(y.form.elements()),
        words(&[channels, rows, columns, last]),
        words(&[x.form.item(), from[0], from[1], from[2], height, width]),
    ])
}

fn words(values: &[usize]) -> Argument {
    Argument::Words(values.iter().copied().map(word).collect())
}

/// `Window` of the kernels.
fn window(kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2], padding: [usize; 4]) -> Argument {
    let (top, left) = (padding[0], padding[1]);
    words(&[kernel[0], kernel[1], stride[0], stride[1], dilation[0], dilation[1], top, left])
}

fn launch(family: Family, kernel: &'static str, y: Tensor<'_>, arguments: Vec<Argument>) -> Launch {
    Launch::threads(family, kernel, y.form.elements(), arguments)
}

/// y = the convolution of x from its definition; the bias is f32.
///
/// # Errors
///
/// A tensor was flattened from channels-last order, or is not C x H x W.
pub(in crate::backend::cuda) fn conv(
    conv: &Conv,
    x: Tensor<'_>,
    weights: Weights,
    bias: Option<u64>,
    y: Tensor<'_>,
) -> Result<Launch, FormError> {
    let mut arguments = planes("conv", x, y)?;
    let channels = x.form.planes().map_or(0, |[channels, ..]| channels);
    let (inputs, outputs) = (channels / conv.groups, conv.out_channels / conv.groups);
    let [rows, columns] = conv.kernel;
    let filter = inputs * rows * columns;
    let strides = match weights.layout {
        Layout::Nchw => [filter, rows * columns, columns, 1],
        Layout::Nhwc => [filter, 1, columns * inputs, inputs],
    };
    arguments.splice(1..1, [Argument::Pointer(weights.at), Argument::Pointer(bias.unwrap_or(0))]);
    arguments.push(window(conv.kernel, conv.stride, conv.dilation, conv.padding));
    arguments.extend([words(&strides), long(inputs), long(outputs)]);
    Ok(launch(Family::Conv, "conv_direct", y, arguments))
}

/// y = the maximum over windows of x.
///
/// # Errors
///
/// As [`conv`].
pub(in crate::backend::cuda) fn max_pool(
    pool: &Pool,
    x: Tensor<'_>,
    y: Tensor<'_>,
) -> Result<Launch, FormError> {
    let mut arguments = planes("max_pool", x, y)?;
    arguments.push(window(pool.kernel, pool.stride, pool.dilation, pool.padding));
    Ok(launch(Family::Pool, "pool_max", y, arguments))
}

/// y = the mean over windows of x.
///
/// # Errors
///
/// As [`conv`].
pub(in crate::backend::cuda) fn average_pool(
    pool: &Pool,
    x: Tensor<'_>,
    y: Tensor<'_>,
) -> Result<Launch, FormError> {
    let mut arguments = planes("avg_pool", x, y)?;
    let [_, height, width] = x.form.planes().unwrap_or_default();
    arguments.push(window(pool.kernel, pool.stride, pool.dilation, pool.padding));
    // The rows and columns that count: the stated padding or none of it, and never what ceil mode adds, as in PyTorch.
    let [top, left, bottom, right] = if pool.count_include_pad { pool.padding } else { [0; 4] };
    let counted = [-word(top), word(height + bottom), -word(left), word(width + right)];
    arguments.push(Argument::Words(counted.to_vec()));
    Ok(launch(Family::Pool, "pool_average", y, arguments))
}

/// y = x with a border of a constant, or with a border cut off.
///
/// # Errors
///
/// As [`conv`].
pub(in crate::backend::cuda) fn pad(
    padding: Border,
    value: f32,
    x: Tensor<'_>,
    y: Tensor<'_>,
) -> Result<Launch, FormError> {
    let mut arguments = planes("pad", x, y)?;
    arguments.extend([
        Argument::I64(padding[0] as i64),
        Argument::I64(padding[1] as i64),
        Argument::F32(value),
    ]);
    Ok(launch(Family::Pad, "pad_constant", y, arguments))
}

/// y = x normalised over neighbouring channels.
///
/// # Errors
///
/// As [`conv`].
pub(in crate::backend::cuda) fn lrn(lrn: &Lrn, x: Tensor<'_>, y: Tensor<'_>) -> Result<Launch, FormError> {
    let mut arguments = planes("lrn", x, y)?;
    arguments.extend([
        long(lrn.size),
        Argument::F32(lrn.alpha),
        Argument::F32(lrn.beta),
        Argument::F32(lrn.k),
    ]);
    Ok(launch(Family::Lrn, "lrn", y, arguments))
}
