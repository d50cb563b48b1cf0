//! Sensors that cannot be believed, and results that cannot be true: profiles on simulated devices whose sensors have the
//! fault. Each is named with its numbers, and no number of it stands without a warning (docs/measuring.md, the end).

use std::fs;
use std::path::{Path, PathBuf};

use approx::assert_relative_eq;
use assert_cmd::assert::Assert;
use layerjoule::plan::{Plan, PlanOptions};
use layerjoule::report::run_report;
use layerjoule::sim::{DeviceParameters, Fault, SensorParameters, Truth};
use layerjoule::trace::{Coverage, Span, SpanKind, Trace, read_trace};
use serde_json::Value;

use crate::schema::assert_valid;
use crate::support::program::{layerjoule, repository};

/// A finished profile.
struct Run {
    run: Value,
    truth: Value,
    trace: Trace,
    stdout: String,
    stderr: String,
    _dir: tempfile::TempDir,
}

impl Run {
    /// LeNet-5, 64 images, on a changed preset; the run is checked against the schema.
    fn of(preset: &str, change: impl FnOnce(&mut DeviceParameters), more: &[&str], code: i32) -> Self {
        Self::network("lenet5", preset, change, &[&["--batch", "64"], more].concat(), code)
    }

    fn network(
        network: &str,
        preset: &str,
        change: impl FnOnce(&mut DeviceParameters),
        more: &[&str],
        code: i32,
    ) -> Self {
        let mut device = DeviceParameters::preset(preset).unwrap();
        change(&mut device);
        Self::on(network, &device, more, code)
    }

    /// Of three rounds, unless others are asked for.
    fn on(network: &str, device: &DeviceParameters, more: &[&str], code: i32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rounds: &[&str] = if more.contains(&"--rounds") { &[] } else { &["--rounds", "3"] };
        let assert = profile(dir.path(), network, device, &[more, rounds].concat()).code(code);
        let out = dir.path().join("out");
        let run = read(&out.join("run.json"));
        assert_valid(&run);
        let output = assert.get_output();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            truth: read(&out.join("truth.json")),
            trace: read_trace(&out.join("trace.jsonl")).unwrap(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            run,
            _dir: dir,
        }
    }

    /// Texts of the run's warnings of one code, which stand in the table too.
    fn warnings(&self, code: &str) -> Vec<&str> {
        let all = self.run["warnings"].as_array().unwrap().iter();
        let texts: Vec<&str> =
            all.filter(|w| w["code"] == code).map(|w| w["text"].as_str().unwrap()).collect();
        for text in &texts {
            assert!(self.stdout.contains(&format!("warning ({code}): {text}")), "{}", self.stdout);
        }
        texts
    }

    /// The text of the only warning of a code.
    fn warning(&self, code: &str) -> &str {
        let [text] = self.warnings(code)[..] else { panic!("{code}: {:#}", self.run["warnings"]) };
        text
    }

    /// Rows of layers that execute something.
    fn rows(&self) -> impl Iterator<Item = &Value> {
        self.run["layers"].as_array().unwrap().iter().filter(|row| !row["signature"].is_null())
    }

    /// Relative difference of each row's energy from that of another run of the same device.
    fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a str, f64)> {
        self.rows()
            .zip(other.rows())
            .filter_map(|(row, other)| Some((row["name"].as_str()?, energy(row)? / energy(other)? - 1.0)))
    }

    /// The spans of all replays, in order.
    fn replays(&self) -> impl Iterator<Item = &Span> {
        self.trace.spans.iter().filter(|span| matches!(span.kind, SpanKind::Replay(_)))
    }
}

fn profile(dir: &Path, network: &str, device: &DeviceParameters, more: &[&str]) -> Assert {
    let file: PathBuf = dir.join("device.toml");
    fs::write(&file, device.to_toml()).unwrap();
    let mut command = layerjoule();
    command.arg("profile").arg(repository(&format!("networks/{network}.toml")));
    command.arg("--device").arg(format!("sim:{}", file.display())).arg("--out").arg(dir.join("out"));
    command.args(more).assert()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn energy(row: &Value) -> Option<f64> {
    row["energy_j"]["value"].as_f64()
}

fn has(row: &Value, code: &str) -> bool {
    row["warnings"].as_array().is_some_and(|codes| codes.iter().any(|c| c == code))
}

/// Every row has a number, or says why it has none.
fn assert_no_silence(run: &Run) {
    for row in run.rows() {
        assert!(energy(row).is_some() || row["reason"].is_string(), "{row:#}");
    }
}

fn sensor<'a>(device: &'a mut DeviceParameters, id: &str) -> &'a mut SensorParameters {
    device.sensor.iter_mut().find(|sensor| sensor.id == id).unwrap()
}

fn with_fault(id: &'static str, fault: Fault) -> impl FnOnce(&mut DeviceParameters) {
    move |device| sensor(device, id).fault = Some(fault)
}

/// The middle of the window of a replay of a sound device, in seconds since its start: virtual time is the same in each run
/// until something differs.
fn amid_replay(preset: &str, number: usize, more: &[&str]) -> (f64, Run) {
    let sound = Run::of(preset, |_| {}, more, 0);
    let span = sound.replays().nth(number).unwrap();
    (span.start.since_origin().value() + span.length().value() / 2.0, sound)
}

#[test]
fn a_counter_that_stops_in_a_replay_ends_the_run_by_name() {
    let (at_s, sound) = amid_replay("v100", 20, &[]);
    let run = Run::of("v100", with_fault("sim", Fault::Stuck { at_s }), &[], 3);
    assert!(run.stderr.contains("the meter's reading has not changed for 3 s"), "{}", run.stderr);
    assert!(run.warning("incomplete").contains("has not changed for 3 s"));
    assert_no_silence(&run);
    // 20 replays of 11 kinds: nine have two windows. What is there is as it would have been.
    assert_eq!(run.rows().filter(|row| row["windows"] == 2).count(), 9);
    let differences: Vec<(&str, f64)> = run.differences(&sound).collect();
    assert!(differences.len() >= 9, "{differences:?}");
    assert!(differences.iter().all(|(_, difference)| difference.abs() < 0.05), "{differences:?}");
}

#[test]
fn power_that_never_moves_gives_no_number() {
    let run = Run::of(
        "rtx3090",
        with_fault("sim-instant", Fault::Stuck { at_s: 0.0 }),
        &["--meter", "sim-instant"],
        3,
    );
    let text = run.warning("frozen_sensor");
    // It shows the idle power of before the run, 30 W, give or take 0.3 %, in all windows.
    let windows = run.trace.spans.len();
    assert!(
        text.contains(&format!("in {windows} windows on end, of rest and of work alike, from 0.0 s")),
        "{text}"
    );
    assert!(text.contains("--meter") && text.starts_with("sim-instant showed "), "{text}");
    for row in run.rows() {
        assert!(row["energy_j"].is_null() && has(row, "frozen_sensor"), "{row:#}");
        assert!(row["reason"].as_str().unwrap().starts_with("sim-instant stood still at "), "{row:#}");
    }
    assert!(run.run["pass"][0]["energy_j"].is_null() && run.run["idle"]["power_w"].is_null());
    assert!(run.stderr.contains("11 of 12 layers have no energy"), "{}", run.stderr);
}

#[test]
fn power_that_stops_on_the_way_costs_the_windows_from_there_on() {
    let more = ["--meter", "sim-instant", "--rounds", "6"];
    let (at_s, sound) = amid_replay("rtx3090", 35, &more);
    let run = Run::of("rtx3090", with_fault("sim-instant", Fault::Stuck { at_s }), &more, 0);
    let text = run.warning("frozen_sensor");
    assert!(text.starts_with("sim-instant showed ") && text.contains(" windows on end"), "{text}");
    // From the fourth round on nothing counts: three windows of each kind are left, or two where the last one is next to
    // the fault.
    for row in run.rows() {
        assert!((2..=4).contains(&row["windows"].as_u64().unwrap()), "{row:#}");
    }
    for (name, difference) in run.differences(&sound) {
        assert!(difference.abs() < 0.05, "{name}: {difference}");
    }
}

#[test]
fn a_side_sensor_that_stops_costs_no_energy_of_the_primary_one() {
    let more = ["--meter", "sim,sim-instant"];
    let (at_s, sound) = amid_replay("rtx3090", 5, &more);
    let run = Run::of("rtx3090", with_fault("sim-instant", Fault::Stuck { at_s }), &more, 0);
    assert!(run.warning("frozen_sensor").starts_with("sim-instant showed "));
    for (row, same) in run.rows().zip(sound.rows()) {
        assert_eq!(row["energy_j"], same["energy_j"]);
        assert!(row["also"][0]["energy_j"].is_null(), "{row:#}");
        assert!(same["also"][0]["energy_j"].is_object(), "{same:#}");
    }
}

#[test]
fn a_counter_that_starts_anew_costs_one_window() {
    let (at_s, sound) = amid_replay("h200", 12, &[]);
    let run = Run::of("h200", with_fault("sim", Fault::Reset { at_s }), &[], 0);
    let text = run.warning("lost_window");
    assert!(text.contains("the counter went back from ") && text.contains("so it was reset"), "{text}");
    assert!(text.ends_with("; the window was measured again"), "{text}");
    assert_eq!(
        run.replays().count(),
        sound.replays().count(),
        "each is measured as often as without the fault"
    );
    let at = layerjoule::clock::Instant::default() + layerjoule::units::Seconds::new(at_s);
    assert!(run.trace.spans.iter().all(|span| span.end < at || at < span.start));
    for (name, difference) in run.differences(&sound) {
        // The noise of what follows is another.
        assert!(difference.abs() < 0.03, "{name}: {difference}");
    }
}

#[test]
fn a_side_counter_that_starts_anew_costs_its_reading_of_one_window() {
    let (at_s, _) = amid_replay("rapl-server", 12, &[]);
    let run = Run::of("rapl-server", with_fault("sim:dram", Fault::Reset { at_s }), &[], 0);
    let text = run.warning("lost_reading");
    assert!(
        text.contains("sim:dram: the counter went back") && text.ends_with("no reading by sim:dram"),
        "{text}"
    );
    let windows = run.trace.spans.len();
    assert_eq!(run.warning("missing_readings"), format!("sim:dram has no reading in 1 of {windows} windows"));
    assert!(run.rows().all(|row| row["also"][0]["energy_j"].is_object()));
}

#[test]
fn joules_for_being_read_are_named_on_every_row() {
    for (preset, per_query_j) in [("rtx3090", 2.0), ("h200", 8.0), ("rapl-server", 2.0)] {
        let fault = Fault::ReadRate { per_query_j, forgets_within_s: 0.0 };
        let run = Run::of(preset, with_fault("sim", fault), &["--meter", "sim"], 0);
        let text = run.warning("read_rate");
        assert!(
            text.contains("by sim a pass costs ") && text.contains(" when it is read as often"),
            "{text}"
        );
        assert!(text.contains("every energy by it is wrong"), "{text}");
        assert!(run.rows().all(|row| energy(row).is_none() || has(row, "read_rate")), "{preset}");
        assert!(
            has(&run.run["pass"][0], "read_rate") && has(&run.run["closure"][0], "read_rate"),
            "{preset}"
        );
        // It is wrong indeed.
        let truth = run.truth["pass"][0]["energy_j"].as_f64().unwrap();
        assert!(energy(&run.run["pass"][0]).unwrap() > 1.02 * truth, "{preset}");
    }
}

#[test]
fn a_counter_that_forgets_what_lies_between_close_readings_is_refused_by_that_name() {
    let fault = Fault::ReadRate { per_query_j: 0.0, forgets_within_s: 0.05 };
    let mut device = DeviceParameters::preset("h200").unwrap();
    device.sensor[0].fault = Some(fault);
    let dir = tempfile::tempdir().unwrap();
    let assert = profile(dir.path(), "lenet5", &device, &["--meter", "sim"]).code(3);
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(
        stderr.contains("stood still for 3 s while it was read every 0.1 ms, and showed 80."),
        "{stderr}"
    );
    assert!(stderr.contains("depends on how often it is read"), "{stderr}");
}

#[test]
fn a_counter_that_does_not_answer_for_a_second_costs_nothing_and_one_that_does_not_for_long_the_rest_of_the_run()
 {
    let (at_s, sound) = amid_replay("h200", 12, &[]);
    let run = Run::of("h200", with_fault("sim", Fault::Silent { at_s, for_s: 1.0 }), &[], 0);
    for (name, difference) in run.differences(&sound) {
        assert!(difference.abs() < 0.03, "{name}: {difference}");
    }
    let run = Run::of("h200", with_fault("sim", Fault::Silent { at_s, for_s: 60.0 }), &[], 3);
    assert!(run.warning("incomplete").contains("the meter has not answered for 5 s"));
    assert_no_silence(&run);
    // Twelve replays of eleven kinds; of a single window nothing is known but with the scatter of all.
    assert_eq!(run.rows().filter(|row| row["windows"] == 2).count(), 1);
}

#[test]
fn readings_that_a_side_meter_lacks_are_named_and_too_few_make_no_number() {
    let (at_s, _) = amid_replay("rapl-server", 12, &[]);
    let run = Run::of("rapl-server", with_fault("sim:dram", Fault::Silent { at_s, for_s: 1e5 }), &[], 0);
    let text = run.warning("lost_reading");
    assert!(
        text.contains("sim:dram: the sensor does not answer; the window has no reading by sim:dram"),
        "{text}"
    );
    let missing = run.trace.spans.iter().filter(|span| span.end.since_origin().value() > at_s).count();
    let windows = run.trace.spans.len();
    assert_eq!(
        run.warning("missing_readings"),
        format!("sim:dram has no reading in {missing} of {windows} windows")
    );
    let also = |row: &&Value| row["also"][0]["energy_j"].is_object();
    assert_eq!(run.rows().filter(also).count(), 1, "twelve replays of eleven kinds");
    assert!(run.rows().all(|row| energy(row).is_some() || row["reason"].is_string()));
}

#[test]
fn power_readings_that_are_missing_for_a_while_cost_their_window() {
    let more = ["--meter", "sim-instant"];
    let (at_s, sound) = amid_replay("rtx3090", 12, &more);
    let run = Run::of("rtx3090", with_fault("sim-instant", Fault::Silent { at_s, for_s: 1.0 }), &more, 0);
    let text = run.warning("lost_window");
    assert!(text.contains(" s between two power readings, at most 0.50 s can be joined"), "{text}");
    assert!(text.contains("the sensor did not answer"), "{text}");
    assert_eq!(
        run.replays().count(),
        sound.replays().count(),
        "each is measured as often as without the fault"
    );
    for (name, difference) in run.differences(&sound) {
        assert!(difference.abs() < 0.03, "{name}: {difference}");
    }
}

#[test]
fn rows_of_a_clock_that_was_held_down_say_so() {
    let run = Run::of("h200", |device| device.power.limit_w = 150.0, &[], 0);
    let text = run.warning("throttled");
    assert!(text.contains("(power limit)") && text.contains(" rows "), "{text}");
    // conv2 draws 190 W where nothing holds it.
    let conv2 = run.rows().find(|row| row["name"] == "conv2").unwrap();
    assert!(has(conv2, "throttled"), "{conv2:#}");
    let free = Run::of("h200", |_| {}, &[], 0);
    assert!(free.warnings("throttled").is_empty() && free.rows().all(|row| !has(row, "throttled")));
}

/// An H200 so slow that a pass of AlexNet takes this long.
fn slowed(seconds: f64) -> DeviceParameters {
    let file = repository("networks/alexnet.toml");
    let network = layerjoule::network::read(&file, &[]).unwrap();
    let plan = Plan::new(&network, &PlanOptions { batch: 64, ..PlanOptions::default() }).unwrap();
    let mut device = DeviceParameters::preset("h200").unwrap();
    for _ in 0..4 {
        let time = Truth::of(&network, &plan, &device, "sim").pass[0].time_s.value();
        let speed = &mut device.speed;
        let rates =
            [&mut speed.peak_flops_per_s, &mut speed.memory_bytes_per_s, &mut speed.cache_bytes_per_s];
        rates.into_iter().for_each(|rate| *rate *= time / seconds);
    }
    device
}

#[test]
fn a_pass_that_keeps_step_with_a_part_time_sensor_is_named_with_both_times() {
    let run = Run::on("alexnet", &slowed(0.05), &["--batch", "64"], 0);
    let text = run.warning("commensurate");
    assert!(text.starts_with("a pass takes 50 ms and sim has a new value every "), "{text}");
    assert!(text.contains("so 2 passes and 1 update keep step"), "{text}");
    assert!(text.contains("may be wrong by up to ") && text.contains("--batch"), "{text}");
    assert!(has(&run.run["pass"][0], "commensurate") && has(&run.run["closure"][0], "commensurate"));
    assert!(run.rows().all(|row| !has(row, "commensurate")), "a layer alone has no course of power to miss");
    // A sensor that looks all the time sees every pass whole.
    let mut full = run.trace.clone();
    full.header.meters[0].coverage = Some(Coverage::Full);
    assert!(run_report(&full).warnings.iter().all(|warning| warning.code != "commensurate"));
    // Nor does a pass keep step that is as far from it as can be: 2.618 in an update.
    let run = Run::on("alexnet", &slowed(0.1 / 2.618), &["--batch", "64"], 0);
    assert!(run.warnings("commensurate").is_empty());
    assert!(run.warnings("read_rate").is_empty(), "{:#}", run.run["warnings"]);
}

#[test]
fn energies_that_no_device_can_do_the_work_for_are_named() {
    // A hundredth of the truth. Rest is a hundredth as well, so that only operations and bytes show it.
    let run =
        Run::network("alexnet", "h200", |device| sensor(device, "sim").gain = 0.01, &["--batch", "64"], 0);
    let text = run.warning("implausible_low");
    assert!(text.contains(" pJ for a FLOP and ") && text.contains("no device needs less than "), "{text}");
    assert!(has(&run.run["pass"][0], "implausible_low"));
    let convolutions: Vec<&Value> = run.rows().filter(|row| row["kind"] == "conv").collect();
    assert!(!convolutions.is_empty() && convolutions.iter().all(|row| has(row, "implausible_low")));
}

#[test]
fn powers_that_no_board_draws_are_named() {
    // Two and a half times the truth on a board whose layers come near their limit of 250 W.
    let run =
        Run::network("alexnet", "a100", |device| sensor(device, "sim").gain = 2.5, &["--batch", "64"], 0);
    let text = run.warning("implausible_high");
    assert!(text.contains("more than twice the device's limit of 250 W"), "{text}");
    assert!(run.rows().any(|row| has(row, "implausible_high")));
}

#[test]
fn sound_devices_raise_no_alarm() {
    const ALARMS: [&str; 6] = [
        "frozen_sensor",
        "read_rate",
        "read_rate_unknown",
        "commensurate",
        "implausible_low",
        "implausible_high",
    ];
    let cases = [
        ("v100", "resnet50"),
        ("a100", "mobilenet_v2"),
        ("h200", "vgg16"),
        ("rtx3090", "lenet5"),
        ("rapl-server", "resnet50"),
        ("rapl-server", "lenet5"),
        ("ideal", "mobilenet_v2"),
    ];
    for (preset, network) in cases {
        let run = Run::network(network, preset, |_| {}, &[], 0);
        let found: Vec<&Value> = run.run["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|warning| ALARMS.iter().any(|alarm| warning["code"] == *alarm))
            .collect();
        assert!(found.is_empty(), "{preset}, {network}: {found:#?}");
        let alarmed = |row: &Value| ALARMS.iter().any(|alarm| has(row, alarm));
        assert!(!run.rows().any(alarmed) && !alarmed(&run.run["pass"][0]), "{preset}, {network}");
    }
}

#[test]
fn boards_that_are_harsher_than_any_real_one_do_only_possible_work() {
    for seed in 1..=4 {
        let mut device = DeviceParameters::random(seed);
        device.sensor.iter_mut().for_each(|sensor| sensor.fault = None);
        let run = Run::on("lenet5", &device, &["--batch", "64"], 0);
        for code in ["implausible_low", "implausible_high", "frozen_sensor", "read_rate"] {
            assert!(run.warnings(code).is_empty(), "{seed}: {:#}", run.run["warnings"]);
        }
        assert_relative_eq!(
            run.rows().filter_map(|row| row["share"].as_f64()).sum::<f64>(),
            1.0,
            epsilon = 0.1
        );
    }
}
