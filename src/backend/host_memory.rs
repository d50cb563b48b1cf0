//! What main memory there is, asked before it is taken: an allocation that fails ends the process.

use super::BackendError;

pub(super) const MIB: u64 = 1 << 20;

/// Refuses to take more memory than the kernel says can be had without swapping.
///
/// `needed` is `None` when the sum of bytes does not fit 64 bits. Systems without `/proc/meminfo` are not
/// checked.
pub(super) fn require(device: &str, needed: Option<u64>) -> Result<(), BackendError> {
    check(device, needed, available())
}

/// Bytes that the kernel says can be had without swapping; none on systems without `/proc/meminfo`.
pub(super) fn available() -> Option<u64> {
    available_bytes(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn check(device: &str, needed: Option<u64>, available: Option<u64>) -> Result<(), BackendError> {
    let needed = needed.unwrap_or(u64::MAX);
    match available {
        Some(available) if needed > available => Err(BackendError::OutOfMemory {
            device: device.to_string(),
            needed_mib: needed.div_ceil(MIB),
            available_mib: available / MIB,
            fitting_batch: None,
        }),
        _ => Ok(()),
    }
}

/// Bytes of the line `MemAvailable: N kB` (proc_meminfo(5)).
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes of f32 tensors with these many elements, or nothing if the sum overflows.
pub(super) fn f32_bytes(elements: impl IntoIterator<Item = usize>) -> Option<u64> {
    elements.into_iter().try_fold(0u64, |sum, n| sum.checked_add((n as u64).checked_mul(4)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_kibibytes() {
        let text = "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:       2048 kB\n";
        assert_eq!(available_bytes(text), Some(2 << 20));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn needing_more_than_there_is_or_than_can_be_counted_is_an_error() {
        assert_eq!(check("cpu", Some(MIB), Some(MIB)), Ok(()));
        let error = check("cpu", Some(3 * MIB + 1), Some(2 * MIB));
        let expected = BackendError::OutOfMemory {
            device: "cpu".to_string(),
            needed_mib: 4,
            available_mib: 2,
            fitting_batch: None,
        };
        assert_eq!(error, Err(expected));
        assert_eq!(f32_bytes([usize::MAX, usize::MAX]), None);
        assert!(check("cpu", None, Some(MIB)).is_err());
    }
}
