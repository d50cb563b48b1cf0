//! Each artefact of sensors and devices alone: the error that it makes, without and with its cure.
//!
//! Every row starts from `sim:ideal` and switches one artefact on.

mod board;
mod sensors;

use serde::Serialize;

use layerjoule::sim::DeviceParameters;

/// Errors over seeds, relative.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Errors {
    pub(crate) median: f64,
    pub(crate) max: f64,
    pub(crate) deviation: f64,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ArtefactRow {
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static str,
    pub(crate) measured: &'static str,
    pub(crate) cure: &'static str,
    /// Whether `layerjoule profile` applies the cure.
    pub(crate) today: &'static str,
    /// Figures of others for the same, without and with the cure.
    pub(crate) published: (&'static str, &'static str),
    pub(crate) without: Result<Errors, String>,
    pub(crate) with: Result<Errors, String>,
}

/// What a seed gives: relative errors without and with the cure, or why there is no number.
pub(super) type Pair = [Result<f64, String>; 2];

/// An artefact and the experiment that shows it.
pub(super) struct Artefact {
    name: &'static str,
    parameters: &'static str,
    measured: &'static str,
    cure: &'static str,
    today: &'static str,
    published: (&'static str, &'static str),
    /// Relative errors of a seed on a device that starts as `sim:ideal`.
    errors: fn(&DeviceParameters, u64) -> Pair,
}

/// The table over seeds.
pub(crate) fn table(_seeds: u64) -> Vec<ArtefactRow> {
    Vec::new()
}
