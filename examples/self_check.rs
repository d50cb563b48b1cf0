//! Measures the profiler with itself, on this machine and its meters: a null run, whose power above idle must be
//! zero within its interval, and two runs of one network (A/A), whose energies must agree within theirs.
//!
//! `cargo run --release --example self_check -- networks/lenet5.toml [ROUNDS]`
//!
//! Exits with 1 where they do not. See docs/measuring.md, self-check.

#![allow(clippy::print_stdout, reason = "its output is its result")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use layerjoule::attribution::{energy_pairs, family_confidence};
use layerjoule::meter::MeterChoice;
use layerjoule::profile::{
    DeviceChoice, Hooks, NullOptions, ProfileOptions, TRACE_FILE, Timing, null_run, profile,
};
use layerjoule::trace::{Trace, read_trace};

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let network = PathBuf::from(arguments.next().unwrap_or("networks/lenet5.toml".to_string()));
    let rounds = arguments.next().map_or(Ok(5), |n| n.parse())?;
    let nothing = nothing(rounds)?;
    let same = same(&network, rounds)?;
    Ok(if nothing && same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn timing(rounds: usize) -> Timing {
    Timing { rounds: Some(rounds), ..Timing::default() }
}

fn nothing(rounds: usize) -> anyhow::Result<bool> {
    let options = NullOptions {
        meter: MeterChoice::parse("auto"),
        sysfs_root: "/sys".into(),
        timing: timing(rounds),
        seed: 1,
    };
    let run = null_run(&options, &|| false)?;
    if let Some(error) = run.recording.error {
        return Err(error.into());
    }
    let power = run.above_idle.ok_or_else(|| anyhow::anyhow!("the null run has too few windows"))?;
    let agrees = power.low.value() <= 0.0 && power.high.value() >= 0.0;
    println!(
        "null run: {:+.6} W above idle, interval {:+.6} to {:+.6}: {}",
        power.value.value(),
        power.low.value(),
        power.high.value(),
        verdict(agrees)
    );
    Ok(agrees)
}

fn same(network: &Path, rounds: usize) -> anyhow::Result<bool> {
    let (first, second) = (recorded(network, rounds, 1)?, recorded(network, rounds, 2)?);
    let pairs = energy_pairs(&first, &second);
    let confidence = family_confidence(pairs.len());
    let mut agree = true;
    for pair in &pairs {
        let (difference, agrees) = (pair.difference(), pair.agrees(confidence));
        agree &= agrees;
        println!(
            "{:28} {:12.6e} J {:12.6e} J  {:+7.2} % ± {:.2} %  {}",
            pair.name,
            pair.first.value,
            pair.second.value,
            difference.value / pair.first.value * 100.0,
            difference.half_width(confidence) / pair.first.value.abs() * 100.0,
            verdict(agrees)
        );
    }
    let alone = pairs.iter().filter(|pair| pair.agrees(0.95)).count();
    println!(
        "A/A: {} energies, {alone} agree at 95 % each; all together at 95 %: {}",
        pairs.len(),
        verdict(agree)
    );
    Ok(agree)
}

fn verdict(agrees: bool) -> &'static str {
    if agrees { "agrees" } else { "DIFFERS" }
}

/// Records the network: the same weights, input and order of windows.
fn recorded(network: &Path, rounds: usize, run: u64) -> anyhow::Result<Trace> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join(format!("run{run}"));
    let options = ProfileOptions {
        network: network.to_path_buf(),
        set: Vec::new(),
        batch: 1,
        fuse: false,
        device: DeviceChoice::Cpu { threads: None },
        precision: Default::default(),
        layout: Default::default(),
        cache: None,
        conv_algorithm: None,
        meter: MeterChoice::parse("auto"),
        sysfs_root: "/sys".into(),
        nvml_lib: None,
        timing: timing(rounds),
        seed: 1,
        out: Some(out.clone()),
        force: false,
        calibrations: None,
    };
    let hooks = Hooks { say: &mut |_| {}, progress: &mut |_, _, _| {}, stop: &|| false };
    let outcome = profile(&options, hooks)?;
    if let Some(error) = outcome.ended_early {
        return Err(error.into());
    }
    Ok(read_trace(&out.join(TRACE_FILE))?)
}
