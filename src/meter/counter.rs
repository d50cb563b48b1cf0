//! Undoing the wraps of a counter, without mistaking a reset or a jump for one.

use std::fmt::Display;

use crate::clock::Instant;
use crate::units::{Joules, Seconds, Watts};

use super::interface::ReadError;

/// Interval over which a rate is believed: much longer than a counter's jitter and a pause of its reader.
const RATE_INTERVAL: Seconds = Seconds::new(0.2);

/// A missed wrap is possible when this many times the fastest rate seen would have filled the range.
const RATE_MARGIN: f64 = 4.0;

/// No single RAPL domain draws more: the largest server packages are specified for 500 W, with short peaks
/// below twice that. A backward step that would mean more is a reset, not a wrap; a forward one is a jump.
const MOST_PLAUSIBLE: Watts = Watts::new(2000.0);

/// Energy that may arrive late in one step, as time at [`MOST_PLAUSIBLE`].
const LATE: Seconds = Seconds::new(1.0);

/// What a raw reading cannot mean.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub(super) enum CounterFault {
    /// The counter fell, and a wrap would mean too much energy.
    #[error("the counter went back from {from} to {to}; {}, so it was reset", if_wrapped(*joules, *seconds))]
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
    /// The counter rose by more energy than any processor draws.
    #[error(
        "the counter jumped from {from} to {to}: {joules:.0} J in {seconds:.3} s, more than the {most:.0} J that \
         2 kW could bring"
    )]
    Jump {
        /// The reading before.
        from: u64,
        /// The reading now.
        to: u64,
        /// Energy between them.
        joules: f64,
        /// Time between the readings.
        seconds: f64,
        /// The most that is plausible.
        most: f64,
    },
    /// The counter is beyond its own range.
    #[error("the counter reads {reading}, more than its range of {range}")]
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

/// What a wrap would mean. A counter of 64 bits has none: its joules would be those of a power station's years.
fn if_wrapped(joules: f64, seconds: f64) -> String {
    if joules > 1e12 {
        return "it is too large to wrap".to_string();
    }
    format!("a wrap would mean {joules:.0} J in {seconds:.3} s")
}

impl CounterFault {
    /// What the reader of a meter is told, with the counter's name.
    fn error(self, counter: &dyn Display) -> ReadError {
        let text = format!("{counter}: {self}");
        match self {
            Self::TooLong { .. } | Self::Jump { .. } => ReadError::Lost(text),
            // One that starts anew is far below where it was, and counts on from there; one that just goes backwards
            // cannot be believed any more.
            Self::Reset { from, to, .. } if to < from / 2 => ReadError::Lost(text),
            Self::Reset { .. } | Self::BeyondRange { .. } => ReadError::Fatal(text),
        }
    }
}

/// A counter that starts again at zero after its range.
#[derive(Debug, Clone)]
pub struct WrappingCounter {
    range: u64,
    /// Energy of one count.
    unit: Joules,
    last: Option<(u64, Instant)>,
    /// A reading that was refused; counting may go on from it.
    refused: Option<(u64, Instant)>,
    total: u64,
    /// Reading of `total` from which the next rate is taken.
    rate_from: Option<(u64, Instant)>,
    fastest: Option<Watts>,
}

impl WrappingCounter {
    /// A counter of `unit` whose largest reading is `range`.
    pub fn new(range: u64, unit: Joules) -> Self {
        Self { range, unit, last: None, refused: None, total: 0, rate_from: None, fastest: None }
    }

    /// Energy since the first reading, of the counter of this name. After energy that was lost it counts on.
    ///
    /// # Errors
    ///
    /// The reading is impossible.
    pub fn count(&mut self, reading: u64, now: Instant, counter: &dyn Display) -> Result<Joules, ReadError> {
        self.advance(reading, now).map_err(|fault| self.refuse(fault, counter))
    }

    /// What the reader of the meter is told of a fault; after energy that was lost the counter counts on.
    pub(super) fn refuse(&mut self, fault: CounterFault, counter: &dyn Display) -> ReadError {
        let error = fault.error(counter);
        if matches!(error, ReadError::Lost(_)) {
            self.go_on();
        }
        error
    }

    fn energy(&self, counts: u64) -> Joules {
        self.unit * counts as f64
    }

    /// Counts on from the reading that was refused last: what lies before it is lost, what follows is sound.
    fn go_on(&mut self) {
        if let Some(refused) = self.refused.take() {
            self.last = Some(refused);
            self.rate_from = None;
        }
    }

    /// Energy since the first reading.
    ///
    /// From `a` to a smaller `b` the energy is `range - a + b` (Linux, Documentation/power/powercap; the one
    /// count between the largest reading and zero is below its resolution).
    ///
    /// # Errors
    ///
    /// The reading is impossible; the counter keeps its state, so that a torn reading can be taken again.
    /// [`Self::go_on`] accepts the reading as a new beginning.
    pub(super) fn advance(&mut self, reading: u64, now: Instant) -> Result<Joules, CounterFault> {
        if reading > self.range {
            return Err(CounterFault::BeyondRange { reading, range: self.range });
        }
        if let Some((last, then)) = self.last {
            let elapsed = now - then;
            self.refused = Some((reading, now));
            if self.could_have_wrapped(elapsed) {
                return Err(CounterFault::TooLong { seconds: elapsed.value() });
            }
            let delta = if reading >= last { reading - last } else { self.range - last + reading };
            let (energy, most) = (self.energy(delta), MOST_PLAUSIBLE * (elapsed + LATE));
            if energy > most {
                let (from, to, joules, seconds) = (last, reading, energy.value(), elapsed.value());
                return Err(if reading < last {
                    CounterFault::Reset { from, to, joules, seconds }
                } else {
                    CounterFault::Jump { from, to, joules, seconds, most: most.value() }
                });
            }
            self.total += delta;
        }
        (self.last, self.refused) = (Some((reading, now)), None);
        self.note_rate(now);
        Ok(self.energy(self.total))
    }

    /// Whether a whole range may have passed unseen, at [`RATE_MARGIN`] times the fastest rate seen.
    fn could_have_wrapped(&self, elapsed: Seconds) -> bool {
        let fastest = self.fastest.map(|rate| rate * RATE_MARGIN).filter(|&rate| rate < MOST_PLAUSIBLE);
        fastest.unwrap_or(MOST_PLAUSIBLE) * elapsed > self.energy(self.range)
    }

    fn note_rate(&mut self, now: Instant) {
        let (total, then) = *self.rate_from.get_or_insert((self.total, now));
        let elapsed = now - then;
        if elapsed < RATE_INTERVAL {
            return;
        }
        // At least a watt, so that a counter that stood still does not promise to stand still for ever.
        let rate = self.energy(self.total - total) / elapsed + Watts::new(1.0);
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

    fn microjoules(range: u64) -> WrappingCounter {
        WrappingCounter::new(range, Joules::from_microjoules(1.0))
    }

    #[test]
    fn energy_is_unchanged_when_the_counter_wraps() {
        // Case intel-server-2s-dram of the wrap table: 262101554370 to 59233141 of 262143328850 in 0.6 s.
        let mut counter = microjoules(262_143_328_850);
        counter.advance(262_101_554_370, at(0.0)).unwrap();
        let energy = counter.advance(59_233_141, at(0.6)).unwrap();
        assert!((energy.value() - 101.007_621).abs() < 1e-9, "{energy:?}");
    }

    #[test]
    fn a_reset_is_not_taken_for_a_wrap() {
        let mut counter = microjoules(262_143_328_850);
        counter.advance(100_000_000_000, at(0.0)).unwrap();
        let fault = counter.advance(5, at(0.5)).unwrap_err();
        assert!(matches!(fault, CounterFault::Reset { from: 100_000_000_000, to: 5, .. }), "{fault}");
        // The state is kept: a torn read can be repeated.
        let energy = counter.advance(100_000_500_000, at(0.6)).unwrap();
        assert!((energy.value() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_counter_that_starts_anew_costs_its_window_and_one_that_goes_backwards_the_run() {
        let mut counter = microjoules(262_143_328_850);
        counter.count(100_000_000_000, at(0.0), &"zone").unwrap();
        // 50 000 J and one microjoule are no beginning.
        let told = counter.clone().count(50_000_000_000, at(0.5), &"zone");
        assert!(
            matches!(told, Err(ReadError::Fatal(text)) if text.starts_with("zone: the counter went back from"))
        );
        let told = counter.count(49_999_999_999, at(0.5), &"zone");
        assert!(
            matches!(told, Err(ReadError::Lost(text)) if text.starts_with("zone: the counter went back from"))
        );
        assert_eq!(counter.count(49_999_999_999 + 7_000_000, at(0.6), &"zone").unwrap(), Joules::new(7.0));
    }

    #[test]
    fn a_wrap_that_could_have_been_missed_is_refused() {
        let mut counter = microjoules(65_532_610_987);
        counter.advance(0, at(0.0)).unwrap();
        assert!(matches!(counter.advance(10, at(40.0)), Err(CounterFault::TooLong { .. })));
        // From there on it counts again.
        counter.go_on();
        assert_eq!(counter.advance(1_000_010, at(40.1)).unwrap(), Joules::new(1.0));
    }

    #[test]
    fn a_small_counter_may_be_read_as_slowly_as_its_own_rate_allows() {
        // 60 J at 50 W wrap every 1.2 s; four times that rate allows 0.3 s between readings.
        let mut counter = microjoules(60_000_000);
        let mut energy = Joules::ZERO;
        for i in 0..200u64 {
            let now = at(i as f64 * 0.025);
            energy = counter.advance(i * 1_250_000 % 60_000_000, now).unwrap();
        }
        assert!((energy.value() - 199.0 * 1.25).abs() < 1e-6, "{energy:?}");
        assert!(matches!(counter.advance(0, at(6.0)), Err(CounterFault::TooLong { .. })));
    }

    #[test]
    fn a_jump_beyond_two_kilowatts_is_no_energy() {
        let mut counter = microjoules(262_143_328_850);
        counter.advance(1_000_000, at(0.0)).unwrap();
        // 2 kW x (0.5 s + 1 s for late counts) = 3000 J; one microjoule more is refused.
        let fault = counter.advance(3_001_000_001, at(0.5)).unwrap_err();
        assert!(matches!(fault, CounterFault::Jump { most: 3000.0, .. }), "{fault}");
        assert!(matches!(fault.error(&"zone"), ReadError::Lost(text) if text.starts_with("zone: ")));
        assert_eq!(counter.clone().advance(3_001_000_000, at(0.5)).unwrap(), Joules::new(3000.0));
        // What follows the jump is sound: the energy before it and that after it, without the jump.
        counter.go_on();
        assert_eq!(counter.advance(3_002_000_001, at(0.6)).unwrap(), Joules::new(1.0));
    }

    #[test]
    fn a_count_is_as_large_as_its_unit() {
        // perf's unit, 2^-32 J: 2^33 counts are 2 J.
        let mut counter = WrappingCounter::new(u64::MAX, Joules::new(0.5_f64.powi(32)));
        counter.advance(7, at(0.0)).unwrap();
        assert_eq!(counter.advance(7 + (1 << 33), at(3600.0)).unwrap(), Joules::new(2.0));
    }

    #[test]
    fn a_reading_beyond_the_range_is_refused() {
        let mut counter = microjoules(100);
        assert!(matches!(counter.advance(101, at(0.0)), Err(CounterFault::BeyondRange { .. })));
    }
}
