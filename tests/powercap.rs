//! The powercap meter on trees of files: recorded layouts, and one that another process advances.

use std::fs;
use std::path::{Path, PathBuf};

use layerjoule::clock::Instant;
use layerjoule::clock::MonotonicClock;
use layerjoule::meter::{
    Meter, MeterCandidate, MeterChoice, POWERCAP_ID, Part, ReadError, choose, host_meters, powercap_meters,
};
use layerjoule::trace::{MeterStatus, SpanKind};
use layerjoule::units::{Joules, Seconds};

use crate::support::injected::{Injector, Tree};
use crate::support::program::{alone, copy_tree, layerjoule, lenet, make_unreadable, shared_data};

/// Ids and scopes of what a tree offers.
fn meters_of(tree: &str) -> Option<Vec<(String, String)>> {
    let root = shared_data(&format!("powercap/{tree}"))?;
    let record = |c: MeterCandidate| {
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
fn a_hexadecimal_zone_is_a_package_like_any_other() {
    let Some(meters) = meters_of("procfs-desktop-core") else { return };
    assert_eq!(
        meters,
        [
            pair("rapl-powercap", "CPU package, sum of 2"),
            pair("rapl-powercap:core", "CPU cores (part of the package)"),
        ]
    );
}

#[test]
fn psys_between_two_packages_is_added_to_none() {
    let Some(meters) = meters_of("intel-server-spr-psys") else { return };
    assert_eq!(
        meters,
        [
            pair("rapl-powercap", "CPU package, sum of 2"),
            pair("rapl-powercap:dram", "memory of the CPU package, sum of 2"),
            pair("rapl-powercap:psys", "whole platform (contains the packages)"),
        ]
    );
}

#[test]
fn amd_has_packages_and_sometimes_cores() {
    let Some(apu) = meters_of("amd-apu-package-core") else { return };
    let Some(package_only) = meters_of("amd-package-only") else { return };
    let package = pair("rapl-powercap", "CPU package");
    assert_eq!(package_only, std::slice::from_ref(&package));
    assert_eq!(apu, [package, pair("rapl-powercap:core", "CPU cores (part of the package)")]);
}

#[test]
fn the_step_of_a_counter_follows_from_its_range() {
    let Some(root) = shared_data("powercap/intel-server-spr-psys") else { return };
    // 61.035 uJ, 15.3 uJ and 1 J: the units from which the kernel computed the ranges.
    let steps: Vec<f64> =
        powercap_meters(&root).iter().map(|c| c.resolution.unwrap().value() * 1e6).collect();
    for (step, expected) in steps.iter().zip([61.035, 15.3, 1e6]) {
        assert!((step / expected - 1.0).abs() < 1e-3, "{steps:?}");
    }
}

fn at(seconds: f64) -> Instant {
    Instant::default() + Seconds::new(seconds)
}

/// The meter of the zone's domain in a copy of its tree, and the zone's counter.
fn zone_of_copy(tree: &str, zone: &str, to: &Path) -> Option<(Box<dyn Meter>, PathBuf)> {
    copy_tree(&shared_data(&format!("powercap/{tree}"))?, to);
    let zone = to.join("class/powercap").join(zone);
    let name = fs::read_to_string(zone.join("name")).unwrap();
    let id = match name.trim() {
        package if package.starts_with("package-") => POWERCAP_ID.to_string(),
        part => format!("{POWERCAP_ID}:{part}"),
    };
    let candidate = powercap_meters(to).into_iter().find(|c| c.record.id == id).unwrap();
    Some((candidate.meter.unwrap(), zone.join("energy_uj")))
}

#[test]
fn the_wrap_table_is_reproduced_in_its_own_trees() {
    let Some(path) = shared_data("powercap/wrap-cases.csv") else { return };
    let text = fs::read_to_string(path).unwrap();
    let mut wraps = 0;
    for line in text.lines().skip(1) {
        let f: Vec<&str> = line.split(',').collect();
        let number = |column: usize| f[column].parse::<f64>().unwrap();
        let (first, second, interval, delta, lsb) = (f[3], f[4], number(5), number(6), number(8));
        let dir = tempfile::tempdir().unwrap();
        let (mut meter, energy) = zone_of_copy(f[0], f[1], dir.path()).unwrap();
        let range = fs::read_to_string(energy.with_file_name("max_energy_range_uj")).unwrap();
        assert_eq!(range.trim(), f[2], "{line}");
        fs::write(&energy, first).unwrap();
        let before = meter.read(at(0.0)).unwrap();
        fs::write(&energy, second).unwrap();
        let counted = (meter.read(at(interval)).unwrap() - before).value() * 1e6;
        // After a wrap one count more is right as well; otherwise the difference is exact.
        let wrapped = f[7] == "yes";
        wraps += usize::from(wrapped);
        let tolerance = if wrapped { lsb } else { 1e-3 };
        assert!((counted - delta).abs() <= tolerance, "{line}: {counted}");
    }
    assert_eq!((text.lines().count(), wraps), (7, 3));
}

#[test]
fn a_package_without_a_name_is_left_out_by_name_and_the_others_count() {
    let Some(source) = shared_data("powercap/intel-server-2s-dram") else { return };
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&source, dir.path());
    make_unreadable(&dir.path().join("class/powercap/intel-rapl:1/name"));
    let package = powercap_meters(dir.path()).remove(0);
    assert_eq!(package.record.scope, "CPU package");
    assert!(package.meter.is_some());
    assert_eq!(package.notes[0].code, "skipped_zone");
    assert!(package.notes[0].text.contains("intel-rapl:1 is left out"), "{:?}", package.notes);
    // The run says so too.
    let choice = MeterChoice::Named(vec![POWERCAP_ID.to_string()]);
    let chosen = choose(powercap_meters(dir.path()), &choice, &Part::Cpu).unwrap();
    assert!(chosen.warnings.iter().any(|w| w.code == "skipped_zone"));
}

#[test]
fn a_package_that_cannot_be_read_is_never_left_out_of_a_sum() {
    let Some(source) = shared_data("powercap/intel-server-2s-dram") else { return };
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&source, dir.path());
    make_unreadable(&dir.path().join("class/powercap/intel-rapl:1/energy_uj"));
    let [package, dram] = &powercap_meters(dir.path())[..] else { panic!("two meters") };
    assert_eq!(package.record.status, MeterStatus::Unavailable);
    assert!(package.record.reason.as_deref().unwrap().contains("intel-rapl:1/energy_uj"));
    // Memory has counters of its own, which are still measured.
    assert!(dram.meter.is_some());
}

#[test]
fn both_ways_to_one_package_are_compared_and_counted_once() {
    let Some(root) = shared_data("powercap/intel-laptop-psys") else { return };
    let package = powercap_meters(&root).remove(0);
    assert_eq!(package.twin.unwrap().0, "rapl-powercap by mmio");
}

/// A meter of a package at 100 J, and its tree.
fn at_100_joules(dir: &Path) -> (Box<dyn Meter>, Tree) {
    let tree = Tree::new(dir, 262_143_328_850);
    tree.set(100_000_000);
    let mut meter = powercap_meters(dir).remove(0).meter.unwrap();
    assert_eq!(meter.read(at(0.0)), Ok(Joules::ZERO));
    (meter, tree)
}

#[test]
fn a_counter_that_goes_back_is_fatal_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut meter, tree) = at_100_joules(dir.path());
    tree.set(99_000_000);
    let Err(ReadError::Fatal(text)) = meter.read(at(0.5)) else { panic!("not fatal") };
    assert!(text.contains("energy_uj: the counter went back from 100000000 to 99000000"), "{text}");
}

#[test]
fn a_jump_costs_its_window_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (mut meter, tree) = at_100_joules(dir.path());
    // 5000 J in half a second; 2 kW bring 3000 J in that and the second that counts may be late.
    tree.set(5_100_000_000);
    let Err(ReadError::Lost(text)) = meter.read(at(0.5)) else { panic!("not lost") };
    assert!(text.contains("energy_uj: the counter jumped from 100000000 to 5100000000: 5000 J"), "{text}");
    let after = meter.read(at(0.6)).unwrap();
    tree.set(5_107_000_000);
    assert_eq!(meter.read(at(0.7)).unwrap() - after, Joules::new(7.0));
}

#[test]
fn permission_lost_in_the_middle_is_named_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (mut meter, tree) = at_100_joules(dir.path());
    make_unreadable(&tree.energy());
    let Err(ReadError::Gone(text)) = meter.read(at(0.5)) else { panic!("not gone") };
    assert!(text.contains("intel-rapl:0/energy_uj: Is a directory"), "{text}");
}

#[test]
fn a_still_counter_is_unavailable_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    Tree::new(dir.path(), 262_143_328_850).set(5);
    let candidates = host_meters(dir.path(), &MonotonicClock::start());
    let powercap = candidates.iter().find(|c| c.record.id == POWERCAP_ID).unwrap();
    assert_eq!(powercap.record.status, MeterStatus::Unavailable);
    assert!(powercap.record.reason.as_deref().unwrap().contains("stood still"));
    // The model takes its place, and says that it is one.
    let chosen = choose(candidates, &MeterChoice::Auto, &Part::Cpu).unwrap();
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
    make_unreadable(&tree.energy());
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
            (at(s.end) - at(s.start)) / s.executions
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
        // Five rounds: with three, a busy machine's spread left the interval open down to zero.
        .args(["profile", "--rounds", "5", "--warm-up", "500ms", "--meter", "rapl-powercap"])
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
