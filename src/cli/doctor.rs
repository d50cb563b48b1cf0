//! `layerjoule doctor`

use std::fmt::Write;
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

use super::exit::Exit;
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
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum DoctorFormat {
    /// For people
    Table,
    /// The `meters` block of the run file with what mends each, and what disturbs this host
    Json,
}

/// What was found.
struct Diagnosis {
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
    let mut meters = host_meters(root, &clock);
    let library = arguments.nvml.nvml_lib.as_deref();
    meters.extend(nvml_meters(library, &GpuSelector::Index(0), Among::All, &clock));
    let diagnosis = Diagnosis { quiet, meters, host: Host::read(Path::new("/proc")) };
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
            "devices": [{"kind": "cpu", "works": true}, {"kind": "sim", "works": true, "models": simulated()}],
            "meters": meters,
            "automatic": self.automatic(),
            "host": host,
        }))
    }

    fn text(&self) -> String {
        let mut page = Page::default();
        page.line("Devices");
        page.line(&format!("  cpu: works, {} threads", self.quiet.processors));
        page.line(&format!("  simulated, to try methods and never hardware: {}", simulated().join(", ")));
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

/// Text for people, at most 80 columns wide but for commands, which must stay whole.
#[derive(Default)]
struct Page(String);

/// Columns of a page.
const WIDTH: usize = 80;
/// Where the text of an entry begins.
const ENTRY: usize = 15;

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// A named line, wrapped under itself.
    fn entry(&mut self, name: &str, text: &str) {
        self.paragraph(6, ENTRY, &format!("{name:<width$}{text}", width = ENTRY - 6));
    }

    /// A command on a line of its own, and what it does below it.
    fn mend(&mut self, name: &str, command: Option<&str>, effect: &str) {
        match command {
            None => self.entry(name, effect),
            Some(command) => {
                let width = ENTRY - 6;
                let _ = writeln!(self.0, "      {name:<width$}$ {command}");
                self.entry("", effect);
            }
        }
    }

    /// Words wrapped at [`WIDTH`], the first line indented by `first` and the others by `rest`.
    fn paragraph(&mut self, first: usize, rest: usize, text: &str) {
        let mut line = " ".repeat(first);
        // Spaces that align the first word stay.
        let lead = text.find(|c: char| c != ' ').unwrap_or(0);
        line.push_str(&text[..lead]);
        let mut empty = true;
        for word in text[lead..].split_inclusive(' ') {
            if !empty && line.chars().count() + word.trim_end().chars().count() > WIDTH {
                self.line(line.trim_end());
                line = " ".repeat(rest);
            }
            line.push_str(word);
            empty = false;
        }
        self.line(line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_others_is_shown_as_it_was_computed() {
        // Two clocks of different steps may differ by less than nothing.
        let mut diagnosis =
            Diagnosis { meters: Vec::new(), host: Host::default(), quiet: Quietness::default() };
        diagnosis.quiet.other_processes = Some(-0.012);
        let mut page = Page::default();
        diagnosis.host(&mut page);
        assert!(page.0.contains("others   -1.2 % of all processor time"), "{}", page.0);
    }

    #[test]
    fn paragraphs_stay_within_eighty_columns_and_commands_stay_whole() {
        let mut page = Page::default();
        page.entry("why", &"seven12 ".repeat(30));
        page.mend("mend", Some(&"x".repeat(100)), "does it");
        let lines: Vec<&str> = page.0.lines().collect();
        assert!(lines[0].starts_with("      why      seven12 seven12"));
        assert!(lines[1].starts_with("               seven12"));
        assert!(lines.iter().filter(|l| !l.contains('$')).all(|l| l.chars().count() <= WIDTH));
        assert!(page.0.contains(&format!("      mend     $ {}\n", "x".repeat(100))));
        assert!(page.0.ends_with("               does it\n"));
    }
}
