//! RAPL through Linux's powercap files: `class/powercap/intel-rapl*/{name,energy_uj,max_energy_range_uj}`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::trace::{MeterKind, Warning};
use crate::units::Joules;

use super::interface::{MeterCandidate, record};
use super::node::{CountedFile, CountedFiles, text};
use super::rapl::Domain;
use super::refusal::{Cause, Refusal};

/// Command-line name of the package meter; other domains append theirs: `rapl-powercap:dram`.
pub const POWERCAP_ID: &str = "rapl-powercap";

/// The powercap meters under a sysfs root (`/sys` on a machine), one for each domain found.
///
/// The package meter is always listed, so that the reason for its absence can be shown.
pub fn powercap_meters(sysfs_root: &Path) -> Vec<MeterCandidate> {
    let class = sysfs_root.join("class/powercap");
    let found = match find_zones(&class) {
        Ok(found) => found,
        Err(error) => {
            return vec![no_package(Refusal::new(
                Cause::NoPowercap,
                format!("{}: {error}", class.display()),
            ))];
        }
    };
    let mut candidates = Vec::new();
    if !found.zones.contains_key(&Domain::Package) {
        let mut text = format!("{} has no RAPL package", class.display());
        for skipped in &found.skipped {
            text.push_str(&format!("; {skipped}"));
        }
        candidates.push(no_package(Refusal::new(Cause::NoPowercap, text)));
    }
    for (domain, paths) in found.zones {
        let mut candidate = domain_meter(domain, &paths);
        if domain == Domain::Package {
            candidate.twin = twin(&found.twins, paths.len());
            candidate.notes.extend(found.skipped.iter().map(|text| Warning::new("skipped_zone", text)));
        }
        candidates.push(candidate);
    }
    candidates
}

fn no_package(refusal: Refusal) -> MeterCandidate {
    MeterCandidate::unavailable(POWERCAP_ID, &Domain::Package.scope(1), MeterKind::Counter, refusal)
}

/// The zones of a machine.
#[derive(Default)]
struct Zones {
    /// Folders by domain.
    zones: BTreeMap<Domain, Vec<PathBuf>>,
    /// Packages that memory-mapped registers show once more.
    twins: Vec<PathBuf>,
    /// Zones left out, each with its reason.
    skipped: Vec<String>,
}

/// Finds the zones. A zone stands flat among all others, and through links inside its parent, where nobody looks
/// here. A laptop shows one package both under `intel-rapl` and `intel-rapl-mmio`: it counts once. Two plain
/// zones of one name are two counters; leaving one out would halve the joules.
fn find_zones(class: &Path) -> std::io::Result<Zones> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(class)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // The plain control type sorts before its mmio twin, and a parent before its children.
    folders.sort_by_key(|path| (path.to_string_lossy().contains("mmio"), path.clone()));
    let mut found = Zones::default();
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    for folder in folders {
        let Some(zone) = folder.file_name().map(|n| n.to_string_lossy().into_owned()) else { continue };
        // Control types have no colon, and other drivers' zones (dtpm) are none of RAPL.
        if !zone.starts_with("intel-rapl") || !zone.contains(':') {
            continue;
        }
        let name = match text(&folder.join("name")) {
            Ok(name) => name,
            Err(error) => {
                found
                    .skipped
                    .push(format!("powercap zone {zone} is left out, since it has no name: {error}"));
                continue;
            }
        };
        let Some(domain) = Domain::of_zone(&name) else {
            found.skipped.push(format!(
                "powercap zone {zone} is left out: its name \"{}\" is no known domain",
                name.escape_debug()
            ));
            continue;
        };
        // A package is one by its name; a sub-zone by its name and its parent's number.
        let parent = match domain {
            Domain::Package | Domain::Psys => String::new(),
            _ => zone.split(':').nth(1).unwrap_or_default().to_string(),
        };
        let twin = zone.contains("mmio") && seen.contains(&(name.clone(), parent.clone()));
        seen.insert((name, parent));
        match (twin, domain) {
            (false, _) => found.zones.entry(domain).or_default().push(folder),
            (true, Domain::Package) => found.twins.push(folder),
            (true, _) => {}
        }
    }
    Ok(found)
}

fn domain_meter(domain: Domain, paths: &[PathBuf]) -> MeterCandidate {
    let (id, scope) = (domain.id(POWERCAP_ID), domain.scope(paths.len()));
    match open(paths) {
        // A sum over a part of the zones would be a wrong number with a right name.
        Err(refusal) => MeterCandidate::unavailable(&id, &scope, MeterKind::Counter, refusal),
        Ok((files, resolution)) => {
            let record = record(&id, &scope, MeterKind::Counter);
            let mut candidate = MeterCandidate::working(record, Box::new(files));
            candidate.resolution = Some(resolution);
            candidate
        }
    }
}

/// The same packages by the memory-mapped registers, if all of them can be read there.
fn twin(folders: &[PathBuf], packages: usize) -> Option<(String, Box<dyn super::Meter>)> {
    let (files, _) = open(folders).ok().filter(|_| folders.len() == packages)?;
    Some((format!("{POWERCAP_ID} by mmio"), Box::new(files)))
}

/// The counters of all zones, and the coarsest of their steps.
fn open(folders: &[PathBuf]) -> Result<(CountedFiles, Joules), Refusal> {
    let (mut files, mut coarsest) = (Vec::new(), Joules::ZERO);
    for folder in folders {
        let range = range(&folder.join("max_energy_range_uj"))?;
        // The kernel's range is (2^32 - 1) steps (Linux, drivers/powercap/intel_rapl_common.c, ENERGY_STATUS_MASK).
        let step = Joules::from_microjoules(range as f64 / f64::from(u32::MAX));
        if step > coarsest {
            coarsest = step;
        }
        files.push(CountedFile::open(folder.join("energy_uj"), range)?);
    }
    Ok((CountedFiles(files), coarsest))
}

fn range(path: &Path) -> Result<u64, Refusal> {
    let found = text(path).map_err(|error| Refusal::new(Cause::Broken, error))?;
    found.parse().ok().filter(|&range| range > 0).ok_or_else(|| {
        let path = path.display();
        Refusal::new(Cause::Broken, format!("{path}: expected more than 0 microjoules, found \"{found}\""))
    })
}
