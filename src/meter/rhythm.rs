//! The period of a meter, the better known the longer its changes have been seen.

use crate::clock::Instant;
use crate::units::Seconds;

/// A meter's period by the changes of its reading: the time between the first and the latest, and how many periods that
/// is. A change that was missed is two periods, so nothing is lost by it.
///
/// The number of periods is the time by the period known so far, rounded. It is right as long as what is not known of
/// the period, and of the two changes, makes less than half a period; where it may be wrong, counting begins again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    first: Change,
    latest: Change,
    /// Periods between the two.
    periods: f64,
    period: Seconds,
    /// How far the period may be off, as a part of it.
    doubt: f64,
}

/// A change and how far it may be from its time.
#[derive(Debug, Clone, Copy)]
struct Change {
    at: Instant,
    within: Seconds,
}

impl Rhythm {
    /// Begins with a change, and a period that may be off by a part of it.
    pub(crate) fn new(at: Instant, within: Seconds, period: Seconds, doubt: f64) -> Self {
        let change = Change { at, within };
        Self { first: change, latest: change, periods: 0.0, period, doubt }
    }

    /// Takes note of a later change.
    pub(crate) fn saw(&mut self, at: Instant, within: Seconds) {
        let change = Change { at, within };
        let passed = at - self.latest.at;
        let off = passed * self.doubt + self.latest.within + within;
        self.latest = change;
        let periods = (passed / self.period).round();
        if off >= self.period / 2.0 || periods < 1.0 {
            (self.first, self.periods) = (change, 0.0);
            return;
        }
        self.periods += periods;
        let seen = at - self.first.at;
        let doubt = (self.first.within + within) / seen;
        if doubt < self.doubt {
            (self.period, self.doubt) = (seen / self.periods, doubt);
        }
    }

    /// The period as well as it is known.
    pub(crate) fn period(&self) -> Seconds {
        self.period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: f64 = 0.1;

    /// What is left of an error of 1 % after changes of a meter of 101 ms at these periods, seen 1 ms late and early in
    /// turn.
    fn error_after(periods: &[u32]) -> f64 {
        let real = PERIOD * 1.01;
        let at = |n: u32, off: f64| Instant::default() + Seconds::new(1.0 + real * f64::from(n) + off);
        let within = Seconds::new(1e-3);
        let mut rhythm = Rhythm::new(at(0, 1e-3), within, Seconds::new(PERIOD), 0.02);
        for (i, &n) in periods.iter().enumerate() {
            rhythm.saw(at(n, if i % 2 == 0 { -1e-3 } else { 1e-3 }), within);
        }
        (rhythm.period().value() - real).abs()
    }

    #[test]
    fn the_period_is_as_right_as_two_changes_over_the_time_between_them() {
        // 2 ms over 3 and 23 periods, and none where both are equally late.
        assert!((error_after(&[3]) - 2e-3 / 3.0).abs() < 1e-7);
        assert!((error_after(&[3, 13, 23]) - 2e-3 / 23.0).abs() < 1e-7);
        assert!(error_after(&[3, 23]) < 1e-7);
    }

    #[test]
    fn one_change_that_was_missed_changes_nothing() {
        assert!(error_after(&[1, 2, 4, 5, 6, 8, 11]) <= 2e-3 / 11.0 + 1e-7);
    }

    #[test]
    fn where_the_number_of_periods_is_not_sure_nothing_is_learnt() {
        // 2 % of 60 periods are more than one.
        assert!((error_after(&[60]) - 1e-3).abs() < 1e-9);
        // It goes on from there.
        assert!(error_after(&[60, 63, 73]) <= 2e-3 / 13.0 + 1e-7);
    }

    #[test]
    fn the_time_between_two_changes_may_grow_as_the_period_becomes_known() {
        assert!(error_after(&[5, 10, 30, 80, 280]) <= 2e-3 / 280.0 + 1e-7);
    }
}
