//! Artefacts of devices: what a layer costs alone and what in its network, by a perfect meter.

use std::path::Path;

use layerjoule::sim::DeviceParameters;

use super::super::board::{Board, Work};
use super::super::subject::Subject;
use super::{Artefact, Found};

const NETWORK: &str = "resnet18";
const BATCH: usize = 32;
/// Length of a window, and the load before it.
const WINDOW: f64 = 1.0;
const SETTLE: f64 = 0.3;

/// The rows, in the order of the table. All go over the large layers of a network, and without chance.
pub(super) fn artefacts() -> Vec<Artefact> {
    vec![
        Artefact {
            name: "cold start",
            parameters: "leakage 0.4 W/K, 0.08 K/W, 20 s",
            measured: "layers alone, one after the other",
            cure: "30 s of passes before",
            today: "10 s",
            expected: ["median 1.9, max 4.6 %", "median 0.34, max 1.0 %"],
            errors: |ideal, seed| {
                let mut device = ideal.clone();
                let thermal = &mut device.thermal;
                (thermal.leakage_w_per_k, thermal.resistance_k_per_w) = (0.4, 0.08);
                (thermal.time_constant_s, thermal.reference_c) = (20.0, 50.0);
                once(
                    seed,
                    &device,
                    [
                        |board, step| alone(board, step, SETTLE),
                        |board, step| {
                            if board.now() < 30.0 {
                                board.warm_up(30.0)?;
                            }
                            alone(board, step, SETTLE)
                        },
                    ],
                )
            },
        },
        Artefact {
            name: "boost after a rest",
            parameters: "clock 10 % higher, back within 0.5 s",
            measured: "layers alone for 1 s after 5 s of rest",
            cure: "1.5 s of settling",
            today: "0.3 s",
            expected: ["", ""],
            errors: |ideal, seed| {
                let mut device = ideal.clone();
                device.clock.boost_mhz *= 1.1;
                device.clock.boost_decay_s = 0.5;
                device.clock.voltage_slope = 0.55;
                once(
                    seed,
                    &device,
                    [|board, step| rested(board, step, 0.0), |board, step| rested(board, step, 1.5)],
                )
            },
        },
        Artefact {
            name: "power limit",
            parameters: "5 % above the mean power of passes",
            measured: "layers alone",
            cure: "E(producer, layer) − E(producer)",
            today: "yes, by rests",
            expected: ["", ""],
            errors: |ideal, seed| {
                let device = limited(ideal);
                once(seed, &device, [|board, step| alone(board, step, SETTLE), differential])
            },
        },
        Artefact {
            name: "warm cache",
            parameters: "50 MB",
            measured: "layers alone",
            cure: "buffers that no cache holds",
            today: "in excerpts of the network",
            expected: ["", ""],
            errors: |ideal, seed| {
                let device = cached(ideal);
                once(seed, &device, [|board, step| alone(board, step, SETTLE), cold])
            },
        },
        Artefact {
            name: "warm cache",
            parameters: "50 MB",
            measured: "layers alone",
            cure: "E(producer, layer) − E(producer)",
            today: "in excerpts of the network",
            expected: ["", ""],
            errors: |ideal, seed| {
                let device = cached(ideal);
                once(seed, &device, [|board, step| alone(board, step, SETTLE), differential])
            },
        },
        Artefact {
            name: "waiting for the host",
            parameters: "20 µs after each synchronisation",
            measured: "layers alone, each execution waited for",
            cure: "bursts of 5 ms",
            today: "yes",
            expected: ["", ""],
            errors: |ideal, seed| {
                let mut device = ideal.clone();
                device.speed.sync_s = 20e-6;
                once(
                    seed,
                    &device,
                    [|board, step| waited(board, step, 0.0), |board, step| waited(board, step, 5e-3)],
                )
            },
        },
        Artefact {
            name: "time of queries",
            parameters: "0.02 to 0.5 ms, 5 ms for one in 500",
            measured: "layers alone, the counter read every 2 ms",
            cure: "ten readings a window",
            today: "yes",
            expected: ["", ""],
            errors: |ideal, seed| {
                let mut device = ideal.clone();
                let sensor = &mut device.sensor[0];
                (sensor.query_s, sensor.slow_queries, sensor.slow_query_s) = ([2e-5, 5e-4], 0.002, 5e-3);
                once(
                    seed,
                    &device,
                    [|board, step| read(board, step, 2e-3), |board, step| read(board, step, WINDOW / 10.0)],
                )
            },
        },
    ]
}

/// The network of these rows, or another, on a device that is no preset.
pub(super) fn subject(device: &DeviceParameters, network: &str) -> Result<Subject, String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("networks").join(format!("{network}.toml"));
    Subject::new("ideal, changed", device, &file, BATCH)
}

type Measure = fn(&mut Board<'_>, usize) -> Result<f64, String>;

/// The errors of all large layers by two ways to measure, each on a fresh board; for the first seed only.
fn once(seed: u64, device: &DeviceParameters, ways: [Measure; 2]) -> [Found; 2] {
    if seed > 1 {
        return [Ok(Vec::new()), Ok(Vec::new())];
    }
    ways.map(|measure| {
        let subject = subject(device, NETWORK)?;
        let mut board = Board::new(&subject, seed)?;
        let error = |step| Ok(measure(&mut board, step)? / subject.layer_joules(0, step) - 1.0);
        subject.large_layers().into_iter().map(error).collect()
    })
}

/// Joules of one execution of some work, by a perfect meter, while `run` runs it for a time and says how often.
fn metered(
    board: &mut Board<'_>,
    run: impl FnOnce(&mut Board<'_>) -> Result<u64, String>,
) -> Result<f64, String> {
    let begin = board.true_joules();
    let times = run(board)?;
    Ok((board.true_joules() - begin) / times as f64)
}

fn for_seconds(board: &mut Board<'_>, step: usize, seconds: f64) -> Result<u64, String> {
    let each = board.time_of(Work::Step(step), 3)?;
    let times = (seconds / each).ceil() as u64;
    board.run(Work::Step(step), times, each)?;
    Ok(times + 3)
}

fn alone(board: &mut Board<'_>, step: usize, settle: f64) -> Result<f64, String> {
    for_seconds(board, step, settle)?;
    metered(board, |board| for_seconds(board, step, WINDOW))
}

fn rested(board: &mut Board<'_>, step: usize, settle: f64) -> Result<f64, String> {
    board.rest(5.0);
    alone(board, step, settle)
}

fn cold(board: &mut Board<'_>, step: usize) -> Result<f64, String> {
    let each = board.time_of(Work::Step(step), 3)?;
    metered(board, |board| {
        let times = (WINDOW / each).ceil() as u64;
        board.run_cold(step, times);
        Ok(times)
    })
}

/// The layer behind the one before it, less that one, in ABBA order.
fn differential(board: &mut Board<'_>, step: usize) -> Result<f64, String> {
    // Before the first layer runs the last one of the pass before.
    let producer = step.checked_sub(1).unwrap_or(board.subject.plan.steps.len() - 1);
    let mut window = |steps: &[usize]| {
        let run = |board: &mut Board<'_>, seconds: f64| {
            let (begin, mut times) = (board.now(), 0);
            while board.now() - begin < seconds {
                steps.iter().try_for_each(|&step| board.launch(Work::Step(step)))?;
                times += 1;
            }
            Ok(times)
        };
        run(board, SETTLE)?;
        metered(board, |board| run(board, WINDOW))
    };
    let mut sum = 0.0;
    for with_layer in [true, false, false, true] {
        sum += if with_layer { window(&[producer, step])? } else { -window(&[producer])? };
    }
    Ok(sum / 2.0)
}

/// Executions in bursts that are waited for.
fn waited(board: &mut Board<'_>, step: usize, burst: f64) -> Result<f64, String> {
    let each = board.time_of(Work::Step(step), 3)?;
    metered(board, |board| {
        let (begin, mut times) = (board.now(), 0);
        while board.now() - begin < WINDOW {
            let executions = ((burst / each) as u64).max(1);
            board.run(Work::Step(step), executions, each)?;
            board.sync()?;
            times += executions;
        }
        Ok(times)
    })
}

/// Executions with a reading of the counter every so often.
fn read(board: &mut Board<'_>, step: usize, every: f64) -> Result<f64, String> {
    let each = board.time_of(Work::Step(step), 3)?;
    metered(board, |board| {
        let (begin, mut times) = (board.now(), 0);
        while board.now() - begin < WINDOW {
            let executions = ((every / each) as u64).max(1);
            board.run(Work::Step(step), executions, each)?;
            board.counter()?;
            times += executions;
        }
        Ok(times)
    })
}

fn cached(ideal: &DeviceParameters) -> DeviceParameters {
    let mut device = ideal.clone();
    device.speed.cache_bytes = 50e6;
    device
}

/// A limit that passes keep and their hungriest layers alone do not.
fn limited(ideal: &DeviceParameters) -> DeviceParameters {
    let mut device = ideal.clone();
    let pass = subject(ideal, NETWORK).map(|subject| subject.truth.pass[0].clone());
    device.power.limit_w =
        pass.map_or(ideal.power.limit_w, |pass| pass.energy_j.value() / pass.time_s.value() * 1.05);
    (device.clock.lowest_mhz, device.clock.voltage_slope, device.clock.limiter_s) = (300.0, 0.55, 0.05);
    device
}
