//! The ONNX reader, the CPU engine and the f64 reference against what others recorded: the operator tests of
//! ONNX, models that PyTorch exported, and every intermediate tensor of whole networks in onnxruntime.
//!
//! `cargo xtask conformance` prepares the data and asks for all of it; see docs/conformance.md.

mod case;
mod form;
mod ignored;
mod light;
mod operators;
mod summary;

use std::path::{Path, PathBuf};

use ignored::Ignored;
use summary::Group;

/// The folder `onnx/backend/test/data` of the wheel of onnx 1.22.0.
fn onnx_data() -> PathBuf {
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/onnx-1.22.0/onnx/backend/test/data");
    std::env::var_os("LAYERJOULE_ONNX_DATA").map_or_else(|| PathBuf::from(unpacked), PathBuf::from)
}

/// Whether a folder of data is there; a run may skip what no variable of its environment asks for.
fn there(folder: &Path, what: &str, required_by: &[&str]) -> bool {
    if folder.is_dir() {
        return true;
    }
    let text = format!("no {what} in {}; `cargo xtask conformance` makes it", folder.display());
    let required = required_by.iter().any(|name| std::env::var_os(name).is_some_and(|value| value == "1"));
    assert!(!required, "{text}");
    println!("skipped: {text}");
    false
}

/// A folder of the wheel, if it is there.
fn recorded(group: &str) -> Option<PathBuf> {
    let folder = onnx_data().join(group);
    there(&folder, "recorded tests of ONNX", &["REQUIRE_DATA", "REQUIRE_CONFORMANCE"]).then_some(folder)
}

/// A folder of what Python prepared, if it is there.
fn prepared(group: &str) -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/conformance/prepared")).join(group);
    there(&folder, "prepared models", &["REQUIRE_CONFORMANCE"]).then_some(folder)
}

/// Prints the tables and fails if a test of a group did.
fn conclude(groups: &[Group]) {
    println!("{}", summary::table(groups));
    let failures: Vec<String> = groups.iter().flat_map(Group::failures).collect();
    assert!(
        failures.is_empty(),
        "{} of the conformance tests failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn operator_tests_of_onnx_get_their_recorded_outputs() {
    let Some(folder) = recorded("node") else { return };
    conclude(&[operators::run("node", &folder, &folder, &Ignored::read("node"))]);
}

#[test]
fn models_from_pytorch_get_their_recorded_outputs() {
    const GROUP: &str = "pytorch-converted";
    let (Some(original), Some(converted)) = (recorded(GROUP), prepared(GROUP)) else { return };
    conclude(&[operators::run(GROUP, &original, &converted, &Ignored::read(GROUP))]);
}

#[test]
fn every_tensor_of_the_light_networks_is_that_of_onnxruntime() {
    let (Some(original), Some(networks)) = (recorded("light"), prepared("light")) else { return };
    conclude(&light::run(&original, &networks));
}
