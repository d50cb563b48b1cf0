//! Readings in order of time.

use crate::units::Seconds;

/// Values with the times at which they were read: seconds since any instant, strictly increasing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    times: Vec<f64>,
    values: Vec<f64>,
}

impl Series {
    /// Readings as (seconds, value). Times must increase strictly.
    pub fn new(readings: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let (times, values): (Vec<f64>, Vec<f64>) = readings.into_iter().unzip();
        debug_assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "readings out of order");
        Self { times, values }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// When they were read, in seconds.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// What was read.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Both, in order.
    pub fn iter(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.times.iter().copied().zip(self.values.iter().copied())
    }

    /// The readings that differ from the one before them.
    pub fn changes(&self) -> Vec<(f64, f64)> {
        let pairs = self.iter().zip(self.iter().skip(1));
        // The same number printed twice is the same reading, to the last bit.
        pairs.filter(|(before, now)| before.1.to_bits() != now.1.to_bits()).map(|(_, now)| now).collect()
    }

    /// Times between neighbouring readings, shortest first.
    pub fn intervals(&self) -> Vec<f64> {
        sorted(self.times.windows(2).map(|pair| pair[1] - pair[0]))
    }

    /// The median time between two readings; none for fewer than two.
    pub fn poll(&self) -> Option<Seconds> {
        quantile(&self.intervals(), 0.5).map(Seconds::new)
    }
}

/// Numbers, least first.
pub(super) fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// A quantile of sorted numbers by linear interpolation between order statistics (Hyndman and Fan 1996, type 7); none of
/// none.
pub(super) fn quantile(sorted: &[f64], probability: f64) -> Option<f64> {
    let place = probability * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// The median and the robust standard deviation about it, 1.4826 times the median distance (Hampel 1974); zeros of
/// none.
pub(super) fn centre_and_spread(numbers: &[f64]) -> (f64, f64) {
    let centre = quantile(&sorted(numbers.iter().copied()), 0.5).unwrap_or(0.0);
    let distances = sorted(numbers.iter().map(|number| (number - centre).abs()));
    (centre, 1.4826 * quantile(&distances, 0.5).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn a_change_has_the_time_of_the_first_reading_that_shows_it() {
        let series = Series::new([(0.0, 5.0), (1.0, 5.0), (2.0, 7.0), (3.0, 7.0), (4.5, 5.0)]);
        assert_eq!(series.changes(), [(2.0, 7.0), (4.5, 5.0)]);
        assert_eq!(series.poll(), Some(Seconds::new(1.0)));
    }

    #[test]
    fn quantiles_lie_between_order_statistics() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_relative_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.5).unwrap(), 3.0);
        assert_relative_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.9).unwrap(), 6.8, epsilon = 1e-12);
    }

    #[test]
    fn one_wild_number_does_not_move_the_robust_spread() {
        let (centre, spread) = centre_and_spread(&[1.0, 2.0, 3.0, 4.0, 1e9]);
        assert_relative_eq!(centre, 3.0);
        assert_relative_eq!(spread, 1.4826);
    }
}
