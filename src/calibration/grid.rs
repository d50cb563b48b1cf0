//! When a sensor looks: the regular grid behind the instants at which its reading was seen to change.
//!
//! The median of change intervals misleads: where readings are 13 ms apart, a period of 101 ms shows as 104 ms, eight of
//! them. And an update that was missed, or showed the value of the one before, makes intervals of two periods.

use std::f64::consts::TAU;

use crate::stats::Estimate;
use crate::units::Seconds;

use super::facts::Unknown;
use super::series::{Series, centre_and_spread};

/// Fewer changes than these tell no period.
const FEWEST_CHANGES: usize = 8;
/// Where more than this part of all readings is new, the sensor may well be faster than its reader.
const MOST_NEW: f64 = 0.5;
/// Trial frequencies for each of the independent ones, 1/span: the resultant of the best lies within 2 % of its peak.
const OVERSAMPLING: f64 = 8.0;
/// A longer period is preferred where it explains the changes this well, relative to the best: every instant of a grid
/// is also one of the grid with half the period.
const AS_GOOD: f64 = 0.8;
/// Of series of instants drawn by chance, this part may look periodic at any of the frequencies tried.
const FALSE_ALARMS: f64 = 1e-4;
/// Changes farther from the grid than this many robust standard deviations are none of its updates.
const MOST_DEVIATIONS: f64 = 4.0;

/// Instants `first + k · period`.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// The period with its 95 % range.
    pub period: Estimate<Seconds>,
    /// Instant of cycle 0.
    first: f64,
    /// How far changes lie from the grid, as a standard deviation.
    pub scatter: Seconds,
    /// Changes on the grid: its own instant, not that of the reading, and the value.
    pub updates: Vec<(f64, f64)>,
    /// The same at the times of the readings that showed them first.
    pub seen: Vec<(f64, f64)>,
}

/// The period that makes the instants of changes most nearly periodic, and a straight line through instants against
/// cycle number.
///
/// # Errors
///
/// The readings tell no period; the text says why.
pub fn regular_grid(readings: &Series) -> Result<Grid, Unknown> {
    let (changes, poll) = (readings.changes(), readings.poll().unwrap_or_default().value());
    if changes.len() < FEWEST_CHANGES {
        return Err(Unknown(format!(
            "the reading changed {} times, and a period needs {FEWEST_CHANGES}: record for longer, with a load that \
             varies",
            changes.len()
        )));
    }
    let new = changes.len() as f64 / (readings.len() - 1) as f64;
    if new > MOST_NEW {
        return Err(Unknown(format!(
            "{:.0} % of the readings are new, so the sensor may be faster than the {:.3} ms between readings: read \
             more often",
            new * 100.0,
            poll * 1e3
        )));
    }
    let instants: Vec<f64> = changes.iter().map(|change| change.0).collect();
    let frequency = best_frequency(&instants, 2.0 * poll).ok_or_else(|| {
        Unknown(format!(
            "the {} changes keep to no period longer than two readings, {:.3} ms",
            changes.len(),
            2e3 * poll
        ))
    })?;
    Ok(Grid::through(&changes, 1.0 / frequency, poll))
}

/// Periods that a grid may differ from the one that it is looked for near: as a factor.
const NEAR: f64 = 1.5;

/// The grid of instants that are known to be updates, of a sensor whose period is known about; each instant is within
/// `poll` of its update.
///
/// # Errors
///
/// The instants tell no period; the text says why.
pub(super) fn grid_near(instants: &[f64], about: Seconds, poll: Seconds) -> Result<Grid, Unknown> {
    let span = instants.last().zip(instants.first()).map_or(0.0, |(last, first)| last - first);
    if instants.len() < FEWEST_CHANGES || about <= Seconds::ZERO || span < 4.0 * NEAR * about.value() {
        return Err(Unknown(format!(
            "{} instants of change are known, and a period needs {FEWEST_CHANGES}: record for longer",
            instants.len()
        )));
    }
    let step = 1.0 / (OVERSAMPLING * span);
    let [slowest, fastest] = [1.0 / (NEAR * about.value()), NEAR / about.value()];
    let trials = ((fastest - slowest) / step) as usize;
    let coarse = (0..=trials).map(|k| slowest + k as f64 * step).map(|f| (f, resultant(instants, f)));
    let (coarse, _) = coarse.max_by(|a, b| a.1.total_cmp(&b.1)).expect("there is one trial at least");
    let (best, length) = peak_near(instants, coarse, step);
    if length * length * (instants.len() as f64) < (trials as f64 / FALSE_ALARMS).ln() {
        return Err(Unknown(format!("the {} instants of change keep to no period", instants.len())));
    }
    let changes: Vec<(f64, f64)> = instants.iter().map(|at| (*at, 0.0)).collect();
    Ok(Grid::through(&changes, 1.0 / best, poll.value()))
}

/// The frequency of the largest resultant within `reach` of another.
fn peak_near(instants: &[f64], frequency: f64, reach: f64) -> (f64, f64) {
    let fine = (-16..=16).map(|k| frequency + reach * f64::from(k) / 16.0);
    let rated = fine.map(|f| (f, resultant(instants, f)));
    rated.max_by(|a, b| a.1.total_cmp(&b.1)).expect("there are 33 of them")
}

/// Length of the mean of the unit vectors at the instants' phases: 1 where all are a whole number of periods apart.
fn resultant(instants: &[f64], frequency: f64) -> f64 {
    let (sin, cos) = direction(instants, frequency);
    sin.hypot(cos) / instants.len() as f64
}

fn direction(instants: &[f64], frequency: f64) -> (f64, f64) {
    let sums = instants.iter().map(|t| (TAU * t * frequency).sin_cos());
    sums.fold((0.0, 0.0), |(s, c), (sin, cos)| (s + sin, c + cos))
}

/// The frequency of the largest resultant below 1/`shortest`: what is faster cannot be told from the grid of the
/// readings themselves.
fn best_frequency(instants: &[f64], shortest: f64) -> Option<f64> {
    let span = instants[instants.len() - 1] - instants[0];
    let step = 1.0 / (OVERSAMPLING * span);
    // A period must fit several times.
    let (slowest, fastest) = (4.0 / span, 1.0 / shortest);
    let trials = ((fastest - slowest) / step).max(0.0) as usize;
    let coarse = (0..=trials).map(|k| slowest + k as f64 * step);
    let (best, _) = coarse
        .map(|f| (f, resultant(instants, f)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|_| trials > 0)?;
    let (best, length) = peak_near(instants, best, step);
    // Rayleigh's test: chance gives a resultant above R with probability exp(-n R²) at one frequency.
    if instants.len() as f64 * length * length < (trials as f64 / FALSE_ALARMS).ln() {
        return None;
    }
    let most_times = (best / slowest).min(20.0) as u32;
    let longer = (2..=most_times).rev().map(|times| peak_near(instants, best / f64::from(times), step));
    longer.into_iter().find(|(_, l)| *l >= AS_GOOD * length).map(|(f, _)| f).or(Some(best))
}

impl Grid {
    /// The straight line through the changes, without those that are off the grid.
    fn through(changes: &[(f64, f64)], period: f64, poll: f64) -> Self {
        let instants: Vec<f64> = changes.iter().map(|change| change.0).collect();
        let (sin, cos) = direction(&instants, 1.0 / period);
        let mut line = Line { first: period * sin.atan2(cos) / TAU, period, std_error: 0.0, scatter: 0.0 };
        let mut kept = changes.to_vec();
        // Three times: trimming moves the line, and the line what is trimmed.
        for _ in 0..3 {
            let off: Vec<f64> = changes.iter().map(|change| line.off(change.0)).collect();
            let (centre, spread) = centre_and_spread(&off);
            // Readings err by up to half an interval each way, however well most of them agree.
            let most = MOST_DEVIATIONS * spread.max(poll / 12_f64.sqrt());
            kept = changes
                .iter()
                .zip(&off)
                .filter(|(_, o)| (*o - centre).abs() <= most)
                .map(|(c, _)| *c)
                .collect();
            line = Line::through(&kept, &line);
        }
        let half = line.period_half_width(poll);
        let seconds = Seconds::new;
        let period = Estimate {
            value: seconds(line.period),
            low: seconds(line.period - half),
            high: seconds(line.period + half),
        };
        let updates = kept.iter().map(|&(at, value)| (line.nearest(at), value)).collect();
        Self { period, first: line.first, scatter: seconds(line.scatter), updates, seen: kept }
    }

    /// What a counter's updates say of power: the mean from each to the next, where no update is missing between.
    /// Updates are those of this grid, on it or as they were seen.
    pub fn powers(&self, updates: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let next = |pair: &&[(f64, f64)]| {
            pair[1].0 > pair[0].0 && self.cycle(pair[1].0) - self.cycle(pair[0].0) < 1.5
        };
        let power = |pair: &[(f64, f64)]| (pair[1].0, (pair[1].1 - pair[0].1) / (pair[1].0 - pair[0].0));
        updates.windows(2).filter(next).map(power).collect()
    }

    /// The cycle number of the grid's instant next to a time.
    pub fn cycle(&self, at: f64) -> f64 {
        ((at - self.first) / self.period.value.value()).round()
    }
}

/// Instants against cycle number.
struct Line {
    first: f64,
    period: f64,
    /// Of the period.
    std_error: f64,
    scatter: f64,
}

impl Line {
    fn nearest(&self, at: f64) -> f64 {
        at - self.off(at)
    }

    fn off(&self, at: f64) -> f64 {
        let cycles = (at - self.first) / self.period;
        (cycles - cycles.round()) * self.period
    }

    /// Least squares; cycle numbers are those of an earlier line.
    fn through(changes: &[(f64, f64)], earlier: &Self) -> Self {
        let n = changes.len() as f64;
        let cycle = |at: f64| ((at - earlier.first) / earlier.period).round();
        let points: Vec<(f64, f64)> = changes.iter().map(|&(at, _)| (cycle(at), at)).collect();
        let (k, t) = points.iter().fold((0.0, 0.0), |(k, t), point| (k + point.0 / n, t + point.1 / n));
        let kk: f64 = points.iter().map(|p| (p.0 - k).powi(2)).sum();
        let kt: f64 = points.iter().map(|p| (p.0 - k) * (p.1 - t)).sum();
        if kk <= 0.0 {
            return Self { ..*earlier };
        }
        let period = kt / kk;
        let first = t - period * k;
        let off: Vec<f64> = points.iter().map(|p| p.1 - first - period * p.0).collect();
        let squares: f64 = off.iter().map(|o| o * o).sum();
        let neighbours: f64 = off.windows(2).map(|o| o[0] * o[1]).sum();
        // A slow beat between reader and sensor makes neighbours err alike, and fewer of them independent.
        let correlation = if squares > 0.0 { (neighbours / squares).clamp(0.0, 0.95) } else { 0.0 };
        let scatter = (squares / (n - 2.0).max(1.0)).sqrt();
        let std_error = scatter / kk.sqrt() * ((1.0 + correlation) / (1.0 - correlation)).sqrt();
        Self { first, period, std_error, scatter }
    }

    /// Half of the 95 % range. Never less than what a reader that looks every `poll` can tell: changes are seen up to
    /// one poll late, uniformly, each standing alone.
    fn period_half_width(&self, poll: f64) -> f64 {
        let least =
            if self.scatter > 0.0 { self.std_error / self.scatter * poll / 12_f64.sqrt() } else { 0.0 };
        2.0 * self.std_error.max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Rng;
    use approx::assert_relative_eq;

    /// A sensor with a new value every `period` from `first` on, a part of them missed, read every `poll` or so.
    fn polled(period: f64, poll: f64, seconds: f64, missed: f64, seed: u64) -> Series {
        let mut random = Rng::new(seed);
        let first = period * random.uniform();
        let cycles = (seconds / period) as usize + 2;
        let mut shown = vec![0.0];
        for _ in 0..cycles {
            let last = shown[shown.len() - 1];
            let fresh = random.uniform();
            shown.push(if random.uniform() < missed { last } else { fresh });
        }
        let mut at = 0.0;
        let mut readings = Vec::new();
        while at < seconds {
            readings.push((at, shown[((at - first) / period + 1.0).max(0.0) as usize]));
            at += poll * (0.9 + 0.2 * random.uniform());
        }
        Series::new(readings)
    }

    #[test]
    fn a_period_is_found_although_it_is_no_multiple_of_the_interval_between_readings() {
        for (period, poll, seed) in
            [(0.1012, 0.013, 1), (0.02, 0.008, 2), (0.1, 0.001, 3), (0.001, 0.0002, 4)]
        {
            let grid = regular_grid(&polled(period, poll, 200.0 * period, 0.05, seed)).unwrap();
            // Both ends are seen within one interval of the reader, over 200 periods.
            let error = (grid.period.value.value() - period).abs();
            assert!(
                error <= poll / 200.0 && error <= 3.0 * grid.period.half_width(),
                "{period}: {:?}",
                grid.period
            );
        }
    }

    #[test]
    fn the_range_of_the_period_holds_the_truth_in_nineteen_of_twenty_series() {
        let held = (0..200).filter(|seed| {
            let period = 0.1;
            let grid = regular_grid(&polled(period, 0.0131, 8.0, 0.02, 1000 + seed)).unwrap();
            (grid.period.low.value()..=grid.period.high.value()).contains(&period)
        });
        // Binomial: 200 x 0.95 = 190, standard deviation 3.
        let held = held.count();
        assert!(held >= 184, "{held} of 200");
    }

    #[test]
    fn half_of_the_updates_missed_is_still_the_same_period() {
        let grid = regular_grid(&polled(0.1, 0.003, 40.0, 0.5, 9)).unwrap();
        assert_relative_eq!(grid.period.value.value(), 0.1, max_relative = 1e-3);
    }

    #[test]
    fn a_sensor_faster_than_its_reader_has_no_identifiable_period() {
        let error = regular_grid(&polled(0.001, 0.01, 10.0, 0.0, 5)).unwrap_err();
        assert!(error.0.contains("read more often"), "{error:?}");
    }

    #[test]
    fn a_reading_that_stands_still_has_no_identifiable_period() {
        let error = regular_grid(&Series::new((0..100).map(|i| (f64::from(i), 7.0)))).unwrap_err();
        assert!(error.0.contains("changed 0 times"), "{error:?}");
    }

    #[test]
    fn changes_at_random_have_no_identifiable_period() {
        let mut random = Rng::new(3);
        let mut value = 0.0;
        let readings = (0..4000).map(|i| {
            value += if random.uniform() < 0.1 { 1.0 } else { 0.0 };
            (f64::from(i) * 0.01, value)
        });
        let error = regular_grid(&Series::new(readings)).unwrap_err();
        assert!(error.0.contains("no period"), "{error:?}");
    }
}
