//! What `doctor` says of machines made of files.

use std::fs;

use crate::support::program::{copy_tree, layerjoule, make_unreadable, shared_data};

/// A machine whose package counter cannot be read and whose perf event has no scale, with a Jetson's rails.
fn machine() -> Option<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    for tree in ["powercap/amd-package-only", "perf-power-pmu/amd", "hwmon/jetson-agx-orin-ina3221"] {
        copy_tree(&shared_data(tree)?, dir.path());
    }
    make_unreadable(&dir.path().join("class/powercap/intel-rapl:0/energy_uj"));
    fs::remove_file(dir.path().join("bus/event_source/devices/power/events/energy-pkg.scale")).unwrap();
    Some(dir)
}

fn doctor(root: &std::path::Path, format: &str) -> String {
    let assert =
        layerjoule().args(["doctor", "--format", format, "--sysfs-root"]).arg(root).assert().success();
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

#[test]
fn each_fault_is_named_and_what_still_measures_is_taken() {
    let Some(root) = machine() else { return };
    let text = doctor(root.path(), "table");
    // The temporary folder's name wraps as it likes.
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "rapl-perf: does not work",
        "energy-pkg.scale: No such file",
        "rapl-powercap: does not work",
        "energy_uj: Is a directory",
        "hwmon: works scope CPU rail VDD_CPU_CV period read every 430 ms",
        "hwmon:VDD_GPU_SOC: works",
        "modelled: works, ESTIMATES only",
        "`--meter auto` takes hwmon",
        "Host",
    ] {
        assert!(flat.contains(words), "{words}\n{text}");
    }
    let wide =
        |l: &&str| l.chars().count() > 80 && !l.contains(" $ ") && !l.contains(root.path().to_str().unwrap());
    assert_eq!(text.lines().find(wide), None);
}

#[test]
fn json_has_the_same_for_programs() {
    let Some(root) = machine() else { return };
    let value: serde_json::Value = serde_json::from_str(&doctor(root.path(), "json")).unwrap();
    assert_eq!(value["automatic"], "hwmon");
    let meter = |id: &str| {
        let meters = value["meters"].as_array().unwrap();
        meters.iter().find(|m| m["id"] == id).unwrap_or_else(|| panic!("{id}")).clone()
    };
    assert_eq!(meter("rapl-powercap")["status"], "unavailable");
    assert_eq!(meter("hwmon")["status"], "measured");
    // 3 channels x 512 samples x 280 us.
    assert!((meter("hwmon")["update_period_s"].as_f64().unwrap() - 0.430_08).abs() < 1e-9);
    // perf's cores are described, and opened only on the machine's own root.
    let core = meter("rapl-perf:core");
    assert!(core["mends"][0]["effect"].as_str().unwrap().contains("--sysfs-root"), "{core}");
    assert!(value["host"]["processors"].as_u64().unwrap() >= 1);
    assert!(value["host"]["findings"].is_array());
}
