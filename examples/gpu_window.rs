//! The joules of one long window by the product's NVML meter: a layer runs again and again between two readings, each
//! taken where the counter has just moved. `energy_window.py` reads the same counter beside it. See docs/gpu-runs.md.
//!
//! `gpu_window --device cuda --network networks/resnet50.toml --seconds 20`

#![allow(clippy::print_stdout, reason = "the script reads our answer there")]

#[path = "gpu/alone.rs"]
mod alone;
#[path = "gpu/device.rs"]
mod device;

use std::collections::VecDeque;
use std::path::PathBuf;

use alone::{Running, distinct};
use anyhow::{Context, bail, ensure};
use clap::Parser;
use device::{DeviceArguments, layout, precision};
use layerjoule::backend::Mark;
use layerjoule::clock::{Clock, Instant, MonotonicClock};
use layerjoule::meter::nvml::{Among, GpuSelector, nvml_meters};
use layerjoule::meter::{Meter, MeterCandidate, ReadError};
use layerjoule::network;
use layerjoule::units::{Joules, Seconds};
use serde_json::json;

/// Measures one layer in a loop with NVML
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    device: DeviceArguments,
    /// The network that the layer is from
    #[arg(long)]
    network: PathBuf,
    /// The layer, by the end of its name; the first conv without
    #[arg(long, default_value = "")]
    layer: String,
    /// Images in one pass
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Number format
    #[arg(long, default_value = "bf16")]
    precision: String,
    /// Order of axes
    #[arg(long, default_value = "nhwc")]
    layout: String,
    /// Least length of the window
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Load before the window
    #[arg(long, default_value_t = 3.0)]
    settle: f64,
    /// What reads the energy
    #[arg(long, default_value = "nvml")]
    meter: String,
    /// Reads GPUs through FILE instead of the driver's libnvidia-ml.so.1
    #[arg(long, value_name = "FILE")]
    nvml_lib: Option<PathBuf>,
}

/// Bursts that wait in the device's queue: one that runs, one that follows.
const QUEUED: usize = 2;
/// Between two looks at the counter.
const LOOK: Seconds = Seconds::new(1e-3);
/// A counter that does not move for so long is broken.
const STILL: Seconds = Seconds::new(3.0);

/// A reading right after the counter moved.
struct Edge {
    /// Between the reading that still showed the old count and this one.
    after: Instant,
    before: Instant,
    energy: Joules,
    /// Executions that the device had finished.
    executions: u64,
}

/// A layer that keeps its device busy, and the meter that watches it.
struct Load {
    running: Running,
    queue: VecDeque<(Mark, u64)>,
    finished: u64,
    meter: Box<dyn Meter>,
    clock: MonotonicClock,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.seconds > 0.0 && arguments.seconds <= 3600.0 && (0.0..=3600.0).contains(&arguments.settle),
        "--seconds and --settle: expected up to an hour, found {} and {}",
        arguments.seconds,
        arguments.settle
    );
    let layers = distinct(&[network::read(&arguments.network, &[])?]);
    let layer = layers.iter().find(|layer| layer.name.ends_with(&arguments.layer));
    let layer = layer.with_context(|| {
        format!(
            "--layer: {} has no conv or linear layer \"{}\", or an earlier one is equal",
            arguments.network.display(),
            arguments.layer
        )
    })?;
    let backend = arguments.device.open()?;
    let clock = MonotonicClock::start();
    let gpu = backend.info().uuid.map_or(GpuSelector::Index(0), GpuSelector::Uuid);
    let candidates = nvml_meters(arguments.nvml_lib.as_deref(), &gpu, Among::Selected, &clock);
    let (record, emulated, meter) = meter(candidates, &arguments.meter)?;
    let (precision, layout) = (precision(&arguments.precision)?, layout(&arguments.layout)?);
    let running = layer.prepare(backend.as_ref(), arguments.batch, precision, layout, &clock)?;
    let description = running.description();
    let mut load = Load { running, queue: VecDeque::new(), finished: 0, meter, clock };
    load.run_until(clock.now() + Seconds::new(arguments.settle))?;
    let begin = load.edge()?;
    load.run_until(begin.before + Seconds::new(arguments.seconds))?;
    let end = load.edge()?;
    load.running.executor().sync()?;

    let unix = |instant: Instant| (clock.origin_unix() + instant.since_origin()).value();
    let (seconds, joules) = (end.before - begin.before, end.energy - begin.energy);
    println!(
        "{}",
        json!({
            "schema": "layerjoule.gpu-window/1", "device": backend.info().name, "uuid": backend.info().uuid,
            "layer": layer.description(), "batch": arguments.batch, "precision": precision.name(),
            "layout": layout.name(), "prepared": description, "meter": record, "emulated": emulated || backend.info().emulated,
            "begin_unix_s": unix(begin.before), "end_unix_s": unix(end.before),
            "edges_s": [(begin.before - begin.after).value(), (end.before - end.after).value()],
            "seconds": seconds.value(), "joules": joules.value(), "watts": (joules / seconds).value(),
            "executions": end.executions - begin.executions,
        })
    );
    Ok(())
}

/// The meter with an id, or the reason why it cannot be used.
fn meter(
    candidates: Vec<MeterCandidate>,
    id: &str,
) -> anyhow::Result<(layerjoule::trace::MeterRecord, bool, Box<dyn Meter>)> {
    let known: Vec<String> = candidates.iter().map(|candidate| candidate.record.id.clone()).collect();
    let Some(candidate) = candidates.into_iter().find(|candidate| candidate.record.id == id) else {
        bail!("--meter: expected one of {}, found \"{id}\"", known.join(", "));
    };
    match candidate.meter {
        Some(meter) => Ok((candidate.record, candidate.emulated, meter)),
        None => bail!("--meter {id}: {}", candidate.record.reason.unwrap_or_default()),
    }
}

impl Load {
    /// Keeps the device's queue filled; returns without waiting for it.
    fn feed(&mut self) -> anyhow::Result<()> {
        while let Some(&(mark, executions)) = self.queue.front() {
            if self.running.executor().passed(mark, &self.clock)?.is_none() {
                break;
            }
            self.finished += executions;
            self.queue.pop_front();
        }
        while self.queue.len() < QUEUED {
            let executions = self.running.start()?;
            let mark = self.running.executor().mark(&self.clock)?;
            self.queue.push_back((mark, executions));
        }
        Ok(())
    }

    fn run_until(&mut self, deadline: Instant) -> anyhow::Result<()> {
        while self.clock.now() < deadline {
            self.feed()?;
            self.clock.sleep_until(self.clock.now() + LOOK);
        }
        Ok(())
    }

    /// Runs until the counter moves.
    fn edge(&mut self) -> anyhow::Result<Edge> {
        let begin = self.clock.now();
        let (mut after, old) = (begin, self.read()?);
        loop {
            self.feed()?;
            let before = self.clock.now();
            let energy = self.read()?;
            if energy != old {
                return Ok(Edge { after, before, energy, executions: self.finished });
            }
            ensure!(before - begin < STILL, "the meter has not moved for {} s under load", STILL.value());
            after = before;
            self.clock.sleep_until(before + LOOK);
        }
    }

    fn read(&mut self) -> anyhow::Result<Joules> {
        let begin = self.clock.now();
        loop {
            match self.meter.read(self.clock.now()) {
                Err(ReadError::Retry(_)) if self.clock.now() - begin < STILL => {
                    self.clock.sleep_until(self.clock.now() + LOOK);
                }
                read => return Ok(read?),
            }
        }
    }
}
