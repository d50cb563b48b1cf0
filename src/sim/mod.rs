//! A simulated device whose true joules are known, read through sensors that err as real ones do.
//!
//! Everything happens in virtual time. What a layer really costs, in the network and not in isolation, is the
//! [truth](`EnergyCurve`) that the rest of the program is judged by; only the sensors' readings reach it.

mod curve;
mod history;
mod parameters;
mod sensor;

pub use curve::EnergyCurve;
pub use history::History;
pub use parameters::{
    Clocking, DeviceParameters, Domain, Fault, Power, SensorKind, SensorParameters, Speed, Tail, Thermal,
    WorkEnergy,
};
pub use sensor::Sensor;
