//! A stand-in for `libnvidia-ml.so`: the sensors of a simulated device behind NVIDIA's interface, in real time.
//!
//! Programs load it in place of the driver's library (`layerjoule --nvml-lib FILE`, `nvml_wrapper::Nvml::builder()
//! .lib_path(FILE)`) and see one GPU whose true power is known. `cargo build --example fake_nvml` puts it to
//! `target/debug/examples/libfake_nvml.so`.
//!
//! | variable | meaning |
//! |---|---|
//! | `LAYERJOULE_STAND_IN_DEVICE` | what follows `sim:` on the command line: a preset or a device file; `h200` if unset |
//! | `LAYERJOULE_STAND_IN_SEED` | seed of noise and schedule; 1 if unset |
//! | `LAYERJOULE_STAND_IN_LATENCY` | 1: a query of a sensor takes its time; otherwise queries return at once |
//!
//! The device starts when the process first asks something. It draws its idle power until told otherwise:
//!
//! | function | does |
//! |---|---|
//! | `int stand_in_set_power(double board_w, double memory_w)` | the true power from now on |
//! | `double stand_in_true_joules(void)` | joules that the board has used since the start; NaN without a device |
//! | `int stand_in_reset(void)` | starts the environment's device anew, as a reloaded driver does |
//! | `int stand_in_start(const char *device, uint64_t seed, int latency)` | starts another device, for tests that cannot change their environment |
//!
//! They return what NVML functions return. Sensors are told apart by their ids: `sim` is the energy counter (fields 83
//! and 191), `sim-instant` the power of field 186, `sim-average` that of field 185. As the manual has it,
//! `nvmlDeviceGetPowerUsage` gives the average where there is one. Temperature is that of the present power in the long
//! run; MIG is off, nobody else computes. Two copies of the file loaded by one process are two separate machines.
//!
//! Return codes, field numbers and structures are those of nvml.h. Any function may be called from any thread.
#![allow(
    missing_docs,
    non_snake_case,
    clippy::missing_safety_doc,
    reason = "the functions and what their callers promise are described in NVIDIA's manual"
)]

use std::ffi::{CStr, c_char, c_double, c_int, c_longlong, c_uint, c_ulonglong, c_void};
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use layerjoule::clock::{Clock, Instant, MonotonicClock};
use layerjoule::sim::{DeviceParameters, Domain, EnergyCurve as _, History, Sensor};
use layerjoule::units::Seconds;
use sha2::{Digest, Sha256};

/// `nvmlReturn_t`.
type Return = c_uint;
const SUCCESS: Return = 0;
const UNINITIALIZED: Return = 1;
const INVALID_ARGUMENT: Return = 2;
const NOT_SUPPORTED: Return = 3;
const NOT_FOUND: Return = 6;
const INSUFFICIENT_SIZE: Return = 7;
const DRIVER_NOT_LOADED: Return = 9;

const DRIVER: &str = "580.95.05";
/// Any address that is not null; nothing lies there.
const HANDLE: usize = 0x6A6F_756C;

/// Which of the device's sensors, by its id.
type SensorId = &'static str;
const COUNTER: SensorId = "sim";
const INSTANT: SensorId = "sim-instant";
const AVERAGE: SensorId = "sim-average";

/// The one GPU.
struct Board {
    parameters: DeviceParameters,
    clock: MonotonicClock,
    history: History,
    sensors: Vec<Sensor>,
    board_w: f64,
    memory_w: f64,
    latency: bool,
}

impl Board {
    fn start(parameters: DeviceParameters, seed: u64, latency: bool) -> Self {
        let sensors = parameters.sensor.iter().map(|sensor| Sensor::new(sensor, seed, 0.0)).collect();
        let (board_w, memory_w) = (parameters.power.idle_w, parameters.power.memory_idle_w);
        let (clock, history) = (MonotonicClock::start(), History::new(0.0));
        Self { parameters, clock, history, sensors, board_w, memory_w, latency }
    }

    /// Seconds since the start, up to which everything is known from here on.
    fn now(&mut self) -> f64 {
        let now = self.clock.now().since_origin().value();
        self.history.push(now, self.board_w, self.memory_w);
        for sensor in &mut self.sensors {
            sensor.advance(&self.history, now);
        }
        let needed = self.sensors.iter().map(Sensor::needs_from).fold(now, f64::min);
        self.history.forget_before(needed);
        now
    }

    fn has(&self, id: SensorId) -> bool {
        self.parameters.sensor.iter().any(|sensor| sensor.id == id)
    }

    fn sensor(&mut self, id: SensorId) -> Result<&mut Sensor, Return> {
        self.sensors.iter_mut().find(|sensor| sensor.parameters().id == id).ok_or(NOT_SUPPORTED)
    }

    /// When a query that begins now is to be answered.
    fn answers_at(&mut self, id: SensorId) -> Result<(MonotonicClock, Instant), Return> {
        let (clock, latency) = (self.clock, self.latency);
        let takes = self.sensor(id)?.query_time();
        Ok((clock, clock.now() + Seconds::new(if latency { takes } else { 0.0 })))
    }

    /// Thousandths of the joules or watts that the sensor shows.
    fn read(&mut self, id: SensorId) -> Result<u64, Return> {
        let now = self.now();
        Ok((self.sensor(id)?.read(now) * 1e3).round() as u64)
    }

    fn uuid(&self) -> String {
        let digest = Sha256::digest(self.parameters.name.as_bytes());
        let hex = |range: std::ops::Range<usize>| -> String {
            digest[range].iter().map(|byte| format!("{byte:02x}")).collect()
        };
        format!("GPU-{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16))
    }
}

/// What the library knows. The board lives on when the last user leaves, as a real one does.
struct Library {
    users: u32,
    board: Option<Board>,
}

static LIBRARY: Mutex<Library> = Mutex::new(Library { users: 0, board: None });

fn library() -> MutexGuard<'static, Library> {
    LIBRARY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Library {
    fn start(&mut self, device: &str, seed: u64, latency: bool) -> Return {
        match DeviceParameters::open(device) {
            Ok(parameters) => {
                self.board = Some(Board::start(parameters, seed, latency));
                SUCCESS
            }
            Err(error) => {
                self.board = None;
                // NVML has no way to say more than a number; if nobody reads this, nothing can be done.
                let _ = writeln!(std::io::stderr(), "stand-in for libnvidia-ml: {error}");
                DRIVER_NOT_LOADED
            }
        }
    }

    fn start_from_environment(&mut self) -> Return {
        let variable = |name: &str| std::env::var(format!("LAYERJOULE_STAND_IN_{name}")).ok();
        let device = variable("DEVICE").unwrap_or_else(|| "h200".to_string());
        let seed = variable("SEED").map_or(Ok(1), |text| text.parse());
        let Ok(seed) = seed else {
            let _ = writeln!(std::io::stderr(), "stand-in for libnvidia-ml: the seed is no whole number");
            return DRIVER_NOT_LOADED;
        };
        self.start(&device, seed, variable("LATENCY").is_some_and(|text| text == "1"))
    }

    /// The board, started if it was not yet.
    fn board(&mut self) -> Result<&mut Board, Return> {
        if self.board.is_none() {
            self.start_from_environment();
        }
        self.board.as_mut().ok_or(DRIVER_NOT_LOADED)
    }
}

/// `nvmlDevice_t`.
type Device = *mut c_void;

/// Does something with the board that a caller means.
fn on<T>(device: Device, act: impl FnOnce(&mut Board) -> Result<T, Return>) -> Result<T, Return> {
    let mut library = library();
    if library.users == 0 {
        return Err(UNINITIALIZED);
    }
    if device as usize != HANDLE {
        return Err(INVALID_ARGUMENT);
    }
    act(library.board()?)
}

/// Thousandths of joules or watts. The query's time passes while nobody is kept waiting.
fn query(device: Device, id: SensorId) -> Result<u64, Return> {
    let (clock, at) = on(device, |board| board.answers_at(id))?;
    clock.sleep_until(at);
    on(device, |board| board.read(id))
}

fn query_power(device: Device, id: SensorId) -> Result<c_uint, Return> {
    query(device, id).map(|milliwatts| c_uint::try_from(milliwatts).unwrap_or(c_uint::MAX))
}

/// Hands an answer to the caller.
///
/// # Safety
///
/// `to` is null or can be written.
unsafe fn answer<T>(to: *mut T, find: impl FnOnce() -> Result<T, Return>) -> Return {
    if to.is_null() {
        return if library().users == 0 { UNINITIALIZED } else { INVALID_ARGUMENT };
    }
    match find() {
        Ok(value) => {
            // SAFETY: it is not null, and the caller promises the rest.
            unsafe { to.write(value) };
            SUCCESS
        }
        Err(error) => error,
    }
}

/// Hands a text to the caller, with its final zero.
///
/// # Safety
///
/// `to` is null or `length` bytes there can be written.
unsafe fn answer_text(
    to: *mut c_char,
    length: c_uint,
    find: impl FnOnce() -> Result<String, Return>,
) -> Return {
    let copy = || {
        let text = find()?;
        if text.len() >= length as usize {
            return Err(INSUFFICIENT_SIZE);
        }
        Ok(text)
    };
    match copy() {
        _ if to.is_null() => INVALID_ARGUMENT,
        Err(error) => error,
        Ok(text) => {
            let text = text + "\0";
            // SAFETY: it is not null and the text fits, as was just found; the caller promises the rest.
            unsafe { to.copy_from_nonoverlapping(text.as_ptr().cast(), text.len()) };
            SUCCESS
        }
    }
}

/// A text of the caller.
///
/// # Safety
///
/// `text` is null or ends with a zero.
unsafe fn text_of<'a>(text: *const c_char) -> Result<&'a str, Return> {
    if text.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: it is not null, and the caller promises the rest.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| INVALID_ARGUMENT)
}

// What only tests call.

/// The true power from now on.
#[unsafe(no_mangle)]
pub extern "C" fn stand_in_set_power(board_w: c_double, memory_w: c_double) -> Return {
    if !(memory_w >= 0.0 && board_w >= memory_w && board_w.is_finite()) {
        return INVALID_ARGUMENT;
    }
    match library().board() {
        Ok(board) => {
            board.now();
            (board.board_w, board.memory_w) = (board_w, memory_w);
            SUCCESS
        }
        Err(error) => error,
    }
}

/// The board's joules since its start.
#[unsafe(no_mangle)]
pub extern "C" fn stand_in_true_joules() -> c_double {
    library().board().map_or(f64::NAN, |board| {
        let now = board.now();
        board.history.joules(Domain::Board, now)
    })
}

/// Starts the environment's device anew.
#[unsafe(no_mangle)]
pub extern "C" fn stand_in_reset() -> Return {
    library().start_from_environment()
}

/// Starts another device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stand_in_start(device: *const c_char, seed: u64, latency: c_int) -> Return {
    // SAFETY: as the caller promises.
    match unsafe { text_of(device) } {
        Ok(device) => library().start(device, seed, latency != 0),
        Err(error) => error,
    }
}

// What NVML has, in the order of its manual.

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Return {
    let mut library = library();
    if let Err(error) = library.board() {
        return error;
    }
    library.users += 1;
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Return {
    let mut library = library();
    match library.users.checked_sub(1) {
        Some(users) => {
            library.users = users;
            SUCCESS
        }
        None => UNINITIALIZED,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(result: Return) -> *const c_char {
    let text = match result {
        SUCCESS => c"Success",
        UNINITIALIZED => c"Uninitialized",
        INVALID_ARGUMENT => c"Invalid Argument",
        NOT_SUPPORTED => c"Not Supported",
        NOT_FOUND => c"Not Found",
        INSUFFICIENT_SIZE => c"Insufficient Size",
        DRIVER_NOT_LOADED => c"Driver Not Loaded",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> Return {
    let find = || if library().users == 0 { Err(UNINITIALIZED) } else { Ok(DRIVER.to_string()) };
    // SAFETY: as the caller promises.
    unsafe { answer_text(version, length, find) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Return {
    // SAFETY: as the caller promises.
    unsafe { answer(count, || on(HANDLE as Device, |_| Ok(1))) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Device) -> Return {
    let handle = if index == 0 { HANDLE } else { 0 };
    // SAFETY: as the caller promises.
    unsafe { answer(device, || on(handle as Device, |_| Ok(HANDLE as Device))) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Device) -> Return {
    // SAFETY: as the caller promises.
    let wanted = unsafe { text_of(uuid) };
    let find =
        |board: &mut Board| if wanted? == board.uuid() { Ok(HANDLE as Device) } else { Err(NOT_FOUND) };
    // SAFETY: as the caller promises.
    unsafe { answer(device, || on(HANDLE as Device, find)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(device: Device, name: *mut c_char, length: c_uint) -> Return {
    // SAFETY: as the caller promises.
    unsafe { answer_text(name, length, || on(device, |board| Ok(board.parameters.name.clone()))) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: Device, uuid: *mut c_char, length: c_uint) -> Return {
    // SAFETY: as the caller promises.
    unsafe { answer_text(uuid, length, || on(device, |board| Ok(board.uuid()))) }
}

/// Clocks of kind 0 (graphics) and 1 (SM) are one; kinds below 4 exist but are not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetClockInfo(device: Device, kind: c_uint, clock: *mut c_uint) -> Return {
    let find = |board: &mut Board| match kind {
        0 | 1 => Ok(board.parameters.clock.reference_mhz.round() as c_uint),
        2 | 3 => Err(NOT_SUPPORTED),
        _ => Err(INVALID_ARGUMENT),
    };
    // SAFETY: as the caller promises.
    unsafe { answer(clock, || on(device, find)) }
}

/// The only sensor is 0, the GPU.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: Device,
    sensor: c_uint,
    celsius: *mut c_uint,
) -> Return {
    let find = |board: &mut Board| match sensor {
        0 => {
            let thermal = &board.parameters.thermal;
            Ok((thermal.ambient_c + thermal.resistance_k_per_w * board.board_w).round() as c_uint)
        }
        _ => Err(INVALID_ARGUMENT),
    };
    // SAFETY: as the caller promises.
    unsafe { answer(celsius, || on(device, find)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEnforcedPowerLimit(device: Device, milliwatts: *mut c_uint) -> Return {
    let find = |board: &mut Board| Ok((board.parameters.power.limit_w * 1e3).round() as c_uint);
    // SAFETY: as the caller promises.
    unsafe { answer(milliwatts, || on(device, find)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCurrentClocksEventReasons(
    device: Device,
    reasons: *mut c_ulonglong,
) -> Return {
    const GPU_IDLE: c_ulonglong = 1;
    const SOFTWARE_POWER_CAP: c_ulonglong = 4;
    let find = |board: &mut Board| {
        let power = &board.parameters.power;
        let idle = if board.board_w <= power.idle_w { GPU_IDLE } else { 0 };
        Ok(if board.board_w >= power.limit_w { SOFTWARE_POWER_CAP } else { idle })
    };
    // SAFETY: as the caller promises.
    unsafe { answer(reasons, || on(device, find)) }
}

/// The older name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(
    device: Device,
    reasons: *mut c_ulonglong,
) -> Return {
    // SAFETY: as the caller promises.
    unsafe { nvmlDeviceGetCurrentClocksEventReasons(device, reasons) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(device: Device, milliwatts: *mut c_uint) -> Return {
    let find = || {
        let average = on(device, |board| Ok(board.has(AVERAGE)))?;
        query_power(device, if average { AVERAGE } else { INSTANT })
    };
    // SAFETY: as the caller promises.
    unsafe { answer(milliwatts, find) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(
    device: Device,
    millijoules: *mut c_ulonglong,
) -> Return {
    // SAFETY: as the caller promises.
    unsafe { answer(millijoules, || query(device, COUNTER)) }
}

/// No process computes; without room for any, too, that is all there is to say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Device,
    count: *mut c_uint,
    _infos: *mut c_void,
) -> Return {
    // SAFETY: as the caller promises.
    unsafe { answer(count, || on(device, |_| Ok(0))) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: Device,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Return {
    const DISABLED: c_uint = 0;
    // SAFETY: as the caller promises.
    match unsafe { answer(current, || on(device, |_| Ok(DISABLED))) } {
        // SAFETY: as the caller promises.
        SUCCESS => unsafe { answer(pending, || Ok(DISABLED)) },
        error => error,
    }
}

/// `nvmlValue_t`, with the members that occur here.
#[repr(C)]
#[derive(Clone, Copy)]
pub union Value {
    unsigned: c_uint,
    long_unsigned: c_ulonglong,
}

/// `nvmlFieldValue_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FieldValue {
    field: c_uint,
    scope: c_uint,
    /// Microseconds since 1970, and how long the query took.
    timestamp: c_longlong,
    latency: c_longlong,
    kind: c_uint,
    result: Return,
    value: Value,
}

impl FieldValue {
    const UNSIGNED: c_uint = 1;
    const LONG_UNSIGNED: c_uint = 3;

    /// Fills in what is asked for.
    fn look_up(&mut self, device: Device, clock: MonotonicClock) {
        let asked = clock.now();
        let found = match (self.field, self.scope) {
            (185, 0) => query_power(device, AVERAGE).map(|unsigned| (Self::UNSIGNED, Value { unsigned })),
            (186, 0) => query_power(device, INSTANT).map(|unsigned| (Self::UNSIGNED, Value { unsigned })),
            (83 | 191, 0) => {
                query(device, COUNTER).map(|long_unsigned| (Self::LONG_UNSIGNED, Value { long_unsigned }))
            }
            _ => Err(NOT_SUPPORTED),
        };
        let answered = clock.now();
        let unix = clock.origin_unix() + answered.since_origin();
        self.timestamp = (unix.value() * 1e6) as c_longlong;
        self.latency = ((answered - asked).value() * 1e6) as c_longlong;
        match found {
            Ok((kind, value)) => (self.kind, self.value, self.result) = (kind, value, SUCCESS),
            Err(error) => self.result = error,
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: Device,
    count: c_int,
    values: *mut FieldValue,
) -> Return {
    let clock = match on(device, |board| Ok(board.clock)) {
        Ok(clock) => clock,
        Err(error) => return error,
    };
    match usize::try_from(count) {
        Ok(count) if count > 0 && !values.is_null() => {
            // SAFETY: it is not null, and the caller promises that `count` values lie there.
            let values = unsafe { std::slice::from_raw_parts_mut(values, count) };
            values.iter_mut().for_each(|value| value.look_up(device, clock));
            SUCCESS
        }
        _ => INVALID_ARGUMENT,
    }
}
