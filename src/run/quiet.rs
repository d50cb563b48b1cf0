//! Whether the machine is quiet enough to measure: what else runs, and what moves the clock.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::clock::Clock;
use crate::units::Seconds;

use super::environment::{Surroundings, SystemProbe};

/// How long other processes are watched.
const WATCHED: Seconds = Seconds::new(0.5);
/// Most processes named.
const NAMED: usize = 5;
/// Share of one processor above which a process is named: five of the hundredths of a second that Linux counts in.
const HEAVY: f64 = 0.1;
/// Share of all processor time above which a run is called disturbed, as in a report.
const DISTURBED: f64 = 0.05;
/// Runnable threads for each processor above which the last minute was not quiet.
const LOADED: f64 = 0.1;

/// A process that works while we would like to measure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, as Linux cuts it.
    pub name: String,
    /// Processors that it kept busy.
    pub cpus: f64,
}

/// What the machine does besides measuring. What it does not show is none.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Quietness {
    /// Mean number of runnable threads over the last minute.
    pub load_average: Option<f64>,
    /// Logical processors.
    pub processors: usize,
    /// Processor time of other processes as a share of the machine, over half a second.
    pub other_processes: Option<f64>,
    /// The busiest other processes that can be seen, over the same time.
    pub busiest: Vec<Process>,
    /// The governor of each frequency policy.
    pub governors: BTreeMap<String, String>,
    /// Whether the clock may rise above its nominal rate.
    pub turbo: Option<bool>,
    /// The file that switches it, and what to write there to switch it off.
    #[serde(skip)]
    turbo_off: Option<(String, &'static str)>,
}

/// Something that disturbs a measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was found.
    pub what: String,
    /// What it means for the numbers.
    pub means: &'static str,
    /// The command that mends it.
    pub command: Option<String>,
}

impl Quietness {
    /// Watches the machine for half a second. This process does not count.
    pub fn watch(at: &Surroundings, clock: &dyn Clock) -> Self {
        let probe = SystemProbe::start(at.clone());
        let before = processes(&at.proc_root);
        let start = clock.now();
        clock.sleep_until(start + WATCHED);
        let elapsed = clock.now() - start;
        let busiest = busiest(&before, &processes(&at.proc_root), elapsed, std::process::id());
        let loadavg = std::fs::read_to_string(at.proc_root.join("loadavg")).unwrap_or_default();
        let (turbo, turbo_off) = turbo(&at.sysfs_root);
        Self {
            load_average: loadavg.split_whitespace().next().and_then(|load| load.parse().ok()),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            other_processes: probe.other_processes(),
            busiest,
            governors: governors(&at.sysfs_root),
            turbo,
            turbo_off,
        }
    }

    /// What disturbs, the worst first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.busiest.iter().map(heavy).collect();
        if let Some(share) = self.other_processes.filter(|&share| share > DISTURBED) {
            findings.push(Finding {
                what: format!("others use {:.0} % of all processor time", share * 100.0),
                means: "a package counter counts their energy too; above 5 % a run is called disturbed. With \
                        nothing named above they run outside this container or virtual machine",
                command: None,
            });
        }
        let most = LOADED * self.processors as f64;
        if let Some(load) = self.load_average.filter(|&load| load > most) {
            findings.push(Finding {
                what: format!("load average {load:.2} on {} processors", self.processors),
                means: "something has run in the last minute; caches, clock and temperature may still show it. \
                        Wait until it is quiet",
                command: None,
            });
        }
        let moving = self.governors.values().find(|governor| *governor != "performance");
        if let Some(governor) = moving {
            findings.push(Finding {
                what: format!("governor {governor}"),
                means: "the clock follows the load, so a layer's time and energy depend on what ran before it",
                command: Some(
                    "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
                        .to_string(),
                ),
            });
        }
        if let Some((file, off)) = self.turbo_off.as_ref().filter(|_| self.turbo == Some(true)) {
            findings.push(Finding {
                what: "turbo is on".to_string(),
                means: "the clock depends on temperature and on how many cores work, so runs differ; off, they \
                        compare better and are slower",
                command: Some(format!("echo {off} | sudo tee {file}")),
            });
        }
        findings
    }
}

fn heavy(process: &Process) -> Finding {
    let Process { pid, name, cpus } = process;
    Finding {
        what: format!("{name} (process {pid}) keeps {cpus:.2} processors busy"),
        means: "a package counter counts its energy too, and it takes caches and turns from the network. The \
                command pauses it; kill -CONT lets it go on",
        command: Some(format!("kill -STOP {pid}")),
    }
}

/// What is known of a process at one time.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    name: String,
    /// When it started; tells two processes of one number apart.
    started: u64,
    /// Processor time used, in seconds.
    used: f64,
}

/// All processes that `/proc` shows.
fn processes(proc_root: &Path) -> BTreeMap<u32, Seen> {
    let Ok(entries) = std::fs::read_dir(proc_root) else { return BTreeMap::new() };
    let process = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        // Process names need not be UTF-8.
        let stat = std::fs::read(entry.path().join("stat")).ok()?;
        Some((pid, seen(&String::from_utf8_lossy(&stat))?))
    };
    entries.filter_map(process).collect()
}

/// Name, start and used time from `/proc/PID/stat`: the name stands in parentheses and may hold any character;
/// utime and stime are the 14th and 15th field, starttime the 22nd, in hundredths of a second (proc_pid_stat(5)).
fn seen(stat: &str) -> Option<Seen> {
    let (open, close) = (stat.find('(')?, stat.rfind(')')?);
    let name = stat.get(open + 1..close)?.to_string();
    let fields: Vec<&str> = stat.get(close + 1..)?.split_whitespace().collect();
    let ticks = |field: usize| -> Option<u64> { fields.get(field - 3)?.parse().ok() };
    Some(Seen { name, started: ticks(22)?, used: (ticks(14)? + ticks(15)?) as f64 / 100.0 })
}

/// The processes that used most time between two looks.
fn busiest(
    before: &BTreeMap<u32, Seen>,
    after: &BTreeMap<u32, Seen>,
    elapsed: Seconds,
    own: u32,
) -> Vec<Process> {
    let process = |(&pid, now): (&u32, &Seen)| {
        let then = before.get(&pid).filter(|then| then.started == now.started)?;
        let cpus = (now.used - then.used) / elapsed.value();
        (pid != own && cpus >= HEAVY).then(|| Process { pid, name: now.name.clone(), cpus })
    };
    let mut processes: Vec<Process> = after.iter().filter_map(process).collect();
    processes.sort_by(|a, b| b.cpus.total_cmp(&a.cpus));
    processes.truncate(NAMED);
    processes
}

/// The governor of each policy under `devices/system/cpu/cpufreq`.
fn governors(sysfs_root: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(sysfs_root.join("devices/system/cpu/cpufreq")) else {
        return BTreeMap::new();
    };
    let governor = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let policy = entry.file_name().into_string().ok().filter(|name| name.starts_with("policy"))?;
        let governor = std::fs::read_to_string(entry.path().join("scaling_governor")).ok()?;
        Some((policy, governor.trim().to_string()))
    };
    entries.filter_map(governor).collect()
}

/// Whether turbo is on, and how to switch it off: `intel_pstate/no_turbo`, or `cpufreq/boost` of other drivers
/// (Linux, Documentation/admin-guide/pm/intel_pstate.rst and cpufreq.rst).
fn turbo(sysfs_root: &Path) -> (Option<bool>, Option<(String, &'static str)>) {
    let cpu = Path::new("devices/system/cpu");
    for (file, off) in [("intel_pstate/no_turbo", "1"), ("cpufreq/boost", "0")] {
        let path = cpu.join(file);
        let Ok(text) = std::fs::read_to_string(sysfs_root.join(&path)) else { continue };
        if matches!(text.trim(), "0" | "1") {
            return (Some(text.trim() != off), Some((format!("/sys/{}", path.display()), off)));
        }
    }
    (None, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: u32, name: &str, user: u64, system: u64, started: u64) -> String {
        format!(
            "{pid} ({name}) S 1 1 1 0 -1 4194560 10 0 0 0 {user} {system} 0 0 20 0 1 0 {started} 1000 10 0\n"
        )
    }

    #[test]
    fn names_with_parentheses_and_spaces_do_not_shift_the_fields() {
        let found = seen(&stat(7, "a) b (c", 150, 50, 99)).unwrap();
        assert_eq!(found, Seen { name: "a) b (c".to_string(), started: 99, used: 2.0 });
        assert_eq!(seen("7 (cut"), None);
        assert_eq!(seen("7 (short) S 1"), None);
    }

    #[test]
    fn the_busiest_come_first_and_this_process_and_reused_numbers_do_not_count() {
        let map = |rows: &[(u32, u64, u64)]| -> BTreeMap<u32, Seen> {
            rows.iter()
                .map(|&(pid, user, start)| (pid, seen(&stat(pid, "p", user, 0, start)).unwrap()))
                .collect()
        };
        let before = map(&[(1, 0, 1), (2, 100, 1), (3, 0, 1), (4, 0, 1), (5, 0, 1)]);
        // In half a second: 0.2 s, 0.5 s, 0.02 s, a new process of an old number, and our own.
        let after = map(&[(1, 20, 1), (2, 150, 1), (3, 2, 1), (4, 50, 9), (5, 50, 1)]);
        let found = busiest(&before, &after, Seconds::new(0.5), 5);
        let found: Vec<(u32, f64)> = found.iter().map(|p| (p.pid, p.cpus)).collect();
        assert_eq!(found, [(2, 1.0), (1, 0.4)]);
    }

    #[test]
    fn governor_and_turbo_are_found_with_the_command_that_steadies_them() {
        let dir = tempfile::tempdir().unwrap();
        let cpu = dir.path().join("devices/system/cpu");
        std::fs::create_dir_all(cpu.join("cpufreq/policy0")).unwrap();
        std::fs::write(cpu.join("cpufreq/policy0/scaling_governor"), "powersave\n").unwrap();
        std::fs::write(cpu.join("cpufreq/boost"), "1\n").unwrap();
        let (on, turbo_off) = turbo(dir.path());
        let quiet = Quietness {
            processors: 4,
            load_average: Some(0.3),
            governors: governors(dir.path()),
            turbo: on,
            turbo_off,
            ..Quietness::default()
        };
        let found: Vec<(String, String)> =
            quiet.findings().into_iter().map(|f| (f.what, f.command.unwrap_or_default())).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].0, "governor powersave");
        assert!(found[0].1.contains("policy*/scaling_governor"));
        assert_eq!(found[1].0, "turbo is on");
        assert_eq!(found[1].1, "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost");
        // Intel's switch has the opposite sense and comes first.
        std::fs::create_dir_all(cpu.join("intel_pstate")).unwrap();
        std::fs::write(cpu.join("intel_pstate/no_turbo"), "1\n").unwrap();
        assert_eq!(turbo(dir.path()).0, Some(false));
    }

    #[test]
    fn a_quiet_machine_has_no_findings() {
        let quiet = Quietness {
            load_average: Some(0.05),
            processors: 2,
            other_processes: Some(0.01),
            turbo: Some(false),
            governors: [("policy0".to_string(), "performance".to_string())].into(),
            ..Quietness::default()
        };
        assert_eq!(quiet.findings(), []);
    }
}
