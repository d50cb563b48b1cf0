//! The handle that all calls go through.

use std::rc::Rc;

use cudarc::cudnn::sys;

use crate::backend::cuda::driver::Stream;
use crate::backend::cuda::failure::Failure;

use super::call::done;

/// cuDNN on one queue. Copies are the same handle.
#[derive(Debug, Clone)]
pub(in crate::backend::cuda) struct Cudnn(Rc<Handle>);

#[derive(Debug)]
struct Handle {
    handle: sys::cudnnHandle_t,
    stream: Stream,
}

impl Cudnn {
    /// Opens cuDNN for a queue.
    pub(in crate::backend::cuda) fn open(stream: &Stream) -> Result<Self, Failure> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: the stream holds the device's context, which is current; it writes one handle, destroyed in `drop`.
        done("cudnnCreate", unsafe { sys::cudnnCreate(&raw mut handle) })?;
        let opened = Self(Rc::new(Handle { handle, stream: stream.clone() }));
        // SAFETY: the handle lives, and the stream as long as it.
        done("cudnnSetStream", unsafe { sys::cudnnSetStream(handle, stream.raw().cast()) })?;
        Ok(opened)
    }

    /// The handle for a call that queues on `stream`, which must be the one that it was opened for.
    pub(super) fn on(&self, stream: &Stream) -> Result<sys::cudnnHandle_t, Failure> {
        if stream.raw() == self.0.stream.raw() {
            return Ok(self.0.handle);
        }
        Err(Failure::refused("cudnnSetStream", "the handle is bound to another queue"))
    }

    /// The handle for a call that queues nothing.
    pub(super) fn raw(&self) -> sys::cudnnHandle_t {
        self.0.handle
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created in `open` and destroyed once, after everything made with it.
        let _ = unsafe { sys::cudnnDestroy(self.handle) };
    }
}
