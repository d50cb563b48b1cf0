//! How far windows of equal work differ, over all kinds of work together.
//!
//! Windows of one length by one meter scatter alike, in parts of their energy, whatever runs in them: it is the sensor
//! that scatters. So the scatter is estimated from all windows, with as many degrees of freedom as there are windows less
//! kinds of work, and a kind that was measured three times need not guess its own from three. One that scatters more than
//! chance allows keeps its own.

use std::collections::HashMap;

use statrs::distribution::{ContinuousCDF, FisherSnedecor, StudentsT};

use crate::trace::SpanKind;

use super::signature::SignatureEnergy;

/// Fewest degrees of freedom from which the scatter of all is taken for that of each.
const FEWEST: f64 = 5.0;
/// How much larger than that of all windows the variance is taken to be, of a sort of which there are too few.
const LARGE: f64 = 2.0;
/// Chance at which a kind's own scatter would be called larger, for each of the kinds.
const LARGER: f64 = 0.01;

/// The scatter of windows, in parts of their energy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counting {
    /// Of windows of steady work, and of those in which the device rested between bursts: what a sensor sees of these
    /// depends on when it looks.
    all: [Pooled; 2],
    own: HashMap<SpanKind, Own>,
}

/// The scatter of all windows of a sort.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Pooled {
    squares: f64,
    dof: f64,
}

/// One execution of a kind of work, in joules, and the variance of a window by its own windows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Own {
    mean: f64,
    variance: f64,
    dof: f64,
    rests: bool,
}

impl Counting {
    /// From each kind of work with its rounds, and whether the device rested in its windows.
    pub(super) fn of<'a>(works: impl Iterator<Item = (SpanKind, &'a SignatureEnergy, bool)>) -> Self {
        let mut counting = Self::default();
        for (kind, work, rests) in works {
            let energies: Vec<f64> = work.rounds.iter().map(|round| round.energy).collect();
            let n = energies.len() as f64;
            let mean = energies.iter().sum::<f64>() / n;
            if n < 1.0 || mean <= 0.0 {
                continue;
            }
            let dof = n - 1.0;
            let squares = energies.iter().map(|energy| (energy - mean).powi(2)).sum::<f64>();
            let all = &mut counting.all[usize::from(rests)];
            all.squares += squares / mean.powi(2);
            all.dof += dof;
            let variance = if dof > 0.0 { squares / dof } else { 0.0 };
            counting.own.insert(kind, Own { mean, variance, dof, rests });
        }
        counting
    }

    /// Variance of one window of a kind of work, in joules squared for one execution; infinite where nothing is known.
    pub fn variance(&self, kind: SpanKind) -> f64 {
        self.with_dof(kind).0
    }

    /// The quantile of Student's t for two-sided 95 % intervals.
    pub fn quantile(&self) -> f64 {
        let dof = self.all.iter().map(|all| all.dof).sum::<f64>().clamp(1.0, 1e6);
        StudentsT::new(0.0, 1.0, dof).map_or(1.96, |t| t.inverse_cdf(0.975))
    }

    /// The variance of one window with its degrees of freedom; infinite where one window is all there is.
    pub(super) fn with_dof(&self, kind: SpanKind) -> (f64, f64) {
        let Some(own) = self.own.get(&kind) else { return (f64::INFINITY, 1.0) };
        let (mut all, mut factor) = (self.all[usize::from(own.rests)], 1.0);
        if all.dof < FEWEST {
            let [steady, resting] = self.all;
            all = Pooled { squares: steady.squares + resting.squares, dof: steady.dof + resting.dof };
            factor = LARGE;
        }
        if all.dof < FEWEST {
            return if own.dof > 0.0 { (own.variance, own.dof) } else { (f64::INFINITY, 1.0) };
        }
        let pooled = factor * all.squares / all.dof * own.mean.powi(2);
        if own.dof > 0.0 && pooled > 0.0 && is_larger(own.variance / pooled, own.dof, all.dof) {
            return (own.variance, own.dof);
        }
        (pooled, all.dof)
    }
}

/// Whether a ratio of variances is larger than chance allows.
fn is_larger(ratio: f64, dof: f64, of_all: f64) -> bool {
    FisherSnedecor::new(dof, of_all).is_ok_and(|f| ratio > f.inverse_cdf(1.0 - LARGER))
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;
    use crate::attribution::{Reading, work_energy};

    fn work(joules: &[f64]) -> SignatureEnergy {
        let window = |(round, &energy): (usize, &f64)| Reading {
            kind: SpanKind::Replay(0),
            round,
            energy,
            time: 1.0,
            executions: 1.0,
            edge: 0.0,
        };
        let windows: Vec<Reading> = joules.iter().enumerate().map(window).collect();
        work_energy(&windows, None)
    }

    #[test]
    fn windows_of_all_kinds_tell_the_scatter_of_one() {
        // Seven kinds of two windows each, one per cent to either side: a variance of 2e-4 with seven degrees of freedom.
        let pairs: Vec<SignatureEnergy> =
            (1..=7).map(|i| work(&[0.99 * f64::from(i), 1.01 * f64::from(i)])).collect();
        let single = work(&[50.0]);
        let all = pairs.iter().chain([&single]).enumerate();
        let counting = Counting::of(all.map(|(i, work)| (SpanKind::Replay(i), work, false)));
        // So of a kind with one window: 2e-4 x 50^2 J^2.
        let (variance, dof) = counting.with_dof(SpanKind::Replay(7));
        assert_relative_eq!(variance, 0.5, max_relative = 1e-9);
        assert_relative_eq!(dof, 7.0);
        // t(0.975, 7) as printed in the NIST/SEMATECH e-Handbook, 1.3.6.7.2.
        assert_relative_eq!(counting.quantile(), 2.365, epsilon = 6e-4);
    }

    #[test]
    fn a_kind_that_scatters_more_than_chance_keeps_its_own() {
        let pairs: Vec<SignatureEnergy> = (1..=12).map(|_| work(&[0.999, 1.001])).collect();
        let wild = work(&[0.8, 1.2, 1.0]);
        let all = pairs.iter().chain([&wild]).enumerate();
        let counting = Counting::of(all.map(|(i, work)| (SpanKind::Replay(i), work, false)));
        let (variance, dof) = counting.with_dof(SpanKind::Replay(12));
        assert_relative_eq!(variance, 0.04, max_relative = 1e-9);
        assert_relative_eq!(dof, 2.0);
    }

    #[test]
    fn a_single_window_among_few_has_no_known_scatter() {
        let (pair, single) = (work(&[1.0, 1.1]), work(&[2.0]));
        let all = [(SpanKind::Replay(0), &pair, false), (SpanKind::Replay(1), &single, false)];
        let counting = Counting::of(all.into_iter());
        assert!(counting.variance(SpanKind::Replay(1)).is_infinite());
        assert_relative_eq!(counting.variance(SpanKind::Replay(0)), 0.005, max_relative = 1e-9);
    }
}
