//! NaN, infinity, and rounding: what the kernels store, bit by bit.

use crate::backend::cuda::tensor::TensorForm;
use crate::network::{Activation, Pool};
use crate::plan::{Layout, Precision};

use super::super::{Launch, Tensor, activation, average_pool, bias, global_max_pool, max_pool, pad, softmax};
use super::host::{Buffer, can_compile, run};
use super::number::{decoded, encoded, rounded};

const STORED: [Precision; 3] = [Precision::F32, Precision::F16, Precision::Bf16];

fn bytes(precision: Precision, values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&value| encoded(precision, value)).collect()
}

/// What a kernel makes of numbers; `shape` is that of its output.
fn result(
    precision: Precision,
    values: &[f32],
    shapes: [&[usize]; 2],
    launch: impl Fn(Tensor<'_>, Tensor<'_>) -> Launch,
) -> Vec<f32> {
    let form = |shape: &[usize]| TensorForm::new(1, shape, precision, Layout::Nchw);
    let (from, to) = (form(shapes[0]), form(shapes[1]));
    let (mut x, mut y) = (Buffer::holding(&bytes(precision, values), 0), Buffer::fresh(to.bytes(), 0));
    run(&launch(Tensor { form: &from, at: x.at() }, Tensor { form: &to, at: y.at() }), precision, false);
    assert!(y.intact());
    decoded(precision, y.bytes())
}

fn activated(kind: Activation, precision: Precision, values: &[f32]) -> Vec<f32> {
    let shape = [values.len()];
    result(precision, values, [&shape, &shape], |x, y| activation(&kind, x, y))
}

/// Numbers as their bits, all NaN alike.
fn alike(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
}

#[test]
fn every_16_bit_number_goes_through_a_kernel_unchanged() {
    if !can_compile() {
        return;
    }
    for precision in [Precision::F16, Precision::Bf16] {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_ne_bytes).collect();
        let values = decoded(precision, &all);
        // Slope 1: the same number, widened and narrowed once.
        let found = activated(Activation::LeakyRelu { alpha: 1.0 }, precision, &values);
        assert_eq!(alike(&found), alike(&values), "{precision}");
    }
}

#[test]
fn results_are_rounded_to_nearest_and_ties_to_even() {
    if !can_compile() {
        return;
    }
    for precision in [Precision::F16, Precision::Bf16] {
        // Between every two neighbours: the middle, and a hair to each side of it.
        let neighbours = (0..0x7fff_u16).map(|bits| {
            let value = |bits: u16| decoded(precision, &bits.to_ne_bytes())[0];
            (value(bits), value(bits + 1))
        });
        let mut values: Vec<f32> = neighbours
            .filter(|(low, high)| low.is_finite() && high.is_finite())
            .flat_map(|(low, high)| {
                let middle = low + (high - low) / 2.0;
                [middle.next_down(), middle, middle.next_up(), -middle]
            })
            .collect();
        values.extend([
            65519.996,
            65520.0,
            1e6,
            3.4e38,
            f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            1e-45,
        ]);
        // Minus 0 and a bias: the bias comes out, rounded once.
        let form = TensorForm::new(1, &[values.len()], precision, Layout::Nchw);
        let mut y = Buffer::holding(&bytes(precision, &vec![-0.0; values.len()]), 0);
        let mut biases = Buffer::holding(&bytes(Precision::F32, &values), 0);
        run(&bias(0, biases.at(), Tensor { form: &form, at: y.at() }).unwrap(), precision, false);
        let expected: Vec<f32> = values.iter().map(|&value| rounded(precision, value)).collect();
        assert_eq!(alike(&decoded(precision, y.bytes())), alike(&expected), "{precision}");
    }
}

#[test]
fn nan_comes_out_of_every_activation_as_nan() {
    if !can_compile() {
        return;
    }
    for precision in STORED {
        for kind in [
            Activation::Relu,
            Activation::Relu6,
            Activation::LeakyRelu { alpha: 0.1 },
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::Silu,
            Activation::HardSwish,
            Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Activation::Clip { min: -1.0, max: 1.0 },
        ] {
            // Nine: one pack of either width, and a rest.
            let found = activated(kind, precision, &[f32::NAN; 9]);
            assert!(found.iter().all(|value| value.is_nan()), "{kind:?} {precision}: {found:?}");
        }
    }
}

#[test]
fn infinities_come_out_of_activations_as_limits() {
    if !can_compile() {
        return;
    }
    let both = [f32::NEG_INFINITY, f32::INFINITY];
    for precision in STORED {
        let found = |kind| activated(kind, precision, &both);
        assert_eq!(found(Activation::Relu), [0.0, f32::INFINITY]);
        assert_eq!(found(Activation::Relu6), [0.0, 6.0]);
        assert_eq!(found(Activation::Sigmoid), [0.0, 1.0]);
        assert_eq!(found(Activation::Tanh), [-1.0, 1.0]);
        assert_eq!(found(Activation::Clip { min: f32::NEG_INFINITY, max: 4.0 }), [f32::NEG_INFINITY, 4.0]);
    }
}

#[test]
fn a_pool_gives_nan_where_its_window_has_one_and_minus_infinity_where_it_has_nothing_larger() {
    if !can_compile() {
        return;
    }
    let pool = |kernel: usize| Pool {
        kernel: [1, kernel],
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        ceil_mode: false,
        count_include_pad: false,
    };
    let values = [1.0, f32::NAN, 0.5, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
    for precision in STORED {
        let shapes: [&[usize]; 2] = [&[1, 1, 6], &[1, 1, 5]];
        let found = result(precision, &values, shapes, |x, y| max_pool(&pool(2), x, y).unwrap());
        assert_eq!(alike(&found), alike(&[f32::NAN, f32::NAN, 2.0, 2.0, f32::NEG_INFINITY]), "{precision}");
        let found = result(precision, &values, shapes, |x, y| average_pool(&pool(2), x, y).unwrap());
        let nothing = f32::NEG_INFINITY;
        assert_eq!(alike(&found), alike(&[f32::NAN, f32::NAN, 1.25, nothing, nothing]), "{precision}");
        let shapes: [&[usize]; 2] = [&[2, 1, 3], &[2, 1, 1]];
        let found = result(precision, &values, shapes, |x, y| global_max_pool(x, y).unwrap());
        assert_eq!(alike(&found), alike(&[f32::NAN, 2.0]), "{precision}");
    }
}

#[test]
fn softmax_of_large_numbers_is_finite_and_of_nan_is_nan() {
    if !can_compile() {
        return;
    }
    for precision in STORED {
        for length in [3, 300] {
            let mut values = vec![-30_000.0; length];
            values[1] = 30_000.0;
            let shape = [length];
            let line = |values: &[f32]| {
                result(precision, values, [&shape, &shape], |x, y| softmax(0, x, y).unwrap())
            };
            let mut expected = vec![0.0; length];
            expected[1] = 1.0;
            assert_eq!(line(&values), expected, "{precision}");
            values[length - 1] = f32::NAN;
            assert!(line(&values).iter().all(|value| value.is_nan()), "{precision}");
        }
    }
}

#[test]
fn a_border_of_minus_infinity_is_kept() {
    if !can_compile() {
        return;
    }
    for precision in STORED {
        let found = result(precision, &[1.5, 2.5], [&[1, 1, 2], &[1, 1, 4]], |x, y| {
            pad([0, 1, 0, 1], f32::NEG_INFINITY, x, y).unwrap()
        });
        assert_eq!(found, [f32::NEG_INFINITY, 1.5, 2.5, f32::NEG_INFINITY]);
    }
}

#[test]
fn an_activation_may_write_over_what_it_reads() {
    if !can_compile() {
        return;
    }
    let values: Vec<f32> = (-10..11).map(|value| value as f32).collect();
    let expected: Vec<f32> = values.iter().map(|value| value.max(0.0)).collect();
    for precision in STORED {
        let form = TensorForm::new(1, &[values.len()], precision, Layout::Nchw);
        let mut x = Buffer::holding(&bytes(precision, &values), 0);
        let tensor = Tensor { form: &form, at: x.at() };
        run(&activation(&Activation::Relu, tensor, tensor), precision, false);
        assert_eq!(decoded(precision, x.bytes()), expected, "{precision}");
        assert!(x.intact());
    }
}
