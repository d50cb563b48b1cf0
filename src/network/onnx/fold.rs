//! Constant folding: nodes that compute the same at every run, mostly the shapes of PyTorch's `view`.

use super::constant::{Constant, Data, Integer, broadcast_shape, size, zip};
use super::node::{Node, Value, within};
use super::reshape;
use super::tensor::decode;
use crate::network::shape::volume;
use crate::network::{LayerKind, Problem, output_shape, shape_text};

use rten_onnx::onnx::DataType;

/// The error of constants that outgrow their file.
pub(super) fn unfolds() -> Problem {
    Problem::invalid("the constants that the graph computes are far larger than the file")
}

/// The result of a node whose inputs are all constants.
pub(super) fn fold(node: &Node) -> Result<Constant, Problem> {
    let first = || node.required_constant(0);
    match node.op {
        "Constant" => literal(node),
        "ConstantOfShape" => constant_of_shape(node),
        "Identity" => first().cloned(),
        "Shape" => shape(node, first()?.shape.iter().map(|&d| Integer::Known(d as i64)).collect()),
        "Gather" => gather(node),
        "Slice" => slice(node),
        "Concat" => concat(node),
        "Squeeze" | "Unsqueeze" => {
            let constant = first()?;
            Ok(constant.with_shape(reshape::resized(node, &constant.shape)?))
        }
        "Reshape" => {
            let constant = first()?;
            let target = node.required_constant(1)?.as_known("target of Reshape")?;
            let shape = reshape::target_shape(&target, &constant.shape, node.flag("allowzero", false)?)?;
            // Checks the count of elements.
            output_shape(&LayerKind::Reshape { shape: shape.clone() }, &[&constant.shape])?;
            Ok(constant.with_shape(shape))
        }
        "Transpose" => {
            let constant = first()?;
            constant.permuted(&reshape::permutation(node, constant.shape.len())?)
        }
        "Cast" => cast(node),
        "Floor" => {
            let constant = first()?;
            let floored: Vec<f32> = constant.as_floats("input of Floor")?.iter().map(|x| x.floor()).collect();
            Ok(Constant::floats(constant.shape.clone(), floored))
        }
        "Add" | "Sub" | "Mul" | "Div" => arithmetic(node),
        _ => Err(Problem::invalid(format!(
            "{} reads only constants; export the network with constant folding",
            node.op
        ))),
    }
}

fn literal(node: &Node) -> Result<Constant, Problem> {
    if let Some(tensor) = node.tensor_attribute("value")? {
        return decode(tensor);
    }
    if let Some(value) = node.int("value_int")? {
        return Ok(Constant::known(vec![], [value]));
    }
    if let Some(values) = node.ints("value_ints")? {
        return Ok(Constant::known(vec![values.len()], values.iter().copied()));
    }
    if node.has("value_float") {
        return Ok(Constant::floats(vec![], vec![node.float("value_float", 0.0)?]));
    }
    if let Some(values) = node.floats("value_floats")? {
        return Ok(Constant::floats(vec![values.len()], values));
    }
    Err(Problem::mismatch("value of Constant", "a tensor or numbers", "nothing"))
}

fn constant_of_shape(node: &Node) -> Result<Constant, Problem> {
    let dims = node.required_constant(0)?.as_known("shape of ConstantOfShape")?;
    let shape: Vec<usize> =
        dims.iter().map(|&d| size("a size of ConstantOfShape", d)).collect::<Result<_, _>>()?;
    volume(&shape)?;
    let Some(value) = node.tensor_attribute("value")? else { return Ok(Constant::fill(shape, 0.0)) };
    let value = decode(value)?;
    match &value.data {
        Data::Integers(_) => match value.as_known("value of ConstantOfShape")?.as_slice() {
            [value] => Constant::fill_integer(shape, *value),
            other => Err(Problem::mismatch("value of ConstantOfShape", "one number", other.len())),
        },
        _ => Ok(Constant::fill(shape, value.as_float("value of ConstantOfShape")?)),
    }
}

/// The result of Shape over a tensor of these sizes.
pub(super) fn shape(node: &Node, dims: Vec<Integer>) -> Result<Constant, Problem> {
    let rank = dims.len() as i64;
    // Both ends count from the end when negative and are clamped (operator Shape, version 15).
    let end_of =
        |value: i64| (if value < 0 { value.saturating_add(rank) } else { value }).clamp(0, rank) as usize;
    let (start, end) = (end_of(node.int("start")?.unwrap_or(0)), end_of(node.int("end")?.unwrap_or(rank)));
    let part = dims.get(start..end).unwrap_or_default().to_vec();
    Ok(Constant::integers(vec![part.len()], part))
}

/// One-dimensional constants only, as shapes are.
fn line<'a>(node: &Node<'a>) -> Result<&'a Constant, Problem> {
    let constant = node.required_constant(0)?;
    if constant.shape.len() != 1 {
        return Err(Problem::mismatch(node.slot(0), "one axis", shape_text(&constant.shape)));
    }
    Ok(constant)
}

/// The elements of a one-dimensional constant at these places.
fn pick(constant: &Constant, shape: Vec<usize>, places: &[usize]) -> Constant {
    let data = match &constant.data {
        Data::Floats(floats) => Data::Floats(places.iter().map(|&at| floats[at]).collect()),
        Data::Integers(integers) => Data::Integers(places.iter().map(|&at| integers[at]).collect()),
        Data::Fill(value) => Data::Fill(*value),
    };
    Constant { shape, data }
}

fn gather(node: &Node) -> Result<Constant, Problem> {
    let constant = line(node)?;
    node.axis(node.int("axis")?.unwrap_or(0), 1)?;
    let indices = node.required_constant(1)?;
    let length = constant.shape[0];
    let places: Vec<usize> = indices
        .as_known("indices of Gather")?
        .into_iter()
        .map(|index| within("index of Gather", index, length))
        .collect::<Result<_, _>>()?;
    Ok(pick(constant, indices.shape.clone(), &places))
}

fn slice(node: &Node) -> Result<Constant, Problem> {
    let constant = line(node)?;
    let length = constant.shape[0] as i64;
    let one = |name: &str, index: usize| -> Result<Option<i64>, Problem> {
        let Some(list) = node.ints_or_input(name, index)? else { return Ok(None) };
        match list.as_slice() {
            [value] => Ok(Some(*value)),
            other => Err(Problem::mismatch(format!("{name} of Slice"), "one number", other.len())),
        }
    };
    let missing = |name: &str| Problem::mismatch(format!("{name} of Slice"), "one number", "nothing");
    let start = one("starts", 1)?.ok_or_else(|| missing("starts"))?;
    let end = one("ends", 2)?.ok_or_else(|| missing("ends"))?;
    node.axis(one("axes", 3)?.unwrap_or(0), 1)?;
    let step = one("steps", 4)?.unwrap_or(1);
    if step < 1 {
        return Err(Problem::mismatch("steps of Slice over a constant", "at least 1", step));
    }
    let end_of = |value: i64| (if value < 0 { value.saturating_add(length) } else { value }).clamp(0, length);
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let places: Vec<usize> = (end_of(start) as usize..end_of(end) as usize).step_by(step).collect();
    Ok(pick(constant, vec![places.len()], &places))
}

fn concat(node: &Node) -> Result<Constant, Problem> {
    let parts: Vec<&Constant> = node
        .inputs()
        .filter_map(|value| match value {
            Value::Constant(constant) => Some(constant),
            Value::Tensor(_) => None,
        })
        .collect();
    let shapes: Vec<&[usize]> = parts.iter().map(|part| part.shape.as_slice()).collect();
    let axis = node.int("axis")?.ok_or_else(|| Problem::mismatch("axis of Concat", "a number", "nothing"))?;
    if node.axis(axis, shapes.first().map_or(0, |shape| shape.len()))? != 0 {
        return Err(Problem::mismatch("axis of Concat over constants", 0, axis));
    }
    let shape = output_shape(&LayerKind::Concat { axis: 0 }, &shapes)?;
    let count = volume(&shape)?;
    if count > node.graph.fold_budget {
        return Err(unfolds());
    }
    if parts.iter().all(|part| matches!(part.data, Data::Integers(_))) {
        let lists = parts.iter().map(|part| part.as_integers("input of Concat"));
        return Ok(Constant::integers(shape, lists.collect::<Result<Vec<_>, _>>()?.concat()));
    }
    let mut floats = Vec::with_capacity(count);
    for part in parts {
        floats.extend_from_slice(&part.as_floats("input of Concat")?);
    }
    Ok(Constant::floats(shape, floats))
}

fn cast(node: &Node) -> Result<Constant, Problem> {
    let constant = node.required_constant(0)?;
    let to = node.int("to")?.unwrap_or(0);
    let to = DataType(i32::try_from(to).unwrap_or(0));
    let floating = [DataType::FLOAT, DataType::DOUBLE, DataType::FLOAT16, DataType::BFLOAT16].contains(&to);
    let integral = [DataType::INT64, DataType::INT32].contains(&to);
    match &constant.data {
        Data::Integers(_) if floating => {
            let numbers = constant.as_known("input of Cast to a floating-point type")?;
            let floats: Vec<f32> = numbers.into_iter().map(|x| x as f32).collect();
            Ok(Constant::floats(constant.shape.clone(), floats))
        }
        Data::Floats(_) | Data::Fill(_) if integral => {
            let floats = constant.as_floats("input of Cast")?;
            // Truncates towards zero (operator Cast).
            Ok(Constant::known(constant.shape.clone(), floats.iter().map(|&x| x as i64)))
        }
        // Numbers are kept as f32 or 64-bit integers, whichever width the file names.
        _ if floating || integral => Ok(constant.clone()),
        _ => {
            let expected = "FLOAT, DOUBLE, FLOAT16, BFLOAT16, INT64 or INT32";
            Err(Problem::mismatch("target of Cast over a constant", expected, to))
        }
    }
}

fn arithmetic(node: &Node) -> Result<Constant, Problem> {
    let (a, b) = (node.required_constant(0)?, node.required_constant(1)?);
    let float = |x: f32, y: f32| match node.op {
        "Add" => x + y,
        "Sub" => x - y,
        "Mul" => x * y,
        _ => x / y,
    };
    if let (Data::Fill(x), Data::Fill(y)) = (&a.data, &b.data) {
        let shape = broadcast_shape(&a.shape, &b.shape)?;
        volume(&shape)?;
        return Ok(Constant::fill(shape, float(*x, *y)));
    }
    if let (Data::Integers(x), Data::Integers(y)) = (&a.data, &b.data) {
        let (shape, out) = zip((x, &a.shape), (y, &b.shape), |x, y| integer(node.op, x, y))?;
        return Ok(Constant::integers(shape, out));
    }
    let (x, y) = (a.as_floats(&node.slot(0))?, b.as_floats(&node.slot(1))?);
    let (shape, out) = zip((&x, &a.shape), (&y, &b.shape), |x, y| Ok(float(x, y)))?;
    Ok(Constant::floats(shape, out))
}

fn integer(op: &str, x: Integer, y: Integer) -> Result<Integer, Problem> {
    use Integer::{Batch, Known};
    let result = match (op, x, y) {
        ("Add", Known(x), Known(y)) => x.checked_add(y),
        ("Sub", Known(x), Known(y)) => x.checked_sub(y),
        ("Mul", Known(x), Known(y)) => x.checked_mul(y),
        // Truncates towards zero, as in C (operator Div).
        (_, Known(x), Known(y)) => x.checked_div(y),
        ("Mul" | "Div", Batch, Known(1)) | ("Mul", Known(1), Batch) => return Ok(Batch),
        ("Add" | "Sub", Batch, Known(0)) | ("Add", Known(0), Batch) => return Ok(Batch),
        _ => {
            return Err(Problem::invalid(format!(
                "{op} computes with the batch size, which the file does not decide; export the network with \
                 the batch as first axis that nothing computes with"
            )));
        }
    };
    result
        .map(Known)
        .ok_or_else(|| Problem::mismatch(format!("{op} of constants"), "a number of 64 bits", "an overflow"))
}
