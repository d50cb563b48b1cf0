//! How far windows of equal work differ, over all kinds of work together.
//!
//! Windows of one length by one meter scatter alike, in parts of their energy, whatever runs in them: it is the sensor
//! that scatters. So the scatter is estimated from all windows, with as many degrees of freedom as there are windows less
//! kinds of work, and a kind that was measured three times need not guess its own from three. One that scatters more than
//! chance allows keeps its own.

use std::collections::HashMap;

use statrs::distribution::{ContinuousCDF, FisherSnedecor, StudentsT};

use crate::stats::Uncertain;
use crate::trace::SpanKind;

use super::signature::SignatureEnergy;

/// Fewest degrees of freedom from which the scatter of all is taken for that of each.
const FEWEST: f64 = 10.0;
/// Chance at which a kind's own scatter would be called larger, for each of the kinds.
const LARGER: f64 = 0.01;

/// The scatter of windows, in parts of their energy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counting {
    /// Variance of one window.
    relative: f64,
    dof: f64,
    /// Mean energy of one execution of each kind, in joules, and its variance by its own windows.
    own: HashMap<SpanKind, (f64, f64, f64)>,
}

impl Counting {
    /// From each kind of work with its rounds.
    pub(super) fn of<'a>(works: impl Iterator<Item = (SpanKind, &'a SignatureEnergy)>) -> Self {
        let (mut squares, mut dof, mut own) = (0.0, 0.0, HashMap::new());
        for (kind, work) in works {
            let energies: Vec<f64> = work.rounds.iter().map(|round| round.energy).collect();
            let Some(mean) = Uncertain::mean_of(&energies).filter(|mean| mean.value > 0.0) else { continue };
            let n = energies.len() as f64;
            let variance = mean.std_error.powi(2) * n;
            own.insert(kind, (mean.value, variance, mean.dof));
            squares += variance / mean.value.powi(2) * mean.dof;
            dof += mean.dof;
        }
        let relative = if dof > 0.0 { squares / dof } else { 0.0 };
        Self { relative, dof, own }
    }

    /// Variance of one window of a kind of work, in joules squared for one execution; none where nothing is known.
    pub fn variance(&self, kind: SpanKind) -> f64 {
        self.with_dof(kind).0
    }

    /// The quantile of Student's t for two-sided 95 % intervals.
    pub fn quantile(&self) -> f64 {
        let dof = if self.dof >= 1.0 { self.dof.min(1e6) } else { 1.0 };
        StudentsT::new(0.0, 1.0, dof).map_or(1.96, |t| t.inverse_cdf(0.975))
    }

    /// The variance of one window with its degrees of freedom.
    pub(super) fn with_dof(&self, kind: SpanKind) -> (f64, f64) {
        let Some(&(mean, variance, dof)) = self.own.get(&kind) else { return (0.0, f64::INFINITY) };
        let pooled = self.relative * mean.powi(2);
        if self.dof < FEWEST || pooled <= 0.0 || is_larger(variance / pooled, dof, self.dof) {
            return (variance, dof);
        }
        (pooled, self.dof)
    }
}

/// Whether a ratio of variances is larger than chance allows.
fn is_larger(ratio: f64, dof: f64, of_all: f64) -> bool {
    FisherSnedecor::new(dof, of_all).is_ok_and(|f| ratio > f.inverse_cdf(1.0 - LARGER))
}
