//! Whether a device's clock has come to rest under a load: behind a rest it boosts, and a power limit takes its time.

use crate::clock::Instant;
use crate::trace::Condition;
use crate::units::Seconds;

/// Part of the clock by which it may still move.
const MOVES: f64 = 0.003;
/// Between two looks; at most so many are kept.
const EVERY: Seconds = Seconds::new(0.02);
const ROOM: usize = 512;
/// How much longer than asked for a load may take to settle.
pub(super) const PATIENCE: f64 = 25.0;

/// The clocks seen since a load began.
#[derive(Debug, Default)]
pub(super) struct Stillness {
    seen: Vec<(Instant, f64)>,
    looked: Option<Instant>,
}

impl Stillness {
    /// Forgets all, for a new load.
    pub(super) fn begin(&mut self) {
        self.seen.clear();
        self.looked = None;
        // Nothing is allocated while a window is open.
        self.seen.reserve(ROOM);
    }

    /// When the next look is due.
    pub(super) fn due(&self, now: Instant) -> Instant {
        self.looked.map_or(now, |at| at + EVERY)
    }

    /// Takes note of a look; whether the device shows a clock at all.
    pub(super) fn note(&mut self, at: Instant, condition: Condition) -> bool {
        self.looked = Some(at);
        let clock = condition.megahertz.filter(|clock| *clock > 0.0);
        if self.seen.len() < ROOM {
            self.seen.extend(clock.map(|clock| (at, clock)));
        }
        clock.is_some()
    }

    /// Whether the clock has come to rest since `begin`: its means over the second and the last third of the time are the
    /// same, but for what it jitters. Thirds, so that a slow drift is given a longer time to be seen.
    pub(super) fn is_still(&self, begin: Instant, now: Instant) -> bool {
        let third = (now - begin) / 3.0;
        let [second, last] = [begin + third, begin + third * 2.0];
        let part = |from: Instant, to: Instant| {
            let within = self.seen.iter().filter(|(at, _)| *at >= from && *at < to);
            let (n, sum, squares) =
                within.fold((0.0, 0.0, 0.0), |(n, s, q), (_, clock)| (n + 1.0, s + clock, q + clock * clock));
            let mean: f64 = sum / n;
            (n > 0.0).then(|| (mean, (squares / n - mean * mean).max(0.0) / n))
        };
        let parts = part(second, last).zip(part(last, now + EVERY));
        parts.is_none_or(|((before, variance), (after, other))| {
            (after - before).abs() <= (MOVES * after).max(2.0 * (variance + other).sqrt())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(clock: impl Fn(f64) -> f64, seconds: f64) -> bool {
        let mut stillness = Stillness::default();
        stillness.begin();
        let begin = Instant::default();
        let at = |i: u32| begin + EVERY * f64::from(i);
        for i in 0..(seconds / EVERY.value()).round() as u32 {
            let megahertz = Some(clock(f64::from(i) * EVERY.value()));
            stillness.note(at(i), Condition { megahertz, ..Condition::default() });
        }
        stillness.is_still(begin, begin + Seconds::new(seconds))
    }

    #[test]
    fn a_boost_that_wears_off_is_waited_for() {
        // Ten per cent with a time constant of a second: the means of thirds differ by (1 - e^-t/3) of what is left at
        // the second third, 0.1 e^-t/3 (1 - e^-t/3)^2 / (t/3): 3.7 % at 1 s, 0.2 % at 12 s.
        let boost = |t: f64| 1500.0 * (1.0 + 0.1 * (-t).exp());
        assert!(!seen(boost, 0.3) && !seen(boost, 1.0) && !seen(boost, 3.0));
        assert!(seen(boost, 12.0));
    }

    #[test]
    fn a_clock_that_jitters_between_two_steps_is_still() {
        let jitter = |t: f64| if (t * 1e3) as u64 % 7 < 3 { 1965.0 } else { 1980.0 };
        assert!(seen(jitter, 0.3));
        assert!(seen(|_| 1980.0, 0.3));
    }

    #[test]
    fn a_device_that_shows_no_clock_is_not_waited_for() {
        let mut stillness = Stillness::default();
        assert!(!stillness.note(Instant::default(), Condition::default()));
        assert!(stillness.is_still(Instant::default(), Instant::default() + Seconds::new(0.3)));
        // Nor is it asked again at once.
        assert_eq!(stillness.due(Instant::default()), Instant::default() + EVERY);
    }
}
