//! From values to pixels, linear and logarithmic, with round ticks. No input makes them panic or hang.

use crate::report::si::{minus, plain};

/// A place on an axis and the number that stands there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// The pixel.
    pub(super) at: f64,
    /// The number, with as many digits as tell it from its neighbours.
    pub(super) text: String,
}

/// Most ticks of any axis.
const MAX_TICKS: usize = 50;

/// A linear scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Linear {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Linear {
    /// A scale from `values` to `pixels`; an empty or endless range becomes 0 to 1.
    pub(super) fn new(values: (f64, f64), pixels: (f64, f64)) -> Self {
        let (low, high) = values;
        let sound = (high - low).is_finite() && high > low;
        let (low, high) = if sound { (low, high) } else { (0.0, 1.0) };
        Self { low, high, start: pixels.0, end: pixels.1 }
    }

    /// The pixel of a value; values outside land on the nearer end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.start + share * (self.end - self.start)
    }

    /// Whether a value lies on the scale, up to rounding.
    pub(super) fn holds(&self, value: f64) -> bool {
        let slack = (self.high - self.low) * 1e-9;
        value >= self.low - slack && value <= self.high + slack
    }

    /// Multiples of 1, 2 or 5 times a power of ten, at most about `wanted` of them.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<Tick> {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        if !step.is_normal() {
            return vec![];
        }
        let first = (self.low / step).ceil();
        let values = (0..MAX_TICKS).map(|k| (first + k as f64) * step);
        let inside = values.take_while(|v| *v <= self.high + step * 1e-6);
        inside.map(|v| Tick { at: self.at(v), text: step_text(v, step) }).collect()
    }
}

/// A logarithmic scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Log(Linear);

impl Log {
    /// A scale from positive `values` to `pixels`.
    pub(super) fn new(values: (f64, f64), pixels: (f64, f64)) -> Self {
        Self(Linear::new((values.0.log10(), values.1.log10()), pixels))
    }

    /// The pixel of a value; what is not positive lands at the low end.
    pub(super) fn at(&self, value: f64) -> f64 {
        self.0.at(if value > 0.0 { value.log10() } else { f64::NEG_INFINITY })
    }

    /// Whether a value lies on the scale.
    pub(super) fn holds(&self, value: f64) -> bool {
        value > 0.0 && self.0.holds(value.log10())
    }

    /// Powers of ten, every other or fewer on long scales, with 2 and 5 between them on short ones.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let (low, high) = (self.0.low, self.0.high);
        let decades = high - low;
        let step = (decades / 8.0).ceil().max(1.0);
        let between: &[f64] = if decades <= 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = (0..MAX_TICKS).map(|k| low.floor() + k as f64 * step).take_while(|p| *p <= high);
        let ticks = powers.flat_map(|p| between.iter().map(move |m| m * 10f64.powf(p)));
        ticks.filter(|v| self.holds(*v)).map(|v| Tick { at: self.at(v), text: plain(v) }).collect()
    }
}

/// A multiple of a step with the decimals of that step: a tick of 1234.5 between 1234 and 1235 keeps its half.
fn step_text(value: f64, step: f64) -> String {
    // Sums of steps leave crumbs such as 1e-17 where zero is meant.
    if value.abs() < 0.5 * step {
        return "0".to_string();
    }
    if value.abs() >= 1e7 || step < 1e-6 {
        return plain(value);
    }
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    minus(format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ticks: Vec<Tick>) -> String {
        ticks.into_iter().map(|t| t.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_numbers() {
        let scale = Linear::new((-0.3, 4.3), (0.0, 100.0));
        assert_eq!(texts(scale.ticks(5)), "0 1 2 3 4");
        let log = |low, high| texts(Log::new((low, high), (0.0, 1.0)).ticks());
        assert_eq!(log(0.5, 200.0), "0.5 1 2 5 10 20 50 100 200");
        assert_eq!(log(1e-3, 1e4), "0.001 0.01 0.1 1 10 100 1000 10000");
    }

    #[test]
    fn neighbouring_ticks_never_read_alike() {
        let linear = |low, high| texts(Linear::new((low, high), (0.0, 1.0)).ticks(5));
        assert_eq!(linear(1234.4, 1236.6), "1234.5 1235.0 1235.5 1236.0 1236.5");
        assert_eq!(linear(100.0, 101.0), "100.0 100.2 100.4 100.6 100.8 101.0");
        assert_eq!(linear(-0.2, 0.2), "−0.2 −0.1 0 0.1 0.2");
    }

    #[test]
    fn halfway_in_value_is_halfway_in_pixels() {
        let scale = Linear::new((0.0, 10.0), (100.0, 300.0));
        assert!((scale.at(5.0) - 200.0).abs() < 1e-9);
        assert!((scale.at(99.0) - 300.0).abs() < 1e-9);
        let log = Log::new((1.0, 100.0), (0.0, 10.0));
        assert!((log.at(10.0) - 5.0).abs() < 1e-9);
        assert!(log.at(-3.0).abs() < 1e-9);
    }

    #[test]
    fn absurd_ranges_have_few_ticks() {
        for (low, high) in [
            (0.0, 0.0),
            (1.0, f64::NAN),
            (f64::NEG_INFINITY, f64::INFINITY),
            (-1e300, 1e300),
            (0.0, 1e-320),
            (1.0, 1.0 + f64::EPSILON),
        ] {
            assert!(Linear::new((low, high), (0.0, 1.0)).ticks(8).len() <= MAX_TICKS, "{low} {high}");
        }
        for (low, high) in [(0.0, 0.0), (-1.0, 1.0), (1e-300, 1e300), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            assert!(Log::new((low, high), (0.0, 1.0)).ticks().len() <= MAX_TICKS, "{low} {high}");
        }
    }
}
