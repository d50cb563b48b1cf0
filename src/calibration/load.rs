//! What ran while the sensor was read: an external meter's watts, or only when there was a load.

use crate::units::{Joules, Seconds};

use super::series::{Series, quantile, sorted};

/// Nine of ten intervals between loads that differ by no more than this part of one make a period.
const ALIKE: f64 = 0.2;

/// Times of loads as (start, end) in seconds, in order and apart from each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Marks(Vec<(f64, f64)>);

impl Marks {
    /// Loads in order; each ends after it starts and before the next one starts.
    pub fn new(loads: Vec<(f64, f64)>) -> Self {
        debug_assert!(loads.iter().all(|load| load.0 < load.1), "a load that ends before it starts");
        debug_assert!(loads.windows(2).all(|pair| pair[0].1 <= pair[1].0), "loads that overlap");
        Self(loads)
    }

    /// The loads as (start, end).
    pub fn loads(&self) -> &[(f64, f64)] {
        &self.0
    }

    /// From the first start to the last end; none without loads.
    pub fn span(&self) -> Option<(f64, f64)> {
        Some((self.0.first()?.0, self.0.last()?.1))
    }

    /// The time from one load's start to the next one's, where that is always about the same.
    pub fn regular_period(&self) -> Option<Seconds> {
        let intervals = sorted(self.0.windows(2).map(|pair| pair[1].0 - pair[0].0));
        let usual = quantile(&intervals, 0.5)?;
        let most = quantile(&intervals, 0.95)? - quantile(&intervals, 0.05)?;
        (intervals.len() > 2 && most < ALIKE * usual).then(|| Seconds::new(usual))
    }

    /// Time in loads.
    pub fn busy(&self) -> Seconds {
        Seconds::new(self.0.iter().map(|(start, end)| end - start).sum())
    }
}

/// The integral of a load over time: joules of a meter, or seconds of marked work.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    times: Vec<f64>,
    levels: Vec<f64>,
    totals: Vec<f64>,
    /// The time from which on the load is known: before its first point it goes on as it began.
    from: f64,
    until: f64,
}

impl Load {
    /// Watts of a meter, on straight lines between its samples. Where `rests_before` is true, nothing ran before the
    /// first sample either, and the power was that of the rest until `first_load`.
    pub fn metered(meter: &Series, first_load: Option<f64>) -> Self {
        let mut load = Self::through(meter.times().to_vec(), meter.values().to_vec());
        let Some((&begin, &end)) = meter.times().first().zip(meter.times().last()) else { return load };
        (load.from, load.until) = (begin, end);
        if let Some(first_load) = first_load.filter(|first| *first > begin) {
            let resting = (load.integral(first_load) - load.integral(begin)) / (first_load - begin);
            load.levels.insert(0, resting);
            load.times.insert(0, begin - f64::EPSILON * begin.abs());
            load.totals.insert(0, 0.0);
            load.from = f64::NEG_INFINITY;
        }
        load
    }

    /// One where a load is marked, nothing elsewhere.
    pub fn marked(marks: &Marks) -> Self {
        let (mut times, mut levels) = (Vec::new(), Vec::new());
        for &(start, end) in marks.loads() {
            times.extend([start, start, end, end]);
            levels.extend([0.0, 1.0, 1.0, 0.0]);
        }
        let mut load = Self::through(times, levels);
        (load.from, load.until) = (f64::NEG_INFINITY, f64::INFINITY);
        load
    }

    fn through(times: Vec<f64>, levels: Vec<f64>) -> Self {
        let mut total = 0.0;
        let mut totals = vec![0.0; times.len().min(1)];
        for at in 1..times.len() {
            total += (times[at] - times[at - 1]) * (levels[at] + levels[at - 1]) / 2.0;
            totals.push(total);
        }
        Self { times, levels, totals, from: f64::INFINITY, until: f64::NEG_INFINITY }
    }

    /// Whether the load is known from `from` to `to`.
    pub fn covers(&self, from: f64, to: f64) -> bool {
        self.from <= from && to <= self.until
    }

    /// The integral up to a time; only differences mean something.
    pub fn integral(&self, at: f64) -> f64 {
        let after = self.times.partition_point(|time| *time < at);
        let Some(&last) = self.times.last() else { return 0.0 };
        if after == 0 {
            return self.totals[0] - self.levels[0] * (self.times[0] - at);
        }
        let before = after - 1;
        if after == self.times.len() {
            return self.totals[before] + self.levels[before] * (at - last);
        }
        let (part, whole) = (at - self.times[before], self.times[after] - self.times[before]);
        let level = self.levels[before] + (self.levels[after] - self.levels[before]) * part / whole;
        self.totals[before] + part * (self.levels[before] + level) / 2.0
    }

    /// Mean level between two times.
    pub fn mean(&self, from: f64, to: f64) -> f64 {
        (self.integral(to) - self.integral(from)) / (to - from)
    }

    /// Joules between two times, of a metered load.
    pub fn energy(&self, from: f64, to: f64) -> Joules {
        Joules::new(self.integral(to) - self.integral(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn a_meter_is_integrated_along_straight_lines() {
        // 100 W at 1 s, 300 W at 3 s, 300 W at 4 s: 400 J, then 300 J.
        let load = Load::metered(&Series::new([(1.0, 100.0), (3.0, 300.0), (4.0, 300.0)]), None);
        assert_relative_eq!(load.energy(1.0, 4.0).value(), 700.0);
        // To the middle of the rise: (100 + 200)/2 x 1 s.
        assert_relative_eq!(load.energy(1.0, 2.0).value(), 150.0);
        assert!(load.covers(1.0, 4.0) && !load.covers(0.9, 2.0) && !load.covers(2.0, 4.1));
    }

    #[test]
    fn a_board_at_rest_before_its_meter_began_drew_what_it_drew_at_rest() {
        let meter = Series::new([(1.0, 50.0), (2.0, 50.0), (2.0001, 250.0), (3.0, 250.0)]);
        let load = Load::metered(&meter, Some(2.0));
        assert_relative_eq!(load.energy(-1.0, 2.0).value(), 150.0, max_relative = 1e-9);
        assert!(load.covers(-100.0, 3.0) && !load.covers(0.0, 3.1));
    }

    #[test]
    fn loads_have_a_period_where_they_are_alike_and_none_where_they_are_not() {
        let square = Marks::new((0..9).map(|k| (0.1 * f64::from(k), 0.1 * f64::from(k) + 0.05)).collect());
        assert_relative_eq!(square.regular_period().unwrap().value(), 0.1, max_relative = 1e-9);
        let growing = Marks::new((1..9).map(|k| (f64::from(k * k), f64::from(k * k) + 0.5)).collect());
        assert_eq!(growing.regular_period(), None);
    }

    #[test]
    fn marks_count_the_seconds_in_which_something_ran() {
        let load = Load::marked(&Marks::new(vec![(1.0, 2.0), (4.0, 4.5)]));
        assert_relative_eq!(load.integral(3.0) - load.integral(0.0), 1.0);
        assert_relative_eq!(load.mean(1.5, 4.5), 1.0 / 3.0);
        assert_relative_eq!(load.mean(4.5, 9.0), 0.0);
    }
}
