//! Calibrations that are kept from one run to the next: one file for each device and driver.

use std::fs;
use std::path::{Path, PathBuf};

use crate::backend::BackendInfo;
use crate::calibration::{CalibratedDevice, Calibration, CalibrationFileError, apply, parse_calibration};
use crate::meter::MeterCandidate;
use crate::trace::MeterKind;

use super::job::ProfileOptions;
use super::output::{OutputError, create_directory, write_whole};

/// Largest file in bytes: a hundred sensors stay below a hundredth of it.
const LARGEST: u64 = 16 << 20;

/// Why a kept calibration is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{path}: cannot read: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: expected a file of at most {LARGEST} bytes, found something else")]
    NoFile { path: PathBuf },
    #[error(transparent)]
    Content(#[from] CalibrationFileError),
    #[error("{path}: expected the calibration of {expected}, found that of {found}")]
    OfAnother { path: PathBuf, expected: String, found: String },
}

/// Keeps a calibration in a directory, in place of an earlier one of the same device and driver; what that knew of
/// meters that were not asked for now stays. Gives the file.
///
/// # Errors
///
/// The directory cannot be written; what was there before stays.
pub fn keep_calibration(dir: &Path, calibration: &Calibration) -> Result<PathBuf, OutputError> {
    let path = dir.join(file_name(calibration.device.as_ref(), calibration.emulated));
    // An earlier one that cannot be read is replaced: this is what mends it.
    let earlier = calibration.device.as_ref().and_then(|device| read(&path, device).ok().flatten());
    let calibration = match earlier {
        Some(earlier) => calibration.clone().beside(earlier),
        None => calibration.clone(),
    };
    let encode = |source: serde_json::Error| OutputError::Io {
        path: path.clone(),
        what: "encode",
        source: source.into(),
    };
    let mut json = serde_json::to_vec_pretty(&calibration).map_err(encode)?;
    json.push(b'\n');
    create_directory(dir)?;
    write_whole(&path, &json)?;
    Ok(path)
}

/// The meters with what is known of them by an earlier calibration of the same device and driver. Where there is none,
/// or one that cannot be used, `say` says what to do, and the meters are as they were.
pub(super) fn known_sensors(
    options: &ProfileOptions,
    info: &BackendInfo,
    mut candidates: Vec<MeterCandidate>,
    say: &mut dyn FnMut(&str),
) -> Vec<MeterCandidate> {
    let is_sensor = |candidate: &&mut MeterCandidate| {
        matches!(candidate.record.kind, MeterKind::Counter | MeterKind::Power) && candidate.meter.is_some()
    };
    let emulated = info.emulated || candidates.iter().any(|candidate| candidate.emulated);
    let mut sensors: Vec<&mut MeterCandidate> = candidates.iter_mut().filter(is_sensor).collect();
    let dir = options.calibrations.as_ref().filter(|_| !sensors.is_empty());
    let Some(dir) = dir else { return candidates };
    let device = device(info);
    let advice = format!(
        "`layerjoule calibrate --device {}` finds out what its sensors see",
        options.device.argument()
    );
    match read(&dir.join(file_name(Some(&device), emulated)), &device) {
        Ok(None) => say(&format!("this device is not calibrated; {advice}")),
        Err(error) => {
            say(&format!("warning: {error}; its calibration is not used; {advice} and replaces the file"))
        }
        Ok(Some(calibration)) => {
            let date = calibration.created.split('T').next().unwrap_or_default();
            for sensor in &mut sensors {
                if let Some(facts) = calibration.readings.iter().find(|facts| facts.id == sensor.record.id) {
                    sensor.notes.extend(apply(facts, date, &mut sensor.record));
                }
            }
        }
    }
    candidates
}

/// The identity that a calibration is kept under.
pub(super) fn device(info: &BackendInfo) -> CalibratedDevice {
    CalibratedDevice {
        kind: info.kind.to_string(),
        name: info.name.clone(),
        uuid: info.uuid.clone(),
        driver: info.driver.clone(),
    }
}

/// The file of a device. Stand-ins are none of the machine's own devices.
fn file_name(device: Option<&CalibratedDevice>, emulated: bool) -> String {
    let mut name = "calibration".to_string();
    if emulated {
        name.push_str("-emulated");
    }
    if let Some(device) = device {
        for part in
            [device.uuid.as_ref().unwrap_or(&device.name), device.driver.as_ref().unwrap_or(&String::new())]
        {
            let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
            let part: String = part.chars().map(safe).collect();
            if !part.is_empty() {
                name = format!("{name}-{part}");
            }
        }
    }
    format!("{name}.json")
}

/// The calibration in a file; none where there is no file.
fn read(path: &Path, device: &CalibratedDevice) -> Result<Option<Calibration>, Unusable> {
    let io = |source| Unusable::Io { path: path.to_path_buf(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
        Ok(found) if !found.is_file() || found.len() > LARGEST => {
            return Err(Unusable::NoFile { path: path.to_path_buf() });
        }
        Ok(_) => {}
    }
    let calibration = parse_calibration(path, &fs::read(path).map_err(io)?)?;
    // Two devices may have names that differ only in what a file's name cannot hold.
    if calibration.device.as_ref() != Some(device) {
        let name = |device: &CalibratedDevice| {
            [Some(&device.name), device.uuid.as_ref(), device.driver.as_ref()]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let found = calibration.device.as_ref().map_or("recordings".to_string(), name);
        return Err(Unusable::OfAnother { path: path.to_path_buf(), expected: name(device), found });
    }
    Ok(Some(calibration))
}
