//! Whether a sensor looks all the time.

use crate::stats::Estimate;
use crate::trace::Coverage;
use crate::units::Seconds;

/// A sensor whose window may be this part of its period looks all the time: what is left is below the range of
/// either.
const ALL: f64 = 0.98;

/// The part of the time in which a sensor looks, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoverageFact {
    /// Window over period, at most 1.
    pub share: Estimate<f64>,
    /// Whether that is all of it; none where the range does not tell.
    pub coverage: Option<Coverage>,
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
}
