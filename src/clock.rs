//! The one clock of the program. Nobody else reads the time or sleeps.

use std::cell::Cell;
use std::ops::{Add, Sub};

use rustix::time::{ClockId, clock_gettime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Seconds;

/// Nanoseconds since the clock's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Instant(u64);

impl Instant {
    /// The instant `nanos` nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time since the clock's origin.
    pub fn since_origin(self) -> Seconds {
        Seconds::new(self.0 as f64 * 1e-9)
    }
}

/// The signed time from `other` to `self`.
impl Sub for Instant {
    type Output = Seconds;
    fn sub(self, other: Self) -> Seconds {
        let magnitude = Seconds::new(self.0.abs_diff(other.0) as f64 * 1e-9);
        if self >= other { magnitude } else { -magnitude }
    }
}

/// A later instant; a negative duration leaves the instant as it is, because clocks do not run backwards.
impl Add<Seconds> for Instant {
    type Output = Self;
    fn add(self, time: Seconds) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }
}

/// Whole nanoseconds of a duration; none of a negative one.
fn nanos(time: Seconds) -> u64 {
    (time.value() * 1e9).round() as u64
}

/// A monotonic clock, real or virtual.
pub trait Clock {
    /// The time now.
    fn now(&self) -> Instant;
    /// Returns no earlier than `deadline`.
    fn sleep_until(&self, deadline: Instant);
    /// The UTC time of the clock's origin, in seconds since 1970, to place a trace beside other logs.
    fn origin_unix(&self) -> Seconds;
    /// Processor time that the calling thread has used so far; none by a clock that is not the machine's.
    fn thread_time(&self) -> Option<Seconds>;
}

/// The machine's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct MonotonicClock {
    start: std::time::Instant,
    /// What the clock shows at `start`.
    offset: Instant,
    origin_unix: Seconds,
}

impl MonotonicClock {
    /// A clock whose origin is now.
    pub fn start() -> Self {
        Self::starting_at(Instant::default())
    }

    /// A clock that shows `offset` now, to go on where an earlier one ended.
    #[allow(clippy::disallowed_methods)] // This is the one place that may ask.
    pub fn starting_at(offset: Instant) -> Self {
        let unix = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64());
        let origin_unix = Seconds::new(unix) - offset.since_origin();
        Self { start: std::time::Instant::now(), offset, origin_unix }
    }
}

impl Clock for MonotonicClock {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Instant {
        // 2^64 ns are 584 years.
        Instant(self.offset.0 + (std::time::Instant::now() - self.start).as_nanos() as u64)
    }

    #[allow(clippy::disallowed_methods)]
    fn sleep_until(&self, deadline: Instant) {
        let now = self.now();
        if deadline > now {
            std::thread::sleep(std::time::Duration::from_nanos(deadline.0 - now.0));
        }
    }

    fn origin_unix(&self) -> Seconds {
        self.origin_unix
    }

    fn thread_time(&self) -> Option<Seconds> {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        Some(Seconds::new(used.tv_sec as f64 + used.tv_nsec as f64 * 1e-9))
    }
}

/// A clock that moves only when told to; sleeping moves it. For tests and simulated devices.
#[derive(Debug, Default)]
pub struct ManualClock(Cell<u64>);

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, time: Seconds) {
        self.0.set((self.now() + time).0);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant(self.0.get())
    }

    fn sleep_until(&self, deadline: Instant) {
        self.0.set(self.0.get().max(deadline.0));
    }

    fn origin_unix(&self) -> Seconds {
        Seconds::ZERO
    }

    fn thread_time(&self) -> Option<Seconds> {
        None
    }
}

/// Writes a time in seconds since 1970 as RFC 3339 UTC text, to the second.
pub fn rfc3339(unix: Seconds) -> String {
    let since = std::time::Duration::from_secs_f64(unix.value().max(0.0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

/// The seconds since 1970 of a date and a time as `2023-07-30 17:29:42.595`, taken as UTC; none of other text.
pub fn unix_seconds(text: &str) -> Option<Seconds> {
    let time = humantime::parse_rfc3339_weak(text).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Seconds::new(since.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_signed() {
        let (a, b) = (Instant::from_nanos(1_000_000_000), Instant::from_nanos(3_500_000_000));
        assert_eq!(b - a, Seconds::new(2.5));
        assert_eq!(a - b, Seconds::new(-2.5));
        assert_eq!(a + Seconds::new(2.5), b);
    }

    #[test]
    fn sleeping_moves_a_manual_clock_and_never_back() {
        let clock = ManualClock::default();
        clock.sleep_until(Instant::from_nanos(50));
        clock.sleep_until(Instant::from_nanos(20));
        assert_eq!(clock.now(), Instant::from_nanos(50));
    }

    #[test]
    fn a_known_second_has_its_known_name() {
        assert_eq!(rfc3339(Seconds::new(951_782_400.0)), "2000-02-29T00:00:00Z");
        assert_eq!(unix_seconds("2000-02-29 00:00:00.5"), Some(Seconds::new(951_782_400.5)));
        assert_eq!(unix_seconds("yesterday"), None);
    }
}
