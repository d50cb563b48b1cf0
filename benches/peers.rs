//! The CPU engine's side of `cargo xtask bench-peers`: a server on stdin and stdout, so that one script can run
//! us and a peer in turns. Its argument is the number of threads.
//!
//! Each line is a command with words between spaces, each answer one line of JSON:
//! `conv N C H W K R STRIDE PADDING`, `network FILE BATCH plain|fused` prepare something and answer its index;
//! `describe FILE` answers the network as ONNX operators; `run INDEX SECONDS` answers the times of passes in
//! milliseconds, `steps INDEX` what each step does and takes; `forget` frees everything prepared; `quit` ends.

#![allow(clippy::print_stdout, reason = "the script reads our answers there")]

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use layerjoule::backend::cpu::CpuBackend;
use layerjoule::backend::{Backend, Executor, Tensors, WeightOptions};
use layerjoule::clock::{Clock, MonotonicClock};
use layerjoule::network::{
    self, Activation, Conv, Definition, INPUT, Layer, LayerDefinition, LayerKind, Network, Origin, Pool,
    TensorRef,
};
use layerjoule::plan::{Plan, PlanOptions};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Something to time.
struct Prepared {
    executor: Box<dyn Executor>,
    /// The signature of each step.
    work: Vec<String>,
}

fn main() -> Result<()> {
    // `cargo bench` without the script behind it: there is nothing to answer.
    if std::env::args().any(|argument| argument == "--bench") {
        println!("run `cargo xtask bench-peers`");
        return Ok(());
    }
    let threads = std::env::args().nth(1).map_or(Ok(2), |n| n.parse())?;
    let backend = CpuBackend::new(threads)?;
    let mut prepared: Vec<Option<Prepared>> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["conv", sizes @ ..] => {
                let sizes =
                    sizes.iter().map(|s| s.parse()).collect::<std::result::Result<Vec<usize>, _>>()?;
                let sizes = <[usize; 8]>::try_from(sizes).map_err(|_| "conv: expected 8 numbers")?;
                prepared.push(Some(prepare(&backend, &single_conv(sizes)?, sizes[0], false)?));
                json!(prepared.len() - 1)
            }
            ["network", file, batch, plan] => {
                let network = network::read(Path::new(file), &[])?;
                prepared.push(Some(prepare(&backend, &network, batch.parse()?, *plan == "fused")?));
                json!(prepared.len() - 1)
            }
            ["describe", file] => describe(&network::read(Path::new(file), &[])?)?,
            ["run", index, seconds] => {
                let index: usize = index.parse()?;
                let one = prepared
                    .get_mut(index)
                    .and_then(Option::as_mut)
                    .ok_or("run: nothing is prepared there")?;
                json!(run(one, seconds.parse()?)?)
            }
            ["steps", index] => {
                let one = prepared.get_mut(index.parse::<usize>()?).and_then(Option::as_mut);
                json!(steps(one.ok_or("steps: nothing is prepared there")?)?)
            }
            ["forget"] => {
                // Only the memory: indices go on counting.
                prepared.iter_mut().for_each(|one| *one = None);
                json!(null)
            }
            ["quit"] => break,
            _ => return Err(format!("unknown command: {line}").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

fn prepare(backend: &CpuBackend, network: &Network, batch: usize, fuse: bool) -> Result<Prepared> {
    let plan = Plan::new(network, &PlanOptions { batch, fuse, ..PlanOptions::default() })?;
    let tensors = Tensors::new(network, &WeightOptions { seed: 1, batch })?;
    let executor = backend.prepare(network, &plan, &tensors)?;
    let work = plan.steps.iter().map(|step| plan.signatures[step.signature].text.clone()).collect();
    Ok(Prepared { executor, work })
}

/// Whole passes until the time is up; at least three.
fn run(prepared: &mut Prepared, seconds: f64) -> Result<Vec<f64>> {
    let clock = MonotonicClock::start();
    let begin = clock.now();
    let mut times = Vec::new();
    while times.len() < 3 || (clock.now() - begin).value() < seconds {
        let start = clock.now();
        for step in 0..prepared.work.len() {
            prepared.executor.launch(step)?;
        }
        prepared.executor.sync()?;
        times.push((clock.now() - start).value() * 1e3);
    }
    Ok(times)
}

/// Of each step: what it does, the algorithm, and its median time in microseconds over some passes.
fn steps(prepared: &mut Prepared) -> Result<Vec<(String, String, f64)>> {
    let clock = MonotonicClock::start();
    let mut times = vec![Vec::new(); prepared.work.len()];
    for _ in 0..31 {
        for (step, times) in times.iter_mut().enumerate() {
            let start = clock.now();
            prepared.executor.launch(step)?;
            times.push((clock.now() - start).value() * 1e6);
        }
    }
    let describe = |(step, mut times): (usize, Vec<f64>)| {
        times.sort_by(f64::total_cmp);
        let algorithm = prepared.executor.algorithm(step).to_string();
        (prepared.work[step].clone(), algorithm, times[times.len() / 2])
    };
    Ok(times.into_iter().enumerate().map(describe).collect())
}

fn single_conv([_, c, h, w, k, r, stride, padding]: [usize; 8]) -> Result<Network> {
    let kind = LayerKind::Conv(Conv {
        out_channels: k,
        kernel: [r; 2],
        stride: [stride; 2],
        padding: [padding; 4],
        dilation: [1; 2],
        groups: 1,
        bias: false,
    });
    let layer = LayerDefinition {
        name: "conv".to_string(),
        kind,
        inputs: vec![INPUT.to_string()],
        origin: Origin::File,
        values: BTreeMap::new(),
        same_padding: false,
    };
    let [name, file, sha256] = ["conv", "conv.toml", ""].map(str::to_string);
    let definition =
        Definition { name, file, sha256, input: vec![c, h, w], set: BTreeMap::new(), layers: vec![layer] };
    Ok(Network::new(definition)?)
}

/// The network as ONNX operators: name, operator, inputs, attributes and the shapes of the stored tensors.
fn describe(network: &Network) -> Result<Value> {
    let name = |tensor: TensorRef| match tensor {
        TensorRef::Input => INPUT.to_string(),
        TensorRef::Layer(index) => network.layers[index].name.clone(),
    };
    let layers = network.layers.iter().map(|layer| {
        let (operator, attributes) = operator(layer)?;
        Ok(json!({
            "name": layer.name,
            "operator": operator,
            "attributes": attributes,
            "inputs": layer.inputs.iter().map(|&tensor| name(tensor)).collect::<Vec<_>>(),
            "stored": layer.parameters.iter().map(|p| &p.shape).collect::<Vec<_>>(),
        }))
    });
    Ok(json!({ "input": network.input, "layers": layers.collect::<Result<Vec<_>>>()? }))
}

fn operator(layer: &Layer) -> Result<(&'static str, Value)> {
    let window = |pool: &Pool| {
        json!({
            "kernel_shape": pool.kernel,
            "strides": pool.stride,
            "pads": pool.padding,
            "ceil_mode": i64::from(pool.ceil_mode),
        })
    };
    Ok(match &layer.kind {
        LayerKind::Conv(conv) => (
            "Conv",
            json!({
                "kernel_shape": conv.kernel,
                "strides": conv.stride,
                "pads": conv.padding,
                "dilations": conv.dilation,
                "group": conv.groups,
            }),
        ),
        LayerKind::Linear(_) => ("Gemm", json!({ "transB": 1 })),
        LayerKind::BatchNorm { epsilon } => ("BatchNormalization", json!({ "epsilon": epsilon })),
        LayerKind::Activation(Activation::Relu) => ("Relu", json!({})),
        LayerKind::Activation(Activation::Relu6) => ("Clip", json!({ "limits": [0.0, 6.0] })),
        LayerKind::MaxPool(pool) => ("MaxPool", window(pool)),
        LayerKind::AvgPool(pool) => {
            let mut attributes = window(pool);
            attributes["count_include_pad"] = json!(i64::from(pool.count_include_pad));
            ("AveragePool", attributes)
        }
        LayerKind::GlobalAvgPool => ("GlobalAveragePool", json!({})),
        LayerKind::Add { operand: None } => ("Add", json!({})),
        LayerKind::Concat { axis } => ("Concat", json!({ "axis": axis + 1 })),
        LayerKind::Flatten => ("Flatten", json!({ "axis": 1 })),
        LayerKind::Dropout { .. } => ("Identity", json!({})),
        LayerKind::Softmax { axis } => ("Softmax", json!({ "axis": axis + 1 })),
        kind => return Err(format!("{}: {} is not described yet", layer.name, kind.name()).into()),
    })
}
