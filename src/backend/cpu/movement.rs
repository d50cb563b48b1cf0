//! Kinds that only move data: concat, transpose, channel shuffle, pad.

use crate::backend::BackendError;
use crate::network::Border;

use super::kernel::{Inputs, Job, Kernel};
use super::parallel::{Workers, for_each_piece, for_each_plane};

/// Joins inputs along an axis.
pub(super) struct ConcatKernel {
    /// For each input: where its run begins in a block of the output, and its length.
    runs: Vec<(usize, usize)>,
    /// A block of the output: one run of each input.
    block: usize,
}

impl ConcatKernel {
    pub(super) fn new(job: &Job<'_>, axis: usize) -> Self {
        let mut runs = Vec::with_capacity(job.shapes.len());
        let mut block = 0;
        for shape in &job.shapes {
            let len = shape[axis..].iter().product();
            runs.push((block, len));
            block += len;
        }
        Self { runs, block }
    }
}

impl Kernel for ConcatKernel {
    fn algorithm(&self) -> &'static str {
        "copy"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        for_each_piece(workers, out, |start, piece| {
            let mut done = 0;
            while done < piece.len() {
                let (block, at) = ((start + done) / self.block, (start + done) % self.block);
                let source = self.runs.partition_point(|&(begin, _)| begin <= at) - 1;
                let (begin, run) = self.runs[source];
                let len = (run - (at - begin)).min(piece.len() - done);
                let from = block * run + at - begin;
                piece[done..done + len].copy_from_slice(&inputs.get(source)[from..from + len]);
                done += len;
            }
        });
    }
}

/// Axes in another order.
pub(super) struct TransposeKernel {
    /// Sizes of the output's axes.
    shape: Vec<usize>,
    /// Step in the input for a step along each axis of the output.
    strides: Vec<usize>,
    item: usize,
}

impl TransposeKernel {
    pub(super) fn new(job: &Job<'_>, perm: &[usize]) -> Self {
        let input = job.input();
        let stride = |axis: usize| input[axis + 1..].iter().product::<usize>();
        Self {
            shape: perm.iter().map(|&axis| input[axis]).collect(),
            strides: perm.iter().map(|&axis| stride(axis)).collect(),
            item: input.iter().product(),
        }
    }

    /// Where in the input the element `flat` of the output comes from.
    fn source(&self, flat: usize) -> usize {
        let mut rest = flat % self.item;
        let mut source = flat / self.item * self.item;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            source += rest % size * stride;
            rest /= size;
        }
        source
    }
}

impl Kernel for TransposeKernel {
    fn algorithm(&self) -> &'static str {
        "copy"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        let input = inputs.get(0);
        // Along the last axis of the output the source advances by one stride.
        let (&row, &stride) = match (self.shape.last(), self.strides.last()) {
            (Some(row), Some(stride)) => (row, stride),
            _ => (&1, &1),
        };
        for_each_piece(workers, out, |start, piece| {
            let mut done = 0;
            while done < piece.len() {
                let len = (row - (start + done) % row).min(piece.len() - done);
                let source = input[self.source(start + done)..].iter().step_by(stride);
                piece[done..done + len].iter_mut().zip(source).for_each(|(y, &x)| *y = x);
                done += len;
            }
        });
    }
}

/// Channels as groups x members, transposed to members x groups.
pub(super) struct ShuffleKernel {
    groups: usize,
    channels: usize,
    plane: usize,
}

impl ShuffleKernel {
    pub(super) fn new(job: &Job<'_>, groups: usize) -> Result<Self, BackendError> {
        let [channels, height, width] = job.chw()?;
        Ok(Self { groups, channels, plane: height * width })
    }
}

impl Kernel for ShuffleKernel {
    fn algorithm(&self) -> &'static str {
        "copy"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        let (input, members) = (inputs.get(0), self.channels / self.groups);
        for_each_plane(workers, out, self.plane, self.plane, |index, out| {
            let (item, channel) = (index / self.channels, index % self.channels);
            let source = item * self.channels + channel % self.groups * members + channel / self.groups;
            out.copy_from_slice(&input[source * self.plane..][..self.plane]);
        });
    }
}

/// A border of a constant, or a border cut off.
pub(super) struct PadKernel {
    input: [usize; 2],
    output: [usize; 2],
    padding: Border,
    value: f32,
}

impl PadKernel {
    pub(super) fn new(job: &Job<'_>, padding: Border, value: f32) -> Result<Self, BackendError> {
        let [_, height, width] = job.chw()?;
        let output = [job.layer.output[1], job.layer.output[2]];
        Ok(Self { input: [height, width], output, padding, value })
    }
}

impl Kernel for PadKernel {
    fn algorithm(&self) -> &'static str {
        "copy"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        let ([height, width], [out_height, out_width]) = (self.input, self.output);
        let input = inputs.get(0);
        // Where the input's first row and column go, and how many of them are cut off.
        let [top, left] = [0, 1].map(|axis| self.padding[axis].max(0).unsigned_abs());
        let [above, before] = [0, 1].map(|axis| self.padding[axis].min(0).unsigned_abs());
        let columns = (width - before).min(out_width - left);
        for_each_plane(workers, out, out_height * out_width, out_height * out_width, |index, out| {
            out.fill(self.value);
            let rows = out.chunks_exact_mut(out_width).skip(top);
            let sources = input[index * height * width..][..height * width].chunks_exact(width).skip(above);
            for (row, source) in rows.zip(sources) {
                row[left..][..columns].copy_from_slice(&source[before..][..columns]);
            }
        });
    }
}
