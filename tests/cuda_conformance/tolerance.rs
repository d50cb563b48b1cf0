//! How far a device's answer may be from the exact one.

use std::sync::Arc;

use layerjoule::backend::reference;
use layerjoule::network::{Activation, Layer, LayerKind, Network, Role};
use layerjoule::plan::Precision;

/// Unit roundoff of f32: half the distance from 1 to the next number.
const F32: f64 = 1.0 / (1u64 << 24) as f64;

/// A product of two numbers cut to TF32's 10 bits of mantissa: each is off by at most 2^-10 of itself, whichever way
/// the device rounds.
const TF32_PRODUCT: f64 = 2.0 / (1u64 << 10) as f64;

/// Roundings of an elementary function: CUDA's own are off by at most 2 units in the last place (CUDA C++ Programming
/// Guide, "Mathematical Functions"), and there is arithmetic around them.
const FUNCTION: usize = 16;

/// Winograd's and Fourier's transforms spread errors over a tile: this many times the roundoff, of the tile's largest
/// sum (Barabasz et al. 2020, 10.1145/3412380, figure 4, for tiles of up to 6 x 6).
const TRANSFORM: usize = 64;

/// Unit roundoff of what is stored, and half the distance between its smallest numbers.
fn storage(precision: Precision) -> (f64, f64) {
    match precision {
        Precision::F32 | Precision::Tf32 => (F32, 0.0),
        Precision::F16 => (1.0 / 2048.0, 1.0 / f64::from(1 << 25)),
        Precision::Bf16 => (1.0 / 256.0, 0.0),
    }
}

/// The largest error of each element that the arithmetic explains: `expected` is the exact answer for operands as they
/// are stored. What is only moved or compared has none.
pub(crate) fn tolerances(
    network: &Network,
    index: usize,
    inputs: &[&[f64]],
    parameters: &[Arc<[f32]>],
    batch: usize,
    precision: Precision,
    expected: &[f64],
) -> Vec<f64> {
    let layer = &network.layers[index];
    let Some(terms) = roundings(network, layer) else { return vec![0.0; expected.len()] };
    let sums = magnitudes(network, index, inputs, parameters, batch, expected);
    let largest = sums.iter().fold(0.0, |largest: f64, sum| largest.max(*sum));
    let (stored, smallest) = storage(precision);
    let product =
        matches!(layer.kind, LayerKind::Conv(_) | LayerKind::Linear(_)) && precision == Precision::Tf32;
    let product = if product { TF32_PRODUCT } else { 0.0 };
    // Twice what is stored: a sum may be stored before its bias, or before the inputs after the fourth, is added.
    sums.iter()
        .map(|sum| terms as f64 * F32 * largest + product * sum + 2.0 * (stored * sum + smallest))
        .collect()
}

/// Roundings in f32 of an element; none where numbers are moved or compared.
fn roundings(network: &Network, layer: &Layer) -> Option<usize> {
    let shape = network.shape(layer.inputs[0]);
    Some(match &layer.kind {
        LayerKind::Conv(conv) => shape[0] / conv.groups * conv.kernel[0] * conv.kernel[1] + TRANSFORM,
        LayerKind::Linear(_) => layer.parameters[0].shape[1] + 1,
        LayerKind::AvgPool(pool) => pool.kernel[0] * pool.kernel[1] + 2,
        LayerKind::GlobalAvgPool => shape[1] * shape[2] + 2,
        LayerKind::BatchNorm { .. } => 8,
        LayerKind::Add { .. } | LayerKind::Mul { .. } => layer.inputs.len() + 1,
        LayerKind::Lrn(lrn) => lrn.size + FUNCTION,
        LayerKind::Softmax { axis } => layer.output[*axis] + FUNCTION,
        LayerKind::Activation(Activation::Relu | Activation::Relu6 | Activation::Clip { .. }) => return None,
        LayerKind::Activation(_) => FUNCTION,
        _ => return None,
    })
}

/// The sum of the magnitudes of an element's terms, of which its error is a part; what is no sum has its own.
fn magnitudes(
    network: &Network,
    index: usize,
    inputs: &[&[f64]],
    parameters: &[Arc<[f32]>],
    batch: usize,
    expected: &[f64],
) -> Vec<f64> {
    let layer = &network.layers[index];
    match &layer.kind {
        LayerKind::Conv(_)
        | LayerKind::Linear(_)
        | LayerKind::AvgPool(_)
        | LayerKind::GlobalAvgPool
        | LayerKind::BatchNorm { .. }
        | LayerKind::Add { .. }
        | LayerKind::Mul { .. } => {}
        // Arguments near 1 come in, so that 1 is the size of what is subtracted and added inside.
        _ => return expected.iter().map(|value| value.abs()).collect(),
    }
    let inputs: Vec<Vec<f64>> = inputs.iter().map(|x| x.iter().map(|v| v.abs()).collect()).collect();
    let inputs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
    let roles = layer.parameters.iter().map(|parameter| parameter.role);
    let parameters = roles.zip(parameters).map(|(role, values)| {
        // Batch normalisation subtracts its mean.
        let sign = if role == Role::Mean { -1.0 } else { 1.0 };
        values.iter().map(|v| sign * v.abs()).collect::<Arc<[f32]>>()
    });
    let parameters: Vec<Arc<[f32]>> = parameters.collect();
    reference::layer_output(network, index, &inputs, &parameters, batch)
}
