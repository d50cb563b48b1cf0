//! Tiles of the im2col matrix: one line for each (channel, tap), one column for each output position.

use std::ops::Range;

use super::window::{Window, fold_strided};

/// Writes the columns of the output positions `range` (row-major over the output plane) for the channels of
/// `image`: `channels * taps` lines of `range.len()` elements.
pub(super) fn fill(window: &Window, image: &[f32], range: Range<usize>, columns: &mut [f32]) {
    let lines = columns.chunks_exact_mut(range.len());
    let plane = |channel: usize| &image[channel * window.input_plane()..][..window.input_plane()];
    for (line, values) in lines.enumerate() {
        let (channel, tap) = (line / window.taps(), line % window.taps());
        let tap = [tap / window.kernel[1], tap % window.kernel[1]];
        fill_line(window, plane(channel), tap, range.clone(), values);
    }
}

/// What one tap reads for each output position of `range`; zero in the padding.
fn fill_line(window: &Window, plane: &[f32], tap: [usize; 2], range: Range<usize>, line: &mut [f32]) {
    let width = window.output[1];
    let (rows, columns) = (window.inside(0, tap[0]), window.inside(1, tap[1]));
    let mut done = 0;
    while done < line.len() {
        let at = range.start + done;
        let (row, from) = (at / width, at % width);
        let to = width.min(from + line.len() - done);
        let piece = &mut line[done..done + to - from];
        done += to - from;
        // The part of this row, from..to, that lies inside the input.
        let start = columns.start.clamp(from, to);
        let stop = columns.end.clamp(start, to);
        if !rows.contains(&row) || start == stop {
            piece.fill(0.0);
            continue;
        }
        let source = window.source(0, row, tap[0]) * window.input[1] + window.source(1, start, tap[1]);
        piece[..start - from].fill(0.0);
        let inside = &mut piece[start - from..stop - from];
        fold_strided(inside, &plane[source..], window.stride[1], |target, value| *target = value);
        piece[stop - from..].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_two_by_two_window_over_three_by_three_gives_the_four_known_columns() {
        let window = Window::with_sizes([3, 3], [2, 2], [2, 2], [1, 1], [1, 1], [0; 4]);
        let image: Vec<f32> = (1..=9).map(|v| v as f32).collect();
        let mut columns = vec![f32::NAN; 16];
        fill(&window, &image, 0..4, &mut columns);
        let expected = [1, 2, 4, 5, 2, 3, 5, 6, 4, 5, 7, 8, 5, 6, 8, 9].map(|v| v as f32);
        assert_eq!(columns, expected);
        // Positions 1 and 2 are the middle of two rows.
        let mut part = vec![f32::NAN; 8];
        fill(&window, &image, 1..3, &mut part);
        assert_eq!(part, [2, 4, 3, 5, 5, 7, 6, 8].map(|v| v as f32));
    }
}
