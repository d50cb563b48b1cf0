//! Tests of one operator, or of a few, with recorded outputs.

use std::path::Path;
use std::sync::Arc;

use layerjoule::backend::{Tensors, WeightOptions, reference};
use layerjoule::network::{Network, TensorRef, onnx_definition};
use layerjoule::plan::{Plan, PlanOptions};

use super::case::{self, Case, Numbers};
use super::form::{Form, Put};
use super::ignored::Ignored;
use super::summary::{Group, Outcome};
use crate::conformance::{Engine, bounds, engine_tensor, pass, to_f64};

/// The operators of ONNX that the kinds of layers stand for.
const KINDS: [&str; 33] = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Clip",
    "Concat",
    "Conv",
    "Div",
    "Dropout",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LRN",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// Operators that compute shapes and constants for those.
const HELPERS: [&str; 7] = ["Cast", "Constant", "ConstantOfShape", "Floor", "Gather", "Shape", "Slice"];

/// Whether every operator of a model belongs to a kind or helps one.
fn in_scope(operators: &[&str]) -> bool {
    let kind = |op: &&str| KINDS.contains(op);
    operators.iter().any(kind) && operators.iter().all(|op| kind(op) || HELPERS.contains(op))
}

/// Runs every test of a folder that is in scope. `originals` holds all of them and decides which there are;
/// `folder` holds those to run.
pub(super) fn run(name: &str, originals: &Path, folder: &Path, ignored: &Ignored) -> Group {
    let mut names: Vec<String> = std::fs::read_dir(originals)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|test| originals.join(test).join("model.onnx").is_file())
        .collect();
    names.sort();
    let mut group = Group::new(name);
    for test in names {
        let model = case::model(&originals.join(&test).join("model.onnx")).unwrap();
        let nodes = model.graph.map(|graph| graph.node).unwrap_or_default();
        let operators: Vec<&str> =
            nodes.iter().map(|node| node.op_type.as_deref().unwrap_or_default()).collect();
        if !in_scope(&operators) {
            group.out_of_scope += 1;
            continue;
        }
        group
            .tests
            .push((test.clone(), judge(&test, ignored, |written| attempt(&folder.join(&test), written))));
    }
    let stale = |name: &&String| !group.tests.iter().any(|(test, _)| test == *name);
    let stale: Vec<String> = ignored.names().filter(stale).cloned().collect();
    for name in stale {
        let text = "stands in ignored.toml, but there is no such test of our operators: delete the entry";
        group.tests.push((name, Outcome::Failed(text.to_string())));
    }
    group
}

/// What becomes of a test; `attempt` runs it and allows for the rounding of recorded numbers. A test that is
/// named in `ignored.toml` must need it.
fn judge(test: &str, ignored: &Ignored, attempt: impl Fn(f64) -> Outcome) -> Outcome {
    let needless = || Outcome::Failed("passes, but stands in ignored.toml: delete the entry".to_string());
    let outcome = attempt(0.0);
    let passes = matches!(outcome, Outcome::Passed { .. });
    match (ignored.reasons.get(test), ignored.rounded.get(test)) {
        (None, None) => outcome,
        _ if passes => needless(),
        (Some(reason), _) => Outcome::Ignored(reason.clone()),
        (None, Some(&allowed)) => attempt(allowed),
    }
}

/// Runs a test in every form in which the reader takes it. One at least must run, and none may be wrong.
/// Recorded numbers may be off by `written` from what was computed.
fn attempt(folder: &Path, written: f64) -> Outcome {
    if let Ok(reason) = std::fs::read_to_string(folder.join("refused.txt")) {
        return Outcome::Failed(format!("onnx.version_converter refuses it: {reason}"));
    }
    let case = match Case::read(folder) {
        Ok(case) => case,
        Err(error) => return Outcome::Failed(error),
    };
    let (mut refusals, mut passed, mut as_is) = (Vec::new(), None, false);
    for form in Form::ALL {
        // Layers instead of stored numbers matter where there is more than one input, or nothing else runs.
        if form == Form::Computed && passed.is_some() && case.inputs.len() < 2 {
            continue;
        }
        let read = form.put(&case).and_then(|put| Ok((network(&put.bytes)?, put)));
        match read {
            Err(refusal) => refusals.push(format!("{form:?}: {refusal}")),
            Ok((network, put)) => match compare(&network, &put, &case.output, form, written) {
                Err(wrong) => return Outcome::Failed(format!("{form:?}: {wrong}")),
                Ok(found) => {
                    passed = Some(worse(passed, found));
                    as_is |= form == Form::AsIs;
                }
            },
        }
    }
    match passed {
        Some((error, allowed)) => Outcome::Passed { error, allowed, as_is },
        None => Outcome::Failed(format!("not run: {}", refusals.join("; "))),
    }
}

fn worse(one: Option<(f64, f64)>, other: (f64, f64)) -> (f64, f64) {
    one.map_or(other, |one| (one.0.max(other.0), one.1.max(other.1)))
}

fn network(bytes: &[u8]) -> Result<Network, String> {
    onnx_definition("model.onnx", bytes, "").and_then(Network::new).map_err(|error| error.to_string())
}

/// The engine's and the reference's largest error as a part of the largest recorded number, and as a part of
/// what is allowed; or the first number that is further off.
fn compare(
    network: &Network,
    put: &Put,
    expected: &Numbers,
    form: Form,
    written: f64,
) -> Result<(f64, f64), String> {
    let batch = put.input.shape[0];
    let mut shape = network.layers.last().map(|layer| layer.output.clone()).unwrap_or_default();
    if form == Form::AsIs {
        shape.insert(0, batch);
    }
    if shape != expected.shape {
        return Err(format!("shape {shape:?}, recorded {:?}", expected.shape));
    }
    let mut tensors =
        Tensors::new(network, &WeightOptions { seed: 1, batch }).map_err(|error| error.to_string())?;
    tensors.input.clone_from(&put.input.values);
    let exact = reference::run(network, &tensors, batch);
    let allowed = allowed(network, &tensors, &exact, batch);
    let plan = Plan::new(network, &PlanOptions { batch, keep_all: true, ..PlanOptions::default() })
        .map_err(|error| error.to_string())?;
    let mut executor = pass(network, &plan, &tensors, Engine::with(2));
    let last = network.layers.len() - 1;
    let engine = engine_tensor(network, &plan, &tensors, &mut *executor, TensorRef::Layer(last));
    // What is recorded was rounded as well as what the engine computes.
    let found = [("engine", to_f64(&engine), 2.0), ("reference", exact[last].clone(), 1.0)];
    let largest = expected.values.iter().fold(0.0f64, |m, &x| m.max(f64::from(x).abs()));
    let (mut error, mut part) = (0.0f64, 0.0f64);
    for (who, found, factor) in found {
        for (index, (&found, &recorded)) in found.iter().zip(&expected.values).enumerate() {
            let off = (found - f64::from(recorded)).abs();
            let bound = factor * allowed[index] + written;
            if off.is_nan() || off > bound {
                return Err(format!("{who}: element {index} is {found}, recorded {recorded} +- {bound:e}"));
            }
            if off > 0.0 {
                (error, part) = (error.max(off / largest), part.max(off / bound));
            }
        }
    }
    Ok((error, part))
}

/// What rounding explains of the last layer's error: its own, and the largest of every layer before it, which
/// no operator of these tests enlarges.
fn allowed(network: &Network, tensors: &Tensors, exact: &[Vec<f64>], batch: usize) -> Vec<f64> {
    let input = to_f64(&tensors.input);
    let mut bounds = Vec::new();
    for (index, layer) in network.layers.iter().enumerate() {
        let read = |tensor: &TensorRef| match *tensor {
            TensorRef::Input => input.as_slice(),
            TensorRef::Layer(source) => exact[source].as_slice(),
        };
        let inputs: Vec<&[f64]> = layer.inputs.iter().map(read).collect();
        let parameters: &[Arc<[f32]>] = &tensors.parameters[index];
        bounds.push(bounds::rounding(network, index, &inputs, parameters, batch, &exact[index]));
    }
    let last = bounds.pop().unwrap_or_default();
    let before: f64 = bounds.iter().map(|bound| bound.iter().copied().fold(0.0, f64::max)).sum();
    last.into_iter().map(|own| own + before).collect()
}

#[test]
fn an_entry_of_the_ignore_list_must_be_needed() {
    let passes = |_: f64| Outcome::Passed { error: 0.0, allowed: 0.0, as_is: true };
    let fails = |_: f64| Outcome::Failed("wrong".to_string());
    let within = |written: f64| if written > 0.1 { passes(written) } else { fails(written) };
    let mut ignored = Ignored::default();
    ignored.reasons.insert("left_out".to_string(), "3-D".to_string());
    ignored.rounded.insert("by_hand".to_string(), 0.5);
    assert_eq!(judge("other", &ignored, passes), passes(0.0));
    assert_eq!(judge("other", &ignored, fails), fails(0.0));
    assert_eq!(judge("left_out", &ignored, fails), Outcome::Ignored("3-D".to_string()));
    assert_eq!(judge("by_hand", &ignored, within), passes(0.5));
    assert_eq!(judge("by_hand", &ignored, fails), fails(0.5));
    for stale in ["left_out", "by_hand"] {
        assert!(matches!(judge(stale, &ignored, passes), Outcome::Failed(_)), "{stale}");
    }
}

#[test]
fn an_entry_for_a_test_that_is_not_there_fails() {
    let folder = tempfile::tempdir().unwrap();
    let mut ignored = Ignored::default();
    ignored.reasons.insert("test_gone".to_string(), "3-D".to_string());
    let failures = run("node", folder.path(), folder.path(), &ignored).failures();
    assert!(failures.len() == 1 && failures[0].contains("test_gone"), "{failures:?}");
}
