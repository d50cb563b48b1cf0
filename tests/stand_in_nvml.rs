//! The real `nvml-wrapper` on the stand-in for `libnvidia-ml.so`, in real time, with known truth.
//!
//! A busy machine holds tests up, so that no bound here follows from how long a sleep lasts: all follow from the
//! instants right before and after each call.

use std::ffi::{OsStr, c_char, c_int, c_uint, c_void};
use std::process::Command;

use layerjoule::clock::{Clock, MonotonicClock};
use layerjoule::sim::{DeviceParameters, Domain, EnergyCurve, Fault, History, SensorParameters};
use layerjoule::units::Seconds;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock as ClockKind, TemperatureSensor};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::{
    NVML_FI_DEV_ENERGY, NVML_FI_DEV_POWER_AVERAGE, NVML_FI_DEV_POWER_INSTANT,
    NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
};

use crate::stand_ins::{StandIn, exact, function, nvml_library};

/// One machine with one GPU: a copy of the library, whose static state is its own.
struct Machine {
    nvml: Nvml,
    stand_in: StandIn,
    clock: MonotonicClock,
}

/// Something that happened between two instants.
#[derive(Debug, Clone, Copy)]
struct Seen<T> {
    after: f64,
    before: f64,
    value: T,
}

impl Machine {
    fn start(device: &DeviceParameters) -> Self {
        Self::with_latency(device, false)
    }

    fn with_latency(device: &DeviceParameters, latency: bool) -> Self {
        let stand_in = StandIn::start(device, latency);
        let nvml = Nvml::builder().lib_path(stand_in.path.as_os_str()).init().unwrap();
        Self { nvml, stand_in, clock: MonotonicClock::start() }
    }

    fn device(&self) -> nvml_wrapper::Device<'_> {
        self.nvml.device_by_index(0).unwrap()
    }

    fn now(&self) -> f64 {
        self.clock.now().since_origin().value()
    }

    fn sleep(&self, seconds: f64) {
        self.clock.sleep_until(self.clock.now() + Seconds::new(seconds));
    }

    fn when<T>(&self, act: impl FnOnce() -> T) -> Seen<T> {
        let after = self.now();
        let value = act();
        Seen { after, before: self.now(), value }
    }

    /// Sets the true power of the board.
    fn draw(&self, watts: f64) -> Seen<f64> {
        let set = self.when(|| self.stand_in.draw(watts, 20.0));
        Seen { after: set.after, before: set.before, value: watts }
    }

    fn true_joules(&self) -> f64 {
        // SAFETY: the type is that of its documentation.
        let joules =
            unsafe { function::<extern "C" fn() -> f64>(&self.stand_in.library, "stand_in_true_joules") };
        joules()
    }

    fn counted_joules(&self) -> f64 {
        self.device().total_energy_consumption().unwrap() as f64 * 1e-3
    }

    fn power_w(&self, field: u32) -> f64 {
        let found = self.device().field_values_for(&[FieldId(field)]).unwrap().remove(0).unwrap();
        match found.value {
            Ok(SampleValue::U32(milliwatts)) => f64::from(milliwatts) * 1e-3,
            other => panic!("field {field}: {other:?}"),
        }
    }

    /// Waits for the counter's next update: what it shows then, and the least and most that was true when the sensor
    /// looked, at most `delay` earlier at `watts`.
    fn next_count(&self, watts: f64, delay: f64) -> (f64, [f64; 2]) {
        let first = self.counted_joules();
        loop {
            let least = self.true_joules();
            self.sleep(0.001);
            let counted = self.counted_joules();
            if counted > first {
                return (counted, [least - watts * delay, self.true_joules()]);
            }
        }
    }
}

fn sensor<'a>(device: &'a DeviceParameters, id: &str) -> &'a SensorParameters {
    device.sensor.iter().find(|sensor| sensor.id == id).unwrap()
}

/// Longest time from an update's place on the regular grid to the update.
fn jitter(sensor: &SensorParameters) -> f64 {
    6.0 * sensor.jitter_s
}

#[test]
fn the_counter_counts_the_joules_of_a_known_load() {
    let device = exact("rtx3090");
    let delay = sensor(&device, "sim").delay_s[1];
    let machine = Machine::start(&device);
    let idle = machine.draw(100.0);
    // The next update but one saw nothing but this power.
    machine.next_count(idle.value, delay);
    let (first, first_true) = machine.next_count(idle.value, delay);
    let joules_before = machine.when(|| machine.true_joules());
    let mut levels = vec![idle];
    for (watts, seconds) in [(300.0, 0.25), (150.0, 0.13), (400.0, 0.22)] {
        levels.push(machine.draw(watts));
        machine.sleep(seconds);
    }
    let joules_after = machine.when(|| machine.true_joules());
    machine.next_count(400.0, delay);
    let (last, last_true) = machine.next_count(400.0, delay);
    let counted = last - first;
    let bounds = [last_true[0] - first_true[1], last_true[1] - first_true[0]];
    // A millijoule is its step.
    assert!((bounds[0] - 0.002..bounds[1] + 0.002).contains(&counted), "{counted} J, truth {bounds:?} J");
    // The truth itself is power times time; all intervals may be as much shorter or longer as the calls took.
    let span = |from: f64, to: f64, watts: f64| (to - from) * watts;
    let ends = [joules_before, joules_after];
    let [mut least, mut most] =
        [span(ends[0].before, levels[1].after, 100.0), span(ends[0].after, levels[1].before, 100.0)];
    for pair in levels[1..].windows(2) {
        least += span(pair[0].before, pair[1].after, pair[0].value);
        most += span(pair[0].after, pair[1].before, pair[0].value);
    }
    least += span(levels[3].before, ends[1].after, 400.0);
    most += span(levels[3].after, ends[1].before, 400.0);
    let truth = ends[1].value - ends[0].value;
    let loosest = 400.0 * 1e-6;
    assert!((least - loosest..most + loosest).contains(&truth), "truth {truth} J, {least} to {most} J");
}

/// Power that goes from one level to the next within each step's bounds: at the least and at the most.
fn envelopes(idle: f64, steps: &[Seen<f64>], end: f64) -> [History; 2] {
    [f64::min as fn(f64, f64) -> f64, f64::max].map(|choose| {
        let mut history = History::new(-1.0);
        let mut level = idle;
        for step in steps {
            history.push(step.after, level, 0.0);
            history.push(step.before, choose(level, step.value), 0.0);
            level = step.value;
        }
        history.push(end, level, 0.0);
        history
    })
}

#[test]
fn instant_power_shows_a_quarter_of_a_square_wave() {
    let device = exact("h200");
    let instant = sensor(&device, "sim-instant").clone();
    let window = instant.window_s.unwrap();
    let machine = Machine::start(&device);
    // A wave of 130 ms has another phase at each update of 100 ms.
    let (mut steps, mut polls) = (vec![machine.draw(100.0)], Vec::new());
    while machine.now() < 1.6 {
        let last = steps[steps.len() - 1];
        if machine.now() > last.before + 0.065 {
            steps.push(machine.draw(400.0 - last.value));
        }
        polls.push(machine.when(|| machine.power_w(NVML_FI_DEV_POWER_INSTANT)));
        machine.sleep(0.001);
    }
    let [low, high] = envelopes(device.power.idle_w, &steps, machine.now());
    let mean = |curve: &History, end: f64| {
        (curve.joules(Domain::Board, end) - curve.joules(Domain::Board, end - window)) / window
    };
    let changes = polls.windows(2).filter(|pair| (pair[0].value - pair[1].value).abs() > 1e-6);
    let mut shown = Vec::new();
    for pair in changes {
        let (earliest, latest) = (pair[0].after - instant.delay_s[1], pair[1].before);
        let ends = (0..=400).map(|k| earliest + (latest - earliest) * f64::from(k) / 400.0);
        let least = ends.clone().map(|end| mean(&low, end)).fold(f64::MAX, f64::min);
        let most = ends.map(|end| mean(&high, end)).fold(f64::MIN, f64::max);
        let watts = pair[1].value;
        // Between two of the tried ends the mean moves by less than a watt.
        let between = 300.0 / window * (latest - earliest) / 400.0 + 0.001;
        assert!((least - between..most + between).contains(&watts), "{watts} W, {least} to {most} W");
        shown.push(watts);
    }
    assert!(shown.len() >= 5, "{shown:?}");
    // A window of all of the 100 ms would show 170 to 230 W.
    let spread =
        shown.iter().copied().fold(f64::MIN, f64::max) - shown.iter().copied().fold(f64::MAX, f64::min);
    assert!(spread > 100.0, "{shown:?}");
}

#[test]
fn the_average_lags_and_instant_power_does_not() {
    let device = exact("h200");
    let [average, instant] = ["sim-average", "sim-instant"].map(|id| sensor(&device, id).clone());
    let machine = Machine::start(&device);
    let idle = device.power.idle_w;
    let step = machine.draw(300.0);
    // The share of the last second after the step, of what a query between two instants can have been shown.
    let bounds = |query: Seen<f64>| {
        let oldest = average.delay_s[1] + average.update_period_s + jitter(&average);
        let least = (query.after - oldest - step.before).clamp(0.0, 1.0);
        let most = (query.before - average.delay_s[0] - step.after).clamp(0.0, 1.0);
        [least, most].map(|share| idle + (300.0 - idle) * share)
    };
    let mut sharp_difference = false;
    loop {
        let now = machine.when(|| machine.power_w(NVML_FI_DEV_POWER_INSTANT));
        let lagging = [
            machine.when(|| machine.power_w(NVML_FI_DEV_POWER_AVERAGE)),
            machine.when(|| f64::from(machine.device().power_usage().unwrap()) * 1e-3),
        ];
        for shown in lagging {
            let [least, most] = bounds(shown);
            assert!((least - 0.001..most + 0.001).contains(&shown.value), "{shown:?}, {least} to {most} W");
        }
        let settled =
            instant.window_s.unwrap() + instant.update_period_s + jitter(&instant) + instant.delay_s[1];
        if now.after > step.before + settled {
            assert!((now.value - 300.0).abs() < 0.001, "{now:?}");
            sharp_difference |= lagging[0].value < 0.5 * (idle + 300.0);
        }
        let [least, _] = bounds(lagging[1]);
        if least >= 300.0 {
            break;
        }
        machine.sleep(0.01);
    }
    assert!(sharp_difference, "no query found the average behind");
}

#[test]
fn a_board_without_an_average_says_so() {
    let machine = Machine::start(&exact("v100"));
    let ids = [
        NVML_FI_DEV_POWER_AVERAGE,
        NVML_FI_DEV_POWER_INSTANT,
        NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
        NVML_FI_DEV_ENERGY,
        // The highest memory temperature, which the stand-in does not know.
        82,
    ];
    let fields = machine.device().field_values_for(&ids.map(FieldId)).unwrap();
    let values: Vec<_> = fields.into_iter().map(|field| field.unwrap().value).collect();
    let unsupported = |value: &Result<SampleValue, NvmlError>| matches!(value, Err(NvmlError::NotSupported));
    assert!(unsupported(&values[0]) && unsupported(&values[4]), "{values:?}");
    let milliwatts = (DeviceParameters::preset("v100").unwrap().power.idle_w * 1e3) as u32;
    assert!(matches!(values[1], Ok(SampleValue::U32(shown)) if shown == milliwatts), "{values:?}");
    assert!(matches!(values[2..4], [Ok(SampleValue::U64(_)), Ok(SampleValue::U64(_))]), "{values:?}");
    assert_eq!(machine.device().power_usage().unwrap(), milliwatts);
}

#[test]
fn a_reset_counter_starts_at_zero_again() {
    let mut device = exact("v100");
    device.sensor[0].fault = Some(Fault::Reset { at_s: 0.3 });
    let machine = Machine::start(&device);
    machine.draw(300.0);
    let mut highest: f64 = 0.0;
    loop {
        let counted = machine.counted_joules();
        if counted < highest {
            // What was drawn since, and not all of it.
            let since = machine.now() - 0.3 + 0.1;
            assert!(counted < 300.0 * since, "{counted} J after the reset");
            break;
        }
        highest = counted;
        assert!(machine.now() < 5.0, "no reset, {highest} J");
        machine.sleep(0.005);
    }
    assert!(highest > 300.0 * 0.1, "{highest} J before the reset");
}

#[test]
fn a_query_takes_its_time_where_that_is_asked_for() {
    let mut device = exact("v100");
    device.sensor[0].query_s = [0.03, 0.03];
    let machine = Machine::with_latency(&device, true);
    let query = machine.when(|| machine.counted_joules());
    assert!(query.before - query.after >= 0.03, "{query:?}");
}

#[test]
fn the_board_is_the_one_of_its_device_file() {
    let device = DeviceParameters::preset("h200").unwrap();
    let machine = Machine::start(&device);
    let board = machine.device();
    assert_eq!(machine.nvml.device_count().unwrap(), 1);
    assert_eq!(machine.nvml.sys_driver_version().unwrap(), "580.95.05 stand-in");
    assert_eq!(board.name().unwrap(), device.name);
    let same = machine.nvml.device_by_uuid(board.uuid().unwrap()).unwrap();
    assert_eq!(same.name().unwrap(), device.name);
    assert_eq!(board.enforced_power_limit().unwrap(), 700_000);
    assert_eq!(board.clock_info(ClockKind::SM).unwrap(), device.clock.reference_mhz as u32);
    assert_eq!(board.temperature(TemperatureSensor::Gpu).unwrap(), 33, "28 + 0.06 K/W x 80 W");
    assert_eq!(board.mig_mode().unwrap().current, 0);
    assert_eq!(board.running_compute_processes().unwrap().len(), 0);
    assert_eq!(board.current_throttle_reasons().unwrap().bits(), 1, "idle");
    machine.draw(700.0);
    assert_eq!(board.current_throttle_reasons().unwrap().bits(), 4, "power cap");
}

#[test]
fn wrong_calls_are_errors_and_never_more() {
    let machine = Machine::start(&exact("v100"));
    assert!(matches!(machine.nvml.device_by_index(1), Err(NvmlError::InvalidArg)));
    assert!(matches!(machine.nvml.device_by_uuid("GPU-0"), Err(NvmlError::NotFound)));
    // SAFETY: it is only handed back to the library.
    let handle = unsafe { machine.device().handle() }.cast::<c_void>();
    let null = std::ptr::null_mut();
    let mut place = [0_u64; 16];
    let place = place.as_mut_ptr().cast::<c_void>();
    let getters = [
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
    ];
    let call = |name: &str, device, to| {
        type Get = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_uint;
        // SAFETY: the type is that of nvml.h.
        let get = unsafe { function::<Get>(&machine.stand_in.library, name) };
        // SAFETY: the numbers that they write fit there.
        unsafe { get(device, to) }
    };
    for name in getters {
        assert_eq!(call(name, handle, null), 2, "{name}");
        assert_eq!(call(name, null, place), 2, "{name}");
        assert_eq!(call(name, handle, place), 0, "{name}");
    }
    for name in ["nvmlDeviceGetName", "nvmlDeviceGetUUID"] {
        type Text = unsafe extern "C" fn(*mut c_void, *mut c_char, c_uint) -> c_uint;
        // SAFETY: the type is that of nvml.h.
        let get = unsafe { function::<Text>(&machine.stand_in.library, name) };
        // SAFETY: 5 bytes are there.
        assert_eq!(unsafe { get(handle, place.cast(), 5) }, 7, "{name}");
    }
    type Fields = unsafe extern "C" fn(*mut c_void, c_int, *mut c_void) -> c_uint;
    // SAFETY: the type is that of nvml.h.
    let fields = unsafe { function::<Fields>(&machine.stand_in.library, "nvmlDeviceGetFieldValues") };
    for (count, to) in [(1, null), (0, place), (-1, place)] {
        // SAFETY: nothing is written for these arguments.
        assert_eq!(unsafe { fields(handle, count, to) }, 2, "{count} values");
    }
    // SAFETY: the type is that of its documentation.
    let set = unsafe {
        function::<extern "C" fn(f64, f64) -> c_uint>(&machine.stand_in.library, "stand_in_set_power")
    };
    assert_eq!([set(-1.0, 0.0), set(f64::NAN, 0.0), set(10.0, 20.0)], [2; 3]);
    // SAFETY: the type is that of nvml.h.
    let shutdown =
        unsafe { function::<extern "C" fn() -> c_uint>(&machine.stand_in.library, "nvmlShutdown") };
    assert_eq!((shutdown(), shutdown()), (0, 1));
    for name in getters {
        assert_eq!(call(name, handle, place), 1, "{name} without nvmlInit");
    }
}

#[test]
fn a_library_that_is_not_there_is_an_error() {
    let missing = Nvml::builder().lib_path(OsStr::new("/nowhere/libnvidia-ml.so")).init();
    assert!(matches!(missing, Err(NvmlError::LibloadingError(_))), "{:?}", missing.err());
}

/// Set for the process that the next test starts.
const CHILD: &str = "LAYERJOULE_STAND_IN_CHILD";

#[test]
fn the_environment_says_which_device() {
    if std::env::var_os(CHILD).is_some() {
        let nvml = Nvml::builder().lib_path(nvml_library().as_os_str()).init();
        println!("found {:?}", nvml.map(|nvml| nvml.device_by_index(0).and_then(|board| board.name())));
        return;
    }
    let found = |device: &str| {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stand_in_nvml::the_environment_says_which_device", "--nocapture"])
            .env(CHILD, "1")
            .env("LAYERJOULE_STAND_IN_DEVICE", device)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&child.stdout), text(&child.stderr))
    };
    let name = DeviceParameters::preset("rtx3090").unwrap().name;
    let (answer, _) = found("rtx3090");
    assert!(answer.contains(&format!("found Ok(Ok({name:?}))")), "{answer}");
    // What is no device is a driver that is not loaded, and the reason is said.
    let (answer, reason) = found("no-such-device");
    assert!(answer.contains("DriverNotLoaded"), "{answer}");
    assert!(reason.contains("no-such-device"), "{reason}");
}
