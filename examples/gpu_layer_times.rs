//! Times of the conv and linear layers of networks, each alone, as the product's backend executes them: our side of
//! `torch_layers.py`, which asks in turns with PyTorch. See docs/gpu-runs.md.
//!
//! `gpu_layer_times --device cuda --batch 64 networks/resnet50.toml networks/vgg16.toml`
//!
//! Each line of standard input is a command, each answer one line of JSON on standard output, `{"error": …}` where it
//! failed:
//!
//! | command | answer |
//! |---|---|
//! | `list` | device, batch and the layers, equal ones once |
//! | `prepare INDEX PRECISION LAYOUT` | algorithm, workspace, kernels; what was prepared before is freed |
//! | `time SAMPLES` | seconds of one execution of the prepared layer, so many means over 20 ms |
//! | `forget` | `null`; frees what is prepared |
//!
//! It ends with its input.

#![allow(clippy::print_stdout, reason = "the script reads our answers there")]

#[path = "gpu/alone.rs"]
mod alone;
#[path = "gpu/device.rs"]
mod device;

use std::io::{BufRead, Write};
use std::path::PathBuf;

use alone::{DistinctLayer, Running, distinct};
use anyhow::{Context, bail};
use clap::Parser;
use device::{DeviceArguments, layout, precision};
use layerjoule::backend::{Backend, Mark};
use layerjoule::clock::{Clock, Instant, MonotonicClock};
use layerjoule::network;
use serde_json::{Value, json};

/// Times layers as the product executes them, asked over standard input
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    device: DeviceArguments,
    /// Images in one pass
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Overrides a parameter of the network files that have it, as in size=64
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Network definitions
    #[arg(required = true)]
    networks: Vec<PathBuf>,
}

/// One mean is taken over this time: long against a launch and the resolution of marks.
const LEAST_S: f64 = 0.02;

struct Server {
    backend: Box<dyn Backend>,
    batch: usize,
    layers: Vec<DistinctLayer>,
    prepared: Option<Running>,
    clock: MonotonicClock,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let set = arguments.set.iter().map(|text| key_value(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let networks = arguments.networks.iter().map(|file| network::read(file, &set));
    let layers = distinct(&networks.collect::<Result<Vec<_>, _>>()?);
    let backend = arguments.device.open()?;
    let clock = MonotonicClock::start();
    let mut server = Server { backend, batch: arguments.batch, layers, prepared: None, clock };
    for line in std::io::stdin().lock().lines() {
        let answer = server.answer(&line?).unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

impl Server {
    fn answer(&mut self, line: &str) -> anyhow::Result<Value> {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["list"] => {
                let info = self.backend.info();
                Ok(json!({
                    "device": info.name, "uuid": info.uuid, "engine": info.engine, "emulated": info.emulated, "batch": self.batch,
                    "layers": self.layers.iter().map(DistinctLayer::description).collect::<Vec<_>>(),
                }))
            }
            ["prepare", index, precision_name, layout_name] => {
                // First the old one's memory: two large layers may not fit.
                self.prepared = None;
                let index: usize = index.parse().context("prepare: expected the index of a layer")?;
                let last = self.layers.len().saturating_sub(1);
                let layer = self
                    .layers
                    .get(index)
                    .with_context(|| format!("prepare: expected a layer from 0 to {last}, found {index}"))?;
                let (precision, layout) = (precision(precision_name)?, layout(layout_name)?);
                let running =
                    layer.prepare(self.backend.as_ref(), self.batch, precision, layout, &self.clock)?;
                let description = running.description();
                self.prepared = Some(running);
                Ok(description)
            }
            ["time", samples] => {
                let samples = samples.parse().context("time: expected a number of samples")?;
                let running = self.prepared.as_mut().context("time: nothing is prepared; `prepare` first")?;
                Ok(json!(times(running, samples, &self.clock)?))
            }
            ["forget"] => {
                self.prepared = None;
                Ok(Value::Null)
            }
            _ => bail!(
                "expected list, prepare INDEX PRECISION LAYOUT, time SAMPLES or forget; found \"{line}\""
            ),
        }
    }
}

fn key_value(text: &str) -> anyhow::Result<(String, i64)> {
    let (key, value) = text.split_once('=').context("--set: expected KEY=VALUE, as in size=64")?;
    Ok((key.to_string(), value.parse().with_context(|| format!("--set {text}: expected a whole number"))?))
}

/// Seconds of one execution: so many means over at least [`LEAST_S`] of work without a break.
fn times(running: &mut Running, samples: usize, clock: &dyn Clock) -> anyhow::Result<Vec<f64>> {
    let (mut times, mut bursts) = (Vec::with_capacity(samples), 1u32);
    while times.len() <= samples {
        running.executor().sync()?;
        let begin = running.executor().mark(clock)?;
        let mut executions = 0;
        for _ in 0..bursts {
            executions += running.start()?;
        }
        let end = running.executor().mark(clock)?;
        let begin = wait(running, begin, clock)?;
        let seconds = (wait(running, end, clock)? - begin).value();
        if seconds < LEAST_S && times.is_empty() {
            // 64 at most, since the first time of all may be far off.
            let more = (LEAST_S / seconds.max(LEAST_S / 64.0)).ceil();
            bursts = bursts.saturating_mul(more.max(2.0) as u32);
        } else {
            times.push(seconds / executions as f64);
        }
    }
    // The first may have met a device that slept.
    Ok(times.split_off(1))
}

/// When the device came past a mark. Asked without a pause, because a sleep would be part of the answer where the
/// device does not say when.
fn wait(running: &mut Running, mark: Mark, clock: &dyn Clock) -> anyhow::Result<Instant> {
    loop {
        if let Some(instant) = running.executor().passed(mark, clock)? {
            return Ok(instant);
        }
        std::hint::spin_loop();
    }
}
