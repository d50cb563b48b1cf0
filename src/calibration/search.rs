//! Least squares over windows and delays: reading = gain x (mean load of the window) + offset.

use crate::stats::Rng;

use super::load::Load;
use super::series::{quantile, sorted};

/// Residuals that stand together in the bootstrap: neighbours err alike.
const BLOCK: usize = 8;
/// Resamplings of the bootstrap.
const DRAWS: usize = 200;
/// Windows and delays whose misfit exceeds the least by no more than this factor explain the readings as well.
const AS_GOOD: f64 = 1.10;
/// What errs more than this factor is the best of no resampling, and is not looked at again.
const HOPELESS: f64 = 1.3;

/// Windows and delays tried, as whole numbers of steps.
#[derive(Debug, Clone)]
pub(super) struct Axes {
    pub(super) step: f64,
    pub(super) windows: std::ops::RangeInclusive<i32>,
    pub(super) delays: std::ops::RangeInclusive<i32>,
}

/// A window, a delay, and the straight line that goes best with them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fit {
    pub(super) window: f64,
    pub(super) delay: f64,
    pub(super) gain: f64,
    pub(super) offset: f64,
    /// Root mean square of reading less fit.
    pub(super) rmse: f64,
}

/// Least and most of each quantity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ranges {
    pub(super) window: (f64, f64),
    pub(super) delay: (f64, f64),
    pub(super) gain: (f64, f64),
    pub(super) offset: (f64, f64),
}

/// All windows and delays with their lines.
pub(super) struct Search<'a> {
    updates: &'a [(f64, f64)],
    load: &'a Load,
    axes: Axes,
    fits: Vec<Fit>,
}

impl<'a> Search<'a> {
    /// Fits each window and delay; the load is known for all windows of all updates.
    pub(super) fn new(updates: &'a [(f64, f64)], load: &'a Load, axes: Axes) -> Self {
        let (first, last) = (*axes.delays.start(), axes.windows.end() + axes.delays.end());
        // Every mean is a difference of two of these.
        let integrals: Vec<Vec<f64>> = updates
            .iter()
            .map(|(at, _)| (first..=last).map(|s| load.integral(at - f64::from(s) * axes.step)).collect())
            .collect();
        let mut fits = Vec::with_capacity(axes.windows.clone().count() * axes.delays.clone().count());
        for window in axes.windows.clone() {
            let length = f64::from(window) * axes.step;
            for delay in axes.delays.clone() {
                let (end, begin) = ((delay - first) as usize, (delay + window - first) as usize);
                let mean = |integrals: &Vec<f64>| (integrals[end] - integrals[begin]) / length;
                let points = integrals.iter().map(mean).zip(updates.iter().map(|update| update.1));
                fits.push(Fit { window: length, delay: f64::from(delay) * axes.step, ..line(points) });
            }
        }
        Self { updates, load, axes, fits }
    }

    /// The best window and delay.
    pub(super) fn best(&self) -> Fit {
        let best = self.fits.iter().min_by(|a, b| a.rmse.total_cmp(&b.rmse));
        *best.expect("axes have a window and a delay")
    }

    /// Least and longest window of the fits that explain the readings as well as the best one.
    pub(super) fn equal_windows(&self) -> (f64, f64) {
        let most = self.best().rmse * AS_GOOD;
        let windows = self.fits.iter().filter(|fit| fit.rmse <= most).map(|fit| fit.window);
        windows.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), window| {
            (low.min(window), high.max(window))
        })
    }

    /// Whether a reading without any load explains itself as well.
    pub(super) fn is_flat(&self) -> bool {
        line(self.updates.iter().map(|update| (0.0, update.1))).rmse <= self.best().rmse * AS_GOOD
    }

    /// The ranges of fits that explain the readings as well as the best: the middle 95 % of a bootstrap of its residuals
    /// in blocks (Davison and Hinkley 1997, 8.2.3), widened to those with hardly more misfit.
    ///
    /// Residuals are drawn anew, not updates: the load is as it is, and often only its first and last edges tell.
    pub(super) fn ranges(&self, seed: u64) -> Ranges {
        let best = self.best();
        let equal: Vec<Fit> =
            self.fits.iter().filter(|fit| fit.rmse <= best.rmse * AS_GOOD).copied().collect();
        let hopeful = self.fits.iter().filter(|fit| fit.rmse <= best.rmse * HOPELESS);
        let candidates: Vec<Candidate> = hopeful.map(|fit| Candidate::new(*fit, self.means(fit))).collect();
        let mut random = Rng::new(seed);
        let residuals = Residuals::of(&best, &self.means(&best), self.updates);
        let draws: Vec<Fit> =
            (0..DRAWS).map(|_| resampled(&candidates, &residuals.draw(&mut random), &best)).collect();
        let range = |of: fn(&Fit) -> f64| {
            let drawn = sorted(draws.iter().map(of));
            let tail = |probability| quantile(&drawn, probability).into_iter();
            let low = equal.iter().map(of).chain(tail(0.025)).fold(f64::INFINITY, f64::min);
            let high = equal.iter().map(of).chain(tail(0.975)).fold(f64::NEG_INFINITY, f64::max);
            (low, high)
        };
        Ranges {
            window: range(|fit| fit.window),
            delay: range(|fit| fit.delay),
            gain: range(|fit| fit.gain),
            offset: range(|fit| fit.offset),
        }
    }

    /// Whether a window is the longest or the shortest that was tried.
    pub(super) fn at_edge(&self, window: f64) -> bool {
        let steps = window / self.axes.step;
        steps < f64::from(*self.axes.windows.start()) + 0.5
            || steps > f64::from(*self.axes.windows.end()) - 0.5
    }

    /// The mean load of each update's window.
    fn means(&self, fit: &Fit) -> Vec<f64> {
        let end = |at: f64| at - fit.delay;
        self.updates.iter().map(|(at, _)| self.load.mean(end(*at) - fit.window, end(*at))).collect()
    }
}

/// Least squares through (load, reading), its window left open. A sensor whose reading falls where the load rises is
/// none: then the best line is flat.
fn line(points: impl Iterator<Item = (f64, f64)> + Clone) -> Fit {
    let n = points.clone().count() as f64;
    let sums = points.clone().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (sums.0 / n, sums.1 / n);
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (a, b) in points {
        let (a, b) = (a - x, b - y);
        (xx, xy, yy) = (xx + a * a, xy + a * b, yy + b * b);
    }
    let gain = if xx > 0.0 && xy > 0.0 { xy / xx } else { 0.0 };
    Fit { window: 0.0, delay: 0.0, gain, offset: y - gain * x, rmse: ((yy - gain * xy).max(0.0) / n).sqrt() }
}

/// A window and a delay with the means of their loads: less their mean, and scaled to length 1.
struct Candidate {
    fit: Fit,
    mean: f64,
    length: f64,
    unit: Vec<f64>,
}

impl Candidate {
    fn new(fit: Fit, means: Vec<f64>) -> Self {
        let mean = means.iter().sum::<f64>() / means.len() as f64;
        let length = means.iter().map(|x| (x - mean).powi(2)).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        Self { fit, mean, length, unit: means.iter().map(|x| (x - mean) * scale).collect() }
    }
}

/// The candidate with the least misfit to readings: the one whose means point most in their direction.
fn resampled(candidates: &[Candidate], readings: &[f64], otherwise: &Fit) -> Fit {
    let along = |candidate: &Candidate| candidate.unit.iter().zip(readings).map(|(x, y)| x * y).sum::<f64>();
    let best =
        candidates.iter().map(|candidate| (along(candidate), candidate)).max_by(|a, b| a.0.total_cmp(&b.0));
    let Some((along, candidate)) = best.filter(|best| best.0 > 0.0) else { return *otherwise };
    let gain = along / candidate.length;
    let mean = readings.iter().sum::<f64>() / readings.len() as f64;
    Fit { gain, offset: mean - gain * candidate.mean, ..candidate.fit }
}

/// What a fit leaves of the readings.
struct Residuals {
    fitted: Vec<f64>,
    left: Vec<f64>,
}

impl Residuals {
    fn of(fit: &Fit, means: &[f64], updates: &[(f64, f64)]) -> Self {
        let fitted: Vec<f64> = means.iter().map(|mean| fit.gain * mean + fit.offset).collect();
        // Four quantities were fitted, which took their part of the scatter.
        let n = updates.len() as f64;
        let scale = (n / (n - 4.0)).sqrt();
        let left = updates.iter().zip(&fitted).map(|(update, fitted)| (update.1 - fitted) * scale).collect();
        Self { fitted, left }
    }

    /// Readings that might have been: the fit with blocks of residuals from anywhere.
    fn draw(&self, random: &mut Rng) -> Vec<f64> {
        let mut readings = Vec::with_capacity(self.fitted.len() + BLOCK);
        while readings.len() < self.fitted.len() {
            let from = random.below(self.left.len() + 1 - BLOCK);
            let block = &self.left[from..from + BLOCK];
            readings
                .extend(block.iter().zip(&self.fitted[readings.len()..]).map(|(left, fitted)| left + fitted));
        }
        readings
    }
}
