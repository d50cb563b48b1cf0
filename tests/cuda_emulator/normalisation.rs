//! cuDNN's pooling, normalisation, softmax and element-wise operations, each by hand.
#![allow(clippy::float_cmp, reason = "these sums and roundings are exact")]

use std::ffi::c_int;

use super::layers::tensor;
use super::raw::{Gpu, call};

const BAD_PARAM: u32 = 2000;
const NOT_SUPPORTED: u32 = 3000;

/// Sets a new descriptor, by the function that makes one.
macro_rules! descriptor {
    ($gpu:expr, $create:ident, $set:ident $(, $argument:expr => $type:ty)*) => {{
        let mut descriptor = 0_usize;
        assert_eq!(call!($gpu, $create, &raw mut descriptor => *mut usize), 0);
        let code = call!($gpu, $set, descriptor => usize $(, $argument => $type)*);
        (descriptor, code)
    }};
}

fn pooling(gpu: &Gpu, mode: u32, window: c_int, padding: c_int, stride: c_int) -> (usize, u32) {
    descriptor!(gpu, cudnnCreatePoolingDescriptor, cudnnSetPooling2dDescriptor, mode => u32, 0 => u32, window => c_int,
        window => c_int, padding => c_int, padding => c_int, stride => c_int, stride => c_int)
}

static ONE: f32 = 1.0;
static ZERO: f32 = 0.0;

#[test]
fn pooling_by_hand() {
    let gpu = Gpu::new();
    let handle = gpu.cudnn(0);
    // 1 -2 / -3 4, windows of 2 with a padding of 1: the four corners see one number each with step 2.
    let (x, y) = (gpu.floats(&[1.0, -2.0, -3.0, 4.0]), gpu.alloc(16));
    let form = tensor(&gpu, 0, 0, [1, 1, 2, 2]);
    let run = |descriptor: usize, output: usize| {
        call!(gpu, cudnnPoolingForward, handle => usize, descriptor => usize, &raw const ONE => *const f32,
            form => usize, x => u64, &raw const ZERO => *const f32, output => usize, y => u64)
    };
    for (mode, expected) in [
        (0, [1.0, -2.0, -3.0, 4.0]),
        (1, [0.25, -0.5, -0.75, 1.0]),
        (2, [1.0, -2.0, -3.0, 4.0]),
        (3, [1.0, -2.0, -3.0, 4.0]),
    ] {
        let (descriptor, set) = pooling(&gpu, mode, 2, 1, 2);
        assert_eq!((set, run(descriptor, form)), (0, 0));
        assert_eq!(gpu.read_floats(y, 4), expected, "mode {mode}");
    }
    let (whole, _) = pooling(&gpu, 0, 2, 0, 1);
    assert_eq!(run(whole, form), BAD_PARAM, "one output is expected");
    assert_eq!(run(whole, tensor(&gpu, 0, 0, [1, 1, 1, 1])), 0);
    assert_eq!(gpu.read_floats(y, 1), [4.0]);
    assert_eq!(pooling(&gpu, 0, 2, 2, 1).1, BAD_PARAM, "a padding as large as the window");
    assert_eq!(pooling(&gpu, 0, 2, 0, 0).1, BAD_PARAM);
}

#[test]
fn batch_normalisation_by_hand() {
    let gpu = Gpu::new();
    let handle = gpu.cudnn(0);
    // Two channels of two pixels, channels last: (1, 10) (3, 30).
    let (x, y) = (gpu.floats(&[1.0, 10.0, 3.0, 30.0]), gpu.alloc(16));
    let form = tensor(&gpu, 1, 0, [1, 2, 1, 2]);
    let mut parameters = 0;
    assert_eq!(call!(gpu, cudnnCreateTensorDescriptor, &raw mut parameters => *mut usize), 0);
    let derived = call!(gpu, cudnnDeriveBNTensorDescriptor, parameters => usize, form => usize, 1 => u32);
    assert_eq!(derived, 0);
    let run = |parameters: usize, epsilon: f64| {
        let [gain, bias, mean, variance] =
            [[2.0, 1.0], [0.5, 0.0], [1.0, 20.0], [3.75, 99.75]].map(|values| gpu.floats(&values));
        call!(gpu, cudnnBatchNormalizationForwardInference, handle => usize, 1 => u32, &raw const ONE => *const f32,
            &raw const ZERO => *const f32, form => usize, x => u64, form => usize, y => u64, parameters => usize,
            gain => u64, bias => u64, mean => u64, variance => u64, epsilon => f64)
    };
    // Deviations are √4 and √100: 2·(1−1)/2 + 0.5, (10−20)/10, 2·(3−1)/2 + 0.5, (30−20)/10.
    assert_eq!(run(parameters, 0.25), 0);
    assert_eq!(gpu.read_floats(y, 4), [0.5, -1.0, 2.5, 1.0]);
    assert_eq!(run(parameters, -1.0), BAD_PARAM);
    assert_eq!(run(form, 0.25), BAD_PARAM, "parameters of another form");
}

#[test]
fn softmax_by_hand() {
    let gpu = Gpu::new();
    let handle = gpu.cudnn(0);
    // e^0 : e^ln 3 = 1 : 3, along channels at each of two places.
    let third = 3.0_f32.ln();
    let (x, y) = (gpu.floats(&[0.0, 100.0, third, 100.0]), gpu.alloc(16));
    let form = tensor(&gpu, 0, 0, [1, 2, 1, 2]);
    let run = |mode: u32| {
        call!(gpu, cudnnSoftmaxForward, handle => usize, 1 => u32, mode => u32, &raw const ONE => *const f32,
            form => usize, x => u64, &raw const ZERO => *const f32, form => usize, y => u64)
    };
    assert_eq!(run(1), 0);
    let found = gpu.read_floats(y, 4);
    for (found, expected) in found.iter().zip([0.25, 0.5, 0.75, 0.5]) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    // Over the whole item the two hundreds share all but some e^-100, which is 3.7e-44.
    assert_eq!(run(0), 0);
    let found = gpu.read_floats(y, 4);
    assert!(found[0] < 1e-43 && found[2] < 1e-43, "{found:?}");
    assert_eq!([found[1], found[3]], [0.5; 2]);
    assert_eq!(run(2), BAD_PARAM);
}

#[test]
fn local_response_normalisation_by_hand() {
    let gpu = Gpu::new();
    let handle = gpu.cudnn(0);
    let (x, y) = (gpu.floats(&[1.0, 2.0, 3.0]), gpu.alloc(12));
    let form = tensor(&gpu, 0, 0, [1, 3, 1, 1]);
    let set = |size: u32, beta: f64| descriptor!(gpu, cudnnCreateLRNDescriptor, cudnnSetLRNDescriptor, size => u32, 2.0 => f64, beta => f64, 1.0 => f64);
    // Two channels: none before, one behind. 1/(1 + 1·(1 + 4)), 2/(1 + 4 + 9), 3/(1 + 9).
    let (descriptor, code) = set(2, 1.0);
    let ran = call!(gpu, cudnnLRNCrossChannelForward, handle => usize, descriptor => usize, 0 => u32,
        &raw const ONE => *const f32, form => usize, x => u64, &raw const ZERO => *const f32, form => usize, y => u64);
    assert_eq!((code, ran), (0, 0));
    assert_eq!(gpu.read_floats(y, 3), [1.0 / 6.0, 2.0 / 14.0, 0.3]);
    assert_eq!([set(17, 1.0).1, set(0, 1.0).1, set(5, 0.001).1], [BAD_PARAM; 3]);
}

#[test]
fn element_wise_operations_by_hand() {
    let gpu = Gpu::new();
    let handle = gpu.cudnn(0);
    let (form, small) = (tensor(&gpu, 0, 0, [1, 2, 1, 2]), tensor(&gpu, 0, 0, [1, 2, 1, 1]));
    let (a, b, c) = (gpu.floats(&[1.0, 2.0, 3.0, 4.0]), gpu.floats(&[10.0, -1.0]), gpu.floats(&[1.0; 4]));
    let two = 2.0_f32;
    for (operation, expected) in
        [(0, [12.0, 14.0, 5.0, 7.0]), (1, [20.0, 40.0, -6.0, -8.0]), (3, [10.0, 10.0, 6.0, 8.0])]
    {
        let (descriptor, code) = descriptor!(gpu, cudnnCreateOpTensorDescriptor, cudnnSetOpTensorDescriptor,
            operation => u32, 0 => u32, 0 => u32);
        let ran = call!(gpu, cudnnOpTensor, handle => usize, descriptor => usize, &raw const two => *const f32,
            form => usize, a => u64, &raw const ONE => *const f32, small => usize, b => u64,
            &raw const ZERO => *const f32, form => usize, c => u64);
        assert_eq!((code, ran), (0, 0));
        assert_eq!(gpu.read_floats(c, 4), expected, "operation {operation}");
    }
    let add = |from: usize, to: usize| {
        call!(gpu, cudnnAddTensor, handle => usize, &raw const two => *const f32, from => usize, b => u64,
            &raw const ONE => *const f32, to => usize, a => u64)
    };
    assert_eq!(add(small, form), 0);
    assert_eq!(gpu.read_floats(a, 4), [21.0, 22.0, 1.0, 2.0]);
    assert_eq!(add(tensor(&gpu, 0, 0, [1, 3, 1, 1]), form), BAD_PARAM);
    for (mode, code) in [(1, 0), (5, NOT_SUPPORTED)] {
        let (descriptor, _) = descriptor!(gpu, cudnnCreateActivationDescriptor, cudnnSetActivationDescriptor,
            mode => u32, 0 => u32, 0.0 => f64);
        let ran = call!(gpu, cudnnActivationForward, handle => usize, descriptor => usize, &raw const ONE => *const f32,
            small => usize, b => u64, &raw const ZERO => *const f32, small => usize, b => u64);
        assert_eq!(ran, code);
    }
    assert_eq!(gpu.read_floats(b, 2), [10.0, 0.0]);
}
