//! Why a meter does not work here, and what mends that.

use std::fmt;
use std::path::PathBuf;

use super::host::Host;

/// What stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The kernel shows no powercap zones of RAPL.
    NoPowercap,
    /// The kernel has no perf PMU for energy.
    NoPerfPmu,
    /// No chip that measures power.
    NoSensor,
    /// This file may not be read.
    FileDenied(PathBuf),
    /// perf may not open events of the whole machine.
    PerfDenied,
    /// The files are not those of this machine, so that nothing can be opened.
    OtherRoot,
    /// NVIDIA's management library is not installed, or another file has its name.
    NoNvml,
    /// The library finds no driver, or one of another version.
    NvidiaDriver,
    /// The driver does not let this user at the GPU.
    NvmlDenied,
    /// There is no such GPU.
    NoGpu,
    /// The GPU no longer answers.
    GpuLost,
    /// This GPU or its driver does not have the reading.
    NotOnThisGpu,
    /// MIG splits the GPU, whose sensors see the whole of it.
    Mig,
    /// The counter depends on how often it is read.
    ReadRate,
    /// The user has to choose one of these meters.
    Ambiguous(Vec<String>),
    /// The kernel or the sensor does not do what it should; nothing here mends that.
    Broken,
}

/// Why a meter does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What stands in the way.
    pub cause: Cause,
    /// What was tried and found, with the file.
    pub text: String,
}

impl Refusal {
    pub(super) fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self { cause, text: text.into() }
    }
}

/// One line: what was found, and the first thing to try.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.cause {
            Cause::NoPowercap => f.write_str(
                "; on bare metal load the driver with `sudo modprobe intel_rapl_msr`. Virtual machines and \
                 containers usually have no RAPL",
            ),
            Cause::FileDenied(path) => write!(f, "; allow it with `sudo chmod a+r {}`", path.display()),
            Cause::PerfDenied => f.write_str("; allow it with `sudo sysctl kernel.perf_event_paranoid=0`"),
            Cause::Ambiguous(ids) => write!(f, "; name one with --meter: {}", ids.join(" or ")),
            Cause::NvidiaDriver => f.write_str("; load the driver with `sudo modprobe nvidia`"),
            Cause::ReadRate => f.write_str("; measure with --meter nvml-instant"),
            Cause::GpuLost => f.write_str("; it has to be reset, or the machine restarted"),
            Cause::NoPerfPmu
            | Cause::NoSensor
            | Cause::OtherRoot
            | Cause::NoNvml
            | Cause::NvmlDenied
            | Cause::NoGpu
            | Cause::NotOnThisGpu
            | Cause::Mig
            | Cause::Broken => Ok(()),
        }
    }
}

/// Something that may mend a meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend {
    /// The exact command, if one mends it.
    pub command: Option<String>,
    /// What it does and for how long; or why nothing helps.
    pub effect: String,
}

fn command(command: impl Into<String>, effect: &str) -> Mend {
    Mend { command: Some(command.into()), effect: effect.to_string() }
}

fn nothing(why: &str) -> Mend {
    Mend { command: None, effect: why.to_string() }
}

/// What mends a refusal on this host, simplest first.
pub fn mends(cause: &Cause, host: &Host) -> Vec<Mend> {
    match cause {
        Cause::NoPowercap | Cause::NoPerfPmu if host.virtual_machine => vec![nothing(
            "this is a virtual machine, and its hypervisor hides the energy counters: nothing in here mends \
             that. Measure on the host or on bare metal",
        )],
        Cause::NoPowercap => no_powercap(host),
        Cause::NoPerfPmu => vec![command(
            "sudo modprobe rapl",
            "loads perf's energy events until the next boot, where they are a module (on the host, if this is \
             a container)",
        )],
        Cause::NoSensor => vec![nothing(
            "laptops and desktops usually have none; Jetson boards show theirs by the driver ina3221, servers \
             by acpi_power_meter",
        )],
        Cause::FileDenied(path) => file_denied(path, host),
        Cause::PerfDenied => perf_denied(host),
        Cause::OtherRoot => vec![nothing("leave out --sysfs-root to open the events of this machine")],
        Cause::NoNvml | Cause::NvmlDenied if host.container.is_some() => vec![gpus_of_a_container(host)],
        Cause::NoNvml => vec![nothing(
            "the library comes with NVIDIA's driver: install that, or give its place with --nvml-lib FILE. Without \
             an NVIDIA GPU there is nothing to mend",
        )],
        Cause::NvidiaDriver => vec![
            command("sudo modprobe nvidia", "loads the driver until the next boot"),
            nothing(
                "after an update of the driver, restart the machine: library and module must be of one version",
            ),
        ],
        Cause::NvmlDenied => vec![command(
            "ls -l /dev/nvidia*",
            "shows who may use the GPU; all users may, unless the driver's option NVreg_DeviceFileMode says otherwise",
        )],
        Cause::NoGpu => vec![command("nvidia-smi -L", "lists the GPUs with their numbers and UUIDs")],
        Cause::GpuLost => vec![
            command("sudo dmesg | grep -i xid", "shows what the driver noted when the GPU was lost"),
            command(
                "sudo nvidia-smi --gpu-reset",
                "resets it, when nobody uses it; otherwise restart the machine",
            ),
        ],
        Cause::NotOnThisGpu => vec![nothing(
            "the energy counter came with Volta, the power readings with driver 530, the average with Ampere (not \
             GA100): take another meter, or a newer driver",
        )],
        Cause::Mig => vec![command(
            "sudo nvidia-smi -mig 0",
            "stops splitting all GPUs, when nobody uses them; -i N for one",
        )],
        Cause::ReadRate => vec![command(
            "layerjoule profile --meter nvml-instant NETWORK",
            "adds up power readings instead, which do not depend on how often they are read",
        )],
        Cause::Ambiguous(ids) => ids
            .iter()
            .map(|id| command(format!("layerjoule profile --meter {id} NETWORK"), "measures with this one"))
            .collect(),
        Cause::Broken => Vec::new(),
    }
}

/// A container sees GPUs and their library only when it is started with them (NVIDIA Container Toolkit).
fn gpus_of_a_container(host: &Host) -> Mend {
    match host.container.as_deref() {
        Some("podman") => command(
            "podman run --device nvidia.com/gpu=all ...",
            "starts the container with the host's GPUs and their library (NVIDIA Container Toolkit)",
        ),
        Some("kubepods") => nothing(
            "ask for a GPU in the pod's resources: `limits: { nvidia.com/gpu: 1 }`. Without an NVIDIA GPU there is \
             nothing to mend",
        ),
        _ => command(
            "docker run --gpus all ...",
            "starts the container with the host's GPUs and their library (NVIDIA Container Toolkit); without an \
             NVIDIA GPU there is nothing to mend",
        ),
    }
}

/// Container engines hide the zones since October 2023 (advisory GHSA-jq35-85cj-fj4p of Docker): a volume of
/// `/sys/class/powercap` holds links into the hidden folder and does not help.
fn no_powercap(host: &Host) -> Vec<Mend> {
    let load = command(
        "sudo modprobe intel_rapl_msr",
        "loads the driver until the next boot, for Intel and for AMD since Linux 5.11 (on the host, if this is \
         a container)",
    );
    let engine = match host.container.as_deref() {
        None => return vec![load],
        Some("podman") => command(
            "podman run --security-opt unmask=/sys/devices/virtual/powercap ...",
            "starts the container with the host's energy counters visible",
        ),
        Some("kubepods") => nothing(
            "give the pod's container `securityContext: { privileged: true }`, so that it sees the host's /sys",
        ),
        Some(_) => command(
            "docker run --security-opt systempaths=unconfined ...",
            "starts the container with the host's /sys as it is; -v /sys/class/powercap alone does not help, \
             because it holds links into a folder that stays hidden",
        ),
    };
    vec![engine, load]
}

fn file_denied(path: &std::path::Path, host: &Host) -> Vec<Mend> {
    let is_powercap = path.to_string_lossy().contains("/powercap/");
    if !is_powercap {
        return vec![command(format!("sudo chmod a+r {}", path.display()), "opens it until the next boot")];
    }
    let mut mends = vec![
        command(
            "sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj",
            "opens the counters to all users until the next boot. Energy readings can leak secrets to other \
             users (CVE-2020-8694): do it on machines of your own",
        ),
        command(
            "echo 'SUBSYSTEM==\"powercap\", ACTION==\"add\", KERNEL==\"intel-rapl*:*\", \
             RUN+=\"/bin/chmod a+r /sys%p/energy_uj\"' | sudo tee /etc/udev/rules.d/99-rapl.rules && \
             sudo udevadm control --reload && sudo udevadm trigger -c add -s powercap",
            "opens them for good",
        ),
    ];
    if host.container.is_some() {
        mends.push(nothing(
            "in a container, do this on the host; root of a container is not root of the host",
        ));
    }
    mends
}

/// Linux asks for CAP_PERFMON (since 5.8) or a level of at most 0 to count on a whole CPU
/// (Documentation/admin-guide/perf-security.rst).
fn perf_denied(host: &Host) -> Vec<Mend> {
    if host.container.is_some() {
        let engine = if host.container.as_deref() == Some("podman") { "podman" } else { "docker" };
        return vec![
            command(
                format!("{engine} run --cap-add PERFMON ..."),
                "starts the container with the right to count on whole processors",
            ),
            command(
                "sudo sysctl kernel.perf_event_paranoid=0",
                "on the host: for all users until the next boot",
            ),
        ];
    }
    let program = host.executable.as_ref().map_or("layerjoule".into(), |path| path.to_string_lossy());
    vec![
        command(
            format!("sudo setcap cap_perfmon=ep {program}"),
            "lets this program count on whole processors, until the file is replaced (Linux 5.8)",
        ),
        command(
            "sudo sysctl kernel.perf_event_paranoid=0",
            &format!(
                "lets all users do so until the next boot{}",
                host.perf_event_paranoid.map_or(String::new(), |level| format!("; it is {level} now"))
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(cause: &Cause, host: &Host) -> Vec<String> {
        mends(cause, host).into_iter().filter_map(|m| m.command).collect()
    }

    #[test]
    fn a_user_on_bare_metal_gets_chmod_first_and_a_rule_that_lasts() {
        let energy = PathBuf::from("/sys/class/powercap/intel-rapl:0/energy_uj");
        let found = commands(&Cause::FileDenied(energy), &Host::default());
        assert_eq!(found[0], "sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj");
        assert!(found[1].contains("/etc/udev/rules.d/") && found[1].contains("SUBSYSTEM==\"powercap\""));
    }

    #[test]
    fn perf_is_mended_for_this_program_before_it_is_for_all() {
        let host = Host {
            executable: Some(PathBuf::from("/opt/layerjoule")),
            perf_event_paranoid: Some(2),
            ..Host::default()
        };
        let found = commands(&Cause::PerfDenied, &host);
        assert_eq!(
            found,
            ["sudo setcap cap_perfmon=ep /opt/layerjoule", "sudo sysctl kernel.perf_event_paranoid=0"]
        );
        assert!(mends(&Cause::PerfDenied, &host)[1].effect.contains("it is 2 now"));
    }

    #[test]
    fn a_container_gets_its_engines_flags() {
        let host = |name: &str| Host { container: Some(name.to_string()), ..Host::default() };
        assert_eq!(commands(&Cause::PerfDenied, &host("docker"))[0], "docker run --cap-add PERFMON ...");
        assert_eq!(
            commands(&Cause::NoPowercap, &host("docker"))[0],
            "docker run --security-opt systempaths=unconfined ..."
        );
        assert!(
            commands(&Cause::NoPowercap, &host("podman"))[0].contains("unmask=/sys/devices/virtual/powercap")
        );
    }

    #[test]
    fn a_container_without_its_gpus_is_started_with_them() {
        let host = |name: &str| Host { container: Some(name.to_string()), ..Host::default() };
        assert_eq!(commands(&Cause::NoNvml, &host("docker")), ["docker run --gpus all ..."]);
        assert_eq!(
            commands(&Cause::NvmlDenied, &host("podman")),
            ["podman run --device nvidia.com/gpu=all ..."]
        );
        assert_eq!(commands(&Cause::NoNvml, &Host::default()), [""; 0]);
    }

    #[test]
    fn nothing_is_promised_in_a_virtual_machine() {
        let host = Host { virtual_machine: true, container: Some("docker".to_string()), ..Host::default() };
        for cause in [Cause::NoPowercap, Cause::NoPerfPmu] {
            assert!(commands(&cause, &host).is_empty());
            assert!(mends(&cause, &host)[0].effect.contains("virtual machine"));
        }
    }
}
