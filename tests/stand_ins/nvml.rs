//! A stand-in for `libnvidia-ml.so`: the sensors of a simulated device behind NVIDIA's interface, in real time.
//!
//! Programs load it in place of the driver's library (`layerjoule --nvml-lib FILE`, `nvml_wrapper::Nvml::builder()
//! .lib_path(FILE)`) and see GPUs whose true power is known. Its driver version says "stand-in", by which the program
//! knows that nothing here is hardware. `cargo build --example fake_nvml` puts it to
//! `target/debug/examples/libfake_nvml.so`.
//!
//! | variable | meaning |
//! |---|---|
//! | `LAYERJOULE_STAND_IN_DEVICE` | what follows `sim:` on the command line: a preset or a device file; `h200` if unset |
//! | `LAYERJOULE_STAND_IN_SEED` | seed of noise and schedule; 1 if unset |
//! | `LAYERJOULE_STAND_IN_LATENCY` | 1: a query of a sensor takes its time; otherwise queries return at once |
//! | `LAYERJOULE_STAND_IN_POWER` | watts of board and memory from the start, as in `300,40`; the idle power if unset |
//! | `LAYERJOULE_STAND_IN_GPUS` | how many such GPUs there are; 1 if unset. All but the first idle for ever |
//! | `LAYERJOULE_STAND_IN_ERRORS` | what fails: `FUNCTION=CODE@SECONDS,…`, with the function's name, `field 186` for one field, or `*` for everything asked of a GPU; `@SECONDS` after the start may be left out. `*=15@3`: the GPU is lost after three seconds |
//! | `LAYERJOULE_STAND_IN_MIG` | 1: MIG splits the GPUs |
//! | `LAYERJOULE_STAND_IN_PROCESSES` | numbers of processes that compute on the first GPU, separated by commas |
//!
//! The device starts when the process first asks something. It draws its idle power until told otherwise:
//!
//! | function | does |
//! |---|---|
//! | `int stand_in_set_power(double board_w, double memory_w)` | the true power from now on |
//! | `double stand_in_true_joules(void)` | joules that the board has used since the start; NaN without a device |
//! | `int stand_in_reset(void)` | starts the environment's device anew, as a reloaded driver does |
//! | `int stand_in_start(const char *device, uint64_t seed, int latency)` | starts another device, for tests that cannot change their environment |
//! | `int stand_in_fail(const char *function, unsigned code)` | from now on a function fails, named as above; 0: works again |
//! | `int stand_in_go_back(double joules)` | the energy counter goes backwards by so much |
//!
//! They return what NVML functions return. Sensors are told apart by their ids: `sim` is the energy counter (fields 83
//! and 191), `sim-instant` the power of field 186, `sim-average` that of field 185. As the manual has it,
//! `nvmlDeviceGetPowerUsage` gives the average where there is one; boards named H100 or H200 have that of the memory (scope
//! 2), without its lag. Temperature is that of the present power in the long run. `nvmlDeviceGetSamples` has the true
//! power at every tenth of a second of the last twelve. Two copies of the file loaded by one process are two separate
//! machines.
//!
//! Return codes, field numbers and structures are those of nvml.h. Any function may be called from any thread.
#![allow(
    missing_docs,
    non_snake_case,
    clippy::missing_safety_doc,
    reason = "the functions and what their callers promise are described in NVIDIA's manual"
)]

mod nvml_faults;
mod nvml_machine;

use std::ffi::{CStr, c_char, c_double, c_int, c_longlong, c_uint, c_ulonglong};

use layerjoule::clock::{Clock as _, MonotonicClock};
use layerjoule::sim::{Domain, EnergyCurve as _};
use nvml_machine::{
    AVERAGE, Board, DRIVER, DRIVER_NOT_LOADED, Device, HANDLE, INSTANT, INSUFFICIENT_SIZE, INVALID_ARGUMENT,
    NOT_FOUND, NOT_SUPPORTED, Return, SUCCESS, UNINITIALIZED, counted, library, on, query_power,
};

/// Hands an answer to the caller.
///
/// # Safety
///
/// `to` is null or can be written.
unsafe fn answer<T>(function: &str, to: *mut T, find: impl FnOnce() -> Result<T, Return>) -> Return {
    if to.is_null() {
        return if library().users == 0 { UNINITIALIZED } else { INVALID_ARGUMENT };
    }
    let works = library().works(function);
    match works.and_then(|()| find()) {
        Ok(value) => {
            // SAFETY: it is not null, and the caller promises the rest.
            unsafe { to.write(value) };
            SUCCESS
        }
        Err(error) => error,
    }
}

/// Hands two answers to the caller.
///
/// # Safety
///
/// Both are null or can be written.
unsafe fn answer_both<T: Copy>(
    function: &str,
    to: [*mut T; 2],
    find: impl FnOnce() -> Result<[T; 2], Return>,
) -> Return {
    let mut found = None;
    let first = || {
        let both = find()?;
        found = Some(both[1]);
        Ok(both[0])
    };
    // SAFETY: as the caller promises.
    match unsafe { answer(function, to[0], first) } {
        // SAFETY: as the caller promises.
        SUCCESS => unsafe { answer(function, to[1], || found.ok_or(INVALID_ARGUMENT)) },
        error => error,
    }
}

/// Hands a text to the caller, with its final zero.
///
/// # Safety
///
/// `to` is null or `length` bytes there can be written.
unsafe fn answer_text(
    function: &str,
    to: *mut c_char,
    length: c_uint,
    find: impl FnOnce() -> Result<String, Return>,
) -> Return {
    let copy = || {
        library().works(function)?;
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

/// From now on a function fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stand_in_fail(function: *const c_char, code: Return) -> Return {
    // SAFETY: as the caller promises.
    match unsafe { text_of(function) } {
        Ok(function) => {
            library().faults().fail(function, code);
            SUCCESS
        }
        Err(error) => error,
    }
}

/// The energy counter goes backwards.
#[unsafe(no_mangle)]
pub extern "C" fn stand_in_go_back(joules: c_double) -> Return {
    library().faults().gone_back_j += joules;
    SUCCESS
}

/// Starts another device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stand_in_start(device: *const c_char, seed: u64, latency: c_int) -> Return {
    // SAFETY: as the caller promises.
    match unsafe { text_of(device) } {
        Ok(device) => library().start(device, seed, latency != 0, 1),
        Err(error) => error,
    }
}

// What NVML has, in the order of its manual.

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Return {
    let mut library = library();
    let works = library.works("nvmlInit_v2");
    if let Err(error) = works.and_then(|()| library.board().map(|_| ())) {
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
    unsafe { answer_text("nvmlSystemGetDriverVersion", version, length, find) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Return {
    // SAFETY: as the caller promises.
    unsafe {
        answer("nvmlDeviceGetCount_v2", count, || {
            on(HANDLE as Device, |_| Ok(()))?;
            Ok(library().boards.len() as c_uint)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Device) -> Return {
    let handle = HANDLE + index as usize;
    // SAFETY: as the caller promises.
    unsafe {
        answer("nvmlDeviceGetHandleByIndex_v2", device, || on(handle as Device, |_| Ok(handle as Device)))
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Device) -> Return {
    // SAFETY: as the caller promises.
    let wanted = unsafe { text_of(uuid) };
    let find = || {
        let wanted = wanted?;
        on(HANDLE as Device, |_| Ok(()))?;
        let at = library().boards.iter().position(|board| board.uuid() == wanted).ok_or(NOT_FOUND)?;
        Ok((HANDLE + at) as Device)
    };
    // SAFETY: as the caller promises.
    unsafe { answer("nvmlDeviceGetHandleByUUID", device, find) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(device: Device, name: *mut c_char, length: c_uint) -> Return {
    // SAFETY: as the caller promises.
    unsafe {
        answer_text("nvmlDeviceGetName", name, length, || {
            on(device, |board| Ok(board.parameters.name.clone()))
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: Device, uuid: *mut c_char, length: c_uint) -> Return {
    // SAFETY: as the caller promises.
    unsafe { answer_text("nvmlDeviceGetUUID", uuid, length, || on(device, |board| Ok(board.uuid()))) }
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
    unsafe { answer("nvmlDeviceGetClockInfo", clock, || on(device, find)) }
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
    unsafe { answer("nvmlDeviceGetTemperature", celsius, || on(device, find)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEnforcedPowerLimit(device: Device, milliwatts: *mut c_uint) -> Return {
    let find = |board: &mut Board| Ok((board.parameters.power.limit_w * 1e3).round() as c_uint);
    // SAFETY: as the caller promises.
    unsafe { answer("nvmlDeviceGetEnforcedPowerLimit", milliwatts, || on(device, find)) }
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
    unsafe { answer("nvmlDeviceGetCurrentClocksEventReasons", reasons, || on(device, find)) }
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
    unsafe { answer("nvmlDeviceGetPowerUsage", milliwatts, find) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(
    device: Device,
    millijoules: *mut c_ulonglong,
) -> Return {
    // SAFETY: as the caller promises.
    unsafe { answer("nvmlDeviceGetTotalEnergyConsumption", millijoules, || counted(device)) }
}

/// `nvmlProcessInfo_v2_t`, which the third version of the function uses too.
#[repr(C)]
pub struct ProcessInfo {
    pid: c_uint,
    memory: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Device,
    count: *mut c_uint,
    infos: *mut ProcessInfo,
) -> Return {
    let find = || {
        let index = on(device, |board| Ok(board.index))?;
        Ok(if index == 0 { library().faults().processes.clone() } else { Vec::new() })
    };
    if count.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: it is not null, and the caller promises the rest.
    let room = unsafe { count.read() } as usize;
    let works = library().works("nvmlDeviceGetComputeRunningProcesses_v3");
    let pids = match works.and_then(|()| find()) {
        Ok(pids) => pids,
        Err(error) => return error,
    };
    // SAFETY: as above.
    unsafe { count.write(pids.len() as c_uint) };
    if pids.is_empty() {
        return SUCCESS;
    }
    if pids.len() > room || infos.is_null() {
        return INSUFFICIENT_SIZE;
    }
    const NONE: c_uint = c_uint::MAX;
    let info = |pid| ProcessInfo { pid, memory: 1 << 30, gpu_instance: NONE, compute_instance: NONE };
    let found: Vec<ProcessInfo> = pids.into_iter().map(info).collect();
    // SAFETY: the caller promises room for as many as `count` said.
    unsafe { infos.copy_from_nonoverlapping(found.as_ptr(), found.len()) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: Device,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Return {
    let find = || {
        on(device, |_| Ok(()))?;
        Ok(c_uint::from(library().faults().mig))
    };
    // SAFETY: as the caller promises.
    unsafe { answer_both("nvmlDeviceGetMigMode", [current, pending], || find().map(|mode| [mode; 2])) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: Device,
    major: *mut c_int,
    minor: *mut c_int,
) -> Return {
    let find = || on(device, |board| board.compute_capability()).map(|(major, minor)| [major, minor]);
    // SAFETY: as the caller promises.
    unsafe { answer_both("nvmlDeviceGetCudaComputeCapability", [major, minor], find) }
}

/// The driver stays loaded.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPersistenceMode(device: Device, mode: *mut c_uint) -> Return {
    // SAFETY: as the caller promises.
    unsafe { answer("nvmlDeviceGetPersistenceMode", mode, || on(device, |_| Ok(1))) }
}

/// `nvmlSample_t`.
#[repr(C)]
pub struct Sample {
    /// Microseconds since 1970.
    timestamp: c_ulonglong,
    value: Value,
}

/// Kind 0 is the power of the board; others are not kept. Without room for any, it says how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSamples(
    device: Device,
    kind: c_uint,
    since: c_ulonglong,
    value_type: *mut c_uint,
    count: *mut c_uint,
    samples: *mut Sample,
) -> Return {
    let find = |board: &mut Board| {
        if kind != 0 {
            return Err(NOT_SUPPORTED);
        }
        board.now();
        let origin = board.clock.origin_unix().value();
        let kept = board.samples.iter().map(|(at, watts)| Sample {
            timestamp: ((origin + at) * 1e6) as c_ulonglong,
            value: Value { unsigned: (watts * 1e3).round() as c_uint },
        });
        Ok(kept.filter(|sample| sample.timestamp > since).collect::<Vec<_>>())
    };
    let works = library().works("nvmlDeviceGetSamples");
    let found = match works.and_then(|()| on(device, find)) {
        Ok(found) => found,
        Err(error) => return error,
    };
    if value_type.is_null() || count.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: it is not null, and the caller promises the rest.
    unsafe { value_type.write(FieldValue::UNSIGNED) };
    if samples.is_null() {
        // SAFETY: as above.
        unsafe { count.write(found.len() as c_uint) };
        return SUCCESS;
    }
    // SAFETY: as above.
    let room = unsafe { count.read() } as usize;
    let given = found.len().min(room);
    // SAFETY: the caller promises room for as many as `count` said.
    unsafe { samples.copy_from_nonoverlapping(found.as_ptr(), given) };
    // SAFETY: as above.
    unsafe { count.write(given as c_uint) };
    SUCCESS
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
        let works = library().works(&format!("field {}", self.field));
        let found = works.and_then(|()| match (self.field, self.scope) {
            (185, 0) => query_power(device, AVERAGE).map(|unsigned| (Self::UNSIGNED, Value { unsigned })),
            (186, 0) => query_power(device, INSTANT).map(|unsigned| (Self::UNSIGNED, Value { unsigned })),
            (83 | 191, 0) => {
                counted(device).map(|long_unsigned| (Self::LONG_UNSIGNED, Value { long_unsigned }))
            }
            (185, 2) => on(device, |board| match board.compute_capability() {
                Ok((9, 0)) => {
                    Ok((Self::UNSIGNED, Value { unsigned: (board.memory_w * 1e3).round() as c_uint }))
                }
                _ => Err(NOT_SUPPORTED),
            }),
            _ => Err(NOT_SUPPORTED),
        });
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
    let works = library().works("nvmlDeviceGetFieldValues");
    let clock = match works.and_then(|()| on(device, |board| Ok(board.clock))) {
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
