//! Planned runs on simulated devices: layers as they are within the network, known as well as was asked.

use std::fs;

use approx::assert_relative_eq;
use layerjoule::sim::DeviceParameters;
use layerjoule::trace::{SpanKind, Trace, read_trace};
use serde_json::Value;
use tempfile::TempDir;

use crate::schema::assert_valid;
use crate::support::program::{layerjoule, repository};

/// A planned run with its truth.
struct Planned {
    run: Value,
    truth: Value,
    trace: Trace,
    _dir: TempDir,
}

impl Planned {
    fn of(network: &str, device: &str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let mut command = layerjoule();
        command.arg("profile").arg(repository(network)).args(["--device", device, "--batch", "32", "--out"]);
        command.arg(&out).args(more).assert().success();
        let read = |file: &str| -> Value {
            serde_json::from_str(&fs::read_to_string(out.join(file)).unwrap()).unwrap()
        };
        let (run, truth) = (read("run.json"), read("truth.json"));
        assert_valid(&run);
        let trace = read_trace(&out.join("trace.jsonl")).unwrap();
        Self { run, truth, trace, _dir: dir }
    }

    fn rows(&self) -> impl Iterator<Item = &Value> {
        self.run["layers"].as_array().unwrap().iter()
    }

    /// For each layer of at least 1 % of the pass: its name, relative error, and half width.
    fn errors(&self) -> Vec<(String, f64, f64)> {
        let pass = self.truth["pass"][0]["energy_j"].as_f64().unwrap();
        let truths = self.truth["layers"].as_array().unwrap().iter();
        let large = truths.filter(|row| row["energy_j"].as_f64().unwrap() >= 0.01 * pass);
        large
            .map(|truth| {
                let row = self.rows().find(|row| row["name"] == truth["name"]).unwrap();
                let (value, energy) = (truth["energy_j"].as_f64().unwrap(), &row["energy_j"]);
                let of = |key: &str| energy[key].as_f64().unwrap_or(f64::NAN) / value;
                (truth["name"].to_string(), of("value") - 1.0, (of("high") - of("low")) / 2.0)
            })
            .collect()
    }

    fn windows(&self, of: impl Fn(SpanKind) -> bool) -> usize {
        self.trace.spans.iter().filter(|span| of(span.kind)).count()
    }
}

#[test]
fn layers_are_known_as_they_are_within_the_network() {
    // Part-time sensors, and layers that alone draw more than the power limit and find other data in the cache.
    let planned = Planned::of("networks/resnet18.toml", "sim:h200", &["--seed", "1"]);
    let errors = planned.errors();
    assert!(errors.len() > 15, "{errors:?}");
    for (name, error, _) in &errors {
        assert!(error.abs() < 0.04, "{name}: {error:+.4}");
    }
    let mut sizes: Vec<f64> = errors.iter().map(|(_, error, _)| error.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    assert!(sizes[sizes.len() / 2] < 0.01, "{sizes:?}");
    // Nine of ten intervals of 95 % at least; and they are no wider than was asked for, or than what no number of windows
    // lowers.
    let held = errors.iter().filter(|(_, error, half)| error.abs() <= *half).count();
    assert!(held * 10 >= errors.len() * 9, "{held} of {}", errors.len());
    let residual = planned.run["closure"][0]["residual_ratio"].as_f64().unwrap();
    assert!(residual.abs() < 0.01, "{residual}");
    // Some layers are the last of an excerpt, and some rested to have the clock of the network.
    assert!(planned.rows().any(|row| row["method"] == "differential"));
    assert!(planned.trace.spans.iter().any(|span| span.state.rest_s.value() > 0.0));
}

#[test]
fn a_network_at_the_power_limit_is_measured_at_its_own_clock() {
    let planned = Planned::of("networks/vgg16.toml", "sim:a100", &[]);
    // Where the limit acts, the clock is below the reference of 1410 MHz, and light layers are mixed with a heavy one.
    let clock = planned.truth["clock_mhz"].as_f64().unwrap();
    assert!(clock < 1350.0, "{clock}");
    assert!(planned.windows(|kind| matches!(kind, SpanKind::Filler(_))) >= 2);
    for (name, error, _) in planned.errors() {
        assert!(error.abs() < 0.03, "{name}: {error:+.4}");
    }
    let pass = planned.run["pass"][0]["energy_j"]["value"].as_f64().unwrap();
    assert_relative_eq!(pass, planned.truth["pass"][0]["energy_j"].as_f64().unwrap(), max_relative = 0.01);
}

#[test]
fn the_parts_of_an_uncertainty_make_the_whole() {
    let planned = Planned::of("networks/resnet18.toml", "sim:rtx3090", &["--quick"]);
    let mut with_parts = 0;
    for row in planned.rows().filter(|row| row["uncertainty"].is_object() && row["energy_j"].is_object()) {
        let parts = row["uncertainty"].as_object().unwrap().values();
        let squares: f64 = parts.map(|part| part.as_f64().unwrap().powi(2)).sum();
        let of = |key: &str| row["energy_j"][key].as_f64().unwrap();
        let half = (of("high") - of("low")) / 2.0;
        // Student's t lies between that of many degrees of freedom and that of one.
        let t = half / squares.sqrt();
        assert!((1.95..13.0).contains(&t), "{}: {t}", row["name"]);
        with_parts += 1;
    }
    assert!(with_parts > 30, "{with_parts}");
}

#[test]
fn more_precision_takes_more_windows_and_a_budget_takes_fewer() {
    let work = |kind: SpanKind| matches!(kind, SpanKind::Replay(_) | SpanKind::Excerpt(_));
    let windows = |more: &[&str]| Planned::of("networks/alexnet.toml", "sim:v100", more).windows(work);
    let (quick, usual, precise) = (windows(&["--quick"]), windows(&[]), windows(&["--target", "0.5%"]));
    assert!(quick <= usual && usual < precise, "{quick} {usual} {precise}");
    // What fits is measured, and every layer has a number once the pilot is done.
    let short = Planned::of("networks/alexnet.toml", "sim:v100", &["--target", "0.3%", "--budget", "4m"]);
    assert!(short.windows(work) < precise * 3);
    let last = short.trace.spans.last().unwrap().end.since_origin().value();
    assert!(last < 300.0, "{last}");
    assert!(short.rows().all(|row| row["energy_j"].is_object() || row["status"] == "below_detection"));
}

#[test]
fn the_network_itself_leads_to_the_temperature_that_energies_are_of() {
    // A board that takes a minute to get warm, and a large share of leakage.
    let dir = tempfile::tempdir().unwrap();
    let mut device = DeviceParameters::preset("rtx3090").unwrap();
    device.thermal.leakage_w_per_k = 1.9;
    let file = dir.path().join("device.toml");
    fs::write(&file, device.to_toml()).unwrap();
    let planned = Planned::of("networks/alexnet.toml", &format!("sim:{}", file.display()), &[]);
    let reference =
        layerjoule::attribution::attribute(&planned.trace, planned.trace.header.primary_meter).reference;
    let celsius = reference.celsius.unwrap();
    let truth = planned.truth["temperature_c"].as_f64().unwrap();
    assert!((celsius.value - truth).abs() < 1.0_f64.max(2.0 * celsius.std_error), "{celsius:?}, {truth}");
    let kelvin = reference.watts_per_kelvin.unwrap();
    assert_relative_eq!(kelvin.value, 1.9, max_relative = 0.15);
}

#[test]
fn wrong_precisions_are_refused_by_name() {
    for (arguments, text) in [
        (&["--target", "2"][..], "expected 0.1% to 50%, found \"2\""),
        (&["--target", "0%"][..], "expected 0.1% to 50%, found \"0%\""),
        (&["--target", "-3%"][..], "expected 0.1% to 50%, found \"-3%\""),
        (&["--quick", "--precise"][..], "cannot be used with"),
        (&["--rounds", "3", "--target", "2%"][..], "cannot be used with"),
    ] {
        let mut command = layerjoule();
        let assert =
            command.arg("profile").arg(repository("networks/lenet5.toml")).args(arguments).assert().code(2);
        let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(stderr.contains(text), "{arguments:?}: {stderr}");
    }
}
