//! Whether the numbers of a run file can all be true.
//!
//! `run_report` makes them so; a file whose numbers were changed by hand, by a disk or by another program may
//! contradict itself, and must not be rendered with confidence. What no other number depends on (the ends of an
//! interval, a power) can only be held to its own limits: who needs certainty keeps the trace beside the file.

use std::collections::{BTreeMap, BTreeSet};

use crate::stats::Estimate;
use crate::units::{Joules, Seconds};

use super::run_file::{ClosureRow, KindRow, LayerRow, PassRow, Phase, RunReport, Status};
use super::si;

/// Relative difference that the order of additions may make.
const ROUNDING: f64 = 1e-6;

/// The first contradiction in a report: where, what is expected, what is found.
pub(super) fn contradiction(report: &RunReport) -> Result<(), String> {
    if !report.meters.iter().any(|meter| meter.id == report.primary_meter) {
        return Err(wrong("primary_meter", "one of meters", format!("{:?}", report.primary_meter)));
    }
    if report.network.batch == 0 {
        return Err(wrong("network.batch", "at least 1", 0));
    }
    let mut names = BTreeSet::new();
    for (position, row) in report.layers.iter().enumerate() {
        let at = |key: &str| format!("layers[{position}].{key}");
        if row.index != position {
            return Err(wrong(&at("index"), position, row.index));
        }
        if !names.insert((row.name.as_str(), row.phase)) {
            return Err(wrong(
                &at("name"),
                "one row for each layer and phase",
                format!("a second {:?}", row.name),
            ));
        }
        layer(row, &at)?;
    }
    for (position, row) in report.kinds.iter().enumerate() {
        kind(row, &|key: &str| format!("kinds[{position}].{key}"))?;
    }
    for (position, row) in report.pass.iter().enumerate() {
        pass(row, report.network.batch, &|key: &str| format!("pass[{position}].{key}"))?;
    }
    interval("idle.power_w", &report.idle.power_w)?;
    interval("idle.active_power_w", &report.idle.active_power_w)?;
    for (position, row) in report.closure.iter().enumerate() {
        closure(row, report.layers.len(), &|key: &str| format!("closure[{position}].{key}"))?;
    }
    sums(report)?;
    shares(report)
}

fn wrong(place: &str, expected: impl std::fmt::Display, found: impl std::fmt::Display) -> String {
    format!("{place}: expected {expected}, found {found}")
}

/// An interval holds its value, and its ends are numbers that a measurement can give.
fn interval<T: Copy + Into<f64>>(place: &str, estimate: &Option<Estimate<T>>) -> Result<(), String> {
    let Some(estimate) = estimate else { return Ok(()) };
    let [low, value, high]: [f64; 3] = [estimate.low, estimate.value, estimate.high].map(Into::into);
    let found = || format!("{low}, {value}, {high}");
    if !(low <= value && value <= high) {
        return Err(wrong(place, "low <= value <= high", found()));
    }
    if ![low, value, high].into_iter().all(si::plottable) {
        return Err(wrong(place, "numbers that a measurement can give", found()));
    }
    Ok(())
}

/// A duration is more than nothing.
fn duration(place: &str, time: &Option<Estimate<Seconds>>) -> Result<(), String> {
    interval(place, time)?;
    match time {
        Some(time) if time.value <= Seconds::ZERO => {
            Err(wrong(place, "more than no time", format!("{} s", time.value.value())))
        }
        _ => Ok(()),
    }
}

fn layer(row: &LayerRow, at: &dyn Fn(&str) -> String) -> Result<(), String> {
    duration(&at("time_s"), &row.time_s)?;
    interval(&at("energy_j"), &row.energy_j)?;
    interval(&at("energy_dynamic_j"), &row.energy_dynamic_j)?;
    interval(&at("power_w"), &row.power_w)?;
    for (index, also) in row.also.iter().enumerate() {
        interval(&at(&format!("also[{index}].energy_j")), &also.energy_j)?;
        interval(&at(&format!("also[{index}].energy_dynamic_j")), &also.energy_dynamic_j)?;
    }
    if row.upper_j.is_some_and(|upper| !si::plottable(upper.value())) {
        return Err(wrong(&at("upper_j"), "a number that a measurement can give", "a larger one"));
    }
    let (energy, why) = (row.energy_j.is_some(), row.reason.is_some());
    let (expected, kept) = match row.status {
        Status::Measured | Status::Estimated => {
            ("an energy_j where the status is measured or estimated", energy)
        }
        Status::BelowDetection => (
            "no energy_j but an upper_j where the status is below_detection",
            !energy && row.upper_j.is_some(),
        ),
        Status::Unavailable => ("no energy_j but a reason where the status is unavailable", !energy && why),
    };
    if kept { Ok(()) } else { Err(wrong(&at("status"), expected, "something else")) }
}

fn kind(row: &KindRow, at: &dyn Fn(&str) -> String) -> Result<(), String> {
    duration(&at("time_s"), &row.time_s)?;
    interval(&at("energy_j"), &row.energy_j)?;
    interval(&at("energy_dynamic_j"), &row.energy_dynamic_j)
}

fn pass(row: &PassRow, batch: usize, at: &dyn Fn(&str) -> String) -> Result<(), String> {
    duration(&at("time_s"), &row.time_s)?;
    interval(&at("energy_j"), &row.energy_j)?;
    interval(&at("energy_per_image_j"), &row.energy_per_image_j)?;
    let Some((energy, image)) = values(&row.energy_j).zip(values(&row.energy_per_image_j)) else {
        return Ok(());
    };
    same(
        &at("energy_per_image_j"),
        "energy_j over the batch",
        image * batch as f64,
        energy,
        size(&row.energy_j),
    )
}

fn closure(row: &ClosureRow, layers: usize, at: &dyn Fn(&str) -> String) -> Result<(), String> {
    let parts = [&row.sum_of_layers_j, &row.gaps_j, &row.residual_j, &row.pass_j];
    for (key, part) in ["sum_of_layers_j", "gaps_j", "residual_j", "pass_j"].into_iter().zip(parts) {
        interval(&at(key), part)?;
    }
    if row.reconciled_j.len() != layers {
        return Err(wrong(
            &at("reconciled_j"),
            format!("{layers} entries, one for each layer"),
            row.reconciled_j.len(),
        ));
    }
    let [Some(sum), Some(gaps), Some(residual), Some(pass)] = parts.map(values) else { return Ok(()) };
    let sizes: f64 = parts.map(size).iter().sum();
    same(&at("pass_j"), "layers + gaps + residual", sum + gaps + residual, pass, sizes)
}

/// How large the numbers are that an estimate was made from, as far as it tells.
fn size<T: Copy + Into<f64>>(estimate: &Option<Estimate<T>>) -> f64 {
    estimate.map_or(0.0, |estimate| estimate.low.into().abs().max(estimate.high.into().abs()))
}

fn sized<T: Copy + Into<f64>>(estimate: &Option<Estimate<T>>) -> Option<(f64, f64)> {
    Some((values(estimate)?, size(estimate)))
}

fn values<T: Copy + Into<f64>>(estimate: &Option<Estimate<T>>) -> Option<f64> {
    estimate.map(|estimate| estimate.value.into())
}

/// Two ways to the same number agree, up to the rounding of sums of this size.
fn same(place: &str, what: &str, expected: f64, found: f64, size: f64) -> Result<(), String> {
    if (expected - found).abs() <= ROUNDING * size + f64::MIN_POSITIVE {
        return Ok(());
    }
    Err(wrong(place, format!("{what} ({expected:e})"), format!("{found:e}")))
}

/// Shares are of one sum: all rows of a phase stand to each other as their energies do.
fn shares(report: &RunReport) -> Result<(), String> {
    let layers = report
        .layers
        .iter()
        .enumerate()
        .map(|(i, row)| (format!("layers[{i}]"), row.phase, row.energy_j, row.share));
    let kinds = report
        .kinds
        .iter()
        .enumerate()
        .map(|(i, row)| (format!("kinds[{i}]"), row.phase, row.energy_j, row.share));
    let mut largest: BTreeMap<Phase, (f64, f64)> = BTreeMap::new();
    let known: Vec<(String, Phase, f64, f64)> = layers
        .chain(kinds)
        .filter_map(|(place, phase, energy, share)| Some((place, phase, values(&energy)?, share?)))
        .filter(|(.., share)| si::plottable(*share))
        .collect();
    for &(_, phase, energy, share) in &known {
        let entry = largest.entry(phase).or_insert((energy, share));
        if energy.abs() > entry.0.abs() {
            *entry = (energy, share);
        }
    }
    for (place, phase, energy, share) in &known {
        let Some((whole_energy, whole_share)) = largest.get(phase) else { continue };
        let (a, b) = (energy * whole_share, share * whole_energy);
        same(&format!("{place}.share"), "the share that its energy_j has", a, b, a.abs() + b.abs())?;
    }
    Ok(())
}

/// A key, its sum, and the parts with their sizes, where all of them are known.
type SumOfParts = (&'static str, Option<f64>, Option<Vec<(f64, f64)>>);

/// A kind is the sum of its layers, where each of them has the quantity; the closure starts from all kinds.
fn sums(report: &RunReport) -> Result<(), String> {
    for (position, kind) in report.kinds.iter().enumerate() {
        let rows = || {
            report
                .layers
                .iter()
                .filter(|row| row.kind == kind.kind && row.phase == kind.phase && row.signature.is_some())
        };
        let quantities: [SumOfParts; 3] = [
            ("time_s", values(&kind.time_s), rows().map(|row| sized(&row.time_s)).collect()),
            ("energy_j", values(&kind.energy_j), rows().map(|row| sized(&row.energy_j)).collect()),
            (
                "energy_dynamic_j",
                values(&kind.energy_dynamic_j),
                rows().map(|row| sized(&row.energy_dynamic_j)).collect(),
            ),
        ];
        for (key, sum, parts) in quantities {
            let (Some(sum), Some(parts)) = (sum, parts) else { continue };
            let size = parts.iter().map(|(_, size)| size).sum::<f64>();
            same(
                &format!("kinds[{position}].{key}"),
                "the sum of its layers",
                parts.iter().map(|(value, _)| value).sum(),
                sum,
                size,
            )?;
        }
    }
    for (position, row) in report.closure.iter().enumerate() {
        let kinds =
            report.kinds.iter().filter(|kind| row.phase == Phase::Training || kind.phase == row.phase);
        let energies: Option<Vec<(f64, f64)>> = kinds.map(|kind| sized(&kind.energy_j)).collect();
        let (Some(sum), Some(parts)) = (values::<Joules>(&row.sum_of_layers_j), energies) else { continue };
        let size = parts.iter().map(|(_, size)| size).sum::<f64>();
        same(
            &format!("closure[{position}].sum_of_layers_j"),
            "the sum of kinds",
            parts.iter().map(|(value, _)| value).sum(),
            sum,
            size,
        )?;
        let pass =
            report.pass.iter().find(|pass| pass.phase == row.phase).and_then(|pass| values(&pass.energy_j));
        if let Some((whole, pass)) = values(&row.pass_j).zip(pass) {
            same(&format!("closure[{position}].pass_j"), "the energy_j of pass", pass, whole, pass.abs())?;
        }
    }
    Ok(())
}
