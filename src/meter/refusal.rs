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
            Cause::NoPerfPmu | Cause::NoSensor | Cause::OtherRoot | Cause::Broken => Ok(()),
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
        Cause::Ambiguous(ids) => ids
            .iter()
            .map(|id| command(format!("layerjoule profile --meter {id} NETWORK"), "measures with this one"))
            .collect(),
        Cause::Broken => Vec::new(),
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
    fn nothing_is_promised_in_a_virtual_machine() {
        let host = Host { virtual_machine: true, container: Some("docker".to_string()), ..Host::default() };
        for cause in [Cause::NoPowercap, Cause::NoPerfPmu] {
            assert!(commands(&cause, &host).is_empty());
            assert!(mends(&cause, &host)[0].effect.contains("virtual machine"));
        }
    }
}
