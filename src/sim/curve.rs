//! The seam between the truth and the sensors: energy as a function of time.

use super::parameters::Domain;

/// The true energy of a device. Times are seconds since the clock's origin.
pub trait EnergyCurve {
    /// Joules from the beginning until `at`. Before what is remembered the curve goes on as a straight line: a sensor
    /// has been looking when the device begins. None asks beyond the end.
    fn joules(&self, domain: Domain, at: f64) -> f64;
}
