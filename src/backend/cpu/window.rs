//! The geometry that convolutions and pools share.

use std::ops::Range;

use crate::backend::BackendError;
use crate::network::{Padding, Size2};

use super::kernel::Job;

/// A window that moves over height (axis 0) and width (axis 1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) input: Size2,
    pub(super) output: Size2,
    pub(super) kernel: Size2,
    pub(super) stride: Size2,
    pub(super) dilation: Size2,
    pub(super) padding: Padding,
}

/// Padded sizes above this are refused, so that no index arithmetic below can overflow.
const LARGEST: usize = 1 << 40;

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
            let reason = format!("a padded size of {0} x {1} is too large", padded(0), padded(1));
            return Err(job.unsupported(reason));
        }
        let output = [job.layer.output[1], job.layer.output[2]];
        Ok(Self { input, output, kernel, stride, dilation, padding })
    }

    /// Output positions along an axis for which a tap reads inside the input. May be empty.
    pub(super) fn inside(&self, axis: usize, tap: usize) -> Range<usize> {
        // Tap of output o reads o * stride + offset in the padded input; the input is before..end of it.
        let offset = tap * self.dilation[axis];
        let before = self.padding[axis];
        let end = before + self.input[axis];
        let reach = |limit: usize| limit.saturating_sub(offset).div_ceil(self.stride[axis]);
        let stop = reach(end).min(self.output[axis]);
        reach(before).min(stop)..stop
    }

    /// The input position that a tap of an output position reads; that output must be [`Self::inside`].
    pub(super) fn source(&self, axis: usize, out: usize, tap: usize) -> usize {
        out * self.stride[axis] + tap * self.dilation[axis] - self.padding[axis]
    }

    /// Elements of an input plane.
    pub(super) fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Elements of an output plane.
    pub(super) fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Taps of the window.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
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
            let window = Window {
                input: [input; 2],
                output: [output; 2],
                kernel: [kernel; 2],
                stride: [stride; 2],
                dilation: [dilation; 2],
                padding: [before; 4],
            };
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
}
