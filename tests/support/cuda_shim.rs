//! CUDA C++ sources as shared objects for the host: `cuda_shim.h` around the source, and a way in for each kernel.
//!
//! Used by the tests of kernels and by the emulated CUDA device, which includes this file by its path: nothing but std
//! here.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What makes C++ of CUDA C++.
const HEADER: &str = include_str!("cuda_shim.h");

/// The kernels that a source defines, in its order: what follows `extern "C" __global__ void`, with or without
/// `__launch_bounds__(...)` between.
pub(crate) fn kernel_names(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in source.match_indices("__global__") {
        let rest = source[at + "__global__".len()..].trim_start();
        let Some(rest) = rest.strip_prefix("void") else { continue };
        let mut rest = rest.trim_start();
        if let Some(bounds) = rest.strip_prefix("__launch_bounds__(") {
            rest = bounds.split_once(')').map_or("", |(_, rest)| rest).trim_start();
        }
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        // A macro that makes kernels has a parameter there (`##`); its uses are not seen.
        if !name.is_empty() && rest[name.len()..].trim_start().starts_with('(') {
            names.push(name);
        }
    }
    names
}

/// C++ that computes what the kernels of a CUDA C++ source compute. For each kernel it has
/// `extern "C" void shim_run_NAME(const unsigned grid[3], const unsigned block[3], void **arguments)`, which returns
/// when all blocks have run; `arguments` points at each argument's value, as for `cuLaunchKernel`.
pub(crate) fn cpp(source: &str) -> String {
    let mut text = String::new();
    text.push_str(&format!("#define SHIM_FIBERS {}\n", u8::from(source.contains("__syncthreads"))));
    text.push_str(HEADER);
    text.push_str("\n#line 1 \"kernel.cu\"\n");
    text.push_str(source);
    for name in kernel_names(source) {
        text.push_str(&format!(
            "\nextern \"C\" void shim_run_{name}(const unsigned int grid[3], const unsigned int block[3], void **arguments) \
             {{ shim::launch({name}, grid, block, arguments); }}"
        ));
    }
    text.push('\n');
    text
}

/// The C++ compiler: `CXX`, or `c++`.
pub(crate) fn compiler() -> String {
    env::var("CXX").unwrap_or_else(|_| "c++".to_owned())
}

/// Whether there is a C++ compiler here.
pub(crate) fn has_compiler() -> bool {
    Command::new(compiler()).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Compiles a CUDA C++ source for the host into the shared object `object`; the text of [`cpp`] stays beside it.
///
/// The object appears whole or not at all, so that others may look for it meanwhile.
///
/// # Errors
///
/// What the compiler printed, or that it did not start.
pub(crate) fn compile(source: &str, object: &Path) -> Result<(), String> {
    let own = format!("{}-{:?}", std::process::id(), std::thread::current().id());
    let text = object.with_extension(format!("{own}.cpp"));
    let partial = object.with_extension(format!("{own}.so"));
    fs::write(&text, cpp(source)).map_err(|error| format!("{}: {error}", text.display()))?;
    let mut command = Command::new(compiler());
    // No contraction and no fast mathematics: one rounding per operation, on every machine the same.
    command.args([
        "-std=c++17",
        "-O2",
        "-ffp-contract=off",
        "-fPIC",
        "-shared",
        "-Wall",
        "-Wno-unused-function",
    ]);
    command.args(["-Wno-unknown-pragmas", "-o"]).arg(&partial).arg(&text);
    let output = command.output().map_err(|error| format!("{} does not start: {error}", compiler()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    fs::rename(&text, object.with_extension("cpp"))
        .map_err(|error| format!("{}: {error}", text.display()))?;
    fs::rename(&partial, object).map_err(|error| format!("{}: {error}", object.display()))
}

/// The shared object of a source in a folder, compiled unless it already lies there: its name is a hash of all that it
/// is made from.
///
/// # Errors
///
/// As [`compile`].
pub(crate) fn compile_once(source: &str, folder: &Path) -> Result<PathBuf, String> {
    let mut hasher = DefaultHasher::new();
    (cpp(source), compiler()).hash(&mut hasher);
    let object = folder.join(format!("kernel-{:016x}.so", hasher.finish()));
    if !object.is_file() {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        compile(source, &object)?;
    }
    Ok(object)
}
