//! A calibration as a file: what `calibrate --format json` prints, and what is kept for later profiles.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::trace::{Tool, json};

use super::facts::{ExternalFacts, ReadingFacts};

/// Format and version of the file.
pub const CALIBRATION_SCHEMA: &str = "layerjoule.calibration/1";

/// What is known of sensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// Format and version.
    pub schema: String,
    /// The program that wrote it.
    pub tool: Tool,
    /// When, as RFC 3339 UTC.
    pub created: String,
    /// Whether the device is a simulated one.
    pub simulated: bool,
    /// Whether files or libraries stood in for those of the machine.
    pub emulated: bool,
    /// The device or the recording, as the user named it.
    pub source: String,
    /// The device; none of recordings.
    pub device: Option<CalibratedDevice>,
    /// One for each reading.
    pub readings: Vec<ReadingFacts>,
    /// What external meters saw, of recordings beside one.
    pub external: Vec<ExternalFacts>,
}

/// Whose sensors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CalibratedDevice {
    /// `cpu`, `cuda` or `sim`.
    pub kind: String,
    /// The device's own name.
    pub name: String,
    /// Its unique identifier, where it has one.
    pub uuid: Option<String>,
    /// Driver version, where it has one: another driver may read its sensors otherwise.
    pub driver: Option<String>,
}

/// Why a calibration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationFileError {
    /// It is not JSON, or not that of a calibration.
    #[error("{path}:{line}:{column}: not a calibration: {reason}")]
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
    /// A key is not known or not there.
    #[error("{path}: {reason}; the file was changed or damaged")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where, what was expected and what was found.
        reason: String,
    },
    /// Another program or a later version wrote it.
    #[error("{path}: schema: expected {CALIBRATION_SCHEMA}, found {found}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
}

impl Calibration {
    /// The same with the readings that an earlier one of the same device has and this one does not: of meters that were
    /// not asked for this time.
    pub fn beside(mut self, earlier: Self) -> Self {
        let known: Vec<String> = self.readings.iter().map(|facts| facts.id.clone()).collect();
        self.readings.extend(earlier.readings.into_iter().filter(|facts| !known.contains(&facts.id)));
        self
    }
}

/// Reads the bytes of a calibration; `path` names the file and is not opened.
///
/// # Errors
///
/// The bytes are no calibration, or one of a newer version.
pub fn parse_calibration(path: &Path, bytes: &[u8]) -> Result<Calibration, CalibrationFileError> {
    let path = path.to_path_buf();
    let malformed = |error: serde_json::Error| CalibrationFileError::Malformed {
        path: path.clone(),
        line: error.line(),
        column: error.column(),
        reason: json::reason(&error),
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(malformed)?;
    let schema = value.get("schema").and_then(serde_json::Value::as_str).unwrap_or("none");
    if schema != CALIBRATION_SCHEMA {
        let newer = if schema.starts_with("layerjoule.calibration/") { ", which is newer" } else { "" };
        return Err(CalibrationFileError::Schema { path, found: format!("{schema:.40}{newer}") });
    }
    let calibration: Calibration = serde_json::from_slice(bytes).map_err(malformed)?;
    match json::difference(&value, &calibration).map_err(malformed)? {
        Some(reason) => Err(CalibrationFileError::Invalid { path, reason }),
        None => Ok(calibration),
    }
}
