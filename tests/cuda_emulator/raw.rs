//! A copy of the stand-in, which is a machine of its own, and its functions as C has them.

use std::ffi::{CString, c_int, c_uint, c_void};
use std::path::PathBuf;
use std::ptr::null_mut;

use libloading::Library;
use tempfile::TempDir;

use crate::stand_ins::{example, function};

/// An emulated GPU whose context is current to the calling thread.
pub(crate) struct Gpu {
    /// Never closed: as NVIDIA's, it leaves destructors with the threads that called it.
    library: &'static Library,
}

/// Calls a function of the GPU's by its name, with values of the types that C says; gives its return code.
macro_rules! call {
    ($gpu:expr, $name:ident $(, $argument:expr => $type:ty)* $(,)?) => {{
        type Function = unsafe extern "C" fn($($type),*) -> u32;
        // SAFETY: the test says the types that NVIDIA's headers declare.
        let function = unsafe { $gpu.function::<Function>(stringify!($name)) };
        // SAFETY: pointers are null or lead to the test's own values, which outlive the call.
        unsafe { function($($argument),*) }
    }};
}
pub(crate) use call;

impl Gpu {
    /// A GPU with these settings; see `lib.rs` of the stand-in.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let gpu = Self::unstarted(settings);
        gpu.start();
        gpu
    }

    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// One whose driver is not initialised.
    pub(crate) fn unstarted(settings: &[(&str, &str)]) -> Self {
        let files = TempDir::new().unwrap();
        let path: PathBuf = files.path().join("libfake_cuda.so");
        std::fs::copy(example("fake_cuda"), &path).unwrap();
        // SAFETY: the stand-in does nothing when it is loaded.
        let library = unsafe { Library::new(&path) }.unwrap();
        let gpu = Self { library: Box::leak(Box::new(library)) };
        // The copy's own folder is gone soon.
        gpu.set("CACHE", example("fake_cuda").with_file_name("emulated_kernels").to_str().unwrap());
        for (name, value) in settings {
            gpu.set(name, value);
        }
        gpu
    }

    pub(crate) fn set(&self, name: &str, value: &str) {
        let [own, text] = [name, value].map(|text| CString::new(text).unwrap());
        let set = call!(self, emulated_cuda_set, own.as_ptr() => *const i8, text.as_ptr() => *const i8);
        assert_eq!(set, 0, "{name}={value}");
    }

    pub(crate) fn start(&self) {
        assert_eq!(call!(self, cuInit, 0 => c_uint), 0);
        let mut context = 0_usize;
        assert_eq!(call!(self, cuDevicePrimaryCtxRetain, &raw mut context => *mut usize, 0 => c_int), 0);
        assert_eq!(call!(self, cuCtxSetCurrent, context => usize), 0);
    }

    /// # Safety
    ///
    /// `F` is its type.
    pub(crate) unsafe fn function<F: Copy>(&self, name: &str) -> F {
        // SAFETY: as the caller promises.
        *unsafe { function::<F>(self.library, name) }
    }

    pub(crate) fn executed(&self) -> u64 {
        // SAFETY: the type is that of its documentation.
        let executed = unsafe { self.function::<extern "C" fn() -> u64>("emulated_cuda_executed") };
        executed()
    }

    pub(crate) fn alloc(&self, bytes: usize) -> u64 {
        let mut pointer = 0;
        assert_eq!(call!(self, cuMemAlloc_v2, &raw mut pointer => *mut u64, bytes => usize), 0);
        pointer
    }

    pub(crate) fn write(&self, to: u64, bytes: &[u8]) {
        let from = bytes.as_ptr().cast();
        let code = call!(self, cuMemcpyHtoDAsync_v2, to => u64, from => *const c_void, bytes.len() => usize, null_mut() => *mut c_void);
        assert_eq!(code, 0);
        assert_eq!(call!(self, cuCtxSynchronize), 0);
    }

    pub(crate) fn read(&self, from: u64, bytes: usize) -> Vec<u8> {
        let mut to = vec![0_u8; bytes];
        let place = to.as_mut_ptr().cast();
        let code = call!(self, cuMemcpyDtoHAsync_v2, place => *mut c_void, from => u64, bytes => usize, null_mut() => *mut c_void);
        assert_eq!(code, 0);
        to
    }

    /// Numbers on the device.
    pub(crate) fn floats(&self, values: &[f32]) -> u64 {
        let pointer = self.alloc(values.len() * 4);
        self.write(pointer, bytemuck::cast_slice(values));
        pointer
    }

    pub(crate) fn read_floats(&self, from: u64, count: usize) -> Vec<f32> {
        self.read(from, count * 4).as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
    }

    pub(crate) fn stream(&self) -> usize {
        let mut stream = 0;
        // Not blocking: the legacy stream and it do not wait for each other.
        assert_eq!(call!(self, cuStreamCreate, &raw mut stream => *mut usize, 1 => c_uint), 0);
        stream
    }

    pub(crate) fn event(&self) -> usize {
        let mut event = 0;
        assert_eq!(call!(self, cuEventCreate, &raw mut event => *mut usize, 0 => c_uint), 0);
        event
    }

    pub(crate) fn synchronise(&self, stream: usize) -> u32 {
        call!(self, cuStreamSynchronize, stream => usize)
    }

    /// A handle of cuDNN's on a stream.
    pub(crate) fn cudnn(&self, stream: usize) -> usize {
        let mut handle = 0;
        assert_eq!(call!(self, cudnnCreate, &raw mut handle => *mut usize), 0);
        assert_eq!(call!(self, cudnnSetStream, handle => usize, stream => usize), 0);
        handle
    }

    /// Compiles a source for the GPU; the image, or NVRTC's code and log.
    pub(crate) fn compile(&self, source: &str, options: &[&str]) -> Result<Vec<u8>, (u32, String)> {
        let source = CString::new(source).unwrap();
        let options: Vec<CString> = options.iter().map(|option| CString::new(*option).unwrap()).collect();
        let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program = 0_usize;
        let made = call!(self, nvrtcCreateProgram, &raw mut program => *mut usize, source.as_ptr() => *const i8,
            null_mut() => *mut i8, 0 => c_int, null_mut() => *mut c_void, null_mut() => *mut c_void);
        assert_eq!(made, 0);
        let count = options.len() as c_int;
        let code = call!(self, nvrtcCompileProgram, program => usize, count => c_int, options.as_ptr() => *const *const i8);
        let mut size = 0;
        if code != 0 {
            assert_eq!(call!(self, nvrtcGetProgramLogSize, program => usize, &raw mut size => *mut usize), 0);
            let mut log = vec![0_u8; size];
            assert_eq!(call!(self, nvrtcGetProgramLog, program => usize, log.as_mut_ptr() => *mut u8), 0);
            return Err((code, String::from_utf8_lossy(&log).into_owned()));
        }
        assert_eq!(call!(self, nvrtcGetCUBINSize, program => usize, &raw mut size => *mut usize), 0);
        let mut image = vec![0_u8; size];
        if size > 0 {
            assert_eq!(call!(self, nvrtcGetCUBIN, program => usize, image.as_mut_ptr() => *mut u8), 0);
        }
        assert_eq!(call!(self, nvrtcDestroyProgram, &raw mut program => *mut usize), 0);
        Ok(image)
    }

    /// A kernel of a compiled image.
    pub(crate) fn kernel(&self, image: &[u8], name: &str) -> usize {
        let (mut module, mut function) = (0, 0);
        let loaded =
            call!(self, cuModuleLoadData, &raw mut module => *mut usize, image.as_ptr() => *const u8);
        assert_eq!(loaded, 0);
        let name = CString::new(name).unwrap();
        let found = call!(self, cuModuleGetFunction, &raw mut function => *mut usize, module => usize, name.as_ptr() => *const i8);
        assert_eq!(found, 0);
        function
    }

    /// Launches one block of a kernel over pointers and a count.
    pub(crate) fn launch(&self, function: usize, stream: usize, pointers: &[u64], count: i32) -> u32 {
        let mut parameters: Vec<*const c_void> =
            pointers.iter().map(|pointer| (&raw const *pointer).cast()).collect();
        parameters.push((&raw const count).cast());
        call!(self, cuLaunchKernel, function => usize, 1 => u32, 1 => u32, 1 => u32, 32 => u32, 1 => u32, 1 => u32,
            0 => u32, stream => usize, parameters.as_ptr() => *const *const c_void, null_mut() => *mut c_void)
    }
}

/// Whether there is a C++ compiler for the kernels; without one the test says that it skips.
pub(crate) fn compiler() -> bool {
    let there = std::process::Command::new("c++").arg("--version").output().is_ok_and(|o| o.status.success());
    assert!(there || std::env::var("REQUIRE_DATA").as_deref() != Ok("1"), "c++ is missing");
    if !there {
        println!("skipped: no C++ compiler");
    }
    there
}
