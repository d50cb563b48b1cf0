//! Energy by a model, for machines without a counter: always an estimate.
//!
//! P = n x idle + u x (busy - idle), with n logical processors, u the processor time that this process uses per
//! second, and watts per logical processor from published server measurements (the linear model of Cloud
//! Carbon Footprint; sources in `profiles/devices/cpu-power-models.toml`). The energy is its integral.

use rustix::time::{ClockId, clock_gettime};

use crate::clock::Instant;
use crate::trace::{MeterKind, MeterRecord, MeterStatus};
use crate::units::{Joules, Seconds};

use super::cpu_identity::CpuIdentity;
use super::interface::{Meter, MeterCandidate, ReadError};
use super::power_model::CpuPowerModel;

/// Command-line name of the model.
pub const MODELLED_ID: &str = "modelled";

/// The power model of this machine's processor, driven by this process's processor time.
#[derive(Debug, Clone)]
pub struct ModelledMeter {
    model: CpuPowerModel,
    cpus: usize,
    first: Option<(Instant, Seconds)>,
}

impl ModelledMeter {
    /// A model of `cpus` logical processors.
    pub fn new(model: CpuPowerModel, cpus: usize) -> Self {
        Self { model, cpus, first: None }
    }

    /// The model of the processor that `/proc/cpuinfo` names, or of an average one.
    pub fn candidate() -> MeterCandidate {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = CpuPowerModel::for_identity(&CpuIdentity::from_cpuinfo(&cpuinfo));
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let record = MeterRecord {
            id: MODELLED_ID.to_string(),
            scope: format!("{cpus} logical CPUs, as a share of the server's wall power"),
            kind: MeterKind::Modelled,
            status: MeterStatus::Estimated,
            reason: Some(format!(
                "a model of this process's CPU time, not a measurement: each logical CPU {:.2} W idle, {:.2} W busy \
                 ({}; {}; {})",
                model.idle_per_cpu.value(),
                model.busy_per_cpu.value(),
                model.name,
                model.scope,
                model.source
            )),
            update_period_s: None,
            lag_s: None,
            coverage: None,
            systematic_relative: Some(model.systematic_relative),
        };
        MeterCandidate::working(record, Box::new(Self::new(model, cpus)))
    }

    fn energy(&mut self, now: Instant, cpu_time: Seconds) -> Joules {
        let (begin, used) = *self.first.get_or_insert((now, cpu_time));
        self.model.energy(self.cpus, now - begin, cpu_time - used)
    }
}

impl Meter for ModelledMeter {
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        Ok(self.energy(now, Seconds::new(used.tv_sec as f64 + used.tv_nsec as f64 * 1e-9)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Watts;

    #[test]
    fn one_busy_cpu_of_two_costs_its_busy_power_and_the_other_idles() {
        let model = CpuPowerModel {
            name: "test".to_string(),
            scope: String::new(),
            idle_per_cpu: Watts::new(1.0),
            busy_per_cpu: Watts::new(4.0),
            systematic_relative: 0.5,
            source: String::new(),
        };
        let mut meter = ModelledMeter::new(model, 2);
        let at = |s: f64| Instant::default() + Seconds::new(s);
        assert_eq!(meter.energy(at(5.0), Seconds::new(1.0)), Joules::ZERO);
        // Two CPUs at 1 W idle for 10 s, one of them 4 W busy for 10 s: 1 W x 10 s + 4 W x 10 s.
        let energy = meter.energy(at(15.0), Seconds::new(11.0));
        assert!((energy.value() - 50.0).abs() < 1e-9, "{energy:?}");
    }
}
