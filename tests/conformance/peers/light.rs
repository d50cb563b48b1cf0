//! Whole networks with random weights: every intermediate tensor against onnxruntime's, as the network makes it
//! and as each layer makes it of onnxruntime's inputs.

use std::path::Path;

use layerjoule::backend::{Tensors, WeightOptions};
use layerjoule::network::{LayerKind, Network, TensorRef, onnx_definition};
use layerjoule::plan::{Plan, PlanOptions};

use super::case::Numbers;
use super::summary::{Group, Outcome};
use crate::conformance::{Engine, engine_tensor, pass_once, single};

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
    let plan = Plan::new(&network, &PlanOptions { batch, keep_all: true, ..PlanOptions::default() })
        .map_err(|error| error.to_string())?;
    let mut executor = pass_once(&network, &plan, &tensors, Engine::with(2));
    let mut errors = Errors::new(&network);
    let mut recorded: Vec<Vec<f32>> = vec![Vec::new(); network.layers.len()];
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
                let read = |tensor: &TensorRef| match *tensor {
                    TensorRef::Input => tensors.input.as_slice(),
                    TensorRef::Layer(source) => recorded[source].as_slice(),
                };
                let inputs: Vec<&[f32]> = network.layers[index].inputs.iter().map(read).collect();
                let alone = Alone::new(&network, index, &inputs, &tensors)?;
                let outcome = errors.judge(index, &found, &alone, &expected);
                recorded[index] = expected.values;
                outcome
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

/// How far two engines' sums of `terms` products may be apart, as a part of the sums' spread, which is the root
/// of the sum of the products' squares.
///
/// The partial sums of independent products of mean zero and deviation s have deviations s, s sqrt 2, ...,
/// s sqrt n, and each rounds by at most U of itself, independently: together U s sqrt(n (n + 1) / 2), which is
/// U sqrt(n / 2) of the spread s sqrt n. Two engines differ by sqrt 2 times as much. (The model of Higham and
/// Mary 2019, "A new approach to probabilistic rounding error analysis", 10.1137/18M1226312; an engine that
/// sums in blocks stays below it.)
fn rounding(terms: usize) -> f64 {
    DEVIATIONS * U * (terms as f64).sqrt()
}

/// A layer over onnxruntime's inputs, so that no error of an earlier layer blurs it.
struct Alone {
    /// What the engine makes of them.
    output: Vec<f32>,
    /// For each sum of products, the sum of their squares; empty for other layers.
    squares: Vec<f32>,
}

impl Alone {
    /// A network has one input, so layers that join several are added up or put side by side here.
    fn new(network: &Network, index: usize, inputs: &[&[f32]], tensors: &Tensors) -> Result<Self, String> {
        let layer = &network.layers[index];
        let shapes: Vec<&[usize]> = layer.inputs.iter().map(|&input| network.shape(input)).collect();
        let batch = inputs[0].len() / shapes[0].iter().product::<usize>();
        let one = |f: fn(f32) -> f32| {
            let of = |values: &[f32]| values.iter().map(|&x| f(x)).collect::<Vec<f32>>();
            let parameters = tensors.parameters[index].iter().map(|values| of(values).into()).collect();
            let input = of(inputs[0]);
            let tensors = Tensors { parameters: vec![parameters], input, distribution: String::new() };
            let network = single(shapes[0], layer.kind.clone());
            let plan = Plan::new(&network, &PlanOptions { batch, keep_all: true, ..PlanOptions::default() })
                .map_err(|e| e.to_string())?;
            let mut executor = pass_once(&network, &plan, &tensors, Engine::with(2));
            Ok::<_, String>(engine_tensor(&network, &plan, &tensors, &mut *executor, TensorRef::Layer(0)))
        };
        let output = match (&layer.kind, inputs) {
            (LayerKind::Conv(_) | LayerKind::Linear(_), [_]) => {
                return Ok(Self { output: one(|x| x)?, squares: one(|x| x * x)? });
            }
            (_, [_]) => one(|x| x)?,
            (LayerKind::Add { .. }, [first, others @ ..]) if shapes.iter().all(|s| *s == shapes[0]) => {
                let sum = |i: usize| others.iter().fold(first[i], |sum, other| sum + other[i]);
                (0..first.len()).map(sum).collect()
            }
            (LayerKind::Concat { axis: 0 }, _) if batch == 1 => inputs.concat(),
            (kind, _) => return Err(format!("{kind} over several inputs is not expected in these networks")),
        };
        Ok(Self { output, squares: Vec::new() })
    }
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

    /// Holds a layer's tensor to onnxruntime's twice: as the whole network made it, where errors add up from
    /// layer to layer, and as the layer alone makes it of onnxruntime's inputs, where only its own may show.
    fn judge(&mut self, index: usize, found: &[f32], alone: &Alone, expected: &Numbers) -> Outcome {
        let shape = &expected.shape[1..];
        let layer = &self.network.layers[index];
        if shape != layer.output || found.len() != expected.values.len() || alone.output.len() != found.len()
        {
            return Outcome::Failed(format!("shape N x {:?}, onnxruntime N x {shape:?}", layer.output));
        }
        let rms = root_mean_square(&expected.values);
        let largest = expected.values.iter().fold(0.0f64, |m, &x| m.max(f64::from(x).abs()));
        if !(rms.is_normal() && largest < 1e12) {
            // Nothing can be told from a tensor of zeros or infinities.
            return Outcome::Failed(format!("the numbers have a root mean square of {rms}"));
        }
        let carried = self.carried(index, rms);
        self.of[index] = Some((carried + self.own(index, rms, largest), rms));
        // A sum may happen to be near zero or, of terms that are alike, far from it: its own terms say what its
        // partial sums were.
        let spread = alone.squares.iter().zip(&expected.values);
        let spread = spread.map(|(&squares, &y)| (f64::from(squares) + f64::from(y).powi(2)).sqrt());
        let mut own: Vec<f64> = spread.map(|spread| self.own(index, spread, largest)).collect();
        if own.is_empty() {
            own.push(self.own(index, rms, largest));
        }
        let allowed: Vec<f64> = own.iter().map(|own| carried + own).collect();
        let (mut error, mut part) = (0.0f64, 0.0f64);
        for (what, found, allowed) in [("in the network", found, allowed), ("alone", &alone.output[..], own)]
        {
            let plane = found.len() / allowed.len();
            for (at, (&found, &recorded)) in found.iter().zip(&expected.values).enumerate() {
                let off = (f64::from(found) - f64::from(recorded)).abs();
                let bound = allowed[at / plane];
                if off.is_nan() || off > bound {
                    return Outcome::Failed(format!(
                        "{} {what}: element {at} is {found}, onnxruntime {recorded} +- {bound:.2e}",
                        layer.kind
                    ));
                }
                if off > 0.0 {
                    (error, part) = (error.max(off / largest), part.max(off / bound));
                }
            }
        }
        Outcome::Passed { error, allowed: part, as_is: true }
    }

    /// The absolute error that a layer's own rounding may make, in two engines together: of sums of this spread,
    /// or of numbers up to the largest.
    fn own(&self, index: usize, spread: f64, largest: f64) -> f64 {
        let layer = &self.network.layers[index];
        let input = self.network.shape(layer.inputs[0]);
        let pointwise = |roundings: f64| roundings * U * largest;
        match &layer.kind {
            LayerKind::Conv(conv) => {
                rounding(input[0] / conv.groups * conv.kernel[0] * conv.kernel[1] + 1) * spread
            }
            LayerKind::Linear(_) => rounding(input.iter().product::<usize>() + 1) * spread,
            // Numbers of one sign, whose partial sums grow with the mean itself.
            LayerKind::AvgPool(pool) => rounding(pool.kernel[0] * pool.kernel[1]) * largest,
            LayerKind::GlobalAvgPool => rounding(input[1] * input[2]) * largest,
            // Either engine folds the four statistics into two numbers, multiplies and adds.
            LayerKind::BatchNorm { .. } => pointwise(8.0),
            LayerKind::Mul { .. } => pointwise(1.0),
            LayerKind::Add { .. } => pointwise(layer.inputs.len() as f64),
            // The sum of squares, the power and the division.
            LayerKind::Lrn(lrn) => pointwise((lrn.size + 8) as f64),
            // Exponentials of logits of at most 4 and the division, and the sum.
            LayerKind::Softmax { axis } => pointwise(16.0 + (input[*axis] as f64).sqrt()),
            _ => 0.0,
        }
    }

    /// The absolute error that a layer's inputs may bring.
    ///
    /// Weights of mean zero carry an error on as they carry the numbers, so its part of them stays the same;
    /// operators that compare, move, average or add up carry the error itself on.
    fn carried(&self, index: usize, rms: f64) -> f64 {
        let layer = &self.network.layers[index];
        let of = |input: &TensorRef| match *input {
            TensorRef::Input => (0.0, 1.0),
            TensorRef::Layer(source) => self.of[source].expect("layers stand in order of execution"),
        };
        let inputs: Vec<(f64, f64)> = layer.inputs.iter().map(of).collect();
        match &layer.kind {
            LayerKind::Conv(_)
            | LayerKind::Linear(_)
            | LayerKind::BatchNorm { .. }
            | LayerKind::Mul { .. }
            | LayerKind::Lrn(_) => {
                inputs.iter().map(|(allowed, rms)| allowed / rms).fold(0.0, f64::max) * rms
            }
            LayerKind::Add { .. } => inputs.iter().map(|(allowed, _)| allowed).sum(),
            // No probability moves by more than the largest change of a logit.
            _ => inputs.iter().map(|(allowed, _)| *allowed).fold(0.0, f64::max),
        }
    }
}

fn root_mean_square(values: &[f32]) -> f64 {
    let squares: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
    (squares / values.len() as f64).sqrt()
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
    let network = single(&[512, 40, 50], LayerKind::Conv(conv));
    let values: Vec<f32> = (0..2000).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let expected = Numbers { name: "layer".to_string(), shape: vec![1, 1, 40, 50], values };
    let judge = |change: f32| {
        let mut found = expected.values.clone();
        found[777] += change;
        // Of squares that are negligible the spread is the number itself.
        let alone = |output: &[f32]| Alone { output: output.to_vec(), squares: vec![0.0; 2000] };
        let in_network = Errors::new(&network).judge(0, &found, &alone(&expected.values), &expected);
        let alone = Errors::new(&network).judge(0, &expected.values, &alone(&found), &expected);
        [in_network, alone]
    };
    // 6 x 2^-24 x sqrt(512 x 9 + 1) = 2.4e-5 of a root mean square of 1.
    assert!(judge(2e-5).iter().all(|outcome| matches!(outcome, Outcome::Passed { .. })));
    for wrong in [3e-5, 1.0, f32::NAN] {
        for outcome in judge(wrong) {
            let Outcome::Failed(text) = outcome else { panic!("{wrong} passed") };
            assert!(text.contains("element 777"), "{text}");
        }
    }
}
