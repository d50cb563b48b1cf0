//! Whether a GPU's energy counter can be believed, looked at for about three seconds before a run.
//!
//! Some boards count energy for being read: a laptop's counter showed 291 W of idle power when read every 20 ms and
//! 16 W every 500 ms (github.com/ShohanRony/green-ai-energy-phase1); others lose energy between close readings (Dauner
//! et al., HotCarbon 2026). So the counter is read often, then seldom, then often again, and its power must be the same.
//! If it is not, all of that is done once more before the counter is refused: the power may just have changed.

use crate::clock::{Clock, Instant};
use crate::units::{Joules, Seconds, Watts};

use super::super::interface::{Meter, ReadError};
use super::super::rhythm::Rhythm;
use super::super::update::STILL;

/// Between two looks where changes are waited for. The driver serialises queries, so that faster ones disturb others.
const POLL: Seconds = Seconds::new(2e-3);
/// Changes to see before the period is believed, and the longest look for them.
const CHANGES: usize = 12;
const LONGEST: Seconds = Seconds::new(1.5);
/// Least time of reading often.
const OFTEN: Seconds = Seconds::new(0.6);
/// Between two readings, and their number, where it is read seldom.
const SELDOM: Seconds = Seconds::new(0.5);
const SELDOM_READINGS: usize = 2;
/// The powers may differ by the larger of these before the counter is refused: being asked 500 times a second keeps an
/// idle board awake, which costs true watts. The bad ones count 275 W more, or lose three quarters at such a rate.
const DIFFERENCE: f64 = 0.02;
const DIFFERENCE_WATTS: Watts = Watts::new(3.0);
/// Idle power of counter and sensor may differ by the larger of these: sensors are stated to 5 W.
const SENSOR_SHARE: f64 = 0.1;
const SENSOR_WATTS: Watts = Watts::new(5.0);

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Health {
    /// Mean time between two changes.
    pub(super) period: Seconds,
    pub(super) rate: ReadRate,
    /// Power by the counter, and what the power sensor showed at the same time, if they differ.
    pub(super) sensor_differs: Option<(Watts, Watts)>,
}

/// The power that the counter shows, read often and seldom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ReadRate {
    /// The same.
    Same,
    /// It depends on how often the counter is read.
    Matters { often: Watts, seldom: Watts },
    /// The power itself changed too much to tell.
    Unclear,
}

/// A reading.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    energy: Joules,
}

/// A change of the reading.
#[derive(Debug, Clone, Copy)]
struct Change {
    /// Middle of the two looks between which it came.
    at: Instant,
    /// Half the time between them.
    within: Seconds,
    /// The second of them.
    seen: Look,
}

/// Mean power between two changes, and how far it may be off because of when they were seen.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    power: Watts,
    off: f64,
}

impl Stretch {
    fn between(first: Change, last: Change) -> Self {
        let length = last.at - first.at;
        Self {
            power: (last.seen.energy - first.seen.energy) / length,
            off: (first.within + last.within).value() / length.value(),
        }
    }
}

/// Watches a counter; `sensor` shows the board's power by another way, where there is one. A counter that seems to depend
/// on how often it is read is watched once more, and the second verdict counts.
///
/// # Errors
///
/// The counter cannot be read, or stands still.
pub(super) fn examine(
    counter: &mut dyn Meter,
    sensor: &mut dyn FnMut() -> Option<Watts>,
    clock: &dyn Clock,
) -> Result<Health, ReadError> {
    let health = examine_once(counter, sensor, clock)?;
    match health.rate {
        ReadRate::Matters { .. } => examine_once(counter, sensor, clock),
        ReadRate::Same | ReadRate::Unclear => Ok(health),
    }
}

fn examine_once(
    counter: &mut dyn Meter,
    sensor: &mut dyn FnMut() -> Option<Watts>,
    clock: &dyn Clock,
) -> Result<Health, ReadError> {
    let begin = clock.now();
    let from = read(counter, clock)?;
    let Some(change) = next_change(counter, clock, from)? else { return still(counter, clock) };
    let mut changes = vec![change];
    let mut turn = change;
    while changes.len() <= CHANGES && clock.now() - begin < LONGEST || turn.at - change.at < OFTEN {
        turn = next_change(counter, clock, turn.seen)?.ok_or_else(stands_still)?;
        changes.push(turn);
    }
    let (mut latest, mut shown) = (turn.seen, Vec::with_capacity(SELDOM_READINGS));
    for _ in 0..SELDOM_READINGS {
        clock.sleep_until(clock.now() + SELDOM);
        latest = read(counter, clock)?;
        shown.extend(sensor());
    }
    let turn_back = next_change(counter, clock, latest)?.ok_or_else(stands_still)?;
    changes.push(turn_back);
    let mut last = turn_back;
    while last.at - turn_back.at < OFTEN {
        last = next_change(counter, clock, last.seen)?.ok_or_else(stands_still)?;
        changes.push(last);
    }
    let often = [Stretch::between(change, turn), Stretch::between(turn_back, last)];
    let seldom = Stretch::between(turn, turn_back);
    let counted = Stretch::between(change, last).power;
    Ok(Health {
        period: period(&changes),
        rate: compare(often, seldom),
        sensor_differs: differs(counted, &shown),
    })
}

/// The power may drift as the board cools down, so that what is read seldom is held against the mean of before and
/// after, and a difference within that drift says nothing.
fn compare([before, after]: [Stretch; 2], seldom: Stretch) -> ReadRate {
    let often = (before.power + after.power) / 2.0;
    let drift = (before.power - after.power).abs();
    let difference = (often - seldom.power).abs();
    let edges = often * ((before.off + after.off) / 2.0) + seldom.power * seldom.off;
    let share = seldom.power.abs() * DIFFERENCE;
    let explained = if share > DIFFERENCE_WATTS { share } else { DIFFERENCE_WATTS } + edges;
    if difference <= explained {
        ReadRate::Same
    } else if difference <= explained + drift {
        ReadRate::Unclear
    } else {
        ReadRate::Matters { often, seldom: seldom.power }
    }
}

fn differs(counted: Watts, shown: &[Watts]) -> Option<(Watts, Watts)> {
    if shown.is_empty() {
        return None;
    }
    let sum: f64 = shown.iter().map(|power| power.value()).sum();
    let shown = Watts::new(sum / shown.len() as f64);
    let share = shown * SENSOR_SHARE;
    let most = if share > SENSOR_WATTS { share } else { SENSOR_WATTS };
    ((counted - shown).abs() > most).then_some((counted, shown))
}

/// One reading, tried again while the counter is busy.
fn read(counter: &mut dyn Meter, clock: &dyn Clock) -> Result<Look, ReadError> {
    let begin = clock.now();
    loop {
        let at = clock.now();
        match counter.read(at) {
            Ok(energy) => return Ok(Look { at, energy }),
            Err(ReadError::Retry(_)) if at - begin < STILL => clock.sleep_until(at + POLL),
            Err(error) => return Err(error),
        }
    }
}

/// A counter that did not move while it was read often: one that forgets what lies between close readings moves when
/// it is read seldom.
fn still(counter: &mut dyn Meter, clock: &dyn Clock) -> Result<Health, ReadError> {
    let begin = read(counter, clock)?;
    clock.sleep_until(begin.at + SELDOM * SELDOM_READINGS as f64);
    let end = read(counter, clock)?;
    if end.energy == begin.energy {
        return Err(stands_still());
    }
    let seldom = (end.energy - begin.energy) / (end.at - begin.at);
    let rate = ReadRate::Matters { often: Watts::ZERO, seldom };
    Ok(Health { period: SELDOM, rate, sensor_differs: None })
}

fn stands_still() -> ReadError {
    let seconds = STILL.value();
    ReadError::Fatal(format!("the counter stood still for {seconds:.0} s; it does not work on this machine"))
}

/// Looks until the reading is no longer that of `from`; none if it stays for long.
fn next_change(counter: &mut dyn Meter, clock: &dyn Clock, from: Look) -> Result<Option<Change>, ReadError> {
    let mut then = from.at;
    loop {
        clock.sleep_until(clock.now() + POLL);
        let seen = read(counter, clock)?;
        if seen.energy != from.energy {
            let within = (seen.at - then) / 2.0;
            return Ok(Some(Change { at: then + within, within, seen }));
        }
        then = seen.at;
        if then - from.at > STILL {
            return Ok(None);
        }
    }
}

/// The mean time between two changes, by the first and the last of all. How many periods that is tells the median
/// first, which may be off by as much as the polls are apart, and then the mean so far.
fn period(changes: &[Change]) -> Seconds {
    let mut periods: Vec<f64> = changes.windows(2).map(|pair| (pair[1].at - pair[0].at).value()).collect();
    periods.sort_by(f64::total_cmp);
    let median = Seconds::new(periods[periods.len() / 2]);
    let first = changes[0];
    let mut rhythm = Rhythm::new(first.at, first.within, median, first.within * 2.0 / median);
    for change in &changes[1..] {
        rhythm.saw(change.at, change.within);
    }
    rhythm.period()
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::clock::ManualClock;

    /// A board of known power and the period of its counter, 100 ms.
    struct Board {
        clock: Rc<ManualClock>,
        power: fn(f64) -> f64,
        period: f64,
        /// When an update fails to come.
        misses: f64,
        /// Joules that each reading adds, and until when.
        per_read: f64,
        reads_cost_until: f64,
        /// Readings closer than this lose what lies between them.
        forgets_within: f64,
        /// How much of it.
        forgets: f64,
        /// What the next update brings.
        charged: f64,
        spent: f64,
        until: f64,
        last_read: f64,
    }

    impl Board {
        fn new(power: fn(f64) -> f64) -> Self {
            let clock = Rc::new(ManualClock::default());
            Self {
                clock,
                power,
                period: 0.1,
                misses: f64::INFINITY,
                per_read: 0.0,
                reads_cost_until: f64::INFINITY,
                forgets_within: 0.0,
                forgets: 1.0,
                charged: 0.0,
                spent: 0.0,
                until: 0.0,
                last_read: 0.0,
            }
        }

        /// Time to the next update.
        fn due(&self) -> f64 {
            let missed = (self.until..self.until + self.period).contains(&self.misses);
            if missed { 2.0 * self.period } else { self.period }
        }

        fn examine(&mut self, shown: Option<f64>) -> Result<Health, ReadError> {
            let clock = Rc::clone(&self.clock);
            examine(self, &mut || shown.map(Watts::new), &*clock)
        }
    }

    impl Meter for Board {
        fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
            let now = now.since_origin().value();
            let forgotten = now - self.last_read < self.forgets_within;
            self.last_read = now;
            // Adds up the power in steps of the update period.
            while self.until + self.due() <= now {
                let passed = self.due();
                self.until += passed;
                let kept = if forgotten { 1.0 - self.forgets } else { 1.0 };
                self.spent += (self.power)(self.until) * passed * kept;
                self.spent += std::mem::take(&mut self.charged);
            }
            self.charged += if now < self.reads_cost_until { self.per_read } else { 0.0 };
            Ok(Joules::new(self.spent))
        }
    }

    #[test]
    fn a_steady_counter_has_its_period_and_one_power() {
        let health = Board::new(|_| 80.0).examine(Some(80.0)).unwrap();
        assert!((health.period.value() - 0.1).abs() <= POLL.value(), "{health:?}");
        assert_eq!((health.rate, health.sensor_differs), (ReadRate::Same, None));
    }

    #[test]
    fn the_period_is_right_to_a_tenth_of_a_millisecond_and_an_update_that_fails_to_come_changes_nothing() {
        for period in [0.02, 0.0203, 0.1, 0.1037] {
            for misses in [f64::INFINITY, 0.55, 1.9] {
                let mut board = Board { period, misses, ..Board::new(|_| 80.0) };
                let found = board.examine(None).unwrap().period.value();
                assert!((found - period).abs() <= 1e-4, "{period} s, misses one at {misses} s: {found} s");
            }
        }
    }

    #[test]
    fn watts_that_an_idle_board_draws_for_being_asked_are_not_held_against_its_counter() {
        // 2.5 W of 75 W while it is asked 500 times a second.
        let mut board = Board { per_read: 2.5 / 500.0, ..Board::new(|_| 75.0) };
        assert_eq!(board.examine(None).unwrap().rate, ReadRate::Same);
    }

    #[test]
    fn a_counter_is_refused_only_if_it_fails_twice() {
        let once = || Board { per_read: 0.1, reads_cost_until: 3.0, ..Board::new(|_| 80.0) };
        let mut board = once();
        let clock = Rc::clone(&board.clock);
        let first = examine_once(&mut board, &mut || None, &*clock).unwrap().rate;
        assert!(matches!(first, ReadRate::Matters { .. }), "{first:?}");
        assert_eq!(once().examine(None).unwrap().rate, ReadRate::Same);
    }

    #[test]
    fn the_bad_counters_that_are_known_are_refused() {
        // 291 W for 16 W when read every 20 ms: 275 W x 20 ms a reading. Three quarters and more lost between readings of
        // up to 10 ms, by boards that idle at 15 W; and an eighth, as they lose between slower ones, of an H200.
        let costly = Board { per_read: 275.0 * 0.02, ..Board::new(|_| 16.0) };
        let losing = |power, forgets| Board { forgets_within: 0.4, forgets, ..Board::new(power) };
        for mut board in [costly, losing(|_| 15.0, 0.756), losing(|_| 15.0, 0.954), losing(|_| 75.0, 0.133)] {
            let rate = board.examine(None).unwrap().rate;
            assert!(matches!(rate, ReadRate::Matters { .. }), "{rate:?}");
        }
    }

    #[test]
    fn joules_for_being_read_are_found_and_both_powers_named() {
        let mut board = Board::new(|_| 12.0);
        board.per_read = 8.0;
        // 12 W and 8 J at 500 readings a second; seldom, two readings and those that wait for the change behind them,
        // 50 at most: 12 W and 416 J in a second.
        match board.examine(None).unwrap().rate {
            ReadRate::Matters { often, seldom } => {
                assert!((often.value() - 4012.0).abs() < 0.02 * 4012.0, "{often:?}");
                assert!(seldom.value() < 430.0, "{seldom:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_percent_more_for_close_readings_pass_and_five_do_not() {
        // 500 readings a second against two: per reading 0.1 W and 5 W of 100 W.
        for (watts, refused) in [(0.1, false), (5.0, true)] {
            let mut board = Board::new(|_| 100.0);
            board.per_read = watts / 500.0;
            let rate = board.examine(None).unwrap().rate;
            assert_eq!(matches!(rate, ReadRate::Matters { .. }), refused, "{watts} W: {rate:?}");
        }
    }

    #[test]
    fn a_board_that_cools_down_is_not_taken_for_a_bad_counter() {
        // 5 W less every second is the same drift read often and seldom.
        let health = Board::new(|t| 100.0 - 5.0 * t).examine(None).unwrap();
        assert!(!matches!(health.rate, ReadRate::Matters { .. }), "{health:?}");
    }

    #[test]
    fn a_power_that_jumps_in_the_middle_says_nothing() {
        let health = Board::new(|t| if t < 2.0 { 80.0 } else { 160.0 }).examine(None).unwrap();
        assert_eq!(health.rate, ReadRate::Unclear, "{health:?}");
    }

    #[test]
    fn a_counter_that_forgets_between_close_readings_is_not_called_still() {
        let mut board = Board::new(|_| 80.0);
        board.forgets_within = 0.4;
        match board.examine(None).unwrap().rate {
            ReadRate::Matters { often, seldom } => {
                assert_eq!(often, Watts::ZERO);
                assert!((seldom.value() - 80.0).abs() <= 8.0, "{seldom:?}");
            }
            other => panic!("{other:?}"),
        }
        let still = Board::new(|_| 0.0).examine(None);
        assert!(matches!(&still, Err(ReadError::Fatal(text)) if text.contains("stood still")), "{still:?}");
    }

    #[test]
    fn a_counter_far_from_the_power_sensor_says_so() {
        // Zeus, issue 181: 187 J counted in 5 s of idle, 327 J by power: 37 W and 65 W.
        let found = Board::new(|_| 37.4).examine(Some(65.4)).unwrap().sensor_differs.unwrap();
        assert!((found.0.value() - 37.4).abs() < 1.0 && (found.1.value() - 65.4).abs() < 1e-9, "{found:?}");
        // 5 W are within what sensors are stated to.
        assert_eq!(Board::new(|_| 20.0).examine(Some(24.0)).unwrap().sensor_differs, None);
    }
}
