//! Device files: TOML text to checked parameters, and back.
//!
//! ```text
//! text ─► Section ─► read ─► DeviceParameters
//!         types and  what the keys mean and
//!         ranges     how they fit together
//! ```

mod read;
mod section;
mod write;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::de::DeTable;

use sha2::{Digest, Sha256};

use super::parameters::DeviceParameters;
use crate::network::{Problem, unknown};
use section::{Finding, Section};

/// Names and texts of the devices that come with the program.
const EMBEDDED: [(&str, &str); 7] = [
    ("ideal", include_str!("../../profiles/devices/sim-ideal.toml")),
    ("v100", include_str!("../../profiles/devices/sim-v100.toml")),
    ("a100", include_str!("../../profiles/devices/sim-a100.toml")),
    ("h200", include_str!("../../profiles/devices/sim-h200.toml")),
    ("rtx3090", include_str!("../../profiles/devices/sim-rtx3090.toml")),
    ("rapl-server", include_str!("../../profiles/devices/sim-rapl-server.toml")),
    ("h200-gain5", include_str!("../../profiles/devices/sim-h200-gain5.toml")),
];

/// The devices that come with the program, without the `sim:` before them on the command line.
pub const PRESETS: &[&str] = &{
    let mut names = [""; EMBEDDED.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = EMBEDDED[at].0;
        at += 1;
    }
    names
};

/// Largest device file in bytes, far above any that a person would write.
const LARGEST: u64 = 1 << 20;

/// What is wrong with a device file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFileError {
    /// The file, as the user named it.
    pub file: String,
    /// The line, counted from 1, where there is one.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: Box<Problem>,
}

impl DeviceFileError {
    fn in_file(file: &str, problem: Problem) -> Self {
        Self { file: file.to_string(), line: None, problem: Box::new(problem) }
    }
}

impl fmt::Display for DeviceFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for DeviceFileError {}

impl DeviceParameters {
    /// What tells this board from every other: a digest of all that it is made of.
    pub fn uuid(&self) -> String {
        let digest = Sha256::digest(self.to_toml().as_bytes());
        let hex: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sim-{hex}")
    }

    /// A device that comes with the program, by its name in [`PRESETS`].
    pub fn preset(name: &str) -> Option<Self> {
        let (_, text) = EMBEDDED.iter().find(|(preset, _)| *preset == name)?;
        let file = format!("profiles/devices/sim-{name}.toml");
        Some(Self::parse(&file, text).expect("presets are valid: a test reads each of them"))
    }

    /// The device that `sim:SPEC` names: a preset, else the path of a device file.
    ///
    /// # Errors
    ///
    /// There is neither, or the file cannot be read or is wrong.
    pub fn open(spec: &str) -> Result<Self, DeviceFileError> {
        match Self::preset(spec) {
            Some(preset) => Ok(preset),
            None => Self::parse(spec, &read_text(spec)?),
        }
    }

    /// The device that a text describes; `file_name` is for messages. The keys are those of
    /// `docs/simulated-devices.md`; each must be there unless it is optional, and no other may be.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its line and key. An unknown key comes before everything else, as it is
    /// often the reason why another is missing.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, DeviceFileError> {
        let wrong = |finding: Finding| DeviceFileError {
            file: file_name.to_string(),
            line: finding.offset.map(|offset| line(text, offset)),
            problem: Box::new(finding.problem),
        };
        let table = DeTable::parse(text).map_err(|error| {
            let problem =
                Problem::invalid(format!("not valid TOML: {}", error.message().replace('\n', ", ")));
            wrong(Finding::new(error.span().map(|span| span.start), problem))
        })?;
        let mut file = Section::of_file(text, table.get_ref());
        let device = read::device(&mut file);
        file.first_finding().map_or(Ok(device), |finding| Err(wrong(finding)))
    }
}

/// The line, counted from 1, in which the byte with this offset stands.
fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

fn read_text(path: &str) -> Result<String, DeviceFileError> {
    let wrong = |problem: Problem| DeviceFileError::in_file(path, problem);
    let cannot_read = |error| wrong(Problem::invalid(format!("cannot read the device file: {error}")));
    // Looked at before it is opened: a pipe would be waited for, and a device may never end.
    let kind = match std::fs::metadata(Path::new(path)) {
        Ok(kind) => kind,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let Problem::Mismatch { expected, found, .. } = unknown("", PRESETS.iter().copied(), path) else {
                return Err(cannot_read(error));
            };
            let expected = format!("{expected}, or the path of a device file");
            return Err(wrong(Problem::mismatch("simulated device", expected, found)));
        }
        Err(error) => return Err(cannot_read(error)),
    };
    if !kind.is_file() {
        let found = if kind.is_dir() { "a directory" } else { "a pipe or device; save it to a file" };
        return Err(wrong(Problem::mismatch("simulated device", "a device file", found)));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large, even one that grows.
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(cannot_read)?;
    if bytes.len() as u64 > LARGEST {
        let expected = format!("a device file of at most {LARGEST} bytes");
        return Err(wrong(Problem::mismatch("simulated device", expected, "a larger one")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count();
        let found = error.as_bytes().get(at).map_or_else(String::new, |byte| format!("byte {byte:#04x}"));
        DeviceFileError { line: Some(before + 1), ..wrong(Problem::mismatch("encoding", "UTF-8", found)) }
    })
}
