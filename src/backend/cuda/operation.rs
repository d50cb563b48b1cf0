//! What a step queues: one way of computing a layer, with everything chosen and prepared.

use std::fmt;

use crate::network::{Layer, LayerKind};
use crate::plan::{Layout, Precision};

use super::driver::Stream;
use super::failure::Failure;
use super::tensor::TensorForm;

/// Device addresses that one execution reads and writes. The same operation serves other layers of the same signature,
/// and rotating copies of one layer's buffers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) inputs: &'a [u64],
    /// Of each of the layer's parameters, in the form of [`super::parameters`].
    pub(super) parameters: &'a [u64],
    pub(super) output: u64,
    /// Scratch memory of [`Operation::workspace`] bytes, aligned to 256.
    pub(super) workspace: u64,
}

/// One way of computing a layer.
pub(super) trait Operation: fmt::Debug {
    /// The algorithm's name: the library and its algorithm or engine, such as `cudnn implicit_precomp_gemm`.
    fn name(&self) -> &str;

    /// Bytes of scratch memory.
    fn workspace(&self) -> usize {
        0
    }

    /// Queues one execution. Allocates nothing on the device and waits for nothing, so that it can be captured.
    ///
    /// # Errors
    ///
    /// The library refuses, or the device failed.
    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure>;
}

/// A layer to be computed.
#[derive(Debug, Clone)]
pub(super) struct Job<'a> {
    pub(super) layer: &'a Layer,
    pub(super) inputs: Vec<TensorForm>,
    pub(super) output: TensorForm,
    pub(super) precision: Precision,
    pub(super) layout: Layout,
}

impl<'a> Job<'a> {
    /// What the layer computes.
    pub(super) fn kind(&self) -> &'a LayerKind {
        &self.layer.kind
    }
}
