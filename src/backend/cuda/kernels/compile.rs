//! Kernels compiled when the program runs, for the device that is there.
//!
//! NVRTC makes machine code (CUBIN) for a device that it knows, and PTX, which the driver goes on from, for one that is
//! newer than it. CUBIN is preferred: PTX of an NVRTC newer than the driver is refused by the driver.
//!
//! No fast mathematics (`--use_fast_math`): it flushes small numbers to 0 and takes quotients, roots and exponentials from
//! approximations, so that results would leave the tolerances of the f64 reference, for kernels that wait for memory anyway.

use std::ffi::{CString, c_char};

use cudarc::nvrtc::result::{self, NvrtcError};
use cudarc::nvrtc::sys;

use crate::backend::cuda::libraries::Nvrtc;
use crate::plan::Precision;

use super::source::{Family, source};

/// What `cuModuleLoadData` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backend::cuda) enum Code {
    /// Machine code of the device: an ELF file.
    Cubin(Vec<u8>),
    /// Text that the driver compiles, with its final NUL.
    Ptx(Vec<u8>),
}

/// Why a family of kernels has no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::backend::cuda) enum CompileError {
    /// NVRTC found an error in the text, or failed.
    #[error("kernels/{family} in {precision} for {architecture}: NVRTC says {status}\n{log}")]
    Refused { family: Family, precision: Precision, architecture: String, status: String, log: String },
    /// NVRTC no longer makes code for a device as old as this.
    #[error(
        "this NVRTC compiles for compute capability {oldest} and newer, the GPU has {found}; an NVRTC of an older CUDA \
         (pip install nvidia-cuda-nvrtc-cu12) knows it"
    )]
    TooOld { oldest: String, found: String },
    /// NVRTC does not say what it compiles for.
    #[error("NVRTC does not say for which GPUs it compiles: {status}")]
    NoArchitectures { status: String },
}

impl Code {
    /// The bytes for `cuModuleLoadData`.
    pub(in crate::backend::cuda) fn bytes(&self) -> &[u8] {
        match self {
            Self::Cubin(bytes) | Self::Ptx(bytes) => bytes,
        }
    }
}

/// What to compile for, by compute capability times ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Machine code of this device.
    Machine(u32),
    /// PTX of the newest instructions that the device has and NVRTC knows.
    Portable(u32),
}

impl Target {
    fn name(self) -> String {
        match self {
            Self::Machine(capability) => format!("sm_{capability}"),
            Self::Portable(capability) => format!("compute_{capability}"),
        }
    }

    /// The best that an NVRTC which knows `known` does for a device of `capability`; none for one older than all.
    fn choose(known: &[u32], capability: u32) -> Option<Self> {
        if known.contains(&capability) {
            return Some(Self::Machine(capability));
        }
        known.iter().copied().filter(|&older| older < capability).max().map(Self::Portable)
    }
}

/// The kernels of a family for numbers stored in a precision, for a device of this compute capability (major, minor).
///
/// # Errors
///
/// NVRTC refuses the text, with its log, or does not know a device as old as this.
pub(in crate::backend::cuda) fn compile(
    nvrtc: Nvrtc,
    family: Family,
    precision: Precision,
    capability: (u32, u32),
) -> Result<Code, CompileError> {
    let known =
        architectures(nvrtc).map_err(|error| CompileError::NoArchitectures { status: name(error) })?;
    let Some(target) = Target::choose(&known, capability.0 * 10 + capability.1) else {
        let oldest = known.iter().min().copied().unwrap_or_default();
        return Err(CompileError::TooOld {
            oldest: format!("{}.{}", oldest / 10, oldest % 10),
            found: format!("{}.{}", capability.0, capability.1),
        });
    };
    build(nvrtc, family.file(), &source(family, precision), target).map_err(|failure| CompileError::Refused {
        family,
        precision,
        architecture: target.name(),
        status: name(failure.status),
        log: failure.log,
    })
}

/// What NVRTC said, and its log.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: NvrtcError,
    pub(super) log: String,
}

impl From<NvrtcError> for Failure {
    fn from(status: NvrtcError) -> Self {
        Self { status, log: String::new() }
    }
}

/// Compiles a text under a file's name.
pub(super) fn build(_: Nvrtc, file: &str, text: &str, target: Target) -> Result<Code, Failure> {
    let text = CString::new(text).expect("the sources have no NUL");
    let file = CString::new(file).expect("the names have no NUL");
    // `text` and `file` outlive the program, which may refer to them.
    let program = Program(result::create_program(&text, Some(&file))?);
    let options = [format!("--gpu-architecture={}", target.name()), "--std=c++17".to_owned()];
    // SAFETY: the program is live: it was created above and is destroyed when `program` is dropped.
    let compiled = unsafe { result::compile_program(program.0, &options) };
    compiled.map_err(|status| Failure { status, log: program.log() })?;
    Ok(match target {
        Target::Machine(_) => Code::Cubin(program.cubin()?),
        Target::Portable(_) => Code::Ptx(program.ptx()?),
    })
}

/// A program of NVRTC, destroyed when dropped.
struct Program(sys::nvrtcProgram);

impl Program {
    /// What the compiler printed; empty where even that cannot be had.
    fn log(&self) -> String {
        // SAFETY: the program is live as long as `self`.
        let log = unsafe { result::get_program_log(self.0) }.unwrap_or_default();
        let bytes: Vec<u8> = bytes_of(log);
        String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(&bytes)).trim_end().to_owned()
    }

    fn ptx(&self) -> Result<Vec<u8>, NvrtcError> {
        // SAFETY: the program is live as long as `self`, and was compiled.
        Ok(bytes_of(unsafe { result::get_ptx(self.0) }?))
    }

    fn cubin(&self) -> Result<Vec<u8>, NvrtcError> {
        let mut size = 0_usize;
        // SAFETY: the program is live and was compiled; `size` is written before the call returns.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &raw mut size) }.result()?;
        let mut code = vec![0_u8; size];
        // SAFETY: the program is live and was compiled; `code` has as many bytes as NVRTC asked for.
        unsafe { sys::nvrtcGetCUBIN(self.0, code.as_mut_ptr().cast()) }.result()?;
        Ok(code)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program is live, and nothing uses it after this. There is nothing to do about a failure.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// The status as NVRTC's manual names it.
pub(super) fn name(status: NvrtcError) -> String {
    format!("{:?}", status.0)
}

fn bytes_of(text: Vec<c_char>) -> Vec<u8> {
    text.into_iter().map(|byte| byte.to_ne_bytes()[0]).collect()
}

/// The compute capabilities, times ten, that this NVRTC makes machine code for.
fn architectures(_: Nvrtc) -> Result<Vec<u32>, NvrtcError> {
    let mut count = 0;
    // SAFETY: `count` is written before the call returns.
    unsafe { sys::nvrtcGetNumSupportedArchs(&raw mut count) }.result()?;
    let mut known = vec![0; usize::try_from(count).unwrap_or_default()];
    // SAFETY: `known` has room for as many as NVRTC says that it writes.
    unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }.result()?;
    Ok(known.into_iter().filter_map(|capability| u32::try_from(capability).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_device_gets_machine_code_and_a_newer_one_ptx_of_the_newest_known() {
        let known = [75, 80, 86, 90];
        assert_eq!(Target::choose(&known, 86), Some(Target::Machine(86)));
        assert_eq!(Target::choose(&known, 89), Some(Target::Portable(86)));
        assert_eq!(Target::choose(&known, 120), Some(Target::Portable(90)));
        assert_eq!(Target::choose(&known, 70), None);
        assert_eq!(Target::Machine(100).name(), "sm_100");
        assert_eq!(Target::Portable(90).name(), "compute_90");
    }
}
