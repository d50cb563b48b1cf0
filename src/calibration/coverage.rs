//! Whether a sensor looks all the time: by two witnesses, a load that keeps step with it and its window.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::Estimate;
use crate::trace::Coverage;
use crate::units::{Seconds, Watts};

use super::facts::Unknown;

/// A sensor whose window may be this part of its period looks all the time: what is left is below the range of
/// either.
const ALL: f64 = 0.98;
/// Most spread of a sensor that counts without gaps, as a part of its mean (Yang, Adámek, Armour, SC24, and our own
/// simulation: a sensor that looks for a quarter of the time has 39 %).
const MOST_CONTIGUOUS: f64 = 0.01;
/// From here on the gaps are certain: three times what noise and jitter may leave of a sensor without.
const LEAST_PART_TIME: f64 = 0.03;
/// Half of the spread of a sensor that looks nine tenths of the time, as a part of the load's swing: by the phase, its
/// windows hold 4/9 to 5/9 of load, 0.4 of the time one or the other each and in between on straight lines, so that the
/// standard deviation is 0.052. Of eight runs that of one in twenty such sensors comes out at half of it.
const NINE_TENTHS: f64 = 0.026;
/// Fewer runs than these have no spread beside a straight line.
const FEWEST_RUNS: usize = 4;

/// The part of the time in which a sensor looks, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoverageFact {
    /// Window over period, at most 1.
    pub share: Estimate<f64>,
    /// Whether that is all of it; none where the range does not tell.
    pub coverage: Option<Coverage>,
}

/// One run of a square wave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SquareRun {
    /// Mean power by the sensor.
    pub power: Watts,
    /// The part of the time in which there was a load.
    pub duty: f64,
}

/// What square waves of the sensor's own period show, begun at different phases of it: the same mean power, or not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CoverageSpread {
    /// Standard deviation of the runs' mean power, as a part of it, beside a straight line through them in order of
    /// time: boards warm up meanwhile.
    pub deviation: f64,
    /// Largest distance of one from their mean, as a part of it.
    pub largest: f64,
    /// The load's swing, as a part of the mean: a sensor that sees only load or only rest is wrong by half of it.
    pub swing: f64,
    /// How far the mean of a square wave of 0.37 periods is from theirs, as a part of it.
    pub of_another_period: Option<f64>,
    /// Number of runs.
    pub runs: usize,
}

/// The spread of runs in order of time, beside one of another period. Power is corrected to equal duties along the
/// straight line from rest to load.
///
/// # Errors
///
/// There are too few runs, or the sensor showed no power.
pub fn coverage_spread(
    runs: &[SquareRun],
    another: Option<SquareRun>,
    rest: Watts,
    load: Watts,
) -> Result<CoverageSpread, Unknown> {
    if runs.len() < FEWEST_RUNS {
        return Err(Unknown(format!(
            "{} square waves were seen by this sensor, and a spread needs {FEWEST_RUNS}",
            runs.len()
        )));
    }
    let n = runs.len() as f64;
    let duty = runs.iter().map(|run| run.duty).sum::<f64>() / n;
    let swing = (load - rest).value();
    let level = |run: &SquareRun| run.power.value() - swing * (run.duty - duty);
    let levels: Vec<f64> = runs.iter().map(level).collect();
    let mean = levels.iter().sum::<f64>() / n;
    if mean <= 0.0 {
        return Err(Unknown("the sensor showed no power under square waves".to_string()));
    }
    let largest = levels.iter().map(|level| (level / mean - 1.0).abs()).fold(0.0, f64::max);
    let of_another_period = another.map(|run| level(&run) / mean - 1.0);
    let deviation = beside_line(&levels) / mean;
    Ok(CoverageSpread { deviation, largest, swing: swing / mean, of_another_period, runs: runs.len() })
}

/// Standard deviation about the straight line through numbers at equal distances.
fn beside_line(levels: &[f64]) -> f64 {
    let n = levels.len() as f64;
    let at = |index: usize| index as f64 - (n - 1.0) / 2.0;
    let mean = levels.iter().sum::<f64>() / n;
    let (mut moment, mut squares) = (0.0, 0.0);
    for (index, level) in levels.iter().enumerate() {
        moment += at(index) * level;
        squares += at(index) * at(index);
    }
    let slope = moment / squares;
    let off = levels.iter().enumerate().map(|(index, level)| level - mean - slope * at(index));
    (off.map(|off| off * off).sum::<f64>() / (n - 2.0)).sqrt()
}

impl CoverageSpread {
    /// What the square waves say.
    ///
    /// # Errors
    ///
    /// Neither one nor the other, or the load was too flat to tell.
    pub fn coverage(&self) -> Result<Coverage, Unknown> {
        let percent = self.deviation * 100.0;
        if self.deviation >= LEAST_PART_TIME {
            Ok(Coverage::PartTime)
        } else if self.deviation > self.swing * NINE_TENTHS && self.deviation <= MOST_CONTIGUOUS {
            Err(Unknown(format!(
                "the load changes this reading by {:.0} % of its mean only, too little to tell gaps by",
                self.swing.abs() * 100.0
            )))
        } else if self.deviation <= MOST_CONTIGUOUS {
            Ok(Coverage::Full)
        } else {
            Err(Unknown(format!(
                "square waves of the sensor's period differ by {percent:.1} % with their phase: more than the {:.0} % of \
                 a sensor without gaps, less than the {:.0} % that prove them",
                MOST_CONTIGUOUS * 100.0,
                LEAST_PART_TIME * 100.0
            )))
        }
    }
}

/// The coverage by both witnesses.
///
/// # Errors
///
/// They contradict each other, or neither tells.
pub fn agreed_coverage(
    spread: &Result<CoverageSpread, Unknown>,
    window: &Result<CoverageFact, Unknown>,
) -> Result<Coverage, Unknown> {
    let by_waves = spread.clone().and_then(|spread| spread.coverage());
    let by_window = window.as_ref().ok().and_then(|fact| fact.coverage);
    match (by_waves, by_window) {
        (Ok(waves), Some(window)) if waves != window => {
            let name = |coverage| if coverage == Coverage::Full { "full" } else { "part-time" };
            let spread = spread.as_ref().map_or(0.0, |spread| spread.deviation * 100.0);
            Err(Unknown(format!(
                "square waves of its period say {} (they differ by {spread:.1} % with their phase), its window says {}: \
                 calibrate again on a quiet device",
                name(waves),
                name(window)
            )))
        }
        (Ok(coverage), _) | (Err(_), Some(coverage)) => Ok(coverage),
        (Err(unknown), None) => Err(unknown),
    }
}

/// The coverage of a sensor with this window and period.
pub fn coverage(window: &Estimate<Seconds>, period: &Estimate<Seconds>) -> CoverageFact {
    let share = |window: Seconds, period: Seconds| (window / period).min(1.0);
    let share = Estimate {
        value: share(window.value, period.value),
        low: share(window.low, period.high),
        high: share(window.high, period.low),
    };
    let coverage = if share.high < ALL {
        Some(Coverage::PartTime)
    } else if share.low >= 0.9 {
        Some(Coverage::Full)
    } else {
        None
    };
    CoverageFact { share, coverage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn seconds(value: f64, low: f64, high: f64) -> Estimate<Seconds> {
        Estimate { value: value.into(), low: low.into(), high: high.into() }
    }

    #[test]
    fn a_quarter_is_part_time_a_whole_is_full_and_what_may_be_either_is_neither() {
        let period = seconds(0.1, 0.0999, 0.1001);
        assert_eq!(coverage(&seconds(0.025, 0.02, 0.03), &period).coverage, Some(Coverage::PartTime));
        assert_eq!(coverage(&seconds(0.1, 0.098, 0.102), &period).coverage, Some(Coverage::Full));
        assert_eq!(coverage(&seconds(1.1, 1.0, 1.2), &period).coverage, Some(Coverage::Full));
        assert_eq!(coverage(&seconds(0.09, 0.07, 0.11), &period).coverage, None);
    }

    fn runs(powers: &[f64]) -> Vec<SquareRun> {
        powers.iter().map(|&power| SquareRun { power: Watts::new(power), duty: 0.5 }).collect()
    }

    fn spread(powers: &[f64]) -> CoverageSpread {
        coverage_spread(&runs(powers), None, Watts::new(100.0), Watts::new(300.0)).unwrap()
    }

    #[test]
    fn a_sensor_that_looks_a_quarter_of_the_time_has_the_spread_of_its_phases() {
        // Windows of a quarter that begin at 1/16, 3/16 … of a period whose first half is load hold 1, 1, 3/4, 1/4, 0,
        // 0, 1/4 and 3/4 of load: 300, 300, 250, 150, 100, 100, 150, 250 W, in an order without a trend. Their mean is
        // 200 W, and the sum of squares about it 2 x 100² x 2 + 4 x 50² = 50,000 W².
        let found = spread(&[300.0, 100.0, 150.0, 250.0, 250.0, 150.0, 100.0, 300.0]);
        assert_relative_eq!(found.deviation, (50_000.0_f64 / 6.0).sqrt() / 200.0, max_relative = 1e-12);
        assert_relative_eq!(found.largest, 0.5, max_relative = 1e-12);
        assert_relative_eq!(found.swing, 1.0, max_relative = 1e-12);
        assert_eq!(found.coverage(), Ok(Coverage::PartTime));
    }

    #[test]
    fn a_board_that_warms_up_is_no_sensor_with_gaps() {
        // 0.5 W more from each run to the next, which is 0.25 % of the mean.
        let powers: Vec<f64> = (0..8).map(|i| 200.0 + 0.5 * f64::from(i)).collect();
        let found = spread(&powers);
        assert!(found.deviation < 1e-12 && found.largest > 0.008, "{found:?}");
        assert_eq!(found.coverage(), Ok(Coverage::Full));
    }

    #[test]
    fn runs_with_more_load_are_corrected_along_the_line_from_rest_to_load() {
        // 100 W + 200 W x duty.
        let duties = [0.5, 0.52, 0.48, 0.5, 0.51, 0.49];
        let runs: Vec<SquareRun> =
            duties.iter().map(|&duty| SquareRun { power: Watts::new(100.0 + 200.0 * duty), duty }).collect();
        let another = SquareRun { power: Watts::new(190.0), duty: 0.45 };
        let found = coverage_spread(&runs, Some(another), Watts::new(100.0), Watts::new(300.0)).unwrap();
        assert!(found.deviation < 1e-12 && found.of_another_period.unwrap().abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn what_lies_between_and_loads_that_hardly_load_tell_nothing() {
        let between = CoverageSpread { deviation: 0.02, ..spread(&[200.0; 8]) };
        assert!(between.coverage().unwrap_err().0.contains("2.0 %"));
        let flat = CoverageSpread { swing: 0.1, deviation: 0.004, ..spread(&[200.0; 8]) };
        assert!(flat.coverage().unwrap_err().0.contains("10 % of its mean"));
        // Where the noise is low enough, a flat load tells all the same.
        assert_eq!(CoverageSpread { deviation: 0.001, ..flat }.coverage(), Ok(Coverage::Full));
        assert!(coverage_spread(&runs(&[1.0; 3]), None, Watts::ZERO, Watts::new(2.0)).is_err());
    }

    #[test]
    fn witnesses_that_contradict_each_other_decide_nothing() {
        let period = seconds(0.1, 0.0999, 0.1001);
        let quarter = Ok(coverage(&seconds(0.025, 0.02, 0.03), &period));
        let whole = Ok(coverage(&seconds(0.1, 0.098, 0.102), &period));
        let unknown = Err(Unknown("no window".to_string()));
        let even = Ok(spread(&[200.0; 8]));
        let uneven = Ok(spread(&[300.0, 100.0, 150.0, 250.0, 250.0, 150.0, 100.0, 300.0]));
        let silent = Err(Unknown("no waves".to_string()));
        assert_eq!(agreed_coverage(&even, &whole), Ok(Coverage::Full));
        assert_eq!(agreed_coverage(&uneven, &quarter), Ok(Coverage::PartTime));
        assert_eq!(agreed_coverage(&uneven, &unknown), Ok(Coverage::PartTime));
        assert_eq!(agreed_coverage(&silent, &quarter), Ok(Coverage::PartTime));
        assert_eq!(agreed_coverage(&silent, &unknown), Err(Unknown("no waves".to_string())));
        let text = agreed_coverage(&even, &quarter).unwrap_err().0;
        assert!(text.contains("say full") && text.contains("says part-time"), "{text}");
    }
}
