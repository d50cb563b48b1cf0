//! A layer's stored tensors as its operations read them.

use std::sync::Arc;

use half::{bf16, f16};
use rayon::prelude::*;

use crate::network::{LayerKind, Role};
use crate::plan::{Layout, Precision};

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
    let layer = job.layer;
    let image = |(parameter, values): (&crate::network::Parameter, &Arc<[f32]>)| match (
        &layer.kind,
        parameter.role,
    ) {
        (LayerKind::Conv(_), Role::Weight) if job.layout == Layout::Nhwc => {
            stored(&channels_last_filters(&parameter.shape, values), job.precision)
        }
        (LayerKind::Linear(_), Role::Weight) if permutes_weights(&job.inputs[0]) => {
            stored(&columns_in_order(&job.inputs[0], values), job.precision)
        }
        (_, Role::Weight) => stored(values, job.precision),
        (_, Role::Operand) => {
            stored(&in_order(&operand_form(&parameter.shape, &job.output), values), job.precision)
        }
        (_, Role::Bias) if job.precision.bytes() < 4 => {
            let mut bytes = stored(values, Precision::F32);
            bytes.resize(narrow_bias(values.len()), 0);
            bytes.extend(stored(values, job.precision));
            bytes
        }
        _ => stored(values, Precision::F32),
    };
    layer.parameters.iter().zip(tensors).map(image).collect()
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

/// Numbers in a storage type, each rounded to the nearest, ties to even.
fn stored(values: &[f32], precision: Precision) -> Vec<u8> {
    match precision {
        Precision::F32 | Precision::Tf32 => values.par_iter().flat_map_iter(|v| v.to_ne_bytes()).collect(),
        Precision::F16 => values.par_iter().flat_map_iter(|&v| f16::from_f32(v).to_ne_bytes()).collect(),
        Precision::Bf16 => values.par_iter().flat_map_iter(|&v| bf16::from_f32(v).to_ne_bytes()).collect(),
    }
}

/// K x C x R x S as K x R x S x C.
fn channels_last_filters(shape: &[usize], values: &[f32]) -> Vec<f32> {
    let (channels, plane) = (shape[1], shape[2..].iter().product::<usize>());
    let mut filters = Vec::with_capacity(values.len());
    for filter in values.chunks_exact((channels * plane).max(1)) {
        for tap in 0..plane {
            filters.extend((0..channels).map(|channel| filter[channel * plane + tap]));
        }
    }
    filters
}

/// Each row of a matrix with its columns where `input` has the features that they belong to.
fn columns_in_order(input: &TensorForm, values: &[f32]) -> Vec<f32> {
    values.chunks_exact(input.item().max(1)).flat_map(|row| in_order(input, row)).collect()
}

/// An item's numbers, given row by row, where they lie in memory.
fn in_order(form: &TensorForm, values: &[f32]) -> Vec<f32> {
    let mut placed = vec![0.0; values.len()];
    for (index, &value) in values.iter().enumerate() {
        placed[form.place(index)] = value;
    }
    placed
}
