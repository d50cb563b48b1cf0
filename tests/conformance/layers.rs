//! Random layers of every kind.

use layerjoule::network::{Activation, Conv, INPUT, LayerKind, Linear, Lrn, Pool};
use proptest::prelude::*;

use super::{check, network, single};

/// Geometry along one axis: kernel, stride, dilation, padding before and after, and an input that is just
/// as large as the window needs or a little larger.
#[derive(Debug, Clone)]
struct Axis {
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
    input: usize,
}

fn axis(pool: bool) -> impl Strategy<Value = Axis> {
    (1..5usize, 1..4usize, 1..4usize, 0..4usize, 0..4usize, 0..12usize).prop_map(
        move |(kernel, stride, dilation, before, after, more)| {
            let reach = (kernel - 1) * dilation;
            // A pool's padding is smaller than its window.
            let limit = if pool { reach } else { usize::MAX };
            let (before, after) = (before.min(limit), after.min(limit));
            let input = (reach + 1).saturating_sub(before + after).max(1) + more;
            Axis { kernel, stride, dilation, before, after, input }
        },
    )
}

fn conv(y: &Axis, x: &Axis, out_channels: usize, groups: usize, bias: bool) -> LayerKind {
    LayerKind::Conv(Conv {
        out_channels,
        kernel: [y.kernel, x.kernel],
        stride: [y.stride, x.stride],
        padding: [y.before, x.before, y.after, x.after],
        dilation: [y.dilation, x.dilation],
        groups,
        bias,
    })
}

fn pool(y: &Axis, x: &Axis, ceil_mode: bool, count_include_pad: bool) -> Pool {
    Pool {
        kernel: [y.kernel, x.kernel],
        stride: [y.stride, x.stride],
        padding: [y.before, x.before, y.after, x.after],
        dilation: [y.dilation, x.dilation],
        ceil_mode,
        count_include_pad,
    }
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Relu),
        Just(Activation::Relu6),
        Just(Activation::LeakyRelu { alpha: 0.1 }),
        Just(Activation::Sigmoid),
        Just(Activation::Tanh),
        Just(Activation::Silu),
        Just(Activation::HardSwish),
        Just(Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }),
        Just(Activation::Clip { min: -0.3, max: 0.4 }),
    ]
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..8usize, 1..5)
}

prop_compose! {
    /// Batch, threads and seed.
    fn settings()(batch in 1..4usize, threads in 1..3usize, seed in any::<u64>()) -> (usize, usize, u64) {
        (batch, threads, seed)
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn convolutions_of_any_geometry_agree(
        (y, x) in (axis(false), axis(false)),
        (groups, inputs, outputs) in (1..5usize, 1..6usize, 1..6usize),
        bias: bool,
        (batch, threads, seed) in settings(),
    ) {
        let kind = conv(&y, &x, groups * outputs, groups, bias);
        check(&single(&[groups * inputs, y.input, x.input], kind), batch, threads, seed);
    }

    #[test]
    fn depthwise_convolutions_agree(
        (y, x) in (axis(false), axis(false)),
        (channels, multiplier) in (2..7usize, 1..4usize),
        bias: bool,
        (batch, threads, seed) in settings(),
    ) {
        let kind = conv(&y, &x, channels * multiplier, channels, bias);
        check(&single(&[channels, y.input, x.input], kind), batch, threads, seed);
    }

    #[test]
    fn pools_agree(
        (y, x) in (axis(true), axis(true)),
        channels in 1..5usize,
        (ceil_mode, count_include_pad, max) in any::<(bool, bool, bool)>(),
        (batch, threads, seed) in settings(),
    ) {
        let pool = pool(&y, &x, ceil_mode, count_include_pad);
        let kind = if max { LayerKind::MaxPool(pool) } else { LayerKind::AvgPool(pool) };
        check(&single(&[channels, y.input, x.input], kind), batch, threads, seed);
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn pointwise_convolutions_agree(
        (inputs, outputs, height, width) in (1..40usize, 1..40usize, 1..9usize, 1..9usize),
        bias: bool,
        (batch, threads, seed) in settings(),
    ) {
        let one = Axis { kernel: 1, stride: 1, dilation: 1, before: 0, after: 0, input: 0 };
        let kind = conv(&one, &one, outputs, 1, bias);
        check(&single(&[inputs, height, width], kind), batch, threads, seed);
    }

    #[test]
    fn linear_layers_agree(
        mut shape in shape(),
        (features, out_features) in (1..200usize, 1..50usize),
        bias: bool,
        (batch, threads, seed) in settings(),
    ) {
        shape.truncate(3);
        *shape.last_mut().unwrap() = features;
        let kind = LayerKind::Linear(Linear { out_features, bias });
        check(&single(&shape, kind), batch, threads, seed);
    }

    #[test]
    fn activations_agree(
        activation in activation(),
        shape in shape(),
        (batch, threads, seed) in settings(),
    ) {
        check(&single(&shape, LayerKind::Activation(activation)), batch, threads, seed);
    }

    #[test]
    fn kinds_without_a_window_agree(
        (c, h, w) in (1..5usize, 1..9usize, 1..9usize),
        which in 0..5usize,
        groups in 1..4usize,
        // Rows and columns added, and cut off where enough of them are left.
        padding in prop::array::uniform4(-2..3isize),
        (size, beta) in (1..7usize, prop_oneof![Just(0.75f32), Just(0.5), Just(1.3)]),
        (batch, threads, seed) in settings(),
    ) {
        let kind = match which {
            0 => LayerKind::GlobalAvgPool,
            1 => LayerKind::GlobalMaxPool,
            2 => LayerKind::ChannelShuffle { groups },
            3 => LayerKind::Lrn(Lrn { size, alpha: 0.4, beta, k: 1.5 }),
            _ => {
                let side = |size: usize, border: isize| if size > 4 { border } else { border.max(0) };
                let [top, left, bottom, right] = padding;
                let padding = [side(h, top), side(w, left), side(h, bottom), side(w, right)];
                LayerKind::Pad { padding, value: -1.5 }
            }
        };
        check(&single(&[groups * c, h, w], kind), batch, threads, seed);
    }

    #[test]
    fn batch_norm_and_softmax_agree_on_any_rank(
        shape in shape(),
        axis in any::<prop::sample::Index>(),
        (batch, threads, seed) in settings(),
    ) {
        check(&single(&shape, LayerKind::BatchNorm { epsilon: 1e-5 }), batch, threads, seed);
        let axis = axis.index(shape.len());
        check(&single(&shape, LayerKind::Softmax { axis }), batch, threads, seed);
    }

    #[test]
    fn transposes_agree(
        (shape, perm) in shape().prop_flat_map(|shape| {
            let axes: Vec<usize> = (0..shape.len()).collect();
            (Just(shape), Just(axes).prop_shuffle())
        }),
        (batch, threads, seed) in settings(),
    ) {
        check(&single(&shape, LayerKind::Transpose { perm }), batch, threads, seed);
    }

    #[test]
    fn broadcast_sums_and_products_agree(
        shape in shape(),
        stretched in prop::collection::vec(any::<[bool; 4]>(), 1..4),
        drop in 0..4usize,
        (multiply, stored) in any::<(bool, bool)>(),
        (batch, threads, seed) in settings(),
    ) {
        // Operands are the shape with some axes set to 1; a stored one may also lack leading axes.
        let stretch = |ones: &[bool; 4]| -> Vec<usize> {
            shape.iter().zip(ones).map(|(&n, &one)| if one { 1 } else { n }).collect()
        };
        let kind = |operand| match multiply {
            true => LayerKind::Mul { operand },
            false => LayerKind::Add { operand },
        };
        if stored {
            let operand = stretch(&stretched[0])[drop.min(shape.len())..].to_vec();
            check(&single(&shape, kind(Some(operand))), batch, threads, seed);
            return Ok(());
        }
        // Reductions by max pooling are not general enough: take the stretched inputs from sums with stored
        // operands of the input's own, all-ones shape.
        let start: Vec<usize> = vec![1; shape.len()];
        let mut nodes = Vec::new();
        let mut names = Vec::new();
        for (i, ones) in stretched.iter().chain([&[false; 4]]).enumerate() {
            let operand = Some(stretch(ones));
            nodes.push((format!("x{i}"), LayerKind::Add { operand }, vec![INPUT.to_string()]));
            names.push(format!("x{i}"));
        }
        nodes.push(("all".to_string(), kind(None), names));
        check(&network(&start, nodes), batch, threads, seed);
    }

    #[test]
    fn concats_agree(
        shape in shape(),
        sizes in prop::collection::vec(1..5usize, 1..4),
        axis in any::<prop::sample::Index>(),
        (batch, threads, seed) in settings(),
    ) {
        let axis = axis.index(shape.len());
        let start: Vec<usize> = vec![1; shape.len()];
        let mut nodes = Vec::new();
        for (i, &size) in sizes.iter().enumerate() {
            let mut operand = shape.clone();
            operand[axis] = size;
            let kind = LayerKind::Add { operand: Some(operand) };
            nodes.push((format!("x{i}"), kind, vec![INPUT.to_string()]));
        }
        let names = nodes.iter().map(|(name, ..)| name.clone()).collect();
        nodes.push(("all".to_string(), LayerKind::Concat { axis }, names));
        check(&network(&start, nodes), batch, threads, seed);
    }
}

/// Layers of real networks, large enough to be cut into several tiles, pieces and tasks.
#[test]
fn layers_of_real_size_agree() {
    let axis = |kernel: usize, stride: usize, pad: usize| Axis {
        kernel,
        stride,
        dilation: 1,
        before: pad,
        after: pad,
        input: 0,
    };
    let square = |kernel, stride, pad, out, groups| {
        conv(&axis(kernel, stride, pad), &axis(kernel, stride, pad), out, groups, true)
    };
    let cases = [
        (vec![256, 14, 14], square(3, 1, 1, 16, 1), 1),
        (vec![3, 64, 64], square(7, 2, 3, 32, 1), 2),
        (vec![512, 7, 7], square(1, 1, 0, 40, 1), 1),
        (vec![64, 28, 28], square(1, 2, 0, 32, 1), 1),
        (vec![48, 40, 40], square(3, 2, 1, 48, 48), 1),
        (vec![64, 14, 14], square(3, 1, 1, 64, 32), 1),
        (vec![128, 7, 7], square(7, 1, 0, 20, 1), 2),
        (vec![70_000], LayerKind::Activation(Activation::Relu), 1),
        (vec![6, 60, 60], LayerKind::BatchNorm { epsilon: 1e-3 }, 2),
        (vec![6, 60, 60], LayerKind::Transpose { perm: vec![2, 0, 1] }, 1),
        (vec![6, 60, 60], LayerKind::Mul { operand: Some(vec![6, 1, 1]) }, 2),
        (vec![30, 30, 30], LayerKind::Lrn(Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 2.0 }), 1),
        (vec![3000], LayerKind::Linear(Linear { out_features: 37, bias: true }), 1),
        (vec![3000], LayerKind::Linear(Linear { out_features: 37, bias: true }), 3),
    ];
    for (shape, kind, batch) in cases {
        for threads in [1, 2] {
            check(&single(&shape, kind.clone()), batch, threads, 42);
        }
    }
}
