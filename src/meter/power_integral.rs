//! Energy from power readings: the area under straight lines between them.

use crate::clock::Instant;
use crate::units::{Joules, Seconds, Watts};

/// Readings farther apart than this many periods are not joined: nobody saw what happened between them.
const JOINED_PERIODS: f64 = 5.0;

/// The time between two readings was too long to join them.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "{seconds:.2} s between two power readings, at most {most:.2} s can be joined; other busy processes hold the \
     program up (`layerjoule doctor` names them), the sensor did not answer, or a layer takes that long and needs a smaller --batch"
)]
pub struct Gap {
    seconds: f64,
    most: f64,
}

/// Adds up power readings by the trapezoidal rule.
#[derive(Debug, Clone)]
pub struct PowerIntegral {
    period: Seconds,
    last_read: Option<Instant>,
    /// The last reading that was new.
    point: Option<(Instant, Watts)>,
    total: Joules,
}

impl PowerIntegral {
    /// For a sensor that has a new value every `period`.
    pub fn new(period: Seconds) -> Self {
        Self { period, last_read: None, point: None, total: Joules::ZERO }
    }

    /// The longest time between two readings that is bridged.
    pub fn longest_gap(&self) -> Seconds {
        self.period * JOINED_PERIODS
    }

    /// The last reading.
    pub fn power(&self) -> Option<Watts> {
        self.point.map(|point| point.1)
    }

    /// Energy up to the last new value. It moves where the sensor's value does, like that of a counter: a value that
    /// stays the same for a whole period is a new one.
    ///
    /// # Errors
    ///
    /// Nobody looked for several periods; the integral goes on from this reading.
    pub fn add(&mut self, now: Instant, power: Watts) -> Result<Joules, Gap> {
        let unread = self.last_read.replace(now).map_or(Seconds::ZERO, |then| now - then);
        let Some((then, before)) = self.point else {
            self.point = Some((now, power));
            return Ok(self.total);
        };
        if unread > self.longest_gap() {
            self.point = Some((now, power));
            return Err(Gap { seconds: unread.value(), most: self.longest_gap().value() });
        }
        if power != before || now - then >= self.period {
            self.total += (before + power) / 2.0 * (now - then);
            self.point = Some((now, power));
        }
        Ok(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Instant {
        Instant::default() + Seconds::new(seconds)
    }

    #[test]
    fn a_ramp_has_the_area_of_its_trapezoids() {
        let mut integral = PowerIntegral::new(Seconds::new(1.0));
        // 100 W, 200 W, 200 W, 50 W a second apart: 150 + 200 + 125 J.
        let mut energy = Joules::ZERO;
        for (i, watts) in [100.0, 200.0, 200.0, 50.0].into_iter().enumerate() {
            energy = integral.add(at(i as f64), Watts::new(watts)).unwrap();
        }
        assert_eq!(energy, Joules::new(475.0));
    }

    #[test]
    fn looking_more_often_than_the_sensor_changes_adds_nothing() {
        let mut integral = PowerIntegral::new(Seconds::new(1.0));
        let mut energies = Vec::new();
        for i in 0..=20 {
            energies.push(integral.add(at(f64::from(i) * 0.1), Watts::new(10.0)).unwrap().value());
        }
        // It moves once a period and stands still between, so that a window can begin at a move.
        assert_eq!((energies[9], energies[10], energies[19], energies[20]), (0.0, 10.0, 10.0, 20.0));
    }

    #[test]
    fn a_long_gap_is_not_bridged_and_counting_goes_on_behind_it() {
        let mut integral = PowerIntegral::new(Seconds::new(0.1));
        integral.add(at(0.0), Watts::new(10.0)).unwrap();
        let gap = integral.add(at(0.6), Watts::new(90.0)).unwrap_err();
        assert!(gap.to_string().starts_with("0.60 s between two power readings, at most 0.50 s"), "{gap}");
        // 90 W for 0.4 s; the 0.6 s before are nobody's.
        let energy = integral.add(at(1.0), Watts::new(90.0)).unwrap();
        assert!((energy.value() - 36.0).abs() < 1e-9, "{energy:?}");
    }
}
