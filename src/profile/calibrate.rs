//! Calibration of a device: loads that come and go, and what its meters make of them.
//!
//! The same tests in the same way on simulated and real devices; only clock, executor and meters differ.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::backend::{Task, Tensors, WeightOptions};
use crate::calibration::{
    Marks, ReadingFacts, ReadingKind, SelfTest, Series, Spread, Unknown, regular_grid, sensor_facts,
};
use crate::clock::Instant;
use crate::meter::{MeterChoice, MeterError};
use crate::network;
use crate::plan::{Plan, PlanOptions};
use crate::run::{LoadError, Loads, MeterReading, Watched};
use crate::stats::{Rng, fingerprint};
use crate::trace::MeterKind;
use crate::units::{Joules, Seconds, Watts};

use super::device::{Device, DeviceChoice};
use super::job::{ProfileError, ProfileOptions};

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
/// Rest until a board has let go of its clocks (some hold them for seconds), rest that counts, and load before anything
/// else does.
const REST: Seconds = Seconds::new(10.0);
const IDLE: Seconds = Seconds::new(3.0);
const WARM_UP: Seconds = Seconds::new(10.0);
/// Time between readings at which the period is looked for first, and where the sensor is faster; and how long.
const SEARCHES: [(Seconds, Seconds); 2] =
    [(Seconds::new(1e-3), Seconds::new(8.0)), (Seconds::new(2e-5), Seconds::new(0.5))];
/// Shortest and longest load of that search.
const SEARCH_LOADS: [f64; 2] = [0.005, 0.05];
/// Updates that the window is found from, and readings in each.
const UPDATES: f64 = 300.0;
const READINGS: f64 = 50.0;
/// On a device that waits for its work, a load lasts from one reading to the next.
const READINGS_IN_TURN: f64 = 8.0;
/// Shortest and longest load of the window's recording in periods: windows are known from half a period to ten.
const WINDOW_LOADS: [f64; 2] = [0.1, 10.0];
/// A steady load read often and seldom: time between readings, and length. Seldom so long that the slowest counter's
/// edges, 0.2 s, are one percent of it.
const OFTEN: (Seconds, Seconds) = (Seconds::new(0.005), Seconds::new(5.0));
const SELDOM: (Seconds, Seconds) = (Seconds::new(0.5), Seconds::new(20.0));
/// Readings that differ by more than this with the rate of reading are not to be believed
/// (notes: measurement.md 1.5, test 4).
const MOST_BY_RATE: f64 = 0.02;

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
    /// It failed meanwhile.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Runs all self-tests on each meter, one after the other: a second meter would slow the reading of the first.
///
/// # Errors
///
/// There is no such device or meter, or the device fails. A meter that fails has its reasons.
pub fn calibrate(
    options: &CalibrationOptions,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<ReadingFacts>, CalibrationError> {
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
    let wanted = options.meter.ids();
    let (part, mut meters) = (device.part(), device.meters(&profile));
    let known: Vec<String> = meters.iter().map(|meter| meter.record.id.clone()).collect();
    if let Some(id) = wanted.iter().find(|id| !known.contains(id)) {
        let error = MeterError::Unknown { id: id.clone(), known: known.join(", ") };
        return Err(ProfileError::from(error).into());
    }
    meters.retain(|meter| {
        let sensor = matches!(meter.record.kind, MeterKind::Counter | MeterKind::Power);
        let asked = wanted.is_empty() && meter.part.contains(&part) || wanted.contains(&meter.record.id);
        sensor && asked && meter.meter.is_some()
    });
    if meters.is_empty() {
        return Err(ProfileError::from(MeterError::None { first: String::new() }).into());
    }
    let name = device.info().name;
    let mut executor = device.backend.prepare(&network, &plan, &tensors).map_err(ProfileError::from)?;
    let mut all = Vec::new();
    for candidate in meters {
        let record = candidate.record;
        let Some(mut meter) = candidate.meter else { continue };
        say(&format!("{}: about a minute", record.id));
        let kind = if record.kind == MeterKind::Power { ReadingKind::Power } else { ReadingKind::Counter };
        let in_turn = !executor.queues();
        let clock = device.clock.as_ref();
        let mut loads = Loads::new(executor.as_mut(), meter.as_mut(), clock, Task::Step(0));
        let random = Rng::stream(options.seed, fingerprint(&record.id));
        let test = Test { name: &name, id: &record.id, kind, in_turn, random, each: Seconds::ZERO };
        all.push(match test.run(&mut loads) {
            Ok(facts) => facts,
            Err(LoadError::Meter(error)) => {
                ReadingFacts::unknown(&name, &record.id, &Unknown(error.to_string()))
            }
            Err(error) => return Err(error.into()),
        });
    }
    Ok(all)
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
        }
    }
}

/// The tests of one meter.
struct Test<'a> {
    name: &'a str,
    id: &'a str,
    kind: ReadingKind,
    in_turn: bool,
    random: Rng,
    /// Length of one execution.
    each: Seconds,
}

impl Test<'_> {
    fn run(mut self, loads: &mut Loads<'_>) -> Result<ReadingFacts, LoadError> {
        loads.rest(REST);
        // Before the load is prepared, which already wakes the device.
        let idle = loads.run(&[(Seconds::ZERO, IDLE)], OFTEN.0)?;
        self.each = loads.prepare()?;
        loads.run(&[(WARM_UP, Seconds::ZERO)], OFTEN.0)?;
        let often = loads.run(&[(OFTEN.1, Seconds::ZERO)], OFTEN.0)?;
        let seldom = loads.run(&[(SELDOM.1, Seconds::ZERO)], SELDOM.0)?;
        // Once more, so that what warmth adds meanwhile falls on both alike.
        let again = loads.run(&[(OFTEN.1, Seconds::ZERO)], OFTEN.0)?;
        let watched = self.window_recording(loads)?;
        let mut facts = match &watched {
            Err(unknown) => ReadingFacts::unknown(self.name, self.id, unknown),
            Ok(watched) => {
                sensor_facts(self.name, self.id, self.kind, &self.series(watched), &marks(watched))
            }
        };
        let watts = |watched: &Watched| self.watts(watched);
        facts.self_test = Some(SelfTest {
            idle_w: watts(&idle),
            load_w: watts(&often).zip(watts(&again)).map(|(before, after)| (before + after) / 2.0),
            load_read_seldom_w: watts(&seldom),
            query_s: query_times(&often),
            warnings: Vec::new(),
        });
        // A device that waits is idle while it is read: there, reading often is less load.
        if !self.in_turn
            && let Some(test) = &mut facts.self_test
            && let (Some(often), Some(seldom)) = (test.load_w, test.load_read_seldom_w)
            && (often / seldom - 1.0).abs() > MOST_BY_RATE
        {
            test.warnings.push(format!(
                "the same load shows {:.1} W when read every 5 ms and {:.1} W every 500 ms: reading disturbs this meter, \
                 or it is not contiguous; do not believe it",
                often.value(),
                seldom.value()
            ));
        }
        Ok(facts)
    }

    /// Loads and rests of random lengths, many times longer and shorter than the sensor's period: no load has a period
    /// that it could keep step with.
    fn window_recording(&mut self, loads: &mut Loads<'_>) -> Result<Result<Watched, Unknown>, LoadError> {
        let mut grid = Err(Unknown("nothing was read".to_string()));
        for (poll, length) in SEARCHES {
            let parts = self.parts(length, SEARCH_LOADS);
            let watched = loads.run(&parts, poll)?;
            grid = regular_grid(&self.series(&watched));
            if grid.is_ok() {
                break;
            }
        }
        let period = match grid {
            Ok(grid) => grid.period.value,
            Err(unknown) => return Ok(Err(unknown)),
        };
        let scale = WINDOW_LOADS.map(|periods| periods * period.value());
        let parts = self.parts(period * UPDATES, scale);
        let readings = if self.in_turn { READINGS_IN_TURN } else { READINGS };
        Ok(Ok(loads.run(&parts, period / readings)?))
    }

    /// Loads and rests for a time, their lengths uniform in the logarithm.
    fn parts(&mut self, length: Seconds, [least, most]: [f64; 2]) -> Vec<(Seconds, Seconds)> {
        let (least, mut left, mut parts) = (least.max(2.0 * self.each.value()), length.value(), Vec::new());
        let mut draw = || Seconds::new(least * (most / least).powf(self.random.uniform()));
        while left > 0.0 {
            let part = (draw(), draw());
            left -= (part.0 + part.1).value();
            parts.push(part);
        }
        parts
    }

    /// Readings as watts or joules at their times. A change is seen half an interval after it happens, on average.
    fn series(&self, watched: &Watched) -> Series {
        let value = |reading: &MeterReading| match self.kind {
            ReadingKind::Power => reading.power.map(Watts::value),
            ReadingKind::Counter => reading.energy.map(Joules::value),
        };
        let at = |reading: &MeterReading| {
            (reading.begun.since_origin() + (reading.ended - reading.begun) / 2.0).value()
        };
        let mut readings: Vec<(f64, f64)> =
            watched.readings.iter().filter_map(|reading| Some((at(reading), value(reading)?))).collect();
        // Two readings within the clock's step are one.
        readings.dedup_by(|later, earlier| later.0 <= earlier.0);
        let late = Series::new(readings.iter().copied()).poll().unwrap_or_default().value() / 2.0;
        Series::new(readings.into_iter().map(|(at, value)| (at - late, value)))
    }

    /// Mean power of steady readings: of a counter, from its first change to its last.
    fn watts(&self, watched: &Watched) -> Option<Watts> {
        let series = self.series(watched);
        match self.kind {
            ReadingKind::Power => {
                let n = series.len();
                (n > 0).then(|| Watts::new(series.values().iter().sum::<f64>() / n as f64))
            }
            ReadingKind::Counter => {
                let changes = series.changes();
                let ((from, before), (to, after)) = (*changes.first()?, *changes.last()?);
                (to > from).then(|| Watts::new((after - before) / (to - from)))
            }
        }
    }
}

fn marks(watched: &Watched) -> Marks {
    let seconds = |at: Instant| at.since_origin().value();
    Marks::new(
        watched
            .loads
            .iter()
            .map(|load| (seconds(load.0), seconds(load.1)))
            .filter(|load| load.0 < load.1)
            .collect(),
    )
}

fn query_times(watched: &Watched) -> Option<Spread> {
    Spread::of(watched.readings.iter().map(|reading| reading.ended - reading.begun))
}
