//! What a library of NVIDIA's answers when a call fails.

use crate::backend::BackendError;

/// What a caller can do about a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// The library does not do this for these arguments; another way may work.
    Refused,
    /// Device memory does not suffice.
    OutOfMemory,
    /// The device or its context is lost: every later call fails as well.
    Lost,
    /// Anything else.
    Broken,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{function} failed: {text} ({name})")]
pub(super) struct Failure {
    pub(super) severity: Severity,
    /// The function that was called.
    pub(super) function: &'static str,
    /// The library's name for the error.
    pub(super) name: String,
    /// Its words.
    pub(super) text: String,
}

impl Failure {
    /// A failure that this program finds itself, before it calls a library or after a library's success.
    pub(super) fn refused(function: &'static str, text: impl Into<String>) -> Self {
        Self { severity: Severity::Refused, function, name: "refused".to_string(), text: text.into() }
    }

    /// The failure as the rest of the program sees it.
    pub(super) fn on(&self, device: &str) -> BackendError {
        let advice = match self.severity {
            Severity::Lost => {
                "; the GPU is lost for this process: the kernel log (`dmesg`, lines with Xid) says why, and a reset or a \
                 reboot mends it"
            }
            Severity::OutOfMemory => "; free memory on it or lower --batch",
            Severity::Refused | Severity::Broken => "",
        };
        BackendError::Device { device: device.to_string(), reason: format!("{self}{advice}") }
    }
}
