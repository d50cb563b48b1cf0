//! How far f32 may be from the exact answer.

use std::sync::Arc;

use layerjoule::backend::reference;
use layerjoule::network::{Activation, LayerKind, Network, Role};

/// Unit roundoff of f32: half the distance from 1 to the next number.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Relative error of a result of `n` rounded operations, in whatever order the sum is taken
/// (Higham 2002, "Accuracy and Stability of Numerical Algorithms", lemma 3.1).
fn gamma(n: usize) -> f64 {
    let nu = n as f64 * U;
    nu / (1.0 - nu)
}

/// Roundings of an elementary function of the standard library, which errs by at most 2 units in the last
/// place, and of the arithmetic around it.
const FUNCTION: usize = 8;

/// The largest error that rounding explains, for each element. Data that is only moved or compared has none.
///
/// A sum of products errs by at most gamma(terms) times the sum of the products' magnitudes, which is the
/// layer over magnitudes: the reference computes that as well.
pub(crate) fn rounding(
    network: &Network,
    index: usize,
    inputs: &[&[f64]],
    parameters: &[Arc<[f32]>],
    batch: usize,
    expected: &[f64],
) -> Vec<f64> {
    let layer = &network.layers[index];
    let relative = |n: usize| expected.iter().map(|y| gamma(n) * y.abs()).collect::<Vec<f64>>();
    let of_magnitudes = |n: usize| -> Vec<f64> {
        let inputs: Vec<Vec<f64>> = inputs.iter().map(|x| x.iter().map(|v| v.abs()).collect()).collect();
        let inputs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
        let roles = layer.parameters.iter().map(|p| p.role);
        let parameters = roles.zip(parameters).map(|(role, values)| {
            // Batch norm subtracts its mean.
            let sign = if role == Role::Mean { -1.0 } else { 1.0 };
            values.iter().map(|v| sign * v.abs()).collect::<Arc<[f32]>>()
        });
        let parameters: Vec<Arc<[f32]>> = parameters.collect();
        let sums = reference::layer_output(network, index, &inputs, &parameters, batch);
        sums.iter().map(|y| gamma(n) * y).collect()
    };
    let of_input =
        |error: &dyn Fn(f64) -> f64| inputs[0].iter().map(|&x| error(x.abs())).collect::<Vec<f64>>();
    match &layer.kind {
        LayerKind::Conv(conv) => {
            let shape = network.shape(layer.inputs[0]);
            of_magnitudes(shape[0] / conv.groups * conv.kernel[0] * conv.kernel[1] + 1)
        }
        LayerKind::Linear(_) => of_magnitudes(layer.parameters[0].shape[1] + 1),
        LayerKind::AvgPool(pool) => of_magnitudes(pool.kernel[0] * pool.kernel[1] + 2),
        LayerKind::GlobalAvgPool => {
            of_magnitudes(network.shape(layer.inputs[0])[1..].iter().product::<usize>() + 2)
        }
        LayerKind::BatchNorm { .. } => of_magnitudes(4),
        LayerKind::Add { .. } | LayerKind::Mul { .. } => of_magnitudes(inputs.len() + 1),
        LayerKind::Lrn(lrn) => {
            // The relative error of the base, multiplied by the exponent, and the power itself.
            relative(((lrn.size + 4) as f64 * f64::from(lrn.beta).max(1.0)).ceil() as usize + FUNCTION)
        }
        LayerKind::Softmax { axis } => {
            // Rounding x - max by U * |x - max| changes its exponential by as much, relatively.
            let largest = inputs[0].iter().fold(0.0f64, |m, x| m.max(x.abs()));
            let terms = layer.output[*axis] + FUNCTION + (2.0 * largest).ceil() as usize;
            relative(terms).iter().map(|e| e + f64::from(f32::MIN_POSITIVE)).collect()
        }
        LayerKind::Activation(activation) => match *activation {
            Activation::Relu | Activation::Relu6 | Activation::Clip { .. } => relative(0),
            Activation::LeakyRelu { .. } => relative(1),
            Activation::Sigmoid | Activation::Tanh | Activation::Silu => relative(FUNCTION),
            Activation::HardSigmoid { alpha, beta } => {
                of_input(&|x| gamma(2) * (f64::from(alpha.abs()) * x + f64::from(beta.abs())))
            }
            Activation::HardSwish => of_input(&|x| gamma(5) * x * (x / 6.0 + 0.5)),
        },
        _ => relative(0),
    }
}

/// The bounds of a layer whose inputs (values and bounds) are themselves only known within bounds: what the
/// layer makes of those, and its own rounding `own`. Only for layers that steps fuse.
pub(crate) fn carried(
    network: &Network,
    index: usize,
    inputs: &[(Vec<f64>, Vec<f64>)],
    parameters: &[Arc<[f32]>],
    own: &[f64],
) -> Vec<f64> {
    let layer = &network.layers[index];
    let role = |role: Role| &parameters[layer.parameters.iter().position(|p| p.role == role).unwrap()];
    let plane: usize = layer.output.iter().skip(1).product();
    let moved = |i: usize| -> f64 {
        let errors = || inputs.iter().map(|(_, bounds)| bounds[i]);
        match &layer.kind {
            // The first of its step: its inputs are exact. That a batch norm's factor is folded into the weights
            // and the bias is two more roundings, and gamma(n + 2) <= 2 gamma(n) for the n >= 2 of a convolution.
            LayerKind::Conv(_) => own[i],
            LayerKind::BatchNorm { epsilon } => {
                let channel = i / plane % layer.output[0];
                let spread = f64::from(role(Role::Variance)[channel]) + f64::from(*epsilon);
                errors().sum::<f64>() * f64::from(role(Role::Scale)[channel]).abs() / spread.sqrt()
            }
            LayerKind::Add { .. } => errors().sum(),
            // No activation of the tests is steeper than hard_swish, 1.5 at 3, or leaky_relu and hard_sigmoid
            // with slopes of at most 1.
            LayerKind::Activation(_) => 1.5 * errors().sum::<f64>(),
            _ => 0.0,
        }
    };
    // Bounds are of first order in the roundoff; a thousandth more holds what is of second order.
    own.iter().enumerate().map(|(i, own)| (own + moved(i)) * 1.001).collect()
}

/// Panics at the first element that is further off than its bound.
pub(crate) fn assert_within(what: &str, found: &[f32], expected: &[f64], bounds: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}: number of elements");
    for (i, ((&found, &expected), &bound)) in found.iter().zip(expected).zip(bounds).enumerate() {
        let found = f64::from(found);
        let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
        let error = (found - expected).abs();
        assert!(same || error <= bound, "{what}: element {i}: {found}, expected {expected} +- {bound:e}");
    }
}

#[test]
fn a_sum_that_misses_one_term_is_outside_its_bound() {
    // 1000 equal terms: leaving one out changes the sum by 1e-3 of it, rounding by at most 6e-5.
    assert!(gamma(1001) * 1000.0 < 1.0);
}
