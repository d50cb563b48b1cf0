//! A simulated device whose true joules are known, read through sensors that err as real ones do.
//!
//! Everything happens in virtual time. What a layer really costs, in the network and not in isolation, is the
//! [`Truth`] that the rest of the program is judged by; only the sensors' readings reach it.

mod curve;
mod device;
mod device_file;
mod history;
mod machine;
mod parameters;
mod queue;
mod random;
mod sensor;
#[cfg(test)]
mod testing;
mod truth;
mod work;

pub use curve::EnergyCurve;
pub use device::{Condition, SimBackend, SimClock, SimDevice};
pub use device_file::{DeviceFileError, PRESETS};
pub use history::History;
pub use parameters::{
    Clocking, DeviceParameters, Domain, Fault, Power, SensorKind, SensorParameters, Speed, Tail, Thermal,
    WorkEnergy,
};
pub use sensor::Sensor;
pub use truth::{LayerTruth, PassTruth, TRUTH_SCHEMA, Truth};
