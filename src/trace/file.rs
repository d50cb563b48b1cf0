//! The trace file: JSON lines, appended window by window, so that a crash loses at most one window.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::units::Joules;

use super::json;
use super::samples::MOST_METERS;
use super::{Base, Environment, Header, Reads, Sample, Span, SpanKind, Trace, Warning, WindowState};

/// Format and version of the trace file.
pub const TRACE_SCHEMA: &str = "layerjoule.trace/1";

/// Longest line in bytes: a header of 100,000 layers or a window of a million readings stays below it.
const LONGEST_LINE: u64 = 256 << 20;

/// Longest time in seconds: what a clock of 64-bit nanoseconds shows at most.
const LONGEST_TIME: f64 = 2e10;
/// Most energy in joules of one recording. All the world's electricity of a week is less (IEA, Electricity 2024:
/// 1e20 J a year), and the squares of what is below it are still numbers.
const MOST_ENERGY: f64 = 1e18;
/// Most executions in a window: what versions could count that counted whole ones.
const MOST_EXECUTIONS: f64 = u64::MAX as f64;
/// Most rounds: more windows than anyone has time for.
const MOST_ROUNDS: f64 = 1e9;
/// Most bytes that a layer can move.
const MOST_BYTES: f64 = 1e18;
/// Largest error that a meter may state of itself, relative to its reading.
const MOST_RELATIVE: f64 = 1e3;

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Header(Box<Header>),
    /// A finished window with the readings since the window before it.
    Window {
        span: Span,
        samples: Vec<(usize, Instant, Joules)>,
        /// What these and all other readings inside the window took; older traces do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reads: Option<Reads>,
    },
    Warning(Warning),
    End {
        environment: Option<Box<Environment>>,
        complete: bool,
        ended_by: Option<String>,
    },
}

/// Why a trace cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The operating system refused.
    #[error("{path}: cannot {what} the trace: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process records into it.
    #[error(
        "{path}: another layerjoule is recording into this directory; wait for it or choose another --out"
    )]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A line is not what it must be.
    #[error("{path}:{line}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// Appends to a trace file.
#[derive(Debug)]
pub struct TraceWriter {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
}

impl TraceWriter {
    /// Starts a new file with its header.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn create(path: &Path, header: &Header) -> Result<Self, TraceError> {
        // Truncated only once it is ours alone.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io(path, "create"))?;
        lock(&file, path)?;
        file.set_len(0).map_err(io(path, "create"))?;
        let mut writer = Self { file, path: path.to_path_buf(), length: 0 };
        writer.append(&Line::Header(Box::new(header.clone())))?;
        Ok(writer)
    }

    /// Opens an unfinished file to go on. A last line that a crash cut short is removed.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn resume(path: &Path) -> Result<Self, TraceError> {
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(io(path, "open"))?;
        lock(&file, path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io(path, "read"))?;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64).map_err(io(path, "write"))?;
        file.seek(std::io::SeekFrom::End(0)).map_err(io(path, "write"))?;
        Ok(Self { file, path: path.to_path_buf(), length: whole as u64 })
    }

    /// Adds a finished window, its samples and what reading the meters took inside it.
    ///
    /// # Errors
    ///
    /// The file cannot be written, for example because the disk is full.
    pub fn window(
        &mut self,
        span: &Span,
        samples: &[Sample],
        reads: Option<Reads>,
    ) -> Result<(), TraceError> {
        let samples = samples.iter().map(|s| (s.meter, s.at, s.energy)).collect();
        self.append(&Line::Window { span: *span, samples, reads })
    }

    /// Adds a warning.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn warning(&mut self, warning: &Warning) -> Result<(), TraceError> {
        self.append(&Line::Warning(warning.clone()))
    }

    /// Ends the recording with what the trace says of its end; an incomplete one can be continued.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn end(&mut self, trace: &Trace) -> Result<(), TraceError> {
        self.append(&Line::End {
            environment: trace.environment.clone().map(Box::new),
            complete: trace.complete,
            ended_by: trace.ended_by.clone(),
        })?;
        self.file.sync_all().map_err(io(&self.path, "write"))
    }

    fn append(&mut self, line: &Line) -> Result<(), TraceError> {
        let mut text = serde_json::to_vec(line).map_err(|e| TraceError::Io {
            path: self.path.clone(),
            what: "encode",
            source: e.into(),
        })?;
        text.push(b'\n');
        // One write a line: what a reader or a crash sees ends with a whole line or a cut one, never a mix.
        if let Err(source) = self.file.write_all(&text) {
            // A part of the line may be there; without it the file stays readable and can be continued. Where
            // even that fails, the reader leaves out an unfinished last line.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(std::io::SeekFrom::Start(self.length));
            return Err(io(&self.path, "write")(source));
        }
        self.length += text.len() as u64;
        Ok(())
    }
}

/// Reads a trace file. A last line without its line end was cut short by a crash and is left out.
///
/// # Errors
///
/// The file cannot be read, is not a trace, is of a newer version, or has a malformed line.
pub fn read_trace(path: &Path) -> Result<Trace, TraceError> {
    let file = File::open(path).map_err(io(path, "open"))?;
    parse_trace(path, BufReader::new(file))
}

/// Reads the lines of a trace as [`read_trace`] does; `path` names the file and is not opened.
///
/// # Errors
///
/// As [`read_trace`].
pub fn parse_trace(path: &Path, mut from: impl BufRead) -> Result<Trace, TraceError> {
    let malformed =
        |line: usize, reason: String| TraceError::Malformed { path: path.to_path_buf(), line, reason };
    let mut trace: Option<Trace> = None;
    let mut number = 0;
    loop {
        let block = whole_lines(&mut from).map_err(io(path, "read"))?;
        if block.is_empty() {
            break;
        }
        // Numbers take most of the time of reading, and lines do not depend on each other.
        let parsed: Vec<Result<Line, String>> = block.par_iter().map(|text| parse_line(text)).collect();
        for (text, line) in block.iter().zip(parsed) {
            number += 1;
            if trace.is_none() {
                check_schema(text).map_err(|reason| malformed(number, reason))?;
            }
            let line = line.map_err(|reason| malformed(number, reason))?;
            match (&mut trace, line) {
                (None, Line::Header(header)) => {
                    check_header(&header).map_err(|reason| malformed(number, reason))?;
                    trace = Some(Trace::new(*header, Vec::new()));
                }
                (Some(trace), line) => add_line(trace, line).map_err(|reason| malformed(number, reason))?,
                (None, _) => return Err(malformed(number, "expected the header first".to_string())),
            }
        }
    }
    trace.ok_or_else(|| malformed(1, "expected a trace header, found none".to_string()))
}

/// A line of the file. Lines other than windows, whose keys are all needed, are held to their every key.
fn parse_line(text: &[u8]) -> Result<Line, String> {
    if !text.ends_with(b"\n") {
        return Err(format!("expected a line of at most {LONGEST_LINE} bytes, found a longer one"));
    }
    let damaged = |e: serde_json::Error| format!("damaged line: column {}: {}", e.column(), json::reason(&e));
    let line: Line = serde_json::from_slice(text).map_err(damaged)?;
    if matches!(line, Line::Window { .. }) {
        return Ok(line);
    }
    let value: serde_json::Value = serde_json::from_slice(text).map_err(damaged)?;
    match json::difference(&value, &line).map_err(damaged)? {
        Some(difference) => Err(format!("{difference}; the trace is changed or damaged")),
        None => Ok(line),
    }
}

/// Bytes after which a block of lines is read no further.
const BLOCK: usize = 1 << 20;

/// Some of the next lines, none at the end. A last line that was cut short is left out.
fn whole_lines(reader: &mut impl BufRead) -> std::io::Result<Vec<Vec<u8>>> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    while bytes < BLOCK {
        let mut text = Vec::new();
        reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text)?;
        if !text.ends_with(b"\n") && text.len() as u64 != LONGEST_LINE {
            break;
        }
        bytes += text.len();
        lines.push(text);
    }
    Ok(lines)
}

fn add_line(trace: &mut Trace, line: Line) -> Result<(), String> {
    if trace.complete {
        return Err("expected nothing after the end, found a line; two recordings are mixed".to_string());
    }
    match line {
        Line::Header(_) => return Err("a second header".to_string()),
        Line::Window { span, samples, reads } => {
            let meters = trace.header.meters.len();
            if let Some((meter, ..)) = samples.iter().find(|(meter, ..)| *meter >= meters) {
                return Err(format!("sample of meter {meter}, but the header lists {meters}"));
            }
            check_span(trace, &span)?;
            check_samples(trace, &samples)?;
            check_edges(trace, &span, &samples)?;
            trace.warnings.extend(gap(trace, &span, &samples));
            trace.spans.push(span);
            if let Some(reads) = reads {
                trace.sampling.add(&span, reads);
            }
            let sample = |(meter, at, energy)| Sample { meter, at, energy };
            trace.samples.extend(samples.into_iter().map(sample));
        }
        Line::Warning(warning) => trace.warnings.push(warning),
        Line::End { environment, complete, ended_by } => {
            trace.environment = environment.map(|e| *e);
            trace.complete = complete;
            trace.ended_by = ended_by;
        }
    }
    Ok(())
}

/// A window belongs to this run, once, after the windows before it.
fn check_span(trace: &Trace, span: &Span) -> Result<(), String> {
    let earliest = trace.spans.last().map(|last| last.end).unwrap_or_default();
    if span.start < earliest || span.end <= span.start {
        return Err("a window does not follow the one before it; the trace is damaged".to_string());
    }
    let works = !matches!(span.kind, SpanKind::Idle | SpanKind::ActiveIdle);
    if works && span.executions <= 0.0 {
        return Err("a window without executions; the trace is damaged".to_string());
    }
    limited("round", span.round as f64, MOST_ROUNDS)?;
    limited("executions", span.executions, MOST_EXECUTIONS)?;
    limited("edge_s", span.edge_s.value(), LONGEST_TIME)?;
    check_state(&span.state)?;
    limited("rest_s", span.state.rest_s.value(), span.length().value())?;
    let within = |what: &str, found: usize, of: usize| {
        let text = || format!("{what}: expected below {of}, found {found}; the trace is damaged");
        if found < of { Ok(()) } else { Err(text()) }
    };
    match span.kind {
        SpanKind::Replay(signature) => within("signature", signature, trace.header.signatures.len()),
        SpanKind::Excerpt(excerpt) => within("excerpt", excerpt, trace.header.excerpts.len()),
        _ => Ok(()),
    }
}

/// What a window was measured under are numbers that a device can show.
fn check_state(state: &WindowState) -> Result<(), String> {
    for (what, value, most) in [
        ("celsius, without its sign", state.celsius.map(f64::abs), 1e4),
        ("megahertz", state.megahertz, 1e6),
        ("megahertz_sd", state.megahertz_sd, 1e6),
        ("executions of the filler", state.filler.map(|filler| filler.executions), MOST_EXECUTIONS),
    ] {
        value.map_or(Ok(()), |value| limited(what, value, most))?;
    }
    Ok(())
}

/// Contexts name signatures and excerpts that there are.
fn check_contexts(header: &Header) -> Result<(), String> {
    let (signatures, excerpts) = (header.signatures.len(), header.excerpts.len());
    let contexts = header.contexts.len();
    if contexts != 0 && contexts != signatures {
        return Err(format!("contexts: expected none or {signatures}, one a signature, found {contexts}"));
    }
    for beginning in &header.beginnings {
        limited("excess_bytes, without its sign", beginning.excess_bytes.abs(), MOST_BYTES)?;
        let first = header.excerpts.get(beginning.excerpt).map(|excerpt| excerpt.first);
        if first != Some(0) {
            let found = beginning.excerpt;
            return Err(format!(
                "excerpt of a beginning: expected one below {excerpts} that begins with step 0, found {found}"
            ));
        }
    }
    for context in &header.contexts {
        limited("error_bytes", context.error_bytes, MOST_BYTES)?;
        let (what, found, of) = match context.base {
            Some(Base::Replay(base)) => ("signature of a base", base, signatures),
            Some(Base::Excerpt(base)) => ("excerpt of a base", base, excerpts),
            None => continue,
        };
        if found >= of {
            return Err(format!("{what}: expected below {of}, found {found}"));
        }
    }
    Ok(())
}

/// Readings stand in order of time, and are energies that a meter can have read.
fn check_samples(trace: &Trace, samples: &[(usize, Instant, Joules)]) -> Result<(), String> {
    let mut before = trace.samples.latest().unwrap_or_default();
    for (index, &(meter, at, energy)) in samples.iter().enumerate() {
        if at < before {
            let (at, before) = (at.nanos(), before.nanos());
            return Err(format!(
                "sample: expected a time from {before} ns on, found {at} ns; the trace is damaged"
            ));
        }
        limited("energy of a sample, without its sign", energy.value().abs(), MOST_ENERGY)?;
        let same_time = samples[..index].iter().rev().take_while(|other| other.1 == at);
        if let Some(other) = same_time.into_iter().find(|other| other.0 == meter && other.2 != energy) {
            return Err(format!(
                "sample: expected one energy of {} at {} ns, found {} J and {} J; the trace is damaged",
                trace.header.meters[meter].id,
                at.nanos(),
                other.2.value(),
                energy.value()
            ));
        }
        before = at;
    }
    Ok(())
}

/// The primary meter was read at both edges of a window: without that it has no energy. Other meters may have failed.
fn check_edges(trace: &Trace, span: &Span, samples: &[(usize, Instant, Joules)]) -> Result<(), String> {
    let primary = trace.header.primary_meter;
    let earlier = |at: Instant| {
        let from = trace.samples.position(trace.samples.len(), at);
        let there = (from..).map_while(|place| trace.samples.get(place));
        there.take_while(|sample| sample.at == at).any(|sample| sample.meter == primary)
    };
    for (at, edge) in [(span.start, "start"), (span.end, "end")] {
        let here = samples.iter().any(|&(meter, when, _)| meter == primary && when == at);
        if !here && !earlier(at) {
            return Err(format!(
                "the window of {}: expected a reading of {} at its {edge}, {} ns, found none; the trace is damaged",
                window_text(span),
                trace.header.meters[primary].id,
                at.nanos()
            ));
        }
    }
    Ok(())
}

/// A window for people.
fn window_text(span: &Span) -> String {
    let what = match span.kind {
        SpanKind::WarmUp => "the warm-up".to_string(),
        SpanKind::Idle | SpanKind::ActiveIdle => "rest".to_string(),
        SpanKind::Replay(signature) => format!("replays of signature {signature}"),
        SpanKind::Excerpt(excerpt) => format!("steps of excerpt {excerpt}"),
        SpanKind::Filler(step) => format!("step {step} as a filler"),
        SpanKind::Pass | SpanKind::Watched | SpanKind::Unwatched => "whole passes".to_string(),
    };
    let [start, end] = [span.start, span.end].map(|at| at.since_origin().value());
    format!("{what} in round {}, {start:.3} s to {end:.3} s", span.round)
}

/// Two readings of the primary meter in one window that are this many times as far apart as usual there, and this long,
/// are a gap: the program was stopped, or the clock was set.
const GAP: f64 = 20.0;
const SHORTEST_GAP: f64 = 5.0;

/// That nobody looked for a while in the middle of a window.
fn gap(trace: &Trace, span: &Span, samples: &[(usize, Instant, Joules)]) -> Option<Warning> {
    let primary = trace.header.primary_meter;
    let mut times: Vec<Instant> = samples.iter().filter(|s| s.0 == primary).map(|s| s.1).collect();
    // The window's length is read through; what comes behind it until the closing edge, as long as executions last, is not.
    times.pop();
    let mut gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).value()).collect();
    gaps.sort_by(f64::total_cmp);
    let (usual, longest) = (*gaps.get(gaps.len() / 2)?, *gaps.last()?);
    // A device that keeps its caller waiting is read between two executions only.
    let execution = if span.executions > 0.0 { span.length().value() / span.executions } else { 0.0 };
    let least = SHORTEST_GAP.max(GAP * usual).max(2.0 * execution);
    (gaps.len() > 2 && longest > least).then(|| {
        Warning::new(
            "gap",
            format!(
                "nobody read {} for {longest:.1} s in the window of {}, where {usual:.2} s are usual: the program was \
                 stopped or the clock was set, so do not believe this window; profile again",
                trace.header.meters[primary].id,
                window_text(span)
            ),
        )
    })
}

/// A number that a recording can hold.
fn limited(what: &str, value: f64, most: f64) -> Result<(), String> {
    if (0.0..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{what}: expected 0 to {most:e}, found {value:e}; the trace is damaged"))
}

/// Indices that later code relies on.
fn check_header(header: &Header) -> Result<(), String> {
    let (meters, signatures) = (header.meters.len(), header.signatures.len());
    if meters > MOST_METERS {
        return Err(format!("meters: expected at most {MOST_METERS}, found {meters}"));
    }
    if header.primary_meter >= meters {
        return Err(format!("primary meter: expected below {meters}, found {}", header.primary_meter));
    }
    if header.network.batch == 0 {
        return Err("batch: expected at least 1, found 0".to_string());
    }
    for meter in &header.meters {
        let period = meter.update_period_s.map_or(0.0, |period| period.value());
        limited(&format!("update_period_s of {}", meter.id), period, LONGEST_TIME)?;
        let error = meter.systematic_relative.unwrap_or(0.0);
        limited(&format!("systematic_relative of {}", meter.id), error, MOST_RELATIVE)?;
    }
    check_contexts(header)?;
    let mut names = HashSet::new();
    for layer in &header.layers {
        if !names.insert(layer.name.as_str()) {
            return Err(format!("layer: expected a name for each, found a second {:?}", layer.name));
        }
        if let Some(signature) = layer.signature.filter(|&s| s >= signatures) {
            return Err(format!(
                "layer \"{}\": signature: expected below {signatures}, found {signature}",
                layer.name
            ));
        }
    }
    Ok(())
}

fn lock(file: &File, path: &Path) -> Result<(), TraceError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => Err(TraceError::Busy { path: path.to_path_buf() }),
        // A file system without locks: two runs at once are then the user's to avoid.
        Err(std::fs::TryLockError::Error(_)) => Ok(()),
    }
}

/// Older versions of the format are read, newer ones refused by name.
fn check_schema(line: &[u8]) -> Result<(), String> {
    let value: serde_json::Value = serde_json::from_slice(line)
        .map_err(|e| format!("not a layerjoule trace: column {}: {}", e.column(), json::reason(&e)))?;
    let Some(found) = value["header"]["schema"].as_str() else {
        return Err("expected a trace's header, found something else; the trace is damaged".to_string());
    };
    if found == TRACE_SCHEMA {
        return Ok(());
    }
    let advice = if found.starts_with("layerjoule.trace/") {
        "a newer layerjoule may read it"
    } else {
        "this is no trace of `layerjoule profile`"
    };
    Err(format!("trace schema: expected {TRACE_SCHEMA}, found {found:.40}; {advice}"))
}

fn io<'a>(path: &'a Path, what: &'static str) -> impl FnOnce(std::io::Error) -> TraceError + 'a {
    move |source| TraceError::Io { path: path.to_path_buf(), what, source }
}
