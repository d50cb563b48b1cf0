//! RAPL through perf: the PMUs `power` and, on AMD, `power_core`.
//!
//! Type, event code, scale and unit come from `bus/event_source/devices/PMU` and differ from machine to machine.
//! An event counts on one CPU of each package or die (`cpumask`), for the whole machine, in 64 bits: the kernel
//! undoes the wraps of the 32-bit registers (Linux, arch/x86/events/rapl.c).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use perf_event::events::Dynamic;
use perf_event::{Builder, Counter};

use crate::clock::Instant;
use crate::trace::MeterKind;
use crate::units::Joules;

use super::counter::WrappingCounter;
use super::interface::{Meter, MeterCandidate, ReadError, record};
use super::node::{text, worse};
use super::rapl::Domain;
use super::refusal::{Cause, Refusal};

/// Command-line name of the package meter; other domains append theirs: `rapl-perf:dram`.
pub const PERF_ID: &str = "rapl-perf";

/// The PMUs that count energy.
const PMUS: [&str; 2] = ["power", "power_core"];

/// The root whose files describe the running kernel.
const OWN_ROOT: &str = "/sys";

/// The perf meters under a sysfs root, one for each domain found.
///
/// The package meter is always listed, so that the reason for its absence can be shown. Under another root than
/// `/sys` the files are parsed and no event is opened.
pub fn perf_meters(sysfs_root: &Path) -> Vec<MeterCandidate> {
    let devices = sysfs_root.join("bus/event_source/devices");
    let mut found: BTreeMap<Domain, Result<EnergyEvent, String>> = BTreeMap::new();
    for pmu in PMUS {
        for (domain, event) in energy_events(&devices.join(pmu)) {
            found.entry(domain).or_insert(event);
        }
    }
    let mut candidates = Vec::new();
    if !found.contains_key(&Domain::Package) {
        let at = devices.join(PMUS[0]);
        let text = match text(&at.join("type")) {
            Ok(_) => format!("{} has no event energy-pkg", at.display()),
            Err(error) => error,
        };
        let scope = Domain::Package.scope(1);
        candidates.push(MeterCandidate::unavailable(
            PERF_ID,
            &scope,
            MeterKind::Counter,
            Refusal::new(Cause::NoPerfPmu, text),
        ));
    }
    for (domain, event) in found {
        let event = event.map(|event| event.of_packages(domain, sysfs_root));
        candidates.push(candidate(domain, event, sysfs_root == Path::new(OWN_ROOT)));
    }
    candidates
}

fn candidate(domain: Domain, event: Result<EnergyEvent, String>, own: bool) -> MeterCandidate {
    let scope = domain.scope(event.as_ref().map_or(1, |event| event.cpus.len()));
    let id = domain.id(PERF_ID);
    let opened = match event {
        Err(text) => Err(Refusal::new(Cause::Broken, text)),
        Ok(event) if own => event.open().map(|meter| (event.scale, meter)),
        Ok(event) => Err(Refusal::new(Cause::OtherRoot, event.unopened())),
    };
    match opened {
        Err(refusal) => MeterCandidate::unavailable(&id, &scope, MeterKind::Counter, refusal),
        Ok((scale, meter)) => {
            let mut candidate =
                MeterCandidate::working(record(&id, &scope, MeterKind::Counter), Box::new(meter));
            candidate.resolution = Some(scale);
            candidate
        }
    }
}

/// An event that counts energy, as sysfs describes it.
#[derive(Debug, Clone, PartialEq)]
struct EnergyEvent {
    pmu: PathBuf,
    name: String,
    /// The CPUs to count on.
    cpus: Vec<usize>,
    /// Energy of one count.
    scale: Joules,
}

/// The energy events of a PMU by domain; one whose files are wrong has the reason in its place.
fn energy_events(pmu: &Path) -> Vec<(Domain, Result<EnergyEvent, String>)> {
    let Ok(entries) = std::fs::read_dir(pmu.join("events")) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    let event = |name: &String| Some((Domain::of_event(name)?, describe(pmu, name)));
    names.iter().filter_map(event).collect()
}

fn describe(pmu: &Path, name: &str) -> Result<EnergyEvent, String> {
    let events = pmu.join("events");
    let scale_path = events.join(format!("{name}.scale"));
    let scale = text(&scale_path)?;
    let joules = scale.parse().ok().filter(|s: &f64| s.is_finite() && *s > 0.0).ok_or_else(|| {
        format!("{}: expected joules of one count, found \"{}\"", scale_path.display(), scale.escape_debug())
    })?;
    let unit_path = events.join(format!("{name}.unit"));
    let unit = text(&unit_path)?;
    if unit != "Joules" {
        return Err(format!(
            "{}: expected \"Joules\", found \"{}\"",
            unit_path.display(),
            unit.escape_debug()
        ));
    }
    let mask_path = pmu.join("cpumask");
    let mask = text(&mask_path)?;
    let cpus = cpu_list(&mask).ok_or_else(|| {
        format!("{}: expected CPUs such as 0,28, found \"{}\"", mask_path.display(), mask.escape_debug())
    })?;
    check_formats(&pmu.join("format"))?;
    // Type and event code: parsed here, so that a wrong file is named although nothing is opened.
    dynamic_event(pmu, name).map_err(|error| format!("{}: {error}", events.join(name).display()))?;
    Ok(EnergyEvent { pmu: pmu.to_path_buf(), name: name.to_string(), cpus, scale: Joules::new(joules) })
}

/// The bits of a format must lie within 64: perf-event2 computes with them unchecked.
fn check_formats(folder: &Path) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let format = text(&path)?;
        let bits = format.split_once(':').map(|(_, bits)| bits.split_once('-').unwrap_or((bits, bits)));
        let number = |text: &str| text.parse::<u32>().ok().filter(|&bit| bit < 64);
        let fits = bits
            .is_some_and(|(low, high)| number(low).zip(number(high)).is_some_and(|(low, high)| low <= high));
        if !fits {
            return Err(format!(
                "{}: expected bits such as config:0-7, found \"{}\"",
                path.display(),
                format.escape_debug()
            ));
        }
    }
    Ok(())
}

/// The CPUs of a list such as `0,28` or `0-7`; none if it is empty or no such list.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    // More CPUs than Linux can have (CONFIG_NR_CPUS is at most 8192 on x86) is no list but damage.
    const MOST: usize = 8192;
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (usize, usize) = (low.parse().ok()?, high.parse().ok()?);
        if low > high || high >= MOST {
            return None;
        }
        cpus.extend(low..=high);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

fn dynamic_event(pmu: &Path, name: &str) -> std::io::Result<Dynamic> {
    let mut builder = Dynamic::builder(pmu)?;
    builder.event(name)?;
    builder.build().map_err(std::io::Error::other)
}

/// Starts counting an event on one CPU, for everything that runs there.
fn open_counter(pmu: &Path, name: &str, cpu: usize) -> std::io::Result<Counter> {
    let mut builder = Builder::new(dynamic_event(pmu, name)?);
    // perf-event2 leaves out kernel and hypervisor unless told; a PMU that cannot tell them apart refuses that.
    builder.include_kernel().include_hv().any_pid().one_cpu(cpu);
    let mut counter = builder.build()?;
    counter.enable()?;
    Ok(counter)
}

impl EnergyEvent {
    /// The counter of a package counted once.
    ///
    /// AMD counts energy by package, yet Linux 6.9 to 6.11 list a CPU of each die in `cpumask` (mended by "perf/x86/
    /// rapl: Fix the energy-pkg event for AMD CPUs"): of the CPUs of one package only the first counts. Intel counts by
    /// die.
    fn of_packages(mut self, domain: Domain, sysfs_root: &Path) -> Self {
        if domain != Domain::Package || !is_amd() {
            return self;
        }
        let package = |cpu: usize| {
            let path = format!("devices/system/cpu/cpu{cpu}/topology/physical_package_id");
            text(&sysfs_root.join(path)).ok()
        };
        self.cpus = first_of_each(&self.cpus, package);
        self
    }

    fn open(&self) -> Result<PerfMeter, Refusal> {
        let count = |&cpu: &usize| {
            let place = format!("{}/{}/ on CPU {cpu}", self.pmu_name(), self.name);
            match open_counter(&self.pmu, &self.name, cpu) {
                Ok(counter) => Ok(Part::new(counter, place, self.scale)),
                Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                    Err(Refusal::new(Cause::PerfDenied, format!("{place}: {e}")))
                }
                Err(e) => Err(Refusal::new(Cause::Broken, format!("{place}: the kernel refused it: {e}"))),
            }
        };
        self.cpus.iter().map(count).collect::<Result<_, _>>().map(PerfMeter)
    }

    fn pmu_name(&self) -> std::borrow::Cow<'_, str> {
        self.pmu.file_name().unwrap_or_default().to_string_lossy()
    }

    fn unopened(&self) -> String {
        let cpus: Vec<String> = self.cpus.iter().map(usize::to_string).collect();
        format!(
            "{}/{}/ on CPU {} is described but not opened, because --sysfs-root is not {OWN_ROOT}",
            self.pmu_name(),
            self.name,
            cpus.join(", ")
        )
    }
}

/// Whether this machine's processor counts by package; the vendors of AMD's architecture.
fn is_amd() -> bool {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let vendor = super::CpuIdentity::from_cpuinfo(&cpuinfo).vendor;
    matches!(vendor.as_deref(), Some("AuthenticAMD" | "HygonGenuine"))
}

/// The first CPU of each package; one whose package is unknown stands for itself.
fn first_of_each(cpus: &[usize], package: impl Fn(usize) -> Option<String>) -> Vec<usize> {
    let mut seen = Vec::new();
    let first = |&cpu: &usize| match package(cpu) {
        Some(package) if seen.contains(&package) => false,
        Some(package) => {
            seen.push(package);
            true
        }
        None => true,
    };
    cpus.iter().copied().filter(first).collect()
}

/// One counter.
struct Part {
    counter: Counter,
    /// Its name in messages.
    place: String,
    energy: WrappingCounter,
    /// Nanoseconds for which the event was on but did not count.
    missed: u64,
}

impl Part {
    fn new(counter: Counter, place: String, scale: Joules) -> Self {
        Self { counter, place, energy: WrappingCounter::new(u64::MAX, scale), missed: 0 }
    }

    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let counted = self.counter.read_count_and_time();
        let counted = counted.map_err(|e| ReadError::Gone(format!("{}: {e}", self.place)))?;
        let missed = counted.time_enabled.saturating_sub(counted.time_running);
        let more = missed.saturating_sub(std::mem::replace(&mut self.missed, missed));
        let energy = self.energy.count(counted.count, now, &self.place);
        if more > 0 {
            let text = format!("{}: the kernel did not count for {:.3} ms", self.place, more as f64 * 1e-6);
            return Err(ReadError::Lost(text));
        }
        energy
    }
}

/// The counters of one domain, added up.
struct PerfMeter(Vec<Part>);

impl Meter for PerfMeter {
    /// Reads every counter even when one fails, so that no other loses its place.
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let mut sum = Ok(Joules::ZERO);
        for part in &mut self.0 {
            sum = worse(sum, part.read(now));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, MonotonicClock};
    use crate::units::Seconds;

    /// The time stamp counter beats evenly, at its processor's nominal clock.
    const SLOWEST: f64 = 0.5e9;
    const FASTEST: f64 = 10e9;
    /// Two rates of an even beat differ by the delay between reading clock and counter, well below a
    /// millisecond in a hundred.
    const EVEN: f64 = 0.01;

    #[test]
    fn the_time_stamp_counter_is_opened_and_counts_against_the_clock() {
        let msr = Path::new("/sys/bus/event_source/devices/msr");
        let part = open_counter(msr, "tsc", 0)
            .map(|counter| Part::new(counter, "msr/tsc/".to_string(), Joules::new(1e-9)));
        let mut part = match part {
            Ok(part) => part,
            Err(error) => {
                assert!(std::env::var("REQUIRE_MSR").as_deref() != Ok("1"), "msr/tsc/: {error}");
                println!("skipped: msr/tsc/ cannot be opened: {error}");
                return;
            }
        };
        let clock = MonotonicClock::start();
        let mut read = || {
            let before = clock.now();
            let count = part.counter.read().unwrap() as f64;
            (before, count)
        };
        let mut rate = |seconds: f64| {
            let (start, first) = read();
            clock.sleep_until(start + Seconds::new(seconds));
            let (end, last) = read();
            (last - first) / (end - start).value()
        };
        let (short, long) = (rate(0.1), rate(0.3));
        assert!((SLOWEST..FASTEST).contains(&short), "{short} counts a second");
        assert!((short / long - 1.0).abs() < EVEN, "{short} and {long} counts a second");
        // As a meter of a nanojoule a count it reads gigahertz as watts.
        let start = clock.now();
        let before = part.read(start).unwrap();
        clock.sleep_until(start + Seconds::new(0.1));
        let end = clock.now();
        let watts = (part.read(end).unwrap() - before) / (end - start);
        assert!((watts.value() / (long * 1e-9) - 1.0).abs() < EVEN, "{watts:?} against {long}");
    }

    #[test]
    fn lists_of_cpus_are_read_and_damaged_ones_refused() {
        assert_eq!(cpu_list("0,28"), Some(vec![0, 28]));
        assert_eq!(cpu_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        for damaged in ["", "0,", "a", "3-1", "0-99999999", "-"] {
            assert_eq!(cpu_list(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn dies_of_one_package_count_it_once() {
        let package = |cpu: usize| (cpu < 32).then(|| (cpu / 16).to_string());
        assert_eq!(first_of_each(&[0, 8, 16, 24, 40, 41], package), [0, 16, 40, 41]);
    }
}
