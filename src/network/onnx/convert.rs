//! From the graph's nodes to layers: values by name, dispatch by operator, names of layers.

use std::collections::{HashMap, HashSet};

use rten_onnx::onnx::NodeProto;

use super::constant::check_rank;
use super::fold::unfolds;
use super::graph::{label, origin};
use super::node::{GraphFacts, Node, Outcome, Step, Tensor, Value};
use super::{dense, elementwise, fold, reshape, window};
use crate::network::{Definition, INPUT, LayerDefinition, LayerKind, NetworkError, Problem, output_shape};

/// The supported operators with their known attributes. An attribute that is not here might change what the
/// operator computes, so it is an error.
const OPERATORS: &[(&str, &[&str])] = &[
    ("Add", &[]),
    (
        "AveragePool",
        &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"],
    ),
    ("BatchNormalization", &["epsilon", "momentum", "training_mode"]),
    ("Cast", &["saturate", "to"]),
    ("Clip", &["max", "min"]),
    ("Concat", &["axis"]),
    ("Constant", &["value", "value_float", "value_floats", "value_int", "value_ints"]),
    ("ConstantOfShape", &["value"]),
    ("Conv", &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]),
    ("Div", &[]),
    ("Dropout", &["ratio", "seed"]),
    ("Flatten", &["axis"]),
    ("Floor", &[]),
    ("Gather", &["axis"]),
    ("Gemm", &["alpha", "beta", "transA", "transB"]),
    ("GlobalAveragePool", &[]),
    ("GlobalMaxPool", &[]),
    ("HardSigmoid", &["alpha", "beta"]),
    ("HardSwish", &[]),
    ("Identity", &[]),
    ("LRN", &["alpha", "beta", "bias", "size"]),
    ("LeakyRelu", &["alpha"]),
    ("MatMul", &[]),
    ("MaxPool", &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"]),
    ("Mul", &[]),
    ("Pad", &["mode", "pads", "value"]),
    ("ReduceMean", &["axes", "keepdims", "noop_with_empty_axes"]),
    ("Relu", &[]),
    ("Reshape", &["allowzero"]),
    ("Shape", &["end", "start"]),
    ("Sigmoid", &[]),
    ("Slice", &["axes", "ends", "starts"]),
    ("Softmax", &["axis"]),
    ("Squeeze", &["axes"]),
    ("Sub", &[]),
    ("Sum", &[]),
    ("Swish", &["alpha"]),
    ("Tanh", &[]),
    ("Transpose", &["perm"]),
    ("Unsqueeze", &["axes"]),
];

/// The known attributes of an operator of the standard domain.
///
/// # Errors
///
/// Another domain, or an operator that is not supported, with the list of those that are.
pub(super) fn known_attributes(node: &NodeProto) -> Result<&'static [&'static str], Problem> {
    let domain = node.domain.as_deref().unwrap_or_default();
    if !matches!(domain, "" | "ai.onnx") {
        return Err(Problem::mismatch(
            "operator domain",
            "the standard one (\"\" or \"ai.onnx\")",
            format!("\"{domain}\""),
        ));
    }
    let op = node.op_type.as_deref().unwrap_or_default();
    OPERATORS.iter().find(|(name, _)| *name == op).map(|(_, attributes)| *attributes).ok_or_else(|| {
        let supported: Vec<&str> = OPERATORS.iter().map(|(name, _)| *name).collect();
        Problem::mismatch(
            "operator",
            format!("one of {}", supported.join(", ")),
            format!("\"{op}\", which is not supported"),
        )
    })
}

/// What one operator becomes.
fn convert(node: &Node) -> Result<Outcome, Problem> {
    if node.inputs().all(|value| matches!(value, Value::Constant(_))) {
        return Ok(Outcome::Value(Value::Constant(fold::fold(node)?)));
    }
    match node.op {
        "Conv" => window::conv(node),
        "MaxPool" => window::pool(node, LayerKind::MaxPool),
        "AveragePool" => window::pool(node, LayerKind::AvgPool),
        "GlobalAveragePool" => window::global_pool(node, LayerKind::GlobalAvgPool),
        "GlobalMaxPool" => window::global_pool(node, LayerKind::GlobalMaxPool),
        "ReduceMean" => window::reduce_mean(node),
        "Pad" => window::pad(node),
        "Gemm" => dense::gemm(node),
        "MatMul" => dense::matmul(node),
        "BatchNormalization" => dense::batch_norm(node),
        "LRN" => dense::lrn(node),
        "Softmax" => dense::softmax(node),
        "Dropout" => dense::dropout(node),
        "Add" | "Sum" => elementwise::add(node),
        "Mul" => elementwise::mul(node),
        "Sub" => elementwise::sub(node),
        "Div" => elementwise::div(node),
        "Cast" => elementwise::cast(node),
        "Identity" => Ok(Outcome::Value(Value::Tensor(node.tensor(0)?.clone()))),
        "Relu" | "LeakyRelu" | "Sigmoid" | "Tanh" | "HardSwish" | "HardSigmoid" | "Swish" | "Clip" => {
            elementwise::activation(node)
        }
        "Reshape" => reshape::reshape(node),
        "Flatten" => reshape::flatten(node),
        "Squeeze" | "Unsqueeze" => reshape::resize(node),
        "Transpose" => reshape::transpose(node),
        "Concat" => reshape::concat(node),
        "Shape" => reshape::shape(node),
        _ => Err(Problem::invalid(format!(
            "{} is supported over constants only, but reads the network's input",
            node.op
        ))),
    }
}

/// The conversion of one graph, node by node in order of execution.
pub(super) struct Converter<'a> {
    definition: Definition,
    graph: GraphFacts,
    values: HashMap<&'a str, Value>,
    names: Names<'a>,
}

impl<'a> Converter<'a> {
    /// `definition` states the input; `values` holds it and the initializers by name; `nodes` are those to be
    /// converted.
    pub(super) fn new(
        definition: Definition,
        graph: GraphFacts,
        values: HashMap<&'a str, Value>,
        nodes: impl Iterator<Item = &'a NodeProto>,
    ) -> Self {
        Self { definition, graph, values, names: Names::new(nodes) }
    }

    /// Converts a node whose inputs are converted.
    ///
    /// # Errors
    ///
    /// What the node does is not supported or does not fit its inputs; with the node and the layer.
    pub(super) fn node(&mut self, index: usize, node: &'a NodeProto) -> Result<(), NetworkError> {
        self.convert(index, node)
            .map_err(|problem| problem.at(&self.definition.file, &origin(index, node), label(node)))
    }

    fn convert(&mut self, index: usize, node: &'a NodeProto) -> Result<(), Problem> {
        let known = known_attributes(node)?;
        // Every name is defined, and in order: the execution order was made from them.
        let inputs = node.input.iter().map(|name| self.values.get(name.as_str())).collect();
        let outcome = convert(&Node::new(node, inputs, known, self.graph)?)?;
        let value = match outcome {
            Outcome::Value(value) => value,
            Outcome::Layers(steps) => Value::Tensor(self.push(index, node, steps)?),
        };
        let shape = match &value {
            Value::Tensor(tensor) => &tensor.shape,
            Value::Constant(constant) => &constant.shape,
        };
        check_rank(shape.len())?;
        if let Value::Constant(constant) = &value {
            self.graph.fold_budget =
                self.graph.fold_budget.checked_sub(constant.stored()).ok_or_else(unfolds)?;
        }
        if let Some(output) = node.output.first().filter(|name| !name.is_empty()) {
            self.values.insert(output, value);
        }
        Ok(())
    }

    /// Appends the layers of a node; the tensor that the last one computes.
    fn push(&mut self, index: usize, node: &'a NodeProto, steps: Vec<Step>) -> Result<Tensor, Problem> {
        let main = steps.iter().position(|step| !step.kind.is_view()).unwrap_or(0);
        let base = steps.get(main).map(|step| self.names.of(node, &step.kind)).unwrap_or_default();
        let mut last: Option<Tensor> = None;
        for (at, step) in steps.into_iter().enumerate() {
            let inputs = if step.inputs.is_empty() { last.into_iter().collect() } else { step.inputs };
            let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape.as_slice()).collect();
            let shape = output_shape(&step.kind, &shapes)?;
            let name = if at == main {
                base.clone()
            } else {
                self.names.unique(&format!("{base}.{}", step.kind.name()))
            };
            self.definition.layers.push(LayerDefinition {
                name: name.clone(),
                kind: step.kind,
                inputs: inputs.into_iter().map(|input| input.layer).collect(),
                origin: origin(index, node),
                values: step.values,
                same_padding: false,
            });
            last = Some(Tensor { layer: name, shape });
        }
        last.ok_or_else(|| Problem::mismatch("layers of the node", "at least one", "none"))
    }

    /// The value of a name, if it is one of the graph.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    pub(super) fn finish(self) -> Definition {
        self.definition
    }
}

/// Names of layers: the node's own where it is unique, else the kind and a number.
struct Names<'a> {
    own: HashMap<&'a str, usize>,
    taken: HashSet<String>,
    numbers: HashMap<String, usize>,
}

impl<'a> Names<'a> {
    fn new(nodes: impl Iterator<Item = &'a NodeProto>) -> Self {
        let mut own = HashMap::new();
        for name in nodes.filter_map(|node| node.name.as_deref()) {
            *own.entry(name).or_default() += 1;
        }
        let taken = own.keys().map(|name| name.to_string()).chain([INPUT.to_string()]).collect();
        Self { own, taken, numbers: HashMap::new() }
    }

    fn of(&mut self, node: &NodeProto, kind: &LayerKind) -> String {
        match node.name.as_deref() {
            Some(name) if !name.is_empty() && name != INPUT && self.own.get(name) == Some(&1) => {
                name.to_string()
            }
            _ => self.numbered(kind.name()),
        }
    }

    fn numbered(&mut self, base: &str) -> String {
        let number = self.numbers.entry(base.to_string()).or_default();
        loop {
            *number += 1;
            let name = format!("{base}{number}");
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }

    fn unique(&mut self, name: &str) -> String {
        if self.taken.insert(name.to_string()) {
            name.to_string()
        } else {
            self.numbered(&format!("{name}."))
        }
    }
}
