//! cuDNN: its handle, descriptors and calls, as little above the C interface as Rust needs.
//!
//! [`forward`] has the older calls, one a kind of layer; [`graph`] the newer interface, in which engines are asked for
//! that compute a graph of operations. The manual is "NVIDIA cuDNN Backend" (docs.nvidia.com/deeplearning/cudnn).

mod backend;
mod call;
mod convolution;
mod descriptors;
mod engine;
mod forward;
mod graph;
mod handle;
mod view;

/// Makes every descriptor of a convolution by both interfaces, none of which needs a GPU.
#[cfg(test)]
pub(super) fn descriptors_of(
    conv: &crate::network::Conv,
    layout: crate::plan::Layout,
    precision: crate::plan::Precision,
) -> Result<(), crate::backend::cuda::failure::Failure> {
    use descriptors::{ActivationDescriptor, ConvolutionDescriptor, FilterDescriptor};
    let channels = 8;
    graph::descriptors_of(conv, channels, layout, precision)?;
    let x = TensorDescriptor::new(View::packed([2, channels, 9, 7], layout), precision)?;
    TensorDescriptor::of_channels(&x)?;
    let sizes = [conv.out_channels, channels / conv.groups, conv.kernel[0], conv.kernel[1]];
    FilterDescriptor::new(sizes, layout, precision)?;
    let made = ConvolutionDescriptor::new([1, 1], conv.stride, conv.dilation, conv.groups)?;
    for math in [0, 1, 3] {
        made.set_math(match math {
            0 => cudarc::cudnn::sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            1 => cudarc::cudnn::sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
            _ => cudarc::cudnn::sys::cudnnMathType_t::CUDNN_FMA_MATH,
        })?;
    }
    ActivationDescriptor::identity()?;
    Ok(())
}

/// The same of the other kinds.
#[cfg(test)]
pub(super) fn descriptors_of_layers(
    pool: &crate::network::Pool,
    lrn: &crate::network::Lrn,
) -> Result<(), crate::backend::cuda::failure::Failure> {
    for mode in [PoolingMode::Maximum, PoolingMode::MeanWithPadding, PoolingMode::MeanWithoutPadding] {
        PoolingDescriptor::new(mode, pool)?;
    }
    LrnDescriptor::new(lrn)?;
    OpTensorDescriptor::sum()?;
    Ok(())
}

pub(super) use convolution::{Algorithm, Convolution, ConvolutionPlaces, Math};
pub(super) use descriptors::{
    LrnDescriptor, OpTensorDescriptor, PoolingDescriptor, PoolingMode, TensorDescriptor,
};
pub(super) use engine::{Engine, Sources};
pub(super) use forward::Placed;
pub(super) use graph::{ConvolutionGraph, Proposed};
pub(super) use handle::Cudnn;
pub(super) use view::View;
