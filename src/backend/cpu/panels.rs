//! Weights, packed once while preparing into the order in which the tiles read them.

/// Rows of a weight matrix in panels of some rows each; within a panel, the rows' numbers for the same column
/// lie together. Rows that the last panel lacks are zeros.
#[derive(Debug, Clone)]
pub(super) struct Panels {
    rows: usize,
    depth: usize,
    width: usize,
    /// Rows of the last panel, padding included.
    last: usize,
    values: Vec<f32>,
    /// What the sums of each row begin with.
    bias: Vec<f32>,
}

/// What a row of weights is multiplied with, and what its sums begin with.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowTerms {
    pub(super) factor: f32,
    pub(super) bias: f32,
}

impl Panels {
    /// Packs a row-major matrix of `depth` columns into panels of `width` rows, the last one rounded up to a
    /// multiple of `multiple`.
    pub(super) fn new(
        matrix: &[f32],
        depth: usize,
        width: usize,
        multiple: usize,
        terms: impl Fn(usize) -> RowTerms,
    ) -> Self {
        let rows = matrix.len() / depth;
        let whole = rows.div_ceil(width) - 1;
        let last = (rows - whole * width).next_multiple_of(multiple);
        let mut values = vec![0.0; (whole * width + last) * depth];
        let mut bias = vec![0.0; whole * width + last];
        for (row, numbers) in matrix.chunks_exact(depth).enumerate() {
            let panel = row / width;
            let panel_width = if panel == whole { last } else { width };
            let panel = &mut values[panel * width * depth..][..panel_width * depth];
            let terms = terms(row);
            bias[row] = terms.bias;
            for (column, &number) in panel.chunks_exact_mut(panel_width).zip(numbers) {
                column[row % width] = number * terms.factor;
            }
        }
        Self { rows, depth, width, last, values, bias }
    }

    /// One of the panels.
    pub(super) fn get(&self, index: usize) -> Panel<'_> {
        let first = index * self.width;
        let rows = self.width.min(self.rows - first);
        let width = if rows < self.width { self.last } else { self.width };
        let values = &self.values[first * self.depth..][..width * self.depth];
        Panel { first, rows, width, values, bias: &self.bias[first..][..width] }
    }
}

/// Some rows of the weights.
pub(super) struct Panel<'a> {
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Numbers for each column: the rows and their padding.
    pub(super) width: usize,
    pub(super) values: &'a [f32],
    /// What each row's sums begin with.
    pub(super) bias: &'a [f32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_panel_lie_together_and_the_last_panel_is_padded_with_zeros() {
        let matrix = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
        let panels = Panels::new(&matrix, 2, 4, 2, |row| RowTerms {
            factor: if row == 4 { 10.0 } else { 1.0 },
            bias: row as f32,
        });
        let first = panels.get(0);
        assert_eq!((first.first, first.rows, first.width), (0, 4, 4));
        assert_eq!(first.values, [1.0, 3.0, 5.0, 7.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(first.bias, [0.0, 1.0, 2.0, 3.0]);
        let last = panels.get(1);
        assert_eq!((last.first, last.rows, last.width), (4, 1, 2));
        assert_eq!(last.values, [90.0, 0.0, 100.0, 0.0]);
        assert_eq!(last.bias, [4.0, 0.0]);
    }
}
