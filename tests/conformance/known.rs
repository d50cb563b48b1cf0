//! Numbers worked out by hand, for the reference and the engine alike.

use std::sync::Arc;

use layerjoule::backend::{Backend, BackendError, Tensors, cpu::CpuBackend, reference};
use layerjoule::network::{Activation, Conv, INPUT, LayerKind, Linear, Lrn, Network, Pool};
use layerjoule::plan::{Plan, PlanOptions};

use super::{network, single, to_f64};

/// A few roundings of f32; the values are near 1.
const CLOSE: f64 = 1e-6;

fn assert_known(network: &Network, input: &[f32], parameters: &[&[f32]], expected: &[f64]) {
    let batch = input.len() / network.input.iter().product::<usize>();
    let parameters: Vec<Vec<Arc<[f32]>>> = vec![parameters.iter().map(|&p| p.into()).collect()];
    let tensors = Tensors { parameters, input: input.to_vec(), distribution: String::new() };
    let by_reference = reference::run(network, &tensors, batch).pop().unwrap();
    let plan = Plan::new(network, &PlanOptions { batch, ..PlanOptions::default() }).unwrap();
    for threads in [1, 2] {
        let mut executor = super::pass(network, &plan, &tensors, super::Engine::with(threads));
        let by_engine = to_f64(&executor.output(plan.steps.len() - 1).unwrap());
        for (who, found) in [("reference", &by_reference), ("engine", &by_engine)] {
            assert_eq!(found.len(), expected.len(), "{who}: {found:?}");
            for (f, e) in found.iter().zip(expected) {
                let same = f.is_nan() && e.is_nan() || (f - e).abs() <= CLOSE * e.abs().max(1.0);
                assert!(same, "{who}: {found:?}, expected {expected:?}");
            }
        }
    }
}

fn one_to(n: usize) -> Vec<f32> {
    (1..=n).map(|v| v as f32).collect()
}

fn conv() -> Conv {
    Conv {
        out_channels: 1,
        kernel: [2, 2],
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
        bias: false,
    }
}

fn pool(kernel: usize, stride: usize) -> Pool {
    Pool {
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [0; 4],
        dilation: [1, 1],
        ceil_mode: false,
        count_include_pad: false,
    }
}

#[test]
fn a_convolution_sums_weighted_windows_and_adds_its_bias() {
    let net = single(&[1, 3, 3], LayerKind::Conv(Conv { bias: true, ..conv() }));
    // 1*1 + 2*2 + 4*3 + 5*4 + 10 = 47, and so on.
    assert_known(&net, &one_to(9), &[&one_to(4), &[10.0]], &[47.0, 57.0, 77.0, 87.0]);
}

#[test]
fn padding_is_top_left_bottom_right_and_strides_start_in_it() {
    let kind = LayerKind::Conv(Conv { padding: [1, 0, 0, 1], stride: [2, 2], ..conv() });
    // Rows 0 0 0 0, 1 2 3 0, 4 5 6 0, 7 8 9 0.
    assert_known(&single(&[1, 3, 3], kind), &one_to(9), &[&one_to(4)], &[11.0, 9.0, 67.0, 33.0]);
}

#[test]
fn dilated_taps_are_apart() {
    let kind = LayerKind::Conv(Conv { dilation: [2, 2], ..conv() });
    // Corners of 3x3: 1 + 2*3 + 3*7 + 4*9. The window covers the input, but is not a dense one.
    assert_known(&single(&[1, 3, 3], kind), &one_to(9), &[&one_to(4)], &[64.0]);
}

#[test]
fn groups_and_depthwise_channels_read_only_their_own() {
    let one = Conv { kernel: [1, 1], ..conv() };
    let grouped = LayerKind::Conv(Conv { out_channels: 2, groups: 2, ..one.clone() });
    // Channels 1 2 | 3 4 with weights 1 10 | 100 1000.
    assert_known(&single(&[4, 1, 1], grouped), &one_to(4), &[&[1.0, 10.0, 100.0, 1000.0]], &[21.0, 4300.0]);
    let depthwise = LayerKind::Conv(Conv { out_channels: 4, groups: 2, ..one });
    let net = single(&[2, 1, 1], depthwise);
    assert_known(&net, &[1.0, 2.0], &[&[1.0, 10.0, 100.0, 1000.0]], &[1.0, 10.0, 200.0, 2000.0]);
}

#[test]
fn a_linear_layer_works_on_the_last_axis() {
    let kind = LayerKind::Linear(Linear { out_features: 2, bias: true });
    let weights: &[f32] = &[1.0, 2.0, 3.0, 0.0, 1.0, 0.0];
    let parameters = [weights, &[0.5, -0.5]];
    assert_known(&single(&[3], kind.clone()), &one_to(3), &parameters, &[14.5, 1.5]);
    assert_known(&single(&[2, 3], kind), &one_to(6), &parameters, &[14.5, 1.5, 32.5, 4.5]);
}

#[test]
fn ceil_mode_adds_a_window_that_reaches_past_the_input() {
    let ceil = Pool { ceil_mode: true, ..pool(2, 2) };
    let max = LayerKind::MaxPool(ceil.clone());
    let expected = [7.0, 9.0, 10.0, 17.0, 19.0, 20.0, 22.0, 24.0, 25.0];
    assert_known(&single(&[1, 5, 5], max), &one_to(25), &[], &expected);
    // What lies past the input never counts, not even with count_include_pad.
    let expected = [4.0, 6.0, 7.5, 14.0, 16.0, 17.5, 21.5, 23.5, 25.0];
    for count_include_pad in [false, true] {
        let kind = LayerKind::AvgPool(Pool { count_include_pad, ..ceil.clone() });
        assert_known(&single(&[1, 5, 5], kind), &one_to(25), &[], &expected);
    }
}

#[test]
fn stated_padding_counts_in_the_divisor_only_when_asked() {
    let padded = Pool { padding: [1; 4], ceil_mode: true, ..pool(3, 2) };
    // Windows of 1..16 in 4x4 start at -1, 1 and 3; sums 14, 30, 12 / 57, 99, 36 / 27, 45, 16.
    let sums = [14.0, 30.0, 12.0, 57.0, 99.0, 36.0, 27.0, 45.0, 16.0];
    let counts = |per_axis: [f64; 3]| -> Vec<f64> {
        (0..9).map(|i| sums[i] / (per_axis[i / 3] * per_axis[i % 3])).collect()
    };
    let net = |count_include_pad| {
        single(&[1, 4, 4], LayerKind::AvgPool(Pool { count_include_pad, ..padded.clone() }))
    };
    assert_known(&net(false), &one_to(16), &[], &counts([2.0, 3.0, 1.0]));
    // The last window covers row 3 and one padded row; the third row is ceil_mode's.
    assert_known(&net(true), &one_to(16), &[], &counts([3.0, 3.0, 2.0]));
}

#[test]
fn nan_passes_through_maximum_and_relu() {
    let nan = f32::NAN;
    let input = [nan, 1.0, 2.0, 3.0, 1.0, nan, 5.0, 4.0];
    let max = |kind| single(&[2, 2, 2], kind);
    assert_known(&max(LayerKind::MaxPool(pool(2, 2))), &input, &[], &[f64::NAN, f64::NAN]);
    assert_known(&max(LayerKind::GlobalMaxPool), &input, &[], &[f64::NAN, f64::NAN]);
    for activation in [Activation::Relu, Activation::Relu6, Activation::LeakyRelu { alpha: 0.1 }] {
        assert_known(&single(&[1], LayerKind::Activation(activation)), &[nan], &[], &[f64::NAN]);
    }
}

#[test]
fn global_pools_take_mean_and_maximum_of_each_channel() {
    assert_known(&single(&[2, 2, 2], LayerKind::GlobalAvgPool), &one_to(8), &[], &[2.5, 6.5]);
    assert_known(&single(&[2, 2, 2], LayerKind::GlobalMaxPool), &one_to(8), &[], &[4.0, 8.0]);
}

#[test]
fn batch_norm_normalises_scales_and_shifts() {
    let net = single(&[2, 1, 2], LayerKind::BatchNorm { epsilon: 1.0 });
    // Channel 0: 2 * (x - 1) / sqrt(3 + 1) + 5; channel 1: 1 * (x - 0) / sqrt(0 + 1) - 1.
    let parameters: [&[f32]; 4] = [&[2.0, 1.0], &[5.0, -1.0], &[1.0, 0.0], &[3.0, 0.0]];
    assert_known(&net, &one_to(4), &parameters, &[5.0, 6.0, 2.0, 3.0]);
}

#[test]
fn lrn_sums_floor_half_before_and_ceil_half_after() {
    let lrn = |size, alpha, beta, k| single(&[3, 1, 1], LayerKind::Lrn(Lrn { size, alpha, beta, k }));
    let x = one_to(3);
    assert_known(&lrn(3, 3.0, 1.0, 1.0), &x, &[], &[1.0 / 6.0, 2.0 / 15.0, 3.0 / 14.0]);
    // An even size takes the channel after it: 1 + 4, 4 + 9, 9.
    assert_known(&lrn(2, 2.0, 1.0, 1.0), &x, &[], &[1.0 / 6.0, 2.0 / 14.0, 3.0 / 10.0]);
    // 16^0.75 = 8, and (15 + 1^2)^0.75 = 8.
    assert_known(&lrn(1, 0.0, 0.75, 16.0), &x, &[], &[0.125, 0.25, 0.375]);
    assert_known(&lrn(1, 1.0, 0.75, 15.0), &[1.0, -1.0, 1.0], &[], &[0.125, -0.125, 0.125]);
}

#[test]
fn softmax_shares_out_one_along_its_axis() {
    let (two, three) = (2.0f32.ln(), 3.0f32.ln());
    let input = [0.0, two, three, 500.0, 500.0 + two, 500.0 + three];
    let sixths = [1.0, 2.0, 3.0].map(|v| v / 6.0);
    let whole = single(&[3], LayerKind::Softmax { axis: 0 });
    assert_known(&whole, &input[..3], &[], &sixths);
    let columns = single(&[2, 2], LayerKind::Softmax { axis: 0 });
    assert_known(&columns, &[0.0, two, two, two], &[], &[1.0 / 3.0, 0.5, 2.0 / 3.0, 0.5]);
    // Large inputs must not overflow; 500 + ln 2 is rounded by up to 2^-16.
    let large = single(&[2], LayerKind::Softmax { axis: 0 });
    assert_known(&large, &[500.0, 500.0], &[], &[0.5, 0.5]);
}

#[test]
fn activations_take_their_known_values() {
    let check = |activation, x: &[f32], y: &[f64]| {
        assert_known(&single(&[x.len()], LayerKind::Activation(activation)), x, &[], y);
    };
    let third = 3.0f32.ln();
    check(Activation::Relu, &[-1.0, 0.0, 2.0], &[0.0, 0.0, 2.0]);
    check(Activation::Relu6, &[-1.0, 5.0, 7.0], &[0.0, 5.0, 6.0]);
    check(Activation::LeakyRelu { alpha: 0.25 }, &[-2.0, 3.0], &[-0.5, 3.0]);
    check(Activation::Sigmoid, &[0.0, third, -100.0], &[0.5, 0.75, 0.0]);
    check(Activation::Tanh, &[0.0, third], &[0.0, 0.8]);
    check(Activation::Silu, &[0.0, third], &[0.0, 0.75 * f64::from(third)]);
    check(Activation::HardSwish, &[-3.0, 1.0, 3.0, 9.0], &[0.0, 2.0 / 3.0, 3.0, 9.0]);
    check(Activation::HardSigmoid { alpha: 0.25, beta: 0.5 }, &[-9.0, 1.0, 9.0], &[0.0, 0.75, 1.0]);
    check(Activation::Clip { min: -0.5, max: 0.5 }, &[-9.0, 0.25, 9.0], &[-0.5, 0.25, 0.5]);
}

#[test]
fn operands_stretch_as_in_numpy() {
    let mul = single(&[2, 1, 2], LayerKind::Mul { operand: Some(vec![2, 1, 1]) });
    assert_known(&mul, &one_to(4), &[&[10.0, 100.0]], &[10.0, 20.0, 300.0, 400.0]);
    let add = single(&[2, 1, 2], LayerKind::Add { operand: Some(vec![2]) });
    assert_known(&add, &one_to(4), &[&[10.0, 100.0]], &[11.0, 102.0, 13.0, 104.0]);
    // The operand may be the larger side: an outer sum.
    let outer = single(&[1, 2], LayerKind::Add { operand: Some(vec![3, 1]) });
    assert_known(&outer, &[1.0, 2.0], &[&[0.0, 10.0, 20.0]], &[1.0, 2.0, 11.0, 12.0, 21.0, 22.0]);
    let scalar = single(&[3], LayerKind::Mul { operand: Some(vec![]) });
    assert_known(&scalar, &one_to(3), &[&[2.0]], &[2.0, 4.0, 6.0]);
}

#[test]
fn data_is_moved_to_its_place() {
    let shuffle = single(&[6, 1, 1], LayerKind::ChannelShuffle { groups: 2 });
    assert_known(&shuffle, &one_to(6), &[], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let transpose = single(&[2, 3], LayerKind::Transpose { perm: vec![1, 0] });
    assert_known(&transpose, &one_to(6), &[], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let pad = single(&[1, 1, 2], LayerKind::Pad { padding: [1, 0, 0, 1], value: 9.0 });
    assert_known(&pad, &[1.0, 2.0], &[], &[9.0, 9.0, 9.0, 1.0, 2.0, 9.0]);
    // A row and a column later, as NASNet's factorised reduction reads its input.
    let shift = single(&[1, 2, 2], LayerKind::Pad { padding: [-1, -1, 1, 1], value: 0.0 });
    assert_known(&shift, &one_to(4), &[], &[4.0, 0.0, 0.0, 0.0]);
    let crop = single(&[1, 2, 3], LayerKind::Pad { padding: [0, -1, -1, -1], value: 9.0 });
    assert_known(&crop, &one_to(6), &[], &[2.0]);
    let twice = vec![INPUT.to_string(), INPUT.to_string()];
    let concat = network(&[2, 2], vec![("c".to_string(), LayerKind::Concat { axis: 1 }, twice)]);
    assert_known(&concat, &one_to(4), &[], &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
}

#[test]
fn a_plan_larger_than_memory_is_an_error_that_says_so() {
    let net = single(&[1 << 20], LayerKind::Activation(Activation::Relu));
    let plan = Plan::new(&net, &PlanOptions { batch: 1 << 20, ..PlanOptions::default() }).unwrap();
    let tensors = Tensors { parameters: vec![vec![]], input: vec![], distribution: String::new() };
    let error = CpuBackend::new(1).unwrap().prepare(&net, &plan, &tensors).err();
    assert!(
        matches!(&error, Some(BackendError::OutOfMemory { needed_mib, .. }) if *needed_mib == 8 << 20),
        "{error:?}"
    );
}

#[test]
fn tensors_of_another_network_are_an_error() {
    let net = single(&[4], LayerKind::Linear(Linear { out_features: 2, bias: true }));
    let plan = Plan::new(&net, &PlanOptions::default()).unwrap();
    let prepare = |parameters, input| {
        let tensors = Tensors { parameters, input, distribution: String::new() };
        CpuBackend::new(1).unwrap().prepare(&net, &plan, &tensors).err().unwrap().to_string()
    };
    let error = prepare(vec![], vec![0.0; 4]);
    assert!(
        error.starts_with("layer \"layer\": stored tensors: expected [8, 2] elements, found []"),
        "{error}"
    );
    let error = prepare(vec![vec![vec![0.0; 8].into(), vec![0.0; 2].into()]], vec![0.0; 3]);
    assert!(error.ends_with("input: expected 4 elements for the batch, found 3"), "{error}");
}

#[test]
fn a_step_that_does_not_exist_is_an_error() {
    let net = single(&[4], LayerKind::Activation(Activation::Relu));
    let plan = Plan::new(&net, &PlanOptions::default()).unwrap();
    let tensors = Tensors { parameters: vec![vec![]], input: vec![0.0; 4], distribution: String::new() };
    let mut executor = CpuBackend::new(1).unwrap().prepare(&net, &plan, &tensors).unwrap();
    assert!(executor.launch(1).is_err() && executor.output(1).is_err());
}

#[test]
fn a_window_too_large_to_index_is_an_error() {
    let padding = [1 << 25, 0, 0, 0];
    let kind = LayerKind::Conv(Conv { padding, kernel: [1, 1], stride: [1 << 26, 1], ..conv() });
    let net = single(&[1, 2, 2], kind);
    let plan = Plan::new(&net, &PlanOptions::default()).unwrap();
    let tensors = Tensors {
        parameters: vec![vec![vec![1.0].into()]],
        input: vec![0.0; 4],
        distribution: String::new(),
    };
    let error = CpuBackend::new(1).unwrap().prepare(&net, &plan, &tensors).err().unwrap().to_string();
    assert_eq!(
        error,
        "layer \"layer\": a padded size of 33554434 x 2 is too large; at most 16777216 is supported"
    );
}
