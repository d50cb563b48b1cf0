//! In which order an operation reads its inputs and writes its output.

use crate::network::{Layer, LayerKind};
use crate::plan::Layout;

use crate::backend::cuda::operation::Job;
use crate::backend::cuda::tensor::TensorForm;

/// The form of a layer's output. Kinds that compute each number by itself keep the order of their input, whatever it is.
pub(in crate::backend::cuda) fn output_form(
    layer: &Layer,
    inputs: &[TensorForm],
    layout: Layout,
) -> TensorForm {
    form_of(&layer.kind, inputs, &layer.output, layout)
}

fn form_of(kind: &LayerKind, inputs: &[TensorForm], shape: &[usize], layout: Layout) -> TensorForm {
    let first = &inputs[0];
    let usual = TensorForm::new(first.batch, shape, first.precision, layout);
    match kind {
        LayerKind::Activation(_) => first.clone(),
        LayerKind::BatchNorm { .. } | LayerKind::Softmax { .. } if first.strides().is_some() => first.clone(),
        LayerKind::Add { operand } | LayerKind::Mul { operand }
            if keeps_order(inputs, operand.as_deref()) =>
        {
            first.clone()
        }
        // A matrix product writes one row behind the other.
        LayerKind::Linear(_) => usual.row_major(),
        kind if kind.is_view() => first.viewed(shape),
        _ => usual,
    }
}

/// Whether an element-wise kind may go over its tensors as they lie, without regard to axes: all lie the same way, and
/// a stored operand can be brought into that order, or is one number.
pub(super) fn keeps_order(inputs: &[TensorForm], operand: Option<&[usize]>) -> bool {
    let first = &inputs[0];
    let stretched = |operand: &[usize]| operand != first.shape && operand.iter().product::<usize>() != 1;
    inputs.iter().all(|input| input == first) && !operand.is_some_and(stretched)
}

/// The forms that the operations of a layer read; an input that lies otherwise is reordered first.
pub(super) fn read_forms(job: &Job<'_>) -> Vec<TensorForm> {
    let operand = match job.kind() {
        LayerKind::Add { operand } | LayerKind::Mul { operand } => operand.as_deref(),
        _ => None,
    };
    let read = |input: &TensorForm| {
        let usual = TensorForm::new(input.batch, &input.shape, input.precision, job.layout);
        match job.kind() {
            LayerKind::Activation(_) => input.clone(),
            LayerKind::Add { .. } | LayerKind::Mul { .. } if keeps_order(&job.inputs, operand) => {
                input.clone()
            }
            LayerKind::BatchNorm { .. }
            | LayerKind::Softmax { .. }
            | LayerKind::Add { .. }
            | LayerKind::Mul { .. }
            | LayerKind::Concat { .. }
            | LayerKind::Transpose { .. }
                if input.strides().is_some() =>
            {
                input.clone()
            }
            LayerKind::Linear(_) if permutes_weights(input) => input.clone(),
            LayerKind::Linear(_) => input.row_major(),
            _ => usual,
        }
    };
    job.inputs.iter().map(read).collect()
}

/// Whether a fully connected layer reads this input as it lies, the columns of its weights being put into that order:
/// a flattened tensor that does not lie row by row.
pub(in crate::backend::cuda) fn permutes_weights(input: &TensorForm) -> bool {
    input.shape.len() == 1 && input.channels_last.is_some()
}

#[cfg(test)]
mod tests {
    use crate::network::{Activation, Linear};
    use crate::plan::Precision;

    use super::*;

    fn form(shape: &[usize], layout: Layout) -> TensorForm {
        TensorForm::new(2, shape, Precision::F16, layout)
    }

    #[test]
    fn an_activation_keeps_the_order_of_a_flattened_tensor() {
        let flat = form(&[3, 2, 4], Layout::Nhwc).viewed(&[24]);
        let kind = LayerKind::Activation(Activation::Relu);
        assert_eq!(form_of(&kind, std::slice::from_ref(&flat), &[24], Layout::Nhwc), flat);
    }

    #[test]
    fn a_sum_keeps_an_odd_order_only_where_all_have_it() {
        let flat = form(&[3, 2, 4], Layout::Nhwc).viewed(&[24]);
        let plain = form(&[24], Layout::Nhwc);
        let sum = |inputs: &[TensorForm], operand| {
            form_of(&LayerKind::Add { operand }, inputs, &[24], Layout::Nhwc)
        };
        assert_eq!(sum(&[flat.clone(), flat.clone()], None), flat);
        assert_eq!(sum(&[flat.clone(), plain.clone()], None), plain);
        assert_eq!(sum(std::slice::from_ref(&flat), Some(vec![24])), flat);
        assert_eq!(sum(std::slice::from_ref(&flat), Some(vec![1])), flat);
        // An operand that is stretched along rows of another shape has no place in that order.
        let square = form(&[3, 2, 4], Layout::Nhwc).viewed(&[4, 6]);
        let stretched = LayerKind::Add { operand: Some(vec![6]) };
        assert_eq!(form_of(&stretched, &[square], &[4, 6], Layout::Nhwc), form(&[4, 6], Layout::Nchw));
    }

    #[test]
    fn a_fully_connected_layer_writes_rows_whatever_the_layout() {
        let kind = LayerKind::Linear(Linear { out_features: 5, bias: false });
        let output = form_of(&kind, &[form(&[3, 2, 4], Layout::Nhwc)], &[3, 2, 5], Layout::Nhwc);
        assert_eq!(output, form(&[3, 2, 5], Layout::Nchw));
    }
}
