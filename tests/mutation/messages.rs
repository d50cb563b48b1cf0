//! Damaged traces and run files: each is refused with its file, its place, what was expected and what was found.

use std::path::Path;

use layerjoule::report::{parse_run, run_report};
use layerjoule::trace::{Trace, parse_trace};
use serde_json::{Value, json};

use super::corpus::{run_bytes, small_trace, trace_bytes};
use crate::support::program::layerjoule;

fn lines() -> Vec<String> {
    String::from_utf8(trace_bytes(&small_trace())).unwrap().lines().map(str::to_string).collect()
}

fn read(lines: &[String]) -> Result<Trace, String> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    parse_trace(Path::new("trace.jsonl"), text.as_bytes()).map_err(|error| error.to_string())
}

/// The message about a trace of these bytes.
fn refused(bytes: &[u8]) -> String {
    parse_trace(Path::new("trace.jsonl"), bytes).unwrap_err().to_string()
}

/// The message about the small trace with one thing changed in one line, counted from 1.
fn changed(line: usize, from: &str, to: &str) -> String {
    let mut lines = lines();
    assert!(lines[line - 1].contains(from), "{}", lines[line - 1]);
    lines[line - 1] = lines[line - 1].replacen(from, to, 1);
    read(&lines).unwrap_err()
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
}

#[test]
fn a_trace_cut_in_its_last_line_keeps_the_windows_before_it() {
    let bytes = trace_bytes(&small_trace());
    let whole = parse_trace(Path::new("trace.jsonl"), bytes.as_slice()).unwrap();
    assert_eq!(whole, small_trace());
    let cut = parse_trace(Path::new("trace.jsonl"), &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!((cut.spans, cut.complete), (whole.spans, false));
}

#[test]
fn a_trace_with_dos_line_ends_says_the_same() {
    let text = String::from_utf8(trace_bytes(&small_trace())).unwrap().replace('\n', "\r\n");
    assert_eq!(parse_trace(Path::new("trace.jsonl"), text.as_bytes()).unwrap(), small_trace());
}

#[test]
fn what_is_no_trace_is_refused_at_its_first_line() {
    for bytes in [b"".as_slice(), b"\0\0\0\0\n", b"\xff\xfe\n", b"[]\n", b"{}\n", b"name = \"n\"\n", b"\n"] {
        assert_says(&refused(bytes), &["trace.jsonl:1: "]);
    }
    assert_says(&refused(&[b"{\"header\":".repeat(200).as_slice(), b"\n"].concat()), &["recursion limit"]);
}

#[test]
fn bytes_that_are_no_text_are_refused_with_line_and_column() {
    let mut bytes = trace_bytes(&small_trace());
    let at = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 20;
    bytes[at] = 0xff;
    assert_says(&refused(&bytes), &["trace.jsonl:2: damaged line: column "]);
    bytes[at] = 0;
    assert_says(&refused(&bytes), &["trace.jsonl:2: damaged line: column "]);
}

#[test]
fn two_mixed_recordings_are_told_from_one() {
    let whole = lines();
    let doubled_header = [&whole[..1], &whole].concat();
    assert_says(&read(&doubled_header).unwrap_err(), &["trace.jsonl:2: a second header"]);
    let after_the_end = [&whole[..], &whole[1..2]].concat();
    let line = format!("trace.jsonl:{}: expected nothing after the end", whole.len() + 1);
    assert_says(&read(&after_the_end).unwrap_err(), &[&line]);
    let mut swapped = whole.clone();
    swapped.swap(2, 3);
    assert_says(&read(&swapped).unwrap_err(), &["trace.jsonl:4: a window does not follow the one before it"]);
}

#[test]
fn time_that_goes_backwards_among_samples_is_refused() {
    // The first reading of the second window, at 2.3 s, moved before the end of the first.
    let message = changed(3, "[0,2300000000,", "[0,1500000000,");
    assert_says(
        &message,
        &["trace.jsonl:3: sample: expected a time from 2000000000 ns on, found 1500000000 ns"],
    );
}

#[test]
fn numbers_that_no_recording_holds_are_refused() {
    assert_says(
        &changed(2, ",15.0]", ",1e300]"),
        &["trace.jsonl:2: energy of a sample", "0 to 1e18", "1e300"],
    );
    assert_says(
        &changed(2, "\"edge_s\":0.001", "\"edge_s\":-0.001"),
        &["edge_s: expected 0 to 2e10, found -1e-3"],
    );
    assert_says(
        &changed(2, "\"executions\":400", "\"executions\":-1"),
        &["damaged line: column ", "-1", "a finite number of executions, 0 or at least 1e-6"],
    );
    assert_says(
        &changed(2, "\"round\":0", "\"round\":18446744073709551615"),
        &["round: expected 0 to 1e9, found 1.8446744073709552e19"],
    );
    assert_says(
        &changed(2, "\"executions\":400", "\"executions\":4e19"),
        &["executions: expected 0 to 1.8446744073709552e19, found 4e19"],
    );
    assert_says(&changed(2, "\"executions\":400", "\"executions\":1e999"), &["number out of range"]);
    assert_says(&changed(2, "\"executions\":400", "\"executions\":null"), &["damaged line: column "]);
    assert_says(&changed(2, ",15.0]", ",1e999]"), &["damaged line", "number out of range"]);
    assert_says(
        &changed(1, "\"batch\":2", "\"batch\":0"),
        &["trace.jsonl:1: batch: expected at least 1, found 0"],
    );
    assert_says(
        &changed(1, "\"update_period_s\":0.1", "\"update_period_s\":-1.0"),
        &["update_period_s of scripted"],
    );
}

#[test]
fn keys_of_a_trace_that_are_unknown_or_missing_are_named() {
    assert_says(
        &changed(1, "\"uuid\":", "\"uid\":"),
        &["trace.jsonl:1: header.device.uid: expected no such key"],
    );
    assert_says(&changed(1, "\"uuid\":null,", ""), &["header.device.uuid: expected this key, found none"]);
    assert_says(&changed(2, "\"edge_s\":", "\"edge\":"), &["unknown field `edge`", "edge_s"]);
}

#[test]
fn a_newer_trace_is_refused_by_name_and_a_foreign_one_otherwise() {
    let newer = changed(1, "layerjoule.trace/1", "layerjoule.trace/2");
    assert_says(
        &newer,
        &["expected layerjoule.trace/1, found layerjoule.trace/2; a newer layerjoule may read it"],
    );
    assert_says(&changed(1, "layerjoule.trace/1", "other/1"), &["found other/1; this is no trace"]);
}

// ---- Run files --------------------------------------------------------------------------------------------

fn report() -> Value {
    serde_json::to_value(run_report(&small_trace())).unwrap()
}

/// The message about the small run file with one value replaced; the place is a JSON pointer.
fn with(place: &str, value: Value) -> String {
    let mut report = report();
    *report.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value;
    run_refused(&serde_json::to_vec(&report).unwrap())
}

fn run_refused(bytes: &[u8]) -> String {
    parse_run(Path::new("run.json"), bytes).unwrap_err().to_string()
}

#[test]
fn a_run_file_is_read_as_it_was_written() {
    let report = run_report(&small_trace());
    assert_eq!(parse_run(Path::new("run.json"), &run_bytes(&small_trace())).unwrap(), report);
    // By hand: 20.1 W for 0.5 s over 500 executions.
    approx::assert_relative_eq!(
        report.layers[0].energy_j.unwrap().value.value(),
        0.0201,
        max_relative = 1e-12
    );
}

#[test]
fn damage_to_the_text_of_a_run_file_has_line_and_column() {
    let text = String::from_utf8(run_bytes(&small_trace())).unwrap();
    assert_says(&run_refused(b""), &["run.json:1:0: not a run file: EOF", "its run.json"]);
    assert_says(&run_refused(&text.as_bytes()[..100]), &["run.json:", "EOF while parsing"]);
    assert_says(&run_refused(&[b'['; 1000]), &["run.json:1:128: not a run file: recursion limit exceeded"]);
    let doubled = text.replacen("\"emulated\"", "\"simulated\"", 1);
    assert_says(&run_refused(doubled.as_bytes()), &["duplicate field `simulated`"]);
    let huge = text.replacen("\"batch\": 2", "\"batch\": 2e999", 1);
    assert_says(&run_refused(huge.as_bytes()), &["number out of range"]);
    assert_says(
        &run_refused(text.replacen("\"index\": 1", "\"index\": -1", 1).as_bytes()),
        &["integer `-1`, expected usize"],
    );
}

#[test]
fn a_newer_run_file_is_refused_by_name_and_a_foreign_one_otherwise() {
    let newer = with("/schema", json!("layerjoule.run/2"));
    assert_says(
        &newer,
        &["schema: expected layerjoule.run/1, found layerjoule.run/2; a newer layerjoule may read it"],
    );
    assert_says(&with("/schema", json!("other")), &["this is no run file"]);
    assert_says(&run_refused(b"{}"), &["found none; this is no run file"]);
}

#[test]
fn keys_of_a_run_file_that_are_unknown_or_missing_are_named() {
    let mut unknown = report();
    unknown["layers"][1]["energi_j"] = unknown["layers"][1]["energy_j"].clone();
    assert_says(
        &run_refused(unknown.to_string().as_bytes()),
        &["run.json: layers[1].energi_j: expected no such key"],
    );
    let mut missing = report();
    missing["layers"][1].as_object_mut().unwrap().remove("upper_j");
    assert_says(
        &run_refused(missing.to_string().as_bytes()),
        &["layers[1].upper_j: expected this key, found none"],
    );
    let mut block = report();
    block.as_object_mut().unwrap().remove("closure");
    assert_says(&run_refused(block.to_string().as_bytes()), &["missing field `closure`"]);
}

/// Each changes one number and leaves the rest: the file then contradicts itself.
#[test]
fn a_changed_number_of_a_run_file_is_found_where_others_depend_on_it() {
    for (place, value, says) in [
        ("/layers/0/energy_j/low", json!(5.0), "layers[0].energy_j: expected low <= value <= high"),
        ("/layers/0/energy_j/high", json!(0.0), "layers[0].energy_j: expected low <= value <= high"),
        (
            "/layers/2/energy_j",
            json!({"value": 1.0, "low": 0.5, "high": 1.5}),
            "energy_j: expected the sum of its layers",
        ),
        ("/layers/0/share", json!(0.9), "layers[0].share: expected the share that its energy_j has"),
        (
            "/layers/2/time_s",
            json!({"value": 1.0, "low": 0.5, "high": 1.5}),
            "time_s: expected the sum of its layers",
        ),
        (
            "/layers/2/time_s",
            json!({"value": -1.0, "low": -1.5, "high": -0.5}),
            "layers[2].time_s: expected more than no time",
        ),
        (
            "/layers/2/energy_dynamic_j",
            json!({"value": 1.0, "low": 0.5, "high": 1.5}),
            "energy_dynamic_j: expected the sum",
        ),
        (
            "/layers/0/power_w/high",
            json!(1e200),
            "layers[0].power_w: expected numbers that a measurement can give",
        ),
        ("/layers/0/energy_j", Value::Null, "layers[0].status: expected an energy_j"),
        ("/layers/3/upper_j", Value::Null, "layers[3].status: expected no energy_j but an upper_j"),
        ("/layers/1/index", json!(7), "layers[1].index: expected 1, found 7"),
        ("/layers/1/name", json!("layer0"), "layers[1].name: expected one row for each layer and phase"),
        (
            "/kinds/0/energy_j",
            json!({"value": 9.0, "low": 8.0, "high": 10.0}),
            "kinds[0].energy_j: expected the sum of its layers",
        ),
        (
            "/pass/0/energy_per_image_j",
            json!({"value": 9.0, "low": 8.0, "high": 10.0}),
            "energy_j over the batch",
        ),
        (
            "/closure/0/residual_j",
            json!({"value": 9.0, "low": 8.0, "high": 10.0}),
            "layers + gaps + residual",
        ),
        ("/closure/0/reconciled_j", json!([]), "expected 4 entries, one for each layer, found 0"),
        ("/idle/power_w/low", json!(1e9), "idle.power_w: expected low <= value <= high"),
        ("/network/batch", json!(0), "network.batch: expected at least 1, found 0"),
        ("/primary_meter", json!("nobody"), "primary_meter: expected one of meters, found \"nobody\""),
    ] {
        assert_says(
            &with(place, value),
            &["run.json: ", says, "the file was changed or damaged, profile again"],
        );
    }
}

// ---- The program ------------------------------------------------------------------------------------------

/// Runs `report` on a directory with these files; exit code, standard output and standard error.
fn report_of(files: &[(&str, &[u8])]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let output = layerjoule().arg("report").arg(folder.path()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_damaged_run_file_is_wrong_input() {
    let mut report = report();
    report["layers"][2]["energy_j"]["value"] = json!(1e9);
    let (code, out, error) = report_of(&[("run.json", report.to_string().as_bytes())]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert_says(&error, &["error: ", "run.json: layers[2].energy_j: expected low <= value <= high"]);
}

#[test]
fn a_run_file_that_its_trace_contradicts_is_named_and_the_trace_is_shown() {
    let (trace, run) = (trace_bytes(&small_trace()), run_bytes(&small_trace()));
    let (code, whole, quiet) = report_of(&[("trace.jsonl", &trace), ("run.json", &run)]);
    assert_eq!((code, quiet.as_str()), (0, ""));
    // A reading of the trace is edited: the 10.1 J of the last window but one become 11.1 J.
    let mut edited = small_trace();
    let mut samples: Vec<_> = edited.samples.iter().collect();
    let at = samples.len() - 5;
    samples[at - 1].energy += layerjoule::units::Joules::new(1.0);
    edited.samples = samples.into_iter().collect();
    let (code, _, note) = report_of(&[("trace.jsonl", &trace_bytes(&edited)), ("run.json", &run)]);
    assert_eq!(code, 0);
    assert_says(&note, &["note: ", "run.json: ", "the trace beside it gives another number"]);
    // The run file is edited: its trace still tells.
    let mut report = report();
    report["layers"][0]["power_w"]["high"] = json!(99.0);
    let (code, out, note) =
        report_of(&[("trace.jsonl", &trace), ("run.json", report.to_string().as_bytes())]);
    assert_eq!((code, out), (0, whole));
    assert_says(&note, &["run.json: layers[0].power_w.high: 99; the trace beside it gives another number"]);
}

#[test]
fn a_name_from_a_file_cannot_steer_the_terminal() {
    let mut trace = small_trace();
    trace.header.layers[0].name = "a\u{1b}[31mred".into();
    let (code, out, _) = report_of(&[("trace.jsonl", &trace_bytes(&trace))]);
    assert_eq!(code, 0);
    assert!(out.contains("a\u{fffd}[31mred"), "{out}");
    let (code, _, error) = report_of(&[("run.json", b"{\"schema\":\"\\u001b[31m\"}")]);
    assert_eq!(code, 2);
    assert!(!error.contains('\u{1b}'), "{error:?}");
}

#[test]
fn negative_options_are_told_what_they_must_be() {
    for (option, value, says) in [
        ("--seed", "-1", "expected a whole number from 0 to 18446744073709551615, found \"-1\""),
        ("--top", "-1", "expected a whole number from 0 on, or all, found \"-1\""),
        ("--window", "-5ms", "expected more than zero, found \"-5ms\"; write it as 500ms, 2s or 10m"),
        ("--settle", "-1", "expected more than zero, found \"-1\""),
        ("--rounds", "-3", "invalid digit"),
        ("--threads", "-2", "invalid digit"),
    ] {
        let output = layerjoule().args(["profile", "net.toml", option, value]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{option}");
        assert_says(&String::from_utf8(output.stderr).unwrap(), &[says, option]);
    }
    let output = layerjoule().args(["report", "run", "--top", "-1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_says(&String::from_utf8(output.stderr).unwrap(), &["expected a whole number from 0 on, or all"]);
}
