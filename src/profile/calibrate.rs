//! Calibration of a device: loads that come and go, and what its meters make of them.
//!
//! The same tests in the same way on simulated and real devices; only clock, executor and meters differ.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::backend::{Task, Tensors, WeightOptions};
use crate::calibration::{
    Beside, CALIBRATION_SCHEMA, Calibration, Health, ReadingFacts, Unknown, Verdict, advise,
};
use crate::clock::{Clock, Instant, MonotonicClock, rfc3339};
use crate::meter::{Meter, MeterCandidate, MeterChoice, MeterError};
use crate::network;
use crate::plan::{Plan, PlanOptions};
use crate::run::{LoadError, Loads};
use crate::stats::{Rng, fingerprint};
use crate::trace::{MeterKind, MeterRecord, Tool};
use crate::units::Seconds;

use super::device::{Device, DeviceChoice};
use super::job::{ProfileError, ProfileOptions};
use super::known_sensors;
use super::self_test::{SelfTests, Steady, Subject, kind_of};

/// The load: small enough that a burst can be cut to any length, large enough to draw power.
const LOAD: &str = "\
name = \"calibration load\"
input = [32, 32, 32]
[[layer]]
kind = \"conv\"
out_channels = 32
kernel = 3
padding = 1
";

/// What to calibrate.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationOptions {
    /// The device.
    pub device: DeviceChoice,
    /// Which meters; all that see the device with `auto`.
    pub meter: MeterChoice,
    /// Where `/sys` is.
    pub sysfs_root: PathBuf,
    /// NVIDIA's management library; none for the one that the driver installed.
    pub nvml_lib: Option<PathBuf>,
    /// Seed of the loads, and of a simulated device's noise.
    pub seed: u64,
}

/// Why a device could not be calibrated.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// There is no such device or meter.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// It failed meanwhile, or the user wants to stop; nothing of it is kept.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Runs all self-tests: steady loads with all meters read at once, so that they can be compared, and everything else
/// with each meter alone, since a second one would slow the reading of the first. `stop` becomes true when the user
/// wants to stop.
///
/// # Errors
///
/// There is no such device or meter, the device fails, or the user wants to stop. A meter that fails has its reasons.
pub fn calibrate(
    options: &CalibrationOptions,
    say: &mut dyn FnMut(&str),
    stop: &dyn Fn() -> bool,
) -> Result<Calibration, CalibrationError> {
    let profile = options.profile();
    let device = Device::open(&profile, Instant::default(), BTreeMap::new())?;
    let network =
        network::parse(Path::new("calibration.toml"), LOAD.as_bytes(), &[]).map_err(ProfileError::from)?;
    let plan = Plan::new(&network, &PlanOptions::default())
        .map_err(|source| ProfileError::Plan { file: PathBuf::from("calibration.toml"), source })?;
    let tensors = if device.backend.computes() {
        Tensors::new(&network, &WeightOptions { seed: options.seed, batch: 1 }).map_err(ProfileError::from)?
    } else {
        Tensors::none()
    };
    say("looking for meters");
    let mut meters = sensors(&device, &profile)?;
    let emulated = meters.iter().any(|meter| meter.emulated);
    let info = device.info();
    let mut executor = device.backend.prepare(&network, &plan, &tensors).map_err(ProfileError::from)?;
    let mut loads = Loads::new(executor.as_mut(), device.clock.as_ref(), Task::Step(0), stop);
    say("at rest and under a steady load, all meters together: half a minute");
    let steady = steady(&mut loads, &mut meters)?;
    let mut readings = Vec::new();
    for (index, candidate) in meters.iter_mut().enumerate() {
        let id = &candidate.record.id;
        let Some(meter) = &mut candidate.meter else { continue };
        say(&format!("{id}: about two minutes"));
        let kind = kind_of(&candidate.record);
        let beside = beside(&steady.records, &steady.tests, index);
        let subject = Subject { name: &info.name, id, kind, beside, meter: meter.as_mut() };
        let random = Rng::stream(options.seed, fingerprint(id));
        let tests = SelfTests { steady: &steady.tests, index, each: steady.each, random };
        let tested = match &steady.failed[index] {
            Some(error) => Err(LoadError::Meter { index, error: error.clone() }),
            None => tests.run(&mut loads, subject),
        };
        readings.push(match tested {
            Ok(facts) => facts,
            Err(LoadError::Meter { error, .. }) => unreadable(&info.name, id, &error.to_string()),
            Err(error) => return Err(error.into()),
        });
    }
    name_others(&mut readings, &steady.records);
    Ok(Calibration {
        schema: CALIBRATION_SCHEMA.to_string(),
        tool: Tool::this(),
        created: rfc3339(MonotonicClock::start().origin_unix()),
        simulated: options.device.simulated().is_some(),
        emulated: emulated || info.emulated,
        source: options.device.argument(),
        device: Some(known_sensors::device(&info)),
        readings,
        external: Vec::new(),
    })
}

/// The sensors that are asked for and work.
fn sensors(device: &Device, options: &ProfileOptions) -> Result<Vec<MeterCandidate>, ProfileError> {
    let wanted = options.meter.ids();
    let (part, mut meters) = (device.part(), device.meters(options));
    let known: Vec<String> = meters.iter().map(|meter| meter.record.id.clone()).collect();
    if let Some(id) = wanted.iter().find(|id| !known.contains(id)) {
        return Err(MeterError::Unknown { id: id.clone(), known: known.join(", ") }.into());
    }
    meters.retain(|meter| {
        let sensor = matches!(meter.record.kind, MeterKind::Counter | MeterKind::Power);
        let asked = wanted.is_empty() && meter.part.contains(&part) || wanted.contains(&meter.record.id);
        sensor && asked && meter.meter.is_some()
    });
    if meters.is_empty() {
        return Err(MeterError::None { first: String::new() }.into());
    }
    Ok(meters)
}

/// What all meters together showed, and those that failed meanwhile.
struct Together {
    tests: Steady,
    records: Vec<MeterRecord>,
    failed: Vec<Option<crate::meter::ReadError>>,
    each: Seconds,
}

/// Rest and load with all meters read; once more without a meter that fails.
fn steady(loads: &mut Loads<'_>, candidates: &mut [MeterCandidate]) -> Result<Together, LoadError> {
    let records: Vec<MeterRecord> = candidates.iter().map(|candidate| candidate.record.clone()).collect();
    let mut failed = vec![None; candidates.len()];
    loop {
        let read: Vec<usize> = (0..candidates.len()).filter(|&index| failed[index].is_none()).collect();
        let mut meters: Vec<&mut dyn Meter> = candidates
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| failed[*index].is_none())
            .filter_map(|(_, candidate)| Some(candidate.meter.as_mut()?.as_mut() as &mut dyn Meter))
            .collect();
        match Steady::record(loads, &mut meters, &read, records.len()) {
            Ok((tests, each)) => return Ok(Together { tests, records, failed, each }),
            Err(LoadError::Meter { index, error }) => failed[read[index]] = Some(error),
            Err(error) => return Err(error),
        }
    }
}

/// A counter beside the reading of power of the same part, the instantaneous one where there are several.
fn beside(records: &[MeterRecord], steady: &Steady, index: usize) -> Option<Beside> {
    let record = &records[index];
    let same = |other: &&(usize, &MeterRecord)| {
        other.1.kind == MeterKind::Power && other.1.scope == record.scope && steady.was_read(other.0)
    };
    let numbered: Vec<(usize, &MeterRecord)> = records.iter().enumerate().collect();
    let instant = numbered.iter().filter(same).find(|(_, other)| other.id.contains("instant"));
    let (other, power) = instant.or_else(|| numbered.iter().find(same))?;
    if record.kind != MeterKind::Counter {
        return None;
    }
    let kinds = [(index, kind_of(record)), (*other, kind_of(power))];
    let both = |at: fn(&Steady, usize, crate::calibration::ReadingKind) -> Option<crate::units::Watts>| {
        let [counted, power] = kinds.map(|(index, kind)| at(steady, index, kind));
        Some([counted?, power?])
    };
    let [at_rest, under_load] = [both(Steady::at_rest), both(Steady::under_load)];
    Some(Beside { id: power.id.clone(), at_rest, under_load })
}

fn unreadable(name: &str, id: &str, reason: &str) -> ReadingFacts {
    let mut facts = ReadingFacts::unknown(name, id, &Unknown(reason.to_string()));
    facts.reasons.remove("health");
    facts.health = Some(Health::of(Verdict::Unreadable, reason));
    facts
}

/// Names a sound reading of the same part beside each that is not to be believed.
fn name_others(readings: &mut [ReadingFacts], records: &[MeterRecord]) {
    let scope = |id: &str| {
        records.iter().find(|record| record.id == id).map_or(String::new(), |record| record.scope.clone())
    };
    let mut judged: Vec<(String, String, &mut Health)> = readings
        .iter_mut()
        .filter_map(|facts| Some((facts.id.clone(), scope(&facts.id), facts.health.as_mut()?)))
        .collect();
    advise(&mut judged);
}

impl CalibrationOptions {
    /// The same as options of a profile, which opens devices and meters.
    fn profile(&self) -> ProfileOptions {
        ProfileOptions {
            network: PathBuf::new(),
            set: Vec::new(),
            batch: 1,
            fuse: false,
            device: self.device.clone(),
            precision: Default::default(),
            layout: Default::default(),
            cache: None,
            conv_algorithm: None,
            meter: self.meter.clone(),
            sysfs_root: self.sysfs_root.clone(),
            nvml_lib: self.nvml_lib.clone(),
            timing: Default::default(),
            seed: self.seed,
            out: None,
            force: false,
            calibrations: None,
        }
    }
}
