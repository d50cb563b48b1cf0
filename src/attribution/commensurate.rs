//! A pass that keeps step with a sensor that does not look all the time.
//!
//! A sensor that looks for a part of each update period sees the same part of the pass at each look where a whole number
//! of passes makes a period, or of periods a pass: what it shows is then that part's power, however long the window. In
//! numbers: the mean over a look of length W passes harmonic h of a pass of time t with sinc(h W / t), and looks a period T
//! apart turn it by h T / t of a circle from one to the next. A whole number of turns is none, and nothing averages out.

use crate::trace::{Coverage, MeterKind, SpanKind, Trace};
use crate::units::Seconds;

use super::signature::SignatureEnergy;
use super::signature_counts;

/// How far the ratio of the two times may be from a whole number to count as one, as a part of it.
const NEAR: f64 = 0.1;
/// Most passes in a period, or periods in a pass. Beyond, every ratio is near a whole number, and what changes so fast in a
/// pass is little, or is seen at many places.
const MOST: f64 = 4.0;
/// How well the period is known, as a part of it: the median of a dozen changes that scatter by 1 to 2 % of a period.
const PERIOD_ERROR: f64 = 0.02;
/// Periods that are tried within that error, and phases with each.
const PERIODS: usize = 9;
const PHASES: usize = 32;
/// Updates in a window beyond which passes have lost step: their times change by a thousandth at least, with clock and
/// temperature.
const LOSES_STEP: f64 = 1000.0;
/// A look whose length is not known, as a part of the period: as short as makes the worst of it.
const SHORTEST_LOOK: f64 = 1e-3;
/// Error below which nobody needs to know: half of the ±2 % that a run aims at.
const LEAST_ERROR: f64 = 0.01;

/// A pass and a sensor that keep step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Commensurate {
    /// Time of a pass.
    pub pass: Seconds,
    /// The sensor's update period.
    pub period: Seconds,
    /// Passes and periods that take the same time; one of them is 1.
    pub passes: usize,
    /// See `passes`.
    pub periods: usize,
    /// The most that a window's energy may be wrong by, as a part of it; none where not all layers are known.
    pub error: Option<f64>,
}

/// Whether passes keep step with a meter's sensor, so that their energy may be wrong. None for a sensor that looks all the
/// time, and where the error is at most a hundredth.
///
/// `window` is the length of the sensor's looks, where it is known. The course of power within a pass is that of its
/// layers, one after the other, as they were measured alone; gaps lie between them at active idle.
pub fn commensurate(
    trace: &Trace,
    meter: usize,
    window: Option<Seconds>,
    signatures: &[SignatureEnergy],
    pass: &SignatureEnergy,
) -> Option<Commensurate> {
    let period = period_of_looks(trace, meter)?;
    let time = pass.time?.value;
    let (passes, periods) = in_step(time, period)?;
    let course = Course::of(trace, signatures, time, pass.energy?.value);
    let updates = updates(trace, period).filter(|&updates| updates < LOSES_STEP)?;
    let look = window.map_or(period * SHORTEST_LOOK, Seconds::value);
    let error = course.map(|course| course.worst_error(period, look, updates.round() as usize));
    error.is_none_or(|error| error > LEAST_ERROR).then_some(Commensurate {
        pass: Seconds::new(time),
        period: Seconds::new(period),
        passes,
        periods,
        error,
    })
}

/// The update period of a sensor that may look for a part of it only.
fn period_of_looks(trace: &Trace, meter: usize) -> Option<f64> {
    let record = trace.header.meters.get(meter)?;
    let reads = matches!(record.kind, MeterKind::Counter | MeterKind::Power);
    let partly = reads && record.coverage != Some(Coverage::Full);
    Some(record.update_period_s.filter(|_| partly)?.value())
}

/// Passes and periods, one of them 1, that take about the same time.
fn in_step(pass: f64, period: f64) -> Option<(usize, usize)> {
    let ratio = (pass / period).max(period / pass);
    let whole = ratio.round();
    let near = whole <= MOST && (ratio / whole - 1.0).abs() <= NEAR;
    let many = near.then_some(whole as usize)?;
    Some(if period >= pass { (many, 1) } else { (1, many) })
}

/// Updates in a window of whole passes, on average.
fn updates(trace: &Trace, period: f64) -> Option<f64> {
    let lengths =
        || trace.spans.iter().filter(|span| span.kind == SpanKind::Pass).map(|span| span.length().value());
    let windows = lengths().count();
    (windows > 0).then(|| lengths().sum::<f64>() / windows as f64 / period)
}

/// The course of power in a pass that repeats itself: energy as a function of time.
struct Course {
    time: f64,
    /// Ends of stretches of constant power, with the joules until there; begins with nothing at 0.
    ends: Vec<[f64; 2]>,
}

impl Course {
    /// Of layers in order; scaled to the time and energy of the pass. None if no layer is known.
    fn of(trace: &Trace, signatures: &[SignatureEnergy], time: f64, energy: f64) -> Option<Self> {
        let work = |signature: usize| {
            let work = signatures.get(signature)?;
            Some([work.time?.value, work.energy?.value])
        };
        let layers: Vec<[f64; 2]> =
            trace.header.layers.iter().filter_map(|layer| work(layer.signature?)).collect();
        let steps: u64 = signature_counts(trace).iter().sum();
        let known = layers.iter().fold([0.0, 0.0], |sum, layer| [sum[0] + layer[0], sum[1] + layer[1]]);
        if layers.is_empty() || known[0] <= 0.0 || steps as usize != layers.len() {
            return None;
        }
        // What is left of the pass lies between the layers. Where they take longer alone, nothing is left.
        let n = layers.len() as f64;
        let gap = [(time - known[0]).max(0.0) / n, (energy - known[1]).max(0.0) / n];
        let parts =
            layers.into_iter().flat_map(|layer| if gap[0] > 0.0 { vec![layer, gap] } else { vec![layer] });
        let mut ends = vec![[0.0, 0.0]];
        for part in parts {
            let last = ends[ends.len() - 1];
            ends.push([last[0] + part[0], last[1] + part[1]]);
        }
        let last = ends[ends.len() - 1];
        let ends = ends.into_iter().map(|[t, joules]| [t * time / last[0], joules]).collect();
        Some(Self { time, ends })
    }

    /// Joules since time 0, whatever pass that is in.
    fn joules(&self, at: f64) -> f64 {
        let passes = (at / self.time).floor();
        let within = at - passes * self.time;
        let after = self.ends.partition_point(|end| end[0] <= within).clamp(1, self.ends.len() - 1);
        let ([t0, j0], [t1, j1]) = (self.ends[after - 1], self.ends[after]);
        let part = if t1 > t0 { (within - t0) / (t1 - t0) } else { 0.0 };
        passes * self.ends[self.ends.len() - 1][1] + j0 + (j1 - j0) * part
    }

    /// The most that the mean of so many looks may differ from the mean power, as a part of it: over all phases, and over
    /// all periods that the known one may be.
    fn worst_error(&self, period: f64, look: f64, updates: usize) -> f64 {
        let mean = self.ends[self.ends.len() - 1][1] / self.time;
        let updates = updates.max(1);
        let mut worst = 0.0_f64;
        for step in 0..PERIODS {
            let off = (2.0 * step as f64 / (PERIODS - 1) as f64 - 1.0) * PERIOD_ERROR;
            for phase in 0..PHASES {
                let begin = self.time * phase as f64 / PHASES as f64;
                let watts = |update: usize| {
                    let at = begin + update as f64 * period * (1.0 + off);
                    (self.joules(at + look) - self.joules(at)) / look
                };
                let seen = (0..updates).map(watts).sum::<f64>() / updates as f64;
                worst = worst.max((seen / mean - 1.0).abs());
            }
        }
        worst
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    /// 200 W for half of the time and 600 W for the other half.
    fn halves(time: f64) -> Course {
        Course { time, ends: vec![[0.0, 0.0], [time / 2.0, 100.0 * time], [time, 400.0 * time]] }
    }

    #[test]
    fn a_pass_of_one_period_is_seen_at_one_place_and_may_be_half_wrong() {
        // 25 of 100 ms lie in either half: 200 or 600 W of 400.
        assert_relative_eq!(halves(0.1).worst_error(0.1, 0.025, 50), 0.5, max_relative = 1e-6);
        // Two passes in a period: the look of 25 ms is half a pass, which may be either half.
        assert_relative_eq!(halves(0.05).worst_error(0.1, 0.025, 50), 0.5, max_relative = 1e-6);
        // Four: it is a whole pass, wherever it begins.
        assert_relative_eq!(halves(0.025).worst_error(0.1, 0.025, 50), 0.0, epsilon = 1e-6);
    }

    #[test]
    fn a_look_of_three_quarters_of_a_pass_lets_the_third_of_its_wave_through() {
        // Three passes of 33.3 ms in a period; 25 ms are half of one power and a quarter of the other: 1/3 and 2/3 of
        // the way, 333 or 467 W of 400.
        assert_relative_eq!(halves(0.1 / 3.0).worst_error(0.1, 0.025, 50), 1.0 / 6.0, max_relative = 1e-6);
    }

    #[test]
    fn a_sensor_that_looks_all_the_time_sees_whole_passes() {
        for time in [0.1, 0.05] {
            // Within the 2 % that the period may be off: a fiftieth of a window that is half wrong at most.
            assert!(halves(time).worst_error(0.1, 0.1, 50) <= 0.5 / 50.0 + 1e-9);
        }
    }

    #[test]
    fn passes_out_of_step_average_out_over_a_window() {
        // 2.618 passes in a period, the square of the golden ratio, farthest from simple fractions. The first harmonic, 0.64
        // x 0.43 of the mean, is turned by 0.38 of a circle from look to look: of 50 a 47th is left.
        assert!(halves(0.1 / 2.618).worst_error(0.1, 0.025, 50) < 0.02);
    }

    #[test]
    fn whole_ratios_of_up_to_four_keep_step_and_those_between_do_not() {
        assert_eq!(in_step(0.1, 0.1), Some((1, 1)));
        assert_eq!(in_step(0.0498, 0.1), Some((2, 1)));
        assert_eq!(in_step(0.21, 0.1), Some((1, 2)));
        assert_eq!(in_step(0.108, 0.1), Some((1, 1)));
        assert_eq!(in_step(0.112, 0.1), None);
        assert_eq!(in_step(0.075, 0.1), None);
        assert_eq!(in_step(0.001, 0.1), None);
        assert_eq!(in_step(0.5, 0.1), None);
    }
}
