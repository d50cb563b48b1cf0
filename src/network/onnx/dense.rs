//! Fully connected layers and normalisation: Gemm, MatMul, BatchNormalization, LRN, Softmax, Dropout.

use super::constant::{Constant, Data, size};
use super::node::{Node, Outcome, Step, Tensor};
use super::window::{vector, weight_values};
use crate::network::shape::volume;
use crate::network::{LayerKind, Linear, Lrn, Problem, Role, Values, shape_text};

/// alpha * x * B + beta * C with constant B and C; both factors are folded into the stored numbers.
pub(super) fn gemm(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    if node.flag("transA", false)? {
        return Err(node.mixes_items("with transA = 1 swaps axis 0", &input.shape));
    }
    if input.shape.len() != 1 {
        let found = format!("N x {}", shape_text(&input.shape));
        return Err(Problem::mismatch("input of Gemm", "N x features", found));
    }
    let weights = node.required_constant(1)?;
    let weights = if node.flag("transB", false)? { weights.clone() } else { transposed(node, weights)? };
    let alpha = node.float("alpha", 1.0)?;
    let (mut step, out_features) = linear(input, &scaled(&weights, alpha), node.constant(2)?.is_some())?;
    if let Some(bias) = node.constant(2)? {
        step = step.with(Role::Bias, bias_values(bias, out_features, node.float("beta", 1.0)?)?);
    }
    Ok(step.into())
}

pub(super) fn matmul(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    let weights = transposed(node, node.required_constant(1)?)?;
    Ok(linear(input, &weights, false)?.0.into())
}

/// A layer over weights of out x in features, with the number of features that it makes.
fn linear(input: &Tensor, weights: &Constant, bias: bool) -> Result<(Step, usize), Problem> {
    let [out_features, in_features] = *weights.shape else {
        return Err(Problem::mismatch("weights", "two axes", shape_text(&weights.shape)));
    };
    if input.shape.last() != Some(&in_features) {
        let found = format!("N x {}", shape_text(&input.shape));
        return Err(Problem::mismatch("input", format!("{in_features} features, as in the weights"), found));
    }
    let step = Step::new(LayerKind::Linear(Linear { out_features, bias }), &[input]);
    Ok((step.with(Role::Weight, weight_values(weights)?), out_features))
}

fn transposed(node: &Node, weights: &Constant) -> Result<Constant, Problem> {
    if weights.shape.len() != 2 {
        let found = shape_text(&weights.shape);
        return Err(Problem::mismatch(format!("weights of {}", node.op), "two axes", found));
    }
    weights.permuted(&[1, 0])
}

fn scaled(constant: &Constant, factor: f32) -> Constant {
    let data = match &constant.data {
        Data::Floats(floats) if factor.to_bits() != 1f32.to_bits() => {
            Data::Floats(floats.iter().map(|x| x * factor).collect())
        }
        Data::Fill(value) => Data::Fill(value * factor),
        other => other.clone(),
    };
    Constant { shape: constant.shape.clone(), data }
}

/// C of Gemm: one number for each feature, or one for all.
fn bias_values(bias: &Constant, out_features: usize, beta: f32) -> Result<Values, Problem> {
    let bias = scaled(bias, beta);
    let count = volume(&bias.shape)?;
    let one_row = bias.shape.iter().rev().skip(1).all(|&d| d == 1);
    match bias.shape.last() {
        Some(&last) if last == out_features && one_row => bias.values("bias of Gemm"),
        _ if count == 1 => Ok(Values::Fill(bias.as_float("bias of Gemm")?)),
        _ => Err(Problem::mismatch("bias of Gemm", format!("shape {out_features}"), shape_text(&bias.shape))),
    }
}

pub(super) fn batch_norm(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    if node.flag("training_mode", false)? {
        return Err(Problem::invalid(
            "BatchNormalization is in training mode and would mix the items of a batch; export the network in \
             inference mode (model.eval())",
        ));
    }
    let channels = *input
        .shape
        .first()
        .ok_or_else(|| Problem::mismatch("input of BatchNormalization", "a channel axis", "scalar"))?;
    let mut step = Step::new(LayerKind::BatchNorm { epsilon: node.float("epsilon", 1e-5)? }, &[input]);
    let roles =
        [(Role::Scale, "scale"), (Role::Shift, "B"), (Role::Mean, "mean"), (Role::Variance, "variance")];
    for (index, (role, name)) in roles.into_iter().enumerate() {
        let constant = node.required_constant(index + 1)?;
        step = step.with(role, vector(constant, &format!("{name} of BatchNormalization"), channels)?);
    }
    Ok(step.into())
}

pub(super) fn lrn(node: &Node) -> Result<Outcome, Problem> {
    let size_of = node.int("size")?.ok_or_else(|| Problem::mismatch("size of LRN", "a number", "nothing"))?;
    let lrn = Lrn {
        size: size("size of LRN", size_of)?,
        alpha: node.float("alpha", 1e-4)?,
        beta: node.float("beta", 0.75)?,
        k: node.float("bias", 1.0)?,
    };
    Ok(Step::new(LayerKind::Lrn(lrn), &[node.tensor(0)?]).into())
}

/// Softmax. Before operator set 13 all axes from `axis` on are one.
pub(super) fn softmax(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    let axis = node.int("axis")?.unwrap_or(if node.graph.opset < 13 { 1 } else { -1 });
    let axis = node.item_axis(axis, input)?;
    if node.graph.opset >= 13 {
        return Ok(Step::new(LayerKind::Softmax { axis }, &[input]).into());
    }
    let (kept, joined) = input.shape.split_at(axis);
    let mut long = (0..joined.len()).filter(|&i| joined[i] != 1);
    let (first, second) = (long.next(), long.next());
    if second.is_none() {
        let axis = axis + first.unwrap_or(0);
        return Ok(Step::new(LayerKind::Softmax { axis }, &[input]).into());
    }
    let flat: Vec<usize> = kept.iter().copied().chain([volume(joined)?]).collect();
    Ok(Outcome::Layers(vec![
        Step::then(LayerKind::Reshape { shape: flat }).reading(input),
        Step::then(LayerKind::Softmax { axis }),
        Step::then(LayerKind::Reshape { shape: input.shape.clone() }),
    ]))
}

pub(super) fn dropout(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    // An attribute before operator set 12, an input since. The third input says in which mode the exporter
    // ran; here the phase that is profiled decides whether elements are dropped.
    let p = match node.constant(1)? {
        Some(ratio) => ratio.as_float("ratio of Dropout")?,
        None => node.float("ratio", 0.5)?,
    };
    if !(0.0..1.0).contains(&p) {
        return Err(Problem::mismatch("ratio of Dropout", "at least 0 and below 1", p));
    }
    Ok(Step::new(LayerKind::Dropout { p }, &[input]).into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_alpha_of_one_does_not_copy_the_weights() {
        let numbers: Arc<[f32]> = vec![1.0, 2.0].into();
        let constant = Constant::floats(vec![2], Arc::clone(&numbers));
        let Data::Floats(same) = scaled(&constant, 1.0).data else { panic!("floats") };
        assert!(Arc::ptr_eq(&same, &numbers));
        let Data::Floats(twice) = scaled(&constant, 2.0).data else { panic!("floats") };
        assert_eq!(*twice, [2.0, 4.0]);
    }
}
