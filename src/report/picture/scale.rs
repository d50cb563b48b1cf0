//! From values to pixels, linear and logarithmic, with round ticks. No input makes them panic or hang.

use super::quantity::plain;

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
    pub(super) fn ticks(&self, wanted: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        if !step.is_normal() {
            return vec![];
        }
        let first = (self.low / step).ceil();
        let tick = |k: usize| (first + k as f64) * step;
        (0..MAX_TICKS).map(tick).take_while(|t| *t <= self.high + step * 1e-6).collect()
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
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (low, high) = (self.0.low, self.0.high);
        let decades = high - low;
        let step = (decades / 8.0).ceil().max(1.0);
        let between: &[f64] = if decades <= 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = (0..MAX_TICKS).map(|k| low.floor() + k as f64 * step).take_while(|p| *p <= high);
        let ticks = powers.flat_map(|p| between.iter().map(move |m| m * 10f64.powf(p)));
        ticks.filter(|t| self.holds(*t)).collect()
    }
}

/// Tick labels in one unit.
pub(super) fn tick_text(value: f64) -> String {
    // Sums of steps leave crumbs such as 1e-17 where zero is meant.
    plain(if value.abs() < 1e-12 { 0.0 } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        let scale = Linear::new((-0.3, 4.3), (0.0, 100.0));
        assert_eq!(scale.ticks(5), vec![0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(Log::new((0.5, 200.0), (0.0, 1.0)).ticks().len(), 9);
        let long = Log::new((1e-3, 1e4), (0.0, 1.0)).ticks();
        assert_eq!(
            long.iter().map(|t| tick_text(*t)).collect::<Vec<_>>().join(" "),
            "0.001 0.01 0.1 1 10 100 1000 10000"
        );
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
