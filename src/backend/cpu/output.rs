//! An output cut into tiles that tasks write side by side. A tile's rows lie apart, so safe slices cannot express it.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::team::Team;

/// The shape of the matrices that an output consists of, and the width of the tiles they are cut into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiling {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) tile: usize,
}

impl Tiling {
    /// Tiles of at most `widest` columns, evenly wide, and as many that `parts` matrices give each of
    /// `threads` threads about the same number.
    pub(super) fn new(rows: usize, columns: usize, parts: usize, widest: usize, threads: usize) -> Self {
        let by_size = columns.div_ceil(widest.max(1));
        let tiles = if parts.is_multiple_of(threads) { by_size } else { by_size.next_multiple_of(threads) };
        Self { rows, columns, tile: columns.div_ceil(tiles).max(1) }
    }
}

/// Some columns of a row-major output matrix, written by one task only.
pub(super) struct Tile<'a> {
    first: *mut f32,
    rows: usize,
    columns: Range<usize>,
    stride: usize,
    thread: usize,
    output: PhantomData<&'a mut [f32]>,
}

/// Cuts each matrix of the output into tiles and runs `task` on every tile, in parallel. `task` gets the
/// index of the matrix and the tile.
///
/// # Panics
///
/// The output does not consist of whole matrices.
pub(super) fn for_each_tile(
    team: &Team,
    out: &mut [f32],
    tiling: Tiling,
    task: impl Fn(usize, Tile<'_>) + Sync,
) {
    let Tiling { rows, columns, tile } = tiling;
    let matrix = rows.checked_mul(columns).expect("an output fits the address space");
    assert!(matrix > 0 && tile > 0 && out.len().is_multiple_of(matrix), "a part of a matrix");
    let (matrices, tiles) = (out.len() / matrix, columns.div_ceil(tile));
    // Atomic only because a plain pointer cannot be shared between threads.
    let base = AtomicPtr::new(out.as_mut_ptr());
    team.run(matrices * tiles, &|index, thread| {
        let (at, from) = (index / tiles, index % tiles * tile);
        // SAFETY: at < matrices and from < columns, so the offset lies inside `out`, which stays borrowed
        // until all tasks are done.
        let first = unsafe { base.load(Ordering::Relaxed).add(at * matrix + from) };
        // No two tiles share an element: each (matrix, range of columns) belongs to one index.
        let columns_of_tile = from..(from + tile).min(columns);
        let (stride, output) = (columns, PhantomData);
        task(at, Tile { first, rows, columns: columns_of_tile, stride, thread, output });
    });
}

impl Tile<'_> {
    /// The columns of the output matrix that this tile is.
    pub(super) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// The thread that writes it.
    pub(super) fn thread(&self) -> usize {
        self.thread
    }

    /// The tile's part of a row of the output.
    ///
    /// # Panics
    ///
    /// The tile has no such row.
    pub(super) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: row < rows, so the row's first element lies inside the output.
        let start = unsafe { self.first.add(row * self.stride) };
        // SAFETY: the tile's columns of this row lie inside the output, no other tile has them, and `self`
        // is borrowed for as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(start, self.columns.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_belongs_to_one_tile() {
        for (rows, columns, tile) in [(3, 5, 2), (1, 7, 7), (4, 1, 3), (2, 6, 4)] {
            let mut out = vec![0.0; 2 * rows * columns];
            for_each_tile(
                &Team::new(2).unwrap(),
                &mut out,
                Tiling { rows, columns, tile },
                |matrix, mut part| {
                    let from = part.columns().start;
                    for row in 0..rows {
                        for (i, value) in part.row(row).iter_mut().enumerate() {
                            *value += (matrix * 1000 + row * 100 + from + i) as f32;
                        }
                    }
                },
            );
            let place = |i: usize| {
                let (matrix, rest) = (i / (rows * columns), i % (rows * columns));
                (matrix * 1000 + rest / columns * 100 + rest % columns) as f32
            };
            assert_eq!(out, (0..out.len()).map(place).collect::<Vec<_>>());
        }
    }

    #[test]
    fn tiles_are_even_and_share_out_among_the_threads() {
        assert_eq!(Tiling::new(8, 49, 1, 1000, 2).tile, 25);
        assert_eq!(Tiling::new(8, 49, 2, 1000, 2).tile, 49);
        assert_eq!(Tiling::new(8, 100, 1, 30, 2).tile, 25);
        assert_eq!(Tiling::new(8, 1, 1, 30, 2).tile, 1);
    }
}
