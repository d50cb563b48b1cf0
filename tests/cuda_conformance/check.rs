//! Each way of computing each layer of a case, against the f64 reference.

use std::sync::Arc;

use half::{bf16, f16};
use layerjoule::backend::cuda::CudaBackend;
use layerjoule::backend::{Tensors, WeightOptions, reference};
use layerjoule::network::{Network, Role, TensorRef};
use layerjoule::plan::{Layout, Plan, PlanOptions, Precision};

use super::cases::Case;
use super::tolerance::tolerances;

/// What one way of computing one layer came to.
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) verdict: Verdict,
}

/// How it compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Agrees,
    /// The library refused when it was called: another way has to serve.
    Refused,
    Wrong,
}

/// The number that a type stores.
fn stored(value: f32, precision: Precision) -> f32 {
    match precision {
        Precision::F32 | Precision::Tf32 => value,
        Precision::F16 => f16::from_f32(value).to_f32(),
        Precision::Bf16 => bf16::from_f32(value).to_f32(),
    }
}

/// Numbers as the device stores them: what it reads is then exactly what the reference reads.
fn tensors(case: &Case, precision: Precision) -> Result<Tensors, String> {
    let options = WeightOptions { seed: 7, batch: case.batch };
    let mut tensors = Tensors::new(&case.network, &options).map_err(|error| error.to_string())?;
    tensors.input.iter_mut().for_each(|value| *value = stored(*value, precision));
    let layers = tensors.parameters.iter_mut().zip(&case.network.layers);
    for (values, parameter) in layers.flat_map(|(values, layer)| values.iter_mut().zip(&layer.parameters)) {
        // Vectors of normalisations are f32; a bias is read as f32 by some ways and as stored by others.
        if matches!(parameter.role, Role::Weight | Role::Bias | Role::Operand) {
            *values = values.iter().map(|&value| stored(value, precision)).collect::<Arc<[f32]>>();
        }
    }
    Ok(tensors)
}

/// Holds every way of every step to the reference, over what the reference itself makes of the steps before.
pub(crate) fn check(
    backend: &CudaBackend,
    case: &Case,
    precision: Precision,
    layout: Layout,
) -> Result<Vec<Line>, String> {
    let Case { name, network, batch } = case;
    let tensors = tensors(case, precision)?;
    let options = PlanOptions { batch: *batch, keep_all: true, precision, layout, ..PlanOptions::default() };
    let plan = Plan::new(network, &options).map_err(|error| error.to_string())?;
    let mut outputs: Vec<Vec<f32>> = Vec::new();
    let mut lines = Vec::new();
    for (index, layer) in network.layers.iter().enumerate() {
        let read = |tensor: &TensorRef| match *tensor {
            TensorRef::Input => tensors.input.clone(),
            TensorRef::Layer(layer) => outputs[layer].clone(),
        };
        let inputs: Vec<Vec<f32>> = layer.inputs.iter().map(read).collect();
        let exact: Vec<Vec<f64>> =
            inputs.iter().map(|values| values.iter().map(|&value| f64::from(value)).collect()).collect();
        let exact: Vec<&[f64]> = exact.iter().map(Vec::as_slice).collect();
        let parameters = &tensors.parameters[index];
        let expected = reference::layer_output(network, index, &exact, parameters, *batch);
        if let Some(step) = plan.step_of_layer[index] {
            let bounds = tolerances(network, index, &exact, parameters, *batch, precision, &expected);
            let ways = backend.ways(network, &plan, &tensors, step, &inputs);
            let ways = ways.map_err(|error| format!("{name}, {}: {error}", layer.kind))?;
            lines.extend(ways.into_iter().map(|way| {
                let what = format!("{name} | {} | {precision} {layout} | {}", layer.kind, way.name);
                line(what, &way.output, &expected, &bounds)
            }));
            if !lines.iter().any(|line| line.verdict == Verdict::Agrees) {
                return Err(format!("{name}, {}: no way works", layer.kind));
            }
        }
        outputs.push(expected.iter().map(|&value| stored(value as f32, precision)).collect());
    }
    lines.push(chosen(backend, network, &plan, &tensors, name)?);
    Ok(lines)
}

fn line(what: String, output: &Result<Vec<f32>, String>, expected: &[f64], bounds: &[f64]) -> Line {
    match output {
        Err(refusal) => Line { text: format!("{what}: {refusal}"), verdict: Verdict::Refused },
        Ok(found) => {
            let (text, verdict) = compared(found, expected, bounds);
            Line { text: format!("{what}: {text}"), verdict }
        }
    }
}

/// The worst element: how much of its tolerance its error takes.
fn compared(found: &[f32], expected: &[f64], bounds: &[f64]) -> (String, Verdict) {
    if found.len() != expected.len() {
        return (format!("expected {} elements, found {}", expected.len(), found.len()), Verdict::Wrong);
    }
    let mut worst = (0.0, String::new());
    for (index, ((&found, &expected), &bound)) in found.iter().zip(expected).zip(bounds).enumerate() {
        let error = (f64::from(found) - expected).abs();
        let share = if error == 0.0 { 0.0 } else { error / bound };
        // A NaN is never less.
        // A share that is no number is the worst.
        if share.is_nan() || share > worst.0 {
            worst = (
                if share.is_nan() { f64::INFINITY } else { share },
                format!("element {index}: {found}, expected {expected} +- {bound:.1e}"),
            );
        }
    }
    if worst.0 <= 1.0 {
        (format!("within {:.0} % of the tolerance", worst.0 * 100.0), Verdict::Agrees)
    } else {
        (worst.1, Verdict::Wrong)
    }
}

/// The whole network as it is profiled, by the ways that were measured to be the fastest: each step against the
/// reference over what the device itself fed it.
fn chosen(
    backend: &CudaBackend,
    network: &Network,
    plan: &Plan,
    tensors: &Tensors,
    name: &str,
) -> Result<Line, String> {
    use layerjoule::backend::Backend as _;
    let fail = |error: layerjoule::backend::BackendError| format!("{name}: {error}");
    let mut executor = backend.prepare(network, plan, tensors).map_err(fail)?;
    for step in 0..plan.steps.len() {
        executor.launch(step).map_err(fail)?;
    }
    executor.sync().map_err(fail)?;
    let mut outputs: Vec<Vec<f64>> = Vec::new();
    let input: Vec<f64> = tensors.input.iter().map(|&value| f64::from(value)).collect();
    for (index, layer) in network.layers.iter().enumerate() {
        let exact: Vec<&[f64]> = layer
            .inputs
            .iter()
            .map(|tensor| match *tensor {
                TensorRef::Input => input.as_slice(),
                TensorRef::Layer(layer) => outputs[layer].as_slice(),
            })
            .collect();
        let parameters = &tensors.parameters[index];
        let expected = reference::layer_output(network, index, &exact, parameters, plan.batch);
        let Some(step) = plan.step_of_layer[index] else {
            outputs.push(expected);
            continue;
        };
        let bounds = tolerances(network, index, &exact, parameters, plan.batch, plan.precision, &expected);
        let found = executor.output(step).map_err(fail)?;
        let (text, verdict) = compared(&found, &expected, &bounds);
        if verdict == Verdict::Wrong {
            let what = format!("{name} | {} | as profiled by {}", layer.kind, executor.algorithm(step));
            return Ok(Line { text: format!("{what}: {text}"), verdict });
        }
        outputs.push(found.iter().map(|&value| f64::from(value)).collect());
    }
    let text = format!("{name} | {} {} | as profiled: all steps agree", plan.precision, plan.layout);
    Ok(Line { text, verdict: Verdict::Agrees })
}
