//! How far a method's numbers are from the truth.

use serde::Serialize;

use super::board::{Answer, Value};
use super::subject::Subject;

/// What is compared with the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis {
    /// Joules.
    Energy,
    /// Each layer's share of the sum of layers: what is left to judge where the board's gain is wrong.
    Share,
}

/// One method on one subject with one seed. Errors are relative.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Score {
    errors: Vec<f64>,
    half_widths: Vec<f64>,
    covered: usize,
    layers: usize,
    without_number: usize,
    pass: Option<f64>,
    closure: Option<f64>,
    seconds: f64,
}

/// Judges an answer by the layers over 1 % of the pass. A layer of 0 J has an error of 100 %, and neither it nor one
/// that the method leaves out counts as having a number.
pub(crate) fn score(subject: &Subject, answer: &Answer, basis: Basis) -> Score {
    let judged = subject.large_layers();
    let truth = |step: usize| subject.layer_joules(answer.sensor, step);
    let sum: f64 = answer.layers.iter().flatten().map(|value| value.joules).sum();
    let scale = match basis {
        Basis::Energy => 1.0,
        Basis::Share => (0..answer.layers.len()).map(truth).sum::<f64>() / sum,
    };
    let relative = |step: &usize| Some((answer.layers[*step]?, truth(*step)));
    let told: Vec<(Value, f64)> = judged.iter().filter_map(relative).collect();
    // Where all layers are silent there are no shares either.
    let error = |(value, truth): &(Value, f64)| {
        if value.joules != 0.0 { (value.joules * scale / truth - 1.0).abs() } else { 1.0 }
    };
    let mut half_widths = Vec::new();
    let mut covered = 0;
    // An interval of joules says nothing of shares.
    let intervals = told.iter().filter(|_| basis == Basis::Energy);
    for ([low, high], truth) in intervals.filter_map(|(value, truth)| Some((value.interval?, *truth))) {
        half_widths.push((high - low) / 2.0 / truth);
        covered += usize::from((low..=high).contains(&truth));
    }
    let pass = answer.pass.filter(|pass| pass.joules > 0.0);
    let closure = |pass: Value| (sum + answer.gaps - pass.joules).abs() / pass.joules;
    let pass_error = |pass: Value| pass.joules / subject.pass_joules(answer.sensor) - 1.0;
    Score {
        errors: told.iter().map(error).collect(),
        half_widths,
        covered,
        layers: judged.len(),
        without_number: judged.len() - told.iter().filter(|(value, _)| value.joules != 0.0).count(),
        pass: answer.pass.filter(|_| basis == Basis::Energy).map(|pass| pass_error(pass).abs()),
        closure: pass.map(closure).filter(|_| answer.layers.iter().all(Option::is_some)),
        seconds: answer.seconds,
    }
}

/// A row of the table: one method on one subject over all seeds. Ratios, not percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) device: String,
    pub(crate) network: String,
    pub(crate) batch: usize,
    pub(crate) method: String,
    /// Seeds that gave an answer.
    pub(crate) answered: usize,
    /// Why others gave none: the first reason.
    pub(crate) refused: Option<String>,
    /// Layers over 1 % of the pass.
    pub(crate) layers: usize,
    pub(crate) error_median: Option<f64>,
    pub(crate) error_p95: Option<f64>,
    pub(crate) error_max: Option<f64>,
    /// Median over seeds, as the two below.
    pub(crate) pass_error: Option<f64>,
    pub(crate) closure: Option<f64>,
    pub(crate) seconds: Option<f64>,
    /// Share of intervals that hold the truth, over layers and seeds.
    pub(crate) coverage: Option<f64>,
    /// Mean half width of the intervals.
    pub(crate) half_width: Option<f64>,
    /// Share of layers without a number, over layers and seeds.
    pub(crate) without_number: Option<f64>,
}

impl Row {
    /// Over the seeds of a method.
    pub(crate) fn of(subject: &Subject, method: &str, seeds: &[Result<Score, String>]) -> Self {
        let scores: Vec<&Score> = seeds.iter().flatten().collect();
        let all =
            |part: fn(&Score) -> &[f64]| scores.iter().flat_map(|s| part(s)).copied().collect::<Vec<_>>();
        let count = |part: fn(&Score) -> usize| scores.iter().map(|s| part(s)).sum::<usize>();
        let each =
            |part: fn(&Score) -> Option<f64>| scores.iter().filter_map(|s| part(s)).collect::<Vec<_>>();
        let errors = all(|score| &score.errors);
        let half_widths = all(|score| &score.half_widths);
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        Self {
            device: subject.device_name.clone(),
            network: subject.network.name.clone(),
            batch: subject.plan.batch,
            method: method.to_string(),
            answered: scores.len(),
            refused: seeds.iter().find_map(|seed| seed.as_ref().err().cloned()),
            layers: subject.large_layers().len(),
            error_median: quantile(&errors, 0.5),
            error_p95: quantile(&errors, 0.95),
            error_max: quantile(&errors, 1.0),
            pass_error: quantile(&each(|score| score.pass), 0.5),
            closure: quantile(&each(|score| score.closure), 0.5),
            seconds: quantile(&each(|score| Some(score.seconds)), 0.5),
            coverage: share(count(|score| score.covered), half_widths.len()),
            half_width: share(1, half_widths.len()).map(|each| each * half_widths.iter().sum::<f64>()),
            without_number: share(count(|score| score.without_number), count(|score| score.layers)),
        }
    }
}

/// The value below which a share of the values lies, by straight lines between order statistics (Hyndman and Fan
/// 1996, 10.1080/00031305.1996.10473566, definition 7).
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * (sorted.len().checked_sub(1)?) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}
