//! Modules, functions and launches; NVRTC, whose "CUBIN" names a shared object with the same kernels compiled as C++.

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

// NVRTC.

/// Tells the parameters of kernels to the emulator.
const WITH_SIZES: &str = "
#include <type_traits>
namespace emulator {
template <class... P>
static unsigned parameters(void (*)(P...), unsigned *sizes) {
    static_assert(sizeof...(P) < 64, \"too many parameters\");
    const unsigned all[] = {0u, (unsigned)sizeof(P) | (std::is_pointer<P>::value ? 0x80000000u : 0u)...};
    for (unsigned at = 1; at < sizeof all / sizeof *all; at++) sizes[at - 1] = all[at];
    return sizeof...(P);
}
}
";

fn nvrtc(result: Result<(), N>) -> u32 {
    result.map_or_else(|code| code as u32, |()| 0)
}

fn enter_nvrtc(function: &str) -> Result<std::sync::MutexGuard<'static, Machine>, N> {
    let mut machine = machine();
    match machine.faults.of_call(function) {
        None => Ok(machine),
        Some(1) => Err(N::NVRTC_ERROR_OUT_OF_MEMORY),
        Some(6) => Err(N::NVRTC_ERROR_COMPILATION),
        Some(_) => Err(N::NVRTC_ERROR_INTERNAL_ERROR),
    }
}

fn answer<T>(to: Out<T>, value: T) -> Result<(), N> {
    if to.put(value) { Ok(()) } else { Err(N::NVRTC_ERROR_INVALID_INPUT) }
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcVersion(major: Out<c_int>, minor: Out<c_int>) -> u32 {
    nvrtc(answer(major, 13).and_then(|()| answer(minor, 0)))
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetErrorString(result: u32) -> *const c_char {
    let text = match result {
        0 => c"NVRTC_SUCCESS",
        1 => c"NVRTC_ERROR_OUT_OF_MEMORY",
        2 => c"NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
        3 => c"NVRTC_ERROR_INVALID_INPUT",
        4 => c"NVRTC_ERROR_INVALID_PROGRAM",
        5 => c"NVRTC_ERROR_INVALID_OPTION",
        6 => c"NVRTC_ERROR_COMPILATION",
        11 => c"NVRTC_ERROR_INTERNAL_ERROR",
        _ => c"NVRTC_ERROR unknown",
    };
    text.as_ptr()
}

/// What NVRTC 13.0 compiles for ("Supported Compile Options", `--gpu-architecture`).
const ARCHITECTURES: [c_int; 12] = [75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121];

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetNumSupportedArchs(count: Out<c_int>) -> u32 {
    nvrtc(answer(count, ARCHITECTURES.len() as c_int))
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetSupportedArchs(architectures: Out<c_int>) -> u32 {
    let write = |(at, value): (usize, &c_int)| architectures.put_at(at, *value);
    if ARCHITECTURES.iter().enumerate().all(write) { 0 } else { N::NVRTC_ERROR_INVALID_INPUT as u32 }
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcCreateProgram(
    program: Out<usize>,
    source: Text,
    _name: Text,
    headers: c_int,
    texts: In<Text>,
    names: In<Text>,
) -> u32 {
    nvrtc(enter_nvrtc("nvrtcCreateProgram").and_then(|mut machine| {
        let source = source.get().ok_or(N::NVRTC_ERROR_INVALID_INPUT)?;
        let count = usize::try_from(headers).map_err(|_| N::NVRTC_ERROR_INVALID_INPUT)?;
        let header = |at| Some((names.at(at)?.get()?, texts.at(at)?.get()?));
        let headers =
            (0..count).map(header).collect::<Option<Vec<_>>>().ok_or(N::NVRTC_ERROR_INVALID_INPUT)?;
        let handle = machine.new_handle();
        answer(program, handle)?;
        machine.kernels.programs.insert(handle, Program { source, headers, ..Program::default() });
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcDestroyProgram(program: Out<usize>) -> u32 {
    nvrtc(enter_nvrtc("nvrtcDestroyProgram").and_then(|mut machine| {
        let handle = In::from(program).get().ok_or(N::NVRTC_ERROR_INVALID_PROGRAM)?;
        machine.kernels.programs.remove(&handle).ok_or(N::NVRTC_ERROR_INVALID_PROGRAM)?;
        answer(program, 0)
    }))
}

/// What the options of a compilation say.
struct Options {
    /// Ten times the compute capability.
    architecture: c_int,
    /// Whether it is of a GPU (`sm_90`), not of PTX alone (`compute_90`).
    real: bool,
    /// Lines that define macros.
    macros: String,
}

fn options(options: &[String]) -> Result<Options, String> {
    // "The default is compute_75" in NVRTC 13.
    let mut found = Options { architecture: 75, real: false, macros: String::new() };
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "--gpu-architecture" | "-arch" => {
                let number = value.strip_prefix("sm_").or_else(|| value.strip_prefix("compute_"));
                let number =
                    number.map(|digits| digits.trim_end_matches(['a', 'f'])).and_then(|n| n.parse().ok());
                let number = number.filter(|number| ARCHITECTURES.contains(number));
                found.architecture = number.ok_or_else(|| {
                    format!("nvrtc: error: invalid value for --gpu-architecture (-arch)\n  {option}")
                })?;
                found.real = value.starts_with("sm_");
            }
            _ if option.starts_with("-D") || name == "--define-macro" => {
                let definition = option.strip_prefix("-D").or_else(|| option.strip_prefix("--define-macro="));
                let definition = definition.unwrap_or_default();
                let (name, value) = definition.split_once('=').unwrap_or((definition, "1"));
                found.macros.push_str(&format!("#define {name} {value}\n"));
            }
            "--std" | "-std" if ["c++11", "c++14", "c++17", "c++20"].contains(&value) => {}
            "--fmad"
            | "-fmad"
            | "--ftz"
            | "-ftz"
            | "--prec-div"
            | "-prec-div"
            | "--prec-sqrt"
            | "-prec-sqrt"
            | "--maxrregcount"
            | "-maxrregcount"
            | "--ptxas-options"
            | "-Xptxas"
            | "--restrict"
            | "-restrict"
            | "--use_fast_math"
            | "-use_fast_math"
            | "--device-as-default-execution-space"
            | "-default-device"
            | "--generate-line-info"
            | "-lineinfo"
            | "--device-debug"
            | "-G"
            | "--minimal"
            | "-minimal"
            | "--extra-device-vectorization"
            | "--split-compile"
            | "-split-compile"
            | "--disable-warnings"
            | "-w" => {}
            _ => return Err(format!("nvrtc: error: unrecognized option {option} found")),
        }
    }
    Ok(found)
}

/// The source with its headers in place. NVRTC knows only those that it is given and its own, none of the C++ library.
fn with_headers(source: &str, headers: &[(String, String)], depth: usize) -> Result<String, String> {
    let mut text = String::new();
    for (number, line) in source.lines().enumerate() {
        let Some(rest) = line.trim_start().strip_prefix("#include") else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let name = rest.trim().trim_matches(['"', '<', '>']);
        let known = headers.iter().find(|(own, _)| own == name).filter(|_| depth < 16);
        let (_, header) = known.ok_or_else(|| {
            format!("kernel.cu({}): catastrophic error: cannot open source file \"{name}\"", number + 1)
        })?;
        text.push_str(&with_headers(header, headers, depth + 1)?);
    }
    Ok(text)
}

/// The largest block that a kernel allows: what its `__launch_bounds__` says.
fn max_threads(source: &str, name: &str) -> u32 {
    let defined = source.match_indices(name).map(|(at, _)| &source[..at]);
    let bounds = defined.filter_map(|before| {
        let (_, rest) = before.rsplit_once("__global__")?;
        let rest = rest.trim_start().strip_prefix("void")?.trim();
        rest.strip_prefix("__launch_bounds__(")?.strip_suffix(')')?.split(',').next()?.trim().parse().ok()
    });
    bounds.max().unwrap_or(1024)
}

/// Where compiled kernels are kept: beside this library, whose place the kernel knows.
fn cache() -> PathBuf {
    let own = cache as *const () as usize;
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let place = maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (begin, end) = range.split_once('-')?;
        let [begin, end] = [begin, end].map(|text| usize::from_str_radix(text, 16).ok());
        (begin?..end?).contains(&own).then(|| PathBuf::from(&rest[rest.find('/').unwrap_or(rest.len())..]))
    });
    let folder = place.and_then(|file| Some(file.parent()?.to_path_buf())).unwrap_or_else(std::env::temp_dir);
    folder.join("emulated_kernels")
}

fn compile(program: &mut Program, options: &Options, folder: &Path) -> Result<(), String> {
    let source = options.macros.clone() + &with_headers(&program.source, &program.headers, 0)?;
    let names = cuda_shim::kernel_names(&source);
    let mut text = source.clone() + WITH_SIZES;
    for name in &names {
        text.push_str(&format!(
            "extern \"C\" unsigned emulator_parameters_{name}(unsigned *sizes) {{ return emulator::parameters({name}, sizes); }}\n"
        ));
    }
    let mut hash = DefaultHasher::new();
    cuda_shim::cpp(&text).hash(&mut hash);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let object = folder.join(format!("{:016x}.so", hash.finish()));
    if !object.exists() {
        cuda_shim::compile(&text, &object)?;
    }
    let mut rest = format!("{}\n{}\n", options.architecture, object.display());
    for name in &names {
        rest.push_str(&format!("{name} {}\n", max_threads(&source, name)));
    }
    program.ptx = format!("{PTX}\n{rest}\0").into_bytes();
    // "The value is 0 if the architecture is virtual."
    program.cubin = if options.real { format!("{MAGIC}\n{rest}\0").into_bytes() } else { Vec::new() };
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcCompileProgram(program: usize, count: c_int, texts: In<Text>) -> u32 {
    nvrtc(enter_nvrtc("nvrtcCompileProgram").and_then(|mut machine| {
        let folder = machine.settings.cache.clone().unwrap_or_else(cache);
        let program = machine.kernels.programs.get_mut(&program).ok_or(N::NVRTC_ERROR_INVALID_PROGRAM)?;
        let given = (0..count.max(0) as usize).map(|at| texts.at(at)?.get()).collect::<Option<Vec<String>>>();
        let given = given.ok_or(N::NVRTC_ERROR_INVALID_INPUT)?;
        program.log.clear();
        let parsed = options(&given).map_err(|why| {
            program.log = why;
            N::NVRTC_ERROR_INVALID_OPTION
        })?;
        compile(program, &parsed, &folder).map_err(|why| {
            program.log = why;
            N::NVRTC_ERROR_COMPILATION
        })
    }))
}

/// Hands out one of a program's results; the size counts the final zero of texts.
fn result_of(
    function: &str,
    program: usize,
    size: Option<Out<usize>>,
    bytes: Option<Out<u8>>,
    which: impl Fn(&Program) -> Vec<u8>,
) -> u32 {
    nvrtc(enter_nvrtc(function).and_then(|machine| {
        let program = machine.kernels.programs.get(&program).ok_or(N::NVRTC_ERROR_INVALID_PROGRAM)?;
        let found = which(program);
        if let Some(size) = size {
            answer(size, found.len())?;
        }
        if let Some(to) = bytes {
            // "NVRTC_ERROR_INVALID_PROGRAM" when there is no such result.
            if found.is_empty() || to.is_null() {
                return Err(N::NVRTC_ERROR_INVALID_INPUT);
            }
            crate::pointers::to_host(to.address(), &found);
        }
        Ok(())
    }))
}

fn log_of(program: &Program) -> Vec<u8> {
    program.log.bytes().chain([0]).collect()
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetProgramLogSize(program: usize, size: Out<usize>) -> u32 {
    result_of("nvrtcGetProgramLogSize", program, Some(size), None, log_of)
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetProgramLog(program: usize, to: Out<u8>) -> u32 {
    result_of("nvrtcGetProgramLog", program, None, Some(to), log_of)
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetCUBINSize(program: usize, size: Out<usize>) -> u32 {
    result_of("nvrtcGetCUBINSize", program, Some(size), None, |program| program.cubin.clone())
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetCUBIN(program: usize, to: Out<u8>) -> u32 {
    result_of("nvrtcGetCUBIN", program, None, Some(to), |program| program.cubin.clone())
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetPTXSize(program: usize, size: Out<usize>) -> u32 {
    result_of("nvrtcGetPTXSize", program, Some(size), None, |program| program.ptx.clone())
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetPTX(program: usize, to: Out<u8>) -> u32 {
    result_of("nvrtcGetPTX", program, None, Some(to), |program| program.ptx.clone())
}
