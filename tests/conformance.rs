//! The CPU engine against the f64 reference: known numbers, random layers of every kind, random graphs.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod bounds;
mod graphs;
mod known;
mod layers;
mod peers;

use std::collections::BTreeMap;

use layerjoule::backend::cpu::{CpuBackend, Vectors};
use layerjoule::backend::{Backend, Executor, Tensors, WeightOptions, reference};
use layerjoule::network::{Definition, INPUT, LayerDefinition, LayerKind, Network, Origin, TensorRef};
use layerjoule::plan::{Plan, PlanOptions};

/// A layer by name, kind and the names it reads.
type Node = (String, LayerKind, Vec<String>);

fn network(input: &[usize], nodes: Vec<Node>) -> Network {
    let layers = nodes.into_iter().map(|(name, kind, inputs)| LayerDefinition {
        name,
        kind,
        inputs,
        origin: Origin::File,
        values: BTreeMap::new(),
        same_padding: false,
    });
    let definition = Definition {
        name: "test".to_string(),
        file: "test.toml".to_string(),
        sha256: String::new(),
        input: input.to_vec(),
        set: BTreeMap::new(),
        layers: layers.collect(),
    };
    Network::new(definition).unwrap()
}

/// A network of one layer that reads the input.
fn single(input: &[usize], kind: LayerKind) -> Network {
    network(input, vec![("layer".to_string(), kind, vec![INPUT.to_string()])])
}

/// Runs all steps twice, so that what a pass leaves behind meets the next one.
/// How the CPU engine runs.
#[derive(Debug, Clone, Copy)]
struct Engine {
    threads: usize,
    vectors: Vectors,
}

impl Engine {
    /// The vectors that the processor has.
    fn with(threads: usize) -> Self {
        Self { threads, vectors: Vectors::Widest }
    }
}

fn pass(network: &Network, plan: &Plan, tensors: &Tensors, engine: Engine) -> Box<dyn Executor> {
    let mut executor = pass_once(network, plan, tensors, engine);
    launch_all(plan, &mut *executor);
    executor
}

fn pass_once(network: &Network, plan: &Plan, tensors: &Tensors, engine: Engine) -> Box<dyn Executor> {
    let backend = CpuBackend::with_vectors(engine.threads, engine.vectors).unwrap();
    let mut executor = backend.prepare(network, plan, tensors).unwrap();
    launch_all(plan, &mut *executor);
    executor
}

fn launch_all(plan: &Plan, executor: &mut dyn Executor) {
    for step in 0..plan.steps.len() {
        executor.launch(step).unwrap();
        executor.sync().unwrap();
    }
}

/// What the engine left for a tensor; views lead to the tensor that they show.
fn engine_tensor(
    network: &Network,
    plan: &Plan,
    tensors: &Tensors,
    executor: &mut dyn Executor,
    tensor: TensorRef,
) -> Vec<f32> {
    match tensor {
        TensorRef::Input => tensors.input.clone(),
        TensorRef::Layer(index) => match plan.step_of_layer[index] {
            Some(step) => executor.output(step).unwrap(),
            None => engine_tensor(network, plan, tensors, executor, network.layers[index].inputs[0]),
        },
    }
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Holds every layer to the reference over what the engine itself fed it, so that errors of earlier layers
/// do not blur the bound; then holds a pass over reused buffers to the same bits.
pub(crate) fn check(network: &Network, batch: usize, threads: usize, seed: u64) {
    let tensors = Tensors::new(network, &WeightOptions { seed, batch }).unwrap();
    check_engine(network, batch, Engine::with(threads), &tensors);
    // The kernels for other processors, where that takes no time.
    let flops: u64 = network.layers.iter().map(|layer| layer.cost.flops).sum();
    if flops < 1_000_000 {
        for vectors in [Vectors::Avx2, Vectors::Scalar] {
            check_engine(network, batch, Engine { threads, vectors }, &tensors);
        }
    }
}

fn check_engine(network: &Network, batch: usize, engine: Engine, tensors: &Tensors) {
    let plan = Plan::new(network, &PlanOptions { batch, keep_all: true, ..PlanOptions::default() }).unwrap();
    let mut executor = pass(network, &plan, tensors, engine);
    for (index, layer) in network.layers.iter().enumerate() {
        let read = |t: &TensorRef| to_f64(&engine_tensor(network, &plan, tensors, &mut *executor, *t));
        let inputs: Vec<Vec<f64>> = layer.inputs.iter().map(read).collect();
        let inputs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
        let found = engine_tensor(network, &plan, tensors, &mut *executor, TensorRef::Layer(index));
        let parameters = &tensors.parameters[index];
        let expected = reference::layer_output(network, index, &inputs, parameters, batch);
        let bounds = bounds::rounding(network, index, &inputs, parameters, batch, &expected);
        let algorithm = plan.step_of_layer[index].map_or("view", |step| executor.algorithm(step)).to_string();
        let what = format!("{} ({}) by {algorithm}, {engine:?}", layer.name, layer.kind);
        bounds::assert_within(&what, &found, &expected, &bounds);
    }
    check_fused(network, batch, engine, tensors);
    let reused = Plan::new(network, &PlanOptions { batch, ..PlanOptions::default() }).unwrap();
    let mut again = pass(network, &reused, tensors, engine);
    for result in results(network) {
        let kept = engine_tensor(network, &plan, tensors, &mut *executor, result);
        let shared = engine_tensor(network, &reused, tensors, &mut *again, result);
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&kept), bits(&shared), "reused buffers changed a result");
    }
}

/// Holds every step of a fused plan to the reference of its layers, over what the engine itself fed the step.
fn check_fused(network: &Network, batch: usize, engine: Engine, tensors: &Tensors) {
    let plan =
        Plan::new(network, &PlanOptions { batch, keep_all: true, fuse: true, ..PlanOptions::default() })
            .unwrap();
    let mut executor = pass(network, &plan, tensors, engine);
    for (index, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.layers.len() > 1) {
        // What the layers of the step hand to each other, and how far rounding may move it.
        let mut inner: Vec<(usize, Vec<f64>, Vec<f64>)> = Vec::new();
        for &layer in &step.layers {
            let known = |t: &TensorRef| inner.iter().find(|(of, ..)| *t == TensorRef::Layer(*of));
            let inputs: Vec<(Vec<f64>, Vec<f64>)> = network.layers[layer]
                .inputs
                .iter()
                .map(|t| match known(t) {
                    Some((_, values, bounds)) => (values.clone(), bounds.clone()),
                    None => {
                        let values = to_f64(&engine_tensor(network, &plan, tensors, &mut *executor, *t));
                        let exact = vec![0.0; values.len()];
                        (values, exact)
                    }
                })
                .collect();
            let values: Vec<&[f64]> = inputs.iter().map(|(values, _)| values.as_slice()).collect();
            let parameters = &tensors.parameters[layer];
            let expected = reference::layer_output(network, layer, &values, parameters, batch);
            let own = bounds::rounding(network, layer, &values, parameters, batch, &expected);
            let bounds = bounds::carried(network, layer, &inputs, parameters, &own);
            inner.push((layer, expected, bounds));
        }
        let (last, expected, bounds) = inner.pop().unwrap();
        let found = executor.output(index).unwrap();
        let what =
            format!("{} fused up to {}", network.layers[step.layers[0]].name, network.layers[last].name);
        bounds::assert_within(&what, &found, &expected, &bounds);
    }
}

/// The layers that no other layer reads.
fn results(network: &Network) -> Vec<TensorRef> {
    let read = |t: &TensorRef| network.layers.iter().any(|l| l.inputs.contains(t));
    (0..network.layers.len()).map(TensorRef::Layer).filter(|t| !read(t)).collect()
}
