//! Sums and products of tensors whose axes stretch: NumPy's rule, aligned from the right.

use std::sync::Arc;

use crate::network::{Activation, Role};

use super::activation;
use super::kernel::{Inputs, Job, Kernel};
use super::parallel::{Workers, for_each_piece};

/// What is done with two elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Operator {
    Add,
    Mul,
}

/// An n-ary sum or product. The output is cut into blocks in which every operand either runs along or stays
/// on one element, so that the inner loops need no index arithmetic.
#[derive(Clone)]
pub(super) struct BroadcastKernel {
    operator: Operator,
    /// Sizes of the output's axes outside the blocks; the batch comes first.
    outer: Vec<usize>,
    block: usize,
    operands: Vec<Operand>,
    stored: Option<Arc<[f32]>>,
    activation: Option<Activation>,
}

#[derive(Clone)]
struct Operand {
    /// Step for a step along each outer axis; 0 where the operand stretches.
    strides: Vec<usize>,
    /// Whether it stays on one element within a block.
    stays: bool,
}

/// A part of an operand within one block.
#[derive(Clone, Copy)]
enum Side<'a> {
    Run(&'a [f32]),
    One(f32),
}

impl BroadcastKernel {
    pub(super) fn new(job: &Job<'_>, operator: Operator) -> Self {
        let stored = job.stored(Role::Operand);
        let stored_shape = stored.as_ref().and(job.layer.parameters.first()).map(|p| p.shape.as_slice());
        let output = &job.layer.output;
        let padded = |shape: &[usize]| {
            let mut sizes = vec![1; output.len() - shape.len()];
            sizes.extend_from_slice(shape);
            sizes
        };
        let shapes: Vec<Vec<usize>> = job.shapes.iter().copied().chain(stored_shape).map(padded).collect();
        // The longest tail of axes over which every operand is whole or a single element.
        let uniform = |from: usize| {
            shapes.iter().all(|s| s[from..] == output[from..] || s[from..].iter().all(|&n| n == 1))
        };
        let split = (0..=output.len()).find(|&from| uniform(from)).unwrap_or(output.len());
        let operands = shapes.iter().enumerate().map(|(index, sizes)| {
            let step = |axis: usize| match sizes[axis] {
                1 => 0,
                _ => sizes[axis + 1..].iter().product(),
            };
            let item = if index < job.shapes.len() { sizes.iter().product() } else { 0 };
            Operand {
                strides: std::iter::once(item).chain((0..split).map(step)).collect(),
                stays: sizes[split..] != output[split..],
            }
        });
        Self {
            operator,
            operands: operands.collect(),
            outer: std::iter::once(job.batch).chain(output[..split].iter().copied()).collect(),
            block: output[split..].iter().product(),
            stored,
            activation: job.fused.activation,
        }
    }

    /// The part `from..from + len` of a block of an operand.
    fn side<'a>(
        &'a self,
        inputs: &'a Inputs<'_>,
        operand: usize,
        block: usize,
        from: usize,
        len: usize,
    ) -> Side<'a> {
        let values = match &self.stored {
            Some(stored) if operand == inputs.len() => stored,
            _ => inputs.get(operand),
        };
        let Operand { strides, stays } = &self.operands[operand];
        let mut rest = block;
        let mut start = 0;
        for (&size, &stride) in self.outer.iter().zip(strides).rev() {
            start += rest % size * stride;
            rest /= size;
        }
        if *stays { Side::One(values[start]) } else { Side::Run(&values[start + from..][..len]) }
    }

    fn combine_all(
        &self,
        workers: Workers<'_>,
        inputs: &Inputs<'_>,
        out: &mut [f32],
        operator: impl Fn(f32, f32) -> f32 + Sync,
    ) {
        for_each_piece(workers, out, |start, piece| {
            let mut done = 0;
            while done < piece.len() {
                let (block, from) = ((start + done) / self.block, (start + done) % self.block);
                let len = (self.block - from).min(piece.len() - done);
                let target = &mut piece[done..done + len];
                let side = |operand| self.side(inputs, operand, block, from, len);
                copy(target, side(0));
                (1..self.operands.len()).for_each(|operand| combine(target, side(operand), &operator));
                if let Some(activation) = self.activation {
                    activation::apply(activation, target);
                }
                done += len;
            }
        });
    }
}

fn copy(target: &mut [f32], side: Side<'_>) {
    match side {
        Side::Run(values) => target.copy_from_slice(values),
        Side::One(value) => target.fill(value),
    }
}

fn combine(target: &mut [f32], side: Side<'_>, operator: impl Fn(f32, f32) -> f32) {
    match side {
        Side::Run(values) => target.iter_mut().zip(values).for_each(|(t, &v)| *t = operator(*t, v)),
        Side::One(value) => target.iter_mut().for_each(|t| *t = operator(*t, value)),
    }
}

impl Kernel for BroadcastKernel {
    fn algorithm(&self) -> &'static str {
        "direct"
    }

    fn copied(&self) -> Option<Arc<dyn Kernel>> {
        let stored = self.stored.as_deref()?;
        Some(Arc::new(Self { stored: Some(Arc::from(stored)), ..self.clone() }))
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        match self.operator {
            Operator::Add => self.combine_all(workers, inputs, out, |a, b| a + b),
            Operator::Mul => self.combine_all(workers, inputs, out, |a, b| a * b),
        }
    }
}
