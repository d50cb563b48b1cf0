//! Least squares over windows and delays: reading = gain x (mean load of the window) + offset.

use crate::stats::Rng;

use super::load::Load;
use super::series::{quantile, sorted};

/// Updates that stand together in the bootstrap, at least: neighbours err alike.
const BLOCK: usize = 8;
/// Blocks at most; longer recordings have longer blocks.
const MOST_BLOCKS: usize = 24;
/// Resamplings of the bootstrap.
const DRAWS: usize = 200;
/// Windows and delays whose misfit exceeds the least by no more than this factor explain the readings as well.
const AS_GOOD: f64 = 1.10;

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

/// Sums over a block of updates for the straight line.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Sums {
    fn add(&mut self, x: f64, y: f64) {
        self.merge(&Self { n: 1.0, x, y, xx: x * x, xy: x * y, yy: y * y });
    }

    fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.x += other.x;
        self.y += other.y;
        self.xx += other.xx;
        self.xy += other.xy;
        self.yy += other.yy;
    }

    /// Gain, offset and root mean square misfit. A sensor whose reading falls where the load rises is none: then the
    /// best line is flat.
    fn line(&self) -> (f64, f64, f64) {
        let (x, y) = (self.x / self.n, self.y / self.n);
        let (xx, xy, yy) = (self.xx / self.n - x * x, self.xy / self.n - x * y, self.yy / self.n - y * y);
        let gain = if xx > 0.0 && xy > 0.0 { xy / xx } else { 0.0 };
        (gain, y - gain * x, (yy - gain * xy).max(0.0).sqrt())
    }
}

/// The sums of every window and delay.
pub(super) struct Search {
    axes: Axes,
    /// Means that were subtracted, so that sums of squares lose no digits.
    centre: (f64, f64),
    blocks: usize,
    /// By window, by delay, by block.
    sums: Vec<Sums>,
}

impl Search {
    /// The load is known for all windows of all updates.
    pub(super) fn new(updates: &[(f64, f64)], load: &Load, axes: Axes) -> Self {
        let size = BLOCK.max(updates.len().div_ceil(MOST_BLOCKS));
        let blocks = updates.len().div_ceil(size);
        let (first, last) = (*axes.delays.start(), axes.windows.end() + axes.delays.end());
        let n = updates.len() as f64;
        let (begin, end) = (updates[0].0, updates[updates.len() - 1].0);
        let mean_load = load.mean(begin - f64::from(*axes.windows.end()) * axes.step, end);
        let centre = (mean_load, updates.iter().map(|update| update.1).sum::<f64>() / n);
        let delays = axes.delays.clone().count();
        let mut sums = vec![Sums::default(); axes.windows.clone().count() * delays * blocks];
        for (index, &(at, value)) in updates.iter().enumerate() {
            let before = |steps: i32| load.integral(at - f64::from(steps) * axes.step);
            let integrals: Vec<f64> = (first..=last).map(before).collect();
            let integral = |steps: i32| integrals[(steps - first) as usize];
            let mut cell = index / size;
            for window in axes.windows.clone() {
                let length = f64::from(window) * axes.step;
                for delay in axes.delays.clone() {
                    let mean = (integral(delay) - integral(delay + window)) / length;
                    sums[cell].add(mean - centre.0, value - centre.1);
                    cell += blocks;
                }
            }
        }
        Self { axes, centre, blocks, sums }
    }

    /// Every window and delay with the line through the blocks, each block as often as it is named.
    fn fits<'a>(&'a self, blocks: &'a [usize]) -> impl Iterator<Item = Fit> + 'a {
        let cells = self.axes.windows.clone().flat_map(|w| self.axes.delays.clone().map(move |d| (w, d)));
        cells.zip(self.sums.chunks(self.blocks)).map(move |((window, delay), sums)| {
            let mut all = Sums::default();
            blocks.iter().for_each(|block| all.merge(&sums[*block]));
            let (gain, offset, rmse) = all.line();
            Fit {
                window: f64::from(window) * self.axes.step,
                delay: f64::from(delay) * self.axes.step,
                gain,
                offset: offset + self.centre.1 - gain * self.centre.0,
                rmse,
            }
        })
    }

    /// The best window and delay.
    pub(super) fn best(&self) -> Fit {
        let all: Vec<usize> = (0..self.blocks).collect();
        least(self.fits(&all))
    }

    /// The ranges of fits that explain the readings as well as the best: the middle 95 % of a block bootstrap (Künsch
    /// 1989), widened to those with hardly more misfit.
    pub(super) fn ranges(&self, seed: u64) -> Ranges {
        let all: Vec<usize> = (0..self.blocks).collect();
        let most = self.best().rmse * AS_GOOD;
        let equal: Vec<Fit> = self.fits(&all).filter(|fit| fit.rmse <= most).collect();
        let mut random = Rng::new(seed);
        let mut resampled = || {
            let drawn: Vec<usize> = (0..self.blocks).map(|_| random.below(self.blocks)).collect();
            least(self.fits(&drawn))
        };
        let draws: Vec<Fit> = (0..DRAWS).map(|_| resampled()).collect();
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
}

/// The fit of the least misfit.
fn least(fits: impl Iterator<Item = Fit>) -> Fit {
    fits.min_by(|a, b| a.rmse.total_cmp(&b.rmse)).expect("axes have a window and a delay")
}
