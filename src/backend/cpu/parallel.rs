//! How work is cut into tasks, and the memory that each thread has for itself.

use std::sync::{Mutex, PoisonError};

use super::output::{Tiling, for_each_tile};
use super::simd::vectorised;
use super::team::Team;

/// Elements of a task: large enough to hide what a task costs, small enough to stay in L2 and to spread over the
/// threads.
const TASK: usize = 16 * 1024;

/// What a kernel runs on.
#[derive(Clone, Copy)]
pub(super) struct Workers<'a> {
    pub(super) team: &'a Team,
    pub(super) scratch: &'a Scratch,
}

/// Cuts a flat output into pieces; `task` gets the index of the piece's first element, and the piece.
pub(super) fn for_each_piece(workers: Workers<'_>, out: &mut [f32], task: impl Fn(usize, &mut [f32]) + Sync) {
    let tiling = Tiling { rows: 1, columns: out.len(), tile: TASK };
    for_each_tile(workers.team, out, tiling, |_, mut tile| {
        let start = tile.columns().start;
        let piece = tile.row(0);
        vectorised(
            #[inline(always)]
            || task(start, piece),
        );
    });
}

/// Cuts an output into planes of `plane` elements that each cost about `work` elementary operations; small
/// ones share a task. `task` gets the index of the plane, and the plane.
pub(super) fn for_each_plane(
    workers: Workers<'_>,
    out: &mut [f32],
    plane: usize,
    work: usize,
    task: impl Fn(usize, &mut [f32]) + Sync,
) {
    let per_task = (TASK / work.max(1)).max(1);
    let tiling = Tiling { rows: 1, columns: out.len(), tile: plane.saturating_mul(per_task) };
    for_each_tile(workers.team, out, tiling, |_, mut tile| {
        let first = tile.columns().start / plane;
        for (i, values) in tile.row(0).chunks_exact_mut(plane).enumerate() {
            vectorised(
                #[inline(always)]
                || task(first + i, values),
            );
        }
    });
}

/// One buffer for each thread.
#[derive(Debug)]
pub(super) struct Scratch {
    per_thread: Vec<Mutex<Vec<f32>>>,
}

impl Scratch {
    pub(super) fn new(threads: usize, elements: usize) -> Self {
        Self { per_thread: (0..threads.max(1)).map(|_| Mutex::new(vec![0.0; elements])).collect() }
    }

    /// Lends a thread its buffer. The lock is never waited for: a thread asks only for its own.
    pub(super) fn with<R>(&self, thread: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
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
