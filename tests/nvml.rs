//! GPUs through the stand-in for NVIDIA's management library, with known power, in real time.

use std::fs;
use std::path::Path;

use layerjoule::clock::{Clock, Instant, MonotonicClock};
use layerjoule::meter::nvml::{Among, Gpu, GpuSelector, GpuWatch, NvmlLibrary, nvml_meters};
use layerjoule::meter::{Cause, MeterCandidate, MeterChoice, Part, ReadError, choose};
use layerjoule::sim::{DeviceParameters, Fault};
use layerjoule::trace::{Coverage, MeterStatus};
use layerjoule::units::{Seconds, Watts};

use crate::stand_ins::{StandIn, exact, nvml_library};
use crate::support::program::{layerjoule, shared};

/// Codes of nvml.h.
const NOT_SUPPORTED: u32 = 3;
const NO_PERMISSION: u32 = 4;
const DRIVER_NOT_LOADED: u32 = 9;
const TIMEOUT: u32 = 10;
const GPU_IS_LOST: u32 = 15;

fn meters(machine: &StandIn, selected: &GpuSelector) -> Vec<MeterCandidate> {
    nvml_meters(Some(&machine.path), selected, Among::Selected, &MonotonicClock::start())
}

fn first(machine: &StandIn) -> Vec<MeterCandidate> {
    meters(machine, &GpuSelector::Index(0))
}

fn gpu(machine: &StandIn) -> Gpu {
    NvmlLibrary::open(Some(&machine.path)).unwrap().gpus().unwrap().remove(0).unwrap()
}

fn find<'a>(meters: &'a mut [MeterCandidate], id: &str) -> &'a mut MeterCandidate {
    meters.iter_mut().find(|c| c.record.id == id).unwrap_or_else(|| panic!("no {id}"))
}

fn cause(meters: &mut [MeterCandidate], id: &str) -> Cause {
    find(meters, id).refusal.as_ref().unwrap_or_else(|| panic!("{id} works")).cause.clone()
}

#[test]
fn a_board_has_its_meters_with_scope_period_and_what_they_see() {
    let machine = StandIn::start(&exact("h200"), false);
    let uuid = gpu(&machine).uuid().to_string();
    let mut meters = meters(&machine, &GpuSelector::Uuid(uuid.clone()));
    let ids: Vec<&str> = meters.iter().map(|c| c.record.id.as_str()).collect();
    assert_eq!(ids, ["nvml", "nvml-instant", "nvml-average", "nvml-average:memory"]);
    for meter in &meters {
        assert_eq!(meter.record.status, MeterStatus::Measured, "{:?}", meter.record);
        assert!(meter.part == Part::Gpu(uuid.clone()) && meter.emulated && meter.notes.is_empty());
    }
    let counter = find(&mut meters, "nvml").record.clone();
    assert_eq!(counter.scope, "GPU 0 (simulated H200 SXM): whole board");
    // A busy machine may see some updates late, the median not by half a period.
    let period = counter.update_period_s.unwrap().value();
    assert!((0.05..0.15).contains(&period), "{period} s");
    let instant = find(&mut meters, "nvml-instant");
    // Hopper looks 25 ms of every 100 ms (SC24).
    assert_eq!(instant.record.coverage, Some(Coverage::PartTime));
    assert!(instant.record.reason.as_deref().unwrap().contains("with their times"), "{:?}", instant.record);
    // A second's mean, half a second late.
    assert_eq!(find(&mut meters, "nvml-average").record.lag_s, Some(Seconds::new(1.5)));
    assert_eq!(find(&mut meters, "nvml-average:memory").record.scope, "GPU 0 (simulated H200 SXM): memory");
}

#[test]
fn what_ends_a_counter_is_named() {
    let machine = StandIn::start(&exact("v100"), false);
    let clock = MonotonicClock::start();
    let mut meters = nvml_meters(Some(&machine.path), &GpuSelector::Index(0), Among::Selected, &clock);
    let meter = find(&mut meters, "nvml").meter.as_mut().unwrap();
    machine.draw(300.0, 20.0);
    // Enough joules that a counter which starts anew is far below.
    clock.sleep_until(clock.now() + Seconds::new(0.3));
    let before = meter.read(clock.now()).unwrap();
    machine.fail("nvmlDeviceGetTotalEnergyConsumption", TIMEOUT);
    assert!(matches!(meter.read(clock.now()), Err(ReadError::Retry(text)) if text.starts_with("nvml: ")));
    machine.fail("nvmlDeviceGetTotalEnergyConsumption", 0);
    assert!(meter.read(clock.now()).unwrap() >= before, "a failed reading costs nothing");
    machine.go_back(40.0);
    let Err(ReadError::Fatal(text)) = meter.read(clock.now()) else { panic!("believed") };
    assert!(text.contains("went backwards, from "), "{text}");
    machine.go_back(1e9);
    let Err(ReadError::Lost(text)) = meter.read(clock.now()) else { panic!("believed") };
    assert!(text.contains("was reset: ") && text.contains("now 0.000 J"), "{text}");
    assert!(meter.read(clock.now()).is_ok(), "it counts on");
    machine.fail("*", GPU_IS_LOST);
    let Err(ReadError::Gone(text)) = meter.read(clock.now()) else { panic!("not gone") };
    assert!(text.contains("fallen off the bus") || text.contains("fell off the bus"), "{text}");
    let power = find(&mut meters, "nvml-instant").meter.as_mut().unwrap();
    assert!(matches!(power.read(clock.now()), Err(ReadError::Gone(_))));
}

#[test]
fn a_counter_that_depends_on_its_reader_gives_way_to_power_readings() {
    let mut device = exact("v100");
    device.sensor[0].fault = Some(Fault::ReadRate { per_query_j: 8.0, forgets_within_s: 0.0 });
    let machine = StandIn::start(&device, false);
    let mut meters = first(&machine);
    assert_eq!(cause(&mut meters, "nvml"), Cause::ReadRate);
    let reason = find(&mut meters, "nvml").record.reason.clone().unwrap();
    assert!(reason.contains("depends on how often it is read") && reason.contains("--meter nvml-instant"));
    let part = find(&mut meters, "nvml-instant").part.clone();
    let chosen = choose(meters, &MeterChoice::Auto, &part).unwrap();
    assert_eq!(chosen.primary().id, "nvml-instant");
    // The counter and why it is not taken stay in the record.
    assert_eq!(chosen.records[0].status, MeterStatus::Unavailable);
}

#[test]
fn a_counter_that_stands_still_is_refused() {
    let mut device = exact("v100");
    device.sensor[0].fault = Some(Fault::Stuck { at_s: 0.0 });
    let mut meters = first(&StandIn::start(&device, false));
    let reason = find(&mut meters, "nvml").record.reason.clone().unwrap();
    assert!(reason.contains("stood still"), "{reason}");
}

#[test]
fn each_obstacle_has_its_cause() {
    let machine = StandIn::start(&exact("v100"), false);
    for (code, expected) in [(DRIVER_NOT_LOADED, Cause::NvidiaDriver), (NO_PERMISSION, Cause::NvmlDenied)] {
        machine.fail("nvmlInit_v2", code);
        let mut meters = first(&machine);
        for id in ["nvml", "nvml-instant", "nvml-average"] {
            assert_eq!(cause(&mut meters, id), expected);
        }
    }
    machine.fail("nvmlInit_v2", 0);
    // Without a counter nothing has to be watched, and power is still there.
    machine.fail("nvmlDeviceGetTotalEnergyConsumption", NOT_SUPPORTED);
    let mut meters = first(&machine);
    assert_eq!(cause(&mut meters, "nvml"), Cause::NotOnThisGpu);
    assert_eq!(cause(&mut meters, "nvml-average"), Cause::NotOnThisGpu, "Volta has none");
    assert!(find(&mut meters, "nvml-instant").meter.is_some());
    machine.fail("field 186", NO_PERMISSION);
    assert_eq!(cause(&mut first(&machine), "nvml-instant"), Cause::NvmlDenied);
    let uuid = |uuid: &str| GpuSelector::Uuid(uuid.to_string());
    assert_eq!(cause(&mut self::meters(&machine, &uuid("GPU-0")), "nvml"), Cause::NoGpu);
    assert_eq!(cause(&mut self::meters(&machine, &uuid("MIG-0")), "nvml"), Cause::Mig);
    assert_eq!(cause(&mut self::meters(&machine, &GpuSelector::Index(1)), "nvml"), Cause::NoGpu);
    machine.fail("nvmlDeviceGetHandleByIndex_v2", GPU_IS_LOST);
    assert_eq!(cause(&mut first(&machine), "nvml"), Cause::GpuLost);
}

#[test]
fn what_is_no_library_is_refused_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    for path in [text.as_path(), dir.path(), Path::new("/nowhere/libnvidia-ml.so")] {
        let clock = MonotonicClock::start();
        let mut meters = nvml_meters(Some(path), &GpuSelector::Index(0), Among::All, &clock);
        assert_eq!(cause(&mut meters, "nvml"), Cause::NoNvml);
        let reason = meters[0].record.reason.clone().unwrap();
        assert!(reason.contains(path.to_str().unwrap()), "{reason}");
    }
}

#[test]
fn a_boards_condition_is_what_its_parameters_say() {
    let device = DeviceParameters::preset("h200").unwrap();
    let machine = StandIn::start(&device, false);
    let gpu = gpu(&machine);
    let mut watch = GpuWatch::start(&gpu);
    machine.draw(700.0, 100.0);
    watch.look(false);
    // What it says while nothing is known to run on it explains no joules.
    assert!(watch.throttled_by().is_empty() && watch.sm_mhz().is_none());
    watch.look(true);
    let [begin, end] = watch.ends();
    // 28 + 0.06 K/W x 80 W, and x 700 W, in whole degrees.
    assert_eq!((begin.celsius, end.celsius), (Some(33.0), Some(70.0)));
    assert_eq!(watch.celsius(), Some([33.0, 70.0]));
    assert!(begin.throttled_by.is_empty(), "an idle board is not throttled");
    assert_eq!(watch.throttled_by(), ["power limit"]);
    assert_eq!(end.power_limit, Some(Watts::new(700.0)));
    let clock = device.clock.reference_mhz.round();
    assert_eq!((end.sm_mhz, watch.sm_mhz()), (Some(clock), Some([clock; 2])));
    assert_eq!(end.memory_mhz, None, "what a board does not tell is unknown");
    let settings = gpu.settings();
    assert_eq!((settings.mig, settings.persistence, settings.ecc), (Some(false), Some(true), None));
    assert!(gpu.library().is_stand_in() && settings.driver.unwrap().contains("580.95.05"));
    assert_eq!(gpu.other_processes(false), Some(Vec::new()));
    let samples = gpu.power_samples(None).unwrap();
    let last = samples[samples.len() - 1];
    assert!(samples.windows(2).all(|pair| pair[0].unix < pair[1].unix));
    assert_eq!(samples[0].power, Watts::new(device.power.idle_w));
    // Nothing but what is newer.
    let newer = gpu.power_samples(Some(last.unix)).unwrap();
    assert!(newer.iter().all(|sample| sample.unix > last.unix), "{newer:?}");
    machine.fail("nvmlDeviceGetSamples", NOT_SUPPORTED);
    assert_eq!(gpu.power_samples(None), None);
}

/// A network of two layers, so that a run is short.
fn two_layers(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("two.toml");
    let text = "name = \"two\"\ninput = [3, 16, 16]\n\n[[layer]]\nkind = \"conv\"\nout_channels = 8\nkernel = 3\n\n\
                [[layer]]\nkind = \"relu\"\n";
    fs::write(&path, text).unwrap();
    path
}

/// The program on an exact device of constant power.
fn with_gpu(dir: &Path, preset: &str) -> assert_cmd::Command {
    let device = dir.join("device.toml");
    fs::write(&device, exact(preset).to_toml()).unwrap();
    let mut command = layerjoule();
    command.env("LAYERJOULE_STAND_IN_DEVICE", device).env("LAYERJOULE_STAND_IN_POWER", "300,40");
    command
}

fn profile(dir: &Path, preset: &str, rounds: &str) -> assert_cmd::Command {
    let mut command = with_gpu(dir, preset);
    command
        .args(["profile", "--device", "cpu", "--meter", "nvml,nvml-instant", "--rounds", rounds])
        .args(["--warm-up", "50ms", "--window", "10ms", "--settle", "20ms", "--nvml-lib"])
        .arg(nvml_library())
        .arg(two_layers(dir))
        .arg("--out")
        .arg(dir.join("out"));
    command
}

#[test]
fn a_profile_of_a_known_power_has_its_joules_and_says_that_they_are_a_stand_ins() {
    let _machine = shared();
    let dir = tempfile::tempdir().unwrap();
    let assert = profile(dir.path(), "v100", "2").assert().success();
    let table = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(table.contains("EMULATED meter library"), "{table}");
    let trace = layerjoule::trace::read_trace(&dir.path().join("out/trace.jsonl")).unwrap();
    assert!(trace.header.emulated && !trace.header.simulated);
    let warned =
        |code: &str, words: &str| trace.warnings.iter().any(|w| w.code == code && w.text.contains(words));
    assert!(warned("scope", "they run on the CPU"), "{:?}", trace.warnings);
    let index = |id: &str| trace.header.meters.iter().position(|m| m.id == id).unwrap();
    let (counter, instant) = (index("nvml"), index("nvml-instant"));
    assert_eq!(trace.header.primary_meter, counter);
    let device = exact("v100");
    let sensor = device.sensor.iter().find(|sensor| sensor.id == "sim").unwrap();
    let at = |meter: usize, at: Instant| {
        let sample = trace.samples.iter().find(|s| s.meter == meter && s.at == at);
        sample.map(|sample| sample.energy.value())
    };
    assert!(trace.spans.len() > 5);
    for span in &trace.spans {
        let time = span.length().value();
        let joules = at(counter, span.end).unwrap() - at(counter, span.start).unwrap();
        // An edge lies off by as much as the trace says, and an update is published late by as much as the device says.
        let off = 300.0 * (2.0 * span.edge_s.value() + sensor.delay_s[1]) + 0.002;
        assert!((joules - 300.0 * time).abs() <= off, "{span:?}: {joules} J, ±{off}");
        // A window of 10 ms on a counter of 20 ms: never 0 J.
        assert!(joules > 0.0, "{span:?}");
        // Power readings are added up once a period, and either edge may miss most of one, late looks included.
        if let (Some(begin), Some(end)) = (at(instant, span.start), at(instant, span.end)) {
            let longest = 2.0 * 5.0 * 0.02;
            assert!((end - begin - 300.0 * time).abs() <= 300.0 * longest, "{span:?}");
        }
    }
    let run: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.path().join("out/run.json")).unwrap()).unwrap();
    assert_eq!(run["emulated"], true);
    let csv = fs::read_to_string(dir.path().join("out/layers.csv")).unwrap();
    assert!(csv.lines().next().unwrap().ends_with(",simulated,emulated"), "{csv}");
    assert!(csv.lines().skip(1).all(|row| row.ends_with(",false,true")), "{csv}");
}

#[test]
fn a_gpu_lost_in_the_middle_ends_the_run_and_keeps_its_windows() {
    let _machine = shared();
    let dir = tempfile::tempdir().unwrap();
    // The counter is watched for less than three seconds; 500 rounds take longer than any of this.
    let assert =
        profile(dir.path(), "v100", "500").env("LAYERJOULE_STAND_IN_ERRORS", "*=15@7").assert().code(3);
    let text = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(text.contains("off the bus") && text.contains("finished windows are kept"), "{text}");
    let trace = layerjoule::trace::read_trace(&dir.path().join("out/trace.jsonl")).unwrap();
    assert!(trace.spans.len() > 2);
}

#[test]
fn an_average_that_lags_is_settled_for() {
    let machine = StandIn::start(&exact("h200"), false);
    // Without a counter nothing has to be watched.
    machine.fail("nvmlDeviceGetTotalEnergyConsumption", NOT_SUPPORTED);
    let settle = |id: &str| {
        let choice = MeterChoice::parse(id);
        choose(first(&machine), &choice, &Part::Cpu).unwrap().lag.value()
    };
    assert_eq!((settle("nvml-average"), settle("nvml-instant")), (1.5, 0.5));
}

#[test]
fn doctor_names_split_boards_once_each_and_what_mends_them() {
    let _machine = shared();
    let dir = tempfile::tempdir().unwrap();
    let doctor = |format: &str| {
        let mut command = with_gpu(dir.path(), "h200");
        command.env("LAYERJOULE_STAND_IN_GPUS", "2").env("LAYERJOULE_STAND_IN_MIG", "1");
        command.args(["doctor", "--format", format, "--sysfs-root"]).arg(dir.path());
        let assert = command.arg("--nvml-lib").arg(nvml_library()).assert().success();
        String::from_utf8(assert.get_output().stdout.clone()).unwrap()
    };
    let table = doctor("table");
    for words in [
        "  nvml, nvml-instant, nvml-average: do not work\n",
        "  nvml@1, nvml-instant@1, nvml-average@1: do not work\n",
        "split by MIG",
        "$ sudo nvidia-smi -mig 0\n",
        "mend     as for nvml\n",
    ] {
        assert!(table.contains(words), "{words}\n{table}");
    }
    let value: serde_json::Value = serde_json::from_str(&doctor("json")).unwrap();
    let ids: Vec<&str> =
        value["meters"].as_array().unwrap().iter().filter_map(|meter| meter["id"].as_str()).collect();
    assert!(ids.contains(&"nvml-average@1"), "{ids:?}");
}
