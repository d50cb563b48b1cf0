//! Artefacts of sensors, on loads whose energy is known by formula.

use layerjoule::clock::Instant;
use layerjoule::meter::WrappingCounter;
use layerjoule::sim::{DeviceParameters, Fault, SensorParameters};
use layerjoule::stats::Rng;
use layerjoule::units::Joules;

use super::super::methods::ours;
use super::loads::{Change, Periodic, Watched, Window, steady};
use super::{Artefact, Found, devices};

/// When windows open: after every transient of the start.
const BEGIN: f64 = 4.0;
/// Power of a steady load, and of active idle, in watts.
const LOAD: f64 = 400.0;
const IDLE: f64 = 80.0;
/// Update period of a GPU's sensors.
const PERIOD: f64 = 0.1;
/// Seed of the times that keep step with nothing.
const STRAY: u64 = 4;
/// Delay that no period of a sensor divides: the golden ratio is the number farthest from all fractions.
const GOLDEN: f64 = 0.618;

/// The rows, in the order of the table.
pub(super) fn artefacts() -> Vec<Artefact> {
    vec![
        Artefact {
            name: "stale counter",
            parameters: "an update every 100 ms",
            measured: "400 W over 1 s by the counter",
            cure: "edges where the reading changes",
            today: "yes",
            expected: ["sd 3.9, max 9.9 %", "sd 0.041, max 0.10 %"],
            errors: |ideal, seed| {
                pair(
                    LOAD,
                    counter(ideal),
                    seed,
                    |w| w.unaligned(stray(seed, BEGIN), stray(seed + 1, 1.0)),
                    |w| w.aligned(BEGIN, stray(seed, 1.0)),
                )
            },
        },
        Artefact {
            name: "part-time, pass of 100 ms",
            parameters: "looks for 25 of 100 ms",
            measured: "200 and 600 W by halves, 5 s by the counter",
            cure: "eight windows of 1 s with random delays",
            today: "no, but a warning",
            expected: ["sd 24–39, max 43–50 %; by formula sd 41 %", "sd 11–14 %"],
            errors: |ideal, seed| [commensurate(ideal, seed, 0.1), random_delays(ideal, seed, 0.1)],
        },
        Artefact {
            name: "part-time, pass of 100 ms",
            parameters: "the same",
            measured: "the same",
            cure: "a pad of 61.8 ms at idle after each pass, subtracted",
            today: "no, but a warning",
            expected: ["sd 24–39, max 43–50 %; by formula sd 41 %", ""],
            errors: |ideal, seed| [commensurate(ideal, seed, 0.1), padded(ideal, seed, 0.1)],
        },
        Artefact {
            name: "part-time, pass of 50 ms",
            parameters: "the same",
            measured: "the same",
            cure: "eight windows of 1 s with random delays",
            today: "no, but a warning",
            expected: ["sd 24–39, max 43–50 %; by formula sd 29 %", "sd 11–14 %"],
            errors: |ideal, seed| [commensurate(ideal, seed, 0.05), random_delays(ideal, seed, 0.05)],
        },
        Artefact {
            name: "part-time, pass of 50 ms",
            parameters: "the same",
            measured: "the same",
            cure: "a pad of 30.9 ms at idle after each pass, subtracted",
            today: "no, but a warning",
            expected: ["sd 24–39, max 43–50 %; by formula sd 29 %", ""],
            errors: |ideal, seed| [commensurate(ideal, seed, 0.05), padded(ideal, seed, 0.05)],
        },
        Artefact {
            name: "part-time, pass of 23.5 ms",
            parameters: "the same",
            measured: "the same; no period of the sensor is near a multiple of the pass",
            cure: "none needed",
            today: "–",
            expected: ["at most 0.3 % at 22–25 ms", ""],
            errors: |ideal, seed| {
                let found = commensurate(ideal, seed, 0.0235);
                [found.clone(), found]
            },
        },
        Artefact {
            name: "average of 1 s",
            parameters: "power of the last second, 0.5 s late",
            measured: "mean reading in the first 2 s of 400 W after 80 W",
            cure: "1.5 s of settling",
            today: "yes: settles 1.6 s for it",
            expected: ["lag 0.5 s + rise 0.9 s", ""],
            errors: average,
        },
        Artefact {
            name: "gain",
            parameters: "gain 1.05",
            measured: "400 W; with the cure its share beside 200 W",
            cure: "shares instead of joules",
            today: "gives both",
            expected: ["±5 % by board", "cancels"],
            errors: |ideal, seed| scaled(SensorParameters { gain: 1.05, ..ideal.sensor[0].clone() }, seed),
        },
        Artefact {
            name: "offset",
            parameters: "−22.6 W, as an RTX 4090's",
            measured: "400 W; with the cure its share beside 200 W",
            cure: "shares, which do not help much; an external meter",
            today: "no",
            expected: ["", ""],
            errors: |ideal, seed| {
                scaled(SensorParameters { offset_w: -22.6, ..ideal.sensor[0].clone() }, seed)
            },
        },
        Artefact {
            name: "noise of updates",
            parameters: "sd 0.3 %, correlation 0.65, an update every 100 ms",
            measured: "400 W over 2 s, aligned",
            cure: "three rounds",
            today: "yes",
            expected: ["sd 0.15 % (n/4.7)", "sd 0.08 %"],
            errors: |ideal, seed| {
                let noisy = SensorParameters { noise: 0.003, noise_correlation: 0.65, ..counter(ideal) };
                pair(LOAD, noisy, seed, |w| w.aligned(BEGIN, 2.0), |w| three(w, 2.0))
            },
        },
        Artefact {
            name: "RAPL's energy filter",
            parameters: "sd 50 % of each update of 1 ms",
            measured: "400 W over 20 ms by the counter",
            cure: "three windows of 0.5 s",
            today: "yes",
            expected: ["sd 11 % (0.5/√20)", "sd 1.3 % (0.5/√1500)"],
            errors: |ideal, seed| {
                let filtered = SensorParameters { noise: 0.5, ..ideal.sensor[0].clone() };
                pair(LOAD, filtered, seed, |w| w.aligned(BEGIN, 0.02), |w| three(w, 0.5))
            },
        },
        Artefact {
            name: "quantum",
            parameters: "steps of 1 J",
            measured: "50 W over 0.5 s by the counter",
            cure: "edges where the reading changes",
            today: "yes",
            expected: ["sd 1.5 % (1 J/√6)", ""],
            errors: |ideal, seed| {
                let coarse = SensorParameters { step: 1.0, ..ideal.sensor[0].clone() };
                pair(
                    50.0,
                    coarse,
                    seed,
                    |w| w.unaligned(stray(seed, BEGIN), stray(seed + 1, 0.5)),
                    |w| w.aligned(BEGIN, stray(seed, 0.5)),
                )
            },
        },
        Artefact {
            name: "missed updates",
            parameters: "a fifth of updates, every 100 ms",
            measured: "400 W over 1 s by the counter",
            cure: "edges where the reading changes",
            today: "yes",
            expected: ["", ""],
            errors: |ideal, seed| {
                let missing = SensorParameters { missed: 0.2, ..counter(ideal) };
                pair(
                    LOAD,
                    missing,
                    seed,
                    |w| w.unaligned(stray(seed, BEGIN), stray(seed + 1, 1.0)),
                    |w| w.aligned(BEGIN, stray(seed, 1.0)),
                )
            },
        },
        Artefact {
            name: "late publication",
            parameters: "0 to 20 ms late, an update every 100 ms",
            measured: "400 W over 1 s, aligned",
            cure: "a window of 10 s",
            today: "windows of 1 s, passes 5 s",
            expected: ["sd 0.82 % (20 ms/√6)", "sd 0.08 %"],
            errors: |ideal, seed| {
                let late = SensorParameters { delay_s: [0.0, 0.02], ..counter(ideal) };
                pair(LOAD, late, seed, |w| w.aligned(BEGIN, 1.0), |w| w.aligned(BEGIN, 10.0))
            },
        },
        Artefact {
            name: "jitter of updates",
            parameters: "sd 1.5 ms of 100 ms",
            measured: "400 W over ten updates that are taken for 1 s",
            cure: "times of the readings",
            today: "yes",
            expected: ["sd 0.21 % (1.5 ms·√2)", ""],
            errors: |ideal, seed| {
                let jittering = SensorParameters { jitter_s: 0.0015, ..counter(ideal) };
                let nominal = |w: &mut Watched<'_>| {
                    let timed = w.aligned(BEGIN, 0.95);
                    Window { to: timed.from + 1.0, ..timed }
                };
                pair(LOAD, jittering, seed, nominal, |w| w.aligned(BEGIN, 0.95))
            },
        },
        Artefact {
            name: "wrap in a window",
            parameters: "back to zero at 1000 J",
            measured: "400 W over 2 s, last reading less first",
            cure: "wraps undone",
            today: "yes",
            expected: ["−125 %", ""],
            errors: wrap,
        },
        Artefact {
            name: "reading costs energy",
            parameters: "5.5 J a query",
            measured: "400 W over 2 s, read every 20 ms",
            cure: "two readings, 10 s apart",
            today: "no, but a warning",
            expected: ["+275 W on a laptop GPU", ""],
            errors: |ideal, seed| read_rate(ideal, seed, 5.5, 0.0, 0.02),
        },
        Artefact {
            name: "reading loses energy",
            parameters: "what lies between queries closer than 50 ms",
            measured: "400 W over 2 s, read every 10 ms",
            cure: "two readings, 10 s apart",
            today: "no, but a warning",
            expected: ["−76 % on an RTX 4090", "−1.6 % at 1 s"],
            errors: |ideal, seed| read_rate(ideal, seed, 0.0, 0.05, 0.01),
        },
        Artefact {
            name: "stuck",
            parameters: "stands still from 20 s on",
            measured: "400 W over 1 s after it; LeNet-5 with the cure",
            cure: "refused",
            today: "yes",
            expected: ["", ""],
            errors: |ideal, seed| faulty(ideal, seed, Fault::Stuck { at_s: 20.0 }),
        },
        Artefact {
            name: "reset",
            parameters: "starts again at zero after 20 s",
            measured: "400 W over 1 s around it; LeNet-5 with the cure",
            cure: "refused",
            today: "yes",
            expected: ["", ""],
            errors: |ideal, seed| faulty(ideal, seed, Fault::Reset { at_s: 20.0 }),
        },
        Artefact {
            name: "idle tail",
            parameters: "an update every 100 ms; 80 W after the load",
            measured: "1 s of 400 W, closed at the next change after the load",
            cure: "the load runs on to the edge",
            today: "yes",
            expected: ["+0 to 2 % (mean 1 %)", ""],
            errors: idle_tail,
        },
    ]
}

/// The ideal counter with the period of a GPU's.
fn counter(ideal: &DeviceParameters) -> SensorParameters {
    SensorParameters { update_period_s: PERIOD, ..ideal.sensor[0].clone() }
}

/// Windows without and with a cure, each by a fresh sensor at steady power.
fn pair(
    watts: f64,
    sensor: SensorParameters,
    seed: u64,
    without: impl Fn(&mut Watched<'_>) -> Window,
    with: impl Fn(&mut Watched<'_>) -> Window,
) -> [Found; 2] {
    let load = steady(watts);
    let fresh = || Watched::new(&sensor, seed, &load);
    [without(&mut fresh()).error(&load), with(&mut fresh()).error(&load)].map(|error| Ok(vec![error]))
}

/// A time that keeps step with nothing: up to one period more, uniform over seeds.
fn stray(seed: u64, seconds: f64) -> f64 {
    seconds + PERIOD * Rng::stream(STRAY, seed).uniform()
}

/// Three aligned windows with a pause between them, as one.
fn three(watched: &mut Watched<'_>, seconds: f64) -> Window {
    let windows = [0.0, 1.0, 2.0].map(|round| watched.aligned(BEGIN + round * 10.0, seconds));
    let [joules, length] =
        [windows.map(|w| w.joules), windows.map(|w| w.to - w.from)].map(|each| each.iter().sum::<f64>());
    Window { from: 0.0, to: length, joules }
}

/// A part-time counter, as on Ampere's and Hopper's large boards.
fn part_time(ideal: &DeviceParameters) -> SensorParameters {
    SensorParameters { window_s: Some(0.025), ..counter(ideal) }
}

/// Passes of two halves, from a time that depends on the seed.
fn passes(seed: u64, seconds: f64) -> Periodic {
    let from = seconds * Rng::stream(seed, 1).uniform();
    Periodic { parts: vec![(seconds / 2.0, 200.0), (seconds / 2.0, 600.0)], from }
}

fn commensurate(ideal: &DeviceParameters, seed: u64, seconds: f64) -> Found {
    let load = passes(seed, seconds);
    let window = Watched::new(&part_time(ideal), seed, &load).aligned(BEGIN, 5.0);
    Ok(vec![window.watts() / (load.joules_each() / seconds) - 1.0])
}

fn random_delays(ideal: &DeviceParameters, seed: u64, seconds: f64) -> Found {
    const WINDOWS: u64 = 8;
    let watts = (0..WINDOWS).map(|window| {
        let load = passes(seed * WINDOWS + window, seconds);
        Watched::new(&part_time(ideal), seed, &load).aligned(BEGIN, 1.0).watts()
    });
    Ok(vec![watts.sum::<f64>() / WINDOWS as f64 / 400.0 - 1.0])
}

fn padded(ideal: &DeviceParameters, seed: u64, seconds: f64) -> Found {
    let Periodic { mut parts, from } = passes(seed, seconds);
    let each: f64 = parts.iter().map(|(seconds, watts)| seconds * watts).sum();
    let pad = seconds * GOLDEN;
    parts.push((pad, IDLE));
    let load = Periodic { parts, from };
    let window = Watched::new(&part_time(ideal), seed, &load).aligned(BEGIN, 5.0);
    Ok(vec![(window.watts() * load.seconds() - IDLE * pad) / each - 1.0])
}

fn average(ideal: &DeviceParameters, seed: u64) -> [Found; 2] {
    let sensor = SensorParameters {
        update_period_s: PERIOD,
        window_s: Some(1.0),
        delay_s: [0.5; 2],
        ..ideal.sensor[1].clone()
    };
    let load = Change { before: IDLE, at: BEGIN, after: LOAD };
    [0.0, 1.5 + PERIOD].map(|settle| {
        let mut watched = Watched::new(&sensor, seed, &load);
        let readings = (0..40).map(|k| watched.at(BEGIN + settle + f64::from(k) * 0.05));
        Ok(vec![readings.sum::<f64>() / 40.0 / LOAD - 1.0])
    })
}

/// The energy at one power, and the share that it has of the sum with that at half of it.
fn scaled(sensor: SensorParameters, seed: u64) -> [Found; 2] {
    let joules = [LOAD, LOAD / 2.0].map(|watts| {
        let load = steady(watts);
        Watched::new(&sensor, seed, &load).aligned(BEGIN, 1.0).watts()
    });
    let share = joules[0] / (joules[0] + joules[1]) / (2.0 / 3.0);
    [Ok(vec![joules[0] / LOAD - 1.0]), Ok(vec![share - 1.0])]
}

fn wrap(ideal: &DeviceParameters, seed: u64) -> [Found; 2] {
    let sensor = SensorParameters { wraps_at_j: Some(1000.0), ..ideal.sensor[0].clone() };
    let (load, step) = (steady(LOAD), sensor.step);
    let mut watched = Watched::new(&sensor, seed, &load);
    let readings: Vec<(f64, f64)> =
        (0..=20).map(|k| BEGIN + f64::from(k) * 0.1).map(|at| (at, watched.at(at))).collect();
    let raw = readings[20].1 - readings[0].1;
    let mut counter = WrappingCounter::new((1000.0 / step).round() as u64, Joules::new(step));
    let unwrapped: Result<Vec<f64>, String> = readings
        .iter()
        .map(|(at, joules)| {
            let now = Instant::from_nanos((at * 1e9) as u64);
            let joules = counter.count((joules / step).round() as u64, now, &"the counter");
            joules.map(|joules| joules.value()).map_err(|fault| fault.to_string())
        })
        .collect();
    let truth = LOAD * 2.0;
    [Ok(vec![raw / truth - 1.0]), unwrapped.map(|joules| vec![(joules[20] - joules[0]) / truth - 1.0])]
}

fn read_rate(
    ideal: &DeviceParameters,
    seed: u64,
    per_query_j: f64,
    forgets_within_s: f64,
    every: f64,
) -> [Found; 2] {
    let sensor =
        SensorParameters { fault: Some(Fault::ReadRate { per_query_j, forgets_within_s }), ..counter(ideal) };
    let often = move |watched: &mut Watched<'_>| {
        let before = watched.at(BEGIN);
        let reads = (2.0 / every).round() as u32;
        let last = (1..=reads).map(|k| watched.at(BEGIN + f64::from(k) * every)).last();
        Window { from: BEGIN, to: BEGIN + 2.0, joules: last.unwrap_or(before) - before }
    };
    pair(LOAD, sensor, seed, often, |w| w.unaligned(BEGIN, 10.0))
}

/// What the fault leaves of a difference of two readings, and what our program says.
fn faulty(ideal: &DeviceParameters, seed: u64, fault: Fault) -> [Found; 2] {
    let sensor = SensorParameters { fault: Some(fault), ..ideal.sensor[0].clone() };
    let load = steady(LOAD);
    // Half a second after the fault's time the window is half over.
    let window = Watched::new(&sensor, seed, &load).unaligned(20.0, 1.0);
    let mut device = ideal.clone();
    device.sensor[0] = sensor;
    let profiled = devices::subject(&device, "lenet5").and_then(|subject| ours::measure(&subject, seed));
    let told = profiled.map(|answer| answer.layers.iter().flatten().map(|value| value.joules).collect());
    [Ok(vec![window.error(&load)]), told]
}

fn idle_tail(ideal: &DeviceParameters, seed: u64) -> [Found; 2] {
    let (sensor, load, length) = (counter(ideal), steady(LOAD), stray(seed, 1.0));
    let mut watched = Watched::new(&sensor, seed, &load);
    let aligned = watched.aligned(BEGIN, length);
    let stopped = Change { before: LOAD, at: aligned.from + length, after: IDLE };
    let tailed = Watched::new(&sensor, seed, &stopped).aligned(BEGIN, length);
    [Ok(vec![tailed.joules / (LOAD * length) - 1.0]), Ok(vec![aligned.error(&load)])]
}
