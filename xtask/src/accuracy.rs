//! All methods on all simulated devices.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

/// Builds and runs `benches/accuracy`; `args` go to it.
///
/// # Errors
///
/// Cargo does not start.
pub(crate) fn table(cargo: &mut Command, args: &[String]) -> Result<ExitCode> {
    cargo.args(["--quiet", "--package", "layerjoule", "--bench", "accuracy", "--locked", "--", "run"]);
    let status = cargo.args(args).status().context("cannot start cargo")?;
    Ok(status.code().map_or(ExitCode::FAILURE, |code| ExitCode::from(u8::try_from(code).unwrap_or(1))))
}
