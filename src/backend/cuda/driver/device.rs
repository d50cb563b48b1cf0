//! A GPU with its context.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::rc::Rc;

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};

use crate::backend::cuda::failure::Failure;
use crate::backend::cuda::libraries::Cuda;

use super::call::{done, opened};

/// A GPU whose primary context is current on this thread, for as long as anything of it is left.
#[derive(Debug, Clone)]
pub(in crate::backend::cuda) struct Gpu(Rc<Context>);

#[derive(Debug)]
struct Context {
    cuda: Cuda,
    device: sys::CUdevice,
    name: String,
    abandoned: Cell<bool>,
}

impl Gpu {
    /// How many GPUs the driver shows; `CUDA_VISIBLE_DEVICES` hides some.
    pub(in crate::backend::cuda) fn count(_cuda: &Cuda) -> Result<usize, Failure> {
        // SAFETY: the flags must be 0; may be called more than once. A `Cuda` shows that all functions are there.
        opened("cuInit", unsafe { sys::cuInit(0) })?;
        let mut count = 0;
        // SAFETY: it writes one int.
        opened("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&raw mut count) })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Opens the GPU with this number below [`Gpu::count`].
    pub(in crate::backend::cuda) fn open(cuda: &Cuda, ordinal: usize) -> Result<Self, Failure> {
        let mut device = 0;
        let number = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
        // SAFETY: the driver is initialised by `count`; it writes one int.
        opened("cuDeviceGet", unsafe { sys::cuDeviceGet(&raw mut device, number) })?;
        let name = name(device)?;
        let mut context = std::ptr::null_mut();
        // SAFETY: `device` is the driver's own; it writes one handle, released in `Context::drop`.
        let code = unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut context, device) };
        opened("cuDevicePrimaryCtxRetain", code)?;
        let gpu = Self(Rc::new(Context { cuda: cuda.clone(), device, name, abandoned: Cell::new(false) }));
        // SAFETY: the context was retained above and lives as long as `gpu`.
        opened("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(context) })?;
        Ok(gpu)
    }

    /// The libraries that everything on this GPU calls.
    pub(in crate::backend::cuda) fn cuda(&self) -> &Cuda {
        &self.0.cuda
    }

    /// Leaves everything on it as it is from now on, because it hangs: releasing would wait for ever.
    pub(in crate::backend::cuda) fn abandon(&self) {
        self.0.abandoned.set(true);
    }

    /// Whether it hangs, so that nothing of it is released any more.
    pub(in crate::backend::cuda) fn is_abandoned(&self) -> bool {
        self.0.abandoned.get()
    }

    /// Its name as the driver gives it.
    pub(in crate::backend::cuda) fn name(&self) -> &str {
        &self.0.name
    }

    /// Its unique identifier, which NVML knows as well.
    pub(in crate::backend::cuda) fn uuid(&self) -> Result<[u8; 16], Failure> {
        let mut uuid = sys::CUuuid { bytes: [0; 16] };
        // SAFETY: it writes the 16 bytes.
        let code = unsafe { sys::cuDeviceGetUuid_v2(&raw mut uuid, self.0.device) };
        done("cuDeviceGetUuid_v2", code)?;
        Ok(uuid.bytes.map(|byte| byte.to_ne_bytes()[0]))
    }

    /// Major and minor number of its generation.
    pub(in crate::backend::cuda) fn capability(&self) -> Result<(u32, u32), Failure> {
        let major = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        Ok((major, self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?))
    }

    /// Bytes of its last-level cache; 0 if it has none.
    pub(in crate::backend::cuda) fn l2_bytes(&self) -> Result<usize, Failure> {
        Ok(self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize)
    }

    fn attribute(&self, attribute: Attribute) -> Result<u32, Failure> {
        let mut value = 0;
        // SAFETY: it writes one int.
        let code = unsafe { sys::cuDeviceGetAttribute(&raw mut value, attribute, self.0.device) };
        done("cuDeviceGetAttribute", code)?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    /// Bytes of memory that are free, and all there are.
    pub(in crate::backend::cuda) fn memory(&self) -> Result<(u64, u64), Failure> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: the context is current; it writes two sizes.
        done("cuMemGetInfo_v2", unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
        Ok((free as u64, total as u64))
    }
}

fn name(device: sys::CUdevice) -> Result<String, Failure> {
    let mut text = [0_u8; 256];
    // SAFETY: it writes at most as many bytes as it is told, with a zero at the end.
    let code = unsafe { sys::cuDeviceGetName(text.as_mut_ptr().cast(), 255, device) };
    opened("cuDeviceGetName", code)?;
    let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
    Ok(text.to_string_lossy().into_owned())
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.abandoned.get() {
            return;
        }
        // SAFETY: retained once in `open`. Nothing can be done about a failure: the context dies with the process.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}
