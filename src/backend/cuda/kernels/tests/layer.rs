//! One layer by kernels on the host against the f64 reference.

use std::sync::Arc;

use crate::backend::cuda::tensor::TensorForm;
use crate::backend::reference;
use crate::network::{Cost, Layer, LayerKind, Network, Parameter, Role, TensorRef, Values, output_shape};
use crate::plan::{Layout, Precision};

use super::super::{
    FormError, Launch, NormVectors, Tensor, Weights, activation, add, average_pool, batch_norm, bias,
    channel_shuffle, concat, conv, global_average_pool, global_max_pool, linear, lrn, max_pool, mul, pad,
    softmax, transpose,
};
use super::bounds;
use super::host::{Buffer, run};
use super::number::{decoded, encoded, rounded, storing};

/// How a layer is stored and run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) precision: Precision,
    pub(super) layout: Layout,
    pub(super) batch: usize,
    /// Elements by which every tensor is off its alignment.
    pub(super) shift: usize,
    /// Indices of 64 bits.
    pub(super) wide: bool,
    /// One block, whose threads go round until all is done.
    pub(super) one_block: bool,
}

impl Setting {
    pub(super) fn new(precision: Precision, layout: Layout, batch: usize) -> Self {
        Self { precision, layout, batch, shift: 0, wide: false, one_block: false }
    }

    /// Every precision and layout, aligned and not, a batch of three; one with 64-bit indices, one in one block.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            for layout in [Layout::Nchw, Layout::Nhwc] {
                let plain = Self::new(precision, layout, 3);
                all.extend([plain, Self { shift: 1, batch: 1, ..plain }]);
                all.push(Self { one_block: true, ..plain });
            }
        }
        for layout in [Layout::Nchw, Layout::Nhwc] {
            all.push(Self { wide: true, ..Self::new(Precision::F32, layout, 2) });
        }
        all
    }
}

/// Numbers that look random, the same for the same seed (Knuth 1997, TAOCP 2, section 3.3.4, table 1, line 26).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    /// From 0 to 1.
    pub(super) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        ((self.next() * end as f32) as usize).min(end - 1)
    }

    fn many(&mut self, count: usize, low: f32, high: f32) -> Vec<f32> {
        (0..count).map(|_| low + (high - low) * self.next()).collect()
    }
}

fn volume(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// The stored tensors of a kind.
fn parameter_shapes(kind: &LayerKind, input: &[usize]) -> Vec<(Role, Vec<usize>)> {
    let with_bias = |bias: bool, weight: Vec<usize>| {
        let outputs = weight[0];
        let mut shapes = vec![(Role::Weight, weight)];
        shapes.extend(bias.then(|| (Role::Bias, vec![outputs])));
        shapes
    };
    match kind {
        LayerKind::Conv(c) => {
            with_bias(c.bias, vec![c.out_channels, input[0] / c.groups, c.kernel[0], c.kernel[1]])
        }
        LayerKind::Linear(l) => with_bias(l.bias, vec![l.out_features, *input.last().unwrap()]),
        LayerKind::BatchNorm { .. } => {
            [Role::Scale, Role::Shift, Role::Mean, Role::Variance].map(|role| (role, vec![input[0]])).to_vec()
        }
        LayerKind::Add { operand: Some(shape) } | LayerKind::Mul { operand: Some(shape) } => {
            vec![(Role::Operand, shape.clone())]
        }
        _ => Vec::new(),
    }
}

/// A network whose last layer is of the kind; what it reads are layers that only have shapes.
fn network(kind: &LayerKind, inputs: &[Vec<usize>]) -> Network {
    let shapes: Vec<&[usize]> = inputs.iter().map(Vec::as_slice).collect();
    let parameter = |(role, shape)| Parameter { role, shape, values: Values::Random };
    let layer = |kind: LayerKind, output: Vec<usize>| Layer {
        name: String::new(),
        kind,
        inputs: Vec::new(),
        output,
        parameters: Vec::new(),
        cost: Cost::default(),
    };
    let mut layers: Vec<Layer> =
        inputs.iter().map(|shape| layer(LayerKind::Dropout { p: 0.0 }, shape.clone())).collect();
    layers.push(Layer {
        inputs: (0..inputs.len()).map(TensorRef::Layer).collect(),
        parameters: parameter_shapes(kind, &inputs[0]).into_iter().map(parameter).collect(),
        ..layer(kind.clone(), output_shape(kind, &shapes).unwrap())
    });
    Network {
        name: String::new(),
        file: String::new(),
        sha256: String::new(),
        set: Default::default(),
        input: inputs[0].clone(),
        layers,
    }
}

/// The batch as it lies in memory.
pub(super) fn laid_out(form: &TensorForm, values: &[f32]) -> Vec<u8> {
    let (size, item) = (form.precision.bytes(), form.item());
    let mut bytes = vec![0; form.bytes()];
    for (index, &value) in values.iter().enumerate() {
        let at = (index / item * item + form.place(index % item)) * size;
        bytes[at..at + size].copy_from_slice(&encoded(form.precision, value));
    }
    bytes
}

/// The batch in row-major order from how it lies in memory.
pub(super) fn read_back(form: &TensorForm, bytes: &[u8]) -> Vec<f32> {
    let (values, item) = (decoded(form.precision, bytes), form.item());
    (0..values.len()).map(|index| values[index / item * item + form.place(index % item)]).collect()
}

/// A stored tensor as kernels want it: some stay f32, the weights of a convolution follow the layout.
fn stored(role: Role, shape: &[usize], values: &[f32], setting: Setting) -> Vec<u8> {
    let all = |precision| values.iter().flat_map(|&value| encoded(precision, value)).collect();
    match (role, shape) {
        (Role::Weight, &[outputs, inputs, rows, columns]) if setting.layout == Layout::Nhwc => {
            // The output channel stands where the batch does.
            let form = TensorForm {
                batch: outputs,
                shape: vec![inputs, rows, columns],
                precision: setting.precision,
                channels_last: Some([inputs, rows, columns]),
            };
            laid_out(&form, values)
        }
        (Role::Weight, _) => all(setting.precision),
        (Role::Operand, _) => laid_out(&TensorForm::new(1, shape, setting.precision, setting.layout), values),
        _ => all(Precision::F32),
    }
}

/// The launches of a layer; `parameters` are addresses in the order of the layer's.
fn launches(
    layer: &Layer,
    inputs: &[Tensor<'_>],
    parameters: &[u64],
    y: Tensor<'_>,
    setting: Setting,
) -> Result<Vec<Launch>, FormError> {
    let x = inputs[0];
    let operand = |shape: &Vec<usize>| TensorForm::new(1, shape, setting.precision, setting.layout);
    Ok(match &layer.kind {
        LayerKind::Activation(kind) => vec![activation(kind, x, y)],
        LayerKind::Conv(c) => {
            let weights = Weights { at: parameters[0], layout: setting.layout };
            // A bias by itself, in place, in every second setting.
            match parameters.get(1) {
                Some(&at) if setting.shift == 1 => vec![conv(c, x, weights, None, y)?, bias(0, at, y)?],
                at => vec![conv(c, x, weights, at.copied(), y)?],
            }
        }
        LayerKind::Linear(_) => vec![linear(x, parameters[0], parameters.get(1).copied(), y)?],
        LayerKind::MaxPool(pool) => vec![max_pool(pool, x, y)?],
        LayerKind::AvgPool(pool) => vec![average_pool(pool, x, y)?],
        LayerKind::GlobalAvgPool => vec![global_average_pool(x, y)?],
        LayerKind::GlobalMaxPool => vec![global_max_pool(x, y)?],
        LayerKind::BatchNorm { epsilon } => {
            let [scale, shift, mean, variance] = parameters.try_into().unwrap();
            vec![batch_norm(*epsilon, x, NormVectors { scale, shift, mean, variance }, y)?]
        }
        LayerKind::Lrn(kind) => vec![lrn(kind, x, y)?],
        LayerKind::Add { operand: Some(shape) } => {
            add(&[x, Tensor { form: &operand(shape), at: parameters[0] }], y)?
        }
        LayerKind::Mul { operand: Some(shape) } => {
            mul(&[x, Tensor { form: &operand(shape), at: parameters[0] }], y)?
        }
        LayerKind::Add { operand: None } => add(inputs, y)?,
        LayerKind::Mul { operand: None } => mul(inputs, y)?,
        LayerKind::Concat { axis } => concat(*axis, inputs, y)?,
        LayerKind::Transpose { perm } => transpose(perm, x, y)?,
        LayerKind::ChannelShuffle { groups } => channel_shuffle(*groups, x, y)?,
        LayerKind::Softmax { axis } => vec![softmax(*axis, x, y)?],
        LayerKind::Pad { padding, value } => vec![pad(*padding, *value, x, y)?],
        LayerKind::Flatten | LayerKind::Reshape { .. } | LayerKind::Dropout { .. } => Vec::new(),
    })
}

/// Whether the kind moves and compares numbers, so that its result is exact.
fn is_exact(kind: &LayerKind) -> bool {
    use LayerKind::{ChannelShuffle, Concat, GlobalMaxPool, MaxPool, Transpose};
    matches!(kind, MaxPool(_) | GlobalMaxPool | Concat { .. } | Transpose { .. } | ChannelShuffle { .. })
}

/// Runs the layer over numbers drawn from the seed and panics where the result is off by more than rounding explains,
/// anything was written outside the output, or an input was changed.
pub(super) fn check(kind: &LayerKind, inputs: &[Vec<usize>], setting: Setting, seed: u64) {
    let Setting { precision, layout, batch, .. } = setting;
    let what = format!("{kind} over {inputs:?}, {setting:?}, seed {seed}");
    let network = network(kind, inputs);
    let index = network.layers.len() - 1;
    let layer = &network.layers[index];
    let mut numbers = Numbers(seed);
    let mut draw = |count: usize| -> Vec<f32> {
        numbers.many(count, -2.0, 2.0).into_iter().map(|value| rounded(precision, value)).collect()
    };
    let values: Vec<Vec<f32>> = inputs.iter().map(|shape| draw(batch * volume(shape))).collect();
    let stored_values: Vec<Vec<f32>> = layer
        .parameters
        .iter()
        .map(|parameter| match parameter.role {
            Role::Variance | Role::Scale => draw(parameter.len()).iter().map(|v| v.abs() + 0.5).collect(),
            _ => draw(parameter.len()),
        })
        .collect();

    let size = precision.bytes();
    let forms: Vec<TensorForm> =
        inputs.iter().map(|shape| TensorForm::new(batch, shape, precision, layout)).collect();
    let laid: Vec<Vec<u8>> = forms.iter().zip(&values).map(|(form, values)| laid_out(form, values)).collect();
    let mut xs: Vec<Buffer> = laid.iter().map(|bytes| Buffer::holding(bytes, setting.shift * size)).collect();
    let mut kept: Vec<Buffer> = layer
        .parameters
        .iter()
        .zip(&stored_values)
        .map(|(parameter, values)| {
            // What is f32 keeps the alignment of f32.
            Buffer::holding(&stored(parameter.role, &parameter.shape, values, setting), setting.shift * 4)
        })
        .collect();
    let y_form = TensorForm::new(batch, &layer.output, precision, layout);
    let mut y = Buffer::fresh(y_form.bytes(), setting.shift * size);

    let tensors: Vec<Tensor<'_>> =
        forms.iter().zip(&mut xs).map(|(form, buffer)| Tensor { form, at: buffer.at() }).collect();
    let parameters: Vec<u64> = kept.iter_mut().map(Buffer::at).collect();
    let output = Tensor { form: &y_form, at: y.at() };
    let launches =
        launches(layer, &tensors, &parameters, output, setting).unwrap_or_else(|e| panic!("{what}: {e}"));
    for mut launch in launches.iter().cloned() {
        if setting.one_block {
            launch.grid = [1, 1, 1];
        }
        run(&launch, precision, setting.wide);
    }

    assert!(y.intact(), "{what}: written outside the output");
    assert!(xs.iter().chain(&kept).all(Buffer::intact), "{what}: written around an input");
    for (buffer, bytes) in xs.iter().zip(&laid) {
        assert_eq!(buffer.bytes(), bytes, "{what}: an input changed");
    }
    let exact: Vec<Vec<f64>> =
        values.iter().map(|values| values.iter().map(|&value| f64::from(value)).collect()).collect();
    let exact: Vec<&[f64]> = exact.iter().map(Vec::as_slice).collect();
    let parameters: Vec<Arc<[f32]>> = stored_values.iter().map(|values| values.as_slice().into()).collect();
    let expected = reference::layer_output(&network, index, &exact, &parameters, batch);
    let mut bounds = bounds::rounding(&network, index, &exact, &parameters, batch, &expected);
    if !is_exact(kind) {
        // Each launch rounds what it stores. No partial sum or product here is beyond 8 times the result and 16.
        let more = launches.len() - 1;
        for (bound, &value) in bounds.iter_mut().zip(&expected) {
            let partial =
                if more > 0 { more as f64 * storing(precision, 8.0 * value.abs() + 16.0) } else { 0.0 };
            *bound = (*bound + storing(precision, value) + partial) * 1.001;
        }
    }
    let found = read_back(&y_form, y.bytes());
    bounds::assert_within(&what, &found, &expected, &bounds);
}

/// [`check`] in every setting.
pub(super) fn check_all(kind: &LayerKind, inputs: &[Vec<usize>]) {
    for (seed, setting) in Setting::all().into_iter().enumerate() {
        check(kind, inputs, setting, seed as u64 + 1);
    }
}
