//! `layerjoule calibrate`: what recorded boards' sensors are, against the figures that come with the recordings, and
//! what is refused.

mod device;
mod kept;
mod traces;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::assert::Assert;
use serde_json::Value;

use crate::support::program::{copy_tree, layerjoule, shared_data};

fn calibrate(from: &Path) -> Assert {
    layerjoule().args(["calibrate", "--format", "json", "--from"]).arg(from).assert()
}

fn json(assert: &Assert) -> Value {
    serde_json::from_slice(&assert.get_output().stdout).unwrap()
}

fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

/// Where a quantity of `expected.csv` stands in what is printed, and its unit in that of the file. None for quantities
/// that are others' methods: with the line times as they are, and other people's results.
fn place(column: &str, quantity: &str) -> Option<(&'static str, f64)> {
    Some(match (column, quantity) {
        ("meter", "sampling interval, median") => ("/sampling_interval_s", 1e6),
        ("meter", "sampling interval, mean") => ("/mean_sampling_interval_s", 1e6),
        ("meter", "energy over the marked kernels") => ("/energy_j/value", 1.0),
        ("meter", "energy first start to last end") => ("/energy_span_j/value", 1.0),
        ("kernels", "time in marked kernels") => ("/loads_s", 1.0),
        ("kernels", "time first start to last end") => ("/span_s", 1.0),
        (_, "update period T, regular grid") => ("/update_period_s/value", 1e3),
        (_, "change interval, median") => ("/change_interval_s/median", 1e3),
        (_, "change interval, p1") => ("/change_interval_s/p1", 1e3),
        (_, "change interval, p99") => ("/change_interval_s/p99", 1e3),
        (_, "window W") => ("/window_s/value", 1e3),
        (_, "window W from kernel marks alone") => ("/window_from_marks_s/value", 1e3),
        (_, "delay") => ("/delay_s/value", 1e3),
        (_, "gain") => ("/gain/value", 1.0),
        (_, "offset") => ("/offset_w/value", 1.0),
        (_, "naive energy, marked kernels") => ("/energy_j/value", 1.0),
        (_, "naive error, marked kernels") => ("/energy_error", 100.0),
        (_, "naive energy, first start to last end") => ("/energy_span_j/value", 1.0),
        (_, "naive error, first start to last end") => ("/energy_span_error", 100.0),
        _ => return None,
    })
}

fn reading<'a>(found: &'a Value, trace: &str, column: &str) -> &'a Value {
    let external = matches!(column, "meter" | "kernels");
    let mut rows = found[if external { "external" } else { "readings" }].as_array().unwrap().iter();
    rows.find(|row| row["trace"] == trace && (external || row["id"] == column)).unwrap()
}

#[test]
fn every_recorded_board_has_the_sensor_that_its_readme_states() {
    let Some(root) = shared_data("sensor-traces") else { return };
    let found = json(&calibrate(&root).success());
    let (mut checked, mut wrong) = (0, Vec::new());
    for row in csv::Reader::from_path(root.join("expected.csv")).unwrap().into_records().map(Result::unwrap) {
        let (Some((pointer, factor)), Ok(low), Ok(high)) =
            (place(&row[1], &row[2]), row[4].parse::<f64>(), row[5].parse::<f64>())
        else {
            continue;
        };
        let value = reading(&found, &row[0], &row[1]).pointer(pointer).and_then(Value::as_f64);
        checked += 1;
        if !value.is_some_and(|value| (low..=high).contains(&(value * factor))) {
            wrong.push(format!(
                "{} {} {}: {value:?} x {factor}, expected {low} to {high}",
                &row[0], &row[1], &row[2]
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked >= 60, "{checked} quantities compared");
}

#[test]
fn what_a_recording_cannot_tell_is_null_with_its_reason() {
    let Some(root) = shared_data("sensor-traces") else { return };
    let found = json(&calibrate(&root).success());
    let unknown = [
        // Ten windows of a second in the recording; loads of 99 ms beside a window of 100 ms; no load recorded at all.
        ("rtx3090-square-50ms", "power_draw_w", "gain", "follow each other"),
        ("rtx3090-square-50ms", "power_draw_w", "offset_w", "follow each other"),
        ("rtx3090-square-50ms", "power_draw_instant_w", "window_from_marks_s", "close to the window"),
        ("update-period-v100", "power.draw.instant [W]", "window_s", "neither an external meter"),
        ("update-period-v100", "power.draw.instant [W]", "energy_j", "no list of loads"),
    ];
    for (trace, column, fact, reason) in unknown {
        let reading = reading(&found, trace, column);
        assert!(reading[fact].is_null(), "{trace} {column} {fact}: {}", reading[fact]);
        let text = reading["reasons"][fact].as_str().unwrap();
        assert!(text.starts_with("not identifiable: ") && text.contains(reason), "{text}");
    }
    for (trace, coverage) in [("a100-square-50ms", "part_time"), ("rtx3090-square-50ms", "full")] {
        assert_eq!(reading(&found, trace, "power_draw_instant_w")["coverage"], coverage);
    }
}

#[test]
fn every_fact_that_is_null_has_a_reason_and_every_range_holds_its_value() {
    let Some(root) = shared_data("sensor-traces") else { return };
    let found = json(&calibrate(&root).success());
    for reading in found["readings"].as_array().unwrap() {
        for fact in ["update_period_s", "window_s", "delay_s", "gain", "offset_w", "coverage", "energy_j"] {
            let value = &reading[fact];
            assert_eq!(value.is_null(), reading["reasons"][fact].is_string(), "{fact}: {reading}");
            if let Some(low) = value["low"].as_f64() {
                let (middle, high) = (value["value"].as_f64().unwrap(), value["high"].as_f64().unwrap());
                assert!(low <= middle && middle <= high && low < high, "{fact}: {reading}");
            }
        }
    }
}

#[test]
fn a_single_log_and_the_table_for_people_say_the_same() {
    let Some(log) = shared_data("sensor-traces/update-period-v100.csv") else { return };
    let found = json(&calibrate(&log).success());
    assert_eq!(found["readings"].as_array().unwrap().len(), 2);
    let assert = layerjoule().args(["calibrate", "--from"]).arg(&log).assert().success();
    let table = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(table.contains("update-period-v100 power.draw.instant [W]"), "{table}");
    assert!(table.contains("period   20.01"), "{table}");
}

/// A board's folder with one file replaced.
fn with(dir: &Path, file: &str, text: &str) -> PathBuf {
    let lines: String = (0..40).map(|i| format!("{}.{},{}\n", i / 10, i % 10, 50 + i % 3)).collect();
    fs::write(dir.join("nvidia_smi.csv"), format!("time_s,power_draw_w\n{lines}")).unwrap();
    fs::write(dir.join("kernels.csv"), "start_s,end_s\n1.0,1.5\n2.0,2.5\n").unwrap();
    fs::write(dir.join("meter.csv"), format!("time_s,power_w\n{lines}")).unwrap();
    fs::write(dir.join(file), text).unwrap();
    dir.to_path_buf()
}

#[test]
fn what_is_wrong_in_a_recording_is_refused_with_file_line_and_reason() {
    let log = |lines: &str| format!("time_s,power_draw_w\n0.0,50\n0.1,51\n{lines}");
    let gap: String = (2..20).map(|i| format!("{}.{},50\n", i / 10, i % 10)).collect();
    let cases: Vec<(&str, String, usize, &str)> = vec![
        ("nvidia_smi.csv", log("0.05,50\n"), 4, "time goes back"),
        ("nvidia_smi.csv", log("0.1,50\n"), 4, "time stands still"),
        ("nvidia_smi.csv", log(&format!("{gap}9.0,50\n")), 22, "a gap of 7.1000 s"),
        ("nvidia_smi.csv", log("0.2,x\n"), 4, "expected a number"),
        ("nvidia_smi.csv", log("0.2,NaN\n"), 4, "expected a number"),
        ("nvidia_smi.csv", log("inf,50\n"), 4, "expected a number"),
        ("nvidia_smi.csv", log("0.2\n"), 4, "expected 2 fields"),
        ("nvidia_smi.csv", log("0.2,5"), 4, "no line end"),
        ("nvidia_smi.csv", "time_s,power_draw_w\n".to_string(), 1, "found no numbers"),
        ("nvidia_smi.csv", String::new(), 1, "found no numbers"),
        ("nvidia_smi.csv", "time_s,utilization\n0,1\n".to_string(), 1, "expected a column power_draw"),
        ("nvidia_smi.csv", "time_s,power_draw_w\n0,[N/A]\n".to_string(), 1, "with numbers in it"),
        ("nvidia_smi.csv", "power_draw_w\n50\n".to_string(), 1, "expected a column time_s"),
        ("nvidia_smi.csv", "timestamp,power.draw [W]\nyesterday,5\n".to_string(), 2, "expected a time"),
        ("kernels.csv", "start_s,end_s\n2.0,1.0\n".to_string(), 2, "the load ends at"),
        ("kernels.csv", "start_s,end_s\n1.0,2.0\n1.5,3.0\n".to_string(), 3, "the one before ends at"),
        ("kernels.csv", "start_s\n1.0\n".to_string(), 1, "expected a column end_s"),
        ("meter.csv", "time_s,watts\n0,50\n".to_string(), 1, "expected a column power_w"),
        ("meter.csv", "time_s,power_w\n0.0,50\n0.2,50\n0.1,50\n".to_string(), 4, "time goes back"),
    ];
    for (file, text, line, reason) in cases {
        let dir = tempfile::tempdir().unwrap();
        let assert = calibrate(&with(dir.path(), file, &text)).code(2);
        let said = stderr(&assert);
        assert!(said.contains(&format!("{file}:{line}: ")) && said.contains(reason), "{text}: {said}");
        assert!(assert.get_output().stdout.is_empty(), "{text}");
    }
}

#[test]
fn a_damaged_or_missing_recording_is_wrong_input() {
    let dir = tempfile::tempdir().unwrap();
    assert!(stderr(&calibrate(dir.path()).code(2)).contains("expected a recording"));
    assert!(stderr(&calibrate(&dir.path().join("nowhere")).code(2)).contains("nowhere"));
    // Neither a folder nor a log.
    assert!(stderr(&calibrate(Path::new("/dev/null")).code(2)).contains("/dev/null"));
    let folder = with(dir.path(), "meter.csv.gz", "no gzip");
    assert!(stderr(&calibrate(&folder).code(2)).contains("meter.csv.gz"));
}

#[test]
fn loads_beyond_the_readings_have_no_energy() {
    let Some(board) = shared_data("sensor-traces/a100-square-50ms") else { return };
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&board, dir.path());
    let kernels = dir.path().join("kernels.csv");
    fs::remove_file(&kernels).unwrap();
    fs::write(&kernels, "start_s,end_s\n1.982958,2.035292\n50.0,50.1\n").unwrap();
    let found = json(&calibrate(dir.path()).success());
    let reading = &found["readings"][0];
    assert!(reading["energy_j"].is_null());
    assert!(reading["reasons"]["energy_j"].as_str().unwrap().contains("do not reach"), "{reading}");
}
