//! The conformance tests with their peers: onnxruntime and the test data of the ONNX project.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::fetch;

/// What Python installs, every package with its exact version.
const REQUIREMENTS: &str = include_str!("../conformance/requirements.txt");

/// What Python runs.
const SCRIPT: &str = include_str!("../conformance/prepare.py");

/// The option that lets a machine without Python or network go on.
const SKIP: &str = "--skip-without-python";

/// Prepares what the tests compare with and runs them; they print what they found.
///
/// # Errors
///
/// No Python, no network, or the packages cannot be installed: an error unless `args` say to skip.
pub(crate) fn run(repository: &Path, test: &mut Command, args: &[String]) -> Result<ExitCode> {
    let skip = match args {
        [] => false,
        [option] if option == SKIP => true,
        _ => bail!("conformance takes no argument but {SKIP}, found {}", args.join(" ")),
    };
    match prepare(repository) {
        Ok(()) => {}
        Err(error) if skip => {
            eprintln!("xtask: conformance is SKIPPED, nothing is proved by this run ({SKIP}): {error:#}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => {
            return Err(error.context(format!(
                "the conformance tests need Python 3.11 or later with pip and venv, and PyPI; {SKIP} goes on \
                 without them"
            )));
        }
    }
    // One after the other: a network's weights and tensors take up to 2 GB, and the table stays in order.
    test.args(["--package", "layerjoule", "--test", "all", "--locked", "conformance::peers::"]);
    test.args(["--", "--nocapture", "--test-threads=1"]).env("REQUIRE_CONFORMANCE", "1");
    // The list of what is wrong shall stand last.
    test.env("RUST_BACKTRACE", "0");
    let status = test.status().context("cannot start cargo")?;
    if status.success() {
        eprintln!("xtask: conformance passed");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("xtask: conformance FAILED; each failed test is named above with what was found and expected");
    Ok(ExitCode::FAILURE)
}

/// Makes `target/conformance/prepared`; nothing to do when it is there and was made by this script.
fn prepare(repository: &Path) -> Result<()> {
    let data = fetch::onnx_test_data_or_fail(repository)?;
    let place = repository.join("target").join("conformance");
    let (prepared, stamp) = (place.join("prepared"), place.join("prepared.stamp"));
    let wanted = format!("{REQUIREMENTS}\n{SCRIPT}");
    if is_stamped(&stamp, &wanted) && prepared.is_dir() {
        return Ok(());
    }
    let python = environment(&place)?;
    eprintln!("xtask: preparing {} (2 GB)", prepared.display());
    remove(&stamp)?;
    remove(&prepared)?;
    let unfinished = place.join("unfinished");
    remove(&unfinished)?;
    let script = repository.join("xtask/conformance/prepare.py");
    fetch::python(Command::new(python).arg(script).arg(data).arg(&unfinished))?;
    fs::rename(&unfinished, &prepared)
        .with_context(|| format!("cannot move {} into place", unfinished.display()))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// The Python of an environment with the pinned packages, made once.
pub(crate) fn environment(place: &Path) -> Result<PathBuf> {
    let (environment, stamp) = (place.join("python"), place.join("python.stamp"));
    let python = environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if is_stamped(&stamp, REQUIREMENTS) && python.is_file() {
        return Ok(python);
    }
    eprintln!("xtask: installing onnxruntime and what it needs into {}", environment.display());
    remove(&stamp)?;
    remove(&environment)?;
    fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()))?;
    fetch::python(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let requirements = place.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    // Wheels only, and nothing beside what is pinned.
    let how = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--no-deps", "--requirement"];
    fetch::python(Command::new(&python).args(["-m", "pip", "install"]).args(how).arg(&requirements))?;
    fs::write(&stamp, REQUIREMENTS).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// Whether what the stamp stands for is whole and was made from this text.
fn is_stamped(stamp: &Path, text: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|found| found == text)
}

fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    } else if path.exists() {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}
