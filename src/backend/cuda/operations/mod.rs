//! Every way of computing each kind of layer that the libraries and the own kernels offer.

mod form;

use crate::backend::BackendError;

use super::driver::{Gpu, Stream};
use super::failure::Failure;
use super::operation::{Job, Operation};

pub(super) use form::{output_form, permutes_weights};

/// What a user may choose about operations.
#[derive(Debug, Clone, Default)]
pub(super) struct ToolOptions {
    /// The only algorithm that convolutions may use; none for every one.
    pub(super) conv_algorithm: Option<String>,
}

/// What operations are made with: the libraries' handles, bound to one queue of one GPU.
#[derive(Debug)]
pub(super) struct Tools {
    gpu: Gpu,
    stream: Stream,
    options: ToolOptions,
}

impl Tools {
    /// Opens the libraries for a queue. Everything that is made with them queues on this one.
    ///
    /// # Errors
    ///
    /// A library does not start on this GPU.
    pub(super) fn open(gpu: &Gpu, stream: &Stream, options: ToolOptions) -> Result<Self, Failure> {
        Ok(Self { gpu: gpu.clone(), stream: stream.clone(), options })
    }

    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }
}

/// Every way of computing a layer, the one that is most likely the fastest first. Some libraries refuse only when work
/// is queued: a candidate whose [`Operation::queue`] fails as [`Refused`](super::failure::Severity::Refused) is no way.
///
/// # Errors
///
/// The device failed, or there is no way at all.
pub(super) fn candidates(tools: &Tools, job: &Job<'_>) -> Result<Vec<Box<dyn Operation>>, BackendError> {
    let _ = tools;
    Err(BackendError::Unsupported { layer: job.layer.name.clone(), reason: "no operation yet".to_string() })
}
