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
    /// Operations of everything else, by the convention documented at `cost`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Conv, Linear, Lrn, Pool};

    fn conv(groups: usize, bias: bool) -> LayerKind {
        LayerKind::Conv(Conv {
            out_channels: 8,
            kernel: [3, 5],
            stride: [1; 2],
            padding: [0; 4],
            dilation: [1; 2],
            groups,
            bias,
        })
    }

    /// flops, flops_elementwise, activations
    fn counts(kind: LayerKind, inputs: &[&[usize]], output: &[usize]) -> [u64; 3] {
        let cost = cost(&kind, inputs, output).unwrap();
        [cost.flops, cost.flops_elementwise, cost.activations]
    }

    fn parameters(kind: LayerKind, input: &[usize]) -> Vec<(Role, Vec<usize>)> {
        parameter_shapes(&kind, &[input]).unwrap()
    }

    #[test]
    fn a_convolution_costs_two_operations_for_each_tap_of_each_output() {
        // 8*8*6 outputs, 4*3*5 taps; 4*10*10 elements read.
        assert_eq!(counts(conv(1, true), &[&[4, 10, 10]], &[8, 8, 6]), [2 * 384 * 60, 384, 400 + 384]);
        assert_eq!(counts(conv(4, false), &[&[4, 10, 10]], &[8, 8, 6]), [2 * 384 * 15, 0, 784]);
    }

    #[test]
    fn parameters_of_a_convolution_are_weights_and_bias() {
        let weight = |c| (Role::Weight, vec![8, c, 3, 5]);
        assert_eq!(parameters(conv(1, true), &[4, 10, 10]), [weight(4), (Role::Bias, vec![8])]);
        assert_eq!(parameters(conv(4, false), &[4, 10, 10]), [weight(1)]);
    }

    #[test]
    fn a_linear_layer_costs_two_operations_for_each_weight() {
        let linear = LayerKind::Linear(Linear { out_features: 10, bias: true });
        assert_eq!(counts(linear.clone(), &[&[84]], &[10]), [2 * 840, 10, 94]);
        assert_eq!(parameters(linear, &[84]), [(Role::Weight, vec![10, 84]), (Role::Bias, vec![10])]);
    }

    #[test]
    fn batch_norm_trains_two_of_its_four_tensors() {
        let norm = LayerKind::BatchNorm { epsilon: 1e-5 };
        let roles: Vec<_> = parameters(norm.clone(), &[64, 7, 7]).into_iter().map(|(role, _)| role).collect();
        assert_eq!(roles, [Role::Scale, Role::Shift, Role::Mean, Role::Variance]);
        assert_eq!(roles.iter().filter(|role| role.trains()).count(), 2);
        assert_eq!(counts(norm, &[&[64, 7, 7]], &[64, 7, 7]), [0, 2 * 3136, 2 * 3136]);
    }

    #[test]
    fn element_wise_work_is_counted_apart_from_flops() {
        let pool = Pool {
            kernel: [3, 2],
            stride: [1; 2],
            padding: [0; 4],
            dilation: [1; 2],
            ceil_mode: false,
            count_include_pad: true,
        };
        assert_eq!(counts(LayerKind::MaxPool(pool), &[&[2, 5, 5]], &[2, 3, 4]), [0, 24 * 6, 50 + 24]);
        assert_eq!(counts(LayerKind::GlobalAvgPool, &[&[2, 5, 5]], &[2, 1, 1]), [0, 50, 52]);
        let add = LayerKind::Add { operand: None };
        assert_eq!(counts(add, &[&[6], &[6], &[6]], &[6]), [0, 12, 24]);
        let mul = LayerKind::Mul { operand: Some(vec![1]) };
        assert_eq!(counts(mul, &[&[6]], &[6]), [0, 6, 12]);
        let lrn = LayerKind::Lrn(Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 });
        assert_eq!(counts(lrn, &[&[2, 1, 1]], &[2, 1, 1]), [0, 2 * 14, 4]);
        assert_eq!(counts(LayerKind::Activation(Activation::Relu), &[&[6]], &[6]), [0, 6, 12]);
        assert_eq!(counts(LayerKind::Concat { axis: 0 }, &[&[6], &[2]], &[8]), [0, 0, 16]);
    }

    #[test]
    fn views_cost_nothing() {
        for kind in [LayerKind::Flatten, LayerKind::Dropout { p: 0.5 }, LayerKind::Reshape { shape: vec![6] }]
        {
            assert_eq!(counts(kind, &[&[6]], &[6]), [0, 0, 0]);
        }
    }

    #[test]
    fn counts_beyond_64_bits_are_refused() {
        let linear = LayerKind::Linear(Linear { out_features: 1 << 40, bias: false });
        assert!(cost(&linear, &[&[1 << 40]], &[1 << 40]).is_err());
        assert!(parameter_shapes(&linear, &[&[1 << 40]]).is_err());
    }
}
