//! Traces and run files: what a reader accepts can be attributed, shown, written and read again.

use std::io::Write as _;
use std::path::Path;

use layerjoule::report::{RunReport, kinds_csv, layers_csv, parse_run, pictures, png, run_report, table};
use layerjoule::trace::{Trace, TraceWriter, parse_trace};

use super::check_message;

/// Pictures of larger runs take too long to be drawn thousands of times.
const MOST_DRAWN: usize = 64;
/// One file in so many is drawn as SVG, and one in so many of these as PNG and written to disk.
const DRAWN: usize = 8;

pub(super) fn check_trace(file: &str, bytes: &[u8]) -> bool {
    let trace = match parse_trace(Path::new(file), bytes) {
        Ok(trace) => trace,
        Err(error) => {
            check_message(file, &error);
            return false;
        }
    };
    let report = run_report(&trace);
    let json = serde_json::to_vec(&report).expect("a report is JSON");
    match parse_run("run.json".as_ref(), &json) {
        Ok(again) => assert!(again == report, "the run file of the trace says something else"),
        Err(error) => panic!("the run file of an accepted trace is refused: {error}"),
    }
    let small = trace.spans.len() <= 1_000 && trace.samples.len() <= 10_000;
    show(&report, Some(&trace).filter(|_| small), bytes);
    if draw(bytes, DRAWN * DRAWN) {
        write_and_read(&trace);
    }
    true
}

pub(super) fn check_run(file: &str, bytes: &[u8]) -> bool {
    let report = match parse_run(Path::new(file), bytes) {
        Ok(report) => report,
        Err(error) => {
            check_message(file, &error);
            return false;
        }
    };
    let json = serde_json::to_vec(&report).expect("a report is JSON");
    let again = parse_run(Path::new(file), &json).expect("what was read is written so that it can be read");
    assert!(again == report, "a run file that is read and written says something else");
    show(&report, None, bytes);
    true
}

/// Everything that `report` makes of a run.
fn show(report: &RunReport, trace: Option<&Trace>, bytes: &[u8]) {
    for most in [0, 3, usize::MAX] {
        assert!(!table(report, most).is_empty());
    }
    let mut csv = Vec::new();
    layers_csv(report, &mut csv).expect("memory does not fail");
    kinds_csv(report, &mut csv).expect("memory does not fail");
    if report.layers.len().max(report.kinds.len()) > MOST_DRAWN || !draw(bytes, DRAWN) {
        return;
    }
    for picture in pictures(report, trace).expect("every report can be drawn") {
        assert!(!picture.svg.contains("NaN") && !picture.svg.contains("inf\""), "{} holds NaN", picture.name);
        if draw(bytes, DRAWN * DRAWN) {
            png(&picture.svg).expect("every picture can be rastered");
        }
    }
}

/// The trace survives its file. Its samples all stand in the first window then, and what reading took in none: a
/// trace does not say to which window they belong.
fn write_and_read(trace: &Trace) {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let path = folder.path().join("trace.jsonl");
    let mut writer = TraceWriter::create(&path, &trace.header).expect("the folder is ours");
    let all: Vec<_> = trace.samples.iter().collect();
    let mut samples = all.as_slice();
    for span in &trace.spans {
        writer.window(span, samples, None).expect("the folder is ours");
        samples = &[];
    }
    for warning in &trace.warnings {
        writer.warning(warning).expect("the folder is ours");
    }
    writer.end(trace).expect("the folder is ours");
    drop(writer);
    // A crash leaves a part of a line.
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(b"{\"window\":{\"span\""))
        .expect("the folder is ours");
    let again =
        layerjoule::trace::read_trace(&path).expect("what was read is written so that it can be read");
    if trace.spans.is_empty() {
        assert!(again.header == trace.header);
    } else {
        let mut expected = trace.clone();
        expected.sampling = Trace::new(trace.header.clone(), Vec::new()).sampling;
        assert!(again == expected, "a trace that is read and written says something else");
    }
}

/// A choice that depends on the bytes alone, so that a failure repeats.
fn draw(bytes: &[u8], one_in: usize) -> bool {
    bytes.iter().fold(bytes.len(), |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % one_in == 0
}
