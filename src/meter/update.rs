//! How often a counter moves.

use crate::clock::Clock;
use crate::units::Seconds;

use super::interface::{Meter, ReadError};

/// Changes to see before the period is believed.
const CHANGES: usize = 12;
/// Longest look at a counter that does move.
const LONGEST: Seconds = Seconds::new(1.5);
/// A counter without a change for this long stands still. The slowest known energy counters move every second.
const STILL: Seconds = Seconds::new(3.0);
/// Between two looks: well below the period of the fastest counter, RAPL's 1 ms.
const POLL: Seconds = Seconds::new(100e-6);

/// The median time between two changes of a counter's reading.
///
/// # Errors
///
/// The counter cannot be read, or stands still for three seconds.
pub fn update_period(meter: &mut dyn Meter, clock: &dyn Clock) -> Result<Seconds, ReadError> {
    let begin = clock.now();
    let mut changes = Vec::with_capacity(CHANGES + 1);
    let mut last = None;
    loop {
        let now = clock.now();
        let last_change = changes.last().copied().unwrap_or(begin);
        match meter.read(now) {
            Ok(energy) => {
                if last.is_some_and(|before| before != energy) {
                    changes.push(now);
                }
                last = Some(energy);
            }
            Err(ReadError::Retry(_)) if now - last_change < STILL => {}
            Err(error) => return Err(error),
        }
        if now - last_change > STILL {
            return Err(ReadError::Fatal(format!(
                "the counter stood still for {:.0} s; it does not work on this machine",
                STILL.value()
            )));
        }
        if changes.len() > CHANGES || (now - begin > LONGEST && changes.len() > 1) {
            break;
        }
        clock.sleep_until(now + POLL);
    }
    let mut periods: Vec<f64> = changes.windows(2).map(|pair| (pair[1] - pair[0]).value()).collect();
    periods.sort_by(f64::total_cmp);
    Ok(Seconds::new(periods[periods.len() / 2]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Instant, ManualClock};
    use crate::units::Joules;

    /// Moves by one joule every `period`.
    struct Steps(f64);

    impl Meter for Steps {
        fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
            Ok(Joules::new((now.since_origin().value() / self.0).floor()))
        }
    }

    #[test]
    fn the_period_of_a_regular_counter_is_found() {
        for period in [0.001, 0.02, 0.1, 1.0] {
            let found = update_period(&mut Steps(period), &ManualClock::default()).unwrap();
            assert!((found.value() - period).abs() <= POLL.value(), "{period}: {found:?}");
        }
    }

    #[test]
    fn a_counter_that_stands_still_is_refused() {
        let error = update_period(&mut Steps(1e9), &ManualClock::default()).unwrap_err();
        assert!(matches!(error, ReadError::Fatal(text) if text.contains("stood still")));
    }
}
