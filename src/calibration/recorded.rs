//! Recorded readings: the folders of `sensor-traces`, and logs that `nvidia-smi` writes.
//!
//! A folder of one board has `nvidia_smi.csv` (`time_s` and columns of watts), and beside it, where there are any,
//! `kernels.csv` (`start_s,end_s`) and `meter.csv` or `meter.csv.gz` (`time_s,power_w`). A log as `nvidia-smi
//! --query-gpu=timestamp,power.draw.instant --format=csv,nounits` prints it stands alone. Nothing is mended: what is
//! not as it must be is refused with its file and line.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use flate2::read::GzDecoder;

use crate::clock::unix_seconds;

use super::load::Marks;
use super::series::{Series, quantile, sorted};

/// The board's own log in a folder.
const LOG: &str = "nvidia_smi.csv";
/// Times between lines that exceed the usual one by more than this factor are gaps: nobody saw what happened there. A
/// reader on a busy machine is held up for some of its intervals now and then; seven have been seen.
const LONGEST_GAP: f64 = 20.0;
/// Most power of one board in watts: a mistake beyond it.
const MOST_WATTS: f64 = 1e6;
/// Times in seconds beyond this are none: a year 2100 in seconds since 1970 is below it.
const LONGEST_TIME: f64 = 1e10;

/// Readings of one board with what is known of its load.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The folder's or file's name.
    pub name: String,
    /// Columns of watts with their names.
    pub readings: Vec<(String, Series)>,
    /// When something ran.
    pub marks: Option<Marks>,
    /// Watts of an external meter.
    pub meter: Option<Series>,
}

/// Why a recording cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// The operating system refused.
    #[error("{path}: cannot read: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder has no recording in it.
    #[error(
        "{path}: expected a recording: {LOG} (with kernels.csv and meter.csv.gz beside it), folders with one, or logs \
         *.csv of nvidia-smi; found none"
    )]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// A line is not what it must be.
    #[error("{path}:{line}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads a folder of one board, a folder of such folders and logs, or one log.
///
/// # Errors
///
/// A file cannot be read or is not what it must be, or there is none.
pub fn read_recorded(path: &Path) -> Result<Vec<Recorded>, RecordedError> {
    let found = fs::metadata(path).map_err(io(path))?;
    if found.is_file() {
        return Ok(vec![log(path)?]);
    }
    if path.join(LOG).exists() {
        return Ok(vec![board(path)?]);
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(io(path))?;
    entries.sort();
    let mut recorded = Vec::new();
    for entry in entries {
        if entry.join(LOG).exists() {
            recorded.push(board(&entry)?);
        } else if entry.is_file() && is_log(&entry)? {
            recorded.push(log(&entry)?);
        }
    }
    if recorded.is_empty() { Err(RecordedError::Nothing { path: path.to_path_buf() }) } else { Ok(recorded) }
}

/// Whether a file begins as logs of nvidia-smi do. Other tables may lie beside them.
fn is_log(path: &Path) -> Result<bool, RecordedError> {
    if path.extension().is_none_or(|extension| extension != "csv") {
        return Ok(false);
    }
    let mut begin = [0; 9];
    let length = File::open(path).and_then(|mut file| file.read(&mut begin)).map_err(io(path))?;
    Ok(&begin[..length] == b"timestamp")
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> RecordedError {
    move |source| RecordedError::Io { path: path.to_path_buf(), source }
}

fn name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// A folder of one board.
fn board(folder: &Path) -> Result<Recorded, RecordedError> {
    let log = Table::read(&folder.join(LOG))?;
    let optional = |file: &str| Some(folder.join(file)).filter(|path| path.exists());
    let kernels = optional("kernels.csv").map(|path| Table::read(&path)).transpose()?;
    let meter =
        optional("meter.csv.gz").or(optional("meter.csv")).map(|path| Table::read(&path)).transpose()?;
    Ok(Recorded {
        name: name(folder),
        readings: log.readings()?,
        marks: kernels.map(|table| table.marks()).transpose()?,
        meter: meter.map(|table| table.series(table.column("power_w")?)).transpose()?,
    })
}

/// A log alone.
fn log(path: &Path) -> Result<Recorded, RecordedError> {
    Ok(Recorded { name: name(path), readings: Table::read(path)?.readings()?, marks: None, meter: None })
}

/// A table of a CSV file.
struct Table {
    path: PathBuf,
    header: Vec<String>,
    rows: Vec<StringRecord>,
}

impl Table {
    fn read(path: &Path) -> Result<Self, RecordedError> {
        let file = File::open(path).map_err(io(path))?;
        let mut bytes = Vec::new();
        let read = if path.extension().is_some_and(|extension| extension == "gz") {
            GzDecoder::new(file).read_to_end(&mut bytes)
        } else {
            { file }.read_to_end(&mut bytes)
        };
        read.map_err(io(path))?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes.as_slice());
        let malformed = |error: csv::Error| {
            let line = error.position().map_or(1, csv::Position::line);
            RecordedError::Malformed { path: path.to_path_buf(), line, reason: cause(&error) }
        };
        let header: Vec<String> = reader.headers().map_err(malformed)?.iter().map(str::to_string).collect();
        let rows = reader.records().collect::<Result<Vec<_>, _>>().map_err(malformed)?;
        let table = Self { path: path.to_path_buf(), header, rows };
        match table.rows.last() {
            None => {
                Err(table.wrong(1, "expected a line of column names and lines of numbers, found no numbers"))
            }
            // What was being written when the recorder stopped may lack digits.
            Some(last) if bytes.last() != Some(&b'\n') => {
                Err(table.wrong(line(last), "the last line has no line end, so it was cut; remove it"))
            }
            Some(_) => Ok(table),
        }
    }

    fn wrong(&self, line: u64, reason: impl Into<String>) -> RecordedError {
        RecordedError::Malformed { path: self.path.clone(), line, reason: reason.into() }
    }

    fn column(&self, name: &str) -> Result<usize, RecordedError> {
        let found = self.header.iter().position(|column| column == name);
        found.ok_or_else(|| {
            self.wrong(1, format!("expected a column {name}, found {}", self.header.join(", ")))
        })
    }

    fn number(&self, row: &StringRecord, column: usize, most: f64) -> Result<f64, RecordedError> {
        let text = &row[column];
        let number = text.parse().ok().filter(|number: &f64| number.abs() <= most);
        number.ok_or_else(|| {
            let name = &self.header[column];
            self.wrong(line(row), format!("{name}: expected a number, at most {most:e}, found \"{text}\""))
        })
    }

    /// The times of all lines in seconds, which must go forward without gaps.
    fn times(&self) -> Result<Vec<f64>, RecordedError> {
        let times: Vec<f64> = match self.column("timestamp") {
            Ok(column) => {
                self.rows.iter().map(|row| self.timestamp(row, column)).collect::<Result<_, _>>()?
            }
            Err(_) => {
                let column = self.column("time_s")?;
                self.rows
                    .iter()
                    .map(|row| self.number(row, column, LONGEST_TIME))
                    .collect::<Result<_, _>>()?
            }
        };
        let usual = quantile(&sorted(times.windows(2).map(|pair| pair[1] - pair[0])), 0.5);
        for (pair, row) in times.windows(2).zip(&self.rows[1..]) {
            let [before, now] = [pair[0], pair[1]];
            if now <= before {
                let how = if now < before { "goes back" } else { "stands still" };
                return Err(self.wrong(
                    line(row),
                    format!(
                        "time {how}, from {before:.6} s to {now:.6} s: the clock was set, or lines are out of order or \
                         doubled; record again, or cut the file there"
                    ),
                ));
            }
            if usual.is_some_and(|usual| usual > 0.0 && now - before > LONGEST_GAP * usual) {
                return Err(self.wrong(
                    line(row),
                    format!(
                        "a gap of {:.4} s, from {before:.6} s to {now:.6} s, where lines usually are {:.4} s apart: \
                         nobody saw what happened there; record again, or cut the file there",
                        now - before,
                        usual.unwrap_or_default()
                    ),
                ));
            }
        }
        Ok(times)
    }

    /// Seconds since 1970 of a time as nvidia-smi prints it, its time zone left out.
    fn timestamp(&self, row: &StringRecord, column: usize) -> Result<f64, RecordedError> {
        let text = &row[column];
        let seconds = unix_seconds(&text.replace('/', "-")).map(|seconds| seconds.value());
        seconds.ok_or_else(|| {
            let expected = "expected a time such as 2023/07/30 17:29:42.595";
            self.wrong(line(row), format!("timestamp: {expected}, found \"{text}\""))
        })
    }

    fn series(&self, column: usize) -> Result<Series, RecordedError> {
        let times = self.times()?;
        let begin = if self.column("timestamp").is_ok() { times[0] } else { 0.0 };
        let values = self.rows.iter().map(|row| self.number(row, column, MOST_WATTS));
        let values: Vec<f64> = values.collect::<Result<_, _>>()?;
        Ok(Series::new(times.iter().map(|time| time - begin).zip(values)))
    }

    /// Every column of watts that the board shows: those that are not available on it have no number in any line.
    fn readings(&self) -> Result<Vec<(String, Series)>, RecordedError> {
        let is_power = |name: &str| name.starts_with("power_draw") || name.starts_with("power.draw");
        let shown = |column: usize| {
            let missing = |row: &StringRecord| row[column].starts_with('[') || row[column].starts_with("N/A");
            !self.rows.iter().all(missing)
        };
        let columns = (0..self.header.len()).filter(|&at| is_power(&self.header[at]) && shown(at));
        let readings = columns.map(|at| Ok((self.header[at].clone(), self.series(at)?)));
        let readings: Vec<(String, Series)> = readings.collect::<Result<_, RecordedError>>()?;
        if readings.is_empty() {
            return Err(self.wrong(
                1,
                format!(
                    "expected a column power_draw… or power.draw… with numbers in it, found {}",
                    self.header.join(", ")
                ),
            ));
        }
        Ok(readings)
    }

    fn marks(&self) -> Result<Marks, RecordedError> {
        let (start, end) = (self.column("start_s")?, self.column("end_s")?);
        let mut loads: Vec<(f64, f64)> = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let load = (self.number(row, start, LONGEST_TIME)?, self.number(row, end, LONGEST_TIME)?);
            if load.1 <= load.0 {
                let reason = format!("the load ends at {} s and starts at {} s", load.1, load.0);
                return Err(self.wrong(line(row), reason));
            }
            if let Some(before) = loads.last().filter(|before| before.1 > load.0) {
                let reason =
                    format!("the load starts at {} s, and the one before ends at {} s", load.0, before.1);
                return Err(self.wrong(line(row), reason));
            }
            loads.push(load);
        }
        Ok(Marks::new(loads))
    }
}

/// The line of a row, from 1.
fn line(row: &StringRecord) -> u64 {
    row.position().map_or(1, csv::Position::line)
}

/// What is wrong, without the place: that stands before it.
fn cause(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("expected {expected_len} fields as in the first line, found {len}")
        }
        csv::ErrorKind::Utf8 { .. } => "expected text, found bytes that are none".to_string(),
        _ => error.to_string(),
    }
}
