//! `layerjoule doctor`

use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::clock::MonotonicClock;
use crate::meter::nvml::{Among, GpuSelector, NVML_ID, nvml_meters};
use crate::meter::{Host, MODELLED_ID, Mend, MeterCandidate, Part, automatic_primary, host_meters, mends};
use crate::report::si;
use crate::run::{Quietness, Surroundings};
use crate::sim::PRESETS;
use crate::trace::{MeterKind, MeterStatus};

use super::cuda::{CudaDiagnosis, CudaPath};
use super::exit::Exit;
use super::page::Page;
use super::{NvmlLibrary, SysfsRoot};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = "Example: layerjoule doctor")]
pub(super) struct DoctorArguments {
    /// What is printed
    #[arg(long, value_enum, default_value = "table")]
    format: DoctorFormat,
    #[command(flatten)]
    sysfs: SysfsRoot,
    #[command(flatten)]
    nvml: NvmlLibrary,
    #[command(flatten)]
    cuda: CudaPath,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum DoctorFormat {
    /// For people
    Table,
    /// The `meters` block of the run file with what mends each, libraries, and what disturbs this host
    Json,
}

/// What was found.
struct Diagnosis {
    cuda: CudaDiagnosis,
    meters: Vec<MeterCandidate>,
    host: Host,
    quiet: Quietness,
}

pub(super) fn run(arguments: &DoctorArguments) -> anyhow::Result<Exit> {
    let clock = MonotonicClock::start();
    let root = &arguments.sysfs.sysfs_root;
    let at = Surroundings { sysfs_root: root.clone(), ..Surroundings::default() };
    // First, while nothing of ours runs.
    let quiet = Quietness::watch(&at, &clock);
    let cuda = CudaDiagnosis::of(&arguments.cuda, root)?;
    let mut meters = host_meters(root, &clock);
    let library = arguments.nvml.nvml_lib.as_deref();
    meters.extend(nvml_meters(library, &GpuSelector::Index(0), Among::All, &clock));
    let diagnosis = Diagnosis { cuda, quiet, meters, host: Host::read(Path::new("/proc")) };
    match arguments.format {
        DoctorFormat::Json => {
            super::print(&format!("{}\n", serde_json::to_string_pretty(&diagnosis.json()?)?))?;
        }
        DoctorFormat::Table => super::print(&diagnosis.text())?,
    }
    Ok(Exit::Done)
}

/// The simulated devices, as `--device` names them.
fn simulated() -> Vec<String> {
    PRESETS.iter().map(|name| format!("sim:{name}")).collect()
}

impl Diagnosis {
    fn automatic(&self) -> Option<&str> {
        let best = automatic_primary(&self.meters, &Part::Cpu)?;
        Some(&self.meters[best].record.id)
    }

    fn mends(&self, meter: &MeterCandidate) -> Vec<Mend> {
        meter.refusal.as_ref().map_or(Vec::new(), |refusal| mends(&refusal.cause, &self.host))
    }

    fn json(&self) -> anyhow::Result<serde_json::Value> {
        let mut meters = Vec::new();
        for meter in &self.meters {
            let mut value = serde_json::to_value(&meter.record)?;
            let mends = self.mends(meter).into_iter();
            value["resolution_j"] = json!(meter.resolution);
            value["warnings"] = json!(meter.notes);
            value["mends"] =
                mends.map(|mend| json!({"command": mend.command, "effect": mend.effect})).collect();
            meters.push(value);
        }
        let mut host = serde_json::to_value(&self.quiet)?;
        host["around"] = json!(self.host.around());
        host["findings"] = json!(self.quiet.findings());
        Ok(json!({
            "devices": [
                {"kind": "cpu", "works": true},
                self.cuda.device_json(),
                {"kind": "sim", "works": true, "models": simulated()},
            ],
            "libraries": self.cuda.libraries_json(),
            "meters": meters,
            "automatic": self.automatic(),
            "host": host,
        }))
    }

    fn text(&self) -> String {
        let mut page = Page::default();
        page.line("Devices");
        page.line(&format!("  cpu: works, {} threads", self.quiet.processors));
        self.cuda.device(&mut page);
        page.line("  sim: works, SIMULATED only");
        page.entry("models", &simulated().join(", "));
        self.cuda.libraries(&mut page);
        page.line("\nMeters, best first");
        let same = |a: &MeterCandidate, b: &MeterCandidate| a.refusal.is_some() && a.refusal == b.refusal;
        let of_gpus = self.meters.iter().position(|meter| meter.record.id.starts_with(NVML_ID));
        let (of_host, of_gpus) = self.meters.split_at(of_gpus.unwrap_or(self.meters.len()));
        for meters in of_host.chunk_by(same) {
            self.meters(&mut page, meters);
        }
        if !of_gpus.is_empty() {
            page.line("\nMeters of GPUs");
        }
        for meters in of_gpus.chunk_by(same) {
            self.meters(&mut page, meters);
        }
        match self.automatic() {
            Some(id) => page.line(&format!("\n`--meter auto` takes {id} on the CPU")),
            None => page.line("\nNo meter works here"),
        }
        self.host(&mut page);
        page.0
    }

    /// One meter, or several that do not work for one reason.
    fn meters(&self, page: &mut Page, meters: &[MeterCandidate]) {
        let [meter, others @ ..] = meters else { return };
        let record = &meter.record;
        let state = match record.status {
            MeterStatus::Measured => "works",
            MeterStatus::Estimated => "works, ESTIMATES only",
            MeterStatus::Unavailable => "does not work",
        };
        let ids: Vec<&str> = [meter].into_iter().chain(others).map(|m| m.record.id.as_str()).collect();
        let state = if others.is_empty() { state } else { "do not work" };
        page.paragraph(2, 4, &format!("{}: {state}", ids.join(", ")));
        page.entry("scope", &record.scope);
        if meter.meter.is_some() {
            if let Some(period) = record.update_period_s {
                let updates = match record.kind {
                    MeterKind::Power => "read every",
                    _ => "changes every",
                };
                page.entry("period", &format!("{updates} {}", si::quantity(period.value(), "s")));
            }
            if let Some(step) = meter.resolution {
                page.entry("step", &si::quantity(step.value(), "J"));
            }
            if let Some(systematic) = record.systematic_relative {
                page.entry("error", &format!("±{:.0} % common to all readings", systematic * 100.0));
            }
            if let Some(reason) = &record.reason {
                page.entry(if record.id == MODELLED_ID { "model" } else { "how" }, reason);
            }
        }
        for note in &meter.notes {
            page.entry("warning", &note.text);
        }
        if let Some(refusal) = &meter.refusal {
            page.entry("why", &refusal.text);
        }
        let mends = self.mends(meter);
        let shown = |earlier: &&MeterCandidate| !mends.is_empty() && self.mends(earlier) == mends;
        let before = self.meters.iter().take_while(|m| m.record.id != record.id);
        if let Some(earlier) = { before }.find(shown) {
            page.entry("mend", &format!("as for {}", earlier.record.id));
            return;
        }
        for mend in mends {
            page.mend("mend", mend.command.as_deref(), &mend.effect);
        }
    }

    fn host(&self, page: &mut Page) {
        let quiet = &self.quiet;
        page.line("\nHost");
        if let Some(around) = self.host.around() {
            page.entry("inside", &around);
        }
        let unknown = || "this machine does not show it".to_string();
        let load = quiet.load_average.map_or_else(unknown, |load| {
            format!("{load:.2} threads in the last minute, {} processors", quiet.processors)
        });
        page.entry("load", &load);
        let others = quiet
            .other_processes
            .map_or_else(unknown, |share| format!("{:.1} % of all processor time", share * 100.0));
        page.entry("others", &others);
        page.entry("governor", &governors(quiet).unwrap_or_else(unknown));
        page.entry(
            "turbo",
            &quiet.turbo.map_or_else(unknown, |on| if on { "on" } else { "off" }.to_string()),
        );
        let findings = quiet.findings();
        if findings.is_empty() {
            page.line("\nNothing found that would disturb a measurement");
            return;
        }
        page.line("\nWhat disturbs a measurement");
        for finding in findings {
            page.paragraph(2, 2, &finding.what);
            page.paragraph(6, 6, finding.means);
            if let Some(command) = finding.command {
                page.line(&format!("      $ {command}"));
            }
        }
    }
}

/// Each governor with its policies, counted.
fn governors(quiet: &Quietness) -> Option<String> {
    let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for governor in quiet.governors.values() {
        *counts.entry(governor).or_default() += 1;
    }
    let of = quiet.governors.len();
    let texts: Vec<String> =
        counts.iter().map(|(name, n)| format!("{name} ({n} of {of} policies)")).collect();
    (of > 0).then(|| texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_others_is_shown_as_it_was_computed() {
        // Two clocks of different steps may differ by less than nothing.
        let mut diagnosis = Diagnosis {
            cuda: CudaDiagnosis::nothing(),
            meters: Vec::new(),
            host: Host::default(),
            quiet: Quietness::default(),
        };
        diagnosis.quiet.other_processes = Some(-0.012);
        let mut page = Page::default();
        diagnosis.host(&mut page);
        assert!(page.0.contains("others   -1.2 % of all processor time"), "{}", page.0);
    }
}
