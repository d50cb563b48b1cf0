//! Opening a library, looking at what it is, and keeping it.
//!
//! A file is first opened for itself and closed again if it is not taken. One that is taken is opened again for all
//! (`RTLD_GLOBAL`) by its full path and never closed: from then on the system's loader gives it to whoever asks for
//! its name, cudarc and cuDNN among them, wherever it lies.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library as Handle, RTLD_GLOBAL, RTLD_LAZY, RTLD_LOCAL, RTLD_NOW};

use super::error::{Fault, OLDEST_DRIVER};
use super::kind::LibraryKind;
use super::search::{Candidate, Rule};
use super::version::Version;

/// What the libraries taken so far ask of the next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    pub(super) driver: Option<Version>,
    pub(super) cublas_lt: Option<Version>,
}

/// A library that is loaded for good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loaded(&'static Handle);

/// What was learned about a library that is taken.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) loaded: Loaded,
    pub(super) path: PathBuf,
    pub(super) version: Version,
    pub(super) cuda: Version,
}

/// Why a candidate is not taken.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// The system's loader knows no such name.
    NotThere,
    Faulty(PathBuf, Fault),
}

/// Takes a candidate if nothing is wrong with it.
pub(super) fn take(kind: LibraryKind, candidate: &Candidate, needs: Needs) -> Result<Opened, NotTaken> {
    let faulty = |fault| NotTaken::Faulty(candidate.file.clone(), fault);
    // What the name says is enough to spare the opening of half a gigabyte.
    if let Some(&major) = candidate.numbers.first() {
        fits(kind, major, needs).map_err(faulty)?;
    }
    let handle = match open(&candidate.file, RTLD_NOW | RTLD_LOCAL) {
        Ok(handle) => handle,
        Err(why) if candidate.rule == Rule::Loader && is_unknown_name(&candidate.file, &why) => {
            return Err(NotTaken::NotThere);
        }
        Err(why) => return Err(faulty(Fault::DoesNotLoad(why))),
    };
    let lacking: Vec<&'static str> =
        kind.symbols().iter().copied().filter(|name| address(&handle, name).is_none()).collect();
    if !lacking.is_empty() {
        return Err(faulty(Fault::Lacks { symbols: lacking, of: kind.symbols().len() }));
    }
    // Where a name led is known only now.
    let path = match candidate.rule {
        Rule::Loader => place_of(&handle, kind).unwrap_or_else(|| candidate.file.clone()),
        _ => candidate.file.clone(),
    };
    let faulty = |fault| NotTaken::Faulty(path.clone(), fault);
    let parts = open_parts(kind, &path).map_err(faulty)?;
    let (version, cuda) = version(kind, &handle).map_err(faulty)?;
    fits(kind, if kind == LibraryKind::Cudnn { version.major } else { cuda.major }, needs).map_err(faulty)?;
    agrees(kind, version, cuda, needs).map_err(faulty)?;
    let kept = open(&path, RTLD_NOW | RTLD_GLOBAL).map_err(|why| faulty(Fault::DoesNotLoad(why)))?;
    found_by_name(kind, &kept).map_err(faulty)?;
    // Never closed: cudarc keeps pointers into it, and libraries of CUDA do not survive being unloaded.
    parts.into_iter().for_each(std::mem::forget);
    Ok(Opened { loaded: Loaded(Box::leak(Box::new(kept))), path, version, cuda })
}

/// Opens a file, or says why not in the loader's own words.
fn open(file: &Path, flags: c_int) -> Result<Handle, String> {
    // SAFETY: libraries of CUDA, and any that stand in their place, run no code at loading that this program's state
    // could break; the user's search path decides whose code it is, as for every shared library.
    let opened = unsafe { Handle::open(Some(file), flags) };
    opened.map_err(|error| {
        let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        let whole = format!("{}: ", file.display());
        text.strip_prefix(&whole).map_or(text.clone(), str::to_string)
    })
}

/// Whether the loader knows no file of this name, in contrast to one that lacks a library in turn.
fn is_unknown_name(name: &Path, why: &str) -> bool {
    !name.is_absolute() && why.starts_with("cannot open shared object file")
}

/// Where a function lies in memory, if the library has it.
fn address(handle: &Handle, name: &str) -> Option<*const c_void> {
    let name = format!("{name}\0");
    // SAFETY: only the address is taken, nothing is called or read through it.
    let symbol = unsafe { handle.get::<*const c_void>(name.as_bytes()) };
    symbol.ok().map(|symbol| *symbol).filter(|address| !address.is_null())
}

/// The file that a library was loaded from: the kernel knows which lies at the address of a function.
fn place_of(handle: &Handle, kind: LibraryKind) -> Option<PathBuf> {
    let at = address(handle, kind.symbols()[0])? as usize;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (begin, end) = range.split_once('-')?;
        let [begin, end] = [begin, end].map(|text| usize::from_str_radix(text, 16).ok());
        (begin?..end?).contains(&at).then(|| PathBuf::from(&rest[rest.find('/').unwrap_or(rest.len())..]))
    })
}

/// Opens the parts beside a library by their paths, so that they are there when it asks for their names.
fn open_parts(kind: LibraryKind, library: &Path) -> Result<Vec<Handle>, Fault> {
    // A link may stand alone in a folder; its parts then lie beside what it leads to.
    let real = library.canonicalize().unwrap_or_else(|_| library.to_path_buf());
    let folders: Vec<&Path> = [library, &real].into_iter().filter_map(Path::parent).collect();
    for start in kind.companions() {
        let is_it = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with(start);
        let beside = |folder: &&Path| fs::read_dir(folder).into_iter().flatten().flatten().any(is_it);
        if !folders.iter().any(beside) {
            return Err(Fault::Incomplete(format!(
                "{start}{}",
                if start.ends_with("so") { ".*" } else { "" }
            )));
        }
    }
    if kind == LibraryKind::Nvrtc {
        open_builtins(&folders);
    }
    let part = |name: &&str| {
        let Some(file) = folders.iter().map(|folder| folder.join(name)).find(|file| file.exists()) else {
            return Err(Fault::Incomplete((*name).to_string()));
        };
        open(&file, RTLD_NOW | RTLD_GLOBAL).map_err(|why| Fault::DoesNotLoad(format!("{name}: {why}")))
    };
    kind.parts().iter().map(part).collect()
}

/// Opens what NVRTC asks for by name when it compiles, for good: cuDNN compiles with the same NVRTC, and would do
/// without the engines that need it. One that does not open is none that this NVRTC asks for.
fn open_builtins(folders: &[&Path]) {
    let files = folders.iter().flat_map(fs::read_dir).flatten().flatten();
    for file in files.filter(|file| file.file_name().to_string_lossy().starts_with("libnvrtc-builtins.so")) {
        let _ = open(&file.path(), RTLD_NOW | RTLD_GLOBAL).map(std::mem::forget);
    }
}

/// Whether a library of this major version works: of cuDNN its own, of the others that of CUDA.
fn fits(kind: LibraryKind, major: u32, needs: Needs) -> Result<(), Fault> {
    let wrong = |expected: &str| {
        Err(Fault::WrongVersion { expected: expected.to_string(), found: format!("{kind} {major}") })
    };
    match kind {
        // Its files are all called libcuda.so.1.
        LibraryKind::Driver => Ok(()),
        LibraryKind::Cudnn if major != 9 => wrong("cuDNN 9"),
        LibraryKind::Cudnn => Ok(()),
        _ if major < OLDEST_DRIVER.0 => wrong("12 or newer"),
        _ => runs_on(major, needs.driver),
    }
}

/// Whether the driver can run code of this CUDA: of its own major version and of earlier ones (NVIDIA, "CUDA
/// Compatibility", minor version compatibility).
fn runs_on(cuda: u32, driver: Option<Version>) -> Result<(), Fault> {
    match driver {
        Some(driver) if cuda > driver.major => Err(Fault::TooNew { cuda, driver }),
        _ => Ok(()),
    }
}

/// Whether its exact version goes with what is loaded already.
fn agrees(kind: LibraryKind, version: Version, cuda: Version, needs: Needs) -> Result<(), Fault> {
    let found = version.to_string();
    match (kind, needs.cublas_lt) {
        (LibraryKind::Driver, _) if version.major < OLDEST_DRIVER.0 => {
            let expected = format!("a driver of CUDA {}.0 or newer, {} on", OLDEST_DRIVER.0, OLDEST_DRIVER.1);
            Err(Fault::WrongVersion { expected, found: format!("one of CUDA {found}") })
        }
        // They share structures: cuBLAS calls functions of cuBLASLt that no manual names.
        (LibraryKind::Cublas, Some(lt)) if lt != version => {
            Err(Fault::WrongVersion { expected: format!("{lt}, as of cuBLASLt"), found })
        }
        // Otherwise it finds neither that cuBLASLt nor that NVRTC, and does without the engines that need them.
        (LibraryKind::Cudnn, Some(lt)) if lt.major != cuda.major => Err(Fault::WrongVersion {
            expected: format!("one for CUDA {}, as cuBLASLt is", lt.major),
            found: format!("one for CUDA {}", cuda.major),
        }),
        (LibraryKind::Cudnn, _) => runs_on(cuda.major, needs.driver),
        _ => Ok(()),
    }
}

/// Whether cudarc gets this library when it asks for its names.
fn found_by_name(kind: LibraryKind, kept: &Handle) -> Result<(), Fault> {
    let first = kind.names_for_cudarc().find_map(|name| open(Path::new(&name), RTLD_LAZY | RTLD_LOCAL).ok());
    let Some(first) = first else { return Err(Fault::Nameless) };
    let symbol = kind.symbols()[0];
    if address(&first, symbol) == address(kept, symbol) {
        return Ok(());
    }
    Err(place_of(&first, kind).map_or(Fault::Nameless, Fault::Shadowed))
}

/// The version of a library, and of the CUDA that it is for.
fn version(kind: LibraryKind, handle: &Handle) -> Result<(Version, Version), Fault> {
    match kind {
        LibraryKind::Driver => {
            let version = driver_version(handle)?;
            Ok((version, version))
        }
        LibraryKind::Nvrtc => {
            let version = nvrtc_version(handle)?;
            Ok((version, version))
        }
        LibraryKind::CublasLt => {
            Ok((property(handle, "cublasLtGetProperty")?, built_for(handle, "cublasLtGetCudartVersion")?))
        }
        LibraryKind::Cublas => {
            Ok((property(handle, "cublasGetProperty")?, built_for(handle, "cublasGetCudartVersion")?))
        }
        LibraryKind::Cudnn => {
            for function in ["cudnnGraphVersionCheck", "cudnnOpsVersionCheck", "cudnnCnnVersionCheck"] {
                let code = number(handle, function)?;
                // cudnnStatus_t is an int: the rest of the register may hold anything.
                succeeded(function, code & 0xffff_ffff)?;
            }
            Ok((property(handle, "cudnnGetProperty")?, built_for(handle, "cudnnGetCudartVersion")?))
        }
    }
}

/// `CUDA_ERROR_STUB_LIBRARY` of cuda.h.
const STUB: c_uint = 34;

fn driver_version(handle: &Handle) -> Result<Version, Fault> {
    const NAME: &str = "cuDriverGetVersion";
    type Function = unsafe extern "C" fn(*mut c_int) -> c_uint;
    let mut coded = 0;
    let function = function::<Function>(handle, NAME)?;
    // SAFETY: cuda.h declares it so; it writes one int and needs no initialisation.
    let code = unsafe { function(&raw mut coded) };
    if code == STUB {
        return Err(Fault::Stub);
    }
    succeeded(NAME, code as usize)?;
    Ok(Version::of_cuda(coded.unsigned_abs()))
}

fn nvrtc_version(handle: &Handle) -> Result<Version, Fault> {
    const NAME: &str = "nvrtcVersion";
    type Function = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_uint;
    let (mut major, mut minor) = (0, 0);
    let function = function::<Function>(handle, NAME)?;
    // SAFETY: nvrtc.h declares it so; it writes two ints.
    let code = unsafe { function(&raw mut major, &raw mut minor) };
    succeeded(NAME, code as usize)?;
    Ok(Version { major: major.unsigned_abs(), minor: minor.unsigned_abs(), patch: None })
}

/// The version through `...GetProperty(libraryPropertyType, int *)`, where 0, 1 and 2 are major, minor and patch
/// (library_types.h). Unlike the number of `...GetVersion` its meaning never changed.
fn property(handle: &Handle, name: &'static str) -> Result<Version, Fault> {
    type Function = unsafe extern "C" fn(c_int, *mut c_int) -> c_uint;
    let function = function::<Function>(handle, name)?;
    let mut values = [0; 3];
    for (property, value) in (0..).zip(&mut values) {
        // SAFETY: the headers of the three libraries declare it so; it writes one int.
        let code = unsafe { function(property, value) };
        succeeded(name, code as usize)?;
    }
    let [major, minor, patch] = values.map(c_int::unsigned_abs);
    Ok(Version { major, minor, patch: Some(patch) })
}

/// The version of CUDA's runtime that is linked into a library.
fn built_for(handle: &Handle, name: &'static str) -> Result<Version, Fault> {
    let coded = number(handle, name)?;
    Ok(Version::of_cuda(u32::try_from(coded).unwrap_or(u32::MAX)))
}

fn number(handle: &Handle, name: &'static str) -> Result<usize, Fault> {
    type Function = unsafe extern "C" fn() -> usize;
    let function = function::<Function>(handle, name)?;
    // SAFETY: the functions called so take nothing, return a size_t or an int, and need no initialisation.
    Ok(unsafe { function() })
}

fn succeeded(function: &'static str, code: usize) -> Result<(), Fault> {
    if code == 0 { Ok(()) } else { Err(Fault::Refuses { function, code }) }
}

/// A function of a library; `F` is the pointer type of its declaration.
fn function<F: Copy>(handle: &Handle, name: &'static str) -> Result<F, Fault> {
    let terminated = format!("{name}\0");
    // SAFETY: the callers name the type of the header's declaration, and use the function while the library is open.
    let symbol = unsafe { handle.get::<F>(terminated.as_bytes()) };
    symbol.map(|symbol| *symbol).map_err(|_| Fault::Lacks { symbols: vec![name], of: 1 })
}

impl Loaded {
    /// Whether it has a function.
    pub(super) fn has(self, function: &str) -> bool {
        address(self.0, function).is_some()
    }

    /// The names of the GPUs that a driver shows, or what it says instead.
    pub(super) fn gpus(self) -> Result<Vec<String>, String> {
        type Init = unsafe extern "C" fn(c_uint) -> c_uint;
        type Count = unsafe extern "C" fn(*mut c_int) -> c_uint;
        type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_uint;
        let (init, count, name) = (
            self.function::<Init>("cuInit")?,
            self.function::<Count>("cuDeviceGetCount")?,
            self.function::<Name>("cuDeviceGetName")?,
        );
        // SAFETY: cuda.h declares it so; the flags must be 0.
        self.check(unsafe { init(0) })?;
        let mut gpus = 0;
        // SAFETY: cuda.h declares it so; it writes one int.
        self.check(unsafe { count(&raw mut gpus) })?;
        (0..gpus)
            .map(|gpu| {
                let mut text = [0_u8; 256];
                // SAFETY: cuda.h declares it so; it writes at most as many bytes as it is told, with a zero at the end.
                self.check(unsafe { name(text.as_mut_ptr().cast(), 255, gpu) })?;
                let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
                Ok(text.to_string_lossy().into_owned())
            })
            .collect()
    }

    /// A function; `F` is the pointer type of its declaration.
    pub(super) fn function<F: Copy>(self, name: &'static str) -> Result<F, String> {
        function(self.0, name).map_err(|fault| fault.to_string())
    }

    /// The driver's own words for a code that is not success.
    fn check(self, code: c_uint) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        type ErrorString = unsafe extern "C" fn(c_uint, *mut *const c_char) -> c_uint;
        let words = self.function::<ErrorString>("cuGetErrorString")?;
        let mut text: *const c_char = std::ptr::null();
        // SAFETY: cuda.h declares it so; it writes one pointer.
        let known = unsafe { words(code, &raw mut text) } == 0;
        if !known || text.is_null() {
            return Err(format!("the driver returned the error {code}"));
        }
        // SAFETY: the driver's texts are static and end with a zero.
        let text = unsafe { CStr::from_ptr(text) };
        Err(format!("the driver says \"{}\" (error {code})", text.to_string_lossy()))
    }
}
