//! Every kind that computes, in every precision and layout, against the f64 reference.

use crate::network::{Activation, Conv, LayerKind, Linear, Lrn, Pool};
use crate::plan::{Layout, Precision};

use super::host::can_compile;
use super::layer::{Numbers, Setting, check, check_all};

/// Shapes around the widths of packs (4 and 8 numbers), of blocks (256), and of nothing in particular.
fn shapes() -> Vec<Vec<usize>> {
    [&[1, 1, 1][..], &[8, 4, 4], &[7, 3, 5], &[3, 17, 19], &[16, 1, 1], &[257, 1, 3], &[40], &[5, 31]]
        .iter()
        .map(|shape| shape.to_vec())
        .collect()
}

#[test]
fn activations_of_all_nine_kinds_agree() {
    if !can_compile() {
        return;
    }
    for activation in [
        Activation::Relu,
        Activation::Relu6,
        Activation::LeakyRelu { alpha: 0.1 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Silu,
        Activation::HardSwish,
        Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Activation::Clip { min: -0.3, max: 0.4 },
    ] {
        for shape in shapes() {
            check_all(&LayerKind::Activation(activation), &[shape]);
        }
    }
}

#[test]
fn batch_norms_agree() {
    if !can_compile() {
        return;
    }
    for shape in shapes().into_iter().filter(|shape| shape.len() == 3) {
        check_all(&LayerKind::BatchNorm { epsilon: 1e-5 }, &[shape]);
    }
}

#[test]
fn local_response_normalisations_agree() {
    if !can_compile() {
        return;
    }
    for size in [1, 2, 5, 6] {
        let lrn = Lrn { size, alpha: 0.5, beta: 0.75, k: 1.5 };
        for shape in [[1, 3, 2], [4, 3, 5], [9, 1, 7]] {
            check_all(&LayerKind::Lrn(lrn), &[shape.to_vec()]);
        }
    }
}

#[test]
fn softmax_along_any_axis_agrees() {
    if !can_compile() {
        return;
    }
    for shape in [vec![10], vec![1000], vec![3, 257], vec![6, 4, 5], vec![33, 2, 3], vec![2, 40]] {
        for axis in 0..shape.len() {
            check_all(&LayerKind::Softmax { axis }, std::slice::from_ref(&shape));
        }
    }
}

#[test]
fn sums_and_products_of_two_to_nine_tensors_agree() {
    if !can_compile() {
        return;
    }
    for inputs in [2, 3, 4, 5, 9] {
        for shape in [vec![7, 3, 5], vec![8, 4, 4], vec![1003]] {
            check_all(&LayerKind::Add { operand: None }, &vec![shape.clone(); inputs]);
            if inputs <= 4 {
                check_all(&LayerKind::Mul { operand: None }, &vec![shape; inputs]);
            }
        }
    }
}

#[test]
fn stretched_products_and_operands_agree() {
    if !can_compile() {
        return;
    }
    let gate = |a: &[usize], b: &[usize]| [a.to_vec(), b.to_vec()];
    // Squeeze and excitation: a gate per channel; then rows, columns and both sides stretched.
    for inputs in [
        gate(&[6, 5, 7], &[6, 1, 1]),
        gate(&[6, 5, 7], &[1, 5, 7]),
        gate(&[6, 5, 7], &[6, 5, 1]),
        gate(&[6, 1, 1], &[6, 5, 7]),
        gate(&[2, 3, 4, 5, 6], &[2, 1, 4, 1, 6]),
    ] {
        check_all(&LayerKind::Mul { operand: None }, &inputs);
    }
    for operand in [vec![], vec![1], vec![7], vec![5, 7], vec![6, 1, 1], vec![6, 5, 7], vec![1, 5, 1]] {
        let x = [vec![6, 5, 7]];
        check_all(&LayerKind::Add { operand: Some(operand.clone()) }, &x);
        check_all(&LayerKind::Mul { operand: Some(operand) }, &x);
    }
}

#[test]
fn more_axes_than_a_kernel_takes_agree() {
    if !can_compile() {
        return;
    }
    // Every second axis stretched, so that none can be joined.
    let full = vec![2, 3, 2, 3, 2, 3, 2, 3];
    let gate = vec![2, 1, 2, 1, 2, 1, 2, 1];
    check_all(&LayerKind::Mul { operand: Some(gate) }, &[full]);
}

#[test]
fn global_pools_agree() {
    if !can_compile() {
        return;
    }
    for shape in [[5, 1, 1], [1, 4, 4], [3, 7, 7], [20, 23, 29]] {
        check_all(&LayerKind::GlobalAvgPool, &[shape.to_vec()]);
        check_all(&LayerKind::GlobalMaxPool, &[shape.to_vec()]);
    }
}

#[test]
fn fully_connected_layers_agree() {
    if !can_compile() {
        return;
    }
    for (shape, out_features) in [(vec![1], 1), (vec![37], 10), (vec![5, 64], 3), (vec![2, 3, 9], 17)] {
        for bias in [false, true] {
            // The last axis of a channels-last tensor is not its innermost, so the backend reorders such a tensor first.
            for setting in Setting::all().into_iter().filter(|setting| setting.layout == Layout::Nchw) {
                check(
                    &LayerKind::Linear(Linear { out_features, bias }),
                    std::slice::from_ref(&shape),
                    setting,
                    7,
                );
            }
        }
    }
}

/// Geometry along one axis: kernel, stride, dilation, padding before and after, and an input as large as the window
/// needs or a little larger.
struct Axis {
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
    input: usize,
}

fn axis(numbers: &mut Numbers, pool: bool) -> Axis {
    let (kernel, stride, dilation) = (1 + numbers.below(4), 1 + numbers.below(3), 1 + numbers.below(3));
    let reach = (kernel - 1) * dilation;
    // A pool's padding is smaller than its window.
    let limit = if pool { reach } else { 3 };
    let (before, after) = (numbers.below(4).min(limit), numbers.below(4).min(limit));
    let input = (reach + 1).saturating_sub(before + after).max(1) + numbers.below(10);
    Axis { kernel, stride, dilation, before, after, input }
}

/// A setting by number, so that all come round.
fn setting(number: usize) -> Setting {
    let all = Setting::all();
    all[number % all.len()]
}

#[test]
fn convolutions_of_any_geometry_agree() {
    if !can_compile() {
        return;
    }
    let mut numbers = Numbers(11);
    for case in 0..200 {
        let (y, x) = (axis(&mut numbers, false), axis(&mut numbers, false));
        let (groups, inputs, outputs) = (1 + numbers.below(4), 1 + numbers.below(5), 1 + numbers.below(5));
        // Every fourth is depthwise.
        let (groups, inputs) = if case % 4 == 0 { (groups * inputs, 1) } else { (groups, inputs) };
        let conv = Conv {
            out_channels: groups * outputs,
            kernel: [y.kernel, x.kernel],
            stride: [y.stride, x.stride],
            padding: [y.before, x.before, y.after, x.after],
            dilation: [y.dilation, x.dilation],
            groups,
            bias: numbers.below(2) == 1,
        };
        check(&LayerKind::Conv(conv), &[vec![groups * inputs, y.input, x.input]], setting(case), case as u64);
    }
}

#[test]
fn pools_of_any_geometry_agree() {
    if !can_compile() {
        return;
    }
    let mut numbers = Numbers(12);
    for case in 0..200 {
        let (y, x) = (axis(&mut numbers, true), axis(&mut numbers, true));
        let pool = Pool {
            kernel: [y.kernel, x.kernel],
            stride: [y.stride, x.stride],
            padding: [y.before, x.before, y.after, x.after],
            dilation: [y.dilation, x.dilation],
            ceil_mode: numbers.below(2) == 1,
            count_include_pad: numbers.below(2) == 1,
        };
        let shape = vec![1 + numbers.below(5), y.input, x.input];
        check(&LayerKind::MaxPool(pool.clone()), std::slice::from_ref(&shape), setting(case), case as u64);
        check(&LayerKind::AvgPool(pool), &[shape], setting(case), case as u64);
    }
}

#[test]
fn tf32_is_stored_and_computed_as_f32() {
    if !can_compile() {
        return;
    }
    let setting = Setting::new(Precision::Tf32, Layout::Nhwc, 2);
    check(&LayerKind::BatchNorm { epsilon: 1e-3 }, &[vec![5, 4, 3]], setting, 3);
}
