//! How often a counter moves.

use crate::clock::{Clock, Instant};
use crate::units::{Joules, Seconds};

use super::interface::{Meter, ReadError};

/// Changes to see before the period is believed.
const CHANGES: usize = 12;
/// Longest look at a counter that does move.
const LONGEST: Seconds = Seconds::new(1.5);
/// A counter without a change for this long stands still. The slowest known energy counters move every second.
pub(super) const STILL: Seconds = Seconds::new(3.0);
/// Between two looks: well below the period of the fastest counter, RAPL's 1 ms.
const POLL: Seconds = Seconds::new(100e-6);

/// Between two readings of a counter that stood still while it was read often: one that forgets what lies between close
/// readings moves then (Dauner et al., HotCarbon 2026).
const SELDOM: Seconds = Seconds::new(1.0);

/// Why a period is not known.
enum Failure {
    /// The reading stands still.
    Still,
    /// It cannot be read.
    Unread(ReadError),
}

/// The changes of one meter's reading.
struct Watch {
    begin: Instant,
    /// Since when it is watched without a break.
    since: Instant,
    last: Option<Joules>,
    changes: Vec<Instant>,
}

impl Watch {
    fn new(begin: Instant) -> Self {
        Self { begin, since: begin, last: None, changes: Vec::with_capacity(CHANGES + 1) }
    }

    /// Looks once; the period when it is known.
    fn look(&mut self, meter: &mut dyn Meter, now: Instant) -> Result<Option<Seconds>, Failure> {
        let last_change = self.changes.last().copied().unwrap_or(self.since);
        match meter.read(now) {
            Ok(energy) => {
                if self.last.is_some_and(|before| before != energy) {
                    self.changes.push(now);
                }
                self.last = Some(energy);
            }
            Err(ReadError::Retry(_)) if now - last_change < STILL => {}
            // The program itself was held up, as on a busy machine; the counter is sound.
            Err(ReadError::Lost(_)) if now - self.begin < STILL => {
                self.last = None;
                self.changes.clear();
                self.since = now;
            }
            Err(error) => return Err(Failure::Unread(error)),
        }
        if now - last_change > STILL {
            return Err(Failure::Still);
        }
        let enough = self.changes.len() > CHANGES || (now - self.begin > LONGEST && self.changes.len() > 1);
        Ok(enough.then(|| self.period()))
    }

    fn period(&self) -> Seconds {
        let mut periods: Vec<f64> = self.changes.windows(2).map(|pair| (pair[1] - pair[0]).value()).collect();
        periods.sort_by(f64::total_cmp);
        Seconds::new(periods[periods.len() / 2])
    }
}

/// The median time between two changes of each meter's reading, all watched at the same time.
///
/// # Errors
///
/// For each: it cannot be read, or stands still for three seconds.
pub fn update_periods(meters: &mut [&mut dyn Meter], clock: &dyn Clock) -> Vec<Result<Seconds, ReadError>> {
    let begin = clock.now();
    let mut watches: Vec<Watch> = meters.iter().map(|_| Watch::new(begin)).collect();
    let mut found: Vec<Option<Result<Seconds, Failure>>> = meters.iter().map(|_| None).collect();
    while found.iter().any(Option::is_none) {
        for ((meter, watch), found) in meters.iter_mut().zip(&mut watches).zip(&mut found) {
            if found.is_none() {
                *found = watch.look(&mut **meter, clock.now()).transpose();
            }
        }
        clock.sleep_until(clock.now() + POLL);
    }
    let told = |(found, meter): (Result<Seconds, Failure>, &mut &mut dyn Meter)| {
        found.map_err(|failure| match failure {
            Failure::Still => why_still(&mut **meter, clock),
            Failure::Unread(error) => error,
        })
    };
    found.into_iter().flatten().zip(meters).map(told).collect()
}

/// Reads a counter seldom that stood still while it was read often.
fn why_still(meter: &mut dyn Meter, clock: &dyn Clock) -> ReadError {
    let mut read = || {
        clock.sleep_until(clock.now() + SELDOM);
        meter.read(clock.now()).ok()
    };
    let moved =
        read().zip(read()).map(|(before, after)| after - before).filter(|moved| *moved > Joules::ZERO);
    let still = format!("the counter stood still for {:.0} s", STILL.value());
    ReadError::Fatal(match moved {
        Some(moved) => format!(
            "{still} while it was read every {:.1} ms, and showed {:.1} W when it was read every second: it depends on \
             how often it is read, so its joules are none; use another meter",
            POLL.value() * 1e3,
            (moved / SELDOM).value()
        ),
        None => format!("{still}; it does not work on this machine"),
    })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::clock::ManualClock;

    /// Moves by one joule every `period`.
    struct Steps(f64);

    impl Meter for Steps {
        fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
            Ok(Joules::new((now.since_origin().value() / self.0).floor()))
        }
    }

    #[test]
    fn the_periods_of_regular_counters_are_found_together() {
        let periods = [0.001, 0.02, 0.1, 1.0];
        let mut steps = periods.map(Steps);
        let mut meters: Vec<&mut dyn Meter> = steps.iter_mut().map(|s| s as &mut dyn Meter).collect();
        let found = update_periods(&mut meters, &ManualClock::default());
        for (period, found) in periods.iter().zip(found) {
            assert!((found.clone().unwrap().value() - period).abs() <= POLL.value(), "{period}: {found:?}");
        }
    }

    /// Says once that the program was held up.
    struct HeldUp(Steps, bool);

    impl Meter for HeldUp {
        fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
            if now.since_origin() > Seconds::new(0.05) && !std::mem::replace(&mut self.1, true) {
                return Err(ReadError::Lost("held up".to_string()));
            }
            self.0.read(now)
        }
    }

    #[test]
    fn a_reader_that_was_held_up_once_looks_again() {
        let mut meter = HeldUp(Steps(0.02), false);
        let found = update_periods(&mut [&mut meter], &ManualClock::default()).remove(0).unwrap();
        assert!(meter.1 && (found.value() - 0.02).abs() <= POLL.value(), "{found:?}");
    }

    /// Moves by one joule at 0.1 s, 1.1 s and so on. After its look at 0.2 s the program is held up until 2.4 s, and
    /// then says so once.
    struct Late(Rc<ManualClock>, Vec<Instant>);

    impl Meter for Late {
        fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
            let t = now.since_origin().value();
            if t > 0.2 && self.1.is_empty() {
                self.0.advance(Seconds::new(2.2));
                self.1.push(now);
            } else if t > 2.4 && self.1.len() == 1 {
                self.1.push(now);
                return Err(ReadError::Lost("held up".to_string()));
            }
            Ok(Joules::new((t + 0.9).floor()))
        }
    }

    #[test]
    fn a_slow_counter_whose_reader_was_held_up_has_its_full_time_again() {
        // The next change is seen at 3.1 s: more than three seconds after the beginning, 0.7 s after the break.
        let clock = Rc::new(ManualClock::default());
        let mut meter = Late(Rc::clone(&clock), Vec::new());
        let found = update_periods(&mut [&mut meter], &*clock).remove(0);
        assert_eq!(meter.1.len(), 2);
        assert!((found.clone().unwrap().value() - 1.0).abs() <= 2.0 * POLL.value(), "{found:?}");
    }

    /// 100 W; readings within 50 ms of each other lose what lies between them.
    #[derive(Default)]
    struct Forgets {
        last: Option<Instant>,
        lost: Seconds,
    }

    impl Meter for Forgets {
        fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
            let passed = self.last.replace(now).map_or(Seconds::ZERO, |last| now - last);
            self.lost += if passed < Seconds::new(0.05) { passed } else { Seconds::ZERO };
            // Counts of a millijoule, so that sums of lost times leave nothing behind.
            Ok(Joules::new((1e5 * (now.since_origin() - self.lost).value()).round() * 1e-3))
        }
    }

    #[test]
    fn a_counter_that_stands_still_only_when_it_is_read_often_is_refused_by_that_name() {
        let mut meter = Forgets::default();
        let found = update_periods(&mut [&mut meter], &ManualClock::default()).remove(0);
        let Err(ReadError::Fatal(text)) = found else { panic!("{found:?}") };
        assert!(text.contains("stood still for 3 s while it was read every 0.1 ms"), "{text}");
        assert!(text.contains("showed 100.0 W when it was read every second"), "{text}");
    }

    #[test]
    fn a_counter_that_stands_still_is_refused_and_the_others_are_not() {
        let (mut still, mut moving) = (Steps(1e9), Steps(0.001));
        let found = update_periods(&mut [&mut still, &mut moving], &ManualClock::default());
        assert!(matches!(&found[0], Err(ReadError::Fatal(text)) if text.contains("stood still")));
        assert!(found[1].is_ok());
    }
}
