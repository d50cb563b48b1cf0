//! A piece of the device's memory.

use cudarc::driver::sys;

use crate::backend::cuda::failure::Failure;

use super::call::done;
use super::device::Gpu;
use super::stream::Stream;

/// Device memory, aligned to 256 bytes at least (CUDA Programming Guide, "Device Memory Accesses"). Empty memory has
/// the address 0.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Memory {
    address: sys::CUdeviceptr,
    bytes: usize,
    gpu: Gpu,
}

impl Memory {
    /// Takes memory; what it holds is not known.
    pub(in crate::backend::cuda) fn take(gpu: &Gpu, bytes: usize) -> Result<Self, Failure> {
        let mut address = 0;
        if bytes > 0 {
            // SAFETY: the context is current; it writes one address, freed in `drop`.
            done("cuMemAlloc_v2", unsafe { sys::cuMemAlloc_v2(&raw mut address, bytes) })?;
        }
        Ok(Self { address, bytes, gpu: gpu.clone() })
    }

    /// Takes memory and fills it.
    pub(in crate::backend::cuda) fn holding(
        gpu: &Gpu,
        stream: &Stream,
        values: &[u8],
    ) -> Result<Self, Failure> {
        let memory = Self::take(gpu, values.len())?;
        memory.write(stream, values)?;
        Ok(memory)
    }

    pub(in crate::backend::cuda) fn address(&self) -> u64 {
        self.address
    }

    pub(in crate::backend::cuda) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Overwrites its beginning, and waits until that is done.
    pub(in crate::backend::cuda) fn write(&self, stream: &Stream, values: &[u8]) -> Result<(), Failure> {
        if values.len() > self.bytes {
            let text = format!("expected at most {} bytes, found {}", self.bytes, values.len());
            return Err(Failure::refused("Memory::write", text));
        }
        if values.is_empty() {
            return Ok(());
        }
        // SAFETY: the destination is at least as long, checked above; the source lives until the stream is synchronised.
        let code = unsafe {
            sys::cuMemcpyHtoDAsync_v2(self.address, values.as_ptr().cast(), values.len(), stream.raw())
        };
        done("cuMemcpyHtoDAsync_v2", code)?;
        stream.sync()
    }

    /// Its first bytes, when everything queued before is done.
    pub(in crate::backend::cuda) fn read(&self, stream: &Stream, bytes: usize) -> Result<Vec<u8>, Failure> {
        if bytes > self.bytes {
            let text = format!("expected at most {} bytes, found {bytes}", self.bytes);
            return Err(Failure::refused("Memory::read", text));
        }
        let mut values = vec![0_u8; bytes];
        if bytes > 0 {
            // SAFETY: the source is at least as long, checked above; `values` lives until the stream is synchronised.
            let code = unsafe {
                sys::cuMemcpyDtoHAsync_v2(values.as_mut_ptr().cast(), self.address, bytes, stream.raw())
            };
            done("cuMemcpyDtoHAsync_v2", code)?;
            stream.sync()?;
        }
        Ok(values)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.address != 0 && !self.gpu.is_abandoned() {
            // SAFETY: taken in `take` and freed once. A lost context has nothing left to free.
            let _ = unsafe { sys::cuMemFree_v2(self.address) };
        }
    }
}
