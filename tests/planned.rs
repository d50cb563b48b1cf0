//! Planned runs on simulated devices: layers as they are within the network, known as well as was asked.

use std::fs;

use approx::assert_relative_eq;
use layerjoule::plan::{Plan, PlanOptions};
use layerjoule::report::run_report;
use layerjoule::sim::{DeviceParameters, Truth};
use layerjoule::trace::{Base, Coverage, LayerRecord, SpanKind, Trace, read_trace};
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
fn parts_of_the_pass_cost_what_their_layers_do_and_a_wrong_row_is_found() {
    let planned = Planned::of("networks/resnet18.toml", "sim:rtx3090", &["--seed", "3"]);
    let parts = planned.run["in_situ"].as_array().unwrap();
    assert_eq!(parts.len(), 6);
    let dynamic = |row: &Value| row["energy_dynamic_j"].as_f64().unwrap();
    let mut held = 0;
    for part in parts {
        let names: Vec<&str> = planned.rows().map(|row| row["name"].as_str().unwrap()).collect();
        let at = |key: &str| names.iter().position(|name| part[key] == **name).unwrap();
        let within = &names[at("first")..=at("last")];
        let layers = planned.truth["layers"].as_array().unwrap().iter();
        let truth: f64 = layers.filter(|l| within.iter().any(|name| l["name"] == **name)).map(dynamic).sum();
        let of = |key: &str| part["energy_dynamic_j"][key].as_f64().unwrap();
        held += usize::from((of("low")..=of("high")).contains(&truth));
        assert_relative_eq!(of("value"), truth, max_relative = 0.1);
        assert_eq!(part["disagrees"], false, "{part:#}");
    }
    assert!(held >= 5, "{held} of 6");
    // Half the work in the windows of a layer doubles its row. Nothing else changes, as nothing is taken off by these
    // windows: else the next row would be as much too small. (Early parts of the pass are known to some per cent; late ones,
    // differences of nearly whole passes, to ten.)
    let mut trace = planned.trace.clone();
    let header = &trace.header;
    let taken_off = |signature: usize| {
        header.contexts.iter().any(|context| context.base == Some(Base::Replay(signature)))
    };
    let early = header.layers.iter().take(12).enumerate();
    let of_layer = |(index, layer): (usize, &LayerRecord)| Some((index, layer.signature?));
    let alone = early.filter_map(of_layer).filter(|&(_, signature)| !taken_off(signature));
    let energy = |index: usize| planned.run["layers"][index]["energy_j"]["value"].as_f64().unwrap_or(0.0);
    let (index, signature) = alone.max_by(|a, b| energy(a.0).total_cmp(&energy(b.0))).unwrap();
    for span in trace.spans.iter_mut().filter(|span| span.kind == SpanKind::Replay(signature)) {
        span.executions /= 2.0;
    }
    let report = run_report(&trace);
    let found: Vec<&str> = report
        .warnings
        .iter()
        .filter(|warning| warning.code == "estimators_disagree")
        .map(|warning| warning.text.as_str())
        .collect();
    assert!(!found.is_empty() && found[0].contains(" as the sum of their rows "), "{found:?}");
    let row = report.layers.iter().find(|row| row.index == index).unwrap();
    assert!(row.warnings.iter().any(|code| code == "estimators_disagree"), "{found:?}");
    assert!(report.in_situ.iter().filter(|part| part.disagrees).count() == found.len());
    // A sensor that is known to look for a part of the time only sees other parts of each beginning.
    trace.header.meters[trace.header.primary_meter].coverage = Some(Coverage::PartTime);
    assert!(run_report(&trace).in_situ.is_empty());
}

#[test]
fn active_idle_is_that_between_two_kernels_however_soon_the_device_lets_go_of_it() {
    // The clocks are held for a fifth of a second only; a window of idle is longer.
    let mut device = DeviceParameters::preset("h200").unwrap();
    (device.power.hold_s, device.power.tail_s) = (0.2, 1.0);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("device.toml");
    fs::write(&file, device.to_toml()).unwrap();
    let planned = Planned::of("networks/alexnet.toml", &format!("sim:{}", file.display()), &["--quick"]);
    let celsius = planned.truth["temperature_c"].as_f64().unwrap();
    let leakage = device.thermal.leakage_w_per_k * (celsius - device.thermal.reference_c);
    let found = planned.run["idle"]["active_power_w"]["value"].as_f64().unwrap();
    assert_relative_eq!(found, device.power.active_idle_w + leakage, max_relative = 0.015);
}

#[test]
fn a_limit_that_begins_to_act_in_the_warm_up_leads_to_another_temperature() {
    // Leakage takes a cold board that is below its limit over it: from there on, the limit heats it, and no longer more.
    let network = layerjoule::network::read(&repository("networks/alexnet.toml"), &[]).unwrap();
    let plan = Plan::new(&network, &PlanOptions { batch: 32, ..PlanOptions::default() }).unwrap();
    let mut device = DeviceParameters::preset("rtx3090").unwrap();
    device.power.limit_w = 1e4;
    let free = Truth::of(&network, &plan, &device, "sim");
    let free_w = free.pass[0].energy_j.value() / free.pass[0].time_s.value();
    device.power.limit_w = 0.96 * free_w;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("device.toml");
    fs::write(&file, device.to_toml()).unwrap();
    let planned = Planned::of("networks/alexnet.toml", &format!("sim:{}", file.display()), &["--quick"]);
    let reference =
        layerjoule::attribution::attribute(&planned.trace, planned.trace.header.primary_meter).reference;
    let truth = planned.truth["temperature_c"].as_f64().unwrap();
    assert!(free.temperature_c - truth > 1.0, "{} {truth}", free.temperature_c);
    let found = reference.celsius.unwrap();
    assert!((found.value - truth).abs() < 0.7, "{} {truth}", found.value);
    let clock = planned.truth["clock_mhz"].as_f64().unwrap();
    assert_relative_eq!(reference.megahertz.unwrap().value, clock, max_relative = 0.01);
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
