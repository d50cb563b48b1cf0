//! Whether a network fits the device's memory, and which batch would.

use crate::backend::BackendError;
use crate::backend::host_memory::MIB;

/// Bytes that a network needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    /// Whatever the batch is: parameters, scratch memory.
    pub(super) fixed: u64,
    /// Buffers of the batch.
    pub(super) buffers: u64,
    /// Items in it.
    pub(super) batch: usize,
}

impl Needs {
    /// Refuses a network that does not fit; the buffers of other batches are in proportion.
    pub(super) fn check(self, device: &str, available: u64) -> Result<(), BackendError> {
        let needed = self.fixed.saturating_add(self.buffers);
        if needed <= available {
            return Ok(());
        }
        let each = self.buffers.div_ceil(self.batch.max(1) as u64).max(1);
        let fitting = available.saturating_sub(self.fixed) / each;
        Err(BackendError::OutOfMemory {
            device: device.to_string(),
            needed_mib: needed.div_ceil(MIB),
            available_mib: available / MIB,
            fitting_batch: Some(usize::try_from(fitting).unwrap_or(usize::MAX)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_batch_that_fits_is_named() {
        // 10 MiB whatever the batch, 3 MiB an item: of 100 MiB, 90 are left for 30 items.
        let needs = |batch: usize| Needs { fixed: 10 * MIB, buffers: 3 * MIB * batch as u64, batch };
        let text =
            |batch, available| needs(batch).check("GPU", available * MIB).map_err(|error| error.to_string());
        assert_eq!(text(30, 100), Ok(()));
        let expected = "the network needs 202 MiB on GPU, but 100 MiB are available; --batch 30 would fit";
        assert_eq!(text(64, 100), Err(expected.to_string()));
        assert!(text(1, 5).unwrap_err().contains("not even --batch 1 fits"));
    }
}
