//! `layerjoule calibrate`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::calibration::{
    ExternalFacts, ReadingFacts, SelfTest, Spread, energy_facts, read_recorded, reading_facts,
};
use crate::meter::MeterChoice;
use crate::profile::{CalibrationError, CalibrationOptions, DeviceChoice, calibrate};
use crate::report::si;
use crate::stats::Estimate;
use crate::trace::{Coverage, Tool};
use crate::units::{Joules, Seconds, Watts};

use super::cuda::CudaPath;
use super::exit::Exit;
use super::page::{ENTRY, Page};
use super::profile::{device, seed};
use super::{NvmlLibrary, SysfsRoot};

/// Format and version of what `--format json` prints.
const SCHEMA: &str = "layerjoule.calibration/1";

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
    /// folders, or a log of nvidia-smi
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
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CalibrateFormat {
    /// For people
    Table,
    /// Every fact with its range, or null with the reason
    Json,
}

/// What was found.
struct Found {
    /// The device or the folder, as the user named it.
    source: String,
    simulated: bool,
    readings: Vec<ReadingFacts>,
    external: Vec<ExternalFacts>,
}

pub(super) fn run(arguments: &CalibrateArguments) -> anyhow::Result<Exit> {
    let found = match &arguments.from {
        Some(path) => recorded(path)?,
        None => measured(arguments)?,
    };
    let text = match arguments.format {
        CalibrateFormat::Table => found.text(),
        CalibrateFormat::Json => found.json()?,
    };
    super::print(&text)?;
    Ok(Exit::Done)
}

fn measured(arguments: &CalibrateArguments) -> anyhow::Result<Found> {
    let device = device(&arguments.device, None, &arguments.cuda)?;
    let simulated = matches!(device, DeviceChoice::Sim { .. });
    let options = CalibrationOptions {
        device,
        meter: MeterChoice::parse(&arguments.meter),
        sysfs_root: arguments.sysfs.sysfs_root.clone(),
        nvml_lib: arguments.nvml.nvml_lib.clone(),
        seed: arguments.seed,
    };
    let readings = calibrate(&options, &mut |text| super::complain(text)).map_err(|error| match error {
        CalibrationError::Profile(error) => anyhow::Error::new(error),
        CalibrationError::Load(error) => anyhow::Error::new(error),
    })?;
    Ok(Found { source: arguments.device.clone(), simulated, readings, external: Vec::new() })
}

fn recorded(path: &Path) -> anyhow::Result<Found> {
    let source = path.display().to_string();
    let mut found = Found { source, simulated: false, readings: Vec::new(), external: Vec::new() };
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

impl Found {
    fn json(&self) -> anyhow::Result<String> {
        let value = json!({
            "schema": SCHEMA,
            "tool": Tool::this(),
            "simulated": self.simulated,
            "source": self.source,
            "readings": self.readings,
            "external": self.external,
        });
        Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
    }

    fn text(&self) -> String {
        let mut page = Page::default();
        if self.simulated {
            page.line("SIMULATED device");
        }
        for reading in &self.readings {
            reading_text(&mut page, reading);
            let external = self.external.iter().find(|external| external.trace == reading.trace);
            if let Some(joules) = external.and_then(|external| external.energy_j) {
                page.entry("meter", &format!("{} in the loads", si::estimate(&joules, "J")));
            }
        }
        page.0
    }
}

/// One reading: an entry for each fact, or why there is none.
fn reading_text(page: &mut Page, reading: &ReadingFacts) {
    page.line(&format!("{} {}", reading.trace, reading.id));
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut entry = |name: &str, key: &str, value: Option<String>| {
        let Some(value) = value.or_else(|| reading.reasons.get(key).cloned()) else { return };
        match entries.last_mut() {
            // Said once of all that have the same reason.
            Some((names, before)) if *before == value => *names = format!("{names}, {name}"),
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
        self_test(&mut entries, test);
    }
    for (names, value) in entries {
        if names.contains(',') {
            page.paragraph(6, ENTRY, &format!("{names}: {value}"))
        } else {
            page.entry(&names, &value)
        }
    }
}

/// What loads on the device showed.
fn self_test(entries: &mut Vec<(String, String)>, test: &SelfTest) {
    let mut entry = |name: &str, value: Option<String>| {
        entries.extend(value.map(|value| (name.to_string(), value)));
    };
    let watts = |power: Watts| si::quantity(power.value(), "W");
    entry("idle", test.idle_w.map(watts));
    let seldom = test.load_read_seldom_w.map(|power| format!(", read every 500 ms {}", watts(power)));
    entry("load", test.load_w.map(|power| format!("{}{}", watts(power), seldom.unwrap_or_default())));
    let times = |query: Spread| {
        let [median, p99] = [query.median, query.p99].map(|time| si::quantity(time.value(), "s"));
        format!("{median}, one in a hundred takes {p99} or more")
    };
    entry("query", test.query_s.map(times));
    for warning in &test.warnings {
        entry("warning", Some(warning.clone()));
    }
}

fn coverage_text(coverage: Coverage) -> &'static str {
    match coverage {
        Coverage::Full => "full: the sensor looks all the time",
        Coverage::PartTime => "part-time: the sensor does not see all that happens",
    }
}
