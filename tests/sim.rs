//! Profiles on simulated devices, as people and scripts meet them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use approx::assert_relative_eq;
use assert_cmd::assert::Assert;
use layerjoule::backend::{Backend as _, CacheUse, Task, Tensors};
use layerjoule::plan::{Plan, PlanOptions};
use layerjoule::sim::{DeviceParameters, Fault, PRESETS, SimDevice};
use serde_json::Value;

use crate::schema::{assert_valid, assert_valid_truth};
use crate::support::program::{layerjoule, lenet, repository};

/// A run on a simulated device, which the load of this machine does not touch.
fn profile(network: &Path, device: &str, out: &Path, more: &[&str]) -> Assert {
    let mut command = layerjoule();
    command.arg("profile").arg(network).args(["--device", device, "--out"]).arg(out).args(more).assert()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

/// A preset as a file, changed.
fn changed(dir: &Path, preset: &str, change: impl FnOnce(&mut DeviceParameters)) -> (PathBuf, String) {
    let mut device = DeviceParameters::preset(preset).unwrap();
    change(&mut device);
    let path = dir.join("device.toml");
    fs::write(&path, device.to_toml()).unwrap();
    let name = format!("sim:{}", path.display());
    (path, name)
}

/// Takes away what makes a layer alone differ from the layer in the network: caches, heat, and the gaps between
/// kernels, which are as long as a third of these small layers.
fn alike(device: &mut DeviceParameters) {
    (device.speed.cache_bytes, device.thermal.leakage_w_per_k) = (1.0, 0.0);
    (device.speed.gap_s, device.speed.sync_s) = (0.0, 0.0);
}

/// Energies of the layers that have one, by name.
fn energies(run: &Value) -> BTreeMap<String, f64> {
    let rows = run["layers"].as_array().unwrap().iter();
    rows.filter_map(|row| Some((row["name"].as_str()?.to_string(), row["energy_j"]["value"].as_f64()?)))
        .collect()
}

#[test]
fn everything_that_a_simulated_run_writes_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    let assert = profile(&network, "sim:h200", &out, &["--batch", "64"]).success();
    assert!(stdout(&assert).contains("SIMULATED by sim: the simulated board"), "{}", stdout(&assert));
    assert!(stdout(&assert).contains("The device is simulated: no hardware was measured"));
    assert!(stderr(&assert).contains("of simulated time"), "{}", stderr(&assert));
    let run = read(&out.join("run.json"));
    assert_valid(&run);
    assert_eq!((&run["simulated"], &run["emulated"]), (&true.into(), &false.into()));
    assert_eq!(run["device"]["kind"], "sim");
    for table in ["layers.csv", "kinds.csv"] {
        let mut csv = csv::Reader::from_path(out.join(table)).unwrap();
        let column = csv.headers().unwrap().iter().position(|name| name == "simulated").unwrap();
        let marks: Vec<String> = csv.records().map(|row| row.unwrap()[column].to_string()).collect();
        assert!(!marks.is_empty() && marks.iter().all(|mark| mark == "true"), "{table}: {marks:?}");
    }
    let pictures: Vec<String> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "svg"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(pictures.len(), 4);
    assert!(pictures.iter().all(|svg| svg.contains("SIMULATED")));
    let truth = read(&out.join("truth.json"));
    assert_valid_truth(&truth);
    // A later rendering says it too.
    let again =
        layerjoule().arg("report").arg(&out).arg("--out").arg(dir.path().join("again")).assert().success();
    assert!(stdout(&again).contains("The device is simulated"), "{}", stdout(&again));
}

#[test]
fn a_seed_repeats_a_run_and_another_meets_the_same_board_with_other_noise() {
    let dir = tempfile::tempdir().unwrap();
    let network = lenet(dir.path());
    let run = |name: &str, seed: &str| {
        let out = dir.path().join(name);
        profile(&network, "sim:a100", &out, &["--batch", "64", "--seed", seed]).success();
        let mut run = read(&out.join("run.json"));
        run["created"] = Value::Null;
        (run, fs::read(out.join("truth.json")).unwrap())
    };
    let (first, again, other) = (run("first", "1"), run("again", "1"), run("other", "2"));
    assert_eq!(first, again);
    assert_eq!(first.1, other.1, "the seed changed the board");
    assert_ne!(energies(&first.0), energies(&other.0), "the seed changed nothing");
}

#[test]
fn a_preset_as_a_file_is_the_same_device() {
    let dir = tempfile::tempdir().unwrap();
    let network = lenet(dir.path());
    let (_, file) = changed(dir.path(), "v100", |_| {});
    let run = |device: &str, name: &str| {
        let out = dir.path().join(name);
        profile(&network, device, &out, &["--batch", "64"]).success();
        energies(&read(&out.join("run.json")))
    };
    assert_eq!(run("sim:v100", "preset"), run(&file, "file"));
}

#[test]
fn an_interrupted_simulation_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    let options = ["--batch", "64", "--seed", "3", "--rounds", "3"];
    let assert = profile(&network, "sim:rapl-server", &out, &[&options[..], &["--budget", "25s"]].concat());
    assert!(stderr(&assert).contains("the time budget ran out"), "{}", stderr(&assert));
    profile(&network, "sim:rapl-server", &out, &options).success();
    let whole = dir.path().join("whole");
    profile(&network, "sim:rapl-server", &whole, &options).success();
    let windows = |dir: &Path| -> Vec<Value> {
        let run = read(&dir.join("run.json"));
        run["layers"].as_array().unwrap().iter().map(|row| row["windows"].clone()).collect()
    };
    assert_eq!(windows(&out), windows(&whole));
    assert_eq!(read(&out.join("truth.json")), read(&whole.join("truth.json")));
    let pass = |dir: &Path| read(&dir.join("run.json"))["pass"][0]["energy_j"]["value"].as_f64().unwrap();
    assert_relative_eq!(pass(&out), pass(&whole), max_relative = 0.01);
}

#[test]
fn another_board_may_not_go_on_with_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    profile(&network, "sim:h200", &out, &["--budget", "20s"]).code(3);
    // The same name and the same sensors, and joules that are 5 % larger.
    let assert = profile(&network, "sim:h200-gain5", &out, &[]).code(2);
    assert!(stderr(&assert).contains("unfinished run with another device"), "{}", stderr(&assert));
    // A run on this machine leaves no truth of another beside it.
    profile(&network, "sim:h200", &out, &[]).success();
    assert!(out.join("truth.json").exists());
    let short = ["--force", "--meter", "modelled", "--rounds", "2", "--window", "10ms", "--settle", "5ms"];
    profile(&network, "cpu", &out, &[&short[..], &["--warm-up", "20ms"]].concat()).success();
    assert!(!out.join("truth.json").exists());
}

#[test]
fn a_directory_is_named_after_network_and_device() {
    let dir = tempfile::tempdir().unwrap();
    let network = lenet(dir.path());
    layerjoule()
        .current_dir(dir.path())
        .args(["profile", "lenet5.toml", "--device", "sim:ideal"])
        .assert()
        .success();
    assert!(dir.path().join("layerjoule-out/lenet5-sim-ideal/truth.json").exists(), "{network:?}");
}

#[test]
fn side_meters_of_a_simulated_server_stand_beside_its_package() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    let (_, device) = changed(dir.path(), "rapl-server", alike);
    profile(&network, &device, &out, &["--batch", "64"]).success();
    let run = read(&out.join("run.json"));
    assert_eq!(run["primary_meter"], "sim");
    let conv = &run["layers"][0];
    assert_eq!(conv["also"][0]["meter"], "sim:dram");
    let also = conv["also"][0]["energy_j"]["value"].as_f64().unwrap();
    // Each against the truth of its own part of the machine.
    let truth = |dir: &Path| read(&dir.join("truth.json"))["layers"][0]["energy_j"].as_f64().unwrap();
    let energy = conv["energy_j"]["value"].as_f64().unwrap();
    assert_relative_eq!(energy, truth(&out), max_relative = 0.05);
    let dram = dir.path().join("dram");
    profile(&network, &device, &dram, &["--batch", "64", "--meter", "sim:dram"]).success();
    assert_eq!(read(&dram.join("truth.json"))["meter"], "sim:dram");
    assert_relative_eq!(also, truth(&dram), max_relative = 0.05);
}

#[test]
fn a_power_reading_can_be_the_primary_meter() {
    let dir = tempfile::tempdir().unwrap();
    let network = lenet(dir.path());
    // Without what makes a layer alone differ from the layer in the network.
    let (_, device) = changed(dir.path(), "rtx3090", alike);
    for meter in ["sim", "sim-instant", "sim-average"] {
        let out = dir.path().join(meter);
        profile(&network, &device, &out, &["--batch", "64", "--meter", meter]).success();
        let run = read(&out.join("run.json"));
        assert_eq!(run["primary_meter"], meter);
        let pass = run["pass"][0]["energy_j"]["value"].as_f64().unwrap();
        let truth = read(&out.join("truth.json"));
        // Queries keep the device waiting for a per cent of the time, and noise is a third of one.
        assert_relative_eq!(pass, truth["pass"][0]["energy_j"].as_f64().unwrap(), max_relative = 0.03);
        // The average of a second must have forgotten the work before: its windows open 1.6 s after their load began.
        let conv = run["layers"][0]["energy_j"]["value"].as_f64().unwrap();
        assert_relative_eq!(conv, truth["layers"][0]["energy_j"].as_f64().unwrap(), max_relative = 0.03);
    }
}

/// Relative error of the measured pass.
fn pass_error(out: &Path) -> f64 {
    let (run, truth) = (read(&out.join("run.json")), read(&out.join("truth.json")));
    let energy = run["pass"][0]["energy_j"]["value"].as_f64().unwrap();
    (energy / truth["pass"][0]["energy_j"].as_f64().unwrap() - 1.0).abs()
}

#[test]
fn slow_readings_cost_the_network_nothing_on_a_board_that_queues() {
    let dir = tempfile::tempdir().unwrap();
    let network = lenet(dir.path());
    let error = |queues: bool| {
        let (_, device) = changed(dir.path(), "ideal", |device| {
            device.speed.queues = queues;
            for sensor in &mut device.sensor {
                (sensor.update_period_s, sensor.query_s) = (0.1, [2e-3, 2e-3]);
                sensor.window_s = sensor.window_s.map(|_| 0.1);
            }
        });
        let out = dir.path().join(queues.to_string());
        profile(&network, &device, &out, &["--batch", "64", "--rounds", "3"]).success();
        pass_error(&out)
    };
    // Windows of 5 s, whose edges are found to 5 ms.
    let (queued, waited) = (error(true), error(false));
    assert!(queued < 1e-3, "{queued}");
    // 59 readings of 2 ms in each window of 5.1 s are 2.4 % of the work's time, at the 80 W of rest; the pass has 132 W.
    assert_relative_eq!(waited, 59.0 * 2e-3 / 4.98 * 80.0 / 132.3, max_relative = 0.05);
}

#[test]
fn cold_caches_cost_a_repeated_step_more_and_a_pass_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let network = layerjoule::network::read(&lenet(dir.path()), &[]).unwrap();
    let plan = Plan::new(&network, &PlanOptions { batch: 64, ..PlanOptions::default() }).unwrap();
    let joules = |cache: CacheUse, task: Task| {
        let mut parameters = DeviceParameters::preset("h200").unwrap();
        parameters.speed.time_noise = 0.0;
        let device = SimDevice::new(&parameters, 1);
        let mut executor = device.backend(cache).prepare(&network, &plan, &Tensors::none()).unwrap();
        executor.ready(task, &device.clock()).unwrap();
        let before = device.true_joules();
        executor.repeat(task, 1000).unwrap();
        // Given, and not done.
        assert_relative_eq!(device.true_joules(), before);
        executor.sync().unwrap();
        device.true_joules() - before
    };
    let costs = |task| (joules(CacheUse::Cold, task), joules(CacheUse::Hot, task));
    let (cold, hot) = costs(Task::Step(0));
    // conv1: 64 images of 28 x 28 in and of 6 x 28 x 28 out, all in the cache, or all from memory; two first executions
    // of the hot ones find less.
    let bytes = 4.0 * 64.0 * 28.0 * 28.0 * 7.0;
    let memory = 1000.0 * bytes * DeviceParameters::preset("h200").unwrap().energy.memory_byte_j;
    assert!(cold - hot > 0.95 * memory, "{cold} J cold, {hot} J hot, {memory} J of memory");
    let (cold, hot) = costs(Task::Pass);
    assert_relative_eq!(cold, hot);
}

#[test]
fn a_counter_that_wraps_inside_windows_gives_the_same_joules() {
    let dir = tempfile::tempdir().unwrap();
    let network = lenet(dir.path());
    let run = |wraps: Option<f64>| {
        // 1500 J pass in some ten seconds of these, of which there are sixty.
        let (_, device) = changed(dir.path(), "ideal", |device| device.sensor[0].wraps_at_j = wraps);
        let out = dir.path().join(format!("{wraps:?}"));
        profile(&network, &device, &out, &["--batch", "64"]).success();
        energies(&read(&out.join("run.json")))
    };
    let (plain, wrapping) = (run(None), run(Some(1500.0)));
    assert!(!plain.is_empty() && plain.len() == wrapping.len());
    for (layer, energy) in plain {
        let relative = (wrapping[&layer] / energy - 1.0).abs();
        // A wrap may cost the one count between the largest reading and zero.
        assert!(relative < 1e-4, "{layer}: {energy} J, {} J with wraps", wrapping[&layer]);
    }
}

#[test]
fn a_counter_that_fails_on_the_way_ends_the_run_with_its_reason_and_keeps_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let network = lenet(dir.path());
    // One that starts anew ends no run: tests/pathological.rs.
    let cases = [
        (Fault::Stuck { at_s: 20.0 }, "has not changed for"),
        (Fault::Silent { at_s: 20.0, for_s: 1e6 }, "has not answered for"),
    ];
    for (fault, words) in cases {
        let (_, device) = changed(dir.path(), "ideal", |device| device.sensor[0].fault = Some(fault));
        let out = dir.path().join(words.replace(' ', "-"));
        let assert = profile(&network, &device, &out, &["--batch", "64"]).code(3);
        assert!(stderr(&assert).contains(words), "{}", stderr(&assert));
        let run = read(&out.join("run.json"));
        assert!(run["warnings"].as_array().unwrap().iter().any(|w| w["code"] == "incomplete"));
        let rows = run["layers"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["energy_j"].is_object() || row["reason"].is_string()));
    }
    // One that never moves is refused before anything is measured.
    let (_, device) = changed(dir.path(), "ideal", |device| {
        device.sensor[0].fault = Some(Fault::Stuck { at_s: 0.0 });
    });
    let assert = profile(&network, &device, &dir.path().join("still"), &["--meter", "sim"]).code(3);
    assert!(stderr(&assert).contains("stood still"), "{}", stderr(&assert));
}

#[test]
fn wrong_simulated_devices_are_refused_with_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    let bad = dir.path().join("bad.toml");
    let text = DeviceParameters::preset("h200").unwrap().to_toml();
    fs::write(&bad, text.replacen("window_s = 0.025", "window_s = 0.3", 1)).unwrap();
    let line = text.lines().position(|line| line.starts_with("window_s")).unwrap() + 1;
    let (bad, place) = (format!("sim:{}", bad.display()), format!("bad.toml:{line}"));
    let cases: Vec<(&str, Vec<&str>, Vec<&str>)> = vec![
        ("sim:h100", vec![], PRESETS.to_vec()),
        ("sim:", vec![], vec!["ideal"]),
        ("sim", vec![], vec!["--device: expected", "sim:FILE"]),
        (&bad, vec![], vec![&place, "window_s", "0.1", "0.3"]),
        ("sim:ideal", vec!["--threads", "2"], vec!["--threads", "simulated"]),
        ("sim:ideal", vec!["--meter", "rapl-perf"], vec!["meter \"rapl-perf\"", "sim"]),
    ];
    for (device, more, words) in cases {
        let assert = profile(&network, device, &out, &more).code(2);
        for word in words {
            assert!(stderr(&assert).contains(word), "{device} {more:?}: {}", stderr(&assert));
        }
        assert!(!out.exists());
    }
}

#[test]
fn a_large_network_has_a_truth_for_each_layer_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let network = repository("networks/resnet50.toml");
    let out = dir.path().join("out");
    profile(&network, "sim:h200", &out, &["--batch", "32"]).success();
    let (run, truth) = (read(&out.join("run.json")), read(&out.join("truth.json")));
    let names = |rows: &Value, runs: &dyn Fn(&Value) -> bool| -> Vec<Value> {
        rows.as_array().unwrap().iter().filter(|row| runs(row)).map(|row| row["name"].clone()).collect()
    };
    let measured = names(&run["layers"], &|row| row["executions"] == 1);
    assert_eq!(measured, names(&truth["layers"], &|_| true));
    let sum: f64 =
        truth["layers"].as_array().unwrap().iter().map(|row| row["energy_j"].as_f64().unwrap()).sum();
    let pass = truth["pass"][0]["energy_j"].as_f64().unwrap();
    // The gap behind a kernel is a part of its layer.
    assert_relative_eq!(sum, pass, max_relative = 1e-9);
}
