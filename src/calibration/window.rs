//! Over which window a sensor averages, and how late it shows that.

use crate::stats::Estimate;
use crate::units::{Seconds, Watts};

use super::facts::Unknown;
use super::load::Load;
use super::search::{Axes, Fit, Ranges, Search};

/// Fewer updates than these tell no window.
const FEWEST_UPDATES: usize = 24;
/// Steps of a period of the coarse search, its longest window and its delays. The longest known window is a second
/// of boards that look every 100 ms, shown half a second late (SC24, table 3).
const COARSE_STEPS: f64 = 10.0;
const COARSE_WINDOWS: i32 = 220;
const COARSE_DELAYS: [i32; 2] = [-5, 100];
/// The same of the fine search, for windows of no more than one and a half periods.
const FINE_STEPS: f64 = 100.0;
const FINE_WINDOWS: i32 = 200;
const FINE_DELAYS: [i32; 2] = [-25, 50];
const LONGEST_FINE: f64 = 1.5;
/// The last search divides a step of the one before by this.
const REFINEMENT: f64 = 10.0;
/// No window is known better than this part of itself: the load's own edges are not rectangular.
const LEAST_RANGE: f64 = 0.02;
/// A range wider than this part of its value is none.
const WIDEST_WINDOW: f64 = 0.6;
const WIDEST_GAIN: f64 = 0.3;
/// Windows side by side that a gain needs: those that overlap tell the same.
const FEWEST_WINDOWS: f64 = 20.0;
/// How the reason ends where several explain the same.
const ALIKE: &str = "explain the readings equally well";
/// Seed of the bootstrap: the same readings give the same ranges.
const SEED: u64 = 1;

/// What stands for the true power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadKind {
    /// Watts of an external meter.
    Metered,
    /// Only whether something ran: gain and offset have no meaning.
    Marked,
}

/// The sensor as a boxcar: reading = gain x mean over [update - delay - window, update - delay] + offset.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowFit {
    /// Length of the window.
    pub window: Result<Estimate<Seconds>, Unknown>,
    /// From the end of the window to the update as it was seen.
    pub delay: Result<Estimate<Seconds>, Unknown>,
    /// Watts shown for each true watt.
    pub gain: Result<Estimate<f64>, Unknown>,
    /// Watts shown at none.
    pub offset: Result<Estimate<Watts>, Unknown>,
    /// Root mean square of reading less fit, in the unit of the reading.
    pub rmse: f64,
    /// Updates that were used.
    pub updates: usize,
}

/// Fits the boxcar by least squares over windows and delays with linear gain and offset. Updates are (seconds, value);
/// the period bounds what is tried.
///
/// # Errors
///
/// The load is not known at enough updates.
pub fn fit_window(
    updates: &[(f64, f64)],
    load: &Load,
    kind: LoadKind,
    period: Seconds,
) -> Result<WindowFit, Unknown> {
    let period = period.value();
    let coarse = Axes {
        step: period / COARSE_STEPS,
        windows: 1..=COARSE_WINDOWS,
        delays: COARSE_DELAYS[0]..=COARSE_DELAYS[1],
    };
    let covered = covered(updates, load, &coarse);
    if covered.len() < FEWEST_UPDATES {
        return Err(Unknown(format!(
            "the load is known at {} updates, and a window needs {FEWEST_UPDATES}: record for longer, idle at both ends",
            covered.len()
        )));
    }
    let mut search = Search::new(&covered, load, coarse);
    let mut best = search.best();
    let mut step = period / COARSE_STEPS;
    if best.window <= LONGEST_FINE * period {
        step = period / FINE_STEPS;
        search = Search::new(
            &covered,
            load,
            Axes { step, windows: 1..=FINE_WINDOWS, delays: FINE_DELAYS[0]..=FINE_DELAYS[1] },
        );
        best = search.best();
    }
    // Then nothing can be known of it, and that is not worth a bootstrap.
    if search.is_flat() {
        return Err(Unknown(format!("windows of any length, and no load at all, {ALIKE}")));
    }
    let (low, high) = search.equal_windows();
    if kind == LoadKind::Marked && (high - low) / best.window > WIDEST_WINDOW {
        return Err(Unknown(format!("windows from {low:.4} s to {high:.4} s {ALIKE}")));
    }
    let ranges = search.ranges(SEED);
    let at_edge = search.at_edge(ranges.window.0) || search.at_edge(ranges.window.1);
    let refined = refine(&covered, load, &best, step);
    let span = covered[covered.len() - 1].0 - covered[0].0;
    Ok(WindowFit::new(&refined, &ranges, kind, Bounds { step, period, at_edge, span }, covered.len()))
}

/// A reason with the cause added where several windows or delays fit alike.
pub(super) fn because(Unknown(text): Unknown, cause: &str) -> Unknown {
    Unknown(if text.ends_with(ALIKE) { format!("{text}: {cause}") } else { text })
}

/// The updates for whose windows the load is known, whatever window and delay are tried.
fn covered(updates: &[(f64, f64)], load: &Load, axes: &Axes) -> Vec<(f64, f64)> {
    let earliest = f64::from(axes.windows.end() + axes.delays.end()) * axes.step;
    let latest = f64::from(*axes.delays.start()) * axes.step;
    updates.iter().copied().filter(|(at, _)| load.covers(at - earliest, at - latest)).collect()
}

/// The best fit within a step of a fit.
fn refine(updates: &[(f64, f64)], load: &Load, best: &Fit, step: f64) -> Fit {
    let fine = step / REFINEMENT;
    let around = |value: f64, least: i32| {
        let middle = (value / fine).round() as i32;
        (middle - REFINEMENT as i32).max(least)..=middle + REFINEMENT as i32
    };
    let axes = Axes { step: fine, windows: around(best.window, 1), delays: around(best.delay, i32::MIN) };
    Search::new(updates, load, axes).best()
}

/// What limits a fit beside the readings.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    step: f64,
    period: f64,
    /// The range reaches the longest or shortest window that was tried.
    at_edge: bool,
    /// From the first update to the last.
    span: f64,
}

impl WindowFit {
    /// The same with the cause added where several windows or delays fit alike.
    #[must_use]
    pub fn because(self, cause: &str) -> Self {
        let with_cause = |unknown| because(unknown, cause);
        Self { window: self.window.map_err(with_cause), delay: self.delay.map_err(with_cause), ..self }
    }

    fn new(best: &Fit, ranges: &Ranges, kind: LoadKind, bounds: Bounds, updates: usize) -> Self {
        let least_half = (LEAST_RANGE * best.window).max(bounds.step / 2.0);
        let (low, high) = around(best.window, ranges.window, least_half);
        let wide = (high - low) / best.window > WIDEST_WINDOW;
        let window = if best.gain <= 0.0 {
            Err(Unknown("the reading does not follow the load".to_string()))
        } else if bounds.at_edge || wide {
            let (low, high) = (low.max(0.0), high);
            Err(Unknown(format!("windows from {low:.4} s to {high:.4} s {ALIKE}")))
        } else {
            Ok(estimate(best.window, low, high))
        };
        let (low, high) = around(best.delay, ranges.delay, bounds.step / 2.0);
        let delay = match &window {
            Err(unknown) => Err(unknown.clone()),
            Ok(_) if high - low > bounds.period.max(best.window) / 2.0 => {
                Err(Unknown(format!("delays from {low:.4} s to {high:.4} s {ALIKE}")))
            }
            Ok(_) => Ok(estimate(best.delay, low, high)),
        };
        let (gain, offset) = match kind {
            LoadKind::Marked => {
                let text = "there is no external meter; without one, the board's own watts are all there is";
                (Err(Unknown(text.to_string())), Err(Unknown(text.to_string())))
            }
            LoadKind::Metered => gain_and_offset(best, ranges, bounds.span),
        };
        Self { window, delay, gain, offset, rmse: best.rmse, updates }
    }
}

fn gain_and_offset(
    best: &Fit,
    ranges: &Ranges,
    span: f64,
) -> (Result<Estimate<f64>, Unknown>, Result<Estimate<Watts>, Unknown>) {
    let ((low, high), windows) = (around(best.gain, ranges.gain, 0.0), span / best.window);
    let unknown = if windows < FEWEST_WINDOWS {
        Some(format!(
            "only {windows:.0} windows of {:.2} s follow each other, and a gain needs {FEWEST_WINDOWS}: record for longer",
            best.window
        ))
    } else if best.gain <= 0.0 || (high - low) / best.gain > WIDEST_GAIN {
        Some(format!(
            "gains from {low:.2} to {high:.2} explain the readings equally well: the window's mean load hardly varies; \
             use loads that are longer than the window"
        ))
    } else {
        None
    };
    if let Some(text) = unknown {
        return (Err(Unknown(text.clone())), Err(Unknown(text)));
    }
    let offset = around(best.offset, ranges.offset, 0.0);
    (Ok(estimate(best.gain, low, high)), Ok(estimate(best.offset, offset.0, offset.1)))
}

/// A range that holds the value and at least `half` on each side of it.
fn around(value: f64, (low, high): (f64, f64), half: f64) -> (f64, f64) {
    (low.min(value - half), high.max(value + half))
}

fn estimate<T: From<f64>>(value: f64, low: f64, high: f64) -> Estimate<T> {
    Estimate { value: value.into(), low: low.into(), high: high.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Marks;
    use crate::stats::Rng;

    /// Loads and rests of random lengths up to `longest` seconds.
    fn random_loads(seconds: f64, longest: f64, seed: u64) -> Marks {
        let mut random = Rng::new(seed);
        let (mut at, mut loads) = (1.0, Vec::new());
        while at < seconds {
            let end = at + longest * (0.05 + random.uniform());
            loads.push((at, end));
            at = end + longest * (0.05 + random.uniform());
        }
        Marks::new(loads)
    }

    /// What a boxcar sensor shows of marked loads of 100 W above 50 W, with `noise` watts.
    fn shown(marks: &Marks, period: f64, window: f64, delay: f64, noise: f64) -> Vec<(f64, f64)> {
        let (load, mut random) = (Load::marked(marks), Rng::new(77));
        let updates = (marks.span().unwrap().1 / period) as u32;
        let value = |at: f64| 50.0 + 100.0 * load.mean(at - delay - window, at - delay);
        (1..updates)
            .map(|k| f64::from(k) * period)
            .map(|at| (at, value(at) + noise * random.normal()))
            .collect()
    }

    #[test]
    fn window_and_delay_are_those_of_the_sensor() {
        let cases =
            [(0.1, 0.025, 0.003), (0.1, 0.1, 0.0), (0.02, 0.01, 0.001), (0.1, 1.0, 0.5), (0.05, 0.02, 0.02)];
        for (period, window, delay) in cases {
            let marks = random_loads(300.0 * period, 1.5 * period.max(window), 5);
            let updates = shown(&marks, period, window, delay, 1.0);
            let fit =
                fit_window(&updates, &Load::marked(&marks), LoadKind::Marked, Seconds::new(period)).unwrap();
            for (found, truth) in [(fit.window.clone().unwrap(), window), (fit.delay.clone().unwrap(), delay)]
            {
                assert!(
                    (found.low.value()..=found.high.value()).contains(&truth)
                        && (found.value.value() - truth).abs() <= 0.05 * window,
                    "{period} {window} {delay}: {fit:?}"
                );
            }
            assert!(fit.gain.is_err() && fit.offset.is_err());
        }
    }

    #[test]
    fn a_load_with_the_period_of_the_window_tells_no_window() {
        // Each window of 100 ms holds 50 ms of load, wherever it begins.
        let marks =
            Marks::new((0..200).map(|k| (1.0 + 0.1 * f64::from(k), 1.05 + 0.1 * f64::from(k))).collect());
        let updates: Vec<(f64, f64)> =
            shown(&marks, 0.1, 0.1, 0.0, 1.0).into_iter().filter(|(at, _)| *at > 2.0).collect();
        let fit = fit_window(&updates, &Load::marked(&marks), LoadKind::Marked, Seconds::new(0.1));
        let unknown = fit.and_then(|fit| fit.window).unwrap_err();
        assert!(unknown.0.ends_with(ALIKE), "{unknown}");
        assert!(because(unknown, "why").0.ends_with("equally well: why"));
    }

    #[test]
    fn gain_and_offset_are_those_between_meter_and_reading() {
        use crate::calibration::Series;
        let marks = random_loads(30.0, 0.2, 8);
        let load = Load::marked(&marks);
        let meter = Series::new((0..310_000).map(|i| {
            let at = f64::from(i) * 1e-4;
            (at, 40.0 + 200.0 * (load.integral(at + 1e-4) - load.integral(at)) / 1e-4)
        }));
        // The meter's watts are 40 + 200 x, the sensor's 50 + 100 x: gain 0.5, offset 30 W.
        let updates = shown(&marks, 0.1, 0.05, 0.0, 0.5);
        let first = marks.span().map(|span| span.0);
        let fit = fit_window(&updates, &Load::metered(&meter, first), LoadKind::Metered, Seconds::new(0.1))
            .unwrap();
        let (gain, offset) = (fit.gain.unwrap(), fit.offset.unwrap());
        assert!((gain.low..=gain.high).contains(&0.5) && gain.half_width() < 0.02, "{gain:?}");
        assert!((offset.low.value()..=offset.high.value()).contains(&30.0), "{offset:?}");
    }
}
