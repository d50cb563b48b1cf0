//! What a profile runs on: this machine's processor, or a simulated device in its own time.

use std::collections::BTreeMap;
use std::path::Path;

use crate::backend::cpu::CpuBackend;
use crate::backend::cuda::{Cuda, CudaBackend, CudaOptions};
use crate::backend::{Backend, BackendInfo, CacheUse};
use crate::clock::{Clock, Instant, MonotonicClock};
use crate::meter::nvml::{Among, Gpu, GpuSelector, GpuWatch, NvmlLibrary, nvml_meters};
use crate::meter::{MeterCandidate, Part, host_meters, try_out};
use crate::run::{Probe, Surroundings, SystemProbe, merge_environments};
use crate::sim::{self, DeviceParameters, SimDevice};
use crate::trace::{Condition, Environment, WeightsAndInput};
use crate::units::Watts;

use super::job::{ProfileError, ProfileOptions};

/// Which device runs the network.
#[derive(Debug, Clone, PartialEq)]
pub enum DeviceChoice {
    /// This machine's processor.
    Cpu {
        /// Worker threads; none for one on each logical processor.
        threads: Option<usize>,
    },
    /// A GPU of NVIDIA's.
    Cuda {
        /// Its number among those that the driver shows.
        ordinal: usize,
        /// The libraries that it is called by.
        cuda: Cuda,
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
            Self::Cuda { ordinal: 0, .. } => "cuda".to_string(),
            Self::Cuda { ordinal, .. } => format!("cuda{ordinal}"),
            Self::Sim { name, .. } => {
                let stem = Path::new(name)
                    .file_stem()
                    .map_or(name.clone(), |stem| stem.to_string_lossy().into_owned());
                format!("sim-{}", stem.trim_start_matches("sim-"))
            }
        }
    }

    /// What a user says after `--device`.
    pub(super) fn argument(&self) -> String {
        match self {
            Self::Cpu { .. } => "cpu".to_string(),
            Self::Cuda { ordinal, .. } => format!("cuda:{ordinal}"),
            Self::Sim { name, .. } => format!("sim:{name}"),
        }
    }

    /// The simulated device, if it is one.
    pub(super) fn simulated(&self) -> Option<&DeviceParameters> {
        match self {
            Self::Sim { device, .. } => Some(device),
            Self::Cpu { .. } | Self::Cuda { .. } => None,
        }
    }
}

/// A device with the clock that it lives by.
pub(super) struct Device {
    pub(super) backend: Box<dyn Backend>,
    pub(super) clock: Box<dyn Clock>,
    kind: Kind,
}

/// What only one kind of device has.
enum Kind {
    Cpu,
    /// The board as NVML knows it; or not at all, and then nobody watches it.
    Cuda {
        uuid: String,
        board: Option<Gpu>,
    },
    Sim(SimDevice),
}

impl Device {
    /// Opens the device that the options name. Its clock shows `from` at first, so that a recording can go on where an
    /// earlier part ended; the seed decides about a simulated device's noise, and `algorithms` about those of
    /// signatures that the earlier part measured, where a device has a choice.
    ///
    /// # Errors
    ///
    /// The device cannot work.
    pub(super) fn open(
        options: &ProfileOptions,
        from: Instant,
        algorithms: BTreeMap<String, String>,
    ) -> Result<Self, ProfileError> {
        let seed = options.seed;
        Ok(match &options.device {
            DeviceChoice::Cpu { threads } => Self {
                backend: Box::new(CpuBackend::new(worker_threads(*threads)?)?),
                clock: Box::new(MonotonicClock::starting_at(from)),
                kind: Kind::Cpu,
            },
            DeviceChoice::Cuda { ordinal, cuda } => {
                let (cache, conv_algorithm) =
                    (options.cache.unwrap_or_default(), options.conv_algorithm.clone());
                let backend = CudaBackend::open(
                    cuda,
                    &CudaOptions { ordinal: *ordinal, cache, conv_algorithm, algorithms },
                )?;
                let uuid = backend.uuid();
                Self {
                    backend: Box::new(backend),
                    clock: Box::new(MonotonicClock::starting_at(from)),
                    kind: Kind::Cuda { board: board(options.nvml_lib.as_deref(), &uuid), uuid },
                }
            }
            DeviceChoice::Sim { device, .. } => {
                let sim = SimDevice::resting_until(device, seed, from);
                // As the devices that they resemble: GPUs rotate buffers, processors do not.
                let usual = if device.speed.queues { CacheUse::Cold } else { CacheUse::Hot };
                Self {
                    backend: Box::new(sim.backend(options.cache.unwrap_or(usual))),
                    clock: Box::new(sim.clock()),
                    kind: Kind::Sim(sim),
                }
            }
        })
    }

    /// The part of the machine that it is.
    pub(super) fn part(&self) -> Part {
        match &self.kind {
            Kind::Cpu => Part::Cpu,
            Kind::Cuda { uuid, .. } => Part::Gpu(uuid.clone()),
            Kind::Sim(_) => Part::Machine,
        }
    }

    /// What runs the network, with the driver's version where only NVML tells.
    pub(super) fn info(&self) -> BackendInfo {
        let info = self.backend.info();
        match &self.kind {
            Kind::Cuda { board: Some(board), .. } => BackendInfo { driver: board.settings().driver, ..info },
            _ => info,
        }
    }

    /// Every meter that it could have, tried.
    pub(super) fn meters(&self, options: &ProfileOptions) -> Vec<MeterCandidate> {
        let clock = self.clock.as_ref();
        match &self.kind {
            Kind::Cpu => {
                let mut candidates = host_meters(&options.sysfs_root, clock);
                candidates.extend(gpu_meters(options, &candidates, clock));
                candidates
            }
            Kind::Cuda { uuid, .. } => {
                let selected = GpuSelector::Uuid(uuid.clone());
                let mut candidates =
                    nvml_meters(options.nvml_lib.as_deref(), &selected, among(options), clock);
                // The host's are there to be asked for by name.
                candidates.extend(host_meters(&options.sysfs_root, clock));
                candidates
            }
            Kind::Sim(sim) => {
                let mut candidates = sim.meters();
                try_out(&mut candidates, clock);
                candidates
            }
        }
    }

    /// Begins to look at its surroundings.
    pub(super) fn probe(&self, sysfs_root: &Path) -> Box<dyn Probe> {
        let host = || {
            let sysfs_root = sysfs_root.to_path_buf();
            SystemProbe::start(Surroundings { sysfs_root, ..Surroundings::default() })
        };
        match &self.kind {
            Kind::Cpu => Box::new(host()),
            Kind::Cuda { board, .. } => Box::new(GpuProbe::start(host(), board.as_ref())),
            Kind::Sim(sim) => Box::new(SimProbe { device: sim.clone(), seen: vec![sim.condition()] }),
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
    nvml_meters(options.nvml_lib.as_deref(), &GpuSelector::Index(0), among(options), clock)
}

/// The GPUs whose meters are asked for.
fn among(options: &ProfileOptions) -> Among {
    let of_another = options.meter.ids().iter().any(|id| id.contains('@'));
    if of_another { Among::All } else { Among::Selected }
}

/// The GPU with this UUID as NVML knows it. Why it does not, its meters say.
fn board(library: Option<&Path>, uuid: &str) -> Option<Gpu> {
    let gpus = NvmlLibrary::open(library).ok()?.gpus().ok()?;
    gpus.into_iter().flatten().find(|gpu| gpu.uuid() == uuid)
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
    seen: Vec<sim::Condition>,
}

impl Probe for SimProbe {
    fn look(&mut self, _busy: bool) -> Condition {
        let seen = self.device.condition();
        self.seen.push(seen);
        Condition { celsius: Some(seen.celsius), megahertz: Some(seen.megahertz), limited: seen.limited }
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
        self.look(false);
        let mut end = self.environment(begin.weights_and_input.clone());
        end.clocks_mhz = begin.clocks_mhz.iter().chain(&end.clocks_mhz).copied().collect();
        if let Some(earlier) = earlier {
            merge_environments(&mut end, earlier);
        }
        end
    }
}

/// Looks at a GPU, and at the machine around it. Limits, clocks and temperature are the GPU's.
struct GpuProbe {
    host: SystemProbe,
    watch: Option<GpuWatch>,
    /// Processes of others that computed on it at the beginning, or at the end if they were more.
    others: Option<usize>,
}

impl GpuProbe {
    fn start(host: SystemProbe, board: Option<&Gpu>) -> Self {
        Self { host, watch: board.map(GpuWatch::start), others: board.and_then(others) }
    }

    /// The GPU's state in place of the processor's.
    fn of_gpu(&self, environment: &mut Environment) {
        let ends = self.watch.as_ref().map(GpuWatch::ends);
        let now = ends.map(|[_, latest]| latest);
        environment.clocks_mhz =
            self.watch.as_ref().and_then(GpuWatch::sm_mhz).into_iter().flatten().collect();
        environment.power_limit_w = now.and_then(|now| now.power_limit).map(Watts::value);
        environment.temperature_c = self.watch.as_ref().and_then(GpuWatch::celsius);
        environment.throttle_reasons = self
            .watch
            .as_ref()
            .map_or(Vec::new(), |watch| watch.throttled_by().iter().map(ToString::to_string).collect());
        environment.device_processes = self.others;
    }
}

/// How many processes of others compute on the GPU on which this one does.
fn others(board: &Gpu) -> Option<usize> {
    let in_context = true;
    board.other_processes(in_context).map(|processes| processes.len())
}

impl Probe for GpuProbe {
    /// The GPU only: the processor's temperature explains nothing.
    fn look(&mut self, busy: bool) -> Condition {
        let Some(watch) = &mut self.watch else { return Condition::default() };
        watch.look(busy);
        let [_, now] = watch.ends();
        let limited = busy && !now.throttled_by.is_empty();
        Condition { celsius: now.celsius, megahertz: now.sm_mhz, limited }
    }

    fn environment(&self, weights_and_input: WeightsAndInput) -> Environment {
        let mut environment = self.host.environment(weights_and_input);
        self.of_gpu(&mut environment);
        environment
    }

    fn finish(&mut self, begin: &Environment, earlier: Option<&Environment>) -> Environment {
        self.look(false);
        let now = self.watch.as_ref().and_then(|watch| others(watch.gpu()));
        // A number is more than none.
        self.others = self.others.max(now);
        let mut end = self.host.finish(begin, None);
        self.of_gpu(&mut end);
        if let Some(earlier) = earlier {
            let clocks = || earlier.clocks_mhz.iter().chain(&end.clocks_mhz).copied();
            let lowest = clocks().reduce(f64::min);
            end.clocks_mhz = lowest.into_iter().chain(clocks().reduce(f64::max)).collect();
            merge_environments(&mut end, earlier);
        }
        end
    }
}
