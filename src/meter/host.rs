//! Where this program runs, as far as it decides what mends a meter.

use std::path::{Path, PathBuf};

use super::cpu_identity::CpuIdentity;

/// The surroundings of this process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Whether the processor says that it is virtual.
    pub virtual_machine: bool,
    /// The container around the process, if it shows: `docker`, `podman`, `kubepods` or `lxc`.
    pub container: Option<String>,
    /// Whether the process runs as root.
    pub root: bool,
    /// `kernel.perf_event_paranoid`, where it can be read.
    pub perf_event_paranoid: Option<i32>,
    /// This program's file.
    pub executable: Option<PathBuf>,
}

impl Host {
    /// Looks at the machine whose `/proc` is `proc_root`.
    pub fn read(proc_root: &Path) -> Self {
        let text = |name: &str| std::fs::read_to_string(proc_root.join(name)).unwrap_or_default();
        Self {
            virtual_machine: CpuIdentity::from_cpuinfo(&text("cpuinfo")).hypervisor,
            container: container(&text("1/cgroup")),
            root: runs_as_root(&text("self/status")),
            perf_event_paranoid: text("sys/kernel/perf_event_paranoid").trim().parse().ok(),
            executable: std::env::current_exe().ok(),
        }
    }

    /// The container or virtual machine, in words.
    pub fn around(&self) -> Option<String> {
        self.container.clone().or_else(|| self.virtual_machine.then(|| "virtual machine".to_string()))
    }
}

/// The effective user is the second number of `Uid:` (proc_pid_status(5)).
fn runs_as_root(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    line.split_whitespace().nth(1) == Some("0")
}

fn container(cgroup: &str) -> Option<String> {
    if Path::new("/.dockerenv").exists() {
        return Some("docker".to_string());
    }
    if Path::new("/run/.containerenv").exists() {
        return Some("podman".to_string());
    }
    ["kubepods", "docker", "lxc"].into_iter().find(|name| cgroup.contains(name)).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_by_its_effective_number() {
        assert!(runs_as_root("Name:\tx\nUid:\t1000\t0\t0\t0\n"));
        assert!(!runs_as_root("Name:\tx\nUid:\t0\t1000\t0\t0\n"));
        assert!(!runs_as_root(""));
    }
}
