//! Operators that work on each element: activations, and sums and products of tensors and constants.

use super::constant::{Constant, Data};
use super::node::{Node, Outcome, Step, Tensor, Value};
use crate::network::{Activation, LayerKind, Problem, Role, shape_text};

pub(super) fn activation(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    let activation = match node.op {
        "Relu" => Activation::Relu,
        "LeakyRelu" => Activation::LeakyRelu { alpha: node.float("alpha", 0.01)? },
        "Sigmoid" => Activation::Sigmoid,
        "Tanh" => Activation::Tanh,
        "HardSwish" => Activation::HardSwish,
        "HardSigmoid" => {
            Activation::HardSigmoid { alpha: node.float("alpha", 0.2)?, beta: node.float("beta", 0.5)? }
        }
        "Swish" => {
            let alpha = node.float("alpha", 1.0)?;
            if alpha.to_bits() != 1f32.to_bits() {
                return Err(Problem::mismatch("alpha of Swish", 1, alpha));
            }
            Activation::Silu
        }
        _ => clip(node)?,
    };
    Ok(Step::new(LayerKind::Activation(activation), &[input]).into())
}

/// Clip: bounds are attributes before operator set 11, inputs since.
fn clip(node: &Node) -> Result<Activation, Problem> {
    let bound = |index: usize, name: &str, default: f32| match node.constant(index)? {
        Some(bound) => bound.as_float(&format!("{name} of Clip")),
        None => node.float(name, default),
    };
    let (min, max) = (bound(1, "min", f32::MIN)?, bound(2, "max", f32::MAX)?);
    let relu6 = min.to_bits() == 0f32.to_bits() && max.to_bits() == 6f32.to_bits();
    Ok(if relu6 { Activation::Relu6 } else { Activation::Clip { min, max } })
}

pub(super) fn add(node: &Node) -> Result<Outcome, Problem> {
    combine(node, |operand| LayerKind::Add { operand })
}

pub(super) fn mul(node: &Node) -> Result<Outcome, Problem> {
    combine(node, |operand| LayerKind::Mul { operand })
}

/// The tensors in one layer, then one layer for each constant.
fn combine(node: &Node, kind: impl Fn(Option<Vec<usize>>) -> LayerKind) -> Result<Outcome, Problem> {
    let (mut tensors, mut constants): (Vec<&Tensor>, Vec<&Constant>) = (Vec::new(), Vec::new());
    for value in node.inputs() {
        match value {
            Value::Tensor(tensor) => tensors.push(tensor),
            Value::Constant(constant) => constants.push(constant),
        }
    }
    let Some(&first) = tensors.first() else { return Err(Problem::invalid("no input is a tensor")) };
    if let Some(other) = tensors.iter().find(|tensor| tensor.shape.len() != first.shape.len()) {
        // Axes are aligned from the right: the batch of one would meet another axis of the other.
        return Err(Problem::mismatch(
            format!("inputs of {}", node.op),
            format!("as many axes as N x {}", shape_text(&first.shape)),
            format!("N x {}", shape_text(&other.shape)),
        ));
    }
    let mut steps = Vec::new();
    if tensors.len() > 1 {
        steps.push(Step::new(kind(None), &tensors));
    }
    for constant in constants {
        let shape = operand_shape(node, first, constant)?;
        let step = Step::then(kind(Some(shape))).with(Role::Operand, constant.values("operand")?);
        steps.push(if steps.is_empty() { step.reading(first) } else { step });
    }
    if steps.is_empty() {
        return Ok(Outcome::Value(Value::Tensor(first.clone())));
    }
    Ok(Outcome::Layers(steps))
}

/// The shape of a constant against one item: NumPy aligns axes from the right, so only a constant of as many
/// axes as the whole batch has one for the batch, and that must be 1.
fn operand_shape(node: &Node, tensor: &Tensor, constant: &Constant) -> Result<Vec<usize>, Problem> {
    let rank = tensor.shape.len();
    match constant.shape.split_first() {
        Some((1, item)) if item.len() == rank => Ok(item.to_vec()),
        _ if constant.shape.len() <= rank => Ok(constant.shape.clone()),
        _ => Err(Problem::mismatch(
            format!("constant of {}", node.op),
            format!("a shape that fits each item of N x {}", shape_text(&tensor.shape)),
            shape_text(&constant.shape),
        )),
    }
}

/// x - c is x + (-c).
pub(super) fn sub(node: &Node) -> Result<Outcome, Problem> {
    let operand = right_side(node)?;
    let negative = map(operand, |x| -x)?;
    with_operand(node, &negative, |operand| LayerKind::Add { operand })
}

/// x / c is x * (1 / c).
pub(super) fn div(node: &Node) -> Result<Outcome, Problem> {
    let operand = right_side(node)?;
    let inverse = map(operand, |x| 1.0 / x)?;
    with_operand(node, &inverse, |operand| LayerKind::Mul { operand })
}

fn right_side<'a>(node: &Node<'a>) -> Result<&'a Constant, Problem> {
    match (node.input(0), node.input(1)) {
        (Some(Value::Tensor(_)), Some(Value::Constant(constant))) => Ok(constant),
        _ => Err(Problem::mismatch(
            format!("inputs of {}", node.op),
            "a tensor and then a constant",
            "something else",
        )),
    }
}

fn map(constant: &Constant, f: impl Fn(f32) -> f32) -> Result<Constant, Problem> {
    let data = match &constant.data {
        Data::Floats(floats) => Data::Floats(floats.iter().map(|&x| f(x)).collect()),
        Data::Fill(value) => Data::Fill(f(*value)),
        Data::Integers(_) => {
            return Err(Problem::mismatch("operand", "floating-point numbers", "integers"));
        }
    };
    Ok(Constant { shape: constant.shape.clone(), data })
}

fn with_operand(
    node: &Node,
    constant: &Constant,
    kind: impl Fn(Option<Vec<usize>>) -> LayerKind,
) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    let shape = operand_shape(node, input, constant)?;
    Ok(Step::new(kind(Some(shape)), &[input]).with(Role::Operand, constant.values("operand")?).into())
}

/// Identity, and Cast between floating-point types: layers compute in the precision of the run.
pub(super) fn cast(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    // FLOAT, FLOAT16, DOUBLE and BFLOAT16 of TensorProto.DataType.
    match node.int("to")?.unwrap_or(0) {
        1 | 10 | 11 | 16 => Ok(Outcome::Value(Value::Tensor(input.clone()))),
        other => Err(Problem::mismatch("target of Cast", "a floating-point type", format!("type {other}"))),
    }
}
