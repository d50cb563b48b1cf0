//! Power sensors that Linux shows under `class/hwmon` (Linux, Documentation/hwmon/sysfs-interface.rst): rails of
//! INA3221 chips, as on Jetson boards, ACPI power meters of servers, and chips with `powerN_input` or
//! `energyN_input`.
//!
//! Rails may contain each other, and nothing in these files says which do. So no rails are added: each is a
//! meter of its own, and `hwmon` is the one that is known to be the total, or else the CPU's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::clock::Instant;
use crate::trace::{Coverage, MeterKind};
use crate::units::{Joules, Seconds, Watts};

use super::interface::{Meter, MeterCandidate, Part, ReadError, record};
use super::node::{CountedFile, CountedFiles, read_number, text, try_number};
use super::power_integral::PowerIntegral;
use super::refusal::{Cause, Refusal};

/// Command-line name of the sensor that stands for the machine; each sensor is `hwmon:NAME`.
pub const HWMON_ID: &str = "hwmon";

/// Reading more often than this costs more than it tells: a transfer over I2C takes about a millisecond of the
/// processor that is measured.
const SHORTEST_PERIOD: Seconds = Seconds::new(0.05);

/// Taken for a chip that does not declare its period: drivers commonly keep a reading for a second (`HZ` jiffies).
const COMMON_PERIOD: Seconds = Seconds::new(1.0);

/// Channels of an INA3221, and the time of one conversion of bus and shunt voltage at the chip's fastest setting,
/// 140 us each (Linux, Documentation/hwmon/ina3221.rst, update_interval).
const INA3221_CHANNELS: usize = 3;
const INA3221_CONVERSION: Seconds = Seconds::new(2.0 * 140e-6);

/// What a sensor is known to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Everything: an ACPI power meter measures the server; VDD_IN is the total of a Jetson module
    /// (NVIDIA, forums.developer.nvidia.com/t/200883).
    Total,
    /// A processor socket, apart from all others (Linux 5.8, Documentation/hwmon/amd_energy.rst).
    Socket,
    /// A rail that names the CPU.
    Cpu,
    /// Unknown, or something else.
    Other,
}

/// Where the watts or joules come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// Millivolts and milliamperes.
    Rail { volts: PathBuf, amperes: PathBuf },
    /// Microwatts.
    Power(PathBuf),
    /// Microjoules since the driver was loaded, in 64 bits.
    Energy(PathBuf),
}

/// A sensor.
#[derive(Debug, Clone, PartialEq)]
struct Sensor {
    name: String,
    scope: String,
    role: Role,
    source: Source,
    /// Time between two values; none if the chip does not declare it.
    period: Option<Seconds>,
    /// Error that all its readings share, where the chip states it.
    accuracy: Option<f64>,
}

/// The hwmon meters under a sysfs root: the one that stands for the machine, then every sensor.
pub fn hwmon_meters(sysfs_root: &Path) -> Vec<MeterCandidate> {
    let class = sysfs_root.join("class/hwmon");
    let mut sensors = match find_sensors(&class) {
        Ok(sensors) => sensors,
        Err(e) => return vec![none(Refusal::new(Cause::NoSensor, format!("{}: {e}", class.display())))],
    };
    if sensors.is_empty() {
        let text = format!("{} has no chip that measures power", class.display());
        return vec![none(Refusal::new(Cause::NoSensor, text))];
    }
    make_names_unique(&mut sensors);
    let mut candidates = vec![standing_for_the_machine(&sensors)];
    candidates.extend(sensors.iter().map(|sensor| sensor.candidate(&sensor.id())));
    candidates
}

fn none(refusal: Refusal) -> MeterCandidate {
    MeterCandidate::unavailable(HWMON_ID, "power sensors of the board", MeterKind::Power, refusal)
}

/// The total if one is known, else the sockets, else the one CPU rail.
fn standing_for_the_machine(sensors: &[Sensor]) -> MeterCandidate {
    let of = |role: Role| -> Vec<&Sensor> { sensors.iter().filter(|s| s.role == role).collect() };
    let (totals, sockets, rails) = (of(Role::Total), of(Role::Socket), of(Role::Cpu));
    let others = sensors.len() - 1;
    let mut candidate = match (&totals[..], &sockets[..], &rails[..]) {
        ([total], ..) => total.candidate(HWMON_ID),
        ([], [_, ..], _) => return sum_of_sockets(&sockets),
        ([], [], [rail]) => rail.candidate(HWMON_ID),
        _ => {
            let among = if totals.len() > 1 { &totals } else { &rails };
            let among: Vec<&Sensor> = if among.is_empty() { sensors.iter().collect() } else { among.clone() };
            let ids: Vec<String> = among.iter().map(|s| s.id()).collect();
            let text = format!(
                "of {} power sensors none is known to be the machine's total or the one of its CPU, and rails may \
                 contain each other, so they are not added",
                sensors.len()
            );
            return none(Refusal::new(Cause::Ambiguous(ids), text));
        }
    };
    if candidate.meter.is_some() && others > 0 {
        let note = format!("{others} other sensors are not added, since rails may contain each other");
        let reason = candidate.record.reason.take();
        candidate.record.reason = Some(reason.map_or(note.clone(), |reason| format!("{reason}; {note}")));
    }
    candidate
}

fn sum_of_sockets(sockets: &[&Sensor]) -> MeterCandidate {
    let scope = match sockets.len() {
        1 => "CPU socket".to_string(),
        n => format!("CPU socket, sum of {n}"),
    };
    let files = sockets.iter().filter_map(|s| match &s.source {
        Source::Energy(path) => Some(CountedFile::open(path.clone(), u64::MAX)),
        Source::Rail { .. } | Source::Power(_) => None,
    });
    let mut candidate = match files.collect::<Result<Vec<_>, _>>() {
        Ok(files) => MeterCandidate::working(
            record(HWMON_ID, &scope, MeterKind::Counter),
            Box::new(CountedFiles(files)),
        ),
        Err(refusal) => MeterCandidate::unavailable(HWMON_ID, &scope, MeterKind::Counter, refusal),
    };
    candidate.part = Part::Cpu;
    candidate
}

impl Sensor {
    fn id(&self) -> String {
        format!("{HWMON_ID}:{}", self.name)
    }

    fn candidate(&self, id: &str) -> MeterCandidate {
        let kind = match self.source {
            Source::Energy(_) => MeterKind::Counter,
            Source::Rail { .. } | Source::Power(_) => MeterKind::Power,
        };
        let mut record = record(id, &self.scope, kind);
        record.systematic_relative = self.accuracy;
        let declared = self.period.unwrap_or(COMMON_PERIOD);
        let period = if declared < SHORTEST_PERIOD { SHORTEST_PERIOD } else { declared };
        let opened: Result<Box<dyn Meter>, Refusal> = match &self.source {
            Source::Energy(path) => CountedFile::open(path.clone(), u64::MAX)
                .map(|file| Box::new(CountedFiles(vec![file])) as Box<dyn Meter>),
            source => source.try_open().map(|()| {
                record.update_period_s = Some(period);
                record.coverage = (declared < SHORTEST_PERIOD).then_some(Coverage::PartTime);
                record.reason = Some(self.how(period));
                Box::new(PowerMeter { source: source.clone(), integral: PowerIntegral::new(period) })
                    as Box<dyn Meter>
            }),
        };
        let mut candidate = match opened {
            Ok(meter) => {
                let mut candidate = MeterCandidate::working(record, meter);
                if matches!(self.source, Source::Energy(_)) {
                    candidate.resolution = Some(Joules::from_microjoules(1.0));
                }
                candidate
            }
            Err(refusal) => MeterCandidate::unavailable(id, &self.scope, kind, refusal),
        };
        // What an unknown rail feeds is unknown, and nothing is said against it.
        candidate.part = match self.role {
            Role::Socket | Role::Cpu => Part::Cpu,
            Role::Total | Role::Other => Part::Machine,
        };
        candidate
    }

    /// How its joules come about.
    fn how(&self, period: Seconds) -> String {
        let declared = match self.period {
            Some(_) => "",
            None => ", taken because the chip does not declare its own",
        };
        format!("power readings every {:.3} s{declared}, added up by trapezoids", period.value())
    }
}

impl Source {
    fn try_open(&self) -> Result<(), Refusal> {
        match self {
            Self::Rail { volts, amperes } => {
                try_number(volts, "millivolts")?;
                try_number(amperes, "milliamperes")
            }
            Self::Power(path) => try_number(path, "microwatts"),
            Self::Energy(path) => try_number(path, "microjoules"),
        }
    }

    /// The power now. A current that flows back is negative, and so is its power.
    fn power(&self) -> Result<Watts, ReadError> {
        match self {
            Self::Rail { volts, amperes } => {
                let millivolts: i64 = read_number(volts, "millivolts")?;
                let milliamperes: i64 = read_number(amperes, "milliamperes")?;
                Ok(Watts::new(millivolts as f64 * 1e-3 * (milliamperes as f64 * 1e-3)))
            }
            Self::Power(path) | Self::Energy(path) => {
                let microwatts: i64 = read_number(path, "microwatts")?;
                Ok(Watts::new(microwatts as f64 * 1e-6))
            }
        }
    }
}

/// A sensor whose readings are added up.
struct PowerMeter {
    source: Source,
    integral: PowerIntegral,
}

impl Meter for PowerMeter {
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let power = self.source.power()?;
        self.integral.add(now, power).map_err(|gap| ReadError::Lost(gap.to_string()))
    }

    fn longest_gap(&self) -> Option<Seconds> {
        Some(self.integral.longest_gap())
    }
}

/// All sensors of all chips, in the order of their folders.
fn find_sensors(class: &Path) -> std::io::Result<Vec<Sensor>> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(class)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    let mut sensors = Vec::new();
    for folder in folders {
        let Ok(chip) = text(&folder.join("name")) else { continue };
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let files: BTreeSet<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        let chip = Chip { name: chip, folder, files };
        sensors.extend(if chip.name == "ina3221" { chip.rails() } else { chip.channels() });
    }
    Ok(sensors)
}

/// A chip's folder.
struct Chip {
    name: String,
    folder: PathBuf,
    files: BTreeSet<String>,
}

impl Chip {
    fn path(&self, file: &str) -> Option<PathBuf> {
        self.files.contains(file).then(|| self.folder.join(file))
    }

    fn text(&self, file: &str) -> Option<String> {
        text(&self.path(file)?).ok().filter(|text| !text.is_empty())
    }

    /// A time in milliseconds above 0.
    fn milliseconds(&self, file: &str) -> Option<Seconds> {
        let time: f64 = self.text(file)?.parse().ok()?;
        (time.is_finite() && time > 0.0).then(|| Seconds::new(time * 1e-3))
    }

    /// The rails of an INA3221: channels 1 to 3 with `inN_input` and `currN_input`. `in4` to `in6` are shunt
    /// voltages and `in7` their sum; a channel that is off or labelled NC is not connected.
    fn rails(&self) -> Vec<Sensor> {
        let on = |n: &usize| {
            self.text(&format!("in{n}_enable")).as_deref() != Some("0")
                && self.text(&format!("in{n}_label")).as_deref() != Some("NC")
        };
        let numbers: Vec<usize> = (1..=INA3221_CHANNELS).filter(on).collect();
        let period = self.milliseconds("update_interval").unwrap_or_else(|| {
            let samples = self.text("samples").and_then(|s| s.parse::<u32>().ok()).unwrap_or(1);
            INA3221_CONVERSION * (f64::from(samples) * numbers.len().max(1) as f64)
        });
        let rail = |&n: &usize| {
            let source = Source::Rail {
                volts: self.path(&format!("in{n}_input"))?,
                amperes: self.path(&format!("curr{n}_input"))?,
            };
            let label = self.text(&format!("in{n}_label")).unwrap_or_else(|| format!("ina3221.{n}"));
            let role = role_of_rail(&label);
            let scope = match role {
                Role::Total => format!("whole module (rail {label})"),
                Role::Cpu => format!("CPU rail {label}"),
                Role::Socket | Role::Other => format!("rail {label}"),
            };
            let name = plain(&label);
            Some(Sensor { name, scope, role, source, period: Some(period), accuracy: None })
        };
        numbers.iter().filter_map(rail).collect()
    }

    /// The channels of any other chip: `energyN_input`, else `powerN_input`, else `powerN_average`.
    fn channels(&self) -> Vec<Sensor> {
        let mut sensors = Vec::new();
        let numbers = |prefix: &str, suffix: &str| -> Vec<u32> {
            let number = |f: &String| f.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok();
            let mut numbers: Vec<u32> = self.files.iter().filter_map(number).collect();
            numbers.sort_unstable();
            numbers
        };
        for n in numbers("energy", "_input") {
            let label = self.text(&format!("energy{n}_label"));
            // The cores of amd_energy are parts of their socket, and may be a hundred.
            if label.as_deref().is_some_and(|label| label.starts_with("Ecore")) {
                continue;
            }
            let role = match &label {
                Some(label) if label.starts_with("Esocket") => Role::Socket,
                _ => Role::Other,
            };
            let source = Source::Energy(self.folder.join(format!("energy{n}_input")));
            sensors.push(self.sensor(&format!("energy{n}"), label, role, source, None));
        }
        let mut powers: BTreeSet<u32> = numbers("power", "_average").into_iter().collect();
        powers.extend(numbers("power", "_input"));
        for n in powers {
            let input = self.path(&format!("power{n}_input"));
            let average = input.is_none();
            let file = input.unwrap_or_else(|| self.folder.join(format!("power{n}_average")));
            let interval =
                if average { format!("power{n}_average_interval") } else { "update_interval".into() };
            let label = self.text(&format!("power{n}_label"));
            let role = if self.name == "power_meter" { Role::Total } else { Role::Other };
            let period = self.milliseconds(&interval);
            sensors.push(self.sensor(&format!("power{n}"), label, role, Source::Power(file), period));
        }
        sensors
    }

    fn sensor(
        &self,
        channel: &str,
        label: Option<String>,
        role: Role,
        source: Source,
        period: Option<Seconds>,
    ) -> Sensor {
        let label = label.unwrap_or_else(|| channel.to_string());
        let scope = match role {
            Role::Total => format!("whole machine (ACPI {})", self.name),
            Role::Socket => format!("CPU socket ({label})"),
            Role::Cpu | Role::Other => format!("{} {label}", self.name),
        };
        // 95.0% accuracy: readings lie within 5 % (Documentation/hwmon/acpi_power_meter.rst).
        let accuracy = self.text(&format!("{channel}_accuracy")).and_then(|text| {
            let percent: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
            (percent > 0.0 && percent <= 100.0).then_some(1.0 - percent / 100.0)
        });
        let name = plain(&format!("{}.{label}", self.name));
        Sensor { name, scope, role, source, period, accuracy }
    }
}

/// What a rail's label says.
fn role_of_rail(label: &str) -> Role {
    match label {
        "VDD_IN" => Role::Total,
        _ if label.contains("CPU") => Role::Cpu,
        _ => Role::Other,
    }
}

/// A label as a part of a meter's name, where commas and colons have meanings of their own.
fn plain(label: &str) -> String {
    label.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

/// Two sensors of one name get numbers.
fn make_names_unique(sensors: &mut [Sensor]) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for sensor in sensors {
        let plain = sensor.name.clone();
        let mut number = 2;
        while !seen.insert(sensor.name.clone()) {
            sensor.name = format!("{plain}.{number}");
            number += 1;
        }
    }
}
