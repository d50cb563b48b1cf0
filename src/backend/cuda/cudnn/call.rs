//! Results of cuDNN's calls.

use std::ffi::{CStr, c_int};

use cudarc::cudnn::sys::{self, cudnnStatus_t};

use crate::backend::cuda::failure::{Failure, Severity};

/// What a function of cuDNN returned, as a result.
pub(super) fn done(function: &'static str, status: cudnnStatus_t) -> Result<(), Failure> {
    // As a number from here on: newer versions have statuses that the binding's list lacks.
    let code = status as u32;
    if code == 0 {
        return Ok(());
    }
    // SAFETY: it takes any status and returns a static text that ends with a zero; the handle's holder has the library.
    let text = unsafe { sys::cudnnGetErrorString(status) };
    let name = if text.is_null() {
        format!("status {code}")
    } else {
        // SAFETY: as above; it is not null.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    };
    let text = match last_words() {
        words if words.is_empty() => meaning(code).to_string(),
        words => format!("{}: {words}", meaning(code)),
    };
    Err(Failure { severity: severity(code), function, name, text })
}

/// What cuDNN says of the last failure on this thread, in one line: which argument it did not take, and why.
fn last_words() -> String {
    const MOST: usize = 512;
    let mut text = [0_u8; MOST];
    // SAFETY: it writes at most as many bytes as it is told; the handle's holder has the library.
    unsafe { sys::cudnnGetLastErrorString(text.as_mut_ptr().cast(), MOST - 1) };
    let words = CStr::from_bytes_until_nul(&text).unwrap_or_default().to_string_lossy().into_owned();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a caller can do. cuDNN 9 counts its statuses by thousands, and within one says more (cudnn_graph Library,
/// `cudnnStatus_t`).
const fn severity(code: u32) -> Severity {
    match code {
        // A call that is no more, one that an argument is wrong for, one that is not supported, and one for which the
        // kernel could not be compiled.
        1004 | 2000..=3999 | 4001 => Severity::Refused,
        4004 => Severity::OutOfMemory,
        _ => Severity::Broken,
    }
}

const fn meaning(code: u32) -> &'static str {
    match code {
        1000..=1999 => "cuDNN does not start or does not fit together",
        2000..=2999 => "cuDNN takes no such argument",
        3000..=3999 => "cuDNN does not support this",
        4000..=4999 => "cuDNN failed inside",
        5000..=5999 => "the GPU did not execute it",
        _ => "an unknown status",
    }
}

/// A size or distance as the older calls take it.
pub(super) fn int(function: &'static str, value: usize) -> Result<c_int, Failure> {
    c_int::try_from(value).map_err(|_| {
        Failure::refused(function, format!("expected a size below 2^31, found {value}; lower --batch"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_supported_is_refused_and_memory_is_told_apart() {
        for code in [2000, 2003, 3000, 3014, 4001] {
            assert_eq!(severity(code), Severity::Refused, "{code}");
        }
        assert_eq!(severity(4004), Severity::OutOfMemory);
        for code in [1001, 4000, 4003, 5000, 5001, 9999] {
            assert_eq!(severity(code), Severity::Broken, "{code}");
        }
    }
}
