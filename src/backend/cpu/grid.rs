//! A block of the input, copied so that every tap of a window is a fixed distance from its output position.
//!
//! The copy holds, for each channel, the padded input split into phases: phase (a, b) of a window with stride
//! (s, t) is rows a, a + s, … and columns b, b + t, …. Within a phase the window moves by one element, whatever
//! its stride. A grid position is a row of the phase times its width plus a column.

use std::collections::HashMap;
use std::ops::Range;

use pulp::Simd;

use super::window::{Window, fold_strided};

/// Elements past the last channel that a tile may read: the rest of its vectors.
const SLACK: usize = 64;

/// The layout of the copy for blocks of at most `rows` output rows.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    window: Window,
    rows: usize,
    /// Columns of a phase.
    width: usize,
    /// Rows of a phase.
    height: usize,
    /// The phases that taps read.
    phases: Vec<Phase>,
    /// Whether some output reads outside the input.
    padded: bool,
    /// Elements from a position to what each tap reads, for one channel.
    taps: Vec<usize>,
}

/// A part of the padded input that a window with a stride reads as if it had none.
#[derive(Debug, Clone)]
struct Phase {
    /// First row and column in the padded input.
    at: [usize; 2],
    /// Columns of the phase that lie in the input.
    columns: Range<usize>,
    /// The column of the input that the first of them is.
    source: usize,
}

impl Phase {
    fn new(window: &Window, at: [usize; 2], width: usize) -> Self {
        let (left, stride) = (window.before(1), window.stride[1]);
        let first = left.saturating_sub(at[1]).div_ceil(stride).min(width);
        let end = (left + window.input[1]).saturating_sub(at[1]).div_ceil(stride).clamp(first, width);
        // Where nothing lies in the input, nothing is copied, from anywhere.
        let source = if first == end { 0 } else { at[1] + first * stride - left };
        Self { at, columns: first..end, source }
    }
}

/// Where the outputs of some rows lie in the grid: `count` runs of `length` positions, each beginning `pitch`
/// positions after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) count: usize,
    pub(super) length: usize,
    pub(super) pitch: usize,
}

impl Runs {
    /// Positions from the first to the last.
    pub(super) fn span(&self) -> usize {
        (self.count - 1) * self.pitch + self.length
    }

    /// Calls `part` with the first position, and the outputs, of each piece of a run among some positions.
    #[inline(always)]
    pub(super) fn overlapping(&self, positions: Range<usize>, mut part: impl FnMut(usize, Range<usize>)) {
        let mut run = if self.count == 1 { 0 } else { positions.start / self.pitch };
        while run < self.count && run * self.pitch < positions.end {
            let begin = run * self.pitch;
            let (from, to) = (positions.start.max(begin), positions.end.min(begin + self.length));
            if from < to {
                let output = |position: usize| run * self.length + position - begin;
                part(from, output(from)..output(to));
            }
            run += 1;
        }
    }
}

impl Grid {
    pub(super) fn new(window: Window, rows: usize) -> Self {
        let [reach_y, reach_x] = [0, 1].map(|axis| {
            let last = window.padded(axis, 0, window.kernel[axis] - 1);
            last / window.stride[axis]
        });
        let (width, height) = (window.output[1] + reach_x, rows + reach_y);
        let mut phases: Vec<Phase> = Vec::new();
        let mut index_of_phase = HashMap::new();
        let mut taps = Vec::with_capacity(window.taps());
        for ky in 0..window.kernel[0] {
            for kx in 0..window.kernel[1] {
                let [y, x] = [window.padded(0, 0, ky), window.padded(1, 0, kx)];
                let phase = [y % window.stride[0], x % window.stride[1]];
                let index = *index_of_phase.entry(phase).or_insert_with(|| {
                    phases.push(Phase::new(&window, phase, width));
                    phases.len() - 1
                });
                let [row, column] = [y / window.stride[0], x / window.stride[1]];
                taps.push((index * height + row) * width + column);
            }
        }
        let padded = [0, 1].iter().any(|&axis| {
            let last = window.padded(axis, window.output[axis] - 1, window.kernel[axis] - 1);
            window.before(axis) > 0 || last >= window.input[axis]
        });
        Self { window, rows, width, height, phases, padded, taps }
    }

    /// Output rows whose copy takes at most `elements`; at least one, at most all.
    pub(super) fn most_rows(&self, channels: usize, elements: usize) -> usize {
        let reach = self.height - self.rows;
        let row = self.phases.len().saturating_mul(self.width).saturating_mul(channels);
        let fit = elements.saturating_sub(SLACK) / row.max(1);
        fit.saturating_sub(reach).clamp(1, self.window.output[0])
    }

    /// Elements of a channel.
    pub(super) fn channel(&self) -> usize {
        self.phases.len() * self.height * self.width
    }

    /// Elements of the copy of some channels, with what tiles may read past them.
    pub(super) fn len(&self, channels: usize) -> usize {
        self.channel().saturating_mul(channels).saturating_add(SLACK)
    }

    /// Elements from a position to what each (channel, tap) reads; none if there is one beyond 2^32.
    pub(super) fn offsets(&self, channels: usize) -> Option<Vec<u32>> {
        u32::try_from(self.len(channels)).ok()?;
        let offsets = (0..channels).flat_map(|c| self.taps.iter().map(move |tap| c * self.channel() + tap));
        offsets.map(|offset| u32::try_from(offset).ok()).collect()
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// Where the outputs of `rows` rows lie.
    pub(super) fn runs(&self, rows: usize) -> Runs {
        let columns = self.window.output[1];
        match self.width == columns {
            true => Runs { count: 1, length: rows * columns, pitch: 0 },
            false => Runs { count: rows, length: columns, pitch: self.width },
        }
    }

    /// Copies what the output rows `rows` read of the channels of `image` into `copy`.
    #[inline(always)]
    pub(super) fn fill<S: Simd>(&self, simd: S, image: &[f32], rows: &Range<usize>, copy: &mut [f32]) {
        debug_assert!(rows.len() <= self.rows, "a block has at most {} rows", self.rows);
        let planes = image.chunks_exact(self.window.input_plane());
        if self.is_the_input() {
            // Whole rows next to each other, as in the input.
            let (from, len) = (rows.start * self.width, rows.len() * self.width);
            for (plane, copy) in planes.zip(copy.chunks_exact_mut(self.channel())) {
                copy_row(simd, &plane[from..from + len], &mut copy[..len]);
            }
            return;
        }
        for (plane, copy) in planes.zip(copy.chunks_exact_mut(self.channel())) {
            if self.padded {
                copy.fill(0.0);
            }
            for (phase, part) in self.phases.iter().zip(copy.chunks_exact_mut(self.height * self.width)) {
                self.fill_phase(simd, plane, phase, rows.start, part);
            }
        }
    }

    /// Copies the rows of a phase that lie in the input; if outputs read others, those are zeros already.
    #[inline(always)]
    fn fill_phase<S: Simd>(&self, simd: S, plane: &[f32], phase: &Phase, start: usize, part: &mut [f32]) {
        let Window { input: [height, width], stride: [down, along], .. } = self.window;
        let top = self.window.before(0);
        // Row r of the phase is row (start + r) * down + phase.at[0] of the padded input.
        let begin = start * down + phase.at[0];
        let first = top.saturating_sub(begin).div_ceil(down);
        let end = (top + height).saturating_sub(begin).div_ceil(down).min(self.height);
        for row in first..end {
            let source = &plane[(begin + row * down - top) * width + phase.source..];
            let line = &mut part[row * self.width..][phase.columns.clone()];
            match along {
                1 => copy_row(simd, &source[..line.len()], line),
                _ => fold_strided(line, source, along, |target, value| *target = value),
            }
        }
    }

    /// Whether positions are elements of the input: a 1x1 window without stride and padding.
    pub(super) fn is_the_input(&self) -> bool {
        let Window { input, output, stride, .. } = self.window;
        self.taps == [0] && stride == [1, 1] && input == output
    }
}

/// Copies a row, which is often shorter than a vector: a call of `memcpy` would take longer than the copy.
#[inline(always)]
pub(super) fn copy_row<S: Simd>(_: S, source: &[f32], target: &mut [f32]) {
    let (sources, source_rest) = S::as_simd_f32s(source);
    let (targets, target_rest) = S::as_mut_simd_f32s(target);
    targets.iter_mut().zip(sources).for_each(|(target, &source)| *target = source);
    // The rest is shorter than the longest vector, 16 elements.
    let done = copy_ends::<8>(source_rest, target_rest)
        || copy_ends::<4>(source_rest, target_rest)
        || copy_ends::<2>(source_rest, target_rest);
    if let (false, Some(target), Some(&source)) = (done, target_rest.first_mut(), source_rest.first()) {
        *target = source;
    }
}

/// Copies the first and the last `N` elements, which are all of up to `2 N`; false if there are fewer than `N`.
#[inline(always)]
fn copy_ends<const N: usize>(source: &[f32], target: &mut [f32]) -> bool {
    let (Some(&first), Some(&last)) = (source.first_chunk::<N>(), source.last_chunk::<N>()) else {
        return false;
    };
    if let Some(target) = target.first_chunk_mut::<N>() {
        *target = first;
    }
    if let Some(target) = target.last_chunk_mut::<N>() {
        *target = last;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The element that a tap of an output reads, straight from the definition.
    fn naive(window: &Window, plane: &[f32], at: [usize; 2], tap: [usize; 2]) -> f32 {
        let coordinate =
            |axis: usize| window.padded(axis, at[axis], tap[axis]).checked_sub(window.before(axis));
        match (coordinate(0), coordinate(1)) {
            (Some(y), Some(x)) if y < window.input[0] && x < window.input[1] => {
                plane[y * window.input[1] + x]
            }
            _ => 0.0,
        }
    }

    #[test]
    fn rows_of_any_length_are_copied_and_nothing_else() {
        for length in 0..100 {
            let source: Vec<f32> = (0..length).map(|i| i as f32 + 1.0).collect();
            let mut target = vec![-1.0; length + 2];
            struct Copy<'a>(&'a [f32], &'a mut [f32]);
            impl pulp::WithSimd for Copy<'_> {
                type Output = ();
                fn with_simd<S: Simd>(self, simd: S) {
                    copy_row(simd, self.0, self.1);
                }
            }
            pulp::Arch::new().dispatch(Copy(&source, &mut target[1..=length]));
            assert_eq!(target[1..=length], source);
            assert_eq!((target[0], target[length + 1]), (-1.0, -1.0));
        }
    }

    #[test]
    fn every_tap_of_every_output_is_found_at_its_offset() {
        let mut checked = 0;
        let geometries = (1..4)
            .flat_map(|k| (1..4).map(move |s| (k, s)))
            .flat_map(|(k, s)| (1..3).flat_map(move |d| (0..4).map(move |p| (k, s, d, p))));
        for (k, s, d, p) in geometries {
            // The axes differ, so that one taken for the other is seen; padding may exceed the kernel.
            let (kernel, stride, dilation, padding) = ([k, 4 - k], [s, 4 - s], [d, 3 - d], [p, 3 - p]);
            let input = [6usize, 5];
            let out = |axis: usize| {
                let reach = (kernel[axis] - 1) * dilation[axis] + 1;
                (input[axis] + 2 * padding[axis]).checked_sub(reach).map(|n| n / stride[axis] + 1)
            };
            let (Some(height), Some(width)) = (out(0), out(1)) else { continue };
            let [top, left] = padding;
            let window =
                Window::with_sizes(input, [height, width], kernel, stride, dilation, [top, left, top, left]);
            let image: Vec<f32> = (0..60).map(|v| v as f32 + 1.0).collect();
            for (rows, from) in [(height, 0), (1, height - 1), (height.div_ceil(2), 0)] {
                let grid = Grid::new(window.clone(), rows);
                // The sizes agree with each other.
                assert_eq!(grid.most_rows(2, grid.len(2)), rows, "{window:?}");
                let mut copy = vec![f32::NAN; grid.len(2)];
                grid.fill(pulp::Scalar, &image, &(from..from + rows), &mut copy);
                let offsets = grid.offsets(2).unwrap();
                let runs = grid.runs(rows);
                for row in 0..rows {
                    for x in 0..width {
                        let position = if runs.count == 1 { row * width + x } else { row * runs.pitch + x };
                        for (index, &offset) in offsets.iter().enumerate() {
                            let (channel, tap) = (index / window.taps(), index % window.taps());
                            let tap = [tap / kernel[1], tap % kernel[1]];
                            let expected = naive(&window, &image[channel * 30..], [from + row, x], tap);
                            let found = copy[offset as usize + position];
                            assert_eq!(found.to_bits(), expected.to_bits(), "{window:?} {row} {x} {tap:?}");
                            checked += 1;
                        }
                    }
                }
            }
        }
        assert!(checked > 10_000, "{checked}");
    }
}
