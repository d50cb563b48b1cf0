//! Whole networks with random weights: every intermediate tensor against onnxruntime's.

use std::path::Path;

use layerjoule::backend::{Tensors, WeightOptions};
use layerjoule::network::{LayerKind, Network, TensorRef, onnx_definition};
use layerjoule::plan::{Plan, PlanOptions};

use super::case::Numbers;
use super::summary::{Group, Outcome};
use crate::conformance::{engine_tensor, pass_once};

/// Compares each network of `originals` with what `networks` holds of it.
pub(super) fn run(originals: &Path, networks: &Path) -> Vec<Group> {
    let mut names: Vec<String> = std::fs::read_dir(originals)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".onnx").map(str::to_string)
        })
        .collect();
    names.sort();
    names.iter().map(|name| network(name.trim_start_matches("light_"), networks)).collect()
}

fn network(name: &str, networks: &Path) -> Group {
    let mut group = Group::new(name);
    match compare(&networks.join(name)) {
        Ok(tests) => group.tests = tests,
        Err(error) => group.tests.push(("network".to_string(), Outcome::Failed(error))),
    }
    group
}

fn compare(folder: &Path) -> Result<Vec<(String, Outcome)>, String> {
    let network = {
        let bytes = std::fs::read(folder.join("model.onnx")).map_err(|error| error.to_string())?;
        onnx_definition("model.onnx", &bytes, "").and_then(Network::new).map_err(|error| error.to_string())?
    };
    let input = Numbers::read(&folder.join("input.pb"))?;
    let batch = input.shape[0];
    let mut tensors =
        Tensors::new(&network, &WeightOptions { seed: 1, batch }).map_err(|error| error.to_string())?;
    tensors.input = input.values;
    let plan =
        Plan::new(&network, &PlanOptions { batch, keep_all: true }).map_err(|error| error.to_string())?;
    let mut executor = pass_once(&network, &plan, &tensors, 2);
    let mut errors = Errors::new(&network);
    let mut tests = Vec::new();
    for number in 0.. {
        let file = folder.join(format!("{number:03}.pb"));
        if !file.is_file() {
            break;
        }
        let expected = Numbers::read(&file)?;
        let layer = network.layers.iter().position(|layer| layer.name == expected.name);
        let outcome = match layer {
            None => Outcome::Failed("no layer has its name".to_string()),
            Some(index) => {
                let found = engine_tensor(&network, &plan, &tensors, &mut *executor, TensorRef::Layer(index));
                errors.judge(index, &found, &expected)
            }
        };
        tests.push((expected.name, outcome));
    }
    let unmet = network.layers.iter().filter(|layer| !tests.iter().any(|(name, _)| *name == layer.name));
    let unmet: Vec<_> = unmet
        .map(|layer| (layer.name.clone(), Outcome::Failed("onnxruntime has no such tensor".to_string())))
        .collect();
    tests.extend(unmet);
    Ok(tests)
}

/// Unit roundoff of f32.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Standard deviations that the largest of 10^8 normal numbers stays below.
const DEVIATIONS: f64 = 6.0;

/// How far two engines' sums of `terms` products may be apart, as a part of the sums' root mean square.
///
/// The partial sums of independent products of mean zero and deviation s have deviations s, s sqrt 2, ...,
/// s sqrt n, and each rounds by at most U of itself, independently: together U s sqrt(n (n + 1) / 2), which is
/// U sqrt(n / 2) of the sum's own deviation. Two engines differ by sqrt 2 times as much. (The model of Higham
/// and Mary 2019, "A new approach to probabilistic rounding error analysis", 10.1137/18M1226312; an engine
/// that sums in blocks stays below it.)
fn rounding(terms: usize) -> f64 {
    DEVIATIONS * U * (terms as f64).sqrt()
}

/// What is allowed of each layer, made layer by layer in the order of execution.
struct Errors<'a> {
    network: &'a Network,
    /// Of each layer judged so far: the allowed absolute error, and the root mean square of its output.
    of: Vec<Option<(f64, f64)>>,
}

impl<'a> Errors<'a> {
    fn new(network: &'a Network) -> Self {
        Self { network, of: vec![None; network.layers.len()] }
    }

    fn judge(&mut self, index: usize, found: &[f32], expected: &Numbers) -> Outcome {
        let shape = &expected.shape[1..];
        let layer = &self.network.layers[index];
        if shape != layer.output || found.len() != expected.values.len() {
            return Outcome::Failed(format!("shape N x {:?}, onnxruntime N x {shape:?}", layer.output));
        }
        let squares: f64 = expected.values.iter().map(|&x| f64::from(x).powi(2)).sum();
        let rms = (squares / expected.values.len() as f64).sqrt();
        if !(rms.is_normal() && rms < 1e12) {
            // Nothing can be told from a tensor of zeros or infinities.
            return Outcome::Failed(format!("the numbers have a root mean square of {rms}"));
        }
        let allowed = self.allowed(index, rms);
        self.of[index] = Some((allowed, rms));
        let off = |(&found, &expected): (&f32, &f32)| (f64::from(found) - f64::from(expected)).abs();
        // NaN is further off than anything.
        let further = |a: (usize, f64), b: (usize, f64)| if b.1 > a.1 || b.1.is_nan() { b } else { a };
        let errors = found.iter().zip(&expected.values).map(off).enumerate();
        let (worst, error) = errors.fold((0, 0.0), further);
        if !(error <= allowed) {
            return Outcome::Failed(format!(
                "{}: element {worst} is {}, onnxruntime {} +- {allowed:.2e}",
                layer.kind, found[worst], expected.values[worst]
            ));
        }
        let largest = expected.values.iter().fold(0.0f64, |m, &x| m.max(f64::from(x).abs()));
        Outcome::Passed {
            error: error / largest,
            allowed: if error > 0.0 { error / allowed } else { 0.0 },
            as_is: true,
        }
    }

    /// The allowed absolute error of a layer: what its inputs bring and what its own rounding adds.
    ///
    /// Weights of mean zero carry an error on as they carry the numbers, so its part of them stays the same;
    /// operators that compare, move, average or add up carry the error itself on.
    fn allowed(&self, index: usize, rms: f64) -> f64 {
        let layer = &self.network.layers[index];
        let inputs: Vec<(f64, f64)> = layer
            .inputs
            .iter()
            .map(|input| match *input {
                TensorRef::Input => (0.0, 1.0),
                TensorRef::Layer(source) => self.of[source].expect("layers stand in order of execution"),
            })
            .collect();
        let relative = inputs.iter().map(|(allowed, rms)| allowed / rms).fold(0.0, f64::max);
        let largest = inputs.iter().map(|(allowed, _)| *allowed).fold(0.0, f64::max);
        let sum: f64 = inputs.iter().map(|(allowed, _)| allowed).sum();
        let input = self.network.shape(layer.inputs[0]);
        match &layer.kind {
            LayerKind::Conv(conv) => {
                let terms = input[0] / conv.groups * conv.kernel[0] * conv.kernel[1] + 1;
                (relative + rounding(terms)) * rms
            }
            LayerKind::Linear(_) => (relative + rounding(input.iter().product::<usize>() + 1)) * rms,
            LayerKind::BatchNorm { .. } | LayerKind::Mul { .. } => (relative + rounding(4)) * rms,
            // The sum of squares, the power and the division.
            LayerKind::Lrn(lrn) => (relative + rounding(lrn.size + 8)) * rms,
            LayerKind::AvgPool(pool) => largest + rounding(pool.kernel[0] * pool.kernel[1]) * rms,
            LayerKind::GlobalAvgPool => largest + rounding(input[1] * input[2]) * rms,
            // No probability moves by more than the largest change of a logit.
            LayerKind::Softmax { axis } => largest + rounding(input[*axis] + 8) * rms,
            LayerKind::Add { .. } => sum + rounding(inputs.len() + 1) * rms,
            _ => largest,
        }
    }
}

#[test]
fn a_single_wrong_number_among_many_is_found_and_named() {
    let conv = layerjoule::network::Conv {
        out_channels: 1,
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1; 4],
        dilation: [1, 1],
        groups: 1,
        bias: false,
    };
    let network = crate::conformance::single(&[512, 40, 50], LayerKind::Conv(conv));
    let values: Vec<f32> = (0..2000).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let expected = Numbers { name: "layer".to_string(), shape: vec![1, 1, 40, 50], values };
    let judge = |change: f32| {
        let mut found = expected.values.clone();
        found[777] += change;
        Errors::new(&network).judge(0, &found, &expected)
    };
    // 6 x 2^-24 x sqrt(512 x 9 + 1) = 2.4e-5 of a root mean square of 1.
    assert!(matches!(judge(2e-5), Outcome::Passed { .. }));
    for wrong in [3e-5, 1.0, f32::NAN] {
        let Outcome::Failed(text) = judge(wrong) else { panic!("{wrong} passed") };
        assert!(text.contains("element 777"), "{text}");
    }
}
