//! The stand-in's GPUs: simulated devices in real time, and what is wrong with them.

use std::collections::VecDeque;
use std::ffi::{c_int, c_uint, c_void};
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use layerjoule::clock::{Clock, Instant, MonotonicClock};
use layerjoule::sim::{DeviceParameters, History, Sensor};
use layerjoule::units::Seconds;
use sha2::{Digest, Sha256};

use super::nvml_faults::Faults;

/// `nvmlReturn_t`.
pub(super) type Return = c_uint;
pub(super) const SUCCESS: Return = 0;
pub(super) const UNINITIALIZED: Return = 1;
pub(super) const INVALID_ARGUMENT: Return = 2;
pub(super) const NOT_SUPPORTED: Return = 3;
pub(super) const NOT_FOUND: Return = 6;
pub(super) const INSUFFICIENT_SIZE: Return = 7;
pub(super) const DRIVER_NOT_LOADED: Return = 9;

pub(super) const DRIVER: &str = "580.95.05 stand-in";
/// The first GPU's address, which is not null; nothing lies there.
pub(super) const HANDLE: usize = 0x6A6F_756C;
/// Time between two samples that are kept, and their number.
pub(super) const SAMPLE_PERIOD: f64 = 0.1;
pub(super) const SAMPLES: usize = 120;

/// Which of the device's sensors, by its id.
pub(super) type SensorId = &'static str;
pub(super) const COUNTER: SensorId = "sim";
pub(super) const INSTANT: SensorId = "sim-instant";
pub(super) const AVERAGE: SensorId = "sim-average";

/// A GPU.
pub(super) struct Board {
    pub(super) index: usize,
    pub(super) parameters: DeviceParameters,
    pub(super) clock: MonotonicClock,
    pub(super) history: History,
    pub(super) sensors: Vec<Sensor>,
    pub(super) board_w: f64,
    pub(super) memory_w: f64,
    pub(super) latency: bool,
    /// Times and watts of the samples kept, and the next one's time.
    pub(super) samples: VecDeque<(f64, f64)>,
    pub(super) next_sample: f64,
}

impl Board {
    pub(super) fn start(index: usize, parameters: DeviceParameters, seed: u64, latency: bool) -> Self {
        let sensors = parameters.sensor.iter().map(|sensor| Sensor::new(sensor, seed, 0.0)).collect();
        let (board_w, memory_w) = (parameters.power.idle_w, parameters.power.memory_idle_w);
        let (clock, history) = (MonotonicClock::start(), History::new(0.0));
        let (samples, next_sample) = (VecDeque::new(), 0.0);
        Self { index, parameters, clock, history, sensors, board_w, memory_w, latency, samples, next_sample }
    }

    /// Seconds since the start, up to which everything is known from here on.
    pub(super) fn now(&mut self) -> f64 {
        let now = self.clock.now().since_origin().value();
        self.history.push(now, self.board_w, self.memory_w);
        for sensor in &mut self.sensors {
            sensor.advance(&self.history, now);
        }
        let needed = self.sensors.iter().map(Sensor::needs_from).fold(now, f64::min);
        self.history.forget_before(needed);
        while self.next_sample <= now {
            self.samples.push_back((self.next_sample, self.board_w));
            self.next_sample += SAMPLE_PERIOD;
            if self.samples.len() > SAMPLES {
                self.samples.pop_front();
            }
        }
        now
    }

    /// Generation of its multiprocessors, by the name.
    pub(super) fn compute_capability(&self) -> Result<(c_int, c_int), Return> {
        let known =
            [("H200", (9, 0)), ("H100", (9, 0)), ("A100", (8, 0)), ("3090", (8, 6)), ("V100", (7, 0))];
        let found = known.iter().find(|(name, _)| self.parameters.name.contains(name));
        found.map(|(_, capability)| *capability).ok_or(NOT_SUPPORTED)
    }

    pub(super) fn has(&self, id: SensorId) -> bool {
        self.parameters.sensor.iter().any(|sensor| sensor.id == id)
    }

    pub(super) fn sensor(&mut self, id: SensorId) -> Result<&mut Sensor, Return> {
        self.sensors.iter_mut().find(|sensor| sensor.parameters().id == id).ok_or(NOT_SUPPORTED)
    }

    /// When a query that begins now is to be answered.
    pub(super) fn answers_at(&mut self, id: SensorId) -> Result<(MonotonicClock, Instant), Return> {
        let (clock, latency) = (self.clock, self.latency);
        let takes = self.sensor(id)?.query_time();
        Ok((clock, clock.now() + Seconds::new(if latency { takes } else { 0.0 })))
    }

    /// Thousandths of the joules or watts that the sensor shows.
    pub(super) fn read(&mut self, id: SensorId) -> Result<u64, Return> {
        let now = self.now();
        Ok((self.sensor(id)?.read(now) * 1e3).round() as u64)
    }

    pub(super) fn uuid(&self) -> String {
        let mut name = self.parameters.name.clone();
        if self.index > 0 {
            name.push_str(&format!(" {}", self.index));
        }
        let digest = Sha256::digest(name.as_bytes());
        let hex = |range: std::ops::Range<usize>| -> String {
            digest[range].iter().map(|byte| format!("{byte:02x}")).collect()
        };
        format!("GPU-{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16))
    }
}

/// What the library knows. The boards live on when the last user leaves, as real ones do.
pub(super) struct Library {
    pub(super) users: u32,
    pub(super) boards: Vec<Board>,
    pub(super) faults: Option<Faults>,
}

static LIBRARY: Mutex<Library> = Mutex::new(Library { users: 0, boards: Vec::new(), faults: None });

pub(super) fn library() -> MutexGuard<'static, Library> {
    LIBRARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says why nothing starts. NVML has no way to say more than a number; if nobody reads this, nothing can be done.
pub(super) fn complain(reason: &dyn std::fmt::Display) -> Return {
    let _ = writeln!(std::io::stderr(), "stand-in for libnvidia-ml: {reason}");
    DRIVER_NOT_LOADED
}

impl Library {
    pub(super) fn start(&mut self, device: &str, seed: u64, latency: bool, gpus: usize) -> Return {
        self.boards.clear();
        self.faults = Some(Faults::default());
        match DeviceParameters::open(device) {
            Ok(parameters) => {
                let board = |index| Board::start(index, parameters.clone(), seed + index as u64, latency);
                self.boards = (0..gpus).map(board).collect();
                SUCCESS
            }
            Err(error) => complain(&error),
        }
    }

    pub(super) fn start_from_environment(&mut self) -> Return {
        let variable = |name: &str| std::env::var(format!("LAYERJOULE_STAND_IN_{name}")).ok();
        let number = |name: &str| variable(name).map_or(Ok(1), |text| text.parse::<u64>());
        let device = variable("DEVICE").unwrap_or_else(|| "h200".to_string());
        let (Ok(seed), Ok(gpus)) = (number("SEED"), number("GPUS")) else {
            return complain(&"seed and number of GPUs are whole numbers");
        };
        let latency = variable("LATENCY").is_some_and(|text| text == "1");
        let started = self.start(&device, seed, latency, gpus as usize);
        match Faults::from_environment(variable) {
            Ok(faults) => self.faults = Some(faults),
            Err(error) => return complain(&error),
        }
        if let (Some(text), Some(board)) = (variable("POWER"), self.boards.first_mut()) {
            let watts = text.split_once(',').and_then(|(b, m)| Some((b.parse().ok()?, m.parse().ok()?)));
            let Some((board_w, memory_w)) = watts else {
                return complain(&"expected watts of board and memory");
            };
            (board.board_w, board.memory_w) = (board_w, memory_w);
        }
        started
    }

    /// The first board, started if it was not yet.
    pub(super) fn board(&mut self) -> Result<&mut Board, Return> {
        self.faults();
        self.boards.first_mut().ok_or(DRIVER_NOT_LOADED)
    }

    /// What is wrong; starts the boards if nothing was started yet.
    pub(super) fn faults(&mut self) -> &mut Faults {
        if self.faults.is_none() {
            self.start_from_environment();
        }
        self.faults.get_or_insert_default()
    }

    /// Whether a function works.
    pub(super) fn works(&mut self, function: &str) -> Result<(), Return> {
        self.faults();
        let now = self.boards.first().map_or(0.0, |board| board.clock.now().since_origin().value());
        self.faults().of(function, now).map_or(Ok(()), Err)
    }
}

/// `nvmlDevice_t`.
pub(super) type Device = *mut c_void;

/// Does something with the board that a caller means.
pub(super) fn on<T>(device: Device, act: impl FnOnce(&mut Board) -> Result<T, Return>) -> Result<T, Return> {
    let mut library = library();
    if library.users == 0 {
        return Err(UNINITIALIZED);
    }
    library.board()?;
    let index = (device as usize).checked_sub(HANDLE);
    act(index.and_then(|index| library.boards.get_mut(index)).ok_or(INVALID_ARGUMENT)?)
}

/// Thousandths of joules or watts. The query's time passes while nobody is kept waiting.
pub(super) fn query(device: Device, id: SensorId) -> Result<u64, Return> {
    let (clock, at) = on(device, |board| board.answers_at(id))?;
    clock.sleep_until(at);
    on(device, |board| board.read(id))
}

/// Millijoules, less what the counter went backwards.
pub(super) fn counted(device: Device) -> Result<u64, Return> {
    let millijoules = query(device, COUNTER)?;
    let back = (library().faults().gone_back_j * 1e3).round() as u64;
    Ok(millijoules.saturating_sub(back))
}

pub(super) fn query_power(device: Device, id: SensorId) -> Result<c_uint, Return> {
    query(device, id).map(|milliwatts| c_uint::try_from(milliwatts).unwrap_or(c_uint::MAX))
}
