//! Steps that are repeated behind the steps before them, in copies of their memory that take turns, against what the
//! pass computes.

use layerjoule::backend::cuda::{CudaBackend, Mixed};
use layerjoule::backend::{Mix, Tensors, WeightOptions};
use layerjoule::network::{Network, parse};
use layerjoule::plan::{Layout, Plan, PlanOptions, Precision};

use super::check::{Line, Verdict};

/// A residual block between other kinds of layers, so that a tensor outlives the next step and the plan uses buffers
/// again, with parameters of every form.
const BLOCK: &str = r#"
name = "mixes of a residual block"
input = [3, 6, 6]
[[layer]]
name = "stem"
kind = "conv"
out_channels = 8
kernel = 3
padding = 1
[[layer]]
name = "norm"
kind = "batch_norm"
[[layer]]
name = "first"
kind = "relu"
[[layer]]
name = "conv"
kind = "conv"
out_channels = 8
kernel = 1
[[layer]]
name = "sum"
kind = "add"
inputs = ["conv", "first"]
[[layer]]
name = "last"
kind = "relu"
[[layer]]
kind = "flatten"
[[layer]]
name = "linear"
kind = "linear"
out_features = 10
"#;

/// Elements that differ by more than this part of the largest are wrong: the same kernels ran on the same numbers, and
/// only the order of their sums may differ.
const TOLERANCE: f32 = 1e-3;

/// The name that `--only` knows.
pub(crate) const NAME: &str = "mixes of a residual block";

fn network() -> Network {
    parse("mixes.toml".as_ref(), BLOCK.as_bytes(), &[]).unwrap_or_else(|error| panic!("{error}"))
}

/// Every excerpt on fresh buffers, those of three steps also on the same ones, and two with each step as a filler.
fn mixes(steps: usize) -> Vec<Mix> {
    let mut mixes = Vec::new();
    for first in 0..steps {
        mixes.extend((first..steps).map(|last| Mix::of(first, last, true)));
        mixes.push(Mix::of(first, (first + 2).min(steps - 1), false));
        mixes.push(Mix::of(first, first, false));
    }
    for filler in 0..steps {
        mixes.push(Mix { times: 2, filler: Some((filler, 3)), ..Mix::of(2, 4, true) });
        mixes.push(Mix { filler: Some((filler, 1)), ..Mix::of(1, 3, false) });
    }
    mixes
}

/// What a line says of a mix, before what it came to.
fn words(mix: &Mix) -> String {
    let Mix { first, last, fresh, times, filler } = mix;
    let filler = filler.map_or(String::new(), |(step, times)| format!(", then step {step} x {times}"));
    format!("steps {first} to {last}{} x {times}{filler}", if *fresh { " fresh" } else { "" })
}

/// Holds every copy of every mix to the pass.
pub(crate) fn check(
    backend: &CudaBackend,
    precision: Precision,
    layout: Layout,
) -> Result<Vec<Line>, String> {
    let network = network();
    let fail = |error: &dyn std::fmt::Display| format!("{NAME}: {error}");
    let options = PlanOptions { batch: 3, precision, layout, ..PlanOptions::default() };
    let plan = Plan::new(&network, &options).map_err(|error| fail(&error))?;
    if plan.buffers.len() >= plan.steps.len() {
        return Err(fail(&"the plan uses no buffer again"));
    }
    let weights = WeightOptions { seed: 7, batch: 3 };
    let tensors = Tensors::new(&network, &weights).map_err(|error| fail(&error))?;
    let mixes = mixes(plan.steps.len());
    let found = backend.mixed(&network, &plan, &tensors, &mixes).map_err(|error| fail(&error))?;
    let lines = mixes.iter().zip(&found).map(|(mix, mixed)| {
        let (verdict, text) = match wrong(mixed) {
            Some(wrong) => (Verdict::Wrong, wrong),
            None => (Verdict::Agrees, come_to(mixed)),
        };
        Line { text: format!("{NAME} | {precision} {layout} | {}: {text}", words(mix)), verdict }
    });
    Ok(lines.collect())
}

fn come_to(mixed: &Mixed) -> String {
    let Mixed { unit, each, outputs, fillers, notes, .. } = mixed;
    let (copies, fillers) = (outputs.len(), fillers.len());
    let notes: String = notes.iter().map(|note| format!(" ({note})")).collect();
    format!("{copies} and {fillers} copies, {unit} of {:.3} us{notes}", each.value() * 1e6)
}

/// The first copy that has something else than the pass.
fn wrong(mixed: &Mixed) -> Option<String> {
    for (outputs, expected) in [&mixed.outputs, &mixed.fillers].into_iter().zip(&mixed.expected) {
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (copy, output) in outputs.iter().enumerate() {
            let close = |(found, expected): (&f32, &f32)| (found - expected).abs() <= largest * TOLERANCE;
            let differs = output.iter().zip(expected).position(|pair| !close(pair));
            if let Some(at) = differs {
                let (found, expected) = (output[at], expected[at]);
                return Some(format!("copy {copy}, element {at}: {found}, expected {expected}"));
            }
            if output.len() != expected.len() {
                return Some(format!("expected {} elements, found {}", expected.len(), output.len()));
            }
        }
    }
    None
}
