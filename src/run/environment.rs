//! What to note about the machine: it may explain the numbers, and it may spoil them.

use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

use crate::meter::Host;
use crate::trace::{Condition, Environment, WeightsAndInput};

/// What the machine says of itself when a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Where `/sys` is.
    pub sysfs_root: PathBuf,
    /// Where `/proc` is.
    pub proc_root: PathBuf,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { sysfs_root: PathBuf::from("/sys"), proc_root: PathBuf::from("/proc") }
    }
}

/// Looks at what surrounds a run.
pub trait Probe {
    /// Notes what changes during a run, and gives what it sees; called in windows and behind the end of each. `busy` says
    /// whether the device works while it is looked at: one that has just become idle no longer shows what held it back.
    fn look(&mut self, busy: bool) -> Condition;

    /// The surroundings at the beginning.
    fn environment(&self, weights_and_input: WeightsAndInput) -> Environment;

    /// The surroundings at the end, with what changed since the beginning, and what an earlier part of the run
    /// met.
    fn finish(&mut self, begin: &Environment, earlier: Option<&Environment>) -> Environment;
}

/// Looks at the machine during a run. Anything it cannot read stays unknown.
#[derive(Debug)]
pub struct SystemProbe {
    at: Surroundings,
    busy_at_start: Option<(f64, f64)>,
    own_at_start: f64,
    throttled_at_start: Option<u64>,
    temperature: Option<[f64; 2]>,
}

impl SystemProbe {
    /// Begins to look.
    pub fn start(at: Surroundings) -> Self {
        let mut probe = Self {
            busy_at_start: machine_time(&at.proc_root),
            own_at_start: own_time(),
            throttled_at_start: throttle_count(&at.sysfs_root),
            temperature: None,
            at,
        };
        probe.look(false);
        probe
    }

    /// Processor time of other processes as a share of all processor time since the start.
    pub(super) fn other_processes(&self) -> Option<f64> {
        let (busy_then, all_then) = self.busy_at_start?;
        let (busy, all) = machine_time(&self.at.proc_root)?;
        let passed = all - all_then;
        (passed > 0.0).then(|| ((busy - busy_then) - (own_time() - self.own_at_start)) / passed)
    }
}

impl Probe for SystemProbe {
    fn look(&mut self, _busy: bool) -> Condition {
        let celsius = temperature(&self.at.sysfs_root);
        if let Some(now) = celsius {
            let [low, high] = self.temperature.unwrap_or([now, now]);
            self.temperature = Some([low.min(now), high.max(now)]);
        }
        Condition { celsius, ..Condition::default() }
    }

    fn environment(&self, weights_and_input: WeightsAndInput) -> Environment {
        let cpuinfo = read(&self.at.proc_root.join("cpuinfo")).unwrap_or_default();
        Environment {
            host_cpu: field(&cpuinfo, "model name"),
            host_threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: kernel(),
            clocks_mhz: field(&cpuinfo, "cpu MHz").and_then(|mhz| mhz.parse().ok()).into_iter().collect(),
            power_limit_w: power_limit(&self.at.sysfs_root),
            temperature_c: self.temperature,
            throttle_reasons: Vec::new(),
            other_processes: None,
            device_processes: None,
            container: Host::read(&self.at.proc_root).around(),
            weights_and_input,
        }
    }

    fn finish(&mut self, begin: &Environment, earlier: Option<&Environment>) -> Environment {
        self.look(false);
        let mut end = self.environment(begin.weights_and_input.clone());
        end.clocks_mhz = begin.clocks_mhz.iter().chain(&end.clocks_mhz).copied().collect();
        end.other_processes = self.other_processes();
        let counts = self.throttled_at_start.zip(throttle_count(&self.at.sysfs_root));
        if counts.is_some_and(|(before, now)| now > before) {
            end.throttle_reasons.push("thermal".to_string());
        }
        if let Some(earlier) = earlier {
            merge_environments(&mut end, earlier);
        }
        end
    }
}

/// Adds what an earlier part of a run met: the worse of the two counts for the whole.
pub fn merge_environments(environment: &mut Environment, earlier: &Environment) {
    for reason in &earlier.throttle_reasons {
        if !environment.throttle_reasons.contains(reason) {
            environment.throttle_reasons.push(reason.clone());
        }
    }
    environment.other_processes = match (environment.other_processes, earlier.other_processes) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    };
    environment.device_processes = environment.device_processes.max(earlier.device_processes);
    environment.temperature_c = match (environment.temperature_c, earlier.temperature_c) {
        (Some([low, high]), Some([l, h])) => Some([low.min(l), high.max(h)]),
        (a, b) => a.or(b),
    };
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The first value of a `key : value` line.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_string())
    })
}

fn kernel() -> Option<String> {
    let name = rustix::system::uname();
    Some(format!("{} {}", name.sysname().to_str().ok()?, name.release().to_str().ok()?))
}

/// Busy and total processor time of the machine in seconds, from the first line of `/proc/stat`, which counts
/// hundredths of a second: user nice system idle iowait irq softirq steal (proc_stat(5)). The time that a
/// hypervisor took away counts as busy: it is somebody else's work on the same processor.
fn machine_time(proc_root: &Path) -> Option<(f64, f64)> {
    let text = read(&proc_root.join("stat"))?;
    let ticks: Vec<f64> =
        text.lines().next()?.split_whitespace().skip(1).take(8).filter_map(|t| t.parse().ok()).collect();
    if ticks.len() < 8 {
        return None;
    }
    let all: f64 = ticks.iter().sum();
    Some(((all - ticks[3] - ticks[4]) / 100.0, all / 100.0))
}

fn own_time() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 * 1e-9
}

fn throttle_count(sysfs_root: &Path) -> Option<u64> {
    let path = "devices/system/cpu/cpu0/thermal_throttle/package_throttle_count";
    read(&sysfs_root.join(path))?.trim().parse().ok()
}

/// Temperature of the processor package in degrees Celsius.
fn temperature(sysfs_root: &Path) -> Option<f64> {
    let zones = std::fs::read_dir(sysfs_root.join("class/thermal")).ok()?;
    zones.filter_map(Result::ok).find_map(|zone| {
        let kind = read(&zone.path().join("type"))?;
        let millidegrees: f64 = read(&zone.path().join("temp"))?.trim().parse().ok()?;
        (kind.trim() == "x86_pkg_temp").then_some(millidegrees / 1000.0)
    })
}

/// The long-term power limit of the first package, in watts.
fn power_limit(sysfs_root: &Path) -> Option<f64> {
    let path = "class/powercap/intel-rapl:0/constraint_0_power_limit_uw";
    let microwatts: f64 = read(&sysfs_root.join(path))?.trim().parse().ok()?;
    Some(microwatts * 1e-6)
}
