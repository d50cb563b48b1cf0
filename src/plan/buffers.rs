//! Buffer assignment: a buffer is used again as soon as nobody needs what it holds.

use super::BufferId;

/// Hands out buffers and takes them back.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    sizes: Vec<usize>,
    readers_left: Vec<usize>,
    free: Vec<BufferId>,
    keep_all: bool,
}

impl Buffers {
    pub(super) fn new(keep_all: bool) -> Self {
        Self { keep_all, ..Self::default() }
    }

    /// A buffer of at least `size` elements that will be read `readers` times.
    ///
    /// Best fit among the free ones; if none is large enough the largest grows, since one larger buffer costs
    /// less than two.
    pub(super) fn take(&mut self, size: usize, readers: usize) -> BufferId {
        let fitting = |&(_, &id): &(usize, &BufferId)| self.sizes[id] >= size;
        let best = self.free.iter().enumerate().filter(fitting).min_by_key(|&(_, &id)| self.sizes[id]);
        let largest = || self.free.iter().enumerate().max_by_key(|&(_, &id)| self.sizes[id]);
        let id = match best.or_else(largest).map(|(at, _)| at) {
            Some(at) => self.free.swap_remove(at),
            None => {
                self.sizes.push(0);
                self.readers_left.push(0);
                self.sizes.len() - 1
            }
        };
        self.sizes[id] = self.sizes[id].max(size);
        self.readers_left[id] = readers;
        id
    }

    /// Adds readers to a buffer: a view of it is read too.
    pub(super) fn add_readers(&mut self, id: BufferId, readers: usize) {
        self.readers_left[id] += readers;
    }

    /// One reader is done; the last one frees the buffer.
    pub(super) fn release(&mut self, id: BufferId) {
        self.readers_left[id] -= 1;
        if self.readers_left[id] == 0 && !self.keep_all {
            self.free.push(id);
        }
    }

    pub(super) fn into_sizes(self) -> Vec<usize> {
        self.sizes
    }
}
