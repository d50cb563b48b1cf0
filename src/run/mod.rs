//! Recording: what to measure next, windows aligned to the meter, and the surroundings.
//!
//! [`record()`] asks a [`Controller`] for windows until it has no more, and appends each finished window to the
//! trace file. It sees the device and the meters only through their traits.

mod changes;
mod environment;
mod loads;
mod queue;
mod quiet;
mod record;
mod schedule;
mod still;
mod window;

pub use environment::{Probe, Surroundings, SystemProbe, merge_environments};
pub use loads::{LoadError, Loads, MeterReading, SquareWave, Watched};
pub use quiet::{Finding, Process, Quietness};
pub use record::{RecordError, Recording, Session, record};
pub use schedule::{Controller, Mixing, Request, Schedule};
