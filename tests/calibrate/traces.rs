//! What our own traces tell, and traces that cannot be.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{calibrate, json, stderr};
use crate::schema::assert_valid_calibration;
use crate::support::program::{copy_tree, layerjoule, lenet};

/// A recorded run with two meters of the same part.
fn recorded_run(dir: &Path) -> PathBuf {
    let out = dir.join("run");
    let mut command = layerjoule();
    command.arg("profile").arg(lenet(dir)).args([
        "--device",
        "sim:h200",
        "--meter",
        "sim,sim-instant",
        "--rounds",
        "3",
    ]);
    command.arg("--out").arg(&out).assert().success();
    out
}

#[test]
fn our_own_traces_tell_the_period_and_whether_two_meters_agree() {
    let dir = tempfile::tempdir().unwrap();
    let out = recorded_run(dir.path());
    let found = json(&calibrate(&out).success());
    assert_valid_calibration(&found);
    assert_eq!(found["simulated"], true);
    let [counter, power] = ["sim", "sim-instant"]
        .map(|id| found["readings"].as_array().unwrap().iter().find(|r| r["id"] == id).unwrap().clone());
    let period = &counter["update_period_s"];
    let [low, high] = ["low", "high"].map(|end| period[end].as_f64().unwrap());
    assert!((low..=high).contains(&0.1) && high - low < 1e-3, "{period}");
    assert_eq!(counter["health"]["verdict"], "ok", "{counter}");
    assert!(counter["energy_j"]["value"].as_f64().unwrap() > 1000.0);
    for fact in ["window_s", "delay_s", "coverage"] {
        assert!(
            counter[fact].is_null() && counter["reasons"][fact].as_str().unwrap().contains("come and go")
        );
    }
    assert!(
        power["reasons"]["update_period_s"].as_str().unwrap().contains("edges of windows only"),
        "{power}"
    );
    // The trace itself and the run file say the same.
    for path in ["trace.jsonl", "run.json"] {
        assert_eq!(json(&calibrate(&out.join(path)).success())["readings"], found["readings"]);
    }
}

/// The lines of a trace, changed.
fn trace_with(out: &Path, change: impl Fn(&mut Vec<Value>)) {
    let path = out.join("trace.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    change(&mut lines);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::remove_file(&path).unwrap();
    fs::write(&path, text).unwrap();
}

#[test]
fn a_trace_that_cannot_be_is_refused_with_its_line_by_calibrate_and_by_report() {
    let dir = tempfile::tempdir().unwrap();
    let out = recorded_run(dir.path());
    type Change = fn(&mut Vec<Value>);
    let samples = |lines: &mut Vec<Value>| lines[2]["window"]["samples"].as_array_mut().unwrap().clone();
    assert!(samples(&mut serde_json::from_str(&first_lines(&out)).unwrap()).len() > 4);
    let cases: [(Change, &str); 7] = [
        (
            |l| l[0]["header"]["schema"] = "layerjoule.trace/9".into(),
            ":1: trace schema: expected layerjoule.trace/1",
        ),
        (
            |l| l[2]["window"]["samples"].as_array_mut().unwrap().swap(2, 3),
            ":3: sample: expected a time from",
        ),
        (|l| l[2]["window"]["samples"] = Value::Array(Vec::new()), ":3: the window of rest in round"),
        (
            |l| drop(l[2]["window"]["samples"].as_array_mut().unwrap().remove(0)),
            "expected a reading of sim at its start",
        ),
        (
            |l| {
                let samples = l[2]["window"]["samples"].as_array_mut().unwrap();
                let mut twice = samples[3].clone();
                twice[2] = (twice[2].as_f64().unwrap() + 1.0).into();
                samples.insert(4, twice);
            },
            ":3: sample: expected one energy of sim at",
        ),
        // The clock was set back between two windows.
        (|l| l.swap(2, 3), ":4: a window does not follow the one before it"),
        (|l| l.insert(3, l[2].clone()), ":4: a window does not follow the one before it"),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        let copy = dir.path().join(format!("copy{number}"));
        copy_tree(&out, &copy);
        trace_with(&copy, change);
        let said = stderr(&calibrate(&copy).code(2));
        assert!(said.contains("trace.jsonl:") && said.contains(expected), "case {number}: {said}");
        let report = layerjoule().arg("report").arg(&copy).assert().code(2);
        assert!(stderr(&report).contains(expected), "case {number}: {}", stderr(&report));
    }
}

/// The first lines of a trace as one JSON array.
fn first_lines(out: &Path) -> String {
    let text = fs::read_to_string(out.join("trace.jsonl")).unwrap();
    format!("[{}]", text.lines().take(3).collect::<Vec<_>>().join(","))
}

#[test]
fn a_gap_in_a_window_of_a_trace_is_said_with_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let out = recorded_run(dir.path());
    // From the middle of the third line's window on, all is a minute later.
    trace_with(&out, |lines| {
        let window = &lines[2]["window"];
        let middle = window["samples"][6][1].as_u64().unwrap();
        let later = |at: &Value| {
            at.as_u64().unwrap() + if at.as_u64().unwrap() > middle { 60_000_000_000 } else { 0 }
        };
        for line in &mut lines[2..] {
            let Some(window) = line.get_mut("window") else { continue };
            for key in ["start", "end"] {
                window["span"][key] = later(&window["span"][key]).into();
            }
            for sample in window["samples"].as_array_mut().unwrap() {
                sample[1] = later(&sample[1]).into();
            }
        }
    });
    let report = layerjoule().args(["report", "--format", "json"]).arg(&out).assert().success();
    let run = json(&report);
    let gaps: Vec<&Value> =
        run["warnings"].as_array().unwrap().iter().filter(|w| w["code"] == "gap").collect();
    assert_eq!(gaps.len(), 1, "{}", run["warnings"]);
    let text = gaps[0]["text"].as_str().unwrap();
    assert!(text.contains("nobody read sim for 60.1 s") && text.contains("rest in round"), "{text}");
}
