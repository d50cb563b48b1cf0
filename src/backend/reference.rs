//! Every kind of layer straight from its definition, in f64: the answer that fast kernels are held to.
//!
//! Written to be checked by eye. It is slow and allocates freely.

use std::sync::Arc;

use crate::network::{Activation, Conv, Layer, LayerKind, Lrn, Network, Pool, Role, TensorRef};

use super::Tensors;

/// The output of every layer, each the whole batch in row-major NCHW.
pub fn run(network: &Network, tensors: &Tensors, batch: usize) -> Vec<Vec<f64>> {
    let input: Vec<f64> = tensors.input.iter().map(|&v| f64::from(v)).collect();
    let mut outputs: Vec<Vec<f64>> = Vec::with_capacity(network.layers.len());
    for (index, layer) in network.layers.iter().enumerate() {
        let read = |t: &TensorRef| match *t {
            TensorRef::Input => input.as_slice(),
            TensorRef::Layer(source) => outputs[source].as_slice(),
        };
        let inputs: Vec<&[f64]> = layer.inputs.iter().map(read).collect();
        let output = layer_output(network, index, &inputs, &tensors.parameters[index], batch);
        outputs.push(output);
    }
    outputs
}

/// The output of one layer over given inputs, each the whole batch in row-major NCHW.
pub fn layer_output(
    network: &Network,
    index: usize,
    inputs: &[&[f64]],
    parameters: &[Arc<[f32]>],
    batch: usize,
) -> Vec<f64> {
    let layer = &network.layers[index];
    let shapes: Vec<&[usize]> = layer.inputs.iter().map(|&t| network.shape(t)).collect();
    let mut output = Vec::with_capacity(batch * volume(&layer.output));
    for item in 0..batch {
        let tensors = inputs.iter().zip(&shapes).map(|(values, shape)| Tensor {
            shape: shape.to_vec(),
            values: values[item * volume(shape)..(item + 1) * volume(shape)].to_vec(),
        });
        let result = item_output(layer, &tensors.collect::<Vec<_>>(), parameters);
        debug_assert_eq!(result.shape, layer.output);
        output.extend(result.values);
    }
    output
}

/// One item of a batch.
struct Tensor {
    shape: Vec<usize>,
    values: Vec<f64>,
}

fn volume(shape: &[usize]) -> usize {
    shape.iter().product()
}

impl Tensor {
    /// The tensor whose element at each index is `value(index)`.
    fn from_fn(shape: &[usize], value: impl Fn(&[usize]) -> f64) -> Self {
        let values = (0..volume(shape)).map(|flat| value(&multi_index(shape, flat))).collect();
        Self { shape: shape.to_vec(), values }
    }

    fn at(&self, index: &[usize]) -> f64 {
        let flat = self.shape.iter().zip(index).fold(0, |flat, (&size, &i)| flat * size + i);
        self.values[flat]
    }

    /// The element at a place of a C x H x W tensor, or none outside it.
    fn get(&self, channel: usize, y: isize, x: isize) -> Option<f64> {
        let inside = |i: isize, size: usize| usize::try_from(i).ok().filter(|&i| i < size);
        Some(self.at(&[channel, inside(y, self.shape[1])?, inside(x, self.shape[2])?]))
    }
}

fn multi_index(shape: &[usize], flat: usize) -> Vec<usize> {
    let mut rest = flat;
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = rest % shape[axis];
        rest /= shape[axis];
    }
    index
}

fn item_output(layer: &Layer, inputs: &[Tensor], parameters: &[Arc<[f32]>]) -> Tensor {
    let stored = |role: Role| -> Option<Tensor> {
        let place = layer.parameters.iter().position(|p| p.role == role)?;
        let values = parameters[place].iter().map(|&v| f64::from(v)).collect();
        Some(Tensor { shape: layer.parameters[place].shape.clone(), values })
    };
    let need = |role: Role| stored(role).expect("the kind has this parameter");
    let x = &inputs[0];
    let out = layer.output.as_slice();
    match &layer.kind {
        LayerKind::Conv(c) => convolution(c, x, &need(Role::Weight), stored(Role::Bias), out),
        LayerKind::Linear(_) => linear(x, &need(Role::Weight), stored(Role::Bias), out),
        LayerKind::Activation(a) => Tensor::from_fn(out, |i| activation(a, x.at(i))),
        LayerKind::MaxPool(p) => Tensor::from_fn(out, |i| max_pool(p, x, i)),
        LayerKind::AvgPool(p) => Tensor::from_fn(out, |i| average_pool(p, x, i)),
        LayerKind::GlobalAvgPool => Tensor::from_fn(out, |i| {
            let plane = plane(x, i[0]);
            plane.iter().sum::<f64>() / plane.len() as f64
        }),
        LayerKind::GlobalMaxPool => Tensor::from_fn(out, |i| maximum(plane(x, i[0]).iter().copied())),
        LayerKind::BatchNorm { epsilon } => {
            let [scale, shift, mean, variance] =
                [Role::Scale, Role::Shift, Role::Mean, Role::Variance].map(need);
            Tensor::from_fn(out, |i| {
                let c = [i[0]];
                let deviation = (variance.at(&c) + f64::from(*epsilon)).sqrt();
                scale.at(&c) * (x.at(i) - mean.at(&c)) / deviation + shift.at(&c)
            })
        }
        LayerKind::Lrn(l) => Tensor::from_fn(out, |i| local_response(l, x, i)),
        LayerKind::Add { .. } => elementwise(inputs, stored(Role::Operand), out, |a, b| a + b),
        LayerKind::Mul { .. } => elementwise(inputs, stored(Role::Operand), out, |a, b| a * b),
        LayerKind::Concat { axis } => Tensor::from_fn(out, |i| concatenated(inputs, *axis, i)),
        LayerKind::Flatten | LayerKind::Reshape { .. } | LayerKind::Dropout { .. } => {
            Tensor { shape: out.to_vec(), values: x.values.clone() }
        }
        LayerKind::Transpose { perm } => Tensor::from_fn(out, |i| {
            let mut source = vec![0; perm.len()];
            perm.iter().zip(i).for_each(|(&axis, &at)| source[axis] = at);
            x.at(&source)
        }),
        LayerKind::ChannelShuffle { groups } => {
            // Channels as groups x members, transposed to members x groups (Zhang 2018, section 3.1).
            let members = out[0] / groups;
            Tensor::from_fn(out, |i| x.at(&[(i[0] % groups) * members + i[0] / groups, i[1], i[2]]))
        }
        LayerKind::Softmax { axis } => Tensor::from_fn(out, |i| softmax(x, *axis, i)),
        LayerKind::Pad { padding, value } => Tensor::from_fn(out, |i| {
            let (y, column) = (i[1] as isize - padding[0], i[2] as isize - padding[1]);
            x.get(i[0], y, column).unwrap_or(f64::from(*value))
        }),
    }
}

fn convolution(conv: &Conv, x: &Tensor, weight: &Tensor, bias: Option<Tensor>, out: &[usize]) -> Tensor {
    let inputs_per_group = x.shape[0] / conv.groups;
    let outputs_per_group = out[0] / conv.groups;
    Tensor::from_fn(out, |i| {
        let group = i[0] / outputs_per_group;
        let mut sum = bias.as_ref().map_or(0.0, |b| b.at(&[i[0]]));
        for c in 0..inputs_per_group {
            for ky in 0..conv.kernel[0] {
                for kx in 0..conv.kernel[1] {
                    let y = place(i[1], conv.stride[0], ky, conv.dilation[0], conv.padding[0]);
                    let column = place(i[2], conv.stride[1], kx, conv.dilation[1], conv.padding[1]);
                    let value = x.get(group * inputs_per_group + c, y, column).unwrap_or(0.0);
                    sum += value * weight.at(&[i[0], c, ky, kx]);
                }
            }
        }
        sum
    })
}

/// The input coordinate that a tap of a window reads.
fn place(out: usize, stride: usize, tap: usize, dilation: usize, before: usize) -> isize {
    (out * stride + tap * dilation) as isize - before as isize
}

fn linear(x: &Tensor, weight: &Tensor, bias: Option<Tensor>, out: &[usize]) -> Tensor {
    let features = weight.shape[1];
    Tensor::from_fn(out, |i| {
        let (&o, rest) = i.split_last().expect("linear has at least one axis");
        let products = (0..features).map(|f| weight.at(&[o, f]) * x.at(&[rest, &[f]].concat()));
        products.sum::<f64>() + bias.as_ref().map_or(0.0, |b| b.at(&[o]))
    })
}

fn activation(kind: &Activation, x: f64) -> f64 {
    // In f64 throughout; `max` and `min` of NaN would hide it.
    let clip = |x: f64, low: f64, high: f64| if x.is_nan() { x } else { x.max(low).min(high) };
    match *kind {
        Activation::Relu => clip(x, 0.0, f64::INFINITY),
        Activation::Relu6 => clip(x, 0.0, 6.0),
        Activation::LeakyRelu { alpha } if x < 0.0 => f64::from(alpha) * x,
        Activation::LeakyRelu { .. } => x,
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::HardSwish => x * clip(x / 6.0 + 0.5, 0.0, 1.0),
        Activation::HardSigmoid { alpha, beta } => clip(f64::from(alpha) * x + f64::from(beta), 0.0, 1.0),
        Activation::Clip { min, max } => clip(x, f64::from(min), f64::from(max)),
    }
}

/// The coordinates that a window reads, inside the input or not.
fn window(pool: &Pool, at: &[usize]) -> Vec<(isize, isize)> {
    let [s, d, p] = [pool.stride, pool.dilation, [pool.padding[0], pool.padding[1]]];
    let rows = (0..pool.kernel[0]).map(|k| place(at[1], s[0], k, d[0], p[0]));
    rows.flat_map(|y| (0..pool.kernel[1]).map(move |k| (y, place(at[2], s[1], k, d[1], p[1])))).collect()
}

fn max_pool(pool: &Pool, x: &Tensor, at: &[usize]) -> f64 {
    maximum(window(pool, at).into_iter().filter_map(|(row, column)| x.get(at[0], row, column)))
}

/// The largest value; NaN if there is one; minus infinity of nothing.
fn maximum(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::NEG_INFINITY, |m, v| if v.is_nan() || m.is_nan() { f64::NAN } else { m.max(v) })
}

fn average_pool(pool: &Pool, x: &Tensor, at: &[usize]) -> f64 {
    let places = window(pool, at);
    let inside: Vec<f64> = places.iter().filter_map(|&(row, column)| x.get(at[0], row, column)).collect();
    let count = if pool.count_include_pad {
        // Padding that ceil_mode adds beyond the stated one never counts, as in PyTorch.
        let end = |axis: usize| (x.shape[axis + 1] + pool.padding[axis + 2]) as isize;
        places.iter().filter(|&&(row, column)| row < end(0) && column < end(1)).count()
    } else {
        inside.len()
    };
    inside.iter().sum::<f64>() / count as f64
}

fn plane(x: &Tensor, channel: usize) -> &[f64] {
    let size = x.shape[1] * x.shape[2];
    &x.values[channel * size..(channel + 1) * size]
}

/// ONNX operator LRN: channels c - floor((size - 1) / 2) to c + ceil((size - 1) / 2), both included.
fn local_response(lrn: &Lrn, x: &Tensor, at: &[usize]) -> f64 {
    let first = at[0].saturating_sub((lrn.size - 1) / 2);
    let last = (at[0] + (lrn.size - 1).div_ceil(2)).min(x.shape[0] - 1);
    let squares: f64 = (first..=last).map(|c| x.at(&[c, at[1], at[2]]).powi(2)).sum();
    let base = f64::from(lrn.k) + f64::from(lrn.alpha) / lrn.size as f64 * squares;
    x.at(at) / base.powf(f64::from(lrn.beta))
}

fn elementwise(
    inputs: &[Tensor],
    operand: Option<Tensor>,
    out: &[usize],
    combine: impl Fn(f64, f64) -> f64,
) -> Tensor {
    let value = |t: &Tensor, i: &[usize]| {
        // Axes are aligned from the right; an axis of 1 stretches (NumPy, "Broadcasting").
        let aligned = &i[i.len() - t.shape.len()..];
        let index: Vec<usize> =
            t.shape.iter().zip(aligned).map(|(&size, &at)| if size == 1 { 0 } else { at }).collect();
        t.at(&index)
    };
    Tensor::from_fn(out, |i| {
        let mut values = inputs.iter().chain(&operand).map(|t| value(t, i));
        let first = values.next().expect("an element-wise layer has an input");
        values.fold(first, &combine)
    })
}

fn concatenated(inputs: &[Tensor], axis: usize, at: &[usize]) -> f64 {
    let mut index = at.to_vec();
    for input in inputs {
        if index[axis] < input.shape[axis] {
            return input.at(&index);
        }
        index[axis] -= input.shape[axis];
    }
    unreachable!("the output is as long as its inputs together")
}

fn softmax(x: &Tensor, axis: usize, at: &[usize]) -> f64 {
    let mut index = at.to_vec();
    let line: Vec<f64> = (0..x.shape[axis])
        .map(|i| {
            index[axis] = i;
            x.at(&index)
        })
        .collect();
    let largest = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = line.iter().map(|v| (v - largest).exp()).sum();
    (x.at(at) - largest).exp() / sum
}
