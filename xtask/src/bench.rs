//! The CPU engine against onnxruntime, in one run.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::conformance;

/// Builds the benchmark and runs it in turns with onnxruntime; the script prints the table. `args` go to the
/// script (`xtask/bench/peers.py --help`).
///
/// # Errors
///
/// No Python or network, or the benchmark does not build.
pub(crate) fn peers(repository: &Path, cargo: &mut Command, args: &[String]) -> Result<ExitCode> {
    let python = conformance::environment(&repository.join("target").join("conformance"))?;
    let engine = engine(cargo)?;
    let script = repository.join("xtask").join("bench").join("peers.py");
    let status = Command::new(python)
        .arg(script)
        .arg(engine)
        .arg(repository.join("networks"))
        .args(args)
        .status()
        .context("cannot start Python")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds `benches/peers.rs` and asks cargo where the program lies.
fn engine(cargo: &mut Command) -> Result<PathBuf> {
    cargo.args(["--package", "layerjoule", "--bench", "peers", "--locked", "--no-run"]);
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped()).stderr(Stdio::inherit());
    let output = cargo.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the benchmark does not build");
    }
    // One JSON object a line; the package's other programs are built and listed too.
    let text = String::from_utf8_lossy(&output.stdout);
    let path = text.lines().filter(|line| line.contains("\"kind\":[\"bench\"]")).find_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        rest.split('"').next()
    });
    path.map(PathBuf::from).context("cargo names no executable for the benchmark")
}
