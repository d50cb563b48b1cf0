//! The facts of one reading, as files and tables show them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::Estimate;
use crate::trace::Coverage;
use crate::units::{Joules, Seconds, Watts};

use super::coverage::{CoverageFact, CoverageSpread, agreed_coverage, coverage};
use super::energy::{held_energy, metered_energy, whole};
use super::grid::{Grid, regular_grid};
use super::health::{Beside, Health};
use super::load::{Load, Marks};
use super::series::{Series, quantile, sorted};
use super::window::{LoadKind, WindowFit, because, fit_window};

/// Why the readings do not tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not identifiable: {0}")]
pub struct Unknown(pub String);

/// What a sensor reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadingKind {
    /// Watts.
    Power,
    /// Joules since some time.
    Counter,
}

/// What steady loads and rests on the device itself showed, and what a reading costs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SelfTest {
    /// Power at rest, before the first load.
    pub idle_w: Option<Watts>,
    /// Power right behind a load: work is prepared, clocks are up, nothing runs. None where it falls at once, or faster
    /// than this reading shows.
    pub active_idle_w: Option<Watts>,
    /// Power of a steady load, read every 5 ms.
    pub load_w: Option<Watts>,
    /// The same read every 500 ms.
    pub load_read_seldom_w: Option<Watts>,
    /// Of a counter: the same time by a reading of power.
    pub beside: Option<Beside>,
    /// Time that a query takes.
    pub query_s: Option<Spread>,
}

/// A distribution in three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// Half lie below.
    pub median: Seconds,
    /// One in a hundred lies below.
    pub p1: Seconds,
    /// One in a hundred lies above.
    pub p99: Seconds,
}

impl Spread {
    /// Of these times; none of fewer than two.
    pub fn of(times: impl Iterator<Item = Seconds>) -> Option<Self> {
        let times = sorted(times.map(Seconds::value));
        let at = |probability| quantile(&times, probability).map(Seconds::new);
        (times.len() > 1).then_some(())?;
        Some(Self { median: at(0.5)?, p1: at(0.01)?, p99: at(0.99)? })
    }
}

/// What the readings of one sensor tell. What is `None` has its reason in `reasons`, under the same name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
pub struct ReadingFacts {
    /// The recording, or the device.
    pub trace: String,
    /// The reading: a column's or a meter's name.
    pub id: String,
    /// Time between two updates.
    pub update_period_s: Option<Estimate<Seconds>>,
    /// Length of the average that an update shows.
    pub window_s: Option<Estimate<Seconds>>,
    /// From the end of that window to the reading that first shows it.
    pub delay_s: Option<Estimate<Seconds>>,
    /// Watts shown for each watt of an external meter.
    pub gain: Option<Estimate<f64>>,
    /// Watts shown where the external meter shows none.
    pub offset_w: Option<Estimate<Watts>>,
    /// Whether the sensor looks all the time, by square waves of its own period and by its window.
    pub coverage: Option<Coverage>,
    /// What the square waves showed.
    pub coverage_spread: Option<CoverageSpread>,
    /// Window over period: the part of the time in which it looks.
    pub coverage_share: Option<Estimate<f64>>,
    /// Joules of the loads by this reading alone: each value holds until the next.
    pub energy_j: Option<Estimate<Joules>>,
    /// The same from the first load's start to the last one's end.
    pub energy_span_j: Option<Estimate<Joules>>,
    /// `energy_j` over that of the external meter, less one.
    pub energy_error: Option<f64>,
    /// The same of `energy_span_j`.
    pub energy_span_error: Option<f64>,
    /// Time between two readings, median.
    pub poll_s: Option<Seconds>,
    /// Time between two changes of the value. Not the update period: the reader's own interval is in it.
    pub change_interval_s: Option<Spread>,
    /// The window by the times of loads alone, without the external meter.
    pub window_from_marks_s: Option<Estimate<Seconds>>,
    /// Root mean square of reading less fitted window, in watts.
    pub rmse_w: Option<f64>,
    /// Whether its joules can be believed.
    pub health: Option<Health>,
    /// What loads on the device itself showed.
    pub self_test: Option<SelfTest>,
    /// Why a fact is missing.
    pub reasons: BTreeMap<String, String>,
}

/// What an external meter saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExternalFacts {
    /// The recording.
    pub trace: String,
    /// Median time between two samples.
    pub sampling_interval_s: Seconds,
    /// Mean time between two samples.
    pub mean_sampling_interval_s: Seconds,
    /// Number of marked loads.
    pub loads: usize,
    /// Time in them.
    pub loads_s: Seconds,
    /// From the first start to the last end.
    pub span_s: Option<Seconds>,
    /// Joules in the marked loads.
    pub energy_j: Option<Estimate<Joules>>,
    /// Joules from the first start to the last end.
    pub energy_span_j: Option<Estimate<Joules>>,
}

/// What an external meter saw of marked loads.
pub fn energy_facts(trace: &str, meter: &Series, marks: &Marks) -> ExternalFacts {
    let (begin, end) = (meter.times().first(), meter.times().last());
    let length = begin.zip(end).map_or(0.0, |(begin, end)| end - begin);
    ExternalFacts {
        trace: trace.to_string(),
        sampling_interval_s: meter.poll().unwrap_or_default(),
        mean_sampling_interval_s: Seconds::new(length / (meter.len().max(2) - 1) as f64),
        loads: marks.loads().len(),
        loads_s: marks.busy(),
        span_s: marks.span().map(|(start, end)| Seconds::new(end - start)),
        energy_j: metered_energy(meter, marks.loads()),
        energy_span_j: metered_energy(meter, &whole(marks)),
    }
}

/// All that the readings of one sensor, in watts, tell beside marked loads and an external meter, as far as there are
/// any.
pub fn reading_facts(
    trace: &str,
    id: &str,
    readings: &Series,
    marks: Option<&Marks>,
    meter: Option<&Series>,
) -> ReadingFacts {
    let mut facts = ReadingFacts {
        trace: trace.to_string(),
        id: id.to_string(),
        poll_s: readings.poll(),
        change_interval_s: change_intervals(readings),
        ..ReadingFacts::default()
    };
    facts.find_sensor(readings, marks, meter);
    facts.find_energy(readings, marks, meter);
    facts.needs_the_device();
    facts
}

/// What a sensor tells beside loads on its own device. There is no external meter; `energy_j` is that of the whole
/// recording by a counter.
pub fn sensor_facts(
    trace: &str,
    id: &str,
    kind: ReadingKind,
    readings: &Series,
    marks: &Marks,
) -> ReadingFacts {
    let mut facts = ReadingFacts {
        trace: trace.to_string(),
        id: id.to_string(),
        poll_s: readings.poll(),
        change_interval_s: change_intervals(readings),
        ..ReadingFacts::default()
    };
    let grid = match regular_grid(readings) {
        Ok(grid) => grid,
        Err(unknown) => return ReadingFacts::unknown(trace, id, &unknown),
    };
    facts.update_period_s = Some(grid.period);
    let powers = |updates: &[(f64, f64)]| match kind {
        ReadingKind::Power => updates.to_vec(),
        ReadingKind::Counter => grid.powers(updates),
    };
    let fit = |updates: &[(f64, f64)]| {
        fit_window(&powers(updates), &Load::marked(marks), LoadKind::Marked, grid.period.value)
    };
    // A sensor that leaves its grid by more than its reader's interval is better known by when it was seen.
    let strays = grid.scatter > readings.poll().unwrap_or_default();
    let fit = fit(if strays { &grid.seen } else { &grid.updates });
    facts.take_window(explained(fit, &why_unclear(Some(marks), &grid)));
    match kind {
        ReadingKind::Power => facts.find_energy(readings, Some(marks), None),
        ReadingKind::Counter => {
            let joules = counted_energy(&grid, readings)
                .ok_or_else(|| Unknown("the counter did not move".to_string()));
            facts.energy_j = facts.keep("energy_j", joules);
        }
    }
    facts
}

/// A fit, or why there is none, with the cause where several windows or delays explain the same.
fn explained(fit: Result<WindowFit, Unknown>, cause: &str) -> Result<WindowFit, Unknown> {
    fit.map(|fit| fit.because(cause)).map_err(|unknown| because(unknown, cause))
}

/// Updates that leave their grid by more than this part of the period blur the edges of windows.
const BLURRED: f64 = 0.1;

/// Why several windows explain the same readings.
fn why_unclear(marks: Option<&Marks>, grid: &Grid) -> String {
    let (scatter, period) = (grid.scatter, grid.period.value);
    match marks.and_then(Marks::regular_period) {
        Some(load) => format!(
            "the load's own period, {:.4} s, is close to the window or to that of the sensor; use loads of other periods",
            load.value()
        ),
        None if scatter > period * BLURRED => format!(
            "updates leave their grid of {:.4} s by {:.4} s, which blurs the edges of windows",
            period.value(),
            scatter.value()
        ),
        None => "what else moves the readings hides them: noise, or power that falls slowly behind a load"
            .to_string(),
    }
}

/// Joules of a counter over a recording: its range is one mean update at each end.
fn counted_energy(grid: &Grid, readings: &Series) -> Option<Estimate<Joules>> {
    let (first, last) = (*readings.values().first()?, *readings.values().last()?);
    let cycles = grid.cycle(*readings.times().last()?) - grid.cycle(*readings.times().first()?);
    let each = (last - first) / cycles.max(1.0);
    let joules = Joules::new;
    (last > first).then(|| Estimate {
        value: joules(last - first),
        low: joules(last - first - each),
        high: joules(last - first + each),
    })
}

/// Times between two changes; none for fewer than three changes.
fn change_intervals(readings: &Series) -> Option<Spread> {
    Spread::of(Series::new(readings.changes()).intervals().into_iter().map(Seconds::new))
}

impl ReadingFacts {
    /// A reading that tells nothing, for one reason.
    pub fn unknown(trace: &str, id: &str, reason: &Unknown) -> Self {
        let mut facts = Self { trace: trace.to_string(), id: id.to_string(), ..Self::default() };
        for name in [
            "update_period_s",
            "window_s",
            "delay_s",
            "gain",
            "offset_w",
            "coverage",
            "coverage_spread",
            "coverage_share",
            "energy_j",
            "health",
        ] {
            facts.keep::<()>(name, Err(reason.clone()));
        }
        facts
    }

    /// What recordings do not tell: it takes loads that the sensor's own period decides about.
    pub(super) fn needs_the_device(&mut self) {
        let text = "this takes loads of the sensor's own period on the device itself: calibrate --device";
        for name in ["coverage_spread", "health"] {
            self.keep::<()>(name, Err(Unknown(text.to_string())));
        }
    }

    /// Takes what square waves showed as the first witness of coverage; the window is the second.
    pub fn witness(&mut self, spread: Result<CoverageSpread, Unknown>) {
        let window = self.window_share().ok_or_else(|| Unknown("the window is not known".to_string()));
        for name in ["coverage", "coverage_spread"] {
            self.reasons.remove(name);
        }
        let agreed = agreed_coverage(&spread, &window);
        self.coverage_spread = self.keep("coverage_spread", spread);
        self.coverage = self.keep("coverage", agreed);
    }

    fn window_share(&self) -> Option<CoverageFact> {
        self.window_s.zip(self.update_period_s).map(|(window, period)| coverage(&window, &period))
    }

    /// The value, or none with its reason kept.
    pub(super) fn keep<T>(&mut self, name: &str, fact: Result<T, Unknown>) -> Option<T> {
        fact.map_err(|unknown| self.reasons.insert(name.to_string(), unknown.to_string())).ok()
    }

    fn find_sensor(&mut self, readings: &Series, marks: Option<&Marks>, meter: Option<&Series>) {
        let grid = match regular_grid(readings) {
            Ok(grid) => grid,
            Err(unknown) => {
                self.keep::<()>("update_period_s", Err(unknown));
                let text = Unknown("the update period is not known".to_string());
                for name in ["window_s", "delay_s", "gain", "offset_w", "coverage", "coverage_share"] {
                    self.keep::<()>(name, Err(text.clone()));
                }
                return;
            }
        };
        self.update_period_s = Some(grid.period);
        let period = grid.period.value;
        let by_marks = || {
            let marks = marks.ok_or_else(|| {
                Unknown(
                    "there is neither an external meter nor a list of loads beside the readings".to_string(),
                )
            })?;
            let fit = fit_window(&grid.updates, &Load::marked(marks), LoadKind::Marked, period);
            explained(fit, &why_unclear(Some(marks), &grid))
        };
        let fit = match meter {
            Some(meter) => {
                let from_marks = marks.map(|_| by_marks().and_then(|fit| fit.window));
                self.window_from_marks_s =
                    from_marks.and_then(|window| self.keep("window_from_marks_s", window));
                let first = marks.and_then(|marks| marks.span()).map(|span| span.0);
                let load = Load::metered(meter, first);
                let fit = fit_window(&grid.updates, &load, LoadKind::Metered, period);
                explained(fit, &why_unclear(marks, &grid))
            }
            None => by_marks(),
        };
        self.take_window(fit);
    }

    /// Window, delay, gain, offset, and the coverage that follows.
    fn take_window(&mut self, fit: Result<WindowFit, Unknown>) {
        let fit = fit.unwrap_or_else(|unknown| WindowFit {
            window: Err(unknown.clone()),
            delay: Err(unknown.clone()),
            gain: Err(unknown.clone()),
            offset: Err(unknown),
            rmse: f64::NAN,
            updates: 0,
        });
        self.rmse_w = Some(fit.rmse).filter(|rmse| rmse.is_finite());
        self.window_s = self.keep("window_s", fit.window);
        self.delay_s = self.keep("delay_s", fit.delay);
        self.gain = self.keep("gain", fit.gain);
        self.offset_w = self.keep("offset_w", fit.offset);
        let found = self.window_share();
        self.coverage_share = found.map(|found| found.share);
        self.coverage = found.and_then(|found| found.coverage);
        match found {
            None => {
                for name in ["coverage", "coverage_share"] {
                    self.keep::<()>(name, Err(Unknown("the window is not known".to_string())));
                }
            }
            Some(found) if found.coverage.is_none() => {
                let text = format!(
                    "the sensor looks for {:.0} to {:.0} % of the time",
                    found.share.low * 100.0,
                    found.share.high * 100.0
                );
                self.keep::<()>("coverage", Err(Unknown(text)));
            }
            Some(_) => {}
        }
    }

    fn find_energy(&mut self, readings: &Series, marks: Option<&Marks>, meter: Option<&Series>) {
        let Some(marks) = marks else {
            for name in ["energy_j", "energy_span_j"] {
                self.keep::<()>(
                    name,
                    Err(Unknown("there is no list of loads beside the readings".to_string())),
                );
            }
            return;
        };
        let missing = || Unknown("the readings do not reach from the first load to the last".to_string());
        let (loads, span) = (marks.loads(), whole(marks));
        self.energy_j = self.keep("energy_j", held_energy(readings, loads).ok_or_else(missing));
        self.energy_span_j = self.keep("energy_span_j", held_energy(readings, &span).ok_or_else(missing));
        let error = |shown: Option<Estimate<Joules>>, loads| {
            let truth = meter.and_then(|meter| metered_energy(meter, loads))?;
            Some(shown?.value / truth.value - 1.0)
        };
        self.energy_error = error(self.energy_j, loads);
        self.energy_span_error = error(self.energy_span_j, &span);
    }
}
