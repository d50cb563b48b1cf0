//! NVRTC, whose "CUBIN" names a shared object with the same kernels compiled as C++.

use super::*;

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
