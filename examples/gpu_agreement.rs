//! Whether two recorded runs of one network agree within their intervals: every signature, every kind and the pass.
//!
//! `gpu_agreement RUN RUN` prints a row for each energy and a summary as JSON in its last line. Exits with 1 where they
//! differ, all of them taken together at 95 % (docs/measuring.md, self-check).

#![allow(clippy::print_stdout, reason = "its output is its result")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use layerjoule::attribution::{EnergyPair, energy_pairs, family_confidence};
use layerjoule::profile::TRACE_FILE;
use layerjoule::trace::{Trace, read_trace};
use serde_json::json;

/// Compares two runs by their intervals
#[derive(Debug, Parser)]
struct Arguments {
    /// The directory of a run
    first: PathBuf,
    /// That of another run of the same network
    second: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let [first, second] = [complete(&arguments.first)?, complete(&arguments.second)?];
    same(&first, &second)?;
    let pairs = energy_pairs(&first, &second);
    ensure!(!pairs.is_empty(), "the runs have no energy in common: none has two windows of one layer");
    let confidence = family_confidence(pairs.len());
    for pair in &pairs {
        let difference = pair.difference();
        println!(
            "{:32} {:12.6e} J {:12.6e} J  {:+7.2} % ± {:.2} %  {}",
            pair.name,
            pair.first.value,
            pair.second.value,
            difference.value / pair.first.value * 100.0,
            difference.half_width(confidence) / pair.first.value.abs() * 100.0,
            if pair.agrees(confidence) { "agrees" } else { "DIFFERS" }
        );
    }
    let differing: Vec<&str> =
        pairs.iter().filter(|pair| !pair.agrees(confidence)).map(|pair| pair.name.as_str()).collect();
    println!(
        "{}",
        json!({
            "schema": "layerjoule.gpu-agreement/1", "network": first.header.network.name,
            "seeds": [first.header.options.seed, second.header.options.seed], "energies": pairs.len(),
            "agree_each_at_95_percent": pairs.iter().filter(|pair| pair.agrees(0.95)).count(),
            "median_half_width": median_half_width(&pairs), "differ_all_at_95_percent": differing, "agree": differing.is_empty(),
        })
    );
    Ok(if differing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Median over the energies of the difference's half width at 95 %, as a share of the energy: runs whose intervals are
/// wide agree whatever they say.
fn median_half_width(pairs: &[EnergyPair]) -> f64 {
    let width = |pair: &EnergyPair| pair.difference().half_width(0.95) / pair.first.value.abs();
    let mut widths: Vec<f64> = pairs.iter().map(width).collect();
    widths.sort_by(f64::total_cmp);
    widths[widths.len() / 2]
}

fn complete(run: &Path) -> anyhow::Result<Trace> {
    let path = run.join(TRACE_FILE);
    let trace = read_trace(&path)?;
    ensure!(trace.complete, "{}: the run is unfinished; give its command once more", path.display());
    Ok(trace)
}

/// Two runs of different work cannot agree.
fn same(first: &Trace, second: &Trace) -> anyhow::Result<()> {
    let (a, b) = (&first.header, &second.header);
    let differs = [
        ("network", a.network.sha256 != b.network.sha256),
        ("batch", a.network.batch != b.network.batch),
        ("list of signatures", a.signatures != b.signatures),
        ("device", a.device.name != b.device.name),
    ];
    let differs = differs.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what);
    differs
        .map_or(Ok(()), Err)
        .map_err(|what| anyhow::anyhow!("another {what}"))
        .context("two different runs")
}
