//! The device's memory: host memory that knows its allocations.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;

use cudarc::driver::sys::CUresult as R;

/// cuMemAlloc: "suitably aligned for any kind of variable"; real drivers give 512 bytes, and cuBLASLt asks for 256.
const ALIGNMENT: usize = 256;
/// Bytes before and behind each allocation in which nobody may write.
const GUARD: usize = 1024;
/// What new memory, freed memory and guards hold: NaN in f32, f16 and bf16.
pub(crate) const UNSET: u8 = 0xFF;
/// Freed memory is kept to find writes into it, up to so many bytes.
const QUARANTINE: usize = 8 << 20;

/// Bytes that belong to one `cuMemAlloc` or one `cuMemHostAlloc`.
struct Block {
    /// Where the guard before it begins.
    raw: *mut u8,
    length: usize,
}

// SAFETY: the bytes belong to the block alone, and all access goes through the machine's lock.
unsafe impl Send for Block {}

impl Block {
    fn new(length: usize) -> Option<Self> {
        // SAFETY: the layout is not empty because of its guards.
        let raw = unsafe { alloc(Self::layout(length)?) };
        if raw.is_null() {
            return None;
        }
        // SAFETY: so many bytes were just allocated there.
        unsafe { raw.write_bytes(UNSET, length + 2 * GUARD) };
        Some(Self { raw, length })
    }

    fn layout(length: usize) -> Option<Layout> {
        Layout::from_size_align(length.checked_add(2 * GUARD)?, ALIGNMENT).ok()
    }

    fn address(&self) -> usize {
        self.raw as usize + GUARD
    }

    fn end(&self) -> usize {
        self.address() + self.length
    }

    /// Bytes from an offset on, counted from the guard before it.
    fn bytes(&self, from: usize, length: usize) -> &[u8] {
        assert!(from + length <= self.length + 2 * GUARD);
        // SAFETY: in bounds, as asserted.
        let start = unsafe { self.raw.add(from) };
        // SAFETY: in bounds; nobody writes while the machine is locked, but for kernels, which run to their end.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    fn bytes_mut(&mut self, from: usize, length: usize) -> &mut [u8] {
        assert!(from + length <= self.length + 2 * GUARD);
        // SAFETY: in bounds, as asserted.
        let start = unsafe { self.raw.add(from) };
        // SAFETY: in bounds, and borrowed for writing as the block is.
        unsafe { std::slice::from_raw_parts_mut(start, length) }
    }

    fn guards_are_whole(&self) -> bool {
        let whole = |from| self.bytes(from, GUARD).iter().all(|byte| *byte == UNSET);
        whole(0) && whole(GUARD + self.length)
    }

    fn is_unset(&self) -> bool {
        self.bytes(0, self.length + 2 * GUARD).iter().all(|byte| *byte == UNSET)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let layout = Self::layout(self.length).expect("it was allocated with this layout");
        // SAFETY: allocated with this layout, and nobody has the address any more.
        unsafe { dealloc(self.raw, layout) };
    }
}

/// All allocations.
pub(crate) struct Memory {
    total: usize,
    live: BTreeMap<usize, Block>,
    freed: Vec<Block>,
    host: BTreeMap<usize, Block>,
    /// Changes when the content of the memory changes.
    pub(crate) version: u64,
    /// What copies bring for page-locked memory, and where; it is there when the copy has ended.
    pub(crate) outbox: Vec<(usize, Vec<u8>)>,
    /// Whether a kernel ran since somebody looked at the guards.
    pub(crate) unchecked: bool,
}

/// Bytes that an allocation takes of the device's: real drivers give whole pages of 2 MiB; smaller ones here, so that
/// small devices have room.
fn taken(length: usize) -> usize {
    length.next_multiple_of(512)
}

impl Memory {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            total,
            live: BTreeMap::new(),
            freed: Vec::new(),
            host: BTreeMap::new(),
            version: 1,
            outbox: Vec::new(),
            unchecked: false,
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    pub(crate) fn set_total(&mut self, total: usize) {
        self.total = total;
    }

    pub(crate) fn in_use(&self) -> usize {
        self.live.values().map(|block| taken(block.length)).sum()
    }

    pub(crate) fn allocate(&mut self, length: usize) -> Result<usize, R> {
        // cuMemAlloc: "If bytesize is 0, cuMemAlloc() returns CUDA_ERROR_INVALID_VALUE."
        if length == 0 {
            return Err(R::CUDA_ERROR_INVALID_VALUE);
        }
        if length > self.total || self.in_use() + taken(length) > self.total {
            return Err(R::CUDA_ERROR_OUT_OF_MEMORY);
        }
        let block = Block::new(length).ok_or(R::CUDA_ERROR_OUT_OF_MEMORY)?;
        let address = block.address();
        self.live.insert(address, block);
        self.version += 1;
        Ok(address)
    }

    pub(crate) fn free(&mut self, address: usize) -> Result<(), R> {
        let mut block = self.live.remove(&address).ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
        let whole = block.guards_are_whole();
        let length = block.length;
        block.bytes_mut(0, length + 2 * GUARD).fill(UNSET);
        self.freed.push(block);
        while self.freed.iter().map(|block| block.length).sum::<usize>() > QUARANTINE {
            self.freed.remove(0);
        }
        self.version += 1;
        if whole { Ok(()) } else { Err(R::CUDA_ERROR_ILLEGAL_ADDRESS) }
    }

    pub(crate) fn allocate_host(&mut self, length: usize) -> Result<usize, R> {
        if length == 0 {
            return Err(R::CUDA_ERROR_INVALID_VALUE);
        }
        let block = Block::new(length).ok_or(R::CUDA_ERROR_OUT_OF_MEMORY)?;
        let address = block.address();
        self.host.insert(address, block);
        Ok(address)
    }

    pub(crate) fn free_host(&mut self, address: usize) -> Result<(), R> {
        let block = self.host.remove(&address).ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
        if block.guards_are_whole() { Ok(()) } else { Err(R::CUDA_ERROR_ILLEGAL_ADDRESS) }
    }

    /// Whether these bytes lie in page-locked memory of the host.
    pub(crate) fn is_page_locked(&self, address: usize, length: usize) -> bool {
        let block = self.host.range(..=address).next_back();
        block.is_some_and(|(_, block)| address + length <= block.end())
    }

    /// The allocation that has all these bytes.
    fn block(&self, address: usize, length: usize) -> Result<usize, R> {
        let found = self.live.range(..=address).next_back();
        match found {
            Some((start, block)) if address + length <= block.end() => Ok(*start),
            _ => Err(R::CUDA_ERROR_ILLEGAL_ADDRESS),
        }
    }

    /// Whether these bytes belong to one live allocation.
    pub(crate) fn has(&self, address: usize, length: usize) -> bool {
        self.block(address, length).is_ok()
    }

    /// Bytes from an address to its allocation's end.
    pub(crate) fn rest(&self, address: usize) -> usize {
        let block = self.live.range(..=address).next_back();
        block.map_or(0, |(_, block)| block.end().saturating_sub(address))
    }

    pub(crate) fn read(&self, address: usize, length: usize) -> Result<&[u8], R> {
        let start = self.block(address, length)?;
        Ok(self.live[&start].bytes(GUARD + address - start, length))
    }

    pub(crate) fn write(&mut self, address: usize, bytes: &[u8]) -> Result<(), R> {
        let start = self.block(address, bytes.len())?;
        let block = self.live.get_mut(&start).expect("it was just found");
        let place = block.bytes_mut(GUARD + address - start, bytes.len());
        if place != bytes {
            place.copy_from_slice(bytes);
            self.version += 1;
        }
        Ok(())
    }

    /// What all live bytes are, as one number; only for telling whether they changed.
    pub(crate) fn digest(&self) -> u64 {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        for block in self.live.values() {
            let (words, rest) = block.bytes(GUARD, block.length).as_chunks::<8>();
            for word in words {
                digest =
                    (digest.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x517c_c1b7_2722_0a95);
            }
            for byte in rest {
                digest = (digest.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
            }
        }
        digest
    }

    /// Whether nobody wrote outside allocations or into freed ones.
    pub(crate) fn is_whole(&self) -> bool {
        self.live.values().all(Block::guards_are_whole) && self.freed.iter().all(Block::is_unset)
    }
}
