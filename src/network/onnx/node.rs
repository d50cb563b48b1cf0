//! One node as its converter sees it: inputs already resolved, attributes checked for name and type.

use std::collections::{BTreeMap, HashMap};

use rten_onnx::onnx::{AttributeProto, AttributeType, NodeProto, TensorProto};

use super::constant::{Constant, size};
use crate::network::{LayerKind, Problem, Role, Size2, Values, shape_text};

/// A tensor computed when the network runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    /// The layer that computes it, or [`crate::network::INPUT`].
    pub(super) layer: String,
    /// Its shape, the batch left out.
    pub(super) shape: Vec<usize>,
}

/// What a name of the graph stands for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Tensor(Tensor),
    Constant(Constant),
}

/// What a node becomes.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A constant, or another name for an input.
    Value(Value),
    /// Layers; the first reads its inputs, each further one the layer before it.
    Layers(Vec<Step>),
}

/// One layer of a node.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) kind: LayerKind,
    /// Names of the layers it reads; empty for the layer before it.
    pub(super) inputs: Vec<Tensor>,
    pub(super) values: BTreeMap<Role, Values>,
}

impl Step {
    pub(super) fn new(kind: LayerKind, inputs: &[&Tensor]) -> Self {
        Self { kind, inputs: inputs.iter().copied().cloned().collect(), values: BTreeMap::new() }
    }

    /// A layer that reads the layer before it.
    pub(super) fn then(kind: LayerKind) -> Self {
        Self::new(kind, &[])
    }

    pub(super) fn reading(mut self, input: &Tensor) -> Self {
        self.inputs = vec![input.clone()];
        self
    }

    pub(super) fn with(mut self, role: Role, values: Values) -> Self {
        self.values.insert(role, values);
        self
    }
}

impl From<Step> for Outcome {
    fn from(step: Step) -> Self {
        Self::Layers(vec![step])
    }
}

/// What a node must know of its graph.
#[derive(Debug, Clone, Copy)]
pub(super) struct GraphFacts {
    /// Version of the operator set.
    pub(super) opset: i64,
    /// The batch size that the file was exported for, where it fixes one.
    pub(super) batch: Option<usize>,
    /// Elements that constant folding may still make.
    pub(super) fold_budget: usize,
}

/// A node with what it reads.
pub(super) struct Node<'a> {
    pub(super) op: &'a str,
    pub(super) graph: GraphFacts,
    inputs: Vec<Option<&'a Value>>,
    attributes: HashMap<&'a str, &'a AttributeProto>,
}

impl<'a> Node<'a> {
    /// # Errors
    ///
    /// An attribute that the operator is not known to have, or that is given twice: it might change what
    /// the node computes.
    pub(super) fn new(
        node: &'a NodeProto,
        inputs: Vec<Option<&'a Value>>,
        known: &[&str],
        graph: GraphFacts,
    ) -> Result<Self, Problem> {
        let mut attributes = HashMap::new();
        for attribute in &node.attribute {
            let name = attribute.name.as_deref().unwrap_or_default();
            if !known.contains(&name) {
                let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
                return Err(Problem::mismatch("attribute", known, format!("\"{name}\"")));
            }
            if attributes.insert(name, attribute).is_some() {
                return Err(Problem::invalid(format!("attribute \"{name}\" is given twice")));
            }
        }
        let op = node.op_type.as_deref().unwrap_or_default();
        Ok(Self { op, graph, inputs, attributes })
    }

    /// All inputs that are given.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &'a Value> {
        self.inputs.iter().copied().flatten()
    }

    pub(super) fn input(&self, index: usize) -> Option<&'a Value> {
        self.inputs.get(index).copied().flatten()
    }

    /// An input that must be computed when the network runs.
    pub(super) fn tensor(&self, index: usize) -> Result<&'a Tensor, Problem> {
        let expected = "a tensor that depends on the network's input";
        match self.input(index) {
            Some(Value::Tensor(tensor)) => Ok(tensor),
            Some(Value::Constant(_)) => Err(Problem::mismatch(self.slot(index), expected, "a constant")),
            None => Err(Problem::mismatch(self.slot(index), expected, "nothing")),
        }
    }

    /// An input that must be a constant where it is given.
    pub(super) fn constant(&self, index: usize) -> Result<Option<&'a Constant>, Problem> {
        match self.input(index) {
            Some(Value::Constant(constant)) => Ok(Some(constant)),
            Some(Value::Tensor(tensor)) => Err(Problem::mismatch(
                self.slot(index),
                "a constant",
                format!("\"{}\", which depends on the network's input", tensor.layer),
            )),
            None => Ok(None),
        }
    }

    /// An input that must be given and be a constant.
    pub(super) fn required_constant(&self, index: usize) -> Result<&'a Constant, Problem> {
        self.constant(index)?.ok_or_else(|| Problem::mismatch(self.slot(index), "a constant", "nothing"))
    }

    /// How messages call an input.
    pub(super) fn slot(&self, index: usize) -> String {
        format!("input {index} of {}", self.op)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    /// An attribute's field, or the field's default where a writer of proto3 left out a zero.
    fn field<T>(
        &self,
        name: &str,
        (kind, expected): (AttributeType, &str),
        get: impl Fn(&'a AttributeProto) -> Option<T>,
        default: Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(attribute) = self.attributes.get(name) else { return Ok(None) };
        let declared = attribute.r#type.filter(|&declared| declared != AttributeType::UNDEFINED);
        let value = get(attribute).or_else(|| default.filter(|_| declared == Some(kind)));
        if declared.is_none_or(|declared| declared == kind)
            && let Some(value) = value
        {
            return Ok(Some(value));
        }
        let found = declared.map_or("nothing".to_string(), |declared| format!("type {}", declared.0));
        Err(Problem::mismatch(format!("attribute \"{name}\""), expected, found))
    }

    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, Problem> {
        self.field(name, (AttributeType::INT, "an integer"), |a| a.i, Some(0))
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32, Problem> {
        let value = self.field(name, (AttributeType::FLOAT, "a number"), |a| a.f, Some(0.0))?;
        Ok(value.unwrap_or(default))
    }

    pub(super) fn text(&self, name: &str, default: &'a str) -> Result<&'a str, Problem> {
        let value = self.field(name, (AttributeType::STRING, "a text"), |a| a.s.as_deref(), Some(""))?;
        Ok(value.unwrap_or(default))
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, Problem> {
        let list = |a: &'a AttributeProto| Some(a.ints.as_slice()).filter(|ints| !ints.is_empty());
        self.field(name, (AttributeType::INTS, "integers"), list, Some(&[]))
    }

    pub(super) fn floats(&self, name: &str) -> Result<Option<&'a [f32]>, Problem> {
        let list = |a: &'a AttributeProto| Some(a.floats.as_slice()).filter(|floats| !floats.is_empty());
        self.field(name, (AttributeType::FLOATS, "numbers"), list, Some(&[]))
    }

    pub(super) fn tensor_attribute(&self, name: &str) -> Result<Option<&'a TensorProto>, Problem> {
        self.field(name, (AttributeType::TENSOR, "a tensor"), |a| a.t.as_ref(), None)
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, Problem> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    /// Height and width, each at least 1.
    pub(super) fn pair(&self, name: &str) -> Result<Option<Size2>, Problem> {
        let Some(ints) = self.ints(name)? else { return Ok(None) };
        let expected = "two numbers of at least 1 (height, width)";
        let wrong = || Problem::mismatch(format!("attribute \"{name}\""), expected, format!("{ints:?}"));
        let pair = <[i64; 2]>::try_from(ints).map_err(|_| wrong())?;
        if pair.iter().any(|&value| value < 1) {
            return Err(wrong());
        }
        Ok(Some([size(name, pair[0])?, size(name, pair[1])?]))
    }

    /// Integers that older operator sets give as an attribute and newer ones as a constant input.
    pub(super) fn ints_or_input(&self, name: &str, index: usize) -> Result<Option<Vec<i64>>, Problem> {
        if let Some(ints) = self.ints(name)? {
            return Ok(Some(ints.to_vec()));
        }
        self.constant(index)?.map(|constant| constant.as_known(&self.slot(index))).transpose()
    }

    /// The axis with the batch counted, a negative one counted from the end.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize, Problem> {
        within(&format!("axis of {}", self.op), axis, rank)
    }

    /// The axis with the batch not counted.
    pub(super) fn item_axis(&self, axis: i64, tensor: &Tensor) -> Result<usize, Problem> {
        let axis = self.axis(axis, tensor.shape.len() + 1)?;
        axis.checked_sub(1).ok_or_else(|| self.mixes_items("works along axis 0", &tensor.shape))
    }

    /// The error of a node that does not keep the items of a batch apart.
    pub(super) fn mixes_items(&self, does: &str, shape: &[usize]) -> Problem {
        Problem::invalid(format!(
            "{} {does}, but axis 0 is the batch (N x {}) and its items must stay apart; export the network with \
             the batch as first axis, in inference mode",
            self.op,
            shape_text(shape)
        ))
    }
}

/// A place in a list of `length`, a negative one counted from the end.
pub(super) fn within(what: &str, place: i64, length: usize) -> Result<usize, Problem> {
    let from_start = if place < 0 { place.checked_add_unsigned(length as u64) } else { Some(place) };
    let place_of = from_start.and_then(|at| usize::try_from(at).ok()).filter(|&at| at < length);
    place_of.ok_or_else(|| Problem::mismatch(what, format!("-{length} to {}", length as i64 - 1), place))
}
