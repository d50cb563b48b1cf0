//! What a profile runs on: this machine's processor, or a simulated device in its own time.

use std::path::Path;

use crate::backend::cpu::CpuBackend;
use crate::backend::{Backend, CacheUse};
use crate::clock::{Clock, Instant, MonotonicClock};
use crate::meter::nvml::{Among, GpuSelector, nvml_meters};
use crate::meter::{MeterCandidate, Part, host_meters, try_out};
use crate::run::{Probe, Surroundings, SystemProbe, merge_environments};
use crate::sim::{Condition, DeviceParameters, SimDevice};
use crate::trace::{Environment, WeightsAndInput};

use super::job::{ProfileError, ProfileOptions};

/// Which device runs the network.
#[derive(Debug, Clone, PartialEq)]
pub enum DeviceChoice {
    /// This machine's processor.
    Cpu {
        /// Worker threads; none for one on each logical processor.
        threads: Option<usize>,
    },
    /// A simulated device.
    Sim {
        /// What it was called: a preset's name or a file.
        name: String,
        /// What it is made of.
        device: Box<DeviceParameters>,
    },
}

impl DeviceChoice {
    /// A short name, for directories.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Cpu { .. } => "cpu".to_string(),
            Self::Sim { name, .. } => {
                let stem = Path::new(name)
                    .file_stem()
                    .map_or(name.clone(), |stem| stem.to_string_lossy().into_owned());
                format!("sim-{}", stem.trim_start_matches("sim-"))
            }
        }
    }

    /// The simulated device, if it is one.
    pub(super) fn simulated(&self) -> Option<&DeviceParameters> {
        match self {
            Self::Sim { device, .. } => Some(device),
            Self::Cpu { .. } => None,
        }
    }
}

/// A device with the clock that it lives by.
pub(super) struct Device {
    pub(super) backend: Box<dyn Backend>,
    pub(super) clock: Box<dyn Clock>,
    sim: Option<SimDevice>,
}

impl Device {
    /// Opens a device. Its clock shows `from` at first, so that a recording can go on where an earlier part ended;
    /// `seed` decides about a simulated device's noise.
    ///
    /// # Errors
    ///
    /// The device cannot work.
    pub(super) fn open(choice: &DeviceChoice, seed: u64, from: Instant) -> Result<Self, ProfileError> {
        Ok(match choice {
            DeviceChoice::Cpu { threads } => Self {
                backend: Box::new(CpuBackend::new(worker_threads(*threads)?)?),
                clock: Box::new(MonotonicClock::starting_at(from)),
                sim: None,
            },
            DeviceChoice::Sim { device, .. } => {
                let sim = SimDevice::resting_until(device, seed, from);
                // As the devices that they resemble: GPUs rotate buffers, processors do not.
                let cache = if device.speed.queues { CacheUse::Cold } else { CacheUse::Hot };
                Self { backend: Box::new(sim.backend(cache)), clock: Box::new(sim.clock()), sim: Some(sim) }
            }
        })
    }

    /// The part of the machine that it is.
    pub(super) fn part(&self) -> Part {
        match self.sim {
            None => Part::Cpu,
            Some(_) => Part::Machine,
        }
    }

    /// Every meter that it could have, tried.
    pub(super) fn meters(&self, options: &ProfileOptions) -> Vec<MeterCandidate> {
        match &self.sim {
            None => {
                let mut candidates = host_meters(&options.sysfs_root, self.clock.as_ref());
                candidates.extend(gpu_meters(options, &candidates, self.clock.as_ref()));
                candidates
            }
            Some(sim) => {
                let mut candidates = sim.meters();
                try_out(&mut candidates, self.clock.as_ref());
                candidates
            }
        }
    }

    /// Begins to look at its surroundings.
    pub(super) fn probe(&self, sysfs_root: &Path) -> Box<dyn Probe> {
        match &self.sim {
            None => {
                let sysfs_root = sysfs_root.to_path_buf();
                Box::new(SystemProbe::start(Surroundings { sysfs_root, ..Surroundings::default() }))
            }
            Some(sim) => Box::new(SimProbe { device: sim.clone(), seen: vec![sim.condition()] }),
        }
    }
}

/// The meters of GPUs, beside a network on the processor: only where the user asks for one, because opening NVML wakes
/// the GPUs and watching them takes seconds.
fn gpu_meters(options: &ProfileOptions, known: &[MeterCandidate], clock: &dyn Clock) -> Vec<MeterCandidate> {
    let asked = options.meter.ids().iter().any(|id| known.iter().all(|c| c.record.id != *id));
    if !asked && options.nvml_lib.is_none() {
        return Vec::new();
    }
    let of_another = options.meter.ids().iter().any(|id| id.contains('@'));
    let among = if of_another { Among::All } else { Among::Selected };
    nvml_meters(options.nvml_lib.as_deref(), &GpuSelector::Index(0), among, clock)
}

/// The threads asked for, or one for each logical processor. More would only take turns.
fn worker_threads(asked: Option<usize>) -> Result<usize, ProfileError> {
    let most = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match asked {
        None => Ok(most),
        Some(threads) if (1..=most).contains(&threads) => Ok(threads),
        Some(threads) => Err(ProfileError::Usage(format!(
            "--threads: expected 1 to {most}, the logical processors here, found {threads}"
        ))),
    }
}

/// Looks at a simulated device. The machine around it has no part in its joules.
struct SimProbe {
    device: SimDevice,
    seen: Vec<Condition>,
}

impl Probe for SimProbe {
    fn look(&mut self) {
        self.seen.push(self.device.condition());
    }

    fn environment(&self, weights_and_input: WeightsAndInput) -> Environment {
        let celsius = || self.seen.iter().map(|seen| seen.celsius);
        let limited = self.seen.iter().any(|seen| seen.limited);
        Environment {
            clocks_mhz: self.seen.last().map(|seen| seen.megahertz).into_iter().collect(),
            power_limit_w: Some(self.device.parameters().power.limit_w),
            temperature_c: Some([
                celsius().fold(f64::INFINITY, f64::min),
                celsius().fold(f64::NEG_INFINITY, f64::max),
            ]),
            throttle_reasons: if limited { vec!["power limit".to_string()] } else { Vec::new() },
            weights_and_input,
            ..Environment::default()
        }
    }

    fn finish(&mut self, begin: &Environment, earlier: Option<&Environment>) -> Environment {
        self.look();
        let mut end = self.environment(begin.weights_and_input.clone());
        end.clocks_mhz = begin.clocks_mhz.iter().chain(&end.clocks_mhz).copied().collect();
        if let Some(earlier) = earlier {
            merge_environments(&mut end, earlier);
        }
        end
    }
}
