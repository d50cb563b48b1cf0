//! The seam between the truth and the sensors: energy as a function of time.

use super::parameters::Domain;

/// The true energy of a device. Times are seconds since the clock's origin.
pub trait EnergyCurve {
    /// Joules from the beginning until `at`. Before the part that is remembered, and after the end, the curve goes on
    /// as a straight line or stands; sensors do not ask there.
    fn joules(&self, domain: Domain, at: f64) -> f64;
}
