//! Readings of a GPU as joules.

use nvml_wrapper::sys_exports::field_id::{NVML_FI_DEV_POWER_AVERAGE, NVML_FI_DEV_POWER_INSTANT};

use crate::clock::Instant;
use crate::units::{Joules, Seconds, Watts};

use super::super::counter::{CounterFault, WrappingCounter};
use super::super::interface::{Meter, ReadError};
use super::super::power_integral::PowerIntegral;
use super::super::refusal::Refusal;
use super::library::{Gpu, read_error, refusal};

/// A power that the driver shows: a field of nvml.h and its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PowerField {
    pub(super) field: u32,
    /// 0 is the whole board, 1 the module with its processor; 2 is the memory (Zeus, zeus.device.gpu), which nvml.h
    /// does not say.
    scope: u32,
}

impl PowerField {
    /// The latest reading of the sensor.
    pub(super) const INSTANT: Self = Self { field: NVML_FI_DEV_POWER_INSTANT, scope: 0 };
    /// The mean of the last second.
    pub(super) const AVERAGE: Self = Self { field: NVML_FI_DEV_POWER_AVERAGE, scope: 0 };
    /// The same of the memory alone.
    pub(super) const MEMORY_AVERAGE: Self = Self { field: NVML_FI_DEV_POWER_AVERAGE, scope: 2 };

    /// What it shows now.
    pub(super) fn of(self, gpu: &Gpu) -> Result<Watts, nvml_wrapper::error::NvmlError> {
        gpu.power(self.field, self.scope)
    }
}

/// The energy counter: millijoules since the driver was loaded, in 64 bits (nvmlDeviceGetTotalEnergyConsumption).
pub(super) struct EnergyMeter {
    gpu: Gpu,
    id: String,
    counter: WrappingCounter,
}

impl EnergyMeter {
    /// A counter that answers.
    pub(super) fn open(gpu: &Gpu, id: &str) -> Result<Self, Refusal> {
        let answered = gpu.device().total_energy_consumption();
        answered.map_err(|error| refusal(&format!("energy counter of {}", gpu.label()), &error))?;
        let counter = WrappingCounter::new(u64::MAX, Joules::from_microjoules(1e3));
        Ok(Self { gpu: gpu.clone(), id: id.to_string(), counter })
    }
}

impl Meter for EnergyMeter {
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let millijoules = self.gpu.device().total_energy_consumption();
        let millijoules = millijoules.map_err(|error| read_error(&self.id, &error))?;
        self.counter.advance(millijoules, now).map_err(|fault| match fault {
            // 2^64 mJ are half a billion years at a kilowatt: whatever falls did not wrap.
            CounterFault::Reset { from, to, .. } => {
                fallen(self.counter.refuse(fault, &self.id), &self.id, from, to)
            }
            fault => self.counter.refuse(fault, &self.id),
        })
    }
}

/// The same in words that do not speak of wraps: a counter that starts anew counts on, one that goes backwards does not.
fn fallen(told: ReadError, id: &str, from: u64, to: u64) -> ReadError {
    let joules = |millijoules: u64| millijoules as f64 * 1e-3;
    let (before, after) = (joules(from), joules(to));
    if matches!(told, ReadError::Lost(_)) {
        return ReadError::Lost(format!(
            "{id}: the counter was reset: it read {before:.3} J and now {after:.3} J, as when the driver is loaded anew"
        ));
    }
    ReadError::Fatal(format!(
        "{id}: the counter went backwards, from {before:.3} J to {after:.3} J; it cannot be believed any more"
    ))
}

/// A power whose readings are added up.
pub(super) struct PowerMeter {
    gpu: Gpu,
    id: String,
    field: PowerField,
    integral: PowerIntegral,
}

impl PowerMeter {
    /// A power that is shown anew every `period`, if it is shown at all.
    pub(super) fn open(gpu: &Gpu, id: &str, field: PowerField, period: Seconds) -> Result<Self, Refusal> {
        let what = || format!("field {} of {}", field.field, gpu.label());
        field.of(gpu).map_err(|error| refusal(&what(), &error))?;
        Ok(Self { gpu: gpu.clone(), id: id.to_string(), field, integral: PowerIntegral::new(period) })
    }
}

impl Meter for PowerMeter {
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let power = self.field.of(&self.gpu).map_err(|error| read_error(&self.id, &error))?;
        self.integral.add(now, power).map_err(|gap| ReadError::Lost(gap.to_string()))
    }

    fn longest_gap(&self) -> Option<Seconds> {
        Some(self.integral.longest_gap())
    }

    fn power(&self) -> Option<Watts> {
        self.integral.power()
    }
}
