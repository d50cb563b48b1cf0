//! Points in a queue, with the device's time at which it came past them.

use cudarc::driver::sys::{self, CUresult};

use crate::backend::cuda::failure::Failure;
use crate::units::Seconds;

use super::call::done;
use super::device::Gpu;
use super::stream::Stream;

/// A point in a queue. Its time has a resolution of about half a microsecond (CUDA Driver API, cuEventElapsedTime).
#[derive(Debug)]
pub(in crate::backend::cuda) struct Event {
    event: sys::CUevent,
    elapsed_time: ElapsedTime,
    gpu: Gpu,
}

/// The first version of this function, which cudarc does not bind for CUDA 13: the second needs a driver of 12.8.
type ElapsedTime = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> CUresult;

impl Event {
    pub(in crate::backend::cuda) fn new(gpu: &Gpu) -> Result<Self, Failure> {
        const ELAPSED_TIME: &str = "cuEventElapsedTime";
        let found = gpu.cuda().driver_function::<ElapsedTime>(ELAPSED_TIME);
        let elapsed_time = found.map_err(|text| Failure::refused(ELAPSED_TIME, text))?;
        let mut event = std::ptr::null_mut();
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT as u32;
        // SAFETY: the context is current; it writes one handle, destroyed in `drop`.
        done("cuEventCreate", unsafe { sys::cuEventCreate(&raw mut event, flags) })?;
        Ok(Self { event, elapsed_time, gpu: gpu.clone() })
    }

    /// Puts the point behind everything queued so far.
    pub(in crate::backend::cuda) fn record(&self, stream: &Stream) -> Result<(), Failure> {
        // SAFETY: event and stream live and are of the same context.
        done("cuEventRecord", unsafe { sys::cuEventRecord(self.event, stream.raw()) })
    }

    /// Whether the device came past it.
    pub(in crate::backend::cuda) fn passed(&self) -> Result<bool, Failure> {
        // SAFETY: the event lives.
        match unsafe { sys::cuEventQuery(self.event) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            code => done("cuEventQuery", code).map(|()| true),
        }
    }

    /// Waits until the device has come past it.
    pub(in crate::backend::cuda) fn sync(&self) -> Result<(), Failure> {
        // SAFETY: the event lives.
        done("cuEventSynchronize", unsafe { sys::cuEventSynchronize(self.event) })
    }

    /// The device's time from `earlier` to this one; both must have been passed.
    pub(in crate::backend::cuda) fn since(&self, earlier: &Self) -> Result<Seconds, Failure> {
        let mut milliseconds = 0.0_f32;
        // SAFETY: both events live and were recorded with their time; it writes one float.
        let code = unsafe { (self.elapsed_time)(&raw mut milliseconds, earlier.event, self.event) };
        done("cuEventElapsedTime", code)?;
        Ok(Seconds::new(f64::from(milliseconds) * 1e-3))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.gpu.is_abandoned() {
            return;
        }
        // SAFETY: created in `new`; it may be destroyed before it is passed (cuEventDestroy).
        let _ = unsafe { sys::cuEventDestroy_v2(self.event) };
    }
}
