//! Physical quantities as types: joules, watts, seconds, bytes and floating-point operations.
//!
//! Only operators that physics allows exist: `Joules / Seconds` is [`Watts`], `Watts * Seconds` is
//! [`Joules`], and adding joules to seconds does not compile. A raw number is converted once, where it
//! enters the program.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(f64);

        impl $name {
            /// Nothing of this quantity.
            pub const ZERO: Self = Self(0.0);

            /// Wraps a number that is already in this unit.
            pub const fn new(value: f64) -> Self {
                Self(value)
            }

            /// The number in this unit.
            pub const fn value(self) -> f64 {
                self.0
            }

            /// The magnitude without its sign.
            pub fn abs(self) -> Self {
                Self(self.0.abs())
            }
        }

        impl From<f64> for $name {
            fn from(value: f64) -> Self {
                Self(value)
            }
        }

        impl From<$name> for f64 {
            fn from(quantity: $name) -> f64 {
                quantity.0
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }

        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                self.0 -= other.0;
            }
        }

        impl Neg for $name {
            type Output = Self;
            fn neg(self) -> Self {
                Self(-self.0)
            }
        }

        impl Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }
        }

        impl Div<f64> for $name {
            type Output = Self;
            fn div(self, divisor: f64) -> Self {
                Self(self.0 / divisor)
            }
        }

        /// The ratio of two quantities of one kind is a pure number.
        impl Div for $name {
            type Output = f64;
            fn div(self, other: Self) -> f64 {
                self.0 / other.0
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                Self(items.map(|q| q.0).sum())
            }
        }
    };
}

quantity! {
    /// Energy in joules.
    Joules
}
quantity! {
    /// Power in watts.
    Watts
}
quantity! {
    /// Duration in seconds.
    Seconds
}

impl Joules {
    /// Converts the microjoules of Linux's powercap files.
    pub fn from_microjoules(count: f64) -> Self {
        Self(count * 1e-6)
    }
}

impl Div<Seconds> for Joules {
    type Output = Watts;
    fn div(self, time: Seconds) -> Watts {
        Watts(self.0 / time.0)
    }
}

impl Mul<Seconds> for Watts {
    type Output = Joules;
    fn mul(self, time: Seconds) -> Joules {
        Joules(self.0 * time.0)
    }
}

impl Mul<Watts> for Seconds {
    type Output = Joules;
    fn mul(self, power: Watts) -> Joules {
        power * self
    }
}

impl Div<Watts> for Joules {
    type Output = Seconds;
    fn div(self, power: Watts) -> Seconds {
        Seconds(self.0 / power.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_over_time_is_power_and_back() {
        let power = Joules::new(10.0) / Seconds::new(4.0);
        assert_eq!(power, Watts::new(2.5));
        assert_eq!(power * Seconds::new(4.0), Joules::new(10.0));
        assert_eq!(Joules::new(10.0) / power, Seconds::new(4.0));
    }

    #[test]
    fn a_million_microjoules_are_one_joule() {
        assert_eq!(Joules::from_microjoules(1e6), Joules::new(1.0));
    }
}
