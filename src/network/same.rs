//! Padding that follows from the input's size: `same` of TensorFlow and Keras, SAME_UPPER and SAME_LOWER of ONNX.

use super::error::Problem;
use super::layer::{LayerKind, Padding, Size2};
use super::shape::{chw, too_large};

/// Rows or columns of padding with which ceil(input / stride) windows fit along one axis
/// (ONNX operators, Conv, attribute `auto_pad`; TensorFlow's `tf.nn`, notes on padding).
///
/// # Errors
///
/// A size that does not fit a machine word.
pub(super) fn total(input: usize, kernel: usize, stride: usize, dilation: usize) -> Result<usize, Problem> {
    let reach = kernel.saturating_sub(1).checked_mul(dilation);
    let last = input.div_ceil(stride.max(1)).saturating_sub(1).checked_mul(stride);
    let needed = reach.zip(last).and_then(|(reach, last)| reach.checked_add(last)?.checked_add(1));
    needed.map(|needed| needed.saturating_sub(input)).ok_or_else(|| too_large("kernel"))
}

/// The kind with its window padded as `same` over the input; an odd row or column goes below or to the right.
///
/// # Errors
///
/// The input has no height and width, or a size does not fit a machine word.
pub(super) fn padded(kind: &LayerKind, input: &[usize]) -> Result<LayerKind, Problem> {
    let mut kind = kind.clone();
    match &mut kind {
        LayerKind::Conv(c) => c.padding = padding(input, c.kernel, c.stride, c.dilation)?,
        LayerKind::MaxPool(p) | LayerKind::AvgPool(p) => {
            p.padding = padding(input, p.kernel, p.stride, p.dilation)?;
        }
        _ => {}
    }
    Ok(kind)
}

fn padding(input: &[usize], kernel: Size2, stride: Size2, dilation: Size2) -> Result<Padding, Problem> {
    let [_, height, width] = chw(input)?;
    let rows = total(height, kernel[0], stride[0], dilation[0])?;
    let columns = total(width, kernel[1], stride[1], dilation[1])?;
    Ok([rows / 2, columns / 2, rows.div_ceil(2), columns.div_ceil(2)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Pool, output_shape};

    /// The padding and the output height of a 3-high window with a stride of 2 over so many rows.
    fn strided(rows: usize) -> (Padding, usize) {
        let pool = Pool {
            kernel: [3, 1],
            stride: [2, 1],
            padding: [9; 4],
            dilation: [1; 2],
            ceil_mode: false,
            count_include_pad: false,
        };
        let kind = padded(&LayerKind::MaxPool(pool), &[1, rows, 5]).unwrap();
        let output = output_shape(&kind, &[&[1, rows, 5]]).unwrap();
        let LayerKind::MaxPool(pool) = kind else { panic!() };
        (pool.padding, output[1])
    }

    #[test]
    fn an_even_size_is_padded_below_and_an_odd_one_on_both_sides() {
        // Windows start at 0, 2, 4, 6 of 8 rows and end at 8: one row below.
        assert_eq!(strided(8), ([0, 0, 1, 0], 4));
        // At -1, 1, 3, 5 of 7 rows; the last ends at 7.
        assert_eq!(strided(7), ([1, 0, 1, 0], 4));
        assert_eq!(strided(1), ([1, 0, 1, 0], 1));
    }

    #[test]
    fn the_total_agrees_with_a_count_of_rows() {
        // 5 taps, 2 apart, reach over 9 rows; stride 1 keeps the size with 8 rows more.
        assert_eq!(total(20, 5, 1, 2).unwrap(), 8);
        // Windows of 1 at 0, 2, 4 leave the last of 6 rows unread.
        assert_eq!(total(6, 1, 2, 1).unwrap(), 0);
        assert!(total(6, usize::MAX, 1, 2).is_err());
    }
}
