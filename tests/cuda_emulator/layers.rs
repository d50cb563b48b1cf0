//! cuDNN's older interface.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use super::raw::{Gpu, call};

const BAD_PARAM: u32 = 2000;
const NOT_SUPPORTED: u32 = 3000;

/// A tensor in the order of a format: 0 NCHW, 1 NHWC.
pub(super) fn tensor(gpu: &Gpu, format: u32, data_type: u32, dims: [c_int; 4]) -> usize {
    let mut descriptor = 0;
    assert_eq!(call!(gpu, cudnnCreateTensorDescriptor, &raw mut descriptor => *mut usize), 0);
    let [n, c, h, w] = dims;
    let set = call!(gpu, cudnnSetTensor4dDescriptor, descriptor => usize, format => u32, data_type => u32,
        n => c_int, c => c_int, h => c_int, w => c_int);
    assert_eq!(set, 0);
    descriptor
}

fn filter(gpu: &Gpu, format: u32, data_type: u32, dims: [c_int; 4]) -> usize {
    let mut descriptor = 0;
    assert_eq!(call!(gpu, cudnnCreateFilterDescriptor, &raw mut descriptor => *mut usize), 0);
    let [k, c, h, w] = dims;
    let set = call!(gpu, cudnnSetFilter4dDescriptor, descriptor => usize, data_type => u32, format => u32,
        k => c_int, c => c_int, h => c_int, w => c_int);
    assert_eq!(set, 0);
    descriptor
}

/// A cross-correlation in binary32 arithmetic.
fn convolution(gpu: &Gpu, padding: c_int, stride: c_int, dilation: c_int, groups: c_int, math: u32) -> usize {
    let mut descriptor = 0;
    assert_eq!(call!(gpu, cudnnCreateConvolutionDescriptor, &raw mut descriptor => *mut usize), 0);
    let set = call!(gpu, cudnnSetConvolution2dDescriptor, descriptor => usize, padding => c_int, padding => c_int,
        stride => c_int, stride => c_int, dilation => c_int, dilation => c_int, 1 => u32, 0 => u32);
    assert_eq!(set, 0);
    assert_eq!(call!(gpu, cudnnSetConvolutionGroupCount, descriptor => usize, groups => c_int), 0);
    assert_eq!(call!(gpu, cudnnSetConvolutionMathType, descriptor => usize, math => u32), 0);
    descriptor
}

/// Numbers that are small integers, so that sums are exact however they are added up.
fn integers(count: usize, seed: i64) -> Vec<f32> {
    (0..count as i64).map(|at| ((at * 7 + seed * 3) % 11 - 5) as f32).collect()
}

struct Shape {
    x: [usize; 4],
    w: [usize; 4],
    padding: usize,
    stride: usize,
    dilation: usize,
    groups: usize,
}

impl Shape {
    fn output(&self) -> [usize; 4] {
        let along = |axis: usize| {
            (self.x[axis] + 2 * self.padding - self.dilation * (self.w[axis] - 1) - 1) / self.stride + 1
        };
        [self.x[0], self.w[0], along(2), along(3)]
    }

    /// The definition, element by element, in f64 and NCHW.
    fn expected(&self, x: &[f32], w: &[f32]) -> Vec<f32> {
        let (out, [_, channels, height, width], [filters, per_group, rows, columns]) =
            (self.output(), self.x, self.w);
        let mut y = Vec::new();
        for n in 0..out[0] {
            for k in 0..filters {
                for (oy, ox) in (0..out[2]).flat_map(|oy| (0..out[3]).map(move |ox| (oy, ox))) {
                    let mut sum = 0.0_f64;
                    for (c, r, s) in (0..per_group * rows * columns)
                        .map(|t| (t / rows / columns, t / columns % rows, t % columns))
                    {
                        let channel = k / (filters / self.groups) * per_group + c;
                        let iy = (oy * self.stride + r * self.dilation) as isize - self.padding as isize;
                        let ix = (ox * self.stride + s * self.dilation) as isize - self.padding as isize;
                        if (0..height as isize).contains(&iy) && (0..width as isize).contains(&ix) {
                            let at = ((n * channels + channel) * height + iy as usize) * width + ix as usize;
                            sum += f64::from(x[at])
                                * f64::from(w[((k * per_group + c) * rows + r) * columns + s]);
                        }
                    }
                    y.push(sum as f32);
                }
            }
        }
        y
    }
}

/// N x C x H x W as N x H x W x C.
fn channels_last(values: &[f32], [n, c, h, w]: [usize; 4]) -> Vec<f32> {
    let mut turned = vec![0.0; values.len()];
    for (at, value) in values.iter().enumerate() {
        let (item, channel, place) = (at / (c * h * w), at / (h * w) % c, at % (h * w));
        turned[(item * h * w + place) * c + channel] = *value;
    }
    assert_eq!(turned.len(), n * c * h * w);
    turned
}

fn ints(dims: [usize; 4]) -> [c_int; 4] {
    dims.map(|size| size as c_int)
}

#[test]
fn a_convolution_by_hand() {
    let gpu = Gpu::new();
    let handle = gpu.cudnn(0);
    // One 3x3 filter of ones over a 3x3 image, padded: sums of the neighbourhoods.
    let (x, w, y) =
        (gpu.floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]), gpu.floats(&[1.0; 9]), gpu.alloc(36));
    let (x_form, w_form) = (tensor(&gpu, 0, 0, [1, 1, 3, 3]), filter(&gpu, 0, 0, [1, 1, 3, 3]));
    let shape = convolution(&gpu, 1, 1, 1, 1, 3);
    let (one, zero) = (1.0_f32, 0.0_f32);
    let run = |beta: &f32| {
        call!(gpu, cudnnConvolutionForward, handle => usize, &raw const one => *const f32, x_form => usize, x => u64,
            w_form => usize, w => u64, shape => usize, 0 => u32, null_mut() => *mut c_void, 0 => usize,
            &raw const *beta => *const f32, x_form => usize, y => u64)
    };
    let sums = [12.0, 21.0, 16.0, 27.0, 45.0, 33.0, 24.0, 39.0, 28.0];
    // With beta 0 what was there, NaN, is not read; with 1 it is added.
    assert_eq!(run(&zero), 0);
    assert_eq!(gpu.read_floats(y, 9), sums);
    assert_eq!(run(&one), 0);
    assert_eq!(gpu.read_floats(y, 9), sums.map(|sum| 2.0 * sum));
}

#[test]
fn convolutions_of_all_forms_follow_the_definition() {
    let gpu = Gpu::new();
    let handle = gpu.cudnn(0);
    let shapes = [
        Shape { x: [2, 3, 7, 6], w: [4, 3, 3, 3], padding: 1, stride: 2, dilation: 1, groups: 1 },
        Shape { x: [1, 4, 9, 8], w: [6, 2, 3, 2], padding: 2, stride: 1, dilation: 2, groups: 2 },
        Shape { x: [3, 4, 5, 5], w: [4, 1, 5, 5], padding: 2, stride: 3, dilation: 1, groups: 4 },
        Shape { x: [1, 2, 4, 1], w: [3, 2, 1, 1], padding: 0, stride: 1, dilation: 1, groups: 1 },
    ];
    for (number, shape) in shapes.iter().enumerate() {
        let (xs, ws) = (integers(shape.x.iter().product(), 1), integers(shape.w.iter().product(), 2));
        let expected = shape.expected(&xs, &ws);
        let out = shape.output();
        for format in [0, 1] {
            let order = |values: &[f32], dims| {
                if format == 0 { values.to_vec() } else { channels_last(values, dims) }
            };
            let (x, w) = (gpu.floats(&order(&xs, shape.x)), gpu.floats(&order(&ws, shape.w)));
            let y = gpu.alloc(4 * expected.len());
            let workspace = gpu.alloc(65_536);
            let (x_form, y_form) =
                (tensor(&gpu, format, 0, ints(shape.x)), tensor(&gpu, format, 0, ints(out)));
            let w_form = filter(&gpu, format, 0, ints(shape.w));
            let description = convolution(
                &gpu,
                shape.padding as c_int,
                shape.stride as c_int,
                shape.dilation as c_int,
                shape.groups as c_int,
                0,
            );
            let (one, zero) = (1.0_f32, 0.0_f32);
            for algorithm in [0, 1] {
                let code = call!(gpu, cudnnConvolutionForward, handle => usize, &raw const one => *const f32,
                    x_form => usize, x => u64, w_form => usize, w => u64, description => usize, algorithm => u32,
                    workspace => u64, 65_536 => usize, &raw const zero => *const f32, y_form => usize, y => u64);
                assert_eq!(code, 0);
                assert_eq!(
                    gpu.read_floats(y, expected.len()),
                    order(&expected, out),
                    "shape {number}, format {format}"
                );
            }
        }
    }
}

#[test]
fn convolutions_that_do_not_go_together_are_refused() {
    let gpu = Gpu::new();
    let handle = gpu.cudnn(0);
    let x = tensor(&gpu, 0, 0, [1, 4, 8, 8]);
    let bytes = |w: usize, shape: usize, y: usize, algorithm: u32| {
        let mut bytes = 0;
        call!(gpu, cudnnGetConvolutionForwardWorkspaceSize, handle => usize, x => usize, w => usize, shape => usize,
            y => usize, algorithm => u32, &raw mut bytes => *mut usize)
    };
    let plain = convolution(&gpu, 1, 1, 1, 1, 0);
    let (w, y) = (filter(&gpu, 0, 0, [2, 4, 3, 3]), tensor(&gpu, 0, 0, [1, 2, 8, 8]));
    assert_eq!(bytes(w, plain, y, 1), 0);
    assert_eq!(bytes(w, plain, y, 3), NOT_SUPPORTED, "DIRECT is not implemented");
    assert_eq!(bytes(w, plain, y, 8), BAD_PARAM, "no such algorithm");
    assert_eq!(bytes(w, plain, tensor(&gpu, 0, 0, [1, 2, 7, 8]), 1), BAD_PARAM, "another output");
    assert_eq!(bytes(w, plain, tensor(&gpu, 0, 2, [1, 2, 8, 8]), 1), BAD_PARAM, "another type");
    assert_eq!(bytes(w, convolution(&gpu, 1, 1, 1, 2, 0), y, 1), BAD_PARAM, "channels for one group");
    assert_eq!(
        bytes(filter(&gpu, 1, 0, [2, 4, 3, 3]), plain, y, 1),
        NOT_SUPPORTED,
        "an NHWC filter of NCHW tensors"
    );
    let strided = tensor(&gpu, 0, 0, [1, 2, 4, 4]);
    assert_eq!(
        bytes(w, convolution(&gpu, 1, 2, 1, 1, 0), strided, 6),
        NOT_SUPPORTED,
        "Winograd has no strides"
    );
    let mut unset = 0;
    assert_eq!(call!(gpu, cudnnCreateTensorDescriptor, &raw mut unset => *mut usize), 0);
    assert_eq!(bytes(w, plain, unset, 1), BAD_PARAM, "a descriptor that was not set");
    assert_eq!(call!(gpu, cudnnDestroyTensorDescriptor, y => usize), 0);
    assert_eq!(bytes(w, plain, y, 1), BAD_PARAM, "a destroyed descriptor");
}

#[test]
fn tf32_keeps_ten_bits_unless_fma_is_asked_for() {
    let gpu = Gpu::new();
    let handle = gpu.cudnn(0);
    // 1 + 2^-12 has no place in ten bits.
    let fine = 1.0 + 2.0_f32.powi(-12);
    let (x, w, y) = (gpu.floats(&[fine]), gpu.floats(&[1.0]), gpu.alloc(4));
    let (form, filter) = (tensor(&gpu, 0, 0, [1, 1, 1, 1]), filter(&gpu, 0, 0, [1, 1, 1, 1]));
    let (one, zero) = (1.0_f32, 0.0_f32);
    for (math, expected) in [(0, 1.0), (3, fine)] {
        let shape = convolution(&gpu, 0, 1, 1, 1, math);
        let code = call!(gpu, cudnnConvolutionForward, handle => usize, &raw const one => *const f32, form => usize,
            x => u64, filter => usize, w => u64, shape => usize, 0 => u32, null_mut() => *mut c_void, 0 => usize,
            &raw const zero => *const f32, form => usize, y => u64);
        assert_eq!(code, 0);
        assert_eq!(gpu.read_floats(y, 1), [expected]);
    }
}

#[test]
fn a_fused_bias_is_added_and_what_has_no_factor_is_not_read() {
    let gpu = Gpu::new();
    let handle = gpu.cudnn(0);
    // Twice each pixel, less one.
    let (x, w) = (gpu.floats(&[1.0, 2.0, -3.0, 0.0]), gpu.floats(&[2.0]));
    let (bias, y, room) = (gpu.floats(&[-1.0]), gpu.alloc(16), gpu.alloc(1024));
    let (form, one_form) = (tensor(&gpu, 0, 0, [1, 1, 2, 2]), tensor(&gpu, 0, 0, [1, 1, 1, 1]));
    let (filter, shape) = (filter(&gpu, 0, 0, [1, 1, 1, 1]), convolution(&gpu, 0, 1, 1, 1, 3));
    let (one, zero) = (1.0_f32, 0.0_f32);
    let run = |mode: u32, nan: u32, algorithm: u32, second: &f32| {
        let mut activation = 0;
        assert_eq!(call!(gpu, cudnnCreateActivationDescriptor, &raw mut activation => *mut usize), 0);
        let set = call!(gpu, cudnnSetActivationDescriptor, activation => usize, mode => u32, nan => u32, 0.0 => f64);
        assert_eq!(set, 0);
        call!(gpu, cudnnConvolutionBiasActivationForward, handle => usize, &raw const one => *const f32, form => usize,
            x => u64, filter => usize, w => u64, shape => usize, algorithm => u32, room => u64, 1024 => usize,
            &raw const *second => *const f32, form => usize, y => u64, one_form => usize, bias => u64,
            activation => usize, form => usize, y => u64)
    };
    // IDENTITY 5 over an output that is still NaN; RELU 1 with the output added.
    assert_eq!(run(5, 0, 1, &zero), 0);
    assert_eq!(gpu.read_floats(y, 4), [1.0, 3.0, -7.0, -1.0]);
    assert_eq!(run(1, 0, 0, &one), 0);
    assert_eq!(gpu.read_floats(y, 4), [2.0, 6.0, 0.0, 0.0]);
    assert_eq!(run(5, 0, 0, &zero), NOT_SUPPORTED, "the identity is for IMPLICIT_PRECOMP_GEMM");
    assert_eq!(run(1, 1, 1, &zero), NOT_SUPPORTED, "NaN cannot be propagated");
    assert_eq!(run(2, 0, 1, &zero), NOT_SUPPORTED, "another activation");
}
