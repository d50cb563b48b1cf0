//! ONNX files: one graph of any CNN export, operator set 9 and later, to a [`Definition`].
//!
//! ```text
//! bytes ─► wire ─► rten-onnx ─► graph ─► convert ─► Definition
//!          lengths  messages    live     node by node: window, dense, elementwise, reshape
//!          checked              nodes,   constants of the file folded: constant, fold
//!                               order
//! ```
//!
//! - The batch is the first axis of the file's one input and of every tensor computed from it; its size comes
//!   from the command line, so the file's own is dropped. What would mix items of a batch is an error.
//! - Nodes that no output of the graph depends on are left out; every output counts, not the first alone.
//! - A layer has its node's name where that is unique. Identity, Cast between floating-point types and nodes
//!   over constants make no layer; a node that needs several layers names the others after itself.
//! - Constants are the layers' values. Weights of conv and linear that ConstantOfShape makes are placeholders
//!   and become random; everything else that it makes is filled as the file says.

mod constant;
mod convert;
mod dense;
mod elementwise;
mod fold;
mod graph;
mod node;
mod reshape;
mod tensor;
mod window;
mod wire;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use rten_onnx::onnx::{DataType, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use self::constant::check_rank;
use self::convert::Converter;
use self::node::{GraphFacts, Tensor, Value};
use self::tensor::decode;
use super::shape::volume;
use super::{Definition, INPUT, NetworkError, Origin, Problem};

/// The first operator set that is read: since it BatchNormalization has its present form.
const OLDEST_OPSET: i64 = 9;

/// The network of an ONNX file; `sha256` is handed through.
///
/// # Errors
///
/// Bytes that are no ONNX model, an operator, attribute or form of it that is not supported, shapes that do
/// not fit, a name that is never defined, a cycle, or a node that mixes the items of a batch: with file, node
/// and layer, expected and found.
pub fn definition(file: &str, bytes: &[u8], sha256: &str) -> Result<Definition, NetworkError> {
    let whole = |problem: Problem| problem.at(file, &Origin::File, None);
    let model = parse(bytes).map_err(whole)?;
    let opset = opset(&model).map_err(whole)?;
    let mut graph = model.graph.ok_or_else(|| whole(Problem::mismatch("model", "a graph", "none")))?;
    if graph.node.is_empty() {
        return Err(whole(Problem::mismatch("nodes of the graph", "at least one", "none")));
    }
    let initializers = std::mem::take(&mut graph.initializer);
    let names: Vec<&str> = initializers.iter().map(|t| t.name.as_deref().unwrap_or_default()).collect();
    let input = input(&graph, &names).map_err(whole)?;
    let order = graph::execution_order(file, &graph, names.iter().copied().chain([input.name]))?;
    let nodes: Vec<(usize, &NodeProto)> =
        order.into_iter().map(|index| (index, &graph.node[index])).collect();
    for &(index, node) in &nodes {
        // Before any number is decoded: a quantised network, say, is told of its operators first.
        convert::known_attributes(node)
            .map_err(|problem| problem.at(file, &graph::origin(index, node), graph::label(node)))?;
    }
    let mut values = constants(&initializers, &nodes).map_err(whole)?;
    values.insert(input.name, Value::Tensor(Tensor { layer: INPUT.to_string(), shape: input.shape.clone() }));
    let definition = Definition {
        name: Path::new(file)
            .file_stem()
            .map_or(file.to_string(), |stem| stem.to_string_lossy().into_owned()),
        file: file.to_string(),
        sha256: sha256.to_string(),
        input: input.shape,
        set: BTreeMap::new(),
        layers: Vec::new(),
    };
    // A small file must not unfold into a large network: folding rearranges what the file holds.
    let fold_budget = bytes.len().saturating_add(1 << 20);
    let facts = GraphFacts { opset, batch: input.batch, fold_budget };
    let mut converter = Converter::new(definition, facts, values, nodes.iter().map(|&(_, node)| node));
    for &(index, node) in &nodes {
        converter.node(index, node)?;
    }
    check_outputs(&graph, &converter).map_err(whole)?;
    Ok(converter.finish())
}

/// The initializers that some node reads, by name.
fn constants<'a>(
    initializers: &'a [TensorProto],
    nodes: &[(usize, &NodeProto)],
) -> Result<HashMap<&'a str, Value>, Problem> {
    let used: HashSet<&str> = nodes.iter().flat_map(|(_, node)| &node.input).map(String::as_str).collect();
    let mut values = HashMap::new();
    for tensor in initializers {
        let name = tensor.name.as_deref().unwrap_or_default();
        if used.contains(name) {
            values.insert(name, Value::Constant(decode(tensor)?));
        }
        // The numbers are copied: what the parser holds of them is let go at once.
        if let Some(raw) = &tensor.raw_data {
            raw.take();
        }
    }
    Ok(values)
}

/// Every output of the graph must be what a layer computes.
fn check_outputs(graph: &GraphProto, converter: &Converter) -> Result<(), Problem> {
    for output in &graph.output {
        let name = output.name.as_deref().unwrap_or_default();
        if !matches!(converter.value(name), Some(Value::Tensor(tensor)) if tensor.layer != INPUT) {
            let expected = "a tensor that a layer computes";
            let found = format!("\"{name}\", which none does");
            return Err(Problem::mismatch("output of the graph", expected, found));
        }
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<ModelProto, Problem> {
    wire::check(bytes)?;
    ModelProto::parse_buf(bytes).map_err(|error| Problem::invalid(format!("not an ONNX model: {error}")))
}

/// The version of the standard operators.
fn opset(model: &ModelProto) -> Result<i64, Problem> {
    let standard = |domain: Option<&str>| matches!(domain.unwrap_or_default(), "" | "ai.onnx");
    let import = model.opset_import.iter().find(|import| standard(import.domain.as_deref()));
    let version = import
        .and_then(|import| import.version)
        .ok_or_else(|| Problem::mismatch("opset_import", "a version of the standard operators", "none"))?;
    if version < OLDEST_OPSET {
        return Err(Problem::mismatch(
            "version of the operator set",
            format!("{OLDEST_OPSET} or later (onnx.version_converter.convert_version mends it)"),
            version,
        ));
    }
    Ok(version)
}

/// The input that is not an initializer.
struct Input<'a> {
    name: &'a str,
    /// The batch size that the file fixes, where it fixes one.
    batch: Option<usize>,
    /// The shape of one item.
    shape: Vec<usize>,
}

/// The one real input: older files list the initializers as inputs too.
fn input<'a>(graph: &'a GraphProto, initializers: &[&str]) -> Result<Input<'a>, Problem> {
    let initializers: HashSet<&str> = initializers.iter().copied().collect();
    let name = |info: &'a ValueInfoProto| info.name.as_deref().unwrap_or_default();
    let real: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|info| !initializers.contains(name(info))).collect();
    let [info] = real.as_slice() else {
        let names: Vec<&str> = real.iter().map(|info| name(info)).collect();
        let found = if names.is_empty() { "none".to_string() } else { names.join(", ") };
        return Err(Problem::mismatch("inputs of the graph that are not initializers", "one", found));
    };
    let name = name(info);
    let what = format!("input \"{name}\"");
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(|| Problem::mismatch(&what, "a tensor type", "none"))?;
    let data_type = tensor.elem_type.unwrap_or(DataType(0));
    let floats = [DataType::FLOAT, DataType::FLOAT16, DataType::BFLOAT16, DataType::DOUBLE];
    if !floats.contains(&data_type) {
        return Err(Problem::mismatch(&what, "a floating-point type", format!("type {data_type}")));
    }
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    let Some((batch, item)) = dims.split_first().filter(|(_, item)| !item.is_empty()) else {
        return Err(Problem::mismatch(&what, "at least two axes, the first the batch", dims.len()));
    };
    check_rank(dims.len())?;
    let mut shape = Vec::with_capacity(item.len());
    for (axis, dim) in item.iter().enumerate() {
        let size = dim.dim_value.and_then(|value| usize::try_from(value).ok()).filter(|&size| size > 0);
        shape.push(
            size.ok_or_else(|| unknown_size(&what, axis + 1, dim.dim_param.as_deref(), dim.dim_value))?,
        );
    }
    volume(&shape)?;
    let batch = batch.dim_value.and_then(|value| usize::try_from(value).ok()).filter(|&size| size > 0);
    Ok(Input { name, batch, shape })
}

fn unknown_size(what: &str, axis: usize, symbol: Option<&str>, value: Option<i64>) -> Problem {
    let (found, option) = match (symbol, value) {
        (Some(symbol), _) => {
            (format!("the symbol \"{symbol}\""), format!("--dim_param {symbol} --dim_value 224"))
        }
        (None, Some(value)) => (value.to_string(), "--input_name and --input_shape".to_string()),
        (None, None) => ("nothing".to_string(), "--input_name and --input_shape".to_string()),
    };
    Problem::mismatch(
        format!("size of axis {axis} of {what}"),
        format!(
            "a number of at least 1; export with a fixed size, or use python -m \
             onnxruntime.tools.make_dynamic_shape_fixed with {option}"
        ),
        found,
    )
}
