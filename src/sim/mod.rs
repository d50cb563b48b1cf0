//! A simulated device whose true joules are known, read through sensors that err as real ones do.
//!
//! Everything happens in virtual time. What a layer really costs, in the network and not in isolation, is the
//! [truth](`EnergyCurve`) that the rest of the program is judged by; only the sensors' readings reach it.

mod curve;
mod device_file;
mod parameters;
mod random;

pub use curve::EnergyCurve;
pub use device_file::{DeviceFileError, PRESETS};
pub use parameters::{
    Clocking, DeviceParameters, Domain, Fault, Power, SensorKind, SensorParameters, Speed, Tail, Thermal,
    WorkEnergy,
};
