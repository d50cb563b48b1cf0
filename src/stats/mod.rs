//! Statistics that know nothing of energy: estimates with intervals and seeded random numbers.

mod estimate;
mod rng;

pub use estimate::{Estimate, Uncertain};
pub use rng::{Rng, fingerprint};
