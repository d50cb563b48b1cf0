//! Results of driver calls.

use std::ffi::{CStr, c_char};

use cudarc::driver::sys::{self, CUresult};

use crate::backend::cuda::failure::{Failure, Severity};

/// What a driver function returned, as a result.
pub(super) fn done(function: &'static str, code: CUresult) -> Result<(), Failure> {
    if code == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let (name, text) = words(code);
    Err(Failure { severity: severity(code), function, name, text })
}

/// What a driver function returned while a device is opened: nothing can be lost yet, and some codes have a usual cause.
pub(super) fn opened(function: &'static str, code: CUresult) -> Result<(), Failure> {
    let advice = match code {
        CUresult::CUDA_ERROR_SYSTEM_NOT_READY => {
            "; boards with NVSwitch need the service nvidia-fabricmanager running"
        }
        CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "; another process has the GPU for itself (`nvidia-smi -q -d COMPUTE` shows the mode)"
        }
        CUresult::CUDA_ERROR_UNKNOWN => {
            "; is the kernel module nvidia-uvm loaded? (`sudo nvidia-modprobe -u` loads it)"
        }
        _ => "",
    };
    done(function, code).map_err(|failure| Failure {
        severity: Severity::Broken,
        text: format!("{}{advice}", failure.text),
        ..failure
    })
}

/// The driver's name for a code, and its words.
fn words(code: CUresult) -> (String, String) {
    let mut name: *const c_char = std::ptr::null();
    // SAFETY: cuda.h: it writes one pointer; the caller holds a `Cuda`, so the function is there.
    let known = unsafe { sys::cuGetErrorName(code, &raw mut name) };
    let name = text_at(known, name);
    let mut text: *const c_char = std::ptr::null();
    // SAFETY: as above.
    let known = unsafe { sys::cuGetErrorString(code, &raw mut text) };
    let text = text_at(known, text);
    (name.unwrap_or_else(|| format!("{code:?}")), text.unwrap_or_else(|| "no words for it".to_string()))
}

fn text_at(known: CUresult, text: *const c_char) -> Option<String> {
    if known != CUresult::CUDA_SUCCESS || text.is_null() {
        return None;
    }
    // SAFETY: cuda.h: on success the pointer leads to a static text that ends with a zero.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

/// What a caller can do. After the errors that count as lost, "the process must be terminated and relaunched" (CUDA
/// Driver API, CUresult), or the device is gone.
fn severity(code: CUresult) -> Severity {
    match code {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => Severity::OutOfMemory,
        CUresult::CUDA_ERROR_NOT_SUPPORTED => Severity::Refused,
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | CUresult::CUDA_ERROR_INVALID_PC
        | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
        | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | CUresult::CUDA_ERROR_CONTAINED
        | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
        | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | CUresult::CUDA_ERROR_DEINITIALIZED
        | CUresult::CUDA_ERROR_ASSERT
        | CUresult::CUDA_ERROR_TENSOR_MEMORY_LEAK
        | CUresult::CUDA_ERROR_EXTERNAL_DEVICE
        | CUresult::CUDA_ERROR_NO_DEVICE
        | CUresult::CUDA_ERROR_INVALID_DEVICE
        | CUresult::CUDA_ERROR_UNKNOWN => Severity::Lost,
        _ => Severity::Broken,
    }
}
