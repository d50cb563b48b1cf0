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

pub(super) use convolution::{Algorithm, Convolution, ConvolutionPlaces, Math};
pub(super) use descriptors::{
    LrnDescriptor, OpTensorDescriptor, PoolingDescriptor, PoolingMode, TensorDescriptor,
};
pub(super) use engine::{Engine, Sources};
pub(super) use forward::Placed;
pub(super) use graph::{ConvolutionGraph, Proposed};
pub(super) use handle::Cudnn;
pub(super) use view::View;
