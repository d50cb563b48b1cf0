//! The methods that `cargo xtask accuracy` compares: each against figures that are known without it, and the table's
//! bounds in a quick form.

#[allow(dead_code, reason = "the program uses all of them")]
#[path = "../benches/accuracy/board.rs"]
mod board;
#[allow(dead_code, reason = "the program uses all of them")]
#[path = "../benches/accuracy/judge.rs"]
mod judge;
#[allow(dead_code, reason = "the program uses all of them")]
#[path = "../benches/accuracy/methods/mod.rs"]
mod methods;
#[allow(dead_code, reason = "the program uses all of them")]
#[path = "../benches/accuracy/subject.rs"]
mod subject;

use std::path::Path;

use approx::assert_relative_eq;
use layerjoule::sim::{DeviceParameters, Domain, EnergyCurve, Sensor, SensorParameters};

use board::{Answer, Board, Value, Work};
use judge::{Basis, Row, quantile, score};
use methods::{METHODS, counter_window, median_power, polled_trapezoid};
use subject::Subject;

fn preset(name: &str) -> DeviceParameters {
    DeviceParameters::preset(name).unwrap()
}

fn subject(device: &str, network: &str, batch: usize) -> Subject {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("networks").join(format!("{network}.toml"));
    Subject::new(device, &preset(device), &file, batch).unwrap()
}

#[test]
fn ours_meets_the_bounds_on_the_ideal_device() {
    let subject = subject("ideal", "resnet50", 32);
    let ours = &METHODS[0];
    let scores: Vec<_> =
        (1..=2).map(|seed| Ok(score(&subject, &(ours.measure)(&subject, seed)?, Basis::Energy))).collect();
    let row = Row::of(&subject, ours.name, &scores);
    assert_eq!((row.answered, row.refused.as_deref()), (2, None));
    assert!(row.layers > 20, "{} layers are judged", row.layers);
    // Saying nothing would meet any bound.
    assert_eq!(row.without_number, Some(0.0));
    for (what, found, bound) in [
        ("median", row.error_median, 0.002),
        ("p95", row.error_p95, 0.01),
        ("closure", row.closure, 0.005),
        ("pass", row.pass_error, 0.005),
    ] {
        let found = found.unwrap();
        assert!(found <= bound, "{what}: {found:.5}, more than {bound}");
    }
}

/// A board that draws 100 W until 0 s, 500 W until `end`, and 100 W again.
struct Burst {
    end: f64,
}

impl EnergyCurve for Burst {
    fn joules(&self, _: Domain, at: f64) -> f64 {
        100.0 * at + 400.0 * at.clamp(0.0, self.end)
    }
}

/// What the polled trapezoid makes of a burst, as a share of the true energy. The sensor looks every 100 ms for the
/// first time `phase` after the burst's beginning; the poller every 50 ms, `lag` after each look.
fn trapezoid_of_burst(sensor: &SensorParameters, seconds: f64, phase: f64, lag: f64) -> f64 {
    let burst = Burst { end: seconds };
    let mut sensor = Sensor::with_phase(sensor, 1, phase - 10.0 * sensor.update_period_s);
    let first = phase + lag - 0.9;
    let samples: Vec<(f64, f64)> = (0..(seconds / 0.05) as usize + 40)
        .map(|k| {
            let at = first + 0.05 * k as f64;
            sensor.advance(&burst, at);
            (at, sensor.read(at))
        })
        .collect();
    polled_trapezoid::energy(&samples, 0.0, seconds) / (500.0 * seconds)
}

/// Instantaneous power of a 100 ms sensor, with enough noise that no two readings are equal: equal ones would count
/// once, and steady power would be next to nothing.
fn instant() -> SensorParameters {
    let sensor = preset("h200").sensor[1].clone();
    assert_eq!((sensor.update_period_s, sensor.window_s), (0.1, Some(0.025)));
    SensorParameters { noise: 1e-6, jitter_s: 0.0, delay_s: [0.0; 2], missed: 0.0, step: 1e-9, ..sensor }
}

#[test]
fn the_polled_trapezoid_has_its_known_figures() {
    // 0 % of the true energy at 0.1 s, 50 % at 0.2 s, 80 % at 0.5 s, 95 % at 2 s: of n updates in the window, each
    // seen in it, n - 1 intervals are left, (n - 1)/n.
    for (seconds, share) in [(0.1, 0.0), (0.2, 0.5), (0.5, 0.8), (2.0, 0.95)] {
        for phase in [0.03, 0.05, 0.08] {
            assert_relative_eq!(trapezoid_of_burst(&instant(), seconds, phase, 0.01), share, epsilon = 1e-5);
        }
    }
}

#[test]
fn equal_readings_leave_the_trapezoid_nothing() {
    // Without noise each update of the burst reads 500 W, which counts once.
    let silent = SensorParameters { noise: 0.0, ..instant() };
    assert_relative_eq!(trapezoid_of_burst(&silent, 2.0, 0.05, 0.01), 0.0);
    // 100 W at 1 s, 300 W at 2 s, the same until 4 s, 200 W at 4 s; the sample at 0 s lies on the edge.
    let samples = [(0.0, 50.0), (1.0, 100.0), (2.0, 300.0), (3.0, 300.0), (4.0, 200.0)];
    assert_relative_eq!(polled_trapezoid::energy(&samples, 0.0, 5.0), 200.0 + 500.0);
    assert_relative_eq!(polled_trapezoid::energy(&samples, 0.0, 2.0), 0.0);
}

#[test]
fn the_period_of_polling_is_half_the_shortest_change_interval() {
    // Changes at 30, 110 and 170 ms, read every millisecond: shortest 60 ms.
    let mut now = 0.0;
    let read = || {
        now += 0.001;
        (now, [0.03, 0.11, 0.17].iter().filter(|&&at| at < now).count() as f64)
    };
    assert_relative_eq!(polled_trapezoid::inferred_period(1000, read), 0.03, epsilon = 1e-9);
    let mut now = 0.0;
    let still = || {
        now += 0.001;
        (now, 100.0)
    };
    assert_relative_eq!(polled_trapezoid::inferred_period(1000, still), 0.1);
}

#[test]
fn a_window_shorter_than_the_counters_period_is_zero_or_a_whole_period() {
    // Updates every 100 ms at the power of now; one pass takes a fifth of that.
    let subject = subject("rtx3090", "squeezenet1_1", 32);
    let [seconds, joules] = [subject.truth.pass[0].time_s.value(), subject.truth.pass[0].energy_j.value()];
    assert!(seconds < 0.05, "the pass takes {seconds} s");
    let seen: Vec<f64> = (1..=60)
        .map(|seed| {
            let mut board = Board::new(&subject, seed).unwrap();
            board.warm_up(1.0).unwrap();
            counter_window::window(&mut board, Work::Pass).unwrap().joules
        })
        .collect();
    let nothing = seen.iter().filter(|&&joules| joules == 0.0).count() as f64 / 60.0;
    let expected = 1.0 - seconds / 0.1;
    // The standard deviation of a share of 60 is 0.065 at most.
    assert!((nothing - expected).abs() < 0.2, "{nothing} of windows saw nothing, expected {expected}");
    for &window in seen.iter().filter(|&&joules| joules > 0.0) {
        let of_period = joules / seconds * 0.1;
        assert!((0.7..2.2).contains(&(window / of_period)), "{window} J, a period has {of_period} J");
    }
}

#[test]
fn median_power_is_exact_for_layers_of_the_ideal_device() {
    // Constant power without noise: its median is itself, whatever else the method does.
    let subject = subject("ideal", "lenet5", 256);
    let answer = median_power::measure(&subject, 1).unwrap();
    for (step, value) in answer.layers.iter().enumerate() {
        let truth = subject.layer_joules(answer.sensor, step);
        assert_relative_eq!(value.unwrap().joules, truth, max_relative = 1e-4);
    }
    assert_relative_eq!(median_power::median(vec![3.0, 1.0, 2.0]), 2.0);
    assert_relative_eq!(median_power::median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
}

#[test]
fn a_method_without_its_sensor_is_refused() {
    let subject = subject("rapl-server", "lenet5", 1);
    let refusal = median_power::measure(&subject, 1).unwrap_err();
    assert_eq!(refusal, "no reading of power");
}

#[test]
fn scores_are_what_a_hand_finds() {
    let subject = subject("ideal", "lenet5", 1);
    let truth: Vec<f64> = (0..subject.plan.steps.len()).map(|step| subject.layer_joules(0, step)).collect();
    let pass = subject.pass_joules(0);
    // All 3 % too high with intervals of 5 %, but the first layer, which is silent, and the second, whose interval
    // is 1 %.
    let value = |(step, joules): (usize, &f64)| {
        let half = joules * if step == 1 { 0.01 } else { 0.05 };
        let joules = joules * 1.03;
        (step > 0).then_some(Value { joules, interval: Some([joules - half, joules + half]) })
    };
    let answer = Answer {
        layers: truth.iter().enumerate().map(value).collect(),
        pass: Some(Value::bare(pass * 0.98)),
        gaps: 0.0,
        seconds: 7.0,
        sensor: 0,
    };
    let row = Row::of(&subject, "hand", &[Ok(score(&subject, &answer, Basis::Energy)), Err("no".into())]);
    let judged = row.layers as f64;
    assert!(judged >= 5.0, "{judged} layers");
    assert_relative_eq!(row.error_median.unwrap(), 0.03, epsilon = 1e-12);
    assert_relative_eq!(row.error_max.unwrap(), 0.03, epsilon = 1e-12);
    assert_relative_eq!(row.pass_error.unwrap(), 0.02, epsilon = 1e-12);
    assert_relative_eq!(row.without_number.unwrap(), 1.0 / judged);
    assert_relative_eq!(row.coverage.unwrap(), (judged - 2.0) / (judged - 1.0));
    assert_relative_eq!(row.half_width.unwrap(), (0.05 * (judged - 2.0) + 0.01) / (judged - 1.0));
    assert_eq!((row.answered, row.refused.as_deref(), row.seconds), (1, Some("no"), Some(7.0)));
    // A sum that lacks a layer closes nothing.
    assert_eq!(row.closure, None);
    // A gain that is common to all leaves the shares.
    let scaled = Answer {
        layers: truth.iter().map(|&joules| Some(Value::bare(joules * 1.05))).collect(),
        pass: Some(Value::bare(pass * 1.05)),
        ..answer
    };
    let row = Row::of(&subject, "scaled", &[Ok(score(&subject, &scaled, Basis::Share))]);
    assert!(row.error_max.unwrap() < 1e-12);
    assert_relative_eq!(
        row.closure.unwrap(),
        (truth.iter().sum::<f64>() / pass - 1.0).abs(),
        epsilon = 1e-12
    );
}

#[test]
fn quantiles_are_those_of_definition_seven() {
    assert_eq!(quantile(&[], 0.5), None);
    assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), Some(2.5));
    assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95), Some(4.8));
    assert_eq!(quantile(&[2.0, 1.0], 1.0), Some(2.0));
}
