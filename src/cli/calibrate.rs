//! `layerjoule calibrate`

use std::path::{Path, PathBuf};

use std::sync::atomic::Ordering;

use clap::Args;

use crate::calibration::{
    CALIBRATION_SCHEMA, CalibratedDevice, Calibration, CoverageSpread, Health, ReadingFacts, SelfTest,
    Spread, Verdict, energy_facts, read_recorded, reading_facts, traced_facts,
};
use crate::clock::{Clock, MonotonicClock, rfc3339};
use crate::meter::MeterChoice;
use crate::profile::{
    CalibrationError, CalibrationOptions, OutputError, RUN_FILE, TRACE_FILE, calibrate, keep_calibration,
};
use crate::report::si;
use crate::run::LoadError;
use crate::stats::Estimate;
use crate::trace::{Coverage, Tool, read_trace};
use crate::units::{Joules, Seconds, Watts};

use super::cuda::CudaPath;
use super::exit::Exit;
use super::page::{ENTRY, Page};
use super::profile::{count_interrupts, device, seed};
use super::{NvmlLibrary, SysfsRoot};

/// The place where calibrations are kept from one run to the next.
#[derive(Debug, Args)]
pub(super) struct CalibrationDirectory {
    /// Where calibrations are kept [default: layerjoule in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "DIR")]
    calibration_dir: Option<PathBuf>,
}

impl CalibrationDirectory {
    /// The one that was asked for, or that of the user's cache; none where the user has no home.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        self.calibration_dir.clone().or_else(|| Some(cache()?.join("layerjoule")))
    }
}

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Example: layerjoule calibrate --from sensor-traces/a100-square-50ms\n         layerjoule calibrate --device sim:h200"
)]
pub(super) struct CalibrateArguments {
    /// Whose sensors: auto (the CPU), cpu, cuda or cuda:N, or a simulated device, sim:MODEL or sim:FILE
    #[arg(long, default_value = "auto", conflicts_with = "from")]
    device: String,
    /// Takes recorded readings instead: a folder with nvidia_smi.csv, kernels.csv and meter.csv.gz, a folder of such
    /// folders, a log of nvidia-smi, or a run of `profile` with its trace
    #[arg(long, value_name = "DIR|FILE")]
    from: Option<PathBuf>,
    /// Which meters: auto for all that see the device, or ids separated by commas (see `doctor`)
    #[arg(long, default_value = "auto", value_name = "ID[,ID]", conflicts_with = "from")]
    meter: String,
    /// Seed of the loads' lengths, and of a simulated device's noise
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = seed, allow_negative_numbers = true)]
    seed: u64,
    /// What is printed
    #[arg(long, value_enum, default_value = "table")]
    format: CalibrateFormat,
    #[command(flatten)]
    sysfs: SysfsRoot,
    #[command(flatten)]
    nvml: NvmlLibrary,
    #[command(flatten)]
    cuda: CudaPath,
    #[command(flatten)]
    directory: CalibrationDirectory,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CalibrateFormat {
    /// For people
    Table,
    /// Every fact with its range, or null with the reason
    Json,
}

pub(super) fn run(arguments: &CalibrateArguments) -> anyhow::Result<Exit> {
    let found = match &arguments.from {
        Some(path) => recorded(path)?,
        None => match measured(arguments)? {
            Some(found) => found,
            None => return Ok(Exit::Interrupted),
        },
    };
    let text = match arguments.format {
        CalibrateFormat::Table => text(&found),
        CalibrateFormat::Json => format!("{}\n", serde_json::to_string_pretty(&found)?),
    };
    super::print(&text)?;
    Ok(Exit::Done)
}

/// Tests the device and keeps what was found; none where the user wants to stop.
fn measured(arguments: &CalibrateArguments) -> anyhow::Result<Option<Calibration>> {
    let options = CalibrationOptions {
        device: device(&arguments.device, None, &arguments.cuda)?,
        meter: MeterChoice::parse(&arguments.meter),
        sysfs_root: arguments.sysfs.sysfs_root.clone(),
        nvml_lib: arguments.nvml.nvml_lib.clone(),
        seed: arguments.seed,
    };
    let interrupts = count_interrupts()?;
    let stop = || interrupts.load(Ordering::Relaxed) > 0;
    let found = match calibrate(&options, &mut |text| super::complain(text), &stop) {
        Ok(found) => Calibration { source: arguments.device.clone(), ..found },
        Err(CalibrationError::Load(LoadError::Stopped)) => {
            super::complain("interrupted; nothing of it is kept");
            return Ok(None);
        }
        Err(CalibrationError::Profile(error)) => return Err(error.into()),
        Err(CalibrationError::Load(error)) => return Err(error.into()),
    };
    match arguments.directory.directory() {
        None => {
            super::complain("not kept for later profiles: there is no home directory; give --calibration-dir")
        }
        Some(dir) => match keep_calibration(&dir, &found) {
            Ok(path) => super::complain(&format!("kept for later profiles: {}", path.display())),
            // The result itself is there, and is printed.
            Err(error) => super::complain(&format!("not kept for later profiles: {error}")),
        },
    }
    Ok(Some(found))
}

fn recorded(path: &Path) -> anyhow::Result<Calibration> {
    let mut found = Calibration {
        schema: CALIBRATION_SCHEMA.to_string(),
        tool: Tool::this(),
        created: rfc3339(MonotonicClock::start().origin_unix()),
        simulated: false,
        emulated: false,
        source: path.display().to_string(),
        device: None,
        readings: Vec::new(),
        external: Vec::new(),
    };
    if let Some(trace) = trace_of(path) {
        let trace = read_trace(&trace).map_err(OutputError::from)?;
        found.simulated = trace.header.simulated;
        found.emulated = trace.header.emulated;
        let device = &trace.header.device;
        found.device = Some(CalibratedDevice {
            kind: device.kind.clone(),
            name: device.name.clone(),
            uuid: device.uuid.clone(),
            driver: device.driver.clone(),
        });
        found.readings = traced_facts(&trace, &format!("{} on {}", trace.header.network.name, device.name));
        return Ok(found);
    }
    for trace in read_recorded(path)? {
        let (marks, meter) = (trace.marks.as_ref(), trace.meter.as_ref());
        if let Some(meter) = meter {
            let marks = marks.cloned().unwrap_or_default();
            found.external.push(energy_facts(&trace.name, meter, &marks));
        }
        let facts = |(id, readings): &(String, _)| reading_facts(&trace.name, id, readings, marks, meter);
        found.readings.extend(trace.readings.iter().map(facts));
    }
    Ok(found)
}

/// The trace of a run, where the path is one of our own runs or traces.
fn trace_of(path: &Path) -> Option<PathBuf> {
    let inside = path.join(TRACE_FILE);
    if inside.is_file() {
        return Some(inside);
    }
    let beside = path.with_file_name(TRACE_FILE);
    let is_run = path.file_name().is_some_and(|name| name == RUN_FILE) && beside.is_file();
    let is_trace = path.extension().is_some_and(|extension| extension == "jsonl") && path.is_file();
    is_run.then_some(beside).or_else(|| is_trace.then(|| path.to_path_buf()))
}

fn text(found: &Calibration) -> String {
    let mut page = Page::default();
    if found.simulated {
        page.line("SIMULATED device");
    }
    if found.emulated {
        page.line("EMULATED: files or libraries stand in for those of the machine");
    }
    for reading in &found.readings {
        reading_text(&mut page, reading);
        let external = found.external.iter().find(|external| external.trace == reading.trace);
        if let Some(joules) = external.and_then(|external| external.energy_j) {
            page.entry("meter", &format!("{} in the loads", si::estimate(&joules, "J")));
        }
    }
    page.0
}

/// One reading: an entry for each fact, or why there is none.
fn reading_text(page: &mut Page, reading: &ReadingFacts) {
    page.line(&format!("{} {}", reading.trace, reading.id));
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut entry = |name: &str, key: &str, value: Option<String>| {
        let Some(value) = value.or_else(|| reading.reasons.get(key).cloned()) else { return };
        match entries.last_mut() {
            // Said once of all that have the same reason.
            Some((names, before)) if *before == value && !name.is_empty() => {
                *names = format!("{names}, {name}")
            }
            Some((_, before)) if *before == value => {}
            _ => entries.push((name.to_string(), value)),
        }
    };
    let seconds = |fact: Option<Estimate<Seconds>>| fact.map(|fact| si::estimate(&fact, "s"));
    entry("period", "update_period_s", seconds(reading.update_period_s));
    entry("window", "window_s", seconds(reading.window_s));
    let by_marks = |window| format!("{window} by the times of the loads alone");
    entry("", "window_from_marks_s", seconds(reading.window_from_marks_s).map(by_marks));
    entry("delay", "delay_s", seconds(reading.delay_s));
    entry("coverage", "coverage", reading.coverage.map(|coverage| coverage_text(coverage).to_string()));
    entry("", "coverage_spread", reading.coverage_spread.map(spread_text));
    entry(
        "gain",
        "gain",
        reading.gain.map(|gain| format!("{:.3} ({:.3} to {:.3})", gain.value, gain.low, gain.high)),
    );
    entry("offset", "offset_w", reading.offset_w.map(|offset| si::estimate(&offset, "W")));
    let energy = |fact: Option<Estimate<Joules>>, error: Option<f64>, of: &str| {
        let error =
            error.map_or(String::new(), |error| format!(", {:+.1} % off the external meter", error * 100.0));
        fact.map(|fact| format!("{} {of}{error}", si::estimate(&fact, "J")))
    };
    entry("energy", "energy_j", energy(reading.energy_j, reading.energy_error, "in the loads"));
    let span = energy(reading.energy_span_j, reading.energy_span_error, "from the first load to the last");
    // Its reason is that of the energy in the loads.
    if span.is_some() {
        entry("", "energy_span_j", span);
    }
    if let Some(test) = &reading.self_test {
        self_test(&mut entries, test, reading.reasons.get("active_idle_w"));
    }
    let health = reading.health.as_ref().map(health_text);
    entries
        .extend(health.or(reading.reasons.get("health").cloned()).map(|text| ("health".to_string(), text)));
    for (names, value) in entries {
        if names.contains(',') {
            page.paragraph(6, ENTRY, &format!("{names}: {value}"))
        } else {
            page.entry(&names, &value)
        }
    }
}

/// What loads on the device showed.
fn self_test(entries: &mut Vec<(String, String)>, test: &SelfTest, no_active_idle: Option<&String>) {
    let mut entry = |name: &str, value: Option<String>| {
        entries.extend(value.map(|value| (name.to_string(), value)));
    };
    let watts = |power: Watts| si::quantity(power.value(), "W");
    entry("idle", test.idle_w.map(watts));
    let active =
        test.active_idle_w.map(|power| format!("{} right behind a load (active idle)", watts(power)));
    let none = no_active_idle.map(|reason| format!("right behind a load {reason}"));
    entry("", active.or(none));
    let seldom = test.load_read_seldom_w.map(|power| format!(", read every 500 ms {}", watts(power)));
    entry("load", test.load_w.map(|power| format!("{}{}", watts(power), seldom.unwrap_or_default())));
    if let Some(beside) = &test.beside {
        let pair = |of: &str, pair: Option<[Watts; 2]>| {
            pair.map(|[counted, power]| format!("{of} {} beside {}", watts(counted), watts(power)))
        };
        let pairs = [pair("at rest", beside.at_rest), pair("under load", beside.under_load)];
        let pairs: Vec<String> = pairs.into_iter().flatten().collect();
        entry("", Some(format!("{} of {}", pairs.join(", "), beside.id)).filter(|_| !pairs.is_empty()));
    }
    let times = |query: Spread| {
        let [median, p99] = [query.median, query.p99].map(|time| si::quantity(time.value(), "s"));
        format!("{median}, one in a hundred takes {p99} or more")
    };
    entry("query", test.query_s.map(times));
}

fn spread_text(spread: CoverageSpread) -> String {
    format!(
        "square waves of its period differ by {:.2} % with their phase, {:.1} % at most",
        spread.deviation * 100.0,
        spread.largest * 100.0
    )
}

fn health_text(health: &Health) -> String {
    let mut text = match health.verdict {
        Verdict::Ok => "ok".to_string(),
        Verdict::NotIdentifiable => "not identifiable".to_string(),
        _ => "WARNING, not to be believed".to_string(),
    };
    if !health.reasons.is_empty() {
        text = format!("{text}: {}", health.reasons.join("; "));
    }
    match &health.use_instead {
        Some(other) => format!("{text}; use --meter {other} instead"),
        None if health.is_ill() => format!("{text}; no other reading of the same part is sound"),
        None => text,
    }
}

fn coverage_text(coverage: Coverage) -> &'static str {
    match coverage {
        Coverage::Full => "full: the sensor looks all the time",
        Coverage::PartTime => "part-time: the sensor does not see all that happens",
    }
}
