//! Own kernels on the device.

use std::ffi::{CString, c_void};
use std::rc::Rc;

use cudarc::driver::sys;

use crate::backend::cuda::failure::Failure;

use super::call::done;
use super::device::Gpu;
use super::stream::Stream;

/// Compiled kernels.
#[derive(Debug, Clone)]
pub(in crate::backend::cuda) struct Module(Rc<Loaded>);

#[derive(Debug)]
struct Loaded {
    module: sys::CUmodule,
    gpu: Gpu,
}

/// A kernel.
#[derive(Debug, Clone)]
pub(in crate::backend::cuda) struct Function {
    function: sys::CUfunction,
    _module: Module,
}

impl Module {
    /// Loads CUBIN or PTX; PTX is a text and must end with a zero.
    pub(in crate::backend::cuda) fn load(gpu: &Gpu, image: &[u8]) -> Result<Self, Failure> {
        let mut module = std::ptr::null_mut();
        // SAFETY: the context is current; NVRTC made the image, whose format says its own length.
        let code = unsafe { sys::cuModuleLoadData(&raw mut module, image.as_ptr().cast()) };
        done("cuModuleLoadData", code)?;
        Ok(Self(Rc::new(Loaded { module, gpu: gpu.clone() })))
    }

    /// A kernel by its name.
    pub(in crate::backend::cuda) fn function(&self, name: &str) -> Result<Function, Failure> {
        let text =
            CString::new(name).map_err(|error| Failure::refused("cuModuleGetFunction", error.to_string()))?;
        let mut function = std::ptr::null_mut();
        // SAFETY: the module lives; the name ends with a zero; it writes one handle, which lives as long as the module.
        let code = unsafe { sys::cuModuleGetFunction(&raw mut function, self.0.module, text.as_ptr()) };
        done("cuModuleGetFunction", code)?;
        Ok(Function { function, _module: self.clone() })
    }
}

impl Function {
    /// Queues it. `arguments` has a pointer to each argument, in the order and of the types of the kernel's source; they
    /// are read before this returns.
    pub(in crate::backend::cuda) fn launch(
        &self,
        stream: &Stream,
        [grid_x, grid_y, grid_z]: [u32; 3],
        [block_x, block_y, block_z]: [u32; 3],
        arguments: &mut [*mut c_void],
    ) -> Result<(), Failure> {
        // SAFETY: the arguments are those of the kernel's source, tested by the launches' own tests; memory behind their
        // addresses is held by whoever launches.
        let code = unsafe {
            sys::cuLaunchKernel(
                self.function,
                grid_x,
                grid_y,
                grid_z,
                block_x,
                block_y,
                block_z,
                0,
                stream.raw(),
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        done("cuLaunchKernel", code)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if self.gpu.is_abandoned() {
            return;
        }
        // SAFETY: loaded once, unloaded once, after the last function of it is gone.
        let _ = unsafe { sys::cuModuleUnload(self.module) };
    }
}
