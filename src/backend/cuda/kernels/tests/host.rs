//! The host as a device: kernels compiled as C++, memory with guards around it.

use std::collections::HashMap;
use std::env;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use libloading::Library;

use crate::plan::Precision;

use super::super::{Family, Launch, source};
use super::cuda_shim;
use super::signature::assert_fits;

/// Bytes on each side of a buffer.
const GUARD: usize = 256;

/// What guards and fresh memory hold: a NaN in every format, so that what is read too far or never written shows.
const FILL: u8 = 0xff;

/// Memory of the "device".
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// Fresh memory whose address is `shift` bytes beyond a multiple of 256.
    pub(super) fn fresh(len: usize, shift: usize) -> Self {
        let bytes = vec![FILL; len + 2 * GUARD + 256];
        let start = GUARD + (bytes.as_ptr() as usize + GUARD).wrapping_neg() % 256 + shift;
        assert!(start + len + GUARD / 2 <= bytes.len());
        Self { bytes, start, len }
    }

    pub(super) fn holding(bytes: &[u8], shift: usize) -> Self {
        let mut buffer = Self::fresh(bytes.len(), shift);
        let start = buffer.start;
        buffer.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        buffer
    }

    /// Its address. Kernels write through it, so the buffer must be a mutable one.
    pub(super) fn at(&mut self) -> u64 {
        self.bytes[self.start..].as_mut_ptr() as u64
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// Whether nothing wrote around it.
    pub(super) fn intact(&self) -> bool {
        let around = self.bytes[..self.start].iter().chain(&self.bytes[self.start + self.len..]);
        around.into_iter().all(|&byte| byte == FILL)
    }
}

type Run = unsafe extern "C" fn(*const u32, *const u32, *mut *mut c_void);

/// How a family is compiled for the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Build {
    pub(super) family: Family,
    pub(super) precision: Precision,
    /// Indices of 64 bits whatever the count, which otherwise only tensors too large for a test need.
    pub(super) wide: bool,
}

/// Where objects are kept from one run to the next: beside the test program, so in cargo's folder.
pub(super) fn folder() -> PathBuf {
    let program = env::current_exe().unwrap();
    program.parent().unwrap_or(Path::new(".")).join("cuda_shim")
}

static LOADED: LazyLock<Mutex<HashMap<Build, &'static Library>>> = LazyLock::new(Mutex::default);

fn load(build: Build) -> &'static Library {
    let mut loaded = LOADED.lock().unwrap();
    loaded.entry(build).or_insert_with(|| {
        let mut text = source(build.family, build.precision);
        if build.wide {
            text = text.replace("count <= 0x7fffffff", "count < 0");
        }
        let object =
            cuda_shim::compile_once(&text, &folder()).unwrap_or_else(|log| panic!("{build:?}\n{log}"));
        // SAFETY: the object was compiled from our kernels; it has no initialisers.
        let library = unsafe { Library::new(&object) }.unwrap();
        Box::leak(Box::new(library))
    })
}

/// Runs a launch to its end.
pub(super) fn run(launch: &Launch, precision: Precision, wide: bool) {
    assert_fits(launch, &source(launch.family, precision));
    let library = load(Build { family: launch.family, precision, wide });
    // SAFETY: the shim exports the function with this signature for each kernel.
    let run = unsafe { library.get::<Run>(format!("shim_run_{}\0", launch.kernel).as_bytes()) };
    let run = run.unwrap_or_else(|error| panic!("{} has no {}: {error}", launch.family, launch.kernel));
    let mut values = launch.values();
    // SAFETY: the values are as many and as wide as the kernel's parameters, which the tests are about; the buffers that
    // they point at live in the caller.
    unsafe { run(launch.grid.as_ptr(), launch.block.as_ptr(), values.as_mut_ptr()) };
}

/// Whether kernels can be compiled here. Without a compiler the test says that it skips, and under `REQUIRE_DATA=1` it
/// fails.
pub(super) fn can_compile() -> bool {
    if cuda_shim::has_compiler() {
        return true;
    }
    let why = format!("no C++ compiler: {} does not run (CXX names another)", cuda_shim::compiler());
    assert!(env::var("REQUIRE_DATA").as_deref() != Ok("1"), "{why}");
    println!("skipped: {why}");
    false
}
