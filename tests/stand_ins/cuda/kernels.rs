//! Modules, functions and launches.

mod nvrtc;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use cudarc::driver::sys::{CUfunction_attribute as F, CUresult as R};
use cudarc::nvrtc::sys::nvrtcResult as N;
use libloading::os::unix::Library;

use crate::graphs::may_block;
use crate::machine::{Cu, Machine, code, enter_context, machine, put};
use crate::pointers::{In, Out, Text};
use crate::queue::{Kind, Work};

#[path = "../../support/cuda_shim.rs"]
#[allow(dead_code, unreachable_pub)]
mod cuda_shim;

/// How the bytes of an image begin. They end with a zero: `cuModuleLoadData` is not told how many there are.
const MAGIC: &str = "\u{7f}ELF emulated";
/// The PTX of the same.
const PTX: &str = "// emulated";

type Run = unsafe extern "C" fn(*const u32, *const u32, *const *const c_void);
/// Writes each parameter's size, with the highest bit set where it is a pointer, and returns how many there are.
type Parameters = unsafe extern "C" fn(*mut u32) -> u32;

struct Module {
    library: Library,
    /// Names with the largest number of threads of a block that they allow.
    names: Vec<(String, u32)>,
}

struct Function {
    name: std::ffi::CString,
    module: usize,
    run: Run,
    /// Sizes in bytes, and which are pointers.
    parameters: Vec<(usize, bool)>,
    max_threads: u32,
    dynamic_shared: u32,
}

#[derive(Default)]
struct Program {
    source: String,
    headers: Vec<(String, String)>,
    log: String,
    cubin: Vec<u8>,
    ptx: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Kernels {
    modules: BTreeMap<usize, Module>,
    functions: BTreeMap<usize, Function>,
    programs: BTreeMap<usize, Program>,
    /// Names that were given out; they live as long as the process.
    names: BTreeMap<String, &'static std::ffi::CStr>,
}

// Modules and functions.

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadData(module: Out<usize>, image: Text) -> u32 {
    code(enter_context("cuModuleLoadData").and_then(|mut machine| {
        may_block(&mut machine)?;
        let text = image.get().ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
        let mut lines = text.lines();
        let (head, architecture, object) = (lines.next(), lines.next(), lines.next());
        let (Some(head), Some(architecture), Some(object)) = (head, architecture, object) else {
            return Err(R::CUDA_ERROR_INVALID_IMAGE.into());
        };
        let number: i32 = architecture.parse().map_err(|_| R::CUDA_ERROR_INVALID_IMAGE)?;
        let (major, minor) = machine.settings.capability;
        match head {
            // CUDA C++ Programming Guide, "Binary Compatibility": of the same major version and the same or a lower minor.
            MAGIC if number / 10 != major || number % 10 > minor => {
                return Err(R::CUDA_ERROR_NO_BINARY_FOR_GPU.into());
            }
            // "PTX Compatibility": of the same or a lower version.
            PTX if number > major * 10 + minor => return Err(R::CUDA_ERROR_INVALID_PTX.into()),
            MAGIC | PTX => {}
            _ => return Err(R::CUDA_ERROR_INVALID_IMAGE.into()),
        }
        // SAFETY: the object was compiled from kernels; it runs no code when it is loaded.
        let library = unsafe { Library::new(object) }.map_err(|_| R::CUDA_ERROR_INVALID_IMAGE)?;
        let names = lines.filter_map(|line| {
            let (name, threads) = line.split_once(' ')?;
            Some((name.to_string(), threads.parse().ok()?))
        });
        let loaded = Module { library, names: names.collect() };
        let handle = machine.new_handle();
        put(module, handle)?;
        machine.kernels.modules.insert(handle, loaded);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: usize) -> u32 {
    code(enter_context("cuModuleUnload").and_then(|mut machine| {
        let gone = machine.kernels.modules.remove(&module).ok_or(R::CUDA_ERROR_INVALID_HANDLE)?;
        // Graphs may still name its kernels; their launches are an error on a GPU, a leak here.
        std::mem::forget(gone.library);
        machine.kernels.functions.retain(|_, function| function.module != module);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetFunction(function: Out<usize>, module: usize, name: Text) -> u32 {
    code(enter_context("cuModuleGetFunction").and_then(|mut machine| {
        let name = name.get().ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
        let loaded = machine.kernels.modules.get(&module).ok_or(R::CUDA_ERROR_INVALID_HANDLE)?;
        let known = loaded.names.iter().find(|(own, _)| *own == name);
        let max_threads = known.ok_or(R::CUDA_ERROR_NOT_FOUND)?.1;
        // SAFETY: the generator gives every kernel a way in of this type.
        let run = unsafe { loaded.library.get::<Run>(format!("shim_run_{name}").as_bytes()) };
        let run = *run.map_err(|_| R::CUDA_ERROR_NOT_FOUND)?;
        // SAFETY: `WITH_SIZES` gives every kernel a function of this type.
        let sizes =
            unsafe { loaded.library.get::<Parameters>(format!("emulator_parameters_{name}").as_bytes()) };
        let sizes = *sizes.map_err(|_| R::CUDA_ERROR_NOT_FOUND)?;
        let mut found = [0_u32; 64];
        // SAFETY: CUDA allows 4 KiB of parameters; kernels of 64 of them would not compile (`WITH_SIZES`).
        let count = unsafe { sizes(found.as_mut_ptr()) } as usize;
        let parameters =
            found[..count].iter().map(|size| ((size & 0x7fff_ffff) as usize, size >> 31 == 1)).collect();
        let handle = machine.new_handle();
        put(function, handle)?;
        let name = std::ffi::CString::new(name).map_err(|_| R::CUDA_ERROR_NOT_FOUND)?;
        let made = Function { name, module, run, parameters, max_threads, dynamic_shared: 48 << 10 };
        machine.kernels.functions.insert(handle, made);
        Ok(())
    }))
}

impl Machine {
    fn function(&self, handle: usize) -> Cu<&Function> {
        self.kernels.functions.get(&handle).ok_or_else(|| R::CUDA_ERROR_INVALID_HANDLE.into())
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetAttribute(value: Out<c_int>, attribute: u32, function: usize) -> u32 {
    code(enter_context("cuFuncGetAttribute").and_then(|machine| {
        let function = machine.function(function)?;
        let found = match attribute {
            a if a == F::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK as u32 => function.max_threads,
            a if a == F::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as u32 => function.dynamic_shared,
            a if a == F::CU_FUNC_ATTRIBUTE_NUM_REGS as u32 => 32,
            a if a == F::CU_FUNC_ATTRIBUTE_BINARY_VERSION as u32 => {
                (machine.settings.capability.0 * 10 + machine.settings.capability.1) as u32
            }
            a if a < F::CU_FUNC_ATTRIBUTE_MAX as u32 => 0,
            _ => return Err(R::CUDA_ERROR_INVALID_VALUE.into()),
        };
        put(value, found as c_int)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: usize, attribute: u32, value: c_int) -> u32 {
    code(enter_context("cuFuncSetAttribute").and_then(|mut machine| {
        let function = machine.kernels.functions.get_mut(&function).ok_or(R::CUDA_ERROR_INVALID_HANDLE)?;
        match attribute {
            a if a == F::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as u32 => {
                // Up to MAX_SHARED_MEMORY_PER_BLOCK_OPTIN.
                let bytes = u32::try_from(value).ok().filter(|bytes| *bytes <= 96 << 10);
                function.dynamic_shared = bytes.ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
                Ok(())
            }
            a if a == F::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT as u32 => Ok(()),
            _ => Err(R::CUDA_ERROR_INVALID_VALUE.into()),
        }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: Out<c_int>,
    function: usize,
    block: c_int,
    _shared: usize,
) -> u32 {
    code(enter_context("cuOccupancyMaxActiveBlocksPerMultiprocessor").and_then(|machine| {
        let most = machine.function(function)?.max_threads as i32;
        if block < 1 {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        put(blocks, if block > most { 0 } else { (2048 / block).min(32) })
    }))
}

/// A name as C wants it, for ever.
fn lasting(machine: &mut Machine, name: &str) -> *const c_char {
    if let Some(known) = machine.kernels.names.get(name) {
        return known.as_ptr();
    }
    let text = std::ffi::CString::new(name).unwrap_or_default();
    let text: &'static std::ffi::CStr = Box::leak(text.into_boxed_c_str());
    machine.kernels.names.insert(name.to_string(), text);
    text.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetName(name: Out<*const c_char>, function: usize) -> u32 {
    code(enter_context("cuFuncGetName").and_then(|mut machine| {
        let own = machine.function(function)?.name.to_string_lossy().into_owned();
        put(name, lasting(&mut machine, &own))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetName(name: Out<*const c_char>, kernel: usize) -> u32 {
    code(enter_context("cuKernelGetName").and_then(|mut machine| {
        let own = machine.graphs.library_kernel(kernel).ok_or(R::CUDA_ERROR_INVALID_HANDLE)?.to_string();
        put(name, lasting(&mut machine, &own))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchKernel(
    function: usize,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: usize,
    parameters: In<In<u8>>,
    extra: In<usize>,
) -> u32 {
    code(enter_context("cuLaunchKernel").and_then(|mut machine| {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let known = machine.function(function)?;
        let threads: u64 = block.iter().map(|size| u64::from(*size)).product();
        // CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
        let too_large = grid_x > i32::MAX as u32 || grid_y > 65_535 || grid_z > 65_535 || block_z > 64;
        if grid.contains(&0) || threads == 0 || too_large || threads > u64::from(known.max_threads) {
            machine.say(&format!("cuLaunchKernel: {grid:?} blocks of {block:?} threads"));
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        if shared > known.dynamic_shared || !extra.is_null() {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        let mut values = Vec::new();
        let mut traffic = 0;
        for (index, (size, is_pointer)) in known.parameters.iter().enumerate() {
            let place =
                parameters.at(index).filter(|place| !place.is_null()).ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
            let bytes = place.all(*size).ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
            let mut words = vec![0_u128; size.div_ceil(16)];
            let copy: Vec<u8> =
                bytes.iter().copied().chain(std::iter::repeat(0)).take(words.len() * 16).collect();
            for (word, chunk) in words.iter_mut().zip(copy.as_chunks::<16>().0) {
                *word = u128::from_ne_bytes(*chunk);
            }
            if *is_pointer {
                traffic += machine.memory.rest(words[0] as usize);
            }
            values.push((words, *is_pointer));
        }
        let run = known.run;
        let name = known.name.to_string_lossy().into_owned();
        let kind = Kind::Kernel { function: Some(function), grid, block, shared };
        let key = (function, grid, block, shared, values.clone());
        let mut work = Work::new(&name, kind, move |memory| {
            for (words, _) in values.iter().filter(|(_, is_pointer)| *is_pointer) {
                let address = words[0] as usize;
                if address != 0 && !memory.has(address, 1) {
                    return Err(R::CUDA_ERROR_ILLEGAL_ADDRESS);
                }
            }
            let arguments: Vec<*const c_void> =
                values.iter().map(|(words, _)| words.as_ptr().cast()).collect();
            // SAFETY: the generated way in takes grid, block and a pointer to each parameter's value; these have the sizes
            // that the same object told. What the kernel does with device memory is for the guards to find.
            unsafe { run(grid.as_ptr(), block.as_ptr(), arguments.as_ptr()) };
            Ok(())
        })
        .known_by(&key);
        work.native = true;
        let blocks: u64 = grid.iter().map(|size| u64::from(*size)).product();
        // What it moves is not known: at most what it can reach, about 64 bytes for each thread.
        let bytes = (traffic as f64).min(64.0 * (blocks * threads) as f64);
        machine.submit(stream, work.costing(0.0, bytes))
    }))
}
