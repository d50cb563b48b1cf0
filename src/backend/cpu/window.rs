//! The geometry that convolutions and pools share.

use std::ops::Range;

use crate::backend::BackendError;
use crate::network::{Padding, Size2};

use super::kernel::Job;

/// A window that moves over height (axis 0) and width (axis 1).
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) input: Size2,
    pub(super) output: Size2,
    pub(super) kernel: Size2,
    pub(super) stride: Size2,
    dilation: Size2,
    padding: Padding,
    /// For each axis and tap: the output positions for which the tap reads inside the input. Looked up in
    /// the innermost loops, where the divisions that they take would cost more than the arithmetic.
    inside: [Vec<Range<usize>>; 2],
}

/// Padded sizes above this are refused: no index arithmetic below can overflow, and the tables stay small.
const LARGEST: usize = 1 << 24;

impl Window {
    pub(super) fn new(
        job: &Job<'_>,
        kernel: Size2,
        stride: Size2,
        dilation: Size2,
        padding: Padding,
    ) -> Result<Self, BackendError> {
        let [_, height, width] = job.chw()?;
        let input = [height, width];
        let padded =
            |axis: usize| input[axis].saturating_add(padding[axis]).saturating_add(padding[axis + 2]);
        if padded(0).max(padded(1)) > LARGEST {
            let reason = format!(
                "a padded size of {} x {} is too large; at most {LARGEST} is supported",
                padded(0),
                padded(1)
            );
            return Err(job.unsupported(reason));
        }
        let output = [job.layer.output[1], job.layer.output[2]];
        Ok(Self::with_sizes(input, output, kernel, stride, dilation, padding))
    }

    /// The window over sizes that fit each other.
    pub(super) fn with_sizes(
        input: Size2,
        output: Size2,
        kernel: Size2,
        stride: Size2,
        dilation: Size2,
        padding: Padding,
    ) -> Self {
        let inside = [0, 1].map(|axis| {
            let range = |tap: usize| {
                // Output o reads o * stride + offset in the padded input; the input is before..end of it.
                let offset = tap * dilation[axis];
                let before = padding[axis];
                let reach = |limit: usize| limit.saturating_sub(offset).div_ceil(stride[axis]);
                let stop = reach(before + input[axis]).min(output[axis]);
                reach(before).min(stop)..stop
            };
            (0..kernel[axis]).map(range).collect()
        });
        Self { input, output, kernel, stride, dilation, padding, inside }
    }

    /// The same window over planes of one column, if its positions are the elements of the input: a pointwise window
    /// knows no rows, and a column can be cut anywhere.
    pub(super) fn without_rows(self) -> Self {
        let pointwise = self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0; 4];
        if !pointwise {
            return self;
        }
        let plane = [self.input_plane(), 1];
        Self::with_sizes(plane, plane, self.kernel, self.stride, self.dilation, self.padding)
    }

    /// Output positions along an axis for which a tap reads inside the input. May be empty.
    pub(super) fn inside(&self, axis: usize, tap: usize) -> Range<usize> {
        self.inside[axis][tap].clone()
    }

    /// The input position that a tap of an output position reads; that output must be [`Self::inside`].
    pub(super) fn source(&self, axis: usize, out: usize, tap: usize) -> usize {
        self.padded(axis, out, tap) - self.padding[axis]
    }

    /// Elements of an input plane.
    pub(super) fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Elements of an output plane.
    pub(super) fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Rows or columns of padding before the input.
    pub(super) fn before(&self, axis: usize) -> usize {
        self.padding[axis]
    }

    /// Where a tap of an output position reads in the padded input.
    pub(super) fn padded(&self, axis: usize, out: usize, tap: usize) -> usize {
        out * self.stride[axis] + tap * self.dilation[axis]
    }

    /// Size of the padded input along an axis.
    pub(super) fn padded_size(&self, axis: usize) -> usize {
        self.padding[axis] + self.input[axis] + self.padding[axis + 2]
    }

    /// Taps of the window.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}

/// Folds every `stride`-th element of a source into a target each; the source must reach to the last target.
#[inline(always)]
pub(super) fn fold_strided(targets: &mut [f32], source: &[f32], stride: usize, fold: impl Fn(&mut f32, f32)) {
    match stride {
        1 => targets.iter_mut().zip(source).for_each(|(t, &s)| fold(t, s)),
        2 => {
            // Whole pairs become vector code, which `step_by` does not; the last target may have half a pair.
            let (pairs, rest) = source.as_chunks::<2>();
            let paired = targets.len().min(pairs.len());
            let (targets, last) = targets.split_at_mut(paired);
            targets.iter_mut().zip(pairs).for_each(|(t, s)| fold(t, s[0]));
            last.iter_mut().zip(rest).for_each(|(t, &s)| fold(t, s));
        }
        _ => targets.iter_mut().zip(source.iter().step_by(stride)).for_each(|(t, &s)| fold(t, s)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_is_inside_exactly_where_its_coordinate_is() {
        let mut checked = 0;
        for (input, kernel, stride, dilation, before) in (1..6)
            .flat_map(|i| (1..4).flat_map(move |k| (1..4).map(move |s| (i, k, s))))
            .flat_map(|(i, k, s)| (1..4).flat_map(move |d| (0..4).map(move |p| (i, k, s, d, p))))
        {
            let output = 5;
            let window = Window::with_sizes(
                [input; 2],
                [output; 2],
                [kernel; 2],
                [stride; 2],
                [dilation; 2],
                [before; 4],
            );
            for tap in 0..kernel {
                let coordinate = |out: usize| (out * stride + tap * dilation) as isize - before as isize;
                let expected: Vec<usize> =
                    (0..output).filter(|&o| (0..input as isize).contains(&coordinate(o))).collect();
                let found: Vec<usize> = window.inside(0, tap).collect();
                assert_eq!(found, expected, "{window:?} tap {tap}");
                for out in found {
                    assert_eq!(window.source(0, out, tap) as isize, coordinate(out));
                    checked += 1;
                }
            }
        }
        assert!(checked > 1000);
    }

    #[test]
    fn a_strided_fold_reaches_the_last_target() {
        let source = [1.0, 2.0, 3.0, 4.0, 5.0];
        for (stride, expected) in [(1, vec![1.0, 2.0, 3.0]), (2, vec![1.0, 3.0, 5.0]), (3, vec![1.0, 4.0])] {
            let mut targets = vec![0.0; expected.len()];
            fold_strided(&mut targets, &source, stride, |t, s| *t += s);
            assert_eq!(targets, expected);
        }
    }
}
