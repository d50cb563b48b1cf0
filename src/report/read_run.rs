//! From the bytes of a run file to its report.

use std::path::{Path, PathBuf};

use crate::trace::json;

use super::consistent::contradiction;
use super::run_file::{RUN_SCHEMA, RunReport};

/// Why a run file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunFileError {
    /// It is not JSON, or not the JSON of a run file.
    #[error(
        "{path}:{line}:{column}: not a run file: {reason}; give a directory that `layerjoule profile` wrote, or its run.json"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The byte in the line, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// A key is not known or not there, or its numbers contradict each other.
    #[error("{path}: {reason}; the file was changed or damaged, profile again")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where, what was expected and what was found.
        reason: String,
    },
    /// Another program or a later version wrote it.
    #[error("{path}: schema: expected {RUN_SCHEMA}, found {found}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// What it says, and what to do.
        found: String,
    },
}

/// Reads the bytes of a run file; `path` names the file and is not opened.
///
/// # Errors
///
/// The bytes are no run file, one of a newer version, or one that says what cannot be.
pub fn parse_run(path: &Path, bytes: &[u8]) -> Result<RunReport, RunFileError> {
    let at =
        |line, column, reason| RunFileError::Malformed { path: path.to_path_buf(), line, column, reason };
    let malformed = |error: serde_json::Error| at(error.line(), error.column(), json::reason(&error));
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(malformed)?;
    check_schema(path, &value)?;
    // From the bytes and not from the value, which has lost the places and the second of two equal keys.
    let report: RunReport = serde_json::from_slice(bytes).map_err(malformed)?;
    let invalid = |reason| RunFileError::Invalid { path: path.to_path_buf(), reason };
    if let Some(difference) = json::difference(&value, &report).map_err(malformed)? {
        return Err(invalid(difference));
    }
    contradiction(&report).map_err(invalid)?;
    Ok(report)
}

/// Newer versions are refused by name; what is no run file is not taken for one.
fn check_schema(path: &Path, value: &serde_json::Value) -> Result<(), RunFileError> {
    let found = match value.get("schema").map(|schema| (schema, schema.as_str())) {
        Some((_, Some(RUN_SCHEMA))) => return Ok(()),
        Some((_, Some(text))) if text.starts_with("layerjoule.run/") => {
            format!("{text:.40}; a newer layerjoule may read it")
        }
        Some((schema, _)) => format!("{schema:.40}; this is no run file of `layerjoule profile`"),
        None => "none; this is no run file of `layerjoule profile`".to_string(),
    };
    Err(RunFileError::Schema { path: path.to_path_buf(), found })
}
