//! The output directory: what may be written where, and writing it so that nothing is ever half there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::report::{
    RunFileError, RunReport, first_difference, kinds_csv, layers_csv, parse_run, pictures, png, run_report,
};
use crate::sim::Truth;
use crate::trace::{Header, LayerRecord, Trace, TraceError, read_trace};

/// The run file's name in an output directory.
pub const RUN_FILE: &str = "run.json";
/// The trace's name in an output directory.
pub const TRACE_FILE: &str = "trace.jsonl";
/// The truth of a simulated run, in an output directory.
pub const TRUTH_FILE: &str = "truth.json";
/// Largest run file in bytes: that of a million layers.
const LARGEST_RUN_FILE: u64 = 2 << 30;
/// Beginning of the names of files that are still being written.
const TEMPORARY: &str = ".layerjoule-";

/// Why results cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The operating system refused.
    #[error("{path}: cannot {what}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The directory may not be used.
    #[error("{path}: {reason}")]
    Refused {
        /// The directory.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The trace in the directory cannot be used.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The run file cannot be used.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    /// A picture cannot be drawn.
    #[error("cannot draw a picture: {0}")]
    Picture(#[from] crate::report::PictureError),
}

/// Looks whether a run may be written to a directory; gives the unfinished run that it holds, if any.
///
/// # Errors
///
/// The path is no directory, holds files of others or a finished run. With `force` only the first counts; files
/// of others are never touched.
pub(super) fn unfinished_run(dir: &Path, force: bool) -> Result<Option<Box<Trace>>, OutputError> {
    let Some(names) = own_files(dir, force)? else { return Ok(None) };
    let finished = "holds a finished run; choose another --out, or --force to replace it";
    if !names.contains(TRACE_FILE) {
        return if names.contains(RUN_FILE) { Err(refused(dir, finished)) } else { Ok(None) };
    }
    let trace = read_trace(&dir.join(TRACE_FILE))?;
    if trace.complete { Err(refused(dir, finished)) } else { Ok(Some(Box::new(trace))) }
}

/// Names of the files in a directory, all ours; none where it does not exist or `force` lets anything be.
fn own_files(dir: &Path, force: bool) -> Result<Option<BTreeSet<String>>, OutputError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(refused(dir, "expected a directory, found a file; choose another --out"));
        }
        Err(source) => return Err(OutputError::Io { path: dir.to_path_buf(), what: "list", source }),
    };
    if force {
        return Ok(None);
    }
    let names: BTreeSet<String> =
        entries.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned())).collect();
    let foreign: Vec<&str> = names.iter().map(String::as_str).filter(|name| !is_ours(name)).collect();
    if foreign.is_empty() {
        return Ok(Some(names));
    }
    let files = some(&foreign);
    let reason =
        format!("the directory holds files that layerjoule did not write ({files}); choose another --out");
    Err(refused(dir, &reason))
}

fn refused(dir: &Path, reason: &str) -> OutputError {
    OutputError::Refused { path: dir.to_path_buf(), reason: reason.to_string() }
}

/// Whether an unfinished run may be continued by the run with this header.
///
/// # Errors
///
/// The runs differ in something that may not change within one.
pub(super) fn may_continue(dir: &Path, trace: &Trace, header: &Header) -> Result<(), OutputError> {
    let Some(what) = difference(&trace.header, header) else { return Ok(()) };
    let reason = format!(
        "holds an unfinished run with another {what}; give the same options to go on, choose another --out, or \
         --force to replace it"
    );
    Err(refused(dir, &reason))
}

/// Whether a report of the run in `from` may be written to `out`.
///
/// # Errors
///
/// `out` is no directory, or holds files of others or another run.
pub fn may_render(from: &Path, report: &RunReport, out: &Path) -> Result<(), OutputError> {
    let Some(names) = own_files(out, false)? else { return Ok(()) };
    let home = if from.is_dir() { from } else { from.parent().unwrap_or(Path::new(".")) };
    let same_place = || Some(fs::canonicalize(home).ok()? == fs::canonicalize(out).ok()?);
    if same_place() == Some(true) {
        return Ok(());
    }
    let created = || -> Option<String> {
        let value: serde_json::Value = serde_json::from_slice(&fs::read(out.join(RUN_FILE)).ok()?).ok()?;
        Some(value["created"].as_str()?.to_string())
    };
    let other_run = names.contains(RUN_FILE) && created().as_deref() != Some(&report.created);
    if names.contains(TRACE_FILE) || other_run {
        return Err(refused(out, "holds another run; choose another --out"));
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    let stem = name.strip_suffix(".svg").or_else(|| name.strip_suffix(".png"));
    [RUN_FILE, TRACE_FILE, "layers.csv", "kinds.csv", TRUTH_FILE].contains(&name)
        || name.starts_with(TEMPORARY)
        || stem.is_some_and(|stem| crate::report::PICTURE_NAMES.contains(&stem))
}

fn some(names: &[&str]) -> String {
    let shown = names.iter().take(3).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}

/// The first thing in which two runs differ so that their windows may not be mixed.
fn difference(there: &Header, here: &Header) -> Option<String> {
    let (a, b) = (&there.options, &here.options);
    // Samples refer to meters by index: the whole list must be the same.
    let meters =
        |h: &Header| -> Vec<_> { h.meters.iter().map(|m| (m.id.clone(), m.scope.clone())).collect() };
    let other_meters = meters(there) != meters(here) || there.primary_meter != here.primary_meter;
    let differs: [(&str, bool); 10] = [
        ("version of layerjoule", there.tool != here.tool),
        ("network file", there.network.sha256 != here.network.sha256),
        ("batch size", there.network.batch != here.network.batch),
        ("--set", there.network.set != here.network.set),
        ("device", there.device != here.device),
        ("list of meters", other_meters),
        ("kind of device or meter (real, simulated, stand-in)", {
            (there.simulated, there.emulated) != (here.simulated, here.emulated)
        }),
        ("seed", a.seed != b.seed),
        ("number of rounds or length of windows", a != b),
        ("plan", there.signatures != here.signatures || computed(there) != computed(here)),
    ];
    differs.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what.to_string())
}

/// The layers without what an algorithm of the same name may need more or less of when it is prepared again.
fn computed(header: &Header) -> Vec<LayerRecord> {
    let bare =
        |layer: &LayerRecord| LayerRecord { workspace_bytes: None, kernels: Vec::new(), ..layer.clone() };
    header.layers.iter().map(bare).collect()
}

/// Creates the directory with its parents.
pub(super) fn create_directory(dir: &Path) -> Result<(), OutputError> {
    fs::create_dir_all(dir).map_err(|source| OutputError::Io {
        path: dir.to_path_buf(),
        what: "create the directory",
        source,
    })
}

/// Writes run file, tables and pictures of a report into a directory; each file appears whole or not at all.
///
/// # Errors
///
/// The directory cannot be written, for example because the disk is full; what was there before stays.
pub fn write_report(dir: &Path, report: &RunReport, trace: Option<&Trace>) -> Result<(), OutputError> {
    create_directory(dir)?;
    let mut json = serde_json::to_vec_pretty(report).map_err(|e| OutputError::Io {
        path: dir.join(RUN_FILE),
        what: "encode",
        source: e.into(),
    })?;
    json.push(b'\n');
    write_whole(&dir.join(RUN_FILE), &json)?;
    let csv_error = |e: csv::Error| OutputError::Io {
        path: dir.to_path_buf(),
        what: "encode a table",
        source: std::io::Error::other(e),
    };
    let mut csv = Vec::new();
    layers_csv(report, &mut csv).map_err(csv_error)?;
    write_whole(&dir.join("layers.csv"), &csv)?;
    csv.clear();
    kinds_csv(report, &mut csv).map_err(csv_error)?;
    write_whole(&dir.join("kinds.csv"), &csv)?;
    for picture in pictures(report, trace)? {
        write_whole(&dir.join(format!("{}.svg", picture.name)), picture.svg.as_bytes())?;
        write_whole(&dir.join(format!("{}.png", picture.name)), &png(&picture.svg)?)?;
    }
    Ok(())
}

/// Writes the truth of a simulated run beside its run file.
pub(super) fn write_truth(dir: &Path, truth: &Truth) -> Result<(), OutputError> {
    let path = dir.join(TRUTH_FILE);
    let mut json = serde_json::to_vec_pretty(truth).map_err(|e| OutputError::Io {
        path: path.clone(),
        what: "encode",
        source: e.into(),
    })?;
    json.push(b'\n');
    write_whole(&path, &json)
}

/// Removes the truth of an earlier run: it is none of the one that begins.
pub(super) fn remove_truth(dir: &Path) -> Result<(), OutputError> {
    let path = dir.join(TRUTH_FILE);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(OutputError::Io { path, what: "remove", source })
        }
        _ => Ok(()),
    }
}

/// A directory for a recording that nobody keeps.
pub(super) fn temporary_directory() -> Result<tempfile::TempDir, OutputError> {
    tempfile::tempdir().map_err(|source| OutputError::Io {
        path: std::env::temp_dir(),
        what: "make a directory in",
        source,
    })
}

/// Writes a file under another name and renames it, so that no reader ever sees a part of it.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let io = |what| move |source| OutputError::Io { path: path.to_path_buf(), what, source };
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        // As any file that a program creates: the user's umask takes its part.
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(dir)
        .map_err(io("write"))?;
    file.as_file_mut().write_all(bytes).map_err(io("write"))?;
    file.as_file().sync_all().map_err(io("write"))?;
    file.persist(path).map_err(|e| io("write")(e.error))?;
    Ok(())
}

/// Reads a recorded run: a directory or its run file. Attributed anew where the trace is there.
///
/// # Errors
///
/// Nothing is there, or it is malformed or of a newer version.
pub fn load_run(path: &Path) -> Result<(RunReport, Option<Trace>), OutputError> {
    let run_file = if path.is_dir() { path.join(RUN_FILE) } else { path.to_path_buf() };
    let trace_file = run_file.with_file_name(TRACE_FILE);
    for file in [&run_file, &trace_file] {
        // A pipe would be waited for, and a device may never end.
        if fs::metadata(file).is_ok_and(|m| !m.is_file()) {
            return Err(refused(file, "expected a file"));
        }
    }
    if run_file.file_name().is_some_and(|name| name == RUN_FILE) && trace_file.exists() {
        let trace = read_trace(&trace_file)?;
        return Ok((run_report(&trace), Some(trace)));
    }
    let text = read_run_file(&run_file).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound if path.is_dir() => refused(
            &run_file,
            "not there; expected a directory written by `layerjoule profile`, or its run.json",
        ),
        std::io::ErrorKind::FileTooLarge => refused(&run_file, &source.to_string()),
        _ => OutputError::Io { path: run_file.clone(), what: "read", source },
    })?;
    Ok((parse_run(&run_file, &text)?, None))
}

/// The bytes of a run file, which is of a sensible length.
fn read_run_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // One byte more than allowed tells a file that is too large, even one that grows.
    fs::File::open(path)?.take(LARGEST_RUN_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST_RUN_FILE {
        let reason = format!("expected a run file of at most {LARGEST_RUN_FILE} bytes, found a larger one");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason));
    }
    Ok(text)
}

/// What the run file beside a trace says otherwise than the trace: its numbers or the trace's were changed, or
/// another version made them. The trace is what was recorded, so its numbers are the ones to show.
pub fn disagreement(path: &Path, report: &RunReport) -> Option<String> {
    let run_file = if path.is_dir() { path.join(RUN_FILE) } else { path.to_path_buf() };
    let text = match read_run_file(&run_file) {
        Ok(text) => text,
        // A recording that was killed has none yet.
        Err(_) => return None,
    };
    match parse_run(&run_file, &text) {
        Err(error) => Some(format!("{error}; the numbers shown come from {TRACE_FILE} beside it")),
        Ok(there) => Some(format!(
            "{}: {}; the trace beside it gives another number, which is shown: one of the two files was changed, \
             or another version of layerjoule wrote this one",
            run_file.display(),
            first_difference(&there, report)?
        )),
    }
}
