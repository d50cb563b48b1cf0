//! What operations are made with.

use std::rc::Rc;

use crate::backend::cuda::cublaslt::CublasLt;
use crate::backend::cuda::cudnn::Cudnn;
use crate::backend::cuda::driver::{Gpu, Stream};
use crate::backend::cuda::failure::Failure;

use super::own::Kernels;

/// Scratch memory that one operation may ask for, at most, and never more than a quarter of what is free. Engines that
/// bring both tensors of a large layer into another order ask for as much as the tensors take.
const MOST_WORKSPACE: u64 = 16 << 30;

/// What a user may choose about operations.
#[derive(Debug, Clone, Default)]
pub(in crate::backend::cuda) struct ToolOptions {
    /// The only algorithm that convolutions may use; none for every one.
    pub(in crate::backend::cuda) conv_algorithm: Option<String>,
}

/// The libraries' handles and the own kernels, bound to one queue of one GPU.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Tools {
    gpu: Gpu,
    stream: Stream,
    pub(super) cudnn: Cudnn,
    pub(super) blas: CublasLt,
    pub(super) kernels: Rc<Kernels>,
    pub(super) options: ToolOptions,
    /// Bytes of scratch memory that an operation may ask for.
    pub(super) workspace: usize,
}

impl Tools {
    /// Opens the libraries for a queue. Everything that is made with them queues on this one.
    ///
    /// # Errors
    ///
    /// A library does not start on this GPU.
    pub(in crate::backend::cuda) fn open(
        gpu: &Gpu,
        stream: &Stream,
        options: ToolOptions,
    ) -> Result<Self, Failure> {
        let (free, _) = gpu.memory()?;
        Ok(Self {
            gpu: gpu.clone(),
            stream: stream.clone(),
            cudnn: Cudnn::open(stream)?,
            blas: CublasLt::open(stream)?,
            kernels: Rc::new(Kernels::open(gpu)?),
            options,
            workspace: usize::try_from((free / 4).min(MOST_WORKSPACE)).unwrap_or(0),
        })
    }

    pub(in crate::backend::cuda) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub(in crate::backend::cuda) fn stream(&self) -> &Stream {
        &self.stream
    }
}
