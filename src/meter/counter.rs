//! Undoing the wraps of a counter, without mistaking a reset for one.

use crate::clock::Instant;
use crate::units::{Joules, Seconds, Watts};

/// Interval over which a rate is believed: much longer than a counter's jitter and a pause of its reader.
const RATE_INTERVAL: Seconds = Seconds::new(0.2);

/// A missed wrap is possible when this many times the fastest rate seen would have filled the range.
const RATE_MARGIN: f64 = 4.0;

/// No single RAPL domain draws more: the largest server packages are specified for 500 W, with short peaks
/// below twice that. A backward step that would mean more is a reset, not a wrap.
const MOST_PLAUSIBLE: Watts = Watts::new(2000.0);

/// Energy that may arrive late in one step, as time at [`MOST_PLAUSIBLE`].
const LATE: Seconds = Seconds::new(1.0);

/// What a raw reading cannot mean.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub(super) enum CounterFault {
    /// The counter fell, and a wrap would mean too much energy.
    #[error(
        "the counter went back from {from} to {to} uJ; a wrap would mean {joules:.0} J in {seconds:.3} s, so it was reset"
    )]
    Reset {
        /// The reading before.
        from: u64,
        /// The reading now.
        to: u64,
        /// Energy a wrap would mean.
        joules: f64,
        /// Time between the readings.
        seconds: f64,
    },
    /// The counter is beyond its own range.
    #[error("the counter reads {reading} uJ, more than its range of {range} uJ")]
    BeyondRange {
        /// The reading.
        reading: u64,
        /// The counter's range.
        range: u64,
    },
    /// So much time passed that a whole wrap may have been missed.
    #[error("{seconds:.2} s between two readings: the counter may have wrapped unseen")]
    TooLong {
        /// Time between the readings.
        seconds: f64,
    },
}

/// A counter of microjoules that starts again at zero after its range.
#[derive(Debug, Clone)]
pub(super) struct WrappingCounter {
    range: u64,
    last: Option<(u64, Instant)>,
    total: u64,
    /// Reading of `total` from which the next rate is taken.
    rate_from: Option<(u64, Instant)>,
    fastest: Option<Watts>,
}

impl WrappingCounter {
    /// A counter whose largest reading is `range` microjoules.
    pub(super) fn new(range: u64) -> Self {
        Self { range, last: None, total: 0, rate_from: None, fastest: None }
    }

    /// Energy since the first reading.
    ///
    /// From `a` to a smaller `b` the energy is `range - a + b` (Linux, Documentation/power/powercap; the one
    /// count between the largest reading and zero is below its resolution).
    ///
    /// # Errors
    ///
    /// The reading is impossible; the counter keeps its state, so that a torn reading can be taken again. After
    /// [`CounterFault::TooLong`] it counts on from this reading.
    pub(super) fn advance(&mut self, reading: u64, now: Instant) -> Result<Joules, CounterFault> {
        if reading > self.range {
            return Err(CounterFault::BeyondRange { reading, range: self.range });
        }
        if let Some((last, then)) = self.last {
            let elapsed = now - then;
            if self.could_have_wrapped(elapsed) {
                // Counting goes on from here: what lies between is lost, what follows is sound.
                self.last = Some((reading, now));
                self.rate_from = None;
                return Err(CounterFault::TooLong { seconds: elapsed.value() });
            }
            let delta = if reading >= last { reading - last } else { self.range - last + reading };
            let energy = Joules::from_microjoules(delta as f64);
            if reading < last && energy > MOST_PLAUSIBLE * (elapsed + LATE) {
                return Err(CounterFault::Reset {
                    from: last,
                    to: reading,
                    joules: energy.value(),
                    seconds: elapsed.value(),
                });
            }
            self.total += delta;
        }
        self.last = Some((reading, now));
        self.note_rate(now);
        Ok(Joules::from_microjoules(self.total as f64))
    }

    /// Whether a whole range may have passed unseen, at [`RATE_MARGIN`] times the fastest rate seen.
    fn could_have_wrapped(&self, elapsed: Seconds) -> bool {
        let fastest = self.fastest.map(|rate| rate * RATE_MARGIN).filter(|&rate| rate < MOST_PLAUSIBLE);
        fastest.unwrap_or(MOST_PLAUSIBLE) * elapsed > Joules::from_microjoules(self.range as f64)
    }

    fn note_rate(&mut self, now: Instant) {
        let (total, then) = *self.rate_from.get_or_insert((self.total, now));
        let elapsed = now - then;
        if elapsed < RATE_INTERVAL {
            return;
        }
        // At least a watt, so that a counter that stood still does not promise to stand still for ever.
        let rate = Joules::from_microjoules((self.total - total) as f64) / elapsed + Watts::new(1.0);
        if self.fastest.is_none_or(|fastest| rate > fastest) {
            self.fastest = Some(rate);
        }
        self.rate_from = Some((self.total, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Instant {
        Instant::default() + Seconds::new(seconds)
    }

    #[test]
    fn energy_is_unchanged_when_the_counter_wraps() {
        // Case intel-server-2s-dram of the wrap table: 262101554370 to 59233141 of 262143328850 in 0.6 s.
        let mut counter = WrappingCounter::new(262_143_328_850);
        counter.advance(262_101_554_370, at(0.0)).unwrap();
        let energy = counter.advance(59_233_141, at(0.6)).unwrap();
        assert!((energy.value() - 101.007_621).abs() < 1e-9, "{energy:?}");
    }

    #[test]
    fn a_reset_is_not_taken_for_a_wrap() {
        let mut counter = WrappingCounter::new(262_143_328_850);
        counter.advance(100_000_000_000, at(0.0)).unwrap();
        let fault = counter.advance(5, at(0.5)).unwrap_err();
        assert!(matches!(fault, CounterFault::Reset { from: 100_000_000_000, to: 5, .. }), "{fault}");
        // The state is kept: a torn read can be repeated.
        let energy = counter.advance(100_000_500_000, at(0.6)).unwrap();
        assert!((energy.value() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_wrap_that_could_have_been_missed_is_refused() {
        let mut counter = WrappingCounter::new(65_532_610_987);
        counter.advance(0, at(0.0)).unwrap();
        assert!(matches!(counter.advance(10, at(40.0)), Err(CounterFault::TooLong { .. })));
        // From there on it counts again.
        assert_eq!(counter.advance(1_000_010, at(40.1)).unwrap(), Joules::new(1.0));
    }

    #[test]
    fn a_small_counter_may_be_read_as_slowly_as_its_own_rate_allows() {
        // 60 J at 50 W wrap every 1.2 s; four times that rate allows 0.3 s between readings.
        let mut counter = WrappingCounter::new(60_000_000);
        let mut energy = Joules::ZERO;
        for i in 0..200u64 {
            let now = at(i as f64 * 0.025);
            energy = counter.advance(i * 1_250_000 % 60_000_000, now).unwrap();
        }
        assert!((energy.value() - 199.0 * 1.25).abs() < 1e-6, "{energy:?}");
        assert!(matches!(counter.advance(0, at(6.0)), Err(CounterFault::TooLong { .. })));
    }

    #[test]
    fn a_reading_beyond_the_range_is_refused() {
        let mut counter = WrappingCounter::new(100);
        assert!(matches!(counter.advance(101, at(0.0)), Err(CounterFault::BeyondRange { .. })));
    }
}
