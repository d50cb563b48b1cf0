//! The test data of the ONNX project: 1765 single operators and whole networks with inputs and outputs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The last version known to carry the data in its Python wheel: 1.23 dropped the operators.
const VERSION: &str = "1.22.0";

/// Where the data lies inside the unpacked wheel.
const DATA: &str = "onnx/backend/test/data";

/// Makes `target/onnx-1.22.0` hold the unpacked wheel.
///
/// A machine without Python or network gets a notice and no data, so that the tests that need none still run;
/// under `REQUIRE_DATA=1` that is an error.
pub(crate) fn onnx_test_data(repository: &Path) -> Result<()> {
    match onnx_test_data_or_fail(repository) {
        Ok(_) => Ok(()),
        Err(error) if env::var_os("REQUIRE_DATA").is_some_and(|value| value == "1") => {
            Err(error.context("no ONNX test data, and REQUIRE_DATA=1 asks for it"))
        }
        Err(error) => {
            eprintln!("xtask: going on without the ONNX test data, its tests will be skipped: {error:#}");
            Ok(())
        }
    }
}

/// Makes `target/onnx-1.22.0` hold the unpacked wheel; the folder of the data in it.
pub(crate) fn onnx_test_data_or_fail(repository: &Path) -> Result<PathBuf> {
    let place = repository.join("target").join(format!("onnx-{VERSION}"));
    let data = place.join(DATA);
    if !data.join("node").is_dir() {
        eprintln!("xtask: fetching the ONNX {VERSION} test data into {}", place.display());
        download(&place)?;
    }
    Ok(data)
}

/// Downloads the wheel and unpacks it beside `place`, then moves it there: what is there is whole.
fn download(place: &Path) -> Result<()> {
    let wheels = place.with_file_name(format!("onnx-{VERSION}-wheel"));
    let unpacked = place.with_file_name(format!("onnx-{VERSION}-unpacked"));
    for folder in [&wheels, &unpacked, &place.to_owned()] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    fs::create_dir_all(&wheels).with_context(|| format!("cannot create {}", wheels.display()))?;
    let requirement = format!("onnx=={VERSION}");
    // The data is the same in every wheel, so one is named that exists whatever Python runs here.
    let which = ["--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.12"];
    python(
        Command::new("python3").args(["-m", "pip", "download", "--quiet", "--no-deps"]).args(which).args([
            "--disable-pip-version-check",
            "--dest",
            &wheels.to_string_lossy(),
            &requirement,
        ]),
    )?;
    python(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel_in(&wheels)?).arg(&unpacked))?;
    let data = unpacked.join(DATA).join("node");
    ensure!(data.is_dir(), "the wheel of {requirement} has no {DATA}/node");
    fs::rename(&unpacked, place).with_context(|| format!("cannot move {} into place", unpacked.display()))?;
    fs::remove_dir_all(&wheels).with_context(|| format!("cannot remove {}", wheels.display()))
}

fn wheel_in(folder: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    bail!("pip left no wheel in {}", folder.display())
}

pub(crate) fn python(command: &mut Command) -> Result<()> {
    let status = command.status().context("cannot start python3, is it installed?")?;
    ensure!(status.success(), "`{command:?}` failed ({status})");
    Ok(())
}
