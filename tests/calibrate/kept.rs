//! Calibrations that are kept, and what profiles make of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use assert_cmd::assert::Assert;
use layerjoule::calibration::{Health, Verdict};
use layerjoule::clock::{Clock, MonotonicClock};
use layerjoule::profile::keep_calibration;
use layerjoule::sim::DeviceParameters;
use serde_json::Value;

use super::device::calibration;
use super::{json, stderr};
use crate::schema::assert_valid_calibration;
use crate::support::injected::Injector;
use crate::support::program::{alone, layerjoule, lenet, make_unreadable};

/// The program calibrates and keeps what it finds in `dir`.
fn calibrate_into(dir: &Path, more: &[&str]) -> Assert {
    let mut command = layerjoule();
    command.args(["calibrate", "--device", "sim:h200", "--format", "json", "--calibration-dir"]).arg(dir);
    command.args(more).assert()
}

/// A profile by what is kept in `dir`; gives its run file and what it said.
fn profile_by(dir: &Path) -> (Value, String) {
    let out = tempfile::tempdir().unwrap();
    let network = lenet(out.path());
    let mut command = layerjoule();
    command.arg("profile").arg(network).args(["--device", "sim:h200", "--rounds", "2", "--format", "json"]);
    command.arg("--calibration-dir").arg(dir).arg("--out").arg(out.path().join("run"));
    let assert = command.assert().success();
    (json(&assert), stderr(&assert))
}

fn kept(dir: &Path) -> PathBuf {
    let files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn a_simulated_device_says_so_obeys_the_schema_and_is_kept_for_later_profiles() {
    let dir = tempfile::tempdir().unwrap();
    let kept_in = dir.path().join("new");
    let (before, said) = profile_by(&kept_in);
    assert!(
        said.contains("this device is not calibrated; `layerjoule calibrate --device sim:h200`"),
        "{said}"
    );
    let codes = |run: &Value| -> Vec<String> {
        run["warnings"].as_array().unwrap().iter().map(|w| w["code"].as_str().unwrap().to_string()).collect()
    };
    assert!(!codes(&before).iter().any(|code| code.contains("calib")), "{before}");
    assert_eq!(before["meters"][0]["coverage"], Value::Null);

    let found = json(&calibrate_into(&kept_in, &["--meter", "sim-instant"]).success());
    assert_eq!((&found["simulated"], found["readings"].as_array().unwrap().len()), (&Value::Bool(true), 1));
    assert!(found["readings"][0]["window_s"]["value"].is_number(), "{found}");
    assert!(found["readings"][0]["reasons"]["gain"].as_str().unwrap().contains("no external meter"));
    assert_eq!(found["readings"][0]["health"]["verdict"], "ok");
    assert_valid_calibration(&found);

    // Another meter later: both are known then.
    let found = json(&calibrate_into(&kept_in, &["--meter", "sim"]).success());
    assert_eq!(found["readings"].as_array().unwrap().len(), 1);
    let file = kept(&kept_in);
    let on_disk: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_valid_calibration(&on_disk);
    let ids: Vec<&str> =
        on_disk["readings"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["sim", "sim-instant"]);

    let (after, said) = profile_by(&kept_in);
    assert!(!said.contains("calibrated;"), "{said}");
    let meter = &after["meters"][0];
    assert_eq!((&meter["id"], &meter["coverage"]), (&Value::from("sim"), &Value::from("part_time")));
    assert!(meter["reason"].as_str().unwrap().contains("calibrated on 20"), "{meter}");
    assert!((meter["update_period_s"].as_f64().unwrap() - 0.1).abs() < 1e-4, "{meter}");
    assert!(!codes(&after).iter().any(|code| code == "unhealthy_meter"), "{after}");
}

#[test]
fn a_meter_that_was_found_ill_never_appears_without_its_warning() {
    let dir = tempfile::tempdir().unwrap();
    let mut calibration = calibration("h200", DeviceParameters::preset("h200").unwrap());
    let health = calibration.readings[0].health.as_mut().unwrap();
    *health = Health {
        use_instead: Some("sim-instant".to_string()),
        ..Health::of(Verdict::DiffersAtRest, "too little")
    };
    keep_calibration(dir.path(), &calibration).unwrap();
    let (run, _) = profile_by(dir.path());
    let warnings = run["warnings"].as_array().unwrap();
    let warning = warnings.iter().find(|warning| warning["code"] == "unhealthy_meter").unwrap();
    assert!(warning["text"].as_str().unwrap().contains("use --meter sim-instant instead"), "{warning}");
}

#[test]
fn a_kept_calibration_that_cannot_be_used_is_said_and_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    calibrate_into(dir.path(), &["--meter", "sim"]).success();
    let file = kept(dir.path());
    let good = fs::read_to_string(&file).unwrap();
    let cases = [
        ("{".to_string(), "not a calibration"),
        (String::new(), "not a calibration"),
        (good.replace("layerjoule.calibration/1", "layerjoule.calibration/2"), "which is newer"),
        (good.replace("layerjoule.calibration/1", "layerjoule.run/1"), "expected layerjoule.calibration/1"),
        (good.replace("\"readings\"", "\"reedings\""), "readings"),
        (good.replace("\"delay_s\"", "\"delai_s\""), "delai_s"),
        (good.replace("simulated H200 SXM", "simulated H300"), "expected the calibration of"),
    ];
    for (text, expected) in cases {
        fs::write(&file, &text).unwrap();
        let (run, said) = profile_by(dir.path());
        assert!(said.contains("warning: ") && said.contains(expected), "{expected}: {said}");
        assert!(said.contains("`layerjoule calibrate --device"), "{said}");
        assert_eq!(run["meters"][0]["coverage"], Value::Null, "{expected}");
    }
    make_unreadable(&file);
    assert!(profile_by(dir.path()).1.contains("expected a file"));
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "damaged").unwrap();
    // Calibrating again mends it.
    calibrate_into(dir.path(), &["--meter", "sim"]).success();
    assert_eq!(profile_by(dir.path()).0["meters"][0]["coverage"], "part_time");
}

#[test]
fn what_cannot_be_kept_is_printed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let assert = calibrate_into(&file.join("below"), &["--meter", "sim-instant"]).success();
    assert!(stderr(&assert).contains("not kept for later profiles"));
    assert_valid_calibration(&json(&assert));
}

#[test]
fn an_unknown_meter_is_refused() {
    let run = |more: &[&str]| layerjoule().args(["calibrate", "--device", "sim:a100"]).args(more).assert();
    assert!(stderr(&run(&["--meter", "nonsense"]).code(2)).contains("nonsense"));
}

#[test]
fn ctrl_c_ends_a_calibration_of_the_processor_at_once_and_keeps_nothing() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let _injector = Injector::start(dir.path(), 1 << 40);
    let kept_in = dir.path().join("kept");
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("layerjoule"))
        .args(["calibrate", "--device", "cpu", "--meter", "rapl-powercap", "--sysfs-root"])
        .arg(dir.path())
        .arg("--calibration-dir")
        .arg(&kept_in)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // From here on it rests for ten seconds.
    for line in lines.by_ref().map_while(Result::ok) {
        said.push_str(&line);
        if line.contains("at rest and under a steady load") {
            break;
        }
    }
    assert!(said.contains("at rest"), "{said}");
    let clock = MonotonicClock::start();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(output.status.code(), Some(130), "{rest:?}");
    assert!(clock.now().since_origin().value() < 5.0 && output.stdout.is_empty());
    assert!(rest.iter().any(|line| line.contains("nothing of it is kept")), "{rest:?}");
    assert!(!kept_in.exists());
}
