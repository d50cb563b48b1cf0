//! The whole state of the emulated GPU and of the libraries that use it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::env;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUresult as R;
use layerjoule::clock::{Clock, Instant, MonotonicClock};
use layerjoule::units::Seconds;

use crate::cudnn;
use crate::graphs::Graphs;
use crate::kernels::Kernels;
use crate::memory::Memory;
use crate::queue::Queue;

/// A return code of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) u32);

impl From<R> for Code {
    fn from(code: R) -> Self {
        Self(code as u32)
    }
}

pub(crate) type Cu<T> = Result<T, Code>;

/// What a function of the driver returns.
pub(crate) fn code(result: Cu<()>) -> u32 {
    result.map_or_else(|code| code.0, |()| 0)
}

/// Writes an answer, or says that there is no place for it.
pub(crate) fn put<T>(to: crate::pointers::Out<T>, value: T) -> Cu<()> {
    if to.put(value) { Ok(()) } else { Err(R::CUDA_ERROR_INVALID_VALUE.into()) }
}

/// What can be set from outside.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) capability: (i32, i32),
    /// As `CUDA_VERSION` codes it.
    pub(crate) cuda: i32,
    pub(crate) l2: i32,
    pub(crate) multiprocessors: i32,
    pub(crate) flops: f64,
    pub(crate) bandwidth: f64,
    pub(crate) overhead: f64,
    pub(crate) latency: f64,
    pub(crate) log: bool,
    /// Where compiled kernels are kept.
    pub(crate) cache: Option<std::path::PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            uuid: "GPU-00000000-0000-0000-0000-000000000001".to_string(),
            name: "Emulated GPU".to_string(),
            capability: (9, 0),
            cuda: 13_000,
            l2: 256 << 10,
            multiprocessors: 4,
            flops: 4e9,
            bandwidth: 8e9,
            overhead: 5e-6,
            latency: 5e-6,
            log: false,
            cache: None,
        }
    }
}

/// When a function fails.
#[derive(Debug, Clone, Copy)]
struct Fault {
    code: u32,
    /// The first call that fails; the first is 1.
    first: u64,
    /// Whether later ones fail too.
    lasting: bool,
}

/// What fails on demand.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    functions: BTreeMap<String, Fault>,
    calls: BTreeMap<String, u64>,
    /// After how many pieces of work the device is lost, and with which code.
    lost: Option<(u64, u32)>,
    kernel: Option<(String, u32)>,
}

impl Faults {
    /// The code with which this call of a function fails.
    pub(crate) fn of_call(&mut self, function: &str) -> Option<u32> {
        let fault = *self.functions.get(function)?;
        let calls = self.calls.entry(function.to_string()).or_default();
        *calls += 1;
        (*calls == fault.first || fault.lasting && *calls > fault.first).then_some(fault.code)
    }

    /// The code with which a piece of work fails after `executed` others.
    pub(crate) fn of_work(&self, executed: u64, name: &str) -> Option<u32> {
        let lost = self.lost.filter(|(after, _)| executed >= *after).map(|(_, code)| code);
        let kernel =
            self.kernel.as_ref().filter(|(part, _)| name.contains(part.as_str())).map(|(_, code)| *code);
        lost.or(kernel)
    }
}

/// Everything.
pub(crate) struct Machine {
    pub(crate) settings: Settings,
    pub(crate) faults: Faults,
    pub(crate) clock: MonotonicClock,
    pub(crate) initialised: bool,
    /// How often the primary context is retained.
    pub(crate) retained: u32,
    /// The error that every call returns from now on.
    pub(crate) sticky: Option<u32>,
    pub(crate) executed: u64,
    pub(crate) memory: Memory,
    pub(crate) queue: Queue,
    pub(crate) graphs: Graphs,
    pub(crate) kernels: Kernels,
    pub(crate) cudnn: cudnn::State,
    pub(crate) blas: crate::blas::State,
    last_handle: usize,
}

/// The only device's primary context; contexts are otherwise not made.
pub(crate) const CONTEXT: usize = 0xC0DE_0000;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

static MACHINE: LazyLock<Mutex<Machine>> = LazyLock::new(|| Mutex::new(Machine::from_environment()));

/// The machine, locked for the caller.
pub(crate) fn machine() -> MutexGuard<'static, Machine> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The context that is current to the calling thread.
pub(crate) fn current() -> usize {
    CURRENT.get()
}

pub(crate) fn set_current(context: usize) {
    CURRENT.set(context);
}

/// Errors after which a context is of no use any more (CUDA Driver API, "CUresult": "This leaves the process in an
/// inconsistent state and any further CUDA work will return the same error").
fn stays(code: u32) -> bool {
    use R::{
        CUDA_ERROR_ASSERT, CUDA_ERROR_DEVICE_UNAVAILABLE, CUDA_ERROR_ECC_UNCORRECTABLE,
        CUDA_ERROR_HARDWARE_STACK_ERROR, CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_ILLEGAL_INSTRUCTION,
        CUDA_ERROR_INVALID_ADDRESS_SPACE, CUDA_ERROR_INVALID_PC, CUDA_ERROR_LAUNCH_FAILED,
        CUDA_ERROR_LAUNCH_TIMEOUT, CUDA_ERROR_MISALIGNED_ADDRESS, CUDA_ERROR_NVLINK_UNCORRECTABLE,
        CUDA_ERROR_UNKNOWN,
    };
    [
        CUDA_ERROR_ASSERT,
        CUDA_ERROR_DEVICE_UNAVAILABLE,
        CUDA_ERROR_ECC_UNCORRECTABLE,
        CUDA_ERROR_HARDWARE_STACK_ERROR,
        CUDA_ERROR_ILLEGAL_ADDRESS,
        CUDA_ERROR_ILLEGAL_INSTRUCTION,
        CUDA_ERROR_INVALID_ADDRESS_SPACE,
        CUDA_ERROR_INVALID_PC,
        CUDA_ERROR_LAUNCH_FAILED,
        CUDA_ERROR_LAUNCH_TIMEOUT,
        CUDA_ERROR_MISALIGNED_ADDRESS,
        CUDA_ERROR_NVLINK_UNCORRECTABLE,
        CUDA_ERROR_UNKNOWN,
    ]
    .iter()
    .any(|error| *error as u32 == code)
}

/// The variables' names without what they begin with.
const NAMES: [&str; 16] = [
    "UUID",
    "NAME",
    "CAPABILITY",
    "CUDA",
    "MEMORY",
    "L2",
    "MULTIPROCESSORS",
    "GFLOPS",
    "GBYTES",
    "OVERHEAD",
    "LATENCY",
    "ERRORS",
    "LOST",
    "KERNEL_FAILS",
    "LOG",
    "CACHE",
];

impl Machine {
    fn from_environment() -> Self {
        let mut machine = Self {
            settings: Settings::default(),
            faults: Faults::default(),
            clock: MonotonicClock::start(),
            initialised: false,
            retained: 0,
            sticky: None,
            executed: 0,
            memory: Memory::new(1 << 30),
            queue: Queue::default(),
            graphs: Graphs::default(),
            kernels: Kernels::default(),
            cudnn: cudnn::State::default(),
            blas: crate::blas::State::default(),
            last_handle: 0x1000,
        };
        for name in NAMES {
            let variable = format!("LAYERJOULE_EMULATED_{name}");
            let Ok(value) = env::var(&variable) else { continue };
            if machine.set(name, Some(&value)).is_none() {
                eprintln!("emulated CUDA: {variable}={value} is not understood");
                // As a driver that does not start.
                machine.faults.functions.insert(
                    "cuInit".to_string(),
                    Fault { code: R::CUDA_ERROR_INVALID_VALUE as u32, first: 1, lasting: true },
                );
            }
        }
        machine
    }

    /// Sets what a variable says; none if the value is unfit.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Option<()> {
        let (settings, initial) = (&mut self.settings, Settings::default());
        let number = |standard: f64, unit: f64| -> Option<f64> {
            value.map_or(Some(standard), |text| {
                Some(text.parse::<f64>().ok()? * unit).filter(|v| v.is_finite() && *v >= 0.0)
            })
        };
        let whole = |standard: i32| value.map_or(Some(standard), |text| text.parse().ok().filter(|v| *v > 0));
        match name {
            "UUID" => {
                settings.uuid = value.map_or(initial.uuid, str::to_string);
                uuid_bytes(&settings.uuid)?;
            }
            "NAME" => settings.name = value.map_or(initial.name, str::to_string),
            "CAPABILITY" => settings.capability = value.map_or(Some(initial.capability), two_numbers)?,
            "CUDA" => {
                let (major, minor) = value.map_or(Some((13, 0)), two_numbers)?;
                settings.cuda = major * 1000 + minor * 10;
            }
            "MEMORY" => {
                let total = value.map_or(Some(1 << 30), |text| text.parse().ok())?;
                self.memory.set_total(total);
            }
            "L2" => settings.l2 = whole(initial.l2)?,
            "MULTIPROCESSORS" => settings.multiprocessors = whole(initial.multiprocessors)?,
            "GFLOPS" => settings.flops = number(initial.flops, 1e9)?,
            "GBYTES" => settings.bandwidth = number(initial.bandwidth, 1e9)?,
            "OVERHEAD" => settings.overhead = number(initial.overhead, 1.0)?,
            "LATENCY" => settings.latency = number(initial.latency, 1.0)?,
            "CACHE" => settings.cache = value.map(Into::into),
            "LOG" => settings.log = value == Some("1"),
            "ERRORS" => {
                self.faults.functions = functions_that_fail(value.unwrap_or_default())?;
                self.faults.calls.clear();
            }
            "LOST" => {
                let fault = value.map(|text| {
                    let (after, code) = text.split_once(':').unwrap_or((text, "214"));
                    Some((after.parse::<u64>().ok()?, code.parse().ok()?))
                });
                self.faults.lost = match fault {
                    None => None,
                    Some(parsed) => Some(parsed?),
                };
            }
            "KERNEL_FAILS" => {
                let fault = value.map(|text| {
                    let (part, code) = text.split_once(':').unwrap_or((text, "719"));
                    Some((part.to_string(), code.parse().ok()?))
                });
                self.faults.kernel = match fault {
                    None => None,
                    Some(parsed) => Some(parsed?),
                };
            }
            _ => return None,
        }
        Some(())
    }

    /// A handle that no other thing has. It is never read through.
    pub(crate) fn new_handle(&mut self) -> usize {
        self.last_handle += 16;
        self.last_handle
    }

    /// Seconds since the machine started.
    pub(crate) fn now(&self) -> f64 {
        self.clock.now().since_origin().value()
    }

    /// The context can be used: the driver is initialised, the context is current and nothing broke it.
    pub(crate) fn usable(&self) -> Cu<()> {
        if !self.initialised {
            return Err(R::CUDA_ERROR_NOT_INITIALIZED.into());
        }
        if current() != CONTEXT {
            return Err(R::CUDA_ERROR_INVALID_CONTEXT.into());
        }
        if self.retained == 0 {
            return Err(R::CUDA_ERROR_CONTEXT_IS_DESTROYED.into());
        }
        self.sticky.map_or(Ok(()), |code| Err(Code(code)))
    }

    /// Breaks the context, if the error is one that does.
    pub(crate) fn fail(&mut self, code: u32, why: &str) {
        if stays(code) && self.sticky.is_none() {
            eprintln!("emulated CUDA: error {code}: {why}");
            self.sticky = Some(code);
        }
    }

    /// Says why something is refused, if that is wanted.
    pub(crate) fn say(&self, why: &str) {
        if self.settings.log {
            eprintln!("emulated CUDA: {why}");
        }
    }
}

/// The machine for a call of the driver that may fail on demand.
pub(crate) fn enter(function: &str) -> Cu<MutexGuard<'static, Machine>> {
    let mut machine = machine();
    match machine.faults.of_call(function) {
        None => Ok(machine),
        Some(code) => {
            machine.fail(code, &format!("{function} fails as asked"));
            Err(Code(code))
        }
    }
}

/// The machine for a call that needs a context.
pub(crate) fn enter_context(function: &str) -> Cu<MutexGuard<'static, Machine>> {
    let machine = enter(function)?;
    machine.usable()?;
    Ok(machine)
}

/// Sleeps until an instant of the machine's clock, in seconds.
pub(crate) fn sleep_until(clock: &MonotonicClock, seconds: f64) {
    clock.sleep_until(Instant::from_nanos(0) + Seconds::new(seconds));
}

fn two_numbers(text: &str) -> Option<(i32, i32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The sixteen bytes of a UUID as nvidia-smi writes it.
pub(crate) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.strip_prefix("GPU-").or_else(|| text.strip_prefix("MIG-"))?.replace('-', "");
    let number = u128::from_str_radix(&digits, 16).ok()?;
    (digits.len() == 32).then(|| number.to_be_bytes())
}

fn functions_that_fail(text: &str) -> Option<BTreeMap<String, Fault>> {
    let mut functions = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, rest) = part.split_once('=')?;
        let (code, calls) = rest.split_once('@').unwrap_or((rest, "1+"));
        let first = calls.trim_end_matches('+');
        let fault =
            Fault { code: code.parse().ok()?, first: first.parse().ok()?, lasting: calls.ends_with('+') };
        functions.insert(name.trim().to_string(), fault);
    }
    Some(functions)
}

/// Sets what a variable says.
#[unsafe(no_mangle)]
extern "C" fn emulated_cuda_set(name: crate::pointers::Text, value: crate::pointers::Text) -> u32 {
    let Some(name) = name.get() else { return 1 };
    u32::from(machine().set(&name, value.get().as_deref()).is_none())
}

/// Pieces of work executed so far.
#[unsafe(no_mangle)]
extern "C" fn emulated_cuda_executed() -> u64 {
    machine().executed
}

/// Bytes of device memory in use.
#[unsafe(no_mangle)]
extern "C" fn emulated_cuda_allocated() -> u64 {
    machine().memory.in_use() as u64
}
