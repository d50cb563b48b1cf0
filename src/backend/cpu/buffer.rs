//! Memory for a plan's buffers, in huge pages where the system has them.
//!
//! A tile reads a line of each of a hundred channels, and every channel of a large image lies in another page. With
//! pages of 4 KiB that is a walk through the page table for each line, on a virtual machine through two of them;
//! with pages of 2 MiB the processor remembers all of them.

use memmap2::MmapMut;

/// Some f32 values, zero at first.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// None while the buffer is empty.
    map: Option<MmapMut>,
}

impl Buffer {
    /// A buffer of `len` values.
    ///
    /// # Errors
    ///
    /// The system has not as much memory.
    pub(super) fn new(len: usize) -> std::io::Result<Self> {
        if len == 0 {
            return Ok(Self::default());
        }
        let bytes = len.checked_mul(size_of::<f32>()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let map = MmapMut::map_anon(bytes)?;
        #[cfg(target_os = "linux")]
        {
            // Systems without huge pages refuse this, and nothing but time is lost.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Self { map: Some(map) })
    }

    pub(super) fn values(&self) -> &[f32] {
        self.map.as_deref().map_or(&[], bytemuck::cast_slice)
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        self.map.as_deref_mut().map_or(&mut [], bytemuck::cast_slice_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_holds_what_was_written_and_zeros_elsewhere() {
        for len in [0, 1, 1023, 1 << 20] {
            let mut buffer = Buffer::new(len).unwrap();
            assert_eq!(buffer.values(), vec![0.0; len]);
            buffer.values_mut().iter_mut().enumerate().for_each(|(i, value)| *value = i as f32);
            assert_eq!(buffer.values(), (0..len).map(|i| i as f32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        // The one does not fit a machine word of bytes, the other not the address space.
        assert!(Buffer::new(usize::MAX).is_err());
        assert!(Buffer::new(isize::MAX as usize / 4).is_err());
    }
}
