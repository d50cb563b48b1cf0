//! RAPL through Linux's powercap files: `class/powercap/intel-rapl*/{name,energy_uj,max_energy_range_uj}`.
//!
//! Zones nest: cores and graphics are parts of their package, and psys contains all. So each domain is a meter
//! of its own, and only equal domains of different packages are added up
//! (Linux, Documentation/power/powercap/powercap.rst).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::clock::Instant;
use crate::trace::{MeterKind, MeterRecord, MeterStatus};
use crate::units::Joules;

use super::counter::{CounterFault, WrappingCounter};
use super::interface::{Meter, MeterCandidate, ReadError};

/// Command-line name of the package meter; other domains append theirs: `rapl-powercap:dram`.
pub const POWERCAP_ID: &str = "rapl-powercap";

/// A power domain that Linux names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Domain {
    Package,
    Dram,
    Core,
    Uncore,
    Psys,
}

impl Domain {
    fn of_zone(name: &str) -> Option<Self> {
        match name {
            "dram" => Some(Self::Dram),
            "core" => Some(Self::Core),
            "uncore" => Some(Self::Uncore),
            "psys" => Some(Self::Psys),
            _ if name.starts_with("package-") => Some(Self::Package),
            _ => None,
        }
    }

    fn id(self) -> String {
        match self {
            Self::Package => POWERCAP_ID.to_string(),
            Self::Dram => format!("{POWERCAP_ID}:dram"),
            Self::Core => format!("{POWERCAP_ID}:core"),
            Self::Uncore => format!("{POWERCAP_ID}:uncore"),
            Self::Psys => format!("{POWERCAP_ID}:psys"),
        }
    }

    fn scope(self, zones: usize) -> String {
        let what = match self {
            Self::Package => "CPU package",
            Self::Dram => "memory of the CPU package",
            Self::Core => "CPU cores (part of the package)",
            Self::Uncore => "integrated graphics (part of the package)",
            Self::Psys => "whole platform (contains the packages)",
        };
        if zones == 1 { what.to_string() } else { format!("{what}, sum of {zones}") }
    }
}

/// The powercap meters under a sysfs root (`/sys` on a machine), one for each domain found.
///
/// The package meter is always listed, so that the reason for its absence can be shown.
pub fn powercap_meters(sysfs_root: &Path) -> Vec<MeterCandidate> {
    let class = sysfs_root.join("class/powercap");
    let zones = match find_zones(&class) {
        Ok(zones) => zones,
        Err(reason) => return vec![no_package(reason)],
    };
    let mut candidates = Vec::new();
    if !zones.contains_key(&Domain::Package) {
        candidates.push(no_package(format!(
            "{} has no RAPL package; load the driver with `sudo modprobe intel_rapl_msr`. Virtual machines and \
             containers usually have none",
            class.display()
        )));
    }
    candidates.extend(zones.into_iter().map(|(domain, paths)| domain_meter(domain, paths)));
    candidates
}

fn no_package(reason: String) -> MeterCandidate {
    MeterCandidate::unavailable(POWERCAP_ID, &Domain::Package.scope(1), MeterKind::Counter, reason)
}

/// Zone folders by domain. A zone stands flat among all others, and through links inside its parent, where nobody
/// looks here. A laptop shows one package both under `intel-rapl` and `intel-rapl-mmio`: it counts once. Two
/// plain zones of one name are two counters; leaving one out would halve the joules.
fn find_zones(class: &Path) -> Result<BTreeMap<Domain, Vec<PathBuf>>, String> {
    let entries = std::fs::read_dir(class).map_err(|e| {
        format!(
            "{}: {e}; on bare metal load the driver with `sudo modprobe intel_rapl_msr`. Virtual machines and \
             containers usually have no RAPL",
            class.display()
        )
    })?;
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // The plain control type sorts before its mmio twin, and a parent before its children.
    folders.sort_by_key(|path| (path.to_string_lossy().contains("mmio"), path.clone()));
    let mut zones: BTreeMap<Domain, Vec<PathBuf>> = BTreeMap::new();
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    for folder in folders {
        let Some(zone) = folder.file_name().map(|n| n.to_string_lossy().into_owned()) else { continue };
        let Ok(name) = std::fs::read_to_string(folder.join("name")) else { continue };
        let name = name.trim();
        let Some(domain) = Domain::of_zone(name) else { continue };
        // A package is one by its name; a sub-zone by its name and its parent's number.
        let parent = match domain {
            Domain::Package | Domain::Psys => String::new(),
            _ => zone.split(':').nth(1).unwrap_or_default().to_string(),
        };
        let twin = zone.contains("mmio") && seen.contains(&(name.to_string(), parent.clone()));
        seen.insert((name.to_string(), parent));
        if !twin {
            zones.entry(domain).or_default().push(folder);
        }
    }
    Ok(zones)
}

fn domain_meter(domain: Domain, paths: Vec<PathBuf>) -> MeterCandidate {
    let (id, scope) = (domain.id(), domain.scope(paths.len()));
    let mut zones = Vec::new();
    for path in &paths {
        match Zone::open(path) {
            Ok(zone) => zones.push(zone),
            // A sum over a part of the zones would be a wrong number with a right name.
            Err(reason) => return MeterCandidate::unavailable(&id, &scope, MeterKind::Counter, reason),
        }
    }
    let record = MeterRecord {
        id,
        scope,
        kind: MeterKind::Counter,
        status: MeterStatus::Measured,
        reason: None,
        update_period_s: None,
        coverage: None,
        systematic_relative: None,
    };
    MeterCandidate { record, meter: Some(Box::new(PowercapMeter { zones })) }
}

/// One zone's counter.
struct Zone {
    path: PathBuf,
    counter: WrappingCounter,
}

impl Zone {
    fn open(folder: &Path) -> Result<Self, String> {
        let range_path = folder.join("max_energy_range_uj");
        let text =
            std::fs::read_to_string(&range_path).map_err(|e| format!("{}: {e}", range_path.display()))?;
        let range: u64 = text.trim().parse().ok().filter(|&r| r > 0).ok_or_else(|| {
            format!("{}: expected more than 0 microjoules, found \"{}\"", range_path.display(), text.trim())
        })?;
        let path = folder.join("energy_uj");
        // A pipe in its place would be waited for without end. What cannot be looked at fails below, with a reason.
        if std::fs::metadata(&path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            return Err(format!("{}: expected a file", path.display()));
        }
        // Only whether it may be read; a half-written value is for the first reading to retry.
        match read_number(&path) {
            Ok(_) | Err(ReadError::Retry(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(Self { path, counter: WrappingCounter::new(range) })
    }

    /// A fall may be a torn write of a file that another program makes; a counter that really fell reads the
    /// same twice.
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let first = self.counter.advance(read_number(&self.path)?, now);
        let result = match first {
            Err(CounterFault::Reset { .. }) => self.counter.advance(read_number(&self.path)?, now),
            other => other,
        };
        result.map_err(|fault| {
            let text = format!("{}: {fault}", self.path.display());
            match fault {
                CounterFault::TooLong { .. } => ReadError::Lost(text),
                CounterFault::Reset { .. } | CounterFault::BeyondRange { .. } => ReadError::Fatal(text),
            }
        })
    }
}

/// The zones of one domain, added up.
struct PowercapMeter {
    zones: Vec<Zone>,
}

impl Meter for PowercapMeter {
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let mut sum = Joules::ZERO;
        for zone in &mut self.zones {
            sum += zone.read(now)?;
        }
        Ok(sum)
    }
}

/// Opens the file anew each time: a file that is replaced, as test set-ups do, would otherwise be read for ever.
/// 64-bit numbers have at most 20 digits, so the buffer holds any.
fn read_number(path: &Path) -> Result<u64, ReadError> {
    let mut buffer = [0u8; 32];
    let read = File::open(path).and_then(|mut file| file.read(&mut buffer));
    let length = read.map_err(|e| {
        let advice = match e.kind() {
            std::io::ErrorKind::PermissionDenied => {
                format!("; allow it with `sudo chmod a+r {}`", path.display())
            }
            _ => String::new(),
        };
        ReadError::Gone(format!("{}: {e}{advice}", path.display()))
    })?;
    std::str::from_utf8(&buffer[..length]).ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        let found = String::from_utf8_lossy(&buffer[..length]).trim().escape_debug().to_string();
        ReadError::Retry(format!("{}: expected microjoules, found \"{found}\"", path.display()))
    })
}
