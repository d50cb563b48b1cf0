//! Numbers in the files of sysfs.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::io::Errno;

use crate::clock::Instant;
use crate::units::Joules;

use super::counter::{CounterFault, WrappingCounter};
use super::interface::{Meter, ReadError};
use super::refusal::{Cause, Refusal};

/// Reads a number. Allocates nothing unless it fails.
///
/// Opens the file anew each time: a file that is replaced, as test set-ups do, would otherwise be read for ever.
/// 64-bit numbers have at most 20 digits, so the buffer holds any.
pub(super) fn read_number<T: FromStr>(path: &Path, unit: &str) -> Result<T, ReadError> {
    let mut buffer = [0u8; 32];
    let read = File::open(path).and_then(|mut file| file.read(&mut buffer));
    let length = read.map_err(|e| {
        let text = format!("{}: {e}", path.display());
        if is_passing(&e) { ReadError::Retry(text) } else { ReadError::Gone(text) }
    })?;
    std::str::from_utf8(&buffer[..length]).ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        let found = String::from_utf8_lossy(&buffer[..length]).trim().escape_debug().to_string();
        ReadError::Retry(format!("{}: expected {unit}, found \"{found}\"", path.display()))
    })
}

/// Whether an error passes by itself: a sensor's bus was busy for a moment.
fn is_passing(error: &std::io::Error) -> bool {
    let passing = [Errno::AGAIN, Errno::BUSY, Errno::IO, Errno::TIMEDOUT, Errno::REMOTEIO, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

/// Whether a sensor's file can be read at all; a half-written value is for the first reading to retry.
///
/// # Errors
///
/// What is in the way, with what mends it.
pub(super) fn try_number(path: &Path, unit: &str) -> Result<(), Refusal> {
    // A pipe in its place would be waited for without end. What cannot be looked at fails below, with a reason.
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        return Err(Refusal::new(Cause::Broken, format!("{}: expected a file", path.display())));
    }
    match File::open(path) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            Err(Refusal::new(Cause::FileDenied(path.to_path_buf()), format!("{}: {e}", path.display())))
        }
        _ => match read_number::<i64>(path, unit) {
            Ok(_) | Err(ReadError::Retry(_)) => Ok(()),
            Err(error) => Err(Refusal::new(Cause::Broken, error.to_string())),
        },
    }
}

/// The trimmed text of a file, or why there is none.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{}: expected text", path.display()))?;
    Ok(text.trim().to_string())
}

/// A file that counts energy.
pub(super) struct CountedFile {
    path: PathBuf,
    counter: WrappingCounter,
}

impl CountedFile {
    /// Tries to read a file of microjoules whose largest reading is `range`.
    pub(super) fn open(path: PathBuf, range: u64) -> Result<Self, Refusal> {
        try_number(&path, "microjoules")?;
        Ok(Self { path, counter: WrappingCounter::new(range, Joules::from_microjoules(1.0)) })
    }

    /// A strange step may be a torn write of a file that another program makes; a counter that really stepped
    /// reads the same twice.
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let first = self.counter.advance(self.number()?, now);
        let result = match first {
            Err(CounterFault::Reset { .. } | CounterFault::Jump { .. }) => {
                self.counter.advance(self.number()?, now)
            }
            other => other,
        };
        result.map_err(|fault| self.counter.refuse(fault, &self.path.display()))
    }

    fn number(&self) -> Result<u64, ReadError> {
        read_number(&self.path, "microjoules")
    }
}

/// Files that count energy, added up.
pub(super) struct CountedFiles(pub(super) Vec<CountedFile>);

impl Meter for CountedFiles {
    /// Reads every file even when one fails, so that no other loses its place.
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let mut sum = Ok(Joules::ZERO);
        for file in &mut self.0 {
            sum = worse(sum, file.read(now));
        }
        sum
    }
}

/// The sum of two readings, or the graver of their errors.
pub(super) fn worse(
    sum: Result<Joules, ReadError>,
    next: Result<Joules, ReadError>,
) -> Result<Joules, ReadError> {
    let gravity = |e: &ReadError| match e {
        ReadError::Retry(_) => 0,
        ReadError::Lost(_) => 1,
        ReadError::Fatal(_) => 2,
        ReadError::Gone(_) => 3,
    };
    match (sum, next) {
        (Ok(a), Ok(b)) => Ok(a + b),
        (Err(a), Err(b)) => Err(if gravity(&b) > gravity(&a) { b } else { a }),
        (Err(e), _) | (_, Err(e)) => Err(e),
    }
}
