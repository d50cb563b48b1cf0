//! What a simulated device is: the numbers of a device file (docs/simulated-devices.md).
//!
//! All quantities are in SI units, as the endings of the keys say.

use serde::Serialize;

/// A simulated device. Read with [`DeviceParameters::parse`], which checks every value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceParameters {
    /// The device's name, as reports show it.
    pub name: String,
    /// How fast it computes and moves data.
    pub speed: Speed,
    /// What operations and bytes cost.
    pub energy: WorkEnergy,
    /// Power without work, and the limit.
    pub power: Power,
    /// Heating, and what it does to the power.
    pub thermal: Thermal,
    /// The clock under load.
    pub clock: Clocking,
    /// What can be read; the first is the primary meter.
    pub sensor: Vec<SensorParameters>,
}

/// Roofline of the device at its reference clock (Williams et al. 2009, 10.1145/1498765.1498785), with what keeps
/// layers below it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Speed {
    /// Peak multiply-add rate in operations per second.
    pub peak_flops_per_s: f64,
    /// Share of the peak that a layer reaches where it fills the device.
    pub efficiency: f64,
    /// Relative standard deviation of that share from one kind of work to another. Drawn from the device's name and
    /// the work's signature, so it belongs to the board and no seed changes it.
    pub efficiency_spread: f64,
    /// Output elements at which a layer fills half of the device.
    pub half_full_outputs: f64,
    /// Memory bandwidth in bytes per second.
    pub memory_bytes_per_s: f64,
    /// Size of the last cache in bytes.
    pub cache_bytes: f64,
    /// Bandwidth of the last cache in bytes per second.
    pub cache_bytes_per_s: f64,
    /// Time that each kernel takes beside its work.
    pub kernel_s: f64,
    /// Time between two kernels in which nothing runs.
    pub gap_s: f64,
    /// Time that the device waits for the host after each synchronisation.
    pub sync_s: f64,
    /// Relative standard deviation of the time of a burst of work.
    pub time_noise: f64,
    /// Whether work is queued and the host goes on meanwhile, as on GPUs.
    pub queues: bool,
}

/// Energy of work at the reference clock, above the static power.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkEnergy {
    /// Joules of one operation of conv and linear.
    pub flop_j: f64,
    /// Joules of one element-wise operation.
    pub elementwise_flop_j: f64,
    /// Joules of one byte through the last cache.
    pub cache_byte_j: f64,
    /// Joules of one byte from or to memory.
    pub memory_byte_j: f64,
    /// Watts that a running kernel adds where it fills the device: schedulers and clock tree.
    pub busy_w: f64,
}

/// Power without work, and the limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Power {
    /// Before any work, and long after it.
    pub idle_w: f64,
    /// With work prepared and clocks up, between kernels; at the reference temperature.
    pub active_idle_w: f64,
    /// Of either idle power: what the memory draws.
    pub memory_idle_w: f64,
    /// Time after the last kernel in which the power stays that of active idle.
    pub hold_s: f64,
    /// How it falls afterwards.
    pub tail: Tail,
    /// Time constant of the fall where it is exponential; of no meaning otherwise.
    pub tail_s: f64,
    /// Mean power that the device keeps to by lowering its clock.
    pub limit_w: f64,
}

/// How the power falls from active idle to idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tail {
    /// At once.
    Step,
    /// Exponentially.
    Exponential,
}

/// One thermal mass, and leakage that grows linearly with its temperature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Thermal {
    /// Temperature of the cooling air in degrees Celsius.
    pub ambient_c: f64,
    /// Kelvin for each watt.
    pub resistance_k_per_w: f64,
    /// Time constant.
    pub time_constant_s: f64,
    /// Watts for each kelvin above the reference temperature.
    pub leakage_w_per_k: f64,
    /// The temperature at which the other watts hold.
    pub reference_c: f64,
}

/// The clock under load. Dynamic energy goes with the square of the voltage, which is a straight line of the clock.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Clocking {
    /// The clock that `speed` and `energy` hold at, and that the device settles at.
    pub reference_mhz: f64,
    /// The clock right after a rest.
    pub boost_mhz: f64,
    /// Time constant of the way from boost to reference.
    pub boost_decay_s: f64,
    /// The lowest clock of the power limiter.
    pub lowest_mhz: f64,
    /// Relative change of voltage for a relative change of the clock.
    pub voltage_slope: f64,
    /// Time constant of the power limiter.
    pub limiter_s: f64,
}

/// One reading of the device, with what stands between the true power and it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SensorParameters {
    /// Its name on the command line: `sim`, `sim-instant`, `sim-average`, `sim:dram`…
    pub id: String,
    /// What it reads.
    pub kind: SensorKind,
    /// Which part of the device's power.
    pub domain: Domain,
    /// Time between two updates.
    pub update_period_s: f64,
    /// Length of the average before each update. Of an energy counter: the part of each period in which it looks;
    /// absent where it counts all the time. Readings of power need it.
    pub window_s: Option<f64>,
    /// Standard deviation of an update's time.
    pub jitter_s: f64,
    /// Least and longest time from an update to its publication.
    pub delay_s: [f64; 2],
    /// Relative standard deviation of an update's power.
    pub noise: f64,
    /// Correlation of the noise of neighbouring updates (first-order autoregression).
    pub noise_correlation: f64,
    /// Reading = gain x truth + offset.
    pub gain: f64,
    /// Watts.
    pub offset_w: f64,
    /// The reading's smallest step in joules or watts.
    pub step: f64,
    /// Share of updates that do not happen: the value before stays, and an energy counter catches up later.
    pub missed: f64,
    /// Shortest and longest time of a query.
    pub query_s: [f64; 2],
    /// Share of queries that take longer.
    pub slow_queries: f64,
    /// Time of these.
    pub slow_query_s: f64,
    /// Energy at which the counter starts again at zero.
    pub wraps_at_j: Option<f64>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// What a sensor reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorKind {
    /// Joules since the start.
    Energy,
    /// Watts.
    Power,
}

/// A part of the device's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// All of it.
    Board,
    /// All but the memory.
    Processor,
    /// The memory.
    Memory,
}

/// A counter that cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// It stands still from some time on.
    Stuck {
        /// Since the device's start.
        at_s: f64,
    },
    /// It starts again at zero, as after a driver reload.
    Reset {
        /// Since the device's start.
        at_s: f64,
    },
    /// Each query costs energy that the counter counts, and energy is forgotten where queries follow each other
    /// faster than some time.
    ReadRate {
        /// Joules that each query adds.
        per_query_j: f64,
        /// Queries closer than this lose the energy between them.
        forgets_within_s: f64,
    },
    /// It does not answer for some time, and goes on behind it as if nothing had been.
    Silent {
        /// Since the device's start.
        at_s: f64,
        /// For so long.
        for_s: f64,
    },
}

impl Fault {
    /// Whether a sensor with this fault answers at a time since the device's start.
    pub fn answers(self, at_s: f64) -> bool {
        !matches!(self, Self::Silent { at_s: from, for_s } if (from..from + for_s).contains(&at_s))
    }
}
