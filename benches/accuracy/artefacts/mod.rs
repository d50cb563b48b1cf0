//! Each artefact of sensors and devices alone: the error that it makes, without and with its cure.
//!
//! Every row starts from `sim:ideal` and switches one artefact on.

mod devices;
mod loads;
mod sensors;

use rayon::prelude::*;
use serde::Serialize;

use layerjoule::sim::DeviceParameters;

use super::judge::quantile;

/// Relative errors, over seeds or over layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Errors {
    /// Of their absolute values.
    pub(crate) median: f64,
    pub(crate) max: f64,
    /// Standard deviation about zero.
    pub(crate) deviation: f64,
}

impl Errors {
    fn of(errors: &[f64]) -> Option<Self> {
        let sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
        let squares = sizes.iter().map(|size| size * size).sum::<f64>();
        Some(Self {
            median: quantile(&sizes, 0.5)?,
            max: quantile(&sizes, 1.0)?,
            deviation: (squares / sizes.len() as f64).sqrt(),
        })
    }
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
    /// Figures from elsewhere for the same, without and with the cure; empty where there is none.
    pub(crate) expected: [&'static str; 2],
    pub(crate) without: Result<Errors, String>,
    pub(crate) with: Result<Errors, String>,
}

/// Relative errors, or why there is no number.
type Found = Result<Vec<f64>, String>;

/// An artefact and the experiment that shows it.
struct Artefact {
    name: &'static str,
    parameters: &'static str,
    measured: &'static str,
    cure: &'static str,
    today: &'static str,
    expected: [&'static str; 2],
    /// Errors without and with the cure, on a device that starts as `sim:ideal`, for one seed. An experiment without
    /// chance gives those of all large layers, and nothing for seeds after the first.
    errors: fn(&DeviceParameters, u64) -> [Found; 2],
}

/// The table, over this many seeds.
pub(crate) fn table(seeds: u64) -> Vec<ArtefactRow> {
    let Some(ideal) = DeviceParameters::preset("ideal") else { return Vec::new() };
    let artefacts: Vec<Artefact> = sensors::artefacts().into_iter().chain(devices::artefacts()).collect();
    let runs: Vec<(&Artefact, u64)> =
        artefacts.iter().flat_map(|artefact| (1..=seeds).map(move |seed| (artefact, seed))).collect();
    let found: Vec<[Found; 2]> =
        runs.par_iter().map(|(artefact, seed)| (artefact.errors)(&ideal, *seed)).collect();
    artefacts.iter().zip(found.chunks(seeds as usize)).map(|(artefact, found)| row(artefact, found)).collect()
}

fn row(artefact: &Artefact, found: &[[Found; 2]]) -> ArtefactRow {
    let errors = |which: usize| {
        let all: Vec<Vec<f64>> = found.iter().map(|pair| pair[which].clone()).collect::<Result<_, _>>()?;
        Errors::of(&all.concat()).ok_or("nothing was measured".to_string())
    };
    let Artefact { name, parameters, measured, cure, today, expected, .. } = *artefact;
    ArtefactRow { name, parameters, measured, cure, today, expected, without: errors(0), with: errors(1) }
}
