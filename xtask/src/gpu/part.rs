//! An archive of a part's results, read and checked: nothing in it is believed before its checksums agree.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;

use super::manifest::{CHECKSUMS, MANIFEST, Manifest, checksums, sha256};

/// Format and version of an archive, as `run.sh` writes it.
pub(super) const PART_SCHEMA: &str = "layerjoule.gpu-part/1";
/// More than any part leaves; a bound on memory.
const MOST_BYTES: u64 = 512 << 20;
const MOST_FILES: usize = 20_000;

/// What one part left.
#[derive(Debug)]
pub(super) struct Part {
    /// The part's name.
    pub(super) name: String,
    /// `ok`, `FAILED` or `unfinished`.
    pub(super) status: String,
    /// When it began, as RFC 3339 UTC.
    pub(super) started: String,
    /// The bundle that ran.
    pub(super) manifest: Manifest,
    /// Its steps in order.
    pub(super) steps: Vec<Step>,
    /// All files by their paths.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// The archive's name without its folder.
    pub(super) archive: String,
    /// Its SHA-256.
    pub(super) archive_sha256: String,
}

/// One command of a part.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// Its name.
    pub(super) name: String,
    /// `ok`, `FAILED` or `skipped`.
    pub(super) status: String,
    /// The command line, folders of the machine left out.
    pub(super) command: String,
    /// Why it is not `ok`.
    pub(super) reason: String,
}

impl Part {
    /// Reads an archive.
    ///
    /// # Errors
    ///
    /// It is damaged, of another schema, or holds what no part leaves: links, paths that leave the archive.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let at = || path.display().to_string();
        let packed = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let files = unpack(&packed).with_context(at)?;
        let mut part = Self::of(files).with_context(at)?;
        part.archive = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        part.archive_sha256 = sha256(&packed);
        Ok(part)
    }

    fn of(files: BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let text = |name: &str| -> Result<&str> {
            let bytes =
                files.get(name).with_context(|| format!("{name} is missing: no archive of a part"))?;
            std::str::from_utf8(bytes).with_context(|| format!("{name} is no text"))
        };
        let about: BTreeMap<&str, &str> =
            text("part.tsv")?.lines().filter_map(|line| line.split_once('\t')).collect();
        let schema = about.get("schema").copied().unwrap_or("none");
        ensure!(schema == PART_SCHEMA, "expected schema {PART_SCHEMA}, found {schema}");
        let value = |key: &str| -> Result<String> {
            Ok((*about.get(key).with_context(|| format!("part.tsv has no {key}"))?).to_string())
        };
        verify(&files, text(CHECKSUMS)?)?;
        let manifest = text(MANIFEST)?.as_bytes();
        ensure!(
            sha256(manifest) == value("manifest_sha256")?,
            "{MANIFEST} is not that of the bundle which ran: its checksum differs from the one in part.tsv"
        );
        let name = value("part")?;
        ensure!(is_plain_name(&name), "part.tsv: expected a plain name of a part, found \"{name}\"");
        Ok(Self {
            name,
            status: value("status")?,
            started: value("started")?,
            manifest: Manifest::parse(manifest)?,
            steps: steps(text("steps.tsv")?)?,
            files,
            archive: String::new(),
            archive_sha256: String::new(),
        })
    }

    /// The first GPU's name, as nvidia-smi says it.
    ///
    /// # Errors
    ///
    /// The archive names none.
    pub(super) fn device(&self) -> Result<&str> {
        let gpus = self.files.get("environment/gpus.csv").and_then(|bytes| std::str::from_utf8(bytes).ok());
        let name = gpus.and_then(|text| text.lines().next()).and_then(|line| line.split(',').next());
        name.map(str::trim)
            .filter(|name| name.chars().any(char::is_alphanumeric))
            .context("environment/gpus.csv names no GPU")
    }
}

/// Whether a name can be a folder's.
pub(super) fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}

/// All files of an archive by their paths.
fn unpack(packed: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut left = MOST_BYTES;
    // The decoder is bounded too: a header may promise less than follows.
    let mut archive = tar::Archive::new(GzDecoder::new(packed).take(2 * MOST_BYTES));
    for entry in archive.entries().context("is no archive")? {
        let mut entry = entry.context("is damaged, or no .tar.gz")?;
        let path = plain_path(&entry.path().context("has a path that is no text")?)?;
        match entry.header().entry_type() {
            tar::EntryType::Directory => continue,
            tar::EntryType::Regular => {}
            other => bail!("{path}: expected files and folders only, found {other:?}"),
        }
        left = left
            .checked_sub(entry.size())
            .with_context(|| format!("holds more than {MOST_BYTES} bytes: no part leaves as much"))?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).with_context(|| format!("{path}: is damaged"))?;
        ensure!(files.insert(path.clone(), bytes).is_none(), "{path}: is there twice");
        ensure!(files.len() <= MOST_FILES, "holds more than {MOST_FILES} files: no part leaves as many");
    }
    Ok(files)
}

/// A path inside the archive, without a leading `./`.
fn plain_path(path: &Path) -> Result<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str().context("a path is no text")?),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                bail!("\"{}\" leaves the archive: refused", path.display())
            }
        }
    }
    Ok(parts.join("/"))
}

/// Whether the checksums are those of the files, all of them and no others.
fn verify(files: &BTreeMap<String, Vec<u8>>, sums: &str) -> Result<()> {
    let sums: BTreeMap<String, String> = checksums(sums)?.into_iter().collect();
    for (path, bytes) in files.iter().filter(|(path, _)| *path != CHECKSUMS) {
        match sums.get(path) {
            Some(sum) => ensure!(*sum == sha256(bytes), "{path}: was changed, its checksum differs"),
            None => bail!("{path}: is not in {CHECKSUMS}, so somebody added it"),
        }
    }
    let absent = sums.keys().find(|path| !files.contains_key(*path));
    absent.map_or(Ok(()), |path| bail!("{path}: is in {CHECKSUMS} and not there"))
}

fn steps(text: &str) -> Result<Vec<Step>> {
    let step = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, status, _code, _seconds, command, reason] = columns[..] else {
            bail!("steps.tsv: expected six columns, found \"{line}\"");
        };
        let [name, status, command, reason] = [name, status, command, reason].map(str::to_string);
        Ok(Step { name, status, command, reason })
    };
    text.lines().skip(1).map(step).collect()
}

/// Archives made up for tests.
#[cfg(test)]
pub(super) mod made_up {
    use super::*;
    use crate::gpu::manifest::{BUNDLE_SCHEMA, Origin};

    pub(crate) type Files = BTreeMap<String, Vec<u8>>;

    pub(crate) fn manifest() -> Vec<u8> {
        let [commit, version, rustc] = ["c0ffee", "0.1.0", "rustc 1"].map(str::to_string);
        let origin = Origin { commit, dirty: true, version, rustc };
        let (schema, glibc) = (BUNDLE_SCHEMA.to_string(), Some("2.34".to_string()));
        serde_json::to_vec(&Manifest { schema, origin, glibc, missing: vec![], files: vec![] }).unwrap()
    }

    /// The files that every archive has, without checksums.
    pub(crate) fn files() -> Files {
        let manifest = manifest();
        let about = format!(
            "schema\t{PART_SCHEMA}\npart\tvgg16\nstatus\tok\nstarted\t2026-11-21T20:00:00Z\nmanifest_sha256\t{}\n",
            sha256(&manifest)
        );
        let steps = "step\tstatus\texit_code\tseconds\tcommand\treason\n\
            vgg16-bf16\tok\t0\t250\t./bin/layerjoule profile\t\n";
        let gpus = "NVIDIA Test GPU 80GB, 580.0, 81559 MiB\n";
        [
            ("part.tsv", about.as_bytes()),
            (MANIFEST, &manifest),
            ("steps.tsv", steps.as_bytes()),
            ("environment/gpus.csv", gpus.as_bytes()),
        ]
        .map(|(path, bytes)| (path.to_string(), bytes.to_vec()))
        .into()
    }

    /// Adds the checksums.
    pub(crate) fn sealed(mut files: Files) -> Files {
        let line = |(path, bytes): (&String, &Vec<u8>)| format!("{}  {path}\n", sha256(bytes));
        let sums: String = files.iter().map(line).collect();
        files.insert(CHECKSUMS.to_string(), sums.into_bytes());
        files
    }

    /// Packs files as `run.sh` does, under `./`.
    pub(crate) fn packed(files: &Files) -> Vec<u8> {
        packed_by(files, |header, path| header.set_path(format!("./{path}")).unwrap())
    }

    /// Packs files under the paths that a function gives their headers.
    pub(crate) fn packed_by(files: &Files, name: impl Fn(&mut tar::Header, &str)) -> Vec<u8> {
        let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gz);
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            name(&mut header, path);
            header.set_cksum();
            tar.append(&header, bytes.as_slice()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::made_up::{files, packed, packed_by, sealed};
    use super::*;

    fn refusal(packed: &[u8]) -> String {
        format!("{:#}", unpack(packed).and_then(Part::of).map(|part| part.name).unwrap_err())
    }

    #[test]
    fn an_archive_tells_its_part_steps_and_device() {
        let part = Part::of(unpack(&packed(&sealed(files()))).unwrap()).unwrap();
        assert_eq!((part.name.as_str(), part.status.as_str()), ("vgg16", "ok"));
        assert_eq!(part.device().unwrap(), "NVIDIA Test GPU 80GB");
        assert_eq!(part.manifest.origin.commit, "c0ffee");
        assert_eq!(part.steps.len(), 1);
        assert_eq!(part.steps[0].command, "./bin/layerjoule profile");
    }

    #[test]
    fn a_path_that_climbs_out_of_the_archive_is_refused() {
        for path in ["../outside", "/etc/outside", "results/../../outside"] {
            // Written byte by byte, because the crate refuses to make such an archive.
            let outside = packed_by(&[("x".to_string(), b"x".to_vec())].into(), |header, _| {
                header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            });
            assert_eq!(refusal(&outside), format!("\"{path}\" leaves the archive: refused"));
        }
    }

    #[test]
    fn a_link_is_refused() {
        let link = packed_by(&[("results/a".to_string(), Vec::new())].into(), |header, path| {
            header.set_path(path).unwrap();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name("/etc/passwd").unwrap();
        });
        assert_eq!(refusal(&link), "results/a: expected files and folders only, found Symlink");
    }

    #[test]
    fn a_changed_an_added_and_a_missing_file_are_found() {
        let mut changed = sealed(files());
        changed.insert("steps.tsv".to_string(), b"other".to_vec());
        assert_eq!(refusal(&packed(&changed)), "steps.tsv: was changed, its checksum differs");
        let mut added = sealed(files());
        added.insert("results/new".to_string(), b"new".to_vec());
        assert_eq!(refusal(&packed(&added)), "results/new: is not in SHA256SUMS, so somebody added it");
        let mut missing = sealed(files());
        missing.remove("environment/gpus.csv");
        assert_eq!(refusal(&packed(&missing)), "environment/gpus.csv: is in SHA256SUMS and not there");
    }

    #[test]
    fn another_schema_and_another_bundles_manifest_are_refused() {
        let with = |from: &str, to: &str| {
            let mut files = files();
            let text = String::from_utf8(files["part.tsv"].clone()).unwrap().replace(from, to);
            files.insert("part.tsv".to_string(), text.into_bytes());
            refusal(&packed(&sealed(files)))
        };
        assert_eq!(
            with("gpu-part/1", "gpu-part/2"),
            "expected schema layerjoule.gpu-part/1, found layerjoule.gpu-part/2"
        );
        assert!(with("manifest_sha256\t", "manifest_sha256\t0").contains("is not that of the bundle"));
        assert!(with("vgg16", "../vgg16").contains("expected a plain name"));
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        assert!(refusal(b"no archive").contains("is damaged, or no .tar.gz"));
        assert_eq!(
            refusal(&packed(&[("a".to_string(), vec![])].into())),
            "part.tsv is missing: no archive of a part"
        );
        let whole = packed(&sealed(files()));
        assert!(refusal(&whole[..whole.len() / 2]).contains("damaged"));
    }
}
