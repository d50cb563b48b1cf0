//! When a meter should move next, so that it is asked often only then: each question may take milliseconds, wakes
//! processors, and on some boards costs energy itself.

use crate::clock::Instant;
use crate::meter::Rhythm;
use crate::units::Seconds;

/// How far from the expected time a change may come: jitter of the meter, and what its period is not known to.
const NEAR: Seconds = Seconds::new(5e-3);
/// What a period that was found before the run may be off by. Over a window of 2 s of a meter of 100 ms that is four
/// times [`NEAR`], so the edges of windows go on to tell it.
const DOUBT: f64 = 0.01;
/// Between two looks near an expected change: at most, and for meters that move faster than five times as often.
const LONGEST_POLL: f64 = 1e-3;
const SHORTEST_POLL: f64 = 0.2e-3;

/// The changes of a meter's reading, as far as they are known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changes {
    /// The one from which the next ones are expected.
    last: Option<Instant>,
    /// By all of them.
    rhythm: Option<Rhythm>,
}

/// The next look at a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NextLook {
    pub(super) at: Instant,
    /// Whether it follows the look before it so soon that a change between them is an edge.
    pub(super) close: bool,
}

impl Changes {
    /// A change was seen between two looks that follow each other closely: the middle of them, and half the time
    /// between them. `period` is the meter's as it was found before the run.
    pub(super) fn saw(&mut self, at: Instant, within: Seconds, period: Seconds) {
        self.last = Some(at);
        match &mut self.rhythm {
            Some(rhythm) => rhythm.saw(at, within),
            None => self.rhythm = Some(Rhythm::new(at, within, period, DOUBT)),
        }
    }

    /// A change came when none was expected, so that the next ones cannot be told from the one before it.
    pub(super) fn surprise(&mut self) {
        self.last = None;
    }

    /// When to look after a look that began at `looked` and is over `now`; all the time while nothing is known.
    pub(super) fn next_look(&self, looked: Instant, now: Instant, period: Seconds) -> NextLook {
        let poll = Seconds::new((period.value() / 5.0).clamp(SHORTEST_POLL, LONGEST_POLL));
        let soon = NextLook { at: looked + poll, close: true };
        let (Some(last), Some(rhythm)) = (self.last, self.rhythm) else { return soon };
        let period = rhythm.period();
        let since = now - last;
        let periods = since / period;
        let from_nearest = since - period * periods.round();
        if from_nearest.value().abs() <= NEAR.value() {
            return soon;
        }
        NextLook { at: last + (period * periods.ceil() - NEAR), close: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: f64) -> Instant {
        Instant::default() + Seconds::new(millis * 1e-3)
    }

    const PERIOD: Seconds = Seconds::new(0.1);
    const WITHIN: Seconds = Seconds::new(1e-3);

    #[test]
    fn while_nothing_is_known_looks_follow_each_other_closely() {
        let next = Changes::default().next_look(at(10.0), at(10.4), PERIOD);
        assert_eq!(next, NextLook { at: at(11.0), close: true });
    }

    #[test]
    fn looks_are_close_within_five_milliseconds_of_multiples_of_the_period_and_rest_between() {
        let mut changes = Changes::default();
        changes.saw(at(1000.0), WITHIN, PERIOD);
        for (now, next, close) in [
            (1001.0, 1002.0, true),
            (1004.9, 1005.9, true),
            (1005.2, 1095.0, false),
            (1095.1, 1096.1, true),
            (1250.0, 1295.0, false),
            (1304.0, 1305.0, true),
            (1306.0, 1395.0, false),
        ] {
            assert_eq!(
                changes.next_look(at(now), at(now), PERIOD),
                NextLook { at: at(next), close },
                "{now} ms"
            );
        }
        changes.surprise();
        assert!(changes.next_look(at(1306.0), at(1306.0), PERIOD).close);
    }

    #[test]
    fn a_period_that_is_one_percent_longer_is_known_after_three_edges() {
        let mut changes = Changes::default();
        // 5 periods of settling and 20 of a window in turn, of 101 ms.
        for edge in [0.0, 5.0, 25.0, 30.0] {
            changes.saw(at(101.0 * edge), WITHIN, PERIOD);
        }
        let due = 101.0 * 50.0;
        let next = changes.next_look(at(due - 50.0), at(due - 50.0), PERIOD);
        assert!((next.at - at(due - 5.0)).abs() < Seconds::new(1e-6) && !next.close, "{next:?}");
    }

    #[test]
    fn a_fast_meter_is_looked_at_five_times_a_period() {
        let mut changes = Changes::default();
        changes.saw(at(0.0), WITHIN, Seconds::new(1e-3));
        let next = changes.next_look(at(2.5), at(2.5), Seconds::new(1e-3));
        assert_eq!(next, NextLook { at: at(2.7), close: true });
    }
}
