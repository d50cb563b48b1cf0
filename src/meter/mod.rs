//! Meters: what reads energy on this machine, and why the others do not.
//!
//! A [`Meter`] gives the joules since its first reading, wraps undone. [`host_meters`] tries every meter the
//! host could have; each comes back working or with the reason it does not and the command that mends it.

mod choose;
mod counter;
mod cpu_identity;
mod interface;
mod modelled;
mod power_model;
mod powercap;
mod update;

pub use choose::{Chosen, MeterChoice, MeterError, automatic_primary, choose};
pub use cpu_identity::CpuIdentity;
pub use interface::{Meter, MeterCandidate, ReadError};
pub use modelled::{MODELLED_ID, ModelledMeter};
pub use power_model::CpuPowerModel;
pub use powercap::{POWERCAP_ID, powercap_meters};
pub use update::update_period;

use std::path::Path;

use crate::clock::Clock;

/// Every meter the host could have, best first, tried.
pub fn host_meters(sysfs_root: &Path, clock: &dyn Clock) -> Vec<MeterCandidate> {
    let mut candidates = powercap_meters(sysfs_root);
    candidates.push(ModelledMeter::candidate());
    for candidate in &mut candidates {
        candidate.try_out(clock);
    }
    candidates
}
