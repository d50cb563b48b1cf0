//! What else a GPU says of itself: it may explain the joules, and it may spoil them.

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, Sampling, TemperatureSensor};
use nvml_wrapper::enums::device::SampleValue;

use crate::units::{Seconds, Watts};

use super::library::Gpu;

/// How a board is set up. What it does not tell is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuSettings {
    /// Version of the driver.
    pub driver: Option<String>,
    /// Whether MIG splits it.
    pub mig: Option<bool>,
    /// Whether the driver stays loaded when nobody uses the board; if not, its counter starts anew now and then.
    pub persistence: Option<bool>,
    /// Whether its memory corrects errors, which costs bandwidth and energy.
    pub ecc: Option<bool>,
}

/// The state of a board at one time. What it does not tell is none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GpuCondition {
    /// Temperature of the chip in degrees Celsius.
    pub celsius: Option<f64>,
    /// Clock of the multiprocessors in megahertz.
    pub sm_mhz: Option<f64>,
    /// Clock of the memory in megahertz.
    pub memory_mhz: Option<f64>,
    /// Power limit in force.
    pub power_limit: Option<Watts>,
    /// What keeps the clocks down; an idle board is not held back by anything.
    pub throttled_by: Vec<&'static str>,
}

/// A reading that the driver kept, with its time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PowerSample {
    /// When it was taken, in seconds since 1970 by the driver's clock.
    pub unix: Seconds,
    /// The power then.
    pub power: Watts,
}

/// What holds clocks back, by name (nvml.h, nvmlClocksEventReasons). Clocks that somebody set, for applications or for a
/// display, are not among it: a careful user locks them, and then they are as they should be.
const REASONS: [(ThrottleReasons, &str); 6] = [
    (ThrottleReasons::SW_POWER_CAP, "power limit"),
    (ThrottleReasons::HW_SLOWDOWN, "hardware slowdown"),
    (ThrottleReasons::SYNC_BOOST, "sync boost"),
    (ThrottleReasons::SW_THERMAL_SLOWDOWN, "thermal"),
    (ThrottleReasons::HW_THERMAL_SLOWDOWN, "thermal, by hardware"),
    (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "power brake"),
];

impl Gpu {
    /// How the board is set up.
    pub fn settings(&self) -> GpuSettings {
        const ENABLED: u32 = 1;
        let device = self.device();
        GpuSettings {
            driver: self.library().driver().map(str::to_string),
            mig: device.mig_mode().ok().map(|mode| mode.current == ENABLED),
            persistence: device.is_in_persistent_mode().ok(),
            ecc: device.is_ecc_enabled().ok().map(|state| state.currently_enabled),
        }
    }

    /// The state of the board now. Five queries of up to half a millisecond each: between windows, never inside one.
    pub fn condition(&self) -> GpuCondition {
        let device = self.device();
        let reasons = device.current_throttle_reasons().unwrap_or(ThrottleReasons::NONE);
        GpuCondition {
            celsius: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            sm_mhz: device.clock_info(Clock::SM).ok().map(f64::from),
            memory_mhz: device.clock_info(Clock::Memory).ok().map(f64::from),
            power_limit: device.enforced_power_limit().ok().map(|mw| Watts::new(f64::from(mw) * 1e-3)),
            throttled_by: named(reasons),
        }
    }

    /// Numbers of the processes of others that compute on the board; none if it does not tell. A query of several
    /// milliseconds: before the first window and after the last. `in_context` says whether this process computes on it
    /// too, so that one of those listed is this one.
    pub fn other_processes(&self, in_context: bool) -> Option<Vec<u32>> {
        let listed = self.device().running_compute_processes().ok()?;
        Some(others(listed.into_iter().map(|process| process.pid), &own_numbers(), in_context))
    }

    /// Readings of the power sensor that the driver keeps, newer than `since`; none if it keeps none, as many newer
    /// boards do. They are the only ones with the time at which they were taken.
    pub fn power_samples(&self, since: Option<Seconds>) -> Option<Vec<PowerSample>> {
        // To the nearest: a time that is cut off would bring its own sample back.
        let since = since.map(|unix| (unix.value() * 1e6).round() as u64);
        let samples = self.device().samples(Sampling::Power, since).ok()?;
        let sample = |sample: nvml_wrapper::struct_wrappers::device::Sample| {
            let milliwatts = match sample.value {
                SampleValue::U32(value) => f64::from(value),
                SampleValue::U64(value) => value as f64,
                _ => return None,
            };
            let unix = Seconds::new(sample.timestamp as f64 * 1e-6);
            Some(PowerSample { unix, power: Watts::new(milliwatts * 1e-3) })
        };
        Some(samples.into_iter().filter_map(sample).collect())
    }

    /// Major and minor number of the generation of its multiprocessors.
    pub(super) fn compute_capability(&self) -> Option<(i32, i32)> {
        self.device().cuda_compute_capability().ok().map(|found| (found.major, found.minor))
    }
}

/// The numbers that a driver may have for this process: its own, and its threads'.
fn own_numbers() -> Vec<u32> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().filter_map(Result::ok);
    let numbers = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    numbers.chain([std::process::id()]).collect()
}

/// Those listed that are not this process. In a container the driver may list it by its number outside
/// (github.com/NVIDIA/nvidia-docker, issue 1483) or by that of a thread (github.com/Project-HAMi/HAMi-core, issue 112).
/// If none is known but one must be it, the first is taken for it: which one it is cannot be told, how many others there
/// are can.
fn others(listed: impl Iterator<Item = u32>, own: &[u32], in_context: bool) -> Vec<u32> {
    let (found, mut others): (Vec<u32>, Vec<u32>) = listed.partition(|number| own.contains(number));
    if in_context && found.is_empty() && !others.is_empty() {
        others.remove(0);
    }
    others
}

fn named(reasons: ThrottleReasons) -> Vec<&'static str> {
    REASONS.iter().filter(|(reason, _)| reasons.contains(*reason)).map(|(_, name)| *name).collect()
}

/// Looks at a board during a run, outside windows.
#[derive(Debug)]
pub struct GpuWatch {
    gpu: Gpu,
    begin: GpuCondition,
    latest: GpuCondition,
    celsius: Option<[f64; 2]>,
    sm_mhz: Option<[f64; 2]>,
    throttled_by: Vec<&'static str>,
}

impl GpuWatch {
    /// Begins to look.
    pub fn start(gpu: &Gpu) -> Self {
        let begin = gpu.condition();
        let (gpu, celsius) = (gpu.clone(), begin.celsius.map(|celsius| [celsius; 2]));
        Self { gpu, latest: begin.clone(), begin, celsius, sm_mhz: None, throttled_by: Vec::new() }
    }

    /// Notes the board's state; clocks and what keeps them down only if it is `busy`. An idle board lowers its clocks,
    /// and while it changes them it may call that a slowdown.
    pub fn look(&mut self, busy: bool) {
        self.latest = self.gpu.condition();
        widen(&mut self.celsius, self.latest.celsius);
        if !busy {
            return;
        }
        widen(&mut self.sm_mhz, self.latest.sm_mhz);
        for reason in &self.latest.throttled_by {
            if !self.throttled_by.contains(reason) {
                self.throttled_by.push(reason);
            }
        }
    }

    /// The board.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Its first and its latest state.
    pub fn ends(&self) -> [&GpuCondition; 2] {
        [&self.begin, &self.latest]
    }

    /// Lowest and highest temperature seen, in degrees Celsius.
    pub fn celsius(&self) -> Option<[f64; 2]> {
        self.celsius
    }

    /// Lowest and highest clock of the multiprocessors seen while it worked, in megahertz.
    pub fn sm_mhz(&self) -> Option<[f64; 2]> {
        self.sm_mhz
    }

    /// Everything that was seen to keep the clocks down while it worked.
    pub fn throttled_by(&self) -> &[&'static str] {
        &self.throttled_by
    }
}

/// Lets a range from the lowest to the highest take in what was seen.
fn widen(range: &mut Option<[f64; 2]>, seen: Option<f64>) {
    if let Some(seen) = seen {
        let [low, high] = range.unwrap_or([seen; 2]);
        *range = Some([low.min(seen), high.max(seen)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_somebody_set_hold_nothing_back() {
        let set = ThrottleReasons::APPLICATIONS_CLOCKS_SETTING | ThrottleReasons::DISPLAY_CLOCK_SETTING;
        assert!(named(set | ThrottleReasons::GPU_IDLE).is_empty());
        assert_eq!(
            named(set | ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_THERMAL_SLOWDOWN),
            ["power limit", "thermal, by hardware"]
        );
    }

    #[test]
    fn of_unknown_numbers_one_is_this_process_if_it_computes_on_the_board() {
        let others = |listed: &[u32], in_context| others(listed.iter().copied(), &[70, 71], in_context);
        // Numbers of the host: one of them is ours.
        assert_eq!(others(&[4001, 4002], true), [4002]);
        assert!(others(&[4001], true).is_empty());
        // Ours is there, by the process or a thread of it.
        for own in [70, 71] {
            assert_eq!(others(&[4001, own], true), [4001]);
        }
        // Not begun yet, or not listed at all.
        assert!(others(&[], true).is_empty());
        assert_eq!(others(&[4001, 4002], false), [4001, 4002]);
    }

    #[test]
    fn the_numbers_of_this_process_are_its_own_and_its_threads() {
        let mut own = std::thread::spawn(own_numbers).join().unwrap();
        assert!(own.contains(&std::process::id()));
        own.sort_unstable();
        own.dedup();
        assert!(own.len() >= 2, "{own:?}");
    }
}
