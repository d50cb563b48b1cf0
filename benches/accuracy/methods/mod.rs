//! The methods that are compared: ours, and four of other tools, written from their descriptions.

pub(crate) mod counter_window;
pub(crate) mod fixed_repeats;
pub(crate) mod median_power;
pub(crate) mod ours;
pub(crate) mod polled_trapezoid;

use super::board::Answer;
use super::subject::Subject;

/// A way to find the joules of each layer and of the pass.
pub(crate) struct Method {
    /// As the tables show it.
    pub(crate) name: &'static str,
    /// Measures on a cold device of this seed; an error is a refusal.
    pub(crate) measure: fn(&Subject, u64) -> Result<Answer, String>,
}

/// Ours first.
pub(crate) const METHODS: [Method; 5] = [
    Method { name: "layerjoule", measure: ours::measure },
    Method { name: "counter window", measure: counter_window::measure },
    Method { name: "polled trapezoid", measure: polled_trapezoid::measure },
    Method { name: "median power", measure: median_power::measure },
    Method { name: "fixed repeats", measure: fixed_repeats::measure },
];
