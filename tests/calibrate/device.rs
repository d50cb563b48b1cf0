//! What self-tests on simulated devices find, beside the sensors as they are.

use std::cell::Cell;
use std::path::PathBuf;

use layerjoule::calibration::{Calibration, ReadingFacts, Verdict};
use layerjoule::meter::MeterChoice;
use layerjoule::profile::{CalibrationError, CalibrationOptions, DeviceChoice, calibrate};
use layerjoule::run::LoadError;
use layerjoule::sim::{DeviceParameters, Domain, Fault, SensorKind, SensorParameters, Tail};
use layerjoule::stats::Estimate;
use layerjoule::trace::Coverage;
use layerjoule::units::Seconds;

/// The self-tests on a simulated device.
pub(super) fn calibration(name: &str, device: DeviceParameters) -> Calibration {
    calibrate(&options(name, device), &mut |_| {}, &|| false).unwrap()
}

fn options(name: &str, device: DeviceParameters) -> CalibrationOptions {
    CalibrationOptions {
        device: DeviceChoice::Sim { name: name.to_string(), device: Box::new(device) },
        meter: MeterChoice::Auto,
        sysfs_root: PathBuf::from("/sys"),
        nvml_lib: None,
        seed: 3,
    }
}

fn self_tested(name: &str, device: DeviceParameters) -> Vec<ReadingFacts> {
    calibration(name, device).readings
}

fn verdict(facts: &ReadingFacts) -> Verdict {
    facts.health.as_ref().unwrap().verdict
}

/// One fact beside the truth.
struct Compared {
    what: String,
    error: f64,
    allowed: f64,
    held: bool,
}

fn compared(what: String, found: Estimate<Seconds>, truth: f64, allowed: f64) -> Compared {
    let held = (found.low.value()..=found.high.value()).contains(&truth);
    let error = (found.value.value() - truth).abs();
    println!("{what}: {found:?}, true {truth}, {held}");
    Compared { what, error, allowed, held }
}

/// What is found of a sensor beside its parameters. Stated tolerances: the period to 0.5 %, the window to a tenth of
/// itself and a fiftieth of the period, the delay to a twentieth of the window and of the period. Where the sensor
/// itself looks or shows at times that differ by more than a twentieth of its period, no edge of a window can be told that
/// well, and the tolerance is the fact's own range, if that is wider; how often ranges hold the truth is counted apart.
fn beside_truth(facts: &ReadingFacts, sensor: &SensorParameters) -> Vec<Compared> {
    let (period, name) = (sensor.update_period_s, format!("{} {}", facts.trace, facts.id));
    let window = sensor.window_s.unwrap_or(period);
    let delay = (sensor.delay_s[0] + sensor.delay_s[1]) / 2.0;
    let blur = sensor.jitter_s + (sensor.delay_s[1] - sensor.delay_s[0]) / 2.0;
    let allowed = |fact: &Estimate<Seconds>, tolerance: f64| {
        if blur > 0.05 * period { tolerance.max(fact.half_width()) } else { tolerance }
    };
    let mut all = Vec::new();
    all.extend(facts.update_period_s.map(|p| compared(format!("{name} period"), p, period, 0.005 * period)));
    all.extend(
        facts.window_s.map(|w| {
            compared(format!("{name} window"), w, window, allowed(&w, 0.1 * window + 0.02 * period))
        }),
    );
    all.extend(
        facts
            .delay_s
            .map(|d| compared(format!("{name} delay"), d, delay, allowed(&d, 0.05 * (window + period)))),
    );
    for (fact, reason) in &facts.reasons {
        println!("{name} {fact}: {reason}");
    }
    let coverage = if window / period < 0.98 { Coverage::PartTime } else { Coverage::Full };
    assert!(
        facts.coverage.is_none_or(|found| found == coverage),
        "{name}: {:?}, true {window} of {period} s",
        facts.coverage
    );
    all
}

#[test]
fn the_sensors_of_simulated_devices_are_found_as_they_are() {
    // A part-time board, one whose updates jitter by a fifth of their period, a processor, and random ones.
    let preset = |name: &str| (name.to_string(), DeviceParameters::preset(name).unwrap());
    let random = |seed| (format!("random {seed}"), DeviceParameters::random(seed));
    let devices = ["a100", "v100", "rapl-server"].map(preset).into_iter().chain((1..=5).map(random));
    let (mut all, mut sensors, mut decided) = (Vec::new(), 0, 0);
    for (name, device) in devices {
        let found = self_tested(&name, device.clone());
        for sensor in &device.sensor {
            let facts = found.iter().find(|facts| facts.id == sensor.id);
            let Some(facts) = facts else {
                // A counter that stands still is refused before it is calibrated.
                assert!(sensor.fault.is_some(), "{name} {}", sensor.id);
                continue;
            };
            println!("{name} {}: {:?} {:?}", sensor.id, facts.coverage, facts.coverage_spread);
            println!("{name} {}: {:?}", sensor.id, facts.health);
            if sensor.fault.is_none() {
                // The memory of a processor hardly follows a load that lies in the cache.
                if sensor.domain == Domain::Board {
                    sensors += 1;
                    decided += usize::from(facts.coverage.is_some());
                }
                all.extend(beside_truth(facts, sensor));
                assert_eq!(verdict(facts), Verdict::Ok, "{name} {}: {:?}", sensor.id, facts.health);
            } else {
                assert_ne!(verdict(facts), Verdict::Ok, "{name} {}: {:?}", sensor.id, facts.health);
            }
        }
    }
    let wrong: Vec<String> = all
        .iter()
        .filter(|one| one.error > one.allowed)
        .map(|one| format!("{}: {} s off, {} s allowed", one.what, one.error, one.allowed))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let held = all.iter().filter(|one| one.held).count();
    println!("{held} of {} ranges hold the truth, {sensors} sensors, {decided} with coverage", all.len());
    assert!(held * 10 >= all.len() * 9, "{held} of {} ranges hold the truth", all.len());
    // Of three facts each, most are identifiable.
    assert!(all.len() * 4 >= sensors * 3 * 3, "{} facts of {sensors} sensors", all.len());
    assert!(decided * 10 >= sensors * 9, "coverage of {decided} of {sensors} sensors");
}

/// A board with the sensors that are kept by their ids.
fn h200(ids: &[&str]) -> DeviceParameters {
    let mut device = DeviceParameters::preset("h200").unwrap();
    device.sensor.retain(|sensor| ids.contains(&sensor.id.as_str()));
    assert_eq!(device.sensor[0].kind, SensorKind::Energy);
    device
}

#[test]
fn a_counter_that_suffers_from_being_read_is_named_and_so_is_the_reading_to_take_instead() {
    let mut device = h200(&["sim", "sim-instant"]);
    device.sensor[0].fault = Some(Fault::ReadRate { per_query_j: 2.0, forgets_within_s: 0.001 });
    let facts = self_tested("h200", device);
    let health = facts[0].health.as_ref().unwrap();
    // 2 J every 5 ms are 400 W more.
    assert_eq!(health.verdict, Verdict::DiffersUnderLoad, "{health:?}");
    assert!(health.reasons.iter().any(|reason| reason.contains("reading disturbs")), "{health:?}");
    assert!(health.reasons.iter().any(|reason| reason.contains("at rest it counts")), "{health:?}");
    assert_eq!(health.use_instead.as_deref(), Some("sim-instant"));
    assert_eq!(verdict(&facts[1]), Verdict::Ok);
}

#[test]
fn a_counter_alone_that_suffers_from_being_read_is_named_without_advice() {
    let mut device = h200(&["sim"]);
    device.sensor[0].fault = Some(Fault::ReadRate { per_query_j: 2.0, forgets_within_s: 0.001 });
    let health = self_tested("h200", device).remove(0).health.unwrap();
    assert_eq!((health.verdict, health.use_instead), (Verdict::DependsOnReadRate, None));
}

#[test]
fn a_processor_s_counter_is_not_blamed_for_the_pauses_in_which_it_is_read_but_for_what_reading_adds() {
    let mut device = DeviceParameters::preset("rapl-server").unwrap();
    device.sensor.truncate(1);
    assert!(!device.speed.queues);
    assert_eq!(verdict(&self_tested("rapl-server", device.clone())[0]), Verdict::Ok);
    // 0.5 J every 5 ms are 100 W.
    device.sensor[0].fault = Some(Fault::ReadRate { per_query_j: 0.5, forgets_within_s: 1e-6 });
    assert_eq!(verdict(&self_tested("rapl-server", device)[0]), Verdict::DependsOnReadRate);
}

#[test]
fn counters_that_count_less_stop_or_start_again_are_named() {
    // Of each: the first sensor's change, and the verdict. Stops and resets lie in the steady loads and in what follows.
    type Change = fn(&mut SensorParameters);
    let cases: [(Change, Verdict); 5] = [
        (|sensor| sensor.gain = 0.95, Verdict::DiffersUnderLoad),
        (|sensor| sensor.offset_w = -40.0, Verdict::DiffersUnderLoad),
        (|sensor| sensor.fault = Some(Fault::Stuck { at_s: 20.0 }), Verdict::StandsStill),
        (|sensor| sensor.fault = Some(Fault::Stuck { at_s: 110.0 }), Verdict::StandsStill),
        (|sensor| sensor.fault = Some(Fault::Reset { at_s: 20.0 }), Verdict::Unreadable),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        let mut device = h200(&["sim", "sim-instant"]);
        change(&mut device.sensor[0]);
        let facts = self_tested("h200", device);
        let health = facts[0].health.as_ref().unwrap();
        assert_eq!(health.verdict, expected, "case {number}: {health:?}");
        assert_eq!(health.use_instead.as_deref(), Some("sim-instant"), "case {number}: {health:?}");
        assert_eq!(verdict(&facts[1]), Verdict::Ok, "case {number}: {:?}", facts[1].health);
    }
}

#[test]
fn square_waves_of_the_sensor_s_period_tell_gaps_that_counters_hide() {
    // A quarter of the time: mean power by phase as of windows of load; all of the time: no difference.
    let part_time = self_tested("h200", h200(&["sim"])).remove(0);
    let mut device = h200(&["sim"]);
    device.sensor[0].window_s = None;
    let full = self_tested("h200", device).remove(0);
    let (gaps, none) = (part_time.coverage_spread.unwrap(), full.coverage_spread.unwrap());
    assert_eq!((part_time.coverage, full.coverage), (Some(Coverage::PartTime), Some(Coverage::Full)));
    // A window of a quarter that begins anywhere has a standard deviation of 0.408 of the load's swing (the test of the
    // simulated sensor), here of eight places, and is wrong by half of the swing at most.
    assert!((0.3..0.5).contains(&(gaps.deviation / gaps.swing)), "{gaps:?}");
    assert!(gaps.largest <= 0.55 * gaps.swing, "{gaps:?}");
    assert!(none.deviation <= 0.01 && none.of_another_period.unwrap().abs() <= 0.01, "{none:?}");
}

#[test]
fn active_idle_is_the_power_right_behind_a_load_and_idle_that_before_any() {
    let mut device = h200(&["sim", "sim-instant"]);
    // Power of rest without leakage, and a long hold.
    device.thermal.leakage_w_per_k = 0.0;
    device.power.hold_s = 4.0;
    for facts in self_tested("h200", device.clone()) {
        let test = facts.self_test.unwrap();
        assert!((test.idle_w.unwrap().value() - 80.0).abs() < 0.8, "{test:?}");
        assert!((test.active_idle_w.unwrap().value() - 120.0).abs() < 1.2, "{test:?}");
    }
    // A board that lets go at once has none that a sensor could show.
    (device.power.hold_s, device.power.tail, device.power.tail_s) = (0.0, Tail::Exponential, 0.5);
    for facts in self_tested("h200", device) {
        let reason = &facts.reasons["active_idle_w"];
        let falls = reason.contains("does not stay") || reason.contains("this reading shows it");
        assert!(facts.self_test.unwrap().active_idle_w.is_none() && falls, "{reason}");
    }
}

#[test]
fn who_stops_a_calibration_gets_nothing_half() {
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 200
    };
    let error = calibrate(&options("h200", h200(&["sim"])), &mut |_| {}, &stop).unwrap_err();
    assert!(matches!(error, CalibrationError::Load(LoadError::Stopped)), "{error}");
}
