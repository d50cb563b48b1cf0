//! What a device was in while a window was measured.

use serde::{Deserialize, Serialize};

use crate::units::Seconds;

/// A device's condition, as far as it shows it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Condition {
    /// Temperature in degrees Celsius.
    pub celsius: Option<f64>,
    /// Clock of what computes, in megahertz.
    pub megahertz: Option<f64>,
    /// Whether something holds the clock down: a power limit, heat.
    pub limited: bool,
}

/// What a window was measured under, and what ran in it beside the work that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowState {
    /// Mean of the temperatures seen, in degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub celsius: Option<f64>,
    /// Mean of the clocks seen, in megahertz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub megahertz: Option<f64>,
    /// Standard deviation of the clocks seen, in megahertz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub megahertz_sd: Option<f64>,
    /// Whether the clock was held down.
    #[serde(default, skip_serializing_if = "is_false")]
    pub limited: bool,
    /// Time in which nothing ran, so that the clock was that of the network.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub rest_s: Seconds,
    /// What else ran, for the same purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filler: Option<FillerRun>,
}

/// Another step that ran in a window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FillerRun {
    /// Its number in the plan.
    pub step: usize,
    /// How often it ran.
    pub executions: f64,
}

impl WindowState {
    /// The mean of what was seen.
    pub fn of(seen: &[Condition]) -> Self {
        let mean = |values: Vec<f64>| {
            let n = values.len() as f64;
            (n > 0.0).then(|| values.iter().sum::<f64>() / n)
        };
        let clocks = || seen.iter().filter_map(|seen| seen.megahertz);
        let megahertz = mean(clocks().collect());
        let squares = megahertz.and_then(|m| mean(clocks().map(|clock| (clock - m).powi(2)).collect()));
        Self {
            celsius: mean(seen.iter().filter_map(|seen| seen.celsius).collect()),
            megahertz,
            megahertz_sd: squares.map(f64::sqrt).filter(|&sd| sd > 0.0),
            limited: seen.iter().any(|seen| seen.limited),
            ..Self::default()
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_nothing(time: &Seconds) -> bool {
    *time == Seconds::ZERO
}
