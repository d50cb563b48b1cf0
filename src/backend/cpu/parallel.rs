//! How work is cut into tasks, and the memory that each thread has for itself.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

/// Elements of a task: large enough to hide what a task costs (about 1 us), small enough to stay in L2 and
/// to spread over the threads.
const TASK: usize = 16 * 1024;

/// Cuts a flat output into pieces; `task` gets the index of the piece's first element, and the piece.
pub(super) fn for_each_piece(out: &mut [f32], task: impl Fn(usize, &mut [f32]) + Sync) {
    out.par_chunks_mut(TASK).enumerate().for_each(|(i, piece)| task(i * TASK, piece));
}

/// Cuts an output into planes of `plane` elements that each cost about `work` elementary operations; small
/// ones share a task. `task` gets the index of the plane, and the plane.
pub(super) fn for_each_plane(
    out: &mut [f32],
    plane: usize,
    work: usize,
    task: impl Fn(usize, &mut [f32]) + Sync,
) {
    let per_task = (TASK / work.max(1)).max(1);
    out.par_chunks_mut(plane.saturating_mul(per_task)).enumerate().for_each(|(t, planes)| {
        for (i, values) in planes.chunks_exact_mut(plane).enumerate() {
            task(t * per_task + i, values);
        }
    });
}

/// One buffer for each thread of the pool.
#[derive(Debug)]
pub(super) struct Scratch {
    per_thread: Vec<Mutex<Vec<f32>>>,
}

impl Scratch {
    pub(super) fn new(threads: usize, elements: usize) -> Self {
        Self { per_thread: (0..threads.max(1)).map(|_| Mutex::new(vec![0.0; elements])).collect() }
    }

    /// Lends the calling thread its buffer. The lock is never waited for: a thread asks only for its own.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut [f32]) -> R) -> R {
        let thread = rayon::current_thread_index().unwrap_or(0) % self.per_thread.len();
        work(&mut self.per_thread[thread].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where the buffers lie and how long they are: a test holds a launch to leaving them alone.
    #[cfg(test)]
    pub(super) fn places(&self) -> Vec<(usize, usize)> {
        let place = |m: &Mutex<Vec<f32>>| {
            let buffer = m.lock().unwrap();
            (buffer.as_ptr() as usize, buffer.capacity())
        };
        self.per_thread.iter().map(place).collect()
    }
}
