//! A layer's stored tensors as its operations read them.

use std::sync::Arc;

use crate::network::{LayerKind, Parameter, Role};
use crate::plan::Precision;

use super::numbers::{encode, to_device};
use super::operation::Job;
use super::operations::permutes_weights;
use super::tensor::TensorForm;

/// Where parts of a parameter begin: what `cuMemAlloc` aligns to.
const ALIGNMENT: usize = 256;

/// The bytes of each parameter of a layer, `tensors` being their numbers row by row:
///
/// - weights of a convolution in the precision's storage type, KCRS for NCHW and KRSC for NHWC;
/// - weights of a fully connected layer likewise, one row an output; the columns in the order of the input where that
///   is a flattened channels-last tensor;
/// - the bias of both as f32 and, [`narrow_bias`] bytes behind its beginning, in the storage type where that is another,
///   since libraries want either;
/// - vectors of a batch normalisation as f32;
/// - a stored operand in the storage type and the order of [`operand_form`].
pub(super) fn images(job: &Job<'_>, tensors: &[Arc<[f32]>]) -> Vec<Vec<u8>> {
    job.layer
        .parameters
        .iter()
        .zip(tensors)
        .map(|(parameter, values)| image(job, parameter, values))
        .collect()
}

fn image(job: &Job<'_>, parameter: &Parameter, values: &[f32]) -> Vec<u8> {
    let precision = job.precision;
    match (job.kind(), parameter.role) {
        (LayerKind::Conv(_), Role::Weight) => to_device(values, &filter_form(&parameter.shape, job)),
        (LayerKind::Linear(_), Role::Weight) => {
            // The rows of the weights lie as the items of the input.
            let rows = parameter.shape[0];
            let order = job.inputs[0].channels_last.filter(|_| permutes_weights(&job.inputs[0]));
            to_device(
                values,
                &TensorForm { batch: rows, shape: vec![parameter.shape[1]], precision, channels_last: order },
            )
        }
        (_, Role::Operand) => to_device(values, &operand_form(&parameter.shape, &job.output)),
        (_, Role::Bias) if precision.bytes() < Precision::F32.bytes() => {
            let mut bytes = encode(values, Precision::F32);
            bytes.resize(narrow_bias(values.len()), 0);
            bytes.extend(encode(values, precision));
            bytes
        }
        _ => encode(values, Precision::F32),
    }
}

/// How the filters of a convolution lie: a batch of small images.
fn filter_form(shape: &[usize], job: &Job<'_>) -> TensorForm {
    TensorForm::new(shape[0], &shape[1..], job.precision, job.layout)
}

/// Distance in bytes from a bias of `len` f32 numbers to the same in a 16-bit type.
pub(super) fn narrow_bias(len: usize) -> usize {
    (len * 4).next_multiple_of(ALIGNMENT)
}

/// How the stored operand of a sum or product lies: as the output where it has the output's shape, otherwise row by row.
pub(super) fn operand_form(shape: &[usize], output: &TensorForm) -> TensorForm {
    let channels_last = if shape == output.shape { output.channels_last } else { None };
    TensorForm { batch: 1, shape: shape.to_vec(), precision: output.precision, channels_last }
}

#[cfg(test)]
mod tests {
    use crate::network::{Conv, Cost, Layer, Linear, TensorRef, Values};
    use crate::plan::Layout;

    use super::*;

    fn layer(kind: LayerKind, output: &[usize], parameters: &[(Role, &[usize])]) -> Layer {
        let parameter = |(role, shape): &(Role, &[usize])| Parameter {
            role: *role,
            shape: shape.to_vec(),
            values: Values::Random,
        };
        Layer {
            name: "l".to_string(),
            kind,
            inputs: vec![TensorRef::Input],
            output: output.to_vec(),
            parameters: parameters.iter().map(parameter).collect(),
            cost: Cost::default(),
        }
    }

    fn job(layer: &Layer, input: TensorForm, output: TensorForm, layout: Layout) -> Job<'_> {
        let precision = input.precision;
        Job { layer, inputs: vec![input], output, precision, layout }
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(4).map(|four| f32::from_ne_bytes(four.try_into().unwrap())).collect()
    }

    fn counted(count: u16) -> Arc<[f32]> {
        (0..count).map(f32::from).collect()
    }

    #[test]
    fn filters_lie_channels_last_where_activations_do() {
        let conv = Conv {
            out_channels: 2,
            kernel: [1, 3],
            stride: [1; 2],
            padding: [0; 4],
            dilation: [1; 2],
            groups: 1,
            bias: false,
        };
        let layer = layer(LayerKind::Conv(conv), &[2, 4, 4], &[(Role::Weight, &[2, 2, 1, 3])]);
        let image = |layout| {
            let form = |shape: &[usize]| TensorForm::new(1, shape, Precision::F32, layout);
            floats(&images(&job(&layer, form(&[2, 4, 6]), form(&[2, 4, 4]), layout), &[counted(12)])[0])
        };
        assert_eq!(image(Layout::Nchw), *counted(12));
        // Filter 0 has channel 0 as 0 1 2 and channel 1 as 3 4 5.
        assert_eq!(image(Layout::Nhwc), [0., 3., 1., 4., 2., 5., 6., 9., 7., 10., 8., 11.]);
    }

    #[test]
    fn weights_of_a_fully_connected_layer_follow_a_flattened_input() {
        let kind = LayerKind::Linear(Linear { out_features: 1, bias: false });
        let layer = layer(kind, &[1], &[(Role::Weight, &[1, 6])]);
        let image = |layout| {
            let input = TensorForm::new(1, &[2, 1, 3], Precision::F32, layout).viewed(&[6]);
            let output = TensorForm::new(1, &[1], Precision::F32, layout);
            floats(&images(&job(&layer, input, output, layout), &[counted(6)])[0])
        };
        assert_eq!(image(Layout::Nchw), *counted(6));
        // In memory the input is channel 0 and 1 of the first column, then of the second and third.
        assert_eq!(image(Layout::Nhwc), [0., 3., 1., 4., 2., 5.]);
    }

    #[test]
    fn a_bias_is_there_in_f32_and_in_the_storage_type() {
        let kind = LayerKind::Linear(Linear { out_features: 3, bias: true });
        let layer = layer(kind, &[3], &[(Role::Weight, &[3, 1]), (Role::Bias, &[3])]);
        let bias = |precision| {
            let form = |len| TensorForm::new(1, &[len], precision, Layout::Nchw);
            let job = job(&layer, form(1), form(3), Layout::Nchw);
            images(&job, &[counted(3), [1.0, -2.5, 1.0 / 3.0].into()])[1].clone()
        };
        assert_eq!(floats(&bias(Precision::Tf32)), [1.0, -2.5, 1.0 / 3.0]);
        let narrow = bias(Precision::Bf16);
        assert_eq!(floats(&narrow[..12]), [1.0, -2.5, 1.0 / 3.0]);
        // As bf16: the upper halves of 3F800000, C0200000 and 3EAAAAAB, the last rounded up.
        let halves: Vec<u16> =
            narrow[256..].chunks_exact(2).map(|two| u16::from_ne_bytes(two.try_into().unwrap())).collect();
        assert_eq!(halves, [0x3F80, 0xC020, 0x3EAB]);
    }

    #[test]
    fn a_whole_operand_lies_as_the_output_and_a_stretched_one_row_by_row() {
        let image = |shape: &[usize]| {
            let kind = LayerKind::Add { operand: Some(shape.to_vec()) };
            let layer = layer(kind, &[2, 1, 2], &[(Role::Operand, shape)]);
            let form = TensorForm::new(3, &[2, 1, 2], Precision::F32, Layout::Nhwc);
            let values = counted(u16::try_from(shape.iter().product::<usize>()).unwrap());
            floats(&images(&job(&layer, form.clone(), form, Layout::Nhwc), &[values])[0])
        };
        assert_eq!(image(&[2, 1, 2]), [0., 2., 1., 3.]);
        assert_eq!(image(&[2, 1, 1]), [0., 1.]);
    }

    #[test]
    fn vectors_of_a_normalisation_stay_f32() {
        let parameters: &[(Role, &[usize])] =
            &[(Role::Scale, &[1]), (Role::Shift, &[1]), (Role::Mean, &[1]), (Role::Variance, &[1])];
        let layer = layer(LayerKind::BatchNorm { epsilon: 1e-5 }, &[1, 2, 2], parameters);
        let form = TensorForm::new(1, &[1, 2, 2], Precision::F16, Layout::Nchw);
        let values: Vec<Arc<[f32]>> = [0.1, 0.2, 0.3, 0.4].map(|value| [value].into()).to_vec();
        let found = images(&job(&layer, form.clone(), form, Layout::Nchw), &values);
        assert_eq!(found.iter().flat_map(|bytes| floats(bytes)).collect::<Vec<_>>(), [0.1, 0.2, 0.3, 0.4]);
    }
}
