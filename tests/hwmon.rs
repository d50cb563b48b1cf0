//! Power sensors as trees of files.

use std::fs;
use std::path::{Path, PathBuf};

use layerjoule::clock::Instant;
use layerjoule::meter::{Cause, Meter, MeterCandidate, ReadError, hwmon_meters};
use layerjoule::trace::{MeterKind, MeterStatus};
use layerjoule::units::Seconds;

use crate::support::program::{alone, copy_tree, layerjoule, lenet, make_unreadable, shared_data};

const JETSON: &str = "hwmon/jetson-agx-orin-ina3221";
const SERVER: &str = "hwmon/server-acpi-power-meter";

fn at(seconds: f64) -> Instant {
    Instant::default() + Seconds::new(seconds)
}

/// A copy of a tree, and its `class/hwmon`.
fn copy(tree: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&shared_data(tree)?, dir.path());
    let class = dir.path().join("class/hwmon");
    Some((dir, class))
}

/// A chip made of files.
fn chip(root: &Path, folder: &str, files: &[(&str, &str)]) {
    let folder = root.join("class/hwmon").join(folder);
    fs::create_dir_all(&folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
}

fn find(meters: Vec<MeterCandidate>, id: &str) -> MeterCandidate {
    meters.into_iter().find(|c| c.record.id == id).unwrap_or_else(|| panic!("no {id}"))
}

/// Mean power over ten seconds, read ten times a second.
fn mean_power(meter: &mut dyn Meter) -> f64 {
    let mut first = None;
    let mut last = (0.0, 0.0);
    for i in 0..=100 {
        let now = f64::from(i) * 0.1;
        let energy = meter.read(at(now)).unwrap().value();
        // The energy moves with the sensor's value: from one move to another it is exact.
        if energy > last.1 {
            first.get_or_insert((now, energy));
            last = (now, energy);
        }
    }
    let (begin, before) = first.unwrap();
    (last.1 - before) / (last.0 - begin)
}

#[test]
fn a_jetsons_rails_are_volts_times_amperes_and_shunts_are_no_rails() {
    let Some(root) = shared_data(JETSON) else { return };
    let mut meters = hwmon_meters(&root);
    let mut found: Vec<(String, f64)> = meters
        .iter_mut()
        .map(|c| (c.record.id.clone(), mean_power(c.meter.as_mut().unwrap().as_mut())))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    // mV x mA of the files: 19776 x 260, 19768 x 164, 5016 x 1096, 19752 x 56 microwatts. Channels named NC and in4
    // to in7 are none.
    let expected = [
        ("hwmon", 3.241_952),
        ("hwmon:VDDQ_VDD2_1V8AO", 1.106_112),
        ("hwmon:VDD_CPU_CV", 3.241_952),
        ("hwmon:VDD_GPU_SOC", 5.141_760),
        ("hwmon:VIN_SYS_5V0", 5.497_536),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((id, watts), (name, expected)) in found.iter().zip(expected) {
        assert_eq!(id, name);
        assert!((watts - expected).abs() < 1e-6, "{id}: {watts} W");
    }
}

#[test]
fn without_a_known_total_the_cpu_rail_stands_for_the_machine_and_says_so() {
    let Some(root) = shared_data(JETSON) else { return };
    let meters = hwmon_meters(&root);
    let record = &meters[0].record;
    assert_eq!((record.id.as_str(), record.scope.as_str()), ("hwmon", "CPU rail VDD_CPU_CV"));
    assert_eq!((record.kind, record.status), (MeterKind::Power, MeterStatus::Measured));
    assert!(record.reason.as_deref().unwrap().contains("3 other sensors are not added"));
    // 3 channels x 512 samples x 2 x 140 us by the driver's documentation; the second chip has one channel.
    let period =
        |id: &str| meters.iter().find(|c| c.record.id == id).unwrap().record.update_period_s.unwrap();
    assert!((period("hwmon").value() - 0.430_08).abs() < 1e-9);
    assert!((period("hwmon:VDDQ_VDD2_1V8AO").value() - 0.143_36).abs() < 1e-9);
}

#[test]
fn a_modules_total_goes_before_its_cpu_rail() {
    let Some((dir, class)) = copy(JETSON) else { return };
    fs::write(class.join("hwmon3/in3_label"), "VDD_IN\n").unwrap();
    assert_eq!(hwmon_meters(dir.path())[0].record.scope, "whole module (rail VDD_IN)");
}

#[test]
fn an_acpi_meter_is_the_whole_machine_with_its_window_and_accuracy() {
    let Some(root) = shared_data(SERVER) else { return };
    let mut meters = hwmon_meters(&root);
    assert_eq!(meters.len(), 2, "coretemp measures no power");
    let record = meters[0].record.clone();
    assert_eq!(record.scope, "whole machine (ACPI power_meter)");
    assert_eq!(record.update_period_s, Some(Seconds::new(1.0)));
    assert!((record.systematic_relative.unwrap() - 0.05).abs() < 1e-12);
    assert!((mean_power(meters[0].meter.as_mut().unwrap().as_mut()) - 412.0).abs() < 1e-6);
}

#[test]
fn changing_power_is_added_up_by_trapezoids() {
    let Some((dir, class)) = copy(SERVER) else { return };
    let mut meter = hwmon_meters(dir.path()).remove(0).meter.unwrap();
    let file = class.join("hwmon1/power1_average");
    let mut energy = 0.0;
    for (second, watts) in [100u64, 200, 400, 400].into_iter().enumerate() {
        fs::write(&file, format!("{}\n", watts * 1_000_000)).unwrap();
        energy = meter.read(at(second as f64)).unwrap().value();
    }
    // 150 + 300 + 400 J.
    assert!((energy - 850.0).abs() < 1e-9, "{energy}");
}

#[test]
fn a_gap_of_more_than_five_periods_is_lost_energy() {
    let Some(root) = shared_data(SERVER) else { return };
    let mut meter = hwmon_meters(&root).remove(0).meter.unwrap();
    assert_eq!(meter.longest_gap(), Some(Seconds::new(5.0)));
    meter.read(at(0.0)).unwrap();
    let Err(ReadError::Lost(text)) = meter.read(at(5.5)) else { panic!("bridged") };
    assert!(text.contains("5.50 s between two power readings"), "{text}");
    let after = meter.read(at(6.0)).unwrap();
    assert!(((meter.read(at(7.0)).unwrap() - after).value() - 1.5 * 412.0).abs() < 1e-6);
}

#[test]
fn a_node_that_vanishes_is_named_and_the_other_rails_go_on() {
    let Some((dir, class)) = copy(JETSON) else { return };
    let mut meters = hwmon_meters(dir.path());
    let mut cpu = meters.remove(0).meter.unwrap();
    cpu.read(at(0.0)).unwrap();
    fs::remove_dir_all(class.join("hwmon3")).unwrap();
    let Err(ReadError::Gone(text)) = cpu.read(at(0.1)) else { panic!("not gone") };
    assert!(text.contains("hwmon3/in2_input: No such file"), "{text}");
    let mut memory = find(meters, "hwmon:VDDQ_VDD2_1V8AO").meter.unwrap();
    assert!((mean_power(memory.as_mut()) - 1.106_112).abs() < 1e-6);
}

#[test]
fn a_rail_that_cannot_be_read_is_unavailable_and_the_others_work() {
    let Some((dir, class)) = copy(JETSON) else { return };
    make_unreadable(&class.join("hwmon3/curr1_input"));
    let meters = hwmon_meters(dir.path());
    let refused: Vec<&str> =
        meters.iter().filter(|c| c.meter.is_none()).map(|c| c.record.id.as_str()).collect();
    assert_eq!(refused, ["hwmon:VDD_GPU_SOC"]);
    let gpu = find(meters, "hwmon:VDD_GPU_SOC");
    assert!(gpu.record.reason.unwrap().contains("curr1_input: Is a directory"));
}

#[test]
fn a_reading_that_is_no_number_is_read_again() {
    let Some((dir, class)) = copy(SERVER) else { return };
    let mut meter = hwmon_meters(dir.path()).remove(0).meter.unwrap();
    fs::write(class.join("hwmon1/power1_average"), "").unwrap();
    assert!(matches!(meter.read(at(0.0)), Err(ReadError::Retry(text)) if text.contains("microwatts")));
}

#[test]
fn the_energies_of_sockets_are_counters_and_are_added() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("name", "amd_energy\n"),
        ("energy1_label", "Ecore000\n"),
        ("energy1_input", "1000000\n"),
        ("energy2_label", "Esocket0\n"),
        ("energy2_input", "5000000\n"),
        ("energy3_label", "Esocket1\n"),
        ("energy3_input", "7000000\n"),
    ];
    chip(dir.path(), "hwmon0", &files);
    let mut meters = hwmon_meters(dir.path());
    let ids: Vec<&str> = meters.iter().map(|c| c.record.id.as_str()).collect();
    assert_eq!(ids, ["hwmon", "hwmon:amd_energy.Esocket0", "hwmon:amd_energy.Esocket1"]);
    assert_eq!(meters[0].record.kind, MeterKind::Counter);
    assert_eq!(meters[0].record.scope, "CPU socket, sum of 2");
    let meter = meters[0].meter.as_mut().unwrap();
    meter.read(at(0.0)).unwrap();
    chip(dir.path(), "hwmon0", &[("energy2_input", "8000000\n"), ("energy3_input", "11000000\n")]);
    // 3 J and 4 J.
    assert!((meter.read(at(1.0)).unwrap().value() - 7.0).abs() < 1e-9);
}

#[test]
fn sensors_of_unknown_meaning_are_for_the_user_to_choose() {
    let dir = tempfile::tempdir().unwrap();
    chip(
        dir.path(),
        "hwmon0",
        &[("name", "chip"), ("power1_input", "1000000"), ("power1_label", "left, rail")],
    );
    chip(
        dir.path(),
        "hwmon1",
        &[("name", "chip"), ("power1_input", "2000000"), ("power1_label", "left, rail")],
    );
    let meters = hwmon_meters(dir.path());
    let refusal = meters[0].refusal.as_ref().unwrap();
    let ids = ["hwmon:chip.left__rail".to_string(), "hwmon:chip.left__rail.2".to_string()];
    assert_eq!(refusal.cause, Cause::Ambiguous(ids.to_vec()));
    for (meter, id) in meters[1..].iter().zip(ids) {
        assert_eq!(meter.record.id, id);
        assert!(meter.meter.is_some());
        // Nothing says how often it changes: the time taken is stated as such.
        assert!(meter.record.reason.as_deref().unwrap().contains("does not declare its own"));
    }
}

#[test]
fn a_machine_without_sensors_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let reason = |meters: Vec<MeterCandidate>| meters[0].record.reason.clone().unwrap();
    assert!(reason(hwmon_meters(dir.path())).contains("class/hwmon: No such file"));
    chip(dir.path(), "hwmon0", &[("name", "coretemp"), ("temp1_input", "52000")]);
    assert!(reason(hwmon_meters(dir.path())).contains("no chip that measures power"));
}

#[test]
fn a_profile_by_a_power_sensor_has_its_power() {
    let _machine = alone();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("sys");
    let rail = [
        ("name", "ina3221"),
        ("update_interval", "100"),
        ("in1_label", "VDD_CPU_CV"),
        ("in1_input", "20000"),
        ("curr1_input", "400"),
    ];
    chip(&root, "hwmon0", &rail);
    let out = dir.path().join("out");
    layerjoule()
        .args(["profile", "--rounds", "2", "--warm-up", "100ms", "--window", "100ms"])
        .arg(lenet(dir.path()))
        .arg("--sysfs-root")
        .arg(&root)
        .arg("--out")
        .arg(&out)
        .assert()
        // The same at rest and at work: the readings are right, and no layer's energy is believed.
        .code(3);
    let run = fs::read_to_string(out.join("run.json")).unwrap();
    assert!(run.contains("\"frozen_sensor\"") && run.contains("stood still at 8.000 W"), "{run}");
    let trace = layerjoule::trace::read_trace(&out.join("trace.jsonl")).unwrap();
    assert_eq!(trace.header.meters[trace.header.primary_meter].id, "hwmon");
    assert!(trace.header.emulated);
    assert!(trace.spans.len() > 10);
    let primary = trace.header.primary_meter;
    let energy_at = |instant| {
        let read = trace.samples.iter().find(|s| s.meter == primary && s.at == instant);
        read.unwrap().energy.value()
    };
    for span in &trace.spans {
        let (energy, time) = (energy_at(span.end) - energy_at(span.start), span.length().value());
        let edge = span.edge_s.value();
        // 20 V x 0.4 A all the time. Either edge may lie off by as much as the trace says.
        assert!((energy - 8.0 * time).abs() <= 2.0 * 8.0 * edge + 1e-9, "{span:?}: {energy} J");
        assert!(edge <= 0.1, "no more than a period: {span:?}");
    }
}
