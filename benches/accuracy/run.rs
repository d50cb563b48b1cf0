//! All methods on all subjects with all seeds.

use std::path::Path;

use rayon::prelude::*;

use layerjoule::sim::DeviceParameters;

use super::judge::{Basis, Row, Score, score};
use super::methods::{METHODS, Method};
use super::options::Options;
use super::subject::Subject;

/// Items in a pass: what fills a GPU, and what a processor is asked for.
const GPU_BATCH: usize = 32;
const PROCESSOR_BATCH: usize = 1;
/// The preset that is a processor.
const PROCESSOR: &str = "rapl-server";
/// The preset whose gain is wrong, and which is judged by shares.
const WRONG_GAIN: &str = "h200-gain5";
/// What `--check` asks of our method: median and 95th percentile of the error, and closure.
const CHECKED: &str = "ideal";
const BOUNDS: [f64; 3] = [0.002, 0.01, 0.005];

/// Each network on each device.
pub(crate) fn subjects(
    root: &Path,
    devices: &[(String, DeviceParameters)],
    options: &Options,
) -> Result<Vec<Subject>, String> {
    let pairs =
        devices.iter().flat_map(|device| options.networks.iter().map(move |network| (device, network)));
    let pairs: Vec<_> = pairs.collect();
    let subject = |((name, device), network): &(&(String, DeviceParameters), &String)| {
        let batch = if name == PROCESSOR { PROCESSOR_BATCH } else { GPU_BATCH };
        let file = root.join("networks").join(format!("{network}.toml"));
        Subject::new(name, device, &file, options.batch.unwrap_or(batch))
    };
    pairs.par_iter().map(subject).collect()
}

/// One row for each subject and method.
pub(crate) fn methods(subjects: &[Subject], seeds: u64, ours: bool) -> Vec<Row> {
    let methods = if ours { &METHODS[..1] } else { &METHODS[..] };
    let runs: Vec<(&Subject, u64)> =
        subjects.iter().flat_map(|subject| (1..=seeds).map(move |seed| (subject, seed))).collect();
    let scores: Vec<Vec<Result<Score, String>>> =
        runs.par_iter().map(|&(subject, seed)| all(methods, subject, seed)).collect();
    let mut rows = Vec::new();
    for (subject, scores) in subjects.iter().zip(scores.chunks(seeds as usize)) {
        for (index, method) in methods.iter().enumerate() {
            let of_method: Vec<_> = scores.iter().map(|methods| methods[index].clone()).collect();
            rows.push(Row::of(subject, method.name, &of_method));
        }
    }
    rows
}

fn all(methods: &[Method], subject: &Subject, seed: u64) -> Vec<Result<Score, String>> {
    let basis = if subject.device_name == WRONG_GAIN { Basis::Share } else { Basis::Energy };
    methods.iter().map(|method| Ok(score(subject, &(method.measure)(subject, seed)?, basis))).collect()
}

/// What our method misses of the bounds, a line each.
pub(crate) fn missed_bounds(rows: &[Row]) -> Vec<String> {
    let ours: Vec<&Row> =
        rows.iter().filter(|r| r.device == CHECKED && r.method == METHODS[0].name).collect();
    if ours.is_empty() {
        return vec![format!("sim:{CHECKED} is not in the table, so nothing is checked")];
    }
    let mut missed = Vec::new();
    for row in ours {
        let place = format!("sim:{}, {}, {}", row.device, row.network, row.method);
        if let Some(why) = &row.refused {
            missed.push(format!("{place}: refused: {why}"));
        }
        if row.without_number != Some(0.0) {
            missed.push(format!("{place}: layers over 1 % of the pass have no number"));
        }
        let found = [("median", row.error_median), ("p95", row.error_p95), ("closure", row.closure)];
        for ((what, found), bound) in found.into_iter().zip(BOUNDS) {
            if found.is_none_or(|found| found > bound) {
                missed.push(format!("{place}: {what} {found:.4?}, more than {bound}"));
            }
        }
    }
    missed
}
