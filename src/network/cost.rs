//! Parameters, floating-point operations and bytes of a layer, for one item of the batch.

use serde::{Deserialize, Serialize};

use super::error::Problem;
use super::layer::{Activation, LayerKind};
use super::shape::volume;

/// What a stored tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Weights: K x C/groups x KH x KW for conv, out x in for linear.
    Weight,
    /// One number per output channel or feature.
    Bias,
    /// Gamma of batch norm, per channel.
    Scale,
    /// Beta of batch norm, per channel.
    Shift,
    /// Moving mean of batch norm, per channel.
    Mean,
    /// Moving variance of batch norm, per channel.
    Variance,
    /// The stored side of an add or mul.
    Operand,
}

impl Role {
    /// Whether training changes it; moving statistics are buffers instead.
    pub fn trains(self) -> bool {
        !matches!(self, Self::Mean | Self::Variance)
    }
}

/// What one item of the batch costs in one execution of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// 2 x multiply-accumulates of conv and linear.
    pub flops: u64,
    /// Operations of everything else, by the table in [`cost`].
    pub flops_elementwise: u64,
    /// Elements read from inputs plus elements written to the output.
    pub activations: u64,
}

/// The stored tensors of a layer, in order, with their shapes.
///
/// # Errors
///
/// A count that does not fit a machine word.
pub(super) fn parameter_shapes(
    kind: &LayerKind,
    inputs: &[&[usize]],
) -> Result<Vec<(Role, Vec<usize>)>, Problem> {
    let mut roles = Vec::new();
    match kind {
        LayerKind::Conv(c) => {
            roles.push((
                Role::Weight,
                vec![c.out_channels, inputs[0][0] / c.groups, c.kernel[0], c.kernel[1]],
            ));
            if c.bias {
                roles.push((Role::Bias, vec![c.out_channels]));
            }
        }
        LayerKind::Linear(l) => {
            let features = inputs[0].last().copied().unwrap_or(1);
            roles.push((Role::Weight, vec![l.out_features, features]));
            if l.bias {
                roles.push((Role::Bias, vec![l.out_features]));
            }
        }
        LayerKind::BatchNorm { .. } => {
            let channels = vec![inputs[0][0]];
            roles.extend(
                [Role::Scale, Role::Shift, Role::Mean, Role::Variance].map(|r| (r, channels.clone())),
            );
        }
        LayerKind::Add { operand: Some(shape) } | LayerKind::Mul { operand: Some(shape) } => {
            roles.push((Role::Operand, shape.clone()));
        }
        _ => {}
    }
    for (_, shape) in &roles {
        volume(shape)?;
    }
    Ok(roles)
}

/// Operations and traffic of a layer for one item of the batch.
///
/// Element-wise operations are counted by convention, since no two instruction sets agree: one for each
/// comparison, addition, multiplication, division, exponential or power of the textbook formula.
/// Batch norm at inference is one multiplication and one addition; a pool is one operation for each tap;
/// a bias is one addition for each output.
///
/// # Errors
///
/// A count that does not fit 64 bits.
pub(super) fn cost(kind: &LayerKind, inputs: &[&[usize]], output: &[usize]) -> Result<Cost, Problem> {
    let out = volume(output)? as u64;
    let mut read = 0u64;
    for input in inputs {
        read = add(read, volume(input)? as u64)?;
    }
    let mut cost = Cost { flops: 0, flops_elementwise: 0, activations: add(read, out)? };
    if kind.is_view() {
        cost.activations = 0;
        return Ok(cost);
    }
    let elementwise_per_output = match kind {
        LayerKind::Conv(c) => {
            let taps = mul(mul((inputs[0][0] / c.groups) as u64, c.kernel[0] as u64)?, c.kernel[1] as u64)?;
            cost.flops = mul(2, mul(out, taps)?)?;
            u64::from(c.bias)
        }
        LayerKind::Linear(l) => {
            cost.flops = mul(2, mul(out, inputs[0].last().copied().unwrap_or(1) as u64)?)?;
            u64::from(l.bias)
        }
        LayerKind::MaxPool(p) | LayerKind::AvgPool(p) => mul(p.kernel[0] as u64, p.kernel[1] as u64)?,
        LayerKind::GlobalAvgPool | LayerKind::GlobalMaxPool => read.checked_div(out).unwrap_or(0),
        LayerKind::BatchNorm { .. } => 2,
        // size squares and additions, then scale, offset, power and division.
        LayerKind::Lrn(lrn) => add(mul(2, lrn.size as u64)?, 4)?,
        LayerKind::Add { operand } | LayerKind::Mul { operand } => {
            (inputs.len() + usize::from(operand.is_some()) - 1) as u64
        }
        // Maximum, difference, exponential, sum, division.
        LayerKind::Softmax { .. } => 5,
        LayerKind::Activation(activation) => match activation {
            Activation::Relu => 1,
            Activation::Relu6 | Activation::Clip { .. } | Activation::LeakyRelu { .. } => 2,
            Activation::Sigmoid => 3,
            Activation::Tanh => 1,
            Activation::Silu | Activation::HardSigmoid { .. } => 4,
            Activation::HardSwish => 5,
        },
        _ => 0,
    };
    cost.flops_elementwise = mul(out, elementwise_per_output)?;
    Ok(cost)
}

fn add(a: u64, b: u64) -> Result<u64, Problem> {
    a.checked_add(b).ok_or_else(overflow)
}

fn mul(a: u64, b: u64) -> Result<u64, Problem> {
    a.checked_mul(b).ok_or_else(overflow)
}

fn overflow() -> Problem {
    Problem::mismatch("cost of the layer", "a count below 2^64", "an overflow")
}
