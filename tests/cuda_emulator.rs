//! The emulated GPU itself, called as C calls it, against answers known otherwise.

mod driver;
mod graph;
mod layers;
mod normalisation;
#[path = "stand_ins/cuda/numbers.rs"]
#[allow(dead_code)] // Only its own tests run here.
mod numbers;
mod products;
mod raw;

use tempfile::TempDir;

use crate::stand_ins::cuda::emulated_cuda;
use crate::support::program::layerjoule;

#[test]
fn doctor_finds_all_emulated_libraries() {
    let (folder, empty) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    emulated_cuda(folder.path());
    let mut command = layerjoule();
    command.env("LD_LIBRARY_PATH", folder.path()).args(["doctor", "--format", "json", "--sysfs-root"]);
    let assert = command.arg(empty.path()).arg("--cuda-path").arg(folder.path()).assert().success();
    let value: serde_json::Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    let versions: Vec<_> = value["libraries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|library| library["version"].as_str().unwrap_or("none"))
        .collect();
    assert_eq!(versions, ["13.0", "13.0.2", "13.0.2", "13.0", "9.12.0"], "{value:#}");
}
