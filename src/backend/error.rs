//! What a device can fail with.

/// A device failure, with what to do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BackendError {
    /// Not enough memory for weights and buffers.
    #[error(
        "the network needs {needed_mib} MiB on {device}, but {available_mib} MiB are available; {}",
        advice(*fitting_batch)
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// Memory needed.
        needed_mib: u64,
        /// Memory there is.
        available_mib: u64,
        /// The largest batch that fits, where that is known; 0 if none does.
        fitting_batch: Option<usize>,
    },
    /// The engine cannot run a layer.
    #[error("layer \"{layer}\": {reason}")]
    Unsupported {
        /// The layer.
        layer: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The device itself failed.
    #[error("{device}: {reason}")]
    Device {
        /// The device.
        device: String,
        /// What it said.
        reason: String,
    },
}

/// What to do when memory does not suffice.
fn advice(fitting_batch: Option<usize>) -> String {
    match fitting_batch {
        None => "lower --batch".to_string(),
        Some(0) => "not even --batch 1 fits; take a smaller network, or free memory on it".to_string(),
        Some(batch) => format!("--batch {batch} would fit"),
    }
}
