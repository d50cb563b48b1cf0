//! The forms in which a recorded test becomes a network of this crate: one input whose first axis is the batch,
//! everything else stored.

use rten_onnx::onnx::{AttributeProto, DataType, Dimension, GraphProto, ModelProto, NodeProto, TensorProto};

use super::case::{Case, Numbers};
use crate::onnx::builder::{floats, ints, ints_attr};

/// How a test is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The model as it stands: the first axis of its first input is the batch, other inputs are initializers.
    AsIs,
    /// The whole first input is one item of a batch of one: every axis moves up by one.
    Item,
    /// As [`Form::Item`], but the other inputs are computed by layers instead of stored.
    Computed,
}

/// A model that the reader takes, with the numbers of its input.
pub(super) struct Put {
    pub(super) bytes: Vec<u8>,
    pub(super) input: Numbers,
}

/// Operators that do the same to every element, wherever it stands.
const ELEMENTWISE: [&str; 16] = [
    "Add",
    "Clip",
    "Constant",
    "Div",
    "Dropout",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Mul",
    "Relu",
    "Sigmoid",
    "Sub",
    "Sum",
    "Swish",
    "Tanh",
];

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::AsIs, Self::Item, Self::Computed];

    /// The test in this form, or why it has none.
    pub(super) fn put(self, case: &Case) -> Result<Put, String> {
        let mut input = Numbers::of(case.inputs.first().ok_or("the model has no input")?)?;
        let mut model = ModelProto::parse_buf(&case.model).map_err(|error| error.to_string())?;
        let graph = model.graph.as_mut().ok_or("the model has no graph")?;
        // Masks of Dropout and indices of MaxPool: no CNN at inference reads them.
        graph.output.truncate(1);
        let mut stored = case.inputs[1..].to_vec();
        if self != Self::AsIs {
            add_axis(graph, &input.shape, &mut stored)?;
            input.shape.insert(0, 1);
        }
        if self == Self::Computed {
            compute(graph, &input, &mut stored)?;
        }
        graph.initializer.extend(stored);
        let bytes = model.write_buf().map_err(|error| error.to_string())?;
        Ok(Put { bytes, input })
    }
}

/// Puts an axis of one before all others of the graph's first input, and moves what counts axes.
fn add_axis(graph: &mut GraphProto, shape: &[usize], stored: &mut [TensorProto]) -> Result<(), String> {
    let name = graph.input[0].name.clone();
    let tensor = graph.input[0].r#type.as_mut().and_then(|t| t.tensor_type.as_mut());
    let dims = tensor.and_then(|t| t.shape.as_mut()).ok_or("the input has no shape")?;
    dims.dim.insert(0, Dimension { dim_value: Some(1), dim_param: None });
    let single = graph.node.len() == 1 && graph.node[0].input.first() == name.as_ref();
    for node in &mut graph.node {
        let op = node.op_type.clone().unwrap_or_default();
        match op.as_str() {
            op if ELEMENTWISE.contains(&op) => {}
            // The axes are those of the input, so nothing may have changed them before.
            _ if !single => return Err(format!("{op} is not the graph's only node")),
            "Softmax" | "Concat" => node.attribute.iter_mut().for_each(move_axis),
            "Transpose" => {
                let reversed = (0..shape.len() as i64).rev().collect();
                let perm = node.attribute.pop().map_or(reversed, |perm| perm.ints);
                let moved: Vec<i64> = [0].into_iter().chain(perm.iter().map(|axis| axis + 1)).collect();
                node.attribute = vec![ints_attr("perm", &moved)];
            }
            "Squeeze" | "Unsqueeze" => change(stored, |axes| {
                axes.iter().map(|&axis| if axis < 0 { axis } else { axis + 1 }).collect()
            })?,
            "Reshape" => change(stored, |target| [1].into_iter().chain(target.iter().copied()).collect())?,
            other => return Err(format!("{other} has a batch axis of its own")),
        }
    }
    Ok(())
}

/// Axes that count from the end stay.
fn move_axis(attribute: &mut AttributeProto) {
    if attribute.name.as_deref() == Some("axis") {
        attribute.i = attribute.i.map(|axis| if axis < 0 { axis } else { axis + 1 });
    }
}

/// Changes the integers of the only stored tensor.
fn change(stored: &mut [TensorProto], f: impl Fn(&[i64]) -> Vec<i64>) -> Result<(), String> {
    let [tensor] = stored else { return Err("not one stored tensor".to_string()) };
    if tensor.data_type != Some(DataType::INT64) {
        return Err("a stored tensor is not of type INT64".to_string());
    }
    let old: Vec<i64> = match &tensor.raw_data {
        Some(raw) => raw.borrow().as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect(),
        None => tensor.int64_data.clone(),
    };
    let new = f(&old);
    *tensor = ints(tensor.name.as_deref().unwrap_or_default(), &[new.len() as i64], &new);
    Ok(())
}

/// Lets layers compute what would be stored: x * 1 + 0 for the input and x * 0 + c for every other tensor of
/// its shape. Both are exact.
fn compute(graph: &mut GraphProto, input: &Numbers, stored: &mut Vec<TensorProto>) -> Result<(), String> {
    let x = graph.input[0].name.clone().unwrap_or_default();
    let like_input = |tensor: &TensorProto| {
        tensor.data_type == Some(DataType::FLOAT)
            && tensor.dims.iter().map(|&d| d as usize).eq(input.shape[1..].iter().copied())
    };
    let (computed, kept): (Vec<_>, Vec<_>) = stored.drain(..).partition(like_input);
    *stored = kept;
    stored.extend([floats("test.one", &[], &[1.0]), floats("test.zero", &[], &[0.0])]);
    for node in &mut graph.node {
        for name in node
            .input
            .iter_mut()
            .filter(|name| **name == x || computed.iter().any(|t| t.name.as_ref() == Some(name)))
        {
            *name = format!("test.{name}");
        }
    }
    let mut first = vec![node("Mul", &[&x, "test.one"], &format!("test.{x}"))];
    if !computed.is_empty() {
        first.push(node("Mul", &[&x, "test.zero"], "test.zeros"));
    }
    for tensor in computed {
        let name = tensor.name.clone().unwrap_or_default();
        first.push(node("Add", &["test.zeros", &name], &format!("test.{name}")));
        stored.push(tensor);
    }
    graph.node.splice(0..0, first);
    Ok(())
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op.to_string()),
        input: inputs.iter().map(|name| name.to_string()).collect(),
        output: vec![output.to_string()],
        ..Default::default()
    }
}
