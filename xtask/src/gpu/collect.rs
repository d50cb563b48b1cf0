//! Files what a part left: runs and device facts under `profiles/`, tables and pictures under `reports/`, each folder
//! with its provenance.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::part::{Part, is_plain_name};

/// Traces and other raw readings above this stay in the archive: git keeps every version for ever.
const LARGEST_TRACE: usize = 2 << 20;
/// In every folder that is filed here.
const PROVENANCE: &str = "PROVENANCE.toml";
/// Where the runs lie in an archive.
const RUNS: &str = "results/runs/";

/// A folder to file.
#[derive(Debug, Default, PartialEq)]
struct Folder {
    files: BTreeMap<String, Vec<u8>>,
    /// What stays in the archive.
    left_out: Vec<String>,
    /// Versions that a run of its own states.
    versions: BTreeMap<&'static str, String>,
}

/// Folders by their paths in the repository.
type Folders = BTreeMap<String, Folder>;

/// Checks an archive and files what it holds. All or nothing is written.
pub(super) fn collect(repository: &Path, archive: &Path, force: bool) -> Result<()> {
    let part = Part::read(archive)?;
    let mut folders = folders(&part).with_context(|| archive.display().to_string())?;
    for folder in folders.values_mut() {
        let provenance = provenance(&part, folder)?;
        folder.files.insert(PROVENANCE.to_string(), provenance.into_bytes());
    }
    for path in folders.keys() {
        may_write(&repository.join(path), force)?;
    }
    for (path, folder) in &folders {
        write(&repository.join(path), folder)?;
        println!("{path}: {}", folder.files.keys().cloned().collect::<Vec<_>>().join(" "));
        folder.left_out.iter().for_each(|left| println!("  left out: {left}"));
    }
    for step in part.steps.iter().filter(|step| step.status != "ok") {
        println!("  {} {}: {}", step.status, step.name, step.reason);
    }
    println!("{}: the part {} is {}", part.archive, part.name, part.status);
    Ok(())
}

/// What is filed where.
fn folders(part: &Part) -> Result<Folders> {
    let device = slug(part.device()?);
    let mut folders = Folders::new();
    let names = part.files.keys().filter_map(|path| path.strip_prefix(RUNS)?.split_once('/'));
    for run in names.map(|(run, _)| run).collect::<BTreeSet<_>>() {
        ensure!(is_plain_name(run), "{RUNS}{run}: expected a plain name of a run");
        // A run that the part did not finish has no numbers to keep.
        if part.steps.iter().any(|step| step.name == run && step.status == "ok") {
            file_run(part, run, &device, &mut folders)?;
        }
    }
    let mut facts = Folder::default();
    for name in ["device_facts.json", "traces.tar.gz"] {
        if let Some(bytes) = part.files.get(&format!("results/facts/{name}")) {
            facts.add(name, bytes);
        }
    }
    if !facts.files.is_empty() {
        folders.insert(format!("profiles/devices/recorded/{device}"), facts);
    }
    let mut rest = Folder::default();
    rest.add("steps.tsv", &part.files["steps.tsv"]);
    for (path, bytes) in &part.files {
        let name = path.strip_prefix(RUNS).or_else(|| path.strip_prefix("results/"));
        if let Some(name) = name.filter(|name| is_plain_name(name)) {
            let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
            ensure!(
                value["emulated"] != true,
                "{path}: of an emulated device; only recorded devices are filed"
            );
            rest.add(name, bytes);
        }
    }
    folders.insert(format!("profiles/recorded/{device}/parts/{}", part.name), rest);
    Ok(folders)
}

/// One profiled run: the run file and its trace, and what people look at.
fn file_run(part: &Part, run: &str, device: &str, folders: &mut Folders) -> Result<()> {
    let mut files = BTreeMap::new();
    for (path, bytes) in &part.files {
        if let Some(name) = path.strip_prefix(RUNS).and_then(|path| path.strip_prefix(run)?.strip_prefix('/'))
        {
            files.insert(name, bytes);
        }
    }
    let run_file = files.get("run.json").with_context(|| format!("{RUNS}{run} has no run.json"))?;
    let report: Value =
        serde_json::from_slice(run_file).with_context(|| format!("{RUNS}{run}/run.json is no JSON"))?;
    let schema = report["schema"].as_str().unwrap_or("none");
    ensure!(schema == "layerjoule.run/1", "{run}: expected schema layerjoule.run/1, found {schema}");
    ensure!(
        report["simulated"] == false && report["emulated"] == false && report["device"]["kind"] == "cuda",
        "{run}: not of a real GPU (device {}, simulated {}, emulated {}); only recorded devices are filed",
        report["device"]["kind"],
        report["simulated"],
        report["emulated"]
    );
    let mut versions = BTreeMap::new();
    for key in ["driver", "cuda", "cudnn"] {
        versions.extend(report["device"][key].as_str().map(|version| (key, version.to_string())));
    }
    let mut recorded = Folder { versions: versions.clone(), ..Folder::default() };
    let mut shown = Folder { versions, ..Folder::default() };
    for (name, bytes) in files {
        let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
        match ending {
            _ if !is_plain_name(name) => {}
            Some("json" | "jsonl") => recorded.add(name, bytes),
            // PNG files show the same as SVG files and are many times as large.
            Some("csv" | "svg") => shown.add(name, bytes),
            _ => {}
        }
    }
    folders.insert(format!("profiles/recorded/{device}/{run}"), recorded);
    folders.insert(format!("reports/{device}/{run}"), shown);
    Ok(())
}

impl Folder {
    /// Takes a file; raw readings only where they are small.
    fn add(&mut self, name: &str, bytes: &[u8]) {
        let raw = name.ends_with(".jsonl") || name.ends_with(".tar.gz");
        if raw && bytes.len() > LARGEST_TRACE {
            self.left_out.push(format!("{name}, {} bytes, more than {LARGEST_TRACE}", bytes.len()));
        } else {
            self.files.insert(name.to_string(), bytes.to_vec());
        }
    }
}

/// The name of a device's folder: `NVIDIA H200` is `nvidia-h200`.
fn slug(device: &str) -> String {
    let plain = device.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    plain.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

/// Where the numbers of a folder are from.
fn provenance(part: &Part, folder: &Folder) -> Result<String> {
    // JSON's strings are TOML's, but for the one control character that JSON leaves as it is.
    let quoted = |text: &str| Value::from(text.replace('\u{7f}', "\u{fffd}")).to_string();
    let list = |texts: &[String]| {
        let lines: String = texts.iter().map(|text| format!("    {},\n", quoted(text))).collect();
        if lines.is_empty() { "[]".to_string() } else { format!("[\n{lines}]") }
    };
    let mut versions = told_versions(part);
    versions.extend(folder.versions.iter().map(|(&key, version)| (key.to_string(), version.clone())));
    let commands: Vec<String> = part
        .steps
        .iter()
        .filter(|step| !step.command.is_empty())
        .map(|step| format!("{}: {}", step.name, step.command))
        .collect();
    let origin = &part.manifest.origin;
    let mut text =
        String::from("# Written by `cargo xtask gpu collect`: where the files beside this one are from.\n");
    writeln!(text, "schema = \"layerjoule.provenance/1\"")?;
    writeln!(text, "recorded = {}", quoted(&part.started))?;
    writeln!(text, "device = {}", quoted(part.device()?))?;
    writeln!(text, "part = {}\nstatus = {}", quoted(&part.name), quoted(&part.status))?;
    writeln!(text, "commit = {}\ndirty = {}", quoted(&origin.commit), origin.dirty)?;
    writeln!(text, "layerjoule = {}\nrustc = {}", quoted(&origin.version), quoted(&origin.rustc))?;
    writeln!(text, "archive = {}", quoted(&part.archive))?;
    writeln!(text, "archive_sha256 = {}", quoted(&part.archive_sha256))?;
    writeln!(text, "commands = {}", list(&commands))?;
    writeln!(text, "left_out = {}", list(&folder.left_out))?;
    writeln!(text, "\n[versions]")?;
    for (key, version) in versions {
        writeln!(text, "{} = {}", quoted(&key), quoted(&version))?;
    }
    Ok(text)
}

/// Versions of the driver by nvidia-smi, of CUDA's libraries by `doctor`, and of Python's packages.
fn told_versions(part: &Part) -> BTreeMap<String, String> {
    let json = |name: &str| -> Value {
        let bytes = part.files.get(name).map_or(&[][..], Vec::as_slice);
        serde_json::from_slice(bytes).unwrap_or_default()
    };
    let mut versions = BTreeMap::new();
    let gpus = part.files.get("environment/gpus.csv").map(|bytes| String::from_utf8_lossy(bytes));
    let driver = gpus.as_ref().and_then(|text| text.lines().next()?.split(',').nth(1));
    versions.extend(driver.map(|driver| ("driver".to_string(), driver.trim().to_string())));
    for library in json("environment/doctor.json")["libraries"].as_array().unwrap_or(&Vec::new()) {
        if let (Some(name), Some(version)) = (library["name"].as_str(), library["version"].as_str()) {
            versions.insert(name.to_string(), version.to_string());
        }
    }
    for (package, version) in json("environment/python.json").as_object().unwrap_or(&serde_json::Map::new()) {
        versions.extend(version.as_str().map(|version| (package.clone(), version.to_string())));
    }
    versions
}

/// A folder that is there is only replaced when asked, and only if it was filed by this command.
fn may_write(path: &Path, force: bool) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    ensure!(
        path.join(PROVENANCE).is_file(),
        "{} is there and has no {PROVENANCE}: it was not filed by this command and stays",
        path.display()
    );
    ensure!(force, "{} is there; --force replaces it", path.display());
    Ok(())
}

/// Writes a folder beside its place and moves it there: what is there is whole.
fn write(path: &Path, folder: &Folder) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new: PathBuf = path.with_file_name(format!(".{name}.new"));
    let write = || -> std::io::Result<()> {
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir_all(&new)?;
        for (name, bytes) in &folder.files {
            fs::write(new.join(name), bytes)?;
        }
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::part::made_up::{Files, files, packed, sealed};
    use super::*;

    const RUN: &str = "vgg16-bf16";

    fn run_file(emulated: bool) -> Value {
        json!({
            "schema": "layerjoule.run/1", "simulated": false, "emulated": emulated,
            "device": {"kind": "cuda", "name": "NVIDIA Test GPU 80GB", "cuda": "13.0", "cudnn": "9.28.0"},
        })
    }

    fn with_run(emulated: bool) -> Files {
        let mut files = files();
        let mut add = |name: &str, bytes: &[u8]| files.insert(name.to_string(), bytes.to_vec());
        add(&format!("{RUNS}{RUN}/run.json"), run_file(emulated).to_string().as_bytes());
        add(&format!("{RUNS}{RUN}/trace.jsonl"), b"{}\n");
        add(&format!("{RUNS}{RUN}/energy_by_kind.svg"), b"<svg/>");
        add(&format!("{RUNS}{RUN}/energy_by_kind.png"), b"png");
        add(&format!("{RUNS}{RUN}/layers.csv"), b"a,b\n");
        add(&format!("{RUNS}{RUN}-checks.txt"), b"closure\n");
        add("results/facts/device_facts.json", b"{}");
        add("logs/secret.log", b"nobody needs it");
        files
    }

    fn archive(dir: &Path, files: Files) -> PathBuf {
        let path = dir.join("part-vgg16.tar.gz");
        fs::write(&path, packed(&sealed(files))).unwrap();
        path
    }

    fn listed(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn runs_pictures_and_facts_are_filed_with_their_provenance() {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("repository");
        let archive = archive(dir.path(), with_run(false));
        collect(&repository, &archive, false).unwrap();
        let device = "nvidia-test-gpu-80gb";
        assert_eq!(
            listed(&repository),
            [
                format!("profiles/devices/recorded/{device}/PROVENANCE.toml"),
                format!("profiles/devices/recorded/{device}/device_facts.json"),
                format!("profiles/recorded/{device}/parts/vgg16/PROVENANCE.toml"),
                format!("profiles/recorded/{device}/parts/vgg16/steps.tsv"),
                format!("profiles/recorded/{device}/parts/vgg16/vgg16-bf16-checks.txt"),
                format!("profiles/recorded/{device}/vgg16-bf16/PROVENANCE.toml"),
                format!("profiles/recorded/{device}/vgg16-bf16/run.json"),
                format!("profiles/recorded/{device}/vgg16-bf16/trace.jsonl"),
                format!("reports/{device}/vgg16-bf16/PROVENANCE.toml"),
                format!("reports/{device}/vgg16-bf16/energy_by_kind.svg"),
                format!("reports/{device}/vgg16-bf16/layers.csv"),
            ]
        );
        let provenance =
            fs::read_to_string(repository.join(format!("reports/{device}/vgg16-bf16/PROVENANCE.toml")))
                .unwrap();
        for line in [
            "recorded = \"2026-11-21T20:00:00Z\"",
            "device = \"NVIDIA Test GPU 80GB\"",
            "commit = \"c0ffee\"\ndirty = true",
            "commands = [\n    \"vgg16-bf16: ./bin/layerjoule profile\",\n]",
            "\"cudnn\" = \"9.28.0\"",
            "\"driver\" = \"580.0\"",
        ] {
            assert!(provenance.contains(line), "{line} is not in\n{provenance}");
        }
        let sum = super::super::manifest::sha256(&fs::read(&archive).unwrap());
        assert!(provenance.contains(&format!("archive_sha256 = \"{sum}\"")), "{provenance}");
    }

    #[test]
    fn nothing_is_replaced_without_force_and_nothing_foreign_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let archive = archive(dir.path(), with_run(false));
        collect(dir.path(), &archive, false).unwrap();
        let run = dir.path().join("profiles/recorded/nvidia-test-gpu-80gb/vgg16-bf16");
        let stale = run.join("stale");
        fs::write(&stale, "of the first time").unwrap();
        let error = collect(dir.path(), &archive, false).unwrap_err().to_string();
        assert!(error.ends_with("is there; --force replaces it") && stale.exists(), "{error}");
        collect(dir.path(), &archive, true).unwrap();
        assert!(!stale.exists());
        fs::remove_file(run.join(PROVENANCE)).unwrap();
        let error = collect(dir.path(), &archive, true).unwrap_err().to_string();
        assert!(error.ends_with("it was not filed by this command and stays"), "{error}");
    }

    #[test]
    fn a_run_on_a_stand_in_is_not_filed_as_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("repository");
        let error = collect(&repository, &archive(dir.path(), with_run(true)), false).unwrap_err();
        assert!(format!("{error:#}").contains("only recorded devices are filed"), "{error:#}");
        assert!(!repository.exists());
    }

    #[test]
    fn a_comparison_on_a_stand_in_is_not_filed_as_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = with_run(false);
        files.insert("results/energy.json".to_string(), br#"{"emulated": true}"#.to_vec());
        let error = collect(dir.path(), &archive(dir.path(), files), false).unwrap_err();
        assert!(format!("{error:#}").contains("energy.json: of an emulated device"), "{error:#}");
        assert!(!dir.path().join("profiles").exists());
    }

    #[test]
    fn a_trace_above_two_mebibytes_stays_in_the_archive_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = with_run(false);
        files.insert(format!("{RUNS}{RUN}/trace.jsonl"), vec![b' '; LARGEST_TRACE + 1]);
        collect(dir.path(), &archive(dir.path(), files), false).unwrap();
        let run = dir.path().join("profiles/recorded/nvidia-test-gpu-80gb/vgg16-bf16");
        assert!(!run.join("trace.jsonl").exists());
        let provenance = fs::read_to_string(run.join(PROVENANCE)).unwrap();
        assert!(provenance.contains("\"trace.jsonl, 2097153 bytes, more than 2097152\""), "{provenance}");
    }

    #[test]
    fn a_run_that_its_part_did_not_finish_is_not_filed() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = with_run(false);
        let steps = String::from_utf8(files["steps.tsv"].clone()).unwrap().replace("\tok\t", "\tskipped\t");
        files.insert("steps.tsv".to_string(), steps.into_bytes());
        collect(dir.path(), &archive(dir.path(), files), false).unwrap();
        let device = dir.path().join("profiles/recorded/nvidia-test-gpu-80gb");
        assert!(device.join("parts/vgg16/steps.tsv").exists() && !device.join(RUN).exists());
    }
}
