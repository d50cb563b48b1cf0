//! What was recorded: spans of work, samples of meters, and the surroundings. Plain data and its file.
//!
//! A trace stands alone: it names layers, shapes, costs and meters itself, so that it can be attributed on
//! another machine, without the network file.

mod environment;
mod file;
pub(crate) mod json;
mod record;
mod samples;
mod state;

pub use environment::{Environment, WeightsAndInput};
pub use file::{TRACE_SCHEMA, TraceError, TraceWriter, parse_trace, read_trace};
pub use record::{
    Base, BeginningRecord, Context, Coverage, DeviceRecord, ExcerptRecord, Header, LayerRecord, MeterKind,
    MeterRecord, MeterStatus, NetworkRecord, PrecisionTarget, Reads, RecordOptions, Sample, Sampling, Span,
    SpanKind, Tool, Trace, Warning,
};
pub use samples::Samples;
pub use state::{Condition, FillerRun, WindowState};
