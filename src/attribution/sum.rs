//! Sums over kinds of work, with what they share.

use crate::stats::Uncertain;

use super::signature::{Beyond, SignatureEnergy};

/// A sum over executions of several kinds of work. Energies in joules, time in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorkSum {
    /// Time.
    pub time: Uncertain,
    /// Energy, with the static share of its time.
    pub energy: Uncertain,
    /// Energy above active idle, without the idle power's own uncertainty; none without an idle power.
    pub dynamic_alone: Option<Uncertain>,
}

/// Adds kinds of work up, each with its number of executions; a negative number subtracts.
///
/// All windows of a round share clock, temperature and neighbours, so where every part was measured in the same
/// rounds the sum is taken round by round and its spread observed, as for paired differences. Otherwise the
/// parts count as independent. None if a part has no energy, or there is no part.
pub fn work_sum(parts: &[(f64, &SignatureEnergy)]) -> Option<WorkSum> {
    let known = parts.iter().all(|(_, work)| work.energy.is_some() && work.time.is_some());
    if parts.is_empty() || !known {
        return None;
    }
    Some(paired(parts).unwrap_or_else(|| independent(parts)))
}

fn paired(parts: &[(f64, &SignatureEnergy)]) -> Option<WorkSum> {
    let rounds: Vec<usize> = parts.first()?.1.rounds.iter().map(|r| r.round).collect();
    let distinct = rounds.windows(2).all(|pair| pair[0] < pair[1]);
    let same = parts.iter().all(|(_, work)| work.rounds.iter().map(|r| r.round).eq(rounds.iter().copied()));
    if !distinct || !same {
        return None;
    }
    let sums = |quantity: &dyn Fn(&SignatureEnergy, usize) -> Option<f64>| -> Option<Uncertain> {
        let of_round =
            |i: usize| parts.iter().map(|(n, work)| Some(n * quantity(work, i)?)).sum::<Option<f64>>();
        Uncertain::mean_of(&(0..rounds.len()).map(of_round).collect::<Option<Vec<f64>>>()?)
    };
    // Edges are independent from window to window.
    let alignment = parts.iter().map(|(n, work)| (n * work.alignment).powi(2)).sum::<f64>().sqrt();
    let alignment = alignment.hypot(beyond(parts));
    Some(WorkSum {
        time: sums(&|work, i| Some(work.rounds[i].time))?,
        energy: sums(&|work, i| Some(work.rounds[i].energy))?.widened(alignment),
        dynamic_alone: sums(&|work, i| work.rounds[i].dynamic).map(|d| d.widened(alignment)),
    })
}

/// What windows share does not fall with their number. Temperature and clock err for all parts alike; what is found in
/// the cache, and what was mixed with a part, is each one's own.
fn beyond(parts: &[(f64, &SignatureEnergy)]) -> f64 {
    let alike = |of: &dyn Fn(&Beyond) -> f64| parts.iter().map(|(n, work)| n * of(&work.beyond)).sum::<f64>();
    let own =
        parts.iter().map(|(n, work)| (n * work.beyond.cache.hypot(work.beyond.filler)).powi(2)).sum::<f64>();
    alike(&|b| b.temperature).hypot(alike(&|b| b.clock)).hypot(own.sqrt())
}

fn independent(parts: &[(f64, &SignatureEnergy)]) -> WorkSum {
    // Layers of one signature share one measurement: their errors add up, not in squares.
    let sum = |quantity: &dyn Fn(&SignatureEnergy) -> Option<Uncertain>| -> Option<Uncertain> {
        let items: Option<Vec<Uncertain>> =
            parts.iter().map(|(n, work)| quantity(work).map(|u| u.times(*n))).collect();
        items.map(Uncertain::sum)
    };
    let none = Uncertain::exact(0.0);
    WorkSum {
        time: sum(&|work| work.time).unwrap_or(none),
        energy: sum(&|work| work.energy).unwrap_or(none),
        dynamic_alone: sum(&|work| work.dynamic_alone),
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;
    use crate::attribution::{Reading, work_energy};
    use crate::trace::SpanKind;

    fn work(joules: &[f64]) -> SignatureEnergy {
        let window = |(round, &energy): (usize, &f64)| Reading {
            kind: SpanKind::Pass,
            round,
            energy,
            time: 1.0,
            executions: 1.0,
            edge: 0.0,
        };
        let windows: Vec<Reading> = joules.iter().enumerate().map(window).collect();
        work_energy(&windows, Some(Uncertain::exact(0.0)))
    }

    #[test]
    fn drift_that_rounds_share_stays_in_a_sum_and_leaves_a_difference() {
        let (a, b) = (work(&[9.0, 10.0, 11.0]), work(&[19.0, 20.0, 21.0]));
        let sum = work_sum(&[(1.0, &a), (1.0, &b)]).unwrap();
        // Rounds 28, 30, 32: standard error 2 / sqrt(3), not sqrt(2) / sqrt(3).
        assert_relative_eq!(sum.energy.value, 30.0);
        assert_relative_eq!(sum.energy.std_error, 2.0 / 3.0_f64.sqrt());
        let difference = work_sum(&[(1.0, &b), (-1.0, &a)]).unwrap();
        assert_relative_eq!(difference.energy.value, 10.0);
        assert_relative_eq!(difference.energy.std_error, 0.0);
    }

    #[test]
    fn parts_of_different_rounds_count_as_independent() {
        let (a, b) = (work(&[9.0, 10.0, 11.0]), work(&[19.0, 21.0]));
        let sum = work_sum(&[(2.0, &a), (1.0, &b)]).unwrap();
        // By hand: (2 x 1/sqrt(3))^2 + (sqrt(2)/sqrt(2))^2.
        assert_relative_eq!(sum.energy.std_error, (4.0_f64 / 3.0 + 1.0).sqrt());
    }
}
