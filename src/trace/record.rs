//! The records of a trace.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Instant;
use crate::units::{Joules, Seconds};

use super::{Environment, Samples, WindowState};

/// The program that wrote a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Tool {
    /// This program.
    pub fn this() -> Self {
        Self { name: env!("CARGO_PKG_NAME").to_string(), version: env!("CARGO_PKG_VERSION").to_string() }
    }
}

/// The network that ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkRecord {
    /// Its name.
    pub name: String,
    /// The file, as the user named it.
    pub source: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Items in one pass.
    pub batch: usize,
    /// Parameters of the file with the values in force.
    pub set: BTreeMap<String, i64>,
    /// Elements that training changes.
    pub parameters: u64,
    /// Elements of moving statistics.
    pub buffers: u64,
    /// 2 x multiply-accumulates of conv and linear, for one pass of the batch.
    pub flops: u64,
    /// All other operations, for one pass of the batch.
    pub flops_elementwise: u64,
}

/// A layer that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Unique name.
    pub name: String,
    /// Its kind's name.
    pub kind: String,
    /// Index in [`Header::signatures`]; none for a view, which executes nothing, and for a layer that is computed
    /// together with another.
    pub signature: Option<usize>,
    /// The layers that are computed together with this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fused: Vec<String>,
    /// The layer that this one is computed together with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fused_into: Option<String>,
    /// The algorithm that computed it.
    pub algorithm: Option<String>,
    /// Bytes that the algorithm needed beside its tensors, where it needed any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_bytes: Option<u64>,
    /// The device's kernels that it ran, in order, where the device tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<String>,
    /// Output shape, the batch left out.
    pub output: Vec<usize>,
    /// 2 x multiply-accumulates of conv and linear, for the batch.
    pub flops: u64,
    /// All other operations, for the batch.
    pub flops_elementwise: u64,
    /// Least traffic of one execution, in the precision of the run.
    pub bytes: u64,
}

/// The device that ran it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRecord {
    /// `cpu`, `cuda` or `sim`.
    pub kind: String,
    /// The device's own name.
    pub name: String,
    /// Its unique identifier, where it has one.
    pub uuid: Option<String>,
    /// Driver version, where it has one.
    pub driver: Option<String>,
    /// CUDA version, where it is used.
    pub cuda: Option<String>,
    /// cuDNN version, where it is used.
    pub cudnn: Option<String>,
    /// Arithmetic.
    pub precision: String,
    /// Memory layout.
    pub layout: String,
    /// What replays of a layer found in the last-level cache, where that was decided: `cold` or `hot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// The library or engine that computes.
    pub engine: String,
    /// Worker threads.
    pub threads: usize,
}

/// What a meter reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeterKind {
    /// An energy counter.
    Counter,
    /// Power readings.
    Power,
    /// A model: nothing is measured.
    Modelled,
    /// A log of another device.
    External,
}

/// How far a meter can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeterStatus {
    /// A sensor reads it.
    Measured,
    /// A model gives it.
    Estimated,
    /// It cannot be read; the reason says why.
    Unavailable,
}

/// Whether a sensor looks all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// It integrates without gaps.
    Full,
    /// It looks for a part of the time.
    PartTime,
}

/// A meter, used or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeterRecord {
    /// Its name on the command line, with the domain where it has several.
    pub id: String,
    /// What its joules include.
    pub scope: String,
    /// What it reads.
    pub kind: MeterKind,
    /// How far it can be believed.
    pub status: MeterStatus,
    /// Why it is unavailable or only estimated; or why it was chosen.
    pub reason: Option<String>,
    /// Time between two changes of its reading; `null` where it is continuous or unknown.
    pub update_period_s: Option<Seconds>,
    /// How long after a change of power its reading may still show what was before, where that is known; files of
    /// versions that did not know it lack the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_s: Option<Seconds>,
    /// Whether its sensor looks all the time; `null` where unknown.
    pub coverage: Option<Coverage>,
    /// Error common to all its readings, as a fraction; never inside the intervals.
    pub systematic_relative: Option<f64>,
}

/// How to record; equal options let an interrupted run be continued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordOptions {
    /// Rounds of windows.
    pub rounds: usize,
    /// Least length of a replay window.
    pub window_s: Seconds,
    /// Least counter updates in a replay window.
    pub window_updates: usize,
    /// Least length of a window of whole passes.
    pub pass_window_s: Seconds,
    /// Length of an idle window between rounds.
    pub idle_window_s: Seconds,
    /// Load before each window opens.
    pub settle_s: Seconds,
    /// Load before the first window.
    pub warm_up_s: Seconds,
    /// Most pairs of short windows, one read as usual and one at its edges only, that show what reading costs.
    #[serde(default, skip_serializing_if = "no_pairs")]
    pub sampling_pairs: usize,
    /// Length of such a window.
    #[serde(default, skip_serializing_if = "no_time")]
    pub sampling_window_s: Seconds,
    /// What precision the number of rounds is planned for; none where it is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<PrecisionTarget>,
    /// Seed of schedule, weights and input.
    pub seed: u64,
}

/// Half widths of 95 % intervals that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PrecisionTarget {
    /// As a part of the layer's energy.
    pub relative: f64,
    /// As a part of the pass's energy, of layers below a hundredth of that.
    pub of_pass: f64,
}

impl PrecisionTarget {
    /// Half width that is asked for of a layer, in the unit of the two energies.
    pub fn half_width(&self, layer: f64, pass: f64) -> f64 {
        let relative = self.relative * layer;
        if layer < 0.01 * pass { relative.max(self.of_pass * pass) } else { relative }
    }
}

/// Traces of versions that measured no such pairs lack the key.
fn no_pairs(pairs: &usize) -> bool {
    *pairs == 0
}

/// As [`no_pairs`].
fn no_time(length: &Seconds) -> bool {
    *length == Seconds::ZERO
}

/// A message that concerns the run or one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// A stable name for programs.
    pub code: String,
    /// A sentence for people, with what to do.
    pub text: String,
    /// The layer, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub layer: Option<String>,
}

impl Warning {
    /// A warning about the whole run.
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_string(), text: text.into(), layer: None }
    }
}

/// What a trace begins with: everything known before the first window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The file format and its version.
    pub schema: String,
    /// The program.
    pub tool: Tool,
    /// When, as RFC 3339 UTC.
    pub created: String,
    /// UTC time of the clock's origin, in seconds since 1970; that of the first part of an interrupted run.
    pub clock_origin_unix_s: Seconds,
    /// Whether a simulated device gave the numbers.
    pub simulated: bool,
    /// Whether a stand-in library gave the numbers.
    pub emulated: bool,
    /// The network.
    pub network: NetworkRecord,
    /// Its layers, in order of execution.
    pub layers: Vec<LayerRecord>,
    /// Kinds of work that are measured once each. Equal texts stand apart where the work finds other data in the cache.
    pub signatures: Vec<String>,
    /// For each signature, what it is measured within; none where each is repeated alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<Context>,
    /// What runs in windows of [`SpanKind::Excerpt`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excerpts: Vec<ExcerptRecord>,
    /// Those of them that are the first steps of a pass, from short to long: against them the layers' sums are checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beginnings: Vec<BeginningRecord>,
    /// The device.
    pub device: DeviceRecord,
    /// All meters looked at; samples refer to them by index.
    pub meters: Vec<MeterRecord>,
    /// Index of the meter whose joules are reported.
    pub primary_meter: usize,
    /// The surroundings when the run began.
    pub environment: Environment,
    /// How it is recorded.
    pub options: RecordOptions,
}

/// Steps of a pass that are repeated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExcerptRecord {
    /// Number of the first step in the plan.
    pub first: usize,
    /// Number of the last one.
    pub last: usize,
    /// Whether each repetition worked on buffers that no cache held.
    pub fresh: bool,
}

/// The first steps of a pass, repeated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginningRecord {
    /// Index in [`Header::excerpts`].
    pub excerpt: usize,
    /// Bytes that it moves between memory and cache beyond those that its steps move in the network, by reuse distances.
    pub excess_bytes: f64,
}

/// What a signature is measured within: its energy is that of the excerpt less that of the same without its last step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The steps.
    pub excerpt: ExcerptRecord,
    /// What is taken off; nothing where the excerpt has one step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Bytes between memory and cache by which the excerpt may differ from the network, by reuse distances.
    pub error_bytes: f64,
}

impl Base {
    /// What its windows are spent on.
    pub fn windows(self) -> SpanKind {
        match self {
            Self::Replay(signature) => SpanKind::Replay(signature),
            Self::Excerpt(excerpt) => SpanKind::Excerpt(excerpt),
        }
    }
}

/// The windows of an excerpt without its last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// Those in which another signature is measured.
    Replay(usize),
    /// Those of an excerpt in [`Header::excerpts`].
    Excerpt(usize),
}

/// What a span of time was spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// Passes that bring the device to its working temperature.
    WarmUp,
    /// Nothing ran, before the first or after the last round.
    Idle,
    /// Nothing ran, between two rounds.
    ActiveIdle,
    /// One kind of work again and again: index in [`Header::signatures`].
    Replay(usize),
    /// Steps that no signature is measured within: index in [`Header::excerpts`].
    Excerpt(usize),
    /// A step of the plan that others are mixed with, alone.
    Filler(usize),
    /// Whole passes.
    Pass,
    /// Whole passes for a short while, read as often as a replay; the round is the number of the pair.
    Watched,
    /// The same, read at the edges only.
    Unwatched,
}

/// A measured stretch of time, aligned to changes of the primary meter's reading.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// What ran.
    pub kind: SpanKind,
    /// The round it belongs to, from 0.
    pub round: usize,
    /// When it began; every meter has a sample of exactly this time.
    pub start: Instant,
    /// When it ended; every meter has a sample of exactly this time.
    pub end: Instant,
    /// How often the work ran from start to end. A device that works on while its meter is read is amid an execution at
    /// both edges, so this need not be a whole number; one that is, is written as an integer.
    #[serde(serialize_with = "write_count", deserialize_with = "read_count")]
    pub executions: f64,
    /// How far an edge may lie from the true change of the primary reading, at most.
    pub edge_s: Seconds,
    /// What it was measured under.
    #[serde(default, skip_serializing_if = "WindowState::is_empty")]
    pub state: WindowState,
}

/// Largest number below which every integer is a number of this kind, so that nothing is lost as an integer.
const LARGEST_INTEGER: f64 = 9_007_199_254_740_992.0;

/// A count that is whole as an integer, as versions wrote it that knew no others.
fn write_count<S: Serializer>(count: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if count.fract() == 0.0 && (0.0..=LARGEST_INTEGER).contains(count) {
        serializer.serialize_u64(*count as u64)
    } else {
        serializer.serialize_f64(*count)
    }
}

/// Least part of an execution that a window may hold. A window ends after whole executions or holds several, and the
/// energy of one that did hardly run is no number.
const LEAST_COUNT: f64 = 1e-6;

/// A count, whole or not: none, or so much that the energy of a whole execution can be told from it.
fn read_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let count = f64::deserialize(deserializer)?;
    if count == 0.0 || count.is_finite() && count >= LEAST_COUNT {
        return Ok(count);
    }
    let expected = "a finite number of executions, 0 or at least 1e-6";
    Err(D::Error::invalid_value(Unexpected::Float(count), &expected))
}

impl Span {
    /// Its length.
    pub fn length(&self) -> Seconds {
        self.end - self.start
    }
}

/// What it took to read meters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reads {
    /// Readings of all meters.
    pub count: u64,
    /// Time from before to after each.
    pub time_s: Seconds,
    /// Processor time of the thread that reads; none by a virtual clock.
    pub cpu_s: Option<Seconds>,
}

impl Reads {
    /// No readings.
    pub const NONE: Self = Self { count: 0, time_s: Seconds::ZERO, cpu_s: Some(Seconds::ZERO) };

    /// These and others.
    pub fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            time_s: self.time_s + other.time_s,
            cpu_s: self.cpu_s.zip(other.cpu_s).map(|(a, b)| a + b),
        }
    }
}

/// What sampling took inside the windows of a recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Length of all windows whose readings are counted.
    pub windows_s: Seconds,
    /// Readings between the edges of these windows.
    pub reads: Reads,
}

impl Sampling {
    /// Adds the readings of one more window.
    pub fn add(&mut self, span: &Span, reads: Reads) {
        self.windows_s += span.length();
        self.reads = self.reads.plus(reads);
    }
}

/// A reading of a cumulative meter, wraps undone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Index in [`Header::meters`].
    pub meter: usize,
    /// When it was read.
    pub at: Instant,
    /// Energy since the first reading.
    pub energy: Joules,
}

/// A recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Everything known before the first window.
    pub header: Header,
    /// Measured stretches, in order of time.
    pub spans: Vec<Span>,
    /// Readings, in order of time.
    pub samples: Samples,
    /// What reading the meters took.
    pub sampling: Sampling,
    /// What a reader must know that the numbers do not show.
    pub warnings: Vec<Warning>,
    /// The surroundings when the run ended.
    pub environment: Option<Environment>,
    /// Whether the recording ended by plan.
    pub complete: bool,
    /// Why it ended early, if it did.
    pub ended_by: Option<String>,
}

impl Trace {
    /// A recording that has not begun.
    pub fn new(header: Header, warnings: Vec<Warning>) -> Self {
        Self {
            header,
            spans: Vec::new(),
            samples: Samples::default(),
            sampling: Sampling { windows_s: Seconds::ZERO, reads: Reads::NONE },
            warnings,
            environment: None,
            complete: false,
            ended_by: None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "what is written is read again exactly")]
mod tests {
    use super::*;

    fn span(executions: f64) -> Span {
        let (start, end) = (Instant::from_nanos(5), Instant::from_nanos(9));
        Span {
            kind: SpanKind::Pass,
            round: 0,
            start,
            end,
            executions,
            edge_s: Seconds::ZERO,
            state: WindowState::default(),
        }
    }

    #[test]
    fn whole_executions_are_written_as_integers_and_parts_as_they_are() {
        for (executions, text) in [(0.0, "0"), (400.0, "400"), (400.25, "400.25"), (1e18, "1e+18")] {
            let written = serde_json::to_string(&span(executions)).unwrap();
            let expected = format!(
                "{{\"kind\":\"pass\",\"round\":0,\"start\":5,\"end\":9,\"executions\":{text},\"edge_s\":0.0}}"
            );
            assert_eq!(written, expected);
            let read: Span = serde_json::from_str(&written).unwrap();
            assert_eq!(read.executions, executions);
        }
        for impossible in ["1e-320", "-1"] {
            let text = serde_json::to_string(&span(7.0)).unwrap().replace(":7,", &format!(":{impossible},"));
            assert!(serde_json::from_str::<Span>(&text).is_err(), "{impossible}");
        }
        let other = serde_json::to_string(&span(7.0)).unwrap().replace(":7,", ":7.0,");
        assert_eq!(serde_json::from_str::<Span>(&other).unwrap().executions, 7.0);
    }
}
