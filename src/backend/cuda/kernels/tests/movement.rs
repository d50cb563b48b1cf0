//! Kinds that only move numbers: exact, in every precision and layout.

use crate::backend::cuda::tensor::TensorForm;
use crate::network::LayerKind;
use crate::plan::{Layout, Precision};

use super::super::{FormError, Tensor, concat, reorder};
use super::host::{Buffer, can_compile, run};
use super::layer::{check_all, laid_out, read_back};

#[test]
fn tensors_joined_along_any_axis_agree() {
    if !can_compile() {
        return;
    }
    for (axis, inputs) in [
        (0, vec![vec![3, 4, 5], vec![1, 4, 5], vec![8, 4, 5]]),
        (0, vec![vec![16, 4, 4], vec![8, 4, 4]]),
        (1, vec![vec![3, 2, 5], vec![3, 7, 5]]),
        (2, vec![vec![3, 4, 8], vec![3, 4, 16]]),
        (0, vec![vec![24], vec![7], vec![1]]),
        (0, vec![vec![2, 2, 2]]),
    ] {
        check_all(&LayerKind::Concat { axis }, &inputs);
    }
}

#[test]
fn transposed_tensors_agree() {
    if !can_compile() {
        return;
    }
    for (shape, perm) in [
        (vec![4, 6], vec![1, 0]),
        (vec![3, 4, 5], vec![2, 0, 1]),
        (vec![3, 4, 8], vec![1, 0, 2]),
        (vec![2, 3, 4, 5], vec![0, 2, 1, 3]),
        (vec![2, 3, 4, 5, 6], vec![4, 2, 0, 3, 1]),
        (vec![2, 3, 2, 3, 2, 3, 2], vec![6, 4, 2, 0, 5, 3, 1]),
    ] {
        check_all(&LayerKind::Transpose { perm }, &[shape]);
    }
}

#[test]
fn shuffled_channels_agree() {
    if !can_compile() {
        return;
    }
    for (groups, shape) in [(3, [12, 2, 5]), (2, [8, 4, 4]), (4, [4, 3, 3]), (1, [6, 1, 2])] {
        check_all(&LayerKind::ChannelShuffle { groups }, &[shape.to_vec()]);
    }
}

#[test]
fn borders_added_and_cut_off_agree() {
    if !can_compile() {
        return;
    }
    for padding in [[1, 2, 3, 0], [-1, 0, 2, -2], [0, 0, 0, 0], [-2, -1, -1, -2], [4, 4, 4, 4]] {
        // 0.75 is a number of every precision.
        check_all(&LayerKind::Pad { padding, value: 0.75 }, &[vec![5, 6, 7]]);
    }
}

fn reordered(from: &TensorForm, to: &TensorForm, shift: usize) -> (Vec<f32>, Vec<f32>) {
    let values: Vec<f32> = (0..from.elements()).map(|index| (index % 251) as f32 - 125.0).collect();
    let size = from.precision.bytes();
    let mut x = Buffer::holding(&laid_out(from, &values), shift * size);
    let mut y = Buffer::fresh(to.bytes(), shift * size);
    let launches = reorder(Tensor { form: from, at: x.at() }, Tensor { form: to, at: y.at() }).unwrap();
    launches.iter().for_each(|launch| run(launch, from.precision, false));
    assert!(y.intact() && x.intact());
    (read_back(to, y.bytes()), values)
}

#[test]
fn reordered_tensors_hold_the_same_elements() {
    if !can_compile() {
        return;
    }
    for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
        // Small ones go by strides, large ones by squares of 32 x 32, some of them not whole.
        for shape in [[3, 2, 5], [8, 4, 4], [16, 4, 4], [33, 5, 7], [64, 8, 8], [40, 9, 11]] {
            let form = |layout| TensorForm::new(3, &shape, precision, layout);
            let (rows, last) = (form(Layout::Nchw), form(Layout::Nhwc));
            let flat = [shape.iter().product::<usize>()];
            for (from, to) in [
                (&rows, &last),
                (&last, &rows),
                (&last, &last),
                (&rows, &rows),
                (&last.viewed(&flat), &rows.viewed(&flat)),
                (&rows.viewed(&flat), &last.viewed(&flat)),
                (&last.viewed(&[shape[0] * shape[1], shape[2]]), &rows),
            ] {
                for shift in [0, 1] {
                    let (found, expected) = reordered(from, to, shift);
                    assert_eq!(found, expected, "{from:?} to {to:?}, {shift} off its alignment");
                }
            }
        }
    }
}

#[test]
fn long_runs_are_moved_sixteen_bytes_at_a_time() {
    let form = |channels: usize, precision| TensorForm::new(2, &[channels, 4, 4], precision, Layout::Nchw);
    let kernel = |channels: usize, precision, at: u64| {
        let (x, y) = (form(channels, precision), form(2 * channels, precision));
        let inputs = [Tensor { form: &x, at }, Tensor { form: &x, at: 0x2000 }];
        concat(0, &inputs, Tensor { form: &y, at: 0x1000 }).unwrap()[0].kernel
    };
    assert_eq!(kernel(3, Precision::F32, 0x4000), "copy_16");
    assert_eq!(kernel(3, Precision::F16, 0x4000), "copy_16");
    // Off by one element of 4 bytes, and of 2.
    assert_eq!(kernel(3, Precision::F32, 0x4004), "copy_4");
    assert_eq!(kernel(3, Precision::F16, 0x4002), "copy_2");
    assert_eq!(kernel(3, Precision::F16, 0x4008), "copy_8");
}

#[test]
fn a_flattened_channels_last_tensor_must_be_reordered_first() {
    let flat = TensorForm::new(1, &[3, 2, 2], Precision::F32, Layout::Nhwc).viewed(&[12]);
    let y = TensorForm::new(1, &[24], Precision::F32, Layout::Nhwc);
    let x = Tensor { form: &flat, at: 0 };
    let error = concat(0, &[x, x], Tensor { form: &y, at: 0 }).unwrap_err();
    let FormError::Flattened { operation, channels_last, .. } = &error else { panic!("{error}") };
    assert_eq!((*operation, *channels_last), ("concat", [3, 2, 2]));
    assert!(error.to_string().contains("must be reordered first"), "{error}");
}
