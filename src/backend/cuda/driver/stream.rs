//! The queue of a device.

use std::rc::Rc;

use cudarc::driver::sys;

use crate::backend::cuda::failure::Failure;

use super::call::done;
use super::device::Gpu;
use super::graph::Graph;

/// A queue that does not wait for the default one. Copies are the same queue.
#[derive(Debug, Clone)]
pub(in crate::backend::cuda) struct Stream(Rc<Queue>);

#[derive(Debug)]
struct Queue {
    stream: sys::CUstream,
    gpu: Gpu,
}

impl Stream {
    pub(in crate::backend::cuda) fn new(gpu: &Gpu) -> Result<Self, Failure> {
        let mut stream = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the context is current; it writes one handle, destroyed in `drop`.
        done("cuStreamCreate", unsafe { sys::cuStreamCreate(&raw mut stream, flags) })?;
        Ok(Self(Rc::new(Queue { stream, gpu: gpu.clone() })))
    }

    pub(in crate::backend::cuda) fn gpu(&self) -> &Gpu {
        &self.0.gpu
    }

    /// The handle that libraries take; valid as long as a copy of this lives.
    pub(in crate::backend::cuda) fn raw(&self) -> sys::CUstream {
        self.0.stream
    }

    /// Waits until everything queued is done.
    pub(in crate::backend::cuda) fn sync(&self) -> Result<(), Failure> {
        // SAFETY: the stream lives.
        done("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.raw()) })
    }

    /// Queues a copy within the device's memory.
    pub(in crate::backend::cuda) fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), Failure> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the callers name memory that they hold, at least so long.
        let code = unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, self.raw()) };
        done("cuMemcpyDtoDAsync_v2", code)
    }

    /// What `work` queues, as a graph; nothing of it runs.
    pub(in crate::backend::cuda) fn capture<E: From<Failure>>(
        &self,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<Graph, E> {
        // Only this thread's calls are watched: NVML and other threads may do as they like meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives and captures nothing yet.
        done("cuStreamBeginCapture_v2", unsafe { sys::cuStreamBeginCapture_v2(self.raw(), mode) })?;
        let worked = work();
        let mut graph = std::ptr::null_mut();
        // SAFETY: the capture began above, and ends whatever `work` did; it writes one handle.
        let code = unsafe { sys::cuStreamEndCapture(self.raw(), &raw mut graph) };
        let ended = done("cuStreamEndCapture", code);
        let captured = (!graph.is_null()).then(|| Graph::of(graph, &self.0.gpu));
        worked?;
        ended?;
        captured.ok_or_else(|| Failure::refused("cuStreamEndCapture", "the capture gave no graph").into())
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.gpu.is_abandoned() {
            return;
        }
        // SAFETY: created in `new`; "the resources are released when the device has completed all work" (cuStreamDestroy).
        let _ = unsafe { sys::cuStreamDestroy_v2(self.stream) };
    }
}
