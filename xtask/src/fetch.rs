//! Data of tests from Python wheels: what the ONNX project tests with, and NVIDIA's run-time compiler.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Where the ONNX data lies inside the unpacked wheel.
const DATA: &str = "onnx/backend/test/data";

/// A package of which tests need something.
struct Package {
    /// Its name and version, as pip writes them.
    requirement: &'static str,
    /// SHA-256 of the wheel where only that one file will do; it is the one of x86-64.
    sha256: Option<&'static str>,
    /// Folder in `target/` for what is needed of it.
    folder: &'static str,
    /// What that is, for people.
    what: &'static str,
    needed: Needed,
}

/// What is kept of an unpacked wheel.
enum Needed {
    /// All, because this folder is in it.
    All(&'static str),
    /// These files, from this folder.
    Files(&'static str, &'static [&'static str]),
}

/// The last version known to carry the data in its wheel: 1.23 dropped the operators. 1765 single operators and whole
/// networks with inputs and outputs.
const ONNX: Package = Package {
    requirement: "onnx==1.22.0",
    // The data is the same in every wheel, so one is named that exists whatever Python runs here.
    sha256: None,
    folder: "onnx-1.22.0",
    what: "the ONNX 1.22.0 test data",
    needed: Needed::All(DATA),
};

/// Two NVRTCs: one that knows all GPUs that we name, one of CUDA 12 that is older than the newest of them.
const NVRTC: [Package; 2] = [
    Package {
        requirement: "nvidia-cuda-nvrtc==13.5.37",
        sha256: Some("86b4d68058807988b7d9af5b44917a0601e9c337f35ccd657bfb3c759ff8d8bc"),
        folder: "nvrtc-13.5.37",
        what: "NVRTC 13.5.37 (58 MB)",
        needed: Needed::Files("nvidia/cu13/lib", &["libnvrtc.so.13", "libnvrtc-builtins.so.13.5"]),
    },
    Package {
        requirement: "nvidia-cuda-nvrtc-cu12==12.6.85",
        sha256: Some("800927308ccc5dd6246d3f61f7fcef2ed7ec4e59e199090d360d3293f78bd5a2"),
        folder: "nvrtc-12.6.85",
        what: "NVRTC 12.6.85 (24 MB)",
        needed: Needed::Files("nvidia/cuda_nvrtc/lib", &["libnvrtc.so.12", "libnvrtc-builtins.so.12.6"]),
    },
];

/// Makes `target/` hold all data of tests.
///
/// A machine without Python or network gets a notice and no data, so that the tests that need none still run;
/// under `REQUIRE_DATA=1` that is an error.
pub(crate) fn test_data(repository: &Path) -> Result<()> {
    for package in [&ONNX].into_iter().chain(&NVRTC) {
        match fetch(repository, package) {
            Ok(_) => {}
            Err(error) if env::var_os("REQUIRE_DATA").is_some_and(|value| value == "1") => {
                return Err(error.context(format!("no {}, and REQUIRE_DATA=1 asks for it", package.what)));
            }
            Err(error) => {
                eprintln!("xtask: going on without {}, its tests will be skipped: {error:#}", package.what);
            }
        }
    }
    Ok(())
}

/// Makes `target/onnx-1.22.0` hold the unpacked wheel; the folder of the data in it.
pub(crate) fn onnx_test_data_or_fail(repository: &Path) -> Result<PathBuf> {
    Ok(fetch(repository, &ONNX)?.join(DATA))
}

/// Makes the package's folder hold what is needed of it; that folder.
fn fetch(repository: &Path, package: &Package) -> Result<PathBuf> {
    let place = repository.join("target").join(package.folder);
    if !place.is_dir() {
        eprintln!("xtask: fetching {} into {}", package.what, place.display());
        download(&place, package)?;
    }
    Ok(place)
}

/// Downloads the wheel and unpacks it beside `place`, then moves what is needed there: what is there is whole.
fn download(place: &Path, package: &Package) -> Result<()> {
    let beside = |end: &str| place.with_file_name(format!("{}-{end}", package.folder));
    let (wheels, unpacked, kept) = (beside("wheel"), beside("unpacked"), beside("kept"));
    for folder in [&wheels, &unpacked, &kept] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    fs::create_dir_all(&wheels).with_context(|| format!("cannot create {}", wheels.display()))?;
    python(&mut pip_download(&wheels, package)?)?;
    python(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel_in(&wheels)?).arg(&unpacked))?;
    let whole = match package.needed {
        Needed::All(folder) => {
            let folder = unpacked.join(folder);
            ensure!(folder.is_dir(), "the wheel of {} has no {}", package.requirement, folder.display());
            &unpacked
        }
        Needed::Files(folder, files) => {
            fs::create_dir_all(&kept).with_context(|| format!("cannot create {}", kept.display()))?;
            for file in files {
                let from = unpacked.join(folder).join(file);
                fs::rename(&from, kept.join(file)).with_context(|| {
                    format!("the wheel of {} has no {folder}/{file}", package.requirement)
                })?;
            }
            &kept
        }
    };
    fs::rename(whole, place).with_context(|| format!("cannot move {} into place", whole.display()))?;
    for folder in [&wheels, &unpacked].into_iter().filter(|folder| folder.exists()) {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// The command that puts the package's wheel into a folder; where its checksum is known, pip takes no other.
fn pip_download(wheels: &Path, package: &Package) -> Result<Command> {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
    command.args(["--disable-pip-version-check", "--python-version=3.12"]);
    for platform in ["manylinux_2_28_x86_64", "manylinux2014_x86_64", "manylinux2010_x86_64"] {
        command.arg(format!("--platform={platform}"));
    }
    command.arg("--dest").arg(wheels);
    match package.sha256 {
        None => command.arg(package.requirement),
        Some(sha256) => {
            // pip reads checksums from a file only.
            let list = wheels.join("requirement.txt");
            fs::write(&list, format!("{} --hash=sha256:{sha256}\n", package.requirement))
                .with_context(|| format!("cannot write {}", list.display()))?;
            command.args(["--require-hashes", "-r"]).arg(list)
        }
    };
    Ok(command)
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
