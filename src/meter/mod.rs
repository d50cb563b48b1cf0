//! Meters: what reads energy on this machine, and why the others do not.
//!
//! A [`Meter`] gives the joules since its first reading, wraps undone and power readings added up. [`host_meters`] tries every meter the
//! host could have; each comes back working or with the reason it does not and the command that mends it.

mod choose;
mod compare;
mod counter;
mod cpu_identity;
mod host;
mod hwmon;
mod interface;
mod modelled;
mod node;
pub mod nvml;
mod perf;
mod power_integral;
mod power_model;
mod powercap;
mod rapl;
mod refusal;
mod rhythm;
mod update;

pub use choose::{Chosen, MeterChoice, MeterError, automatic_primary, choose};
pub use compare::{Disagreement, Sight, disagreement};
pub use counter::WrappingCounter;
pub use cpu_identity::CpuIdentity;
pub use host::Host;
pub use hwmon::{HWMON_ID, hwmon_meters};
pub use interface::{Meter, MeterCandidate, Part, ReadError};
pub use modelled::{MODELLED_ID, ModelledMeter};
pub use perf::{PERF_ID, perf_meters};
pub use power_integral::{Gap, PowerIntegral};
pub use power_model::CpuPowerModel;
pub use powercap::{POWERCAP_ID, powercap_meters};
pub use refusal::{Cause, Mend, Refusal, mends};
pub(crate) use rhythm::Rhythm;
pub use update::update_periods;

use std::path::Path;

use crate::clock::Clock;
use crate::trace::MeterKind;

/// Every meter the host could have but those of GPUs ([`nvml::nvml_meters`]), best first, tried: opened, watched until
/// its period is known, and compared with those that see the same.
pub fn host_meters(sysfs_root: &Path, clock: &dyn Clock) -> Vec<MeterCandidate> {
    let mut candidates = perf_meters(sysfs_root);
    candidates.extend(powercap_meters(sysfs_root));
    candidates.extend(hwmon_meters(sysfs_root));
    candidates.push(ModelledMeter::candidate());
    for candidate in &mut candidates {
        let of_sysfs = candidate.record.kind != MeterKind::Modelled;
        candidate.emulated = of_sysfs && sysfs_root != Path::new("/sys");
        if !candidate.record.id.starts_with(HWMON_ID) {
            candidate.part = Part::Cpu;
        }
    }
    try_out(&mut candidates, clock);
    compare::compare_counters(&mut candidates, clock);
    candidates
}

/// Watches all counters until their periods are known; one that fails or stands still becomes unavailable.
pub fn try_out(candidates: &mut [MeterCandidate], clock: &dyn Clock) {
    let is_counter = |c: &&mut MeterCandidate| c.meter.is_some() && c.record.kind == MeterKind::Counter;
    let mut counters: Vec<&mut MeterCandidate> = candidates.iter_mut().filter(is_counter).collect();
    let found = {
        let mut meters: Vec<&mut dyn Meter> =
            counters.iter_mut().filter_map(|c| Some(c.meter.as_mut()?.as_mut() as &mut dyn Meter)).collect();
        update_periods(&mut meters, clock)
    };
    for (candidate, found) in counters.into_iter().zip(found) {
        match found {
            Ok(period) => candidate.record.update_period_s = Some(period),
            Err(error) => candidate.refuse(Refusal::new(Cause::Broken, error.to_string())),
        }
    }
}
