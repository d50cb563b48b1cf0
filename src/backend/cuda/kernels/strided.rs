//! Tensors seen along common axes, as few as their distances allow.

use super::launch::{Argument, word};

/// Axes that a kernel takes; `AXES` of `kernels/strided.cuh`.
const AXES: usize = 6;

/// An axis along which several tensors are walked together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) size: usize,
    /// Distance between neighbours in each tensor; 0 where one number serves all.
    pub(super) strides: Vec<usize>,
}

/// Axes within a kernel's limit, and where in each tensor they begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) axes: Vec<Axis>,
    pub(super) starts: Vec<usize>,
}

/// The axes in the order of tensor `by` in memory, joined where all tensors allow it.
pub(super) fn joined(mut axes: Vec<Axis>, by: usize) -> Vec<Axis> {
    axes.retain(|axis| axis.size != 1);
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.strides[by]));
    let mut joined: Vec<Axis> = Vec::with_capacity(axes.len());
    for inner in axes {
        match joined.last_mut() {
            Some(outer) if follows(outer, &inner) => {
                *outer = Axis { size: outer.size * inner.size, strides: inner.strides };
            }
            _ => joined.push(inner),
        }
    }
    joined
}

/// Whether a step along `outer` is a whole turn of `inner`, in every tensor.
fn follows(outer: &Axis, inner: &Axis) -> bool {
    outer.strides.iter().zip(&inner.strides).all(|(&outer, &step)| outer == step * inner.size)
}

/// The axes in walks that a kernel takes: axes too many are walked here, the outermost first.
pub(super) fn walks(axes: &[Axis], tensors: usize) -> Vec<Walk> {
    let (outer, inner) = axes.split_at(axes.len().saturating_sub(AXES));
    let mut starts = vec![vec![0; tensors]];
    for axis in outer {
        let step = |start: &Vec<usize>, at: usize| -> Vec<usize> {
            start.iter().zip(&axis.strides).map(|(&start, &stride)| start + at * stride).collect()
        };
        starts = starts
            .iter()
            .flat_map(|start| (0..axis.size).map(move |at| step(start, at)).collect::<Vec<_>>())
            .collect();
    }
    starts.into_iter().map(|starts| Walk { axes: inner.to_vec(), starts }).collect()
}

impl Walk {
    /// Numbers that are walked.
    pub(super) fn count(&self) -> usize {
        self.axes.iter().map(|axis| axis.size).product()
    }

    /// `Axes` of a kernel: sizes, filled up with ones in front.
    pub(super) fn sizes(&self) -> Argument {
        self.filled(1, |axis| axis.size)
    }

    /// `Axes` of a kernel: distances in one tensor.
    pub(super) fn strides(&self, tensor: usize) -> Argument {
        self.filled(0, |axis| axis.strides[tensor])
    }

    fn filled(&self, with: i64, value: impl Fn(&Axis) -> usize) -> Argument {
        let mut words = vec![with; AXES - self.axes.len()];
        words.extend(self.axes.iter().map(|axis| word(value(axis))));
        Argument::Words(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(size: usize, strides: &[usize]) -> Axis {
        Axis { size, strides: strides.to_vec() }
    }

    #[test]
    fn axes_that_follow_each_other_in_all_tensors_become_one() {
        // 2 x 3 x 4, row-major in both: one run of 24.
        let axes = vec![axis(2, &[12, 12]), axis(3, &[4, 4]), axis(4, &[1, 1])];
        assert_eq!(joined(axes, 0), [axis(24, &[1, 1])]);
        // The second tensor lies in a row of twice the length: the items stay apart.
        let axes = vec![axis(2, &[12, 24]), axis(3, &[4, 4]), axis(4, &[1, 1])];
        assert_eq!(joined(axes, 0), [axis(2, &[12, 24]), axis(12, &[1, 1])]);
    }

    #[test]
    fn the_order_is_that_of_the_tensor_asked_for() {
        // 3 channels x 4 places: channels first, and channels last.
        let axes = vec![axis(3, &[4, 1]), axis(4, &[1, 3])];
        assert_eq!(joined(axes.clone(), 1), [axis(4, &[1, 3]), axis(3, &[4, 1])]);
        assert_eq!(joined(axes, 0), [axis(3, &[4, 1]), axis(4, &[1, 3])]);
    }

    #[test]
    fn a_stretched_axis_joins_only_a_stretched_one() {
        let axes = vec![axis(5, &[12, 0]), axis(3, &[4, 0]), axis(4, &[1, 1])];
        assert_eq!(joined(axes, 0), [axis(15, &[4, 0]), axis(4, &[1, 1])]);
    }

    #[test]
    fn axes_beyond_six_are_walked_one_launch_at_a_time() {
        // Eight axes of 2 that cannot be joined.
        let axes: Vec<Axis> = (0..8).map(|place| axis(2, &[1 << (7 - place), 3 << (7 - place)])).collect();
        let walks = walks(&axes, 2);
        let starts: Vec<&[usize]> = walks.iter().map(|walk| walk.starts.as_slice()).collect();
        assert_eq!(starts, [&[0, 0], &[64, 192], &[128, 384], &[192, 576]]);
        assert!(walks.iter().all(|walk| walk.count() == 64));
    }

    #[test]
    fn a_single_number_has_no_axes_and_is_walked_once() {
        let walks = walks(&joined(vec![axis(1, &[7, 7])], 0), 2);
        assert_eq!(walks.len(), 1);
        assert_eq!(walks[0].count(), 1);
        assert_eq!(walks[0].sizes(), Argument::Words(vec![1; 6]));
    }
}
