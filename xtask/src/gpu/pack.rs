//! A bundle: the product and its test programs, networks and scripts in one folder, with checksums.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::manifest::{BUNDLE_SCHEMA, CHECKSUMS, FileRecord, MANIFEST, Manifest, Origin, glibc, sha256};

/// Most bytes of a bundle, unpacked and packed: what a GPU's machine takes over a narrow line.
const MOST_BYTES: u64 = 60 << 20;
/// The product.
const PRODUCT: &str = "layerjoule";
/// What `run.sh` calls beside the product.
const PROGRAMS: [&str; 4] = ["gpu_agreement", "gpu_conformance", "gpu_layer_times", "gpu_window"];
/// Where part 0 lies in a bundle.
const FACTS: &str = "python/device_facts.py";
/// Where part 0 lies unless an option says otherwise; it is no part of this repository.
const FACTS_BESIDE: &str = "../shared/tools/device_facts.py";

/// A file of a bundle.
struct Content {
    bytes: Vec<u8>,
    executable: bool,
}

/// The files of a bundle by their paths in it.
type Contents = BTreeMap<String, Content>;

/// Builds everything and writes the bundle to the folder `out` and to `out` with `.tar.gz` behind.
pub(super) fn pack(repository: &Path, out: &Path, facts: Option<&Path>) -> Result<()> {
    let programs = build(repository)?;
    let beside = repository.join(FACTS_BESIDE);
    let facts = facts.or_else(|| beside.is_file().then_some(&beside));
    let contents = contents(repository, &programs, facts)?;
    let manifest = write(&contents, origin(repository)?, out)?;
    for missing in &manifest.missing {
        eprintln!("xtask: {missing} is NOT in the bundle; its part will fail");
    }
    if manifest.origin.dirty {
        eprintln!("xtask: tracked files differ from the commit; results of this bundle cannot be repeated");
    }
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    println!(
        "{}: {} files, {:.1} MiB, glibc {} or newer\n{}: {:.1} MiB",
        out.display(),
        manifest.files.len(),
        bytes as f64 / 1048576.0,
        manifest.glibc.as_deref().unwrap_or("any"),
        archive_of(out).display(),
        fs::metadata(archive_of(out))?.len() as f64 / 1048576.0,
    );
    Ok(())
}

/// Builds the product and the examples called `gpu_*`; their names and files.
fn build(repository: &Path) -> Result<Vec<(String, PathBuf)>> {
    let metadata = super::super::cargo("metadata")
        .args(["--no-deps", "--format-version", "1", "--locked", "--offline"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(metadata.status.success(), "cargo metadata failed ({})", metadata.status);
    let examples = gpu_examples(&serde_json::from_slice(&metadata.stdout).context("cargo metadata")?);
    let mut cargo = super::super::cargo("build");
    cargo.current_dir(repository).args(["--release", "--locked", "--package", PRODUCT, "--bin", PRODUCT]);
    for example in &examples {
        cargo.args(["--example", example]);
    }
    cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let built = cargo.output().context("cannot start cargo")?;
    ensure!(built.status.success(), "the programs do not build");
    let programs = executables(&String::from_utf8_lossy(&built.stdout));
    ensure!(
        programs.len() == examples.len() + 1,
        "cargo built {} programs, expected {} and {PRODUCT}",
        programs.len(),
        examples.join(", ")
    );
    Ok(programs)
}

/// The examples called `gpu_*` that cargo knows.
fn gpu_examples(metadata: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let targets = list(&metadata["packages"]).into_iter().flat_map(|package| list(&package["targets"]));
    let is_program = |target: &Value| list(&target["crate_types"]).contains(&Value::from("bin"));
    let is_example = |target: &Value| list(&target["kind"]).contains(&Value::from("example"));
    let chosen = targets.filter(|target| is_example(target) && is_program(target));
    let names = chosen.filter_map(|target| Some(target["name"].as_str()?.to_string()));
    names.filter(|name| name.starts_with("gpu_")).collect()
}

/// Names and files of the programs in cargo's messages, one JSON object a line.
fn executables(messages: &str) -> Vec<(String, PathBuf)> {
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some((message["target"]["name"].as_str()?.to_string(), message["executable"].as_str()?.into()))
    };
    messages.lines().filter_map(program).collect()
}

/// Everything that a bundle holds.
fn contents(repository: &Path, programs: &[(String, PathBuf)], facts: Option<&Path>) -> Result<Contents> {
    let mut contents = Contents::new();
    let mut add = |path: String, file: &Path, executable: bool| -> Result<()> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        contents.insert(path, Content { bytes, executable });
        Ok(())
    };
    let scripts = repository.join("xtask").join("gpu");
    add("run.sh".to_string(), &scripts.join("run.sh"), true)?;
    for (folder, from, ending) in
        [("python", scripts.join("python"), "py"), ("networks", repository.join("networks"), "toml")]
    {
        for entry in fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))? {
            let file = entry?.path();
            let name = file.file_name().and_then(|name| name.to_str());
            if let (Some(name), true) = (name, file.extension().is_some_and(|found| found == ending)) {
                add(format!("{folder}/{name}"), &file, false)?;
            }
        }
    }
    for (name, file) in programs {
        add(format!("bin/{name}"), file, true)?;
    }
    if let Some(facts) = facts {
        add(FACTS.to_string(), facts, false)?;
    }
    Ok(contents)
}

/// Writes a bundle as folder and archive. A folder that is there is replaced if it is a bundle without results.
fn write(contents: &Contents, origin: Origin, out: &Path) -> Result<Manifest> {
    let bytes: u64 = contents.values().map(|content| content.bytes.len() as u64).sum();
    ensure!(
        bytes <= MOST_BYTES,
        "the bundle has {bytes} bytes, at most {MOST_BYTES} are allowed; the largest: {}",
        largest(contents)
    );
    if out.exists() {
        ensure!(
            out.join(MANIFEST).is_file(),
            "{} is there and is no bundle; choose another --out",
            out.display()
        );
        let results = out.join("results");
        ensure!(!results.exists(), "{} holds results; collect them and move them away", results.display());
    }
    let manifest = manifest(contents, origin);
    let mut json = serde_json::to_vec_pretty(&manifest).context("cannot write the manifest")?;
    json.push(b'\n');
    let mut files: Vec<(&str, &[u8], bool)> = contents
        .iter()
        .map(|(path, content)| (path.as_str(), content.bytes.as_slice(), content.executable))
        .collect();
    files.push((MANIFEST, &json, false));
    let sums: String = files.iter().map(|(path, bytes, _)| format!("{}  {path}\n", sha256(bytes))).collect();
    files.push((CHECKSUMS, sums.as_bytes(), false));

    let archive = archive_of(out);
    let packed = tar_gz(&files).context("cannot pack the bundle")?;
    ensure!(packed.len() as u64 <= MOST_BYTES, "{} would have {} bytes", archive.display(), packed.len());
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    for (path, bytes, executable) in &files {
        write_file(&out.join(path), bytes, if *executable { 0o755 } else { 0o644 })?;
    }
    write_file(&archive, &packed, 0o644)?;
    Ok(manifest)
}

fn manifest(contents: &Contents, origin: Origin) -> Manifest {
    let programs = contents.iter().filter(|(path, _)| path.starts_with("bin/"));
    let wanted =
        PROGRAMS.iter().chain([&PRODUCT]).map(|name| format!("bin/{name}")).chain([FACTS.to_string()]);
    let record = |(path, content): (&String, &Content)| FileRecord {
        path: path.clone(),
        bytes: content.bytes.len() as u64,
        sha256: sha256(&content.bytes),
    };
    Manifest {
        schema: BUNDLE_SCHEMA.to_string(),
        origin,
        glibc: glibc(programs.map(|(_, content)| content.bytes.as_slice())),
        missing: wanted.filter(|path| !contents.contains_key(path)).collect(),
        files: contents.iter().map(record).collect(),
    }
}

fn largest(contents: &Contents) -> String {
    let mut sizes: Vec<(usize, &String)> =
        contents.iter().map(|(path, content)| (content.bytes.len(), path)).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes.iter().take(3).map(|(bytes, path)| format!("{path} {bytes}")).collect::<Vec<_>>().join(", ")
}

/// Equal files give equal bytes: no times, no owners.
fn tar_gz(files: &[(&str, &[u8], bool)]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for (path, bytes, executable) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(if *executable { 0o755 } else { 0o644 });
        tar.append_data(&mut header, format!("gpu-bundle/{path}"), *bytes)?;
    }
    tar.into_inner()?.finish()
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(path, bytes)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn archive_of(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".tar.gz");
    name.into()
}

/// What the programs are built from.
fn origin(repository: &Path) -> Result<Origin> {
    let told = |program: &str, args: &[&str]| -> Result<String> {
        let output = Command::new(program)
            .args(args)
            .current_dir(repository)
            .output()
            .with_context(|| format!("cannot start {program}"))?;
        if !output.status.success() {
            bail!("`{program} {}` failed ({})", args.join(" "), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    Ok(Origin {
        commit: told("git", &["rev-parse", "HEAD"])?,
        dirty: !told("git", &["status", "--porcelain", "--untracked-files=no"])?.is_empty(),
        version: told("cargo", &["pkgid", "--offline", "--package", PRODUCT])?
            .rsplit(['#', '@'])
            .next()
            .unwrap_or_default()
            .to_string(),
        rustc: told("rustc", &["--version"])?,
    })
}

/// Bundles made up for tests.
#[cfg(test)]
pub(super) mod made_up {
    use super::*;

    pub(crate) fn origin() -> Origin {
        Origin {
            commit: "c0ffee".to_string(),
            dirty: false,
            version: "0.1.0".to_string(),
            rustc: "rustc 1".to_string(),
        }
    }

    pub(crate) fn repository() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    /// A bundle of this repository's scripts and networks, with another program as the product.
    pub(crate) fn bundle(out: &Path, product: &Path) {
        let programs = [(PRODUCT.to_string(), product.to_path_buf())];
        write(&contents(repository(), &programs, None).unwrap(), origin(), out).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::made_up::{origin, repository};
    use super::*;

    #[test]
    fn a_bundle_holds_scripts_networks_and_programs_with_their_checksums() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("built");
        fs::write(&program, b"\x7fELF GLIBC_2.34\0").unwrap();
        let programs = [(PRODUCT.to_string(), program.clone()), ("gpu_window".to_string(), program)];
        let out = dir.path().join("bundle");
        let manifest = write(&contents(repository(), &programs, None).unwrap(), origin(), &out).unwrap();

        assert_eq!(manifest, Manifest::parse(&fs::read(out.join(MANIFEST)).unwrap()).unwrap());
        assert_eq!(manifest.glibc.as_deref(), Some("2.34"));
        assert_eq!(
            manifest.missing,
            ["bin/gpu_agreement", "bin/gpu_conformance", "bin/gpu_layer_times", FACTS]
        );
        for path in ["run.sh", "python/checks.py", "networks/resnet50.toml", "bin/layerjoule"] {
            assert!(manifest.files.iter().any(|file| file.path == path), "{path}");
        }
        let mode = |path: &str| fs::metadata(out.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("run.sh"), mode("bin/layerjoule"), mode("python/checks.py")), (0o755, 0o755, 0o644));
        // The system's own tool agrees.
        let checked = Command::new("sha256sum").args(["--quiet", "-c", CHECKSUMS]).current_dir(&out).status();
        assert!(checked.unwrap().success());
        let listed = Command::new("tar").arg("-tzf").arg(archive_of(&out)).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.lines().any(|line| line == "gpu-bundle/bin/gpu_window"), "{listed}");
        assert_eq!(listed.lines().count(), manifest.files.len() + 2);
    }

    #[test]
    fn a_bundle_with_results_and_a_foreign_folder_are_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("bundle");
        let contents = contents(repository(), &[], None).unwrap();
        write(&contents, origin(), &out).unwrap();
        write(&contents, origin(), &out).unwrap();
        fs::create_dir(out.join("results")).unwrap();
        let error = write(&contents, origin(), &out).unwrap_err().to_string();
        assert!(error.ends_with("holds results; collect them and move them away"), "{error}");
        let error = write(&contents, origin(), dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("is there and is no bundle; choose another --out"), "{error}");
    }

    #[test]
    fn a_bundle_beyond_sixty_mebibytes_is_refused_with_its_largest_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut contents = Contents::new();
        let content = |bytes: usize| Content { bytes: vec![0; bytes], executable: false };
        contents.insert("small".to_string(), content(1));
        contents.insert("large".to_string(), content(60 << 20));
        let error = write(&contents, origin(), &dir.path().join("bundle")).unwrap_err().to_string();
        assert_eq!(
            error,
            "the bundle has 62914561 bytes, at most 62914560 are allowed; the largest: large 62914560, small 1"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_examples_that_are_programs_and_called_so_are_built() {
        let metadata = serde_json::json!({"packages": [{"targets": [
            {"name": "gpu_window", "kind": ["example"], "crate_types": ["bin"]},
            {"name": "gpu_library", "kind": ["example"], "crate_types": ["cdylib"]},
            {"name": "self_check", "kind": ["example"], "crate_types": ["bin"]},
            {"name": "gpu_bench", "kind": ["bench"], "crate_types": ["bin"]},
        ]}]});
        assert_eq!(gpu_examples(&metadata), ["gpu_window"]);
    }

    #[test]
    fn programs_are_found_in_the_messages_of_cargo() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"tar\"},\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"gpu_window\"},\"executable\":\"/t/gpu_window\"}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executables(messages), [("gpu_window".to_string(), PathBuf::from("/t/gpu_window"))]);
    }
}
