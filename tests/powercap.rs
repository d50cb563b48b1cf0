//! The powercap meter on trees of files: recorded layouts, and one that another process advances.

use std::fs;
use std::path::{Path, PathBuf};

use layerjoule::clock::MonotonicClock;
use layerjoule::meter::{MeterChoice, choose, host_meters, powercap_meters};
use layerjoule::trace::{MeterStatus, SpanKind};

use crate::support::injected::{Injector, Tree};
use crate::support::program::{alone, layerjoule, lenet, shared_data};

/// Ids and scopes of what a tree offers.
fn meters_of(tree: &str) -> Option<Vec<(String, String)>> {
    let root = shared_data(&format!("powercap/{tree}"))?;
    let record = |c: layerjoule::meter::MeterCandidate| {
        assert!(c.meter.is_some(), "{}: {:?}", c.record.id, c.record.reason);
        (c.record.id, c.record.scope)
    };
    Some(powercap_meters(&root).into_iter().map(record).collect())
}

fn pair(id: &str, scope: &str) -> (String, String) {
    (id.to_string(), scope.to_string())
}

#[test]
fn two_packages_are_added_and_their_memory_stands_apart() {
    let Some(meters) = meters_of("intel-server-2s-dram") else { return };
    assert_eq!(
        meters,
        [
            pair("rapl-powercap", "CPU package, sum of 2"),
            pair("rapl-powercap:dram", "memory of the CPU package, sum of 2"),
        ]
    );
}

#[test]
fn zones_seen_twice_count_once_and_parts_are_never_added() {
    let Some(meters) = meters_of("intel-laptop-psys") else { return };
    assert_eq!(
        meters,
        [
            pair("rapl-powercap", "CPU package"),
            pair("rapl-powercap:core", "CPU cores (part of the package)"),
            pair("rapl-powercap:uncore", "integrated graphics (part of the package)"),
            pair("rapl-powercap:psys", "whole platform (contains the packages)"),
        ]
    );
}

#[test]
fn the_wrap_table_is_reproduced_through_the_files() {
    let Some(path) = shared_data("powercap/wrap-cases.csv") else { return };
    let text = fs::read_to_string(path).unwrap();
    for line in text.lines().skip(1) {
        let f: Vec<&str> = line.split(',').collect();
        let (range, first, second, interval, delta) = (f[2], f[3], f[4], f[5], f[6]);
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::new(dir.path(), range.parse().unwrap());
        tree.set(first.parse().unwrap());
        let mut meter = powercap_meters(dir.path()).remove(0).meter.unwrap();
        let at = |s: f64| layerjoule::clock::Instant::default() + layerjoule::units::Seconds::new(s);
        let before = meter.read(at(0.0)).unwrap();
        tree.set(second.parse().unwrap());
        let energy = meter.read(at(interval.parse().unwrap())).unwrap() - before;
        // One count more is right as well; the largest here is 1 J of psys, which does not wrap.
        let expected = delta.parse::<f64>().unwrap() * 1e-6;
        assert!((energy.value() - expected).abs() <= 61.1e-6, "{line}: {energy:?}");
    }
}

#[test]
fn a_still_counter_is_unavailable_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    Tree::new(dir.path(), 262_143_328_850).set(5);
    let candidates = host_meters(dir.path(), &MonotonicClock::start());
    assert_eq!(candidates[0].record.status, MeterStatus::Unavailable);
    assert!(candidates[0].record.reason.as_deref().unwrap().contains("stood still"));
    // The model takes its place, and says that it is one.
    let chosen = choose(candidates, &MeterChoice::Auto).unwrap();
    assert_eq!(chosen.primary().id, "modelled");
    assert!(chosen.warnings.iter().any(|w| w.code == "estimated"));
}

#[test]
fn two_zones_of_one_name_are_two_counters() {
    let dir = tempfile::tempdir().unwrap();
    Tree::new(dir.path(), 262_143_328_850).set(5);
    let zones = dir.path().join("class/powercap");
    let second = zones.join("intel-rapl:1");
    fs::create_dir(&second).unwrap();
    for name in ["name", "max_energy_range_uj", "energy_uj"] {
        fs::copy(zones.join("intel-rapl:0").join(name), second.join(name)).unwrap();
    }
    assert_eq!(powercap_meters(dir.path()).remove(0).record.scope, "CPU package, sum of 2");
}

#[test]
fn a_counter_that_may_not_be_read_names_the_command_that_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::new(dir.path(), 262_143_328_850);
    // Root reads any file: a directory in its place fails on the same path through the code.
    fs::remove_file(tree.energy()).unwrap();
    fs::create_dir(tree.energy()).unwrap();
    let reason = powercap_meters(dir.path()).remove(0).record.reason.unwrap();
    assert!(reason.contains("energy_uj") && reason.contains("directory"), "{reason}");
}

/// Mean over windows of the injected energy of one execution, by the injector's own formula.
fn injected_per_execution(trace: &layerjoule::trace::Trace, signature: usize, injector: &Injector) -> f64 {
    let origin = trace.header.clock_origin_unix_s.value();
    let energies: Vec<f64> = trace
        .spans
        .iter()
        .filter(|s| s.kind == SpanKind::Replay(signature))
        .map(|s| {
            let at = |i: layerjoule::clock::Instant| injector.energy(origin + i.since_origin().value());
            (at(s.end) - at(s.start)) / s.executions as f64
        })
        .collect();
    energies.iter().sum::<f64>() / energies.len() as f64
}

#[test]
fn layer_energies_are_those_that_another_process_injected() {
    let _machine = alone();
    let dir = tempfile::tempdir().unwrap();
    let root: PathBuf = dir.path().join("sys");
    // 200 J: at 30 to 70 W the counter wraps about every 4 s, inside several windows of half a second.
    let injector = Injector::start(&root, 200_000_000);
    let out = dir.path().join("out");
    layerjoule()
        // Six rounds: with three, a busy machine's spread left the interval open down to zero.
        .args(["profile", "--rounds", "6", "--warm-up", "500ms", "--meter", "rapl-powercap"])
        .arg(lenet(dir.path()))
        .arg("--sysfs-root")
        .arg(&root)
        .arg("--out")
        .arg(&out)
        .assert()
        .success();
    let trace = layerjoule::trace::read_trace(&out.join("trace.jsonl")).unwrap();
    assert!(wraps_inside_windows(&trace, &injector, 200.0) > 0, "no window had a wrap");
    let report = layerjoule::report::run_report(&trace);
    let mut compared = 0;
    for (layer, record) in report.layers.iter().zip(&trace.header.layers) {
        let Some(signature) = record.signature else { continue };
        let injected = injected_per_execution(&trace, signature, &injector);
        let energy = layer.energy_j.unwrap_or_else(|| panic!("{}: {:?}", layer.name, layer.reason));
        let error = energy.value.value() / injected - 1.0;
        assert!(error.abs() < 0.03, "{}: {:+.2} %", layer.name, error * 100.0);
        compared += 1;
    }
    assert!(
        compared >= 5,
        "only {compared} layers had an energy:\n{}",
        layerjoule::report::table(&report, 99)
    );
}

/// Windows in which the injected counter passed a multiple of its range.
fn wraps_inside_windows(trace: &layerjoule::trace::Trace, injector: &Injector, range: f64) -> usize {
    let origin = trace.header.clock_origin_unix_s.value();
    let turns = |i: layerjoule::clock::Instant| {
        (injector.energy(origin + i.since_origin().value()) / range).floor() as i64
    };
    trace
        .spans
        .iter()
        .filter(|s| matches!(s.kind, SpanKind::Replay(_)) && turns(s.end) > turns(s.start))
        .count()
}

#[test]
fn a_counter_that_vanishes_ends_the_run_and_keeps_its_windows() {
    let _machine = alone();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("sys");
    let injector = Injector::start(&root, 262_143_328_850);
    injector.vanish_after(std::time::Duration::from_secs(5));
    let out = dir.path().join("out");
    let result = layerjoule()
        .args(["profile", "--warm-up", "100ms", "--settle", "20ms", "--window", "50ms", "--rounds", "99"])
        .arg(lenet(dir.path()))
        .arg("--sysfs-root")
        .arg(&root)
        .arg("--out")
        .arg(&out)
        .assert()
        .code(3);
    let error = String::from_utf8_lossy(&result.get_output().stderr).into_owned();
    assert!(error.contains("energy_uj: No such file"), "{error}");
    assert!(error.contains("the finished windows are kept"), "{error}");
    let (report, _) = layerjoule::profile::load_run(Path::new(&out)).unwrap();
    assert!(report.layers.iter().any(|l| l.energy_j.is_some()));
    assert!(report.warnings.iter().any(|w| w.code == "incomplete" && w.text.contains("energy_uj")));
}
