//! A number with its uncertainty, and how uncertainties combine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A value with its two-sided 95 % interval, as files and tables show it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate<T> {
    /// The best value.
    pub value: T,
    /// The lower end of the 95 % interval.
    pub low: T,
    /// The upper end of the 95 % interval.
    pub high: T,
}

impl<T: Copy + Into<f64>> Estimate<T> {
    /// Half the width of the interval, in the unit of the value.
    pub fn half_width(&self) -> f64 {
        (self.high.into() - self.low.into()) / 2.0
    }
}

/// A quantity with its standard uncertainty and effective degrees of freedom, for arithmetic.
///
/// The rules are those of the *Guide to the Expression of Uncertainty in Measurement* (JCGM 100:2008):
/// variances of independent quantities add (5.1.2), the degrees of freedom combine by Welch and
/// Satterthwaite (G.4.1), and the interval uses Student's t (G.3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Uncertain {
    /// The best value.
    pub value: f64,
    /// The standard uncertainty of the value.
    pub std_error: f64,
    /// Degrees of freedom of `std_error`; infinite where it is known, not estimated.
    pub dof: f64,
}

impl Uncertain {
    /// A number without uncertainty.
    pub const fn exact(value: f64) -> Self {
        Self { value, std_error: 0.0, dof: f64::INFINITY }
    }

    /// A quantity whose standard uncertainty is known by other means than repetition (GUM type B).
    pub const fn known(value: f64, std_error: f64) -> Self {
        Self { value, std_error, dof: f64::INFINITY }
    }

    /// The mean of independent observations and the standard error of that mean.
    ///
    /// `None` for fewer than two observations: one reading has no measured spread, and no interval may be
    /// claimed for it.
    pub fn mean_of(observations: &[f64]) -> Option<Self> {
        if observations.len() < 2 {
            return None;
        }
        let n = observations.len() as f64;
        let mean = observations.iter().sum::<f64>() / n;
        let squares = observations.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        Some(Self { value: mean, std_error: (squares / (n - 1.0) / n).sqrt(), dof: n - 1.0 })
    }

    /// The sum with an independent quantity.
    pub fn plus(self, other: Self) -> Self {
        let (a, b) = (self.std_error.powi(2), other.std_error.powi(2));
        Self { value: self.value + other.value, std_error: (a + b).sqrt(), dof: combined_dof(self, other) }
    }

    /// The difference from an independent quantity.
    pub fn minus(self, other: Self) -> Self {
        self.plus(other.times(-1.0))
    }

    /// The same quantity `factor` times: fully correlated with itself, so the uncertainty scales along.
    pub fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, std_error: self.std_error * factor.abs(), dof: self.dof }
    }

    /// The same value with one more independent standard uncertainty of known size.
    pub fn widened(self, std_error: f64) -> Self {
        self.plus(Self::known(0.0, std_error))
    }

    /// The sum of independent quantities; exactly zero for none.
    pub fn sum(items: impl IntoIterator<Item = Self>) -> Self {
        items.into_iter().fold(Self::exact(0.0), Self::plus)
    }

    /// Half the width of the two-sided interval at `confidence`, from Student's t.
    pub fn half_width(&self, confidence: f64) -> f64 {
        if self.std_error <= 0.0 {
            return 0.0;
        }
        student_t(0.5 + confidence / 2.0, self.dof) * self.std_error
    }

    /// The value with its 95 % interval.
    pub fn estimate<T: From<f64>>(&self) -> Estimate<T> {
        let half = self.half_width(0.95);
        Estimate {
            value: self.value.into(),
            low: (self.value - half).into(),
            high: (self.value + half).into(),
        }
    }
}

/// Welch-Satterthwaite effective degrees of freedom of a sum (GUM G.4.1).
fn combined_dof(a: Uncertain, b: Uncertain) -> f64 {
    let total = a.std_error.powi(2) + b.std_error.powi(2);
    let share = |u: Uncertain| {
        if u.dof.is_finite() && u.std_error > 0.0 { u.std_error.powi(4) / u.dof } else { 0.0 }
    };
    let denominator = share(a) + share(b);
    if denominator > 0.0 { total.powi(2) / denominator } else { f64::INFINITY }
}

/// The quantile of Student's t; the normal quantile is its limit and is reached to four digits at 1e6.
fn student_t(probability: f64, dof: f64) -> f64 {
    let dof = if dof.is_finite() { dof.min(1e6) } else { 1e6 };
    StudentsT::new(0.0, 1.0, dof)
        .map(|t| t.inverse_cdf(probability))
        .expect("scale is 1 and every dof above comes from at least two observations")
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    /// Quantiles t(0.975, dof) as printed in NIST/SEMATECH e-Handbook 1.3.6.7.2 (three decimals).
    #[test]
    fn quantiles_agree_with_the_printed_table() {
        for (dof, t) in [(1.0, 12.706), (2.0, 4.303), (4.0, 2.776), (9.0, 2.262), (30.0, 2.042)] {
            assert_relative_eq!(student_t(0.975, dof), t, epsilon = 6e-4);
        }
        assert_relative_eq!(student_t(0.975, f64::INFINITY), 1.960, epsilon = 6e-4);
    }

    #[test]
    fn the_mean_of_three_readings_has_the_interval_of_the_textbook() {
        // 9, 10, 11: s = 1, standard error 1/sqrt(3), half width 4.303/sqrt(3) = 2.484.
        let mean = Uncertain::mean_of(&[9.0, 10.0, 11.0]).unwrap();
        let e: Estimate<f64> = mean.estimate();
        assert_relative_eq!(e.value, 10.0);
        assert_relative_eq!(e.high - e.value, 2.484, epsilon = 1e-3);
        assert_relative_eq!(e.half_width(), 2.484, epsilon = 1e-3);
    }

    #[test]
    fn one_reading_gives_no_interval() {
        assert!(Uncertain::mean_of(&[1.0]).is_none());
    }

    #[test]
    fn equal_variances_add_their_degrees_of_freedom() {
        let a = Uncertain { value: 1.0, std_error: 3.0, dof: 2.0 };
        let sum = a.plus(a);
        assert_relative_eq!(sum.dof, 4.0);
        assert_relative_eq!(sum.std_error, 18.0_f64.sqrt());
        // The same reading twice is correlated: its error doubles instead.
        assert_relative_eq!(a.times(2.0).std_error, 6.0);
    }

    /// GUM H.1.6 (end-gauge): components in nm with their degrees of freedom give about 16.
    #[test]
    fn effective_degrees_of_freedom_match_the_gum_example() {
        let parts = [(25.0, 18.0), (9.7, 25.6), (2.9, 50.0), (16.6, 2.0)];
        let sum =
            Uncertain::sum(parts.iter().map(|&(std_error, dof)| Uncertain { value: 0.0, std_error, dof }));
        assert_relative_eq!(sum.std_error, 31.7, epsilon = 0.1);
        assert_relative_eq!(sum.dof, 16.7, epsilon = 1.0);
    }
}
