//! perf's energy events as trees of files describe them. Opening and reading them is tested on the `msr` PMU, in
//! `src/meter/perf.rs`.

use std::fs;
use std::path::Path;

use layerjoule::meter::{Cause, MeterCandidate, perf_meters};
use layerjoule::trace::MeterStatus;

use crate::support::program::{copy_tree, shared_data};

/// Ids and scopes of what a tree offers; nothing is opened.
fn meters_of(tree: &str) -> Option<Vec<(String, String, String)>> {
    let root = shared_data(&format!("perf-power-pmu/{tree}"))?;
    let described = |c: MeterCandidate| {
        assert_eq!(c.record.status, MeterStatus::Unavailable);
        let refusal = c.refusal.unwrap();
        assert_eq!(refusal.cause, Cause::OtherRoot, "{}", refusal.text);
        assert!(refusal.text.contains("not opened, because --sysfs-root is not /sys"), "{}", refusal.text);
        let event = refusal.text.split(" is described").next().unwrap().to_string();
        (c.record.id, c.record.scope, event)
    };
    Some(perf_meters(&root).into_iter().map(described).collect())
}

fn row(id: &str, scope: &str, event: &str) -> (String, String, String) {
    (id.to_string(), scope.to_string(), event.to_string())
}

#[test]
fn a_server_counts_on_one_cpu_of_each_package() {
    let Some(meters) = meters_of("intel-server-2s") else { return };
    assert_eq!(
        meters,
        [
            row("rapl-perf", "CPU package, sum of 2", "power/energy-pkg/ on CPU 0, 28"),
            row("rapl-perf:dram", "memory of the CPU package, sum of 2", "power/energy-ram/ on CPU 0, 28"),
        ]
    );
}

#[test]
fn a_laptops_domains_are_meters_of_their_own() {
    let Some(meters) = meters_of("intel-laptop") else { return };
    assert_eq!(
        meters,
        [
            row("rapl-perf", "CPU package", "power/energy-pkg/ on CPU 0"),
            row("rapl-perf:core", "CPU cores (part of the package)", "power/energy-cores/ on CPU 0"),
            row(
                "rapl-perf:uncore",
                "integrated graphics (part of the package)",
                "power/energy-gpu/ on CPU 0"
            ),
            row("rapl-perf:psys", "whole platform (contains the packages)", "power/energy-psys/ on CPU 0"),
        ]
    );
}

#[test]
fn amds_cores_come_from_a_pmu_of_their_own() {
    let Some(meters) = meters_of("amd") else { return };
    assert_eq!(
        meters,
        [
            row("rapl-perf", "CPU package", "power/energy-pkg/ on CPU 0"),
            row(
                "rapl-perf:core",
                "CPU cores (part of the package), sum of 8",
                "power_core/energy-core/ on CPU 0, 1, 2, 3, 4, 5, 6, 7"
            ),
        ]
    );
}

#[test]
fn a_machine_without_the_pmu_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let meters = perf_meters(dir.path());
    assert_eq!(meters.len(), 1);
    let refusal = meters[0].refusal.as_ref().unwrap();
    assert_eq!(refusal.cause, Cause::NoPerfPmu);
    assert!(refusal.text.contains("devices/power/type: No such file"), "{}", refusal.text);
}

/// The cause and text against package and memory after a file of the server's PMU was changed.
fn damaged(change: impl Fn(&Path)) -> Option<Vec<(Cause, String)>> {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&shared_data("perf-power-pmu/intel-server-2s")?, dir.path());
    change(&dir.path().join("bus/event_source/devices/power"));
    let refusal = |c: MeterCandidate| c.refusal.map(|r| (r.cause, r.text)).unwrap();
    Some(perf_meters(dir.path()).into_iter().map(refusal).collect())
}

#[test]
fn an_event_without_its_scale_is_named_and_the_others_stay() {
    let missing = damaged(|pmu| fs::remove_file(pmu.join("events/energy-ram.scale")).unwrap());
    let Some(missing) = missing else { return };
    assert_eq!(missing[0].0, Cause::OtherRoot);
    assert_eq!(missing[1].0, Cause::Broken);
    assert!(missing[1].1.contains("events/energy-ram.scale: No such file"), "{}", missing[1].1);
}

#[test]
fn a_scale_or_unit_that_is_none_is_never_assumed() {
    for (file, content, words) in [
        ("events/energy-ram.scale", "", "expected joules of one count, found \"\""),
        ("events/energy-ram.scale", "-1", "expected joules of one count, found \"-1\""),
        ("events/energy-ram.scale", "inf", "found \"inf\""),
        ("events/energy-ram.unit", "mJoules", "expected \"Joules\", found \"mJoules\""),
        ("events/energy-ram", "event=0xzz", "energy-ram"),
        ("events/energy-ram", "colour=0x3", "energy-ram"),
    ] {
        let Some(found) = damaged(|pmu| fs::write(pmu.join(file), content).unwrap()) else { return };
        assert_eq!(found[0].0, Cause::OtherRoot, "{file}: {content}");
        assert_eq!(found[1].0, Cause::Broken, "{file}: {content}");
        assert!(found[1].1.contains(words) && found[1].1.contains(file), "{file}: {}", found[1].1);
    }
}

#[test]
fn damage_to_the_pmu_itself_is_named_for_every_event() {
    for (file, content) in [
        ("cpumask", ""),
        ("cpumask", "0-999999999999"),
        ("type", "x"),
        ("format/event", "config:0-99"),
        ("format/event", "config"),
    ] {
        let Some(found) = damaged(|pmu| fs::write(pmu.join(file), content).unwrap()) else { return };
        for (cause, text) in found {
            assert_eq!(cause, Cause::Broken, "{file}: {content}");
            let named = if file == "type" { "power" } else { file };
            assert!(text.contains(named), "{file}: {text}");
        }
    }
}
