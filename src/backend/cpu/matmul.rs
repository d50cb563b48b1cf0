//! Matrix products into tiles of an output: the one place that calls `gemm::gemm`, which is unsafe.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, Ordering};

use gemm::Parallelism;
use rayon::prelude::*;

/// A matrix over a slice: element (r, c) is `data[r * row_stride + c * column_stride]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix whose rows start `stride` elements apart.
    ///
    /// # Panics
    ///
    /// The slice is too short.
    pub(super) fn row_major(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self::checked(data, rows, columns, stride, 1)
    }

    /// A column-major matrix whose columns start `stride` elements apart.
    ///
    /// # Panics
    ///
    /// The slice is too short.
    pub(super) fn column_major(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self::checked(data, rows, columns, 1, stride)
    }

    fn checked(
        data: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
        column_stride: usize,
    ) -> Self {
        assert!(rows > 0 && columns > 0, "an empty matrix");
        let last = (rows - 1)
            .checked_mul(row_stride)
            .zip((columns - 1).checked_mul(column_stride))
            .and_then(|(r, c)| r.checked_add(c));
        assert!(last.is_some_and(|last| last < data.len()), "the slice is shorter than the matrix");
        Self { data, rows, columns, row_stride, column_stride }
    }
}

/// What a product is added to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bias<'a> {
    /// Nothing.
    None,
    /// One number for each row of the output.
    PerRow(&'a [f32]),
    /// One number for each column of the output matrix, of which a tile takes its own.
    PerColumn(&'a [f32]),
}

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
    output: PhantomData<&'a mut [f32]>,
}

/// Cuts each matrix of the output into tiles and runs `task` on every tile, in parallel. `task` gets the
/// index of the matrix and the tile.
///
/// # Panics
///
/// The output does not consist of whole matrices.
pub(super) fn for_each_tile(out: &mut [f32], tiling: Tiling, task: impl Fn(usize, Tile<'_>) + Sync) {
    let Tiling { rows, columns, tile } = tiling;
    let matrix = rows * columns;
    assert!(matrix > 0 && tile > 0 && out.len().is_multiple_of(matrix), "a part of a matrix");
    let (matrices, tiles) = (out.len() / matrix, columns.div_ceil(tile));
    // Atomic only because a plain pointer cannot be shared between threads.
    let base = AtomicPtr::new(out.as_mut_ptr());
    (0..matrices * tiles).into_par_iter().with_max_len(1).for_each(|index| {
        let (at, from) = (index / tiles, index % tiles * tile);
        // SAFETY: at < matrices and from < columns, so the offset lies inside `out`, which stays borrowed
        // until all tasks are done.
        let first = unsafe { base.load(Ordering::Relaxed).add(at * matrix + from) };
        // No two tiles share an element: each (matrix, range of columns) belongs to one index.
        let columns_of_tile = from..(from + tile).min(columns);
        task(at, Tile { first, rows, columns: columns_of_tile, stride: columns, output: PhantomData });
    });
}

impl Tile<'_> {
    /// The columns of the output matrix that this tile is.
    pub(super) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// Overwrites the tile with bias + a x b.
    ///
    /// # Panics
    ///
    /// The shapes of `a` and `b` or the length of the bias do not fit.
    pub(super) fn multiply(&mut self, a: Matrix<'_>, b: Matrix<'_>, bias: Bias<'_>) {
        let (rows, width) = (self.rows, self.columns.len());
        assert!(a.rows == rows && b.columns == width && a.columns == b.rows, "shapes do not fit");
        let accumulate = match bias {
            Bias::None => false,
            Bias::PerRow(values) => {
                assert_eq!(values.len(), rows, "one bias for each row");
                (0..rows).for_each(|r| self.row(r).fill(values[r]));
                true
            }
            Bias::PerColumn(values) => {
                let values = &values[self.columns.clone()];
                (0..rows).for_each(|r| self.row(r).copy_from_slice(values));
                true
            }
        };
        let to_isize = |stride: usize| isize::try_from(stride).expect("no slice is longer than isize::MAX");
        // SAFETY: `Matrix::checked` made sure that a and b lie inside their slices for these shapes and
        // strides. The tile's rows lie inside the output and only this tile writes them (`for_each_tile`).
        unsafe {
            gemm::gemm(
                rows,
                width,
                a.columns,
                self.first,
                1,
                to_isize(self.stride),
                accumulate,
                a.data.as_ptr(),
                to_isize(a.column_stride),
                to_isize(a.row_stride),
                b.data.as_ptr(),
                to_isize(b.column_stride),
                to_isize(b.row_stride),
                1.0f32,
                1.0f32,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
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

    fn multiply(rows: usize, columns: usize, inner: usize, tile: usize, bias: Bias<'_>) -> Vec<f32> {
        let a: Vec<f32> = (0..rows * inner).map(|i| i as f32 - 3.0).collect();
        let b: Vec<f32> = (0..inner * columns).map(|i| 2.0 - i as f32).collect();
        let mut out = vec![f32::NAN; rows * columns];
        for_each_tile(&mut out, Tiling { rows, columns, tile }, |matrix, mut tile| {
            assert_eq!(matrix, 0);
            let from = tile.columns().start;
            let a = Matrix::row_major(&a, rows, inner, inner);
            let b = Matrix::row_major(&b[from..], inner, tile.columns().len(), columns);
            tile.multiply(a, b, bias);
        });
        out
    }

    fn expected(rows: usize, columns: usize, inner: usize, bias: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let element = |r: usize, c: usize| {
            let product = |q: usize| ((r * inner + q) as f32 - 3.0) * (2.0 - (q * columns + c) as f32);
            bias(r, c) + (0..inner).map(product).sum::<f32>()
        };
        (0..rows * columns).map(|i| element(i / columns, i % columns)).collect()
    }

    #[test]
    fn tiles_of_any_width_make_up_the_whole_product() {
        // Small whole numbers: every sum is exact in f32.
        let row = [1.0, 2.0, 3.0];
        let column = [9.0, 8.0, 7.0, 6.0, 5.0];
        for tile in 1..=6 {
            assert_eq!(multiply(3, 5, 4, tile, Bias::None), expected(3, 5, 4, |_, _| 0.0));
            assert_eq!(multiply(3, 5, 4, tile, Bias::PerRow(&row)), expected(3, 5, 4, |r, _| row[r]));
            assert_eq!(
                multiply(3, 5, 4, tile, Bias::PerColumn(&column)),
                expected(3, 5, 4, |_, c| column[c])
            );
        }
    }

    #[test]
    #[should_panic(expected = "shorter than the matrix")]
    fn a_matrix_longer_than_its_slice_is_refused() {
        Matrix::row_major(&[0.0; 5], 2, 3, 3);
    }

    #[test]
    #[should_panic(expected = "shapes do not fit")]
    fn matrices_that_do_not_fit_each_other_are_refused() {
        let mut out = [0.0; 4];
        for_each_tile(&mut out, Tiling { rows: 2, columns: 2, tile: 2 }, |_, mut tile| {
            let a = Matrix::row_major(&[1.0; 6], 2, 3, 3);
            let b = Matrix::column_major(&[1.0; 4], 2, 2, 2);
            tile.multiply(a, b, Bias::None);
        });
    }

    #[test]
    fn tiles_are_even_and_share_out_among_the_threads() {
        assert_eq!(Tiling::new(8, 49, 1, 1000, 2).tile, 25);
        assert_eq!(Tiling::new(8, 49, 2, 1000, 2).tile, 49);
        assert_eq!(Tiling::new(8, 100, 1, 30, 2).tile, 25);
        assert_eq!(Tiling::new(8, 1, 1, 30, 2).tile, 1);
    }
}
