//! The seam between the program and whatever reads energy.

use crate::clock::Instant;
use crate::trace::{MeterKind, MeterRecord, MeterStatus, Warning};
use crate::units::{Joules, Seconds, Watts};

use super::refusal::Refusal;

/// Why a reading failed, by what the caller can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Read again in a moment: the file was just being written.
    #[error("{0}")]
    Retry(String),
    /// An unknown amount of energy passed unseen: this window is lost, the next ones are sound.
    #[error("{0}")]
    Lost(String),
    /// The counter is there but cannot be believed any more.
    #[error("{0}")]
    Fatal(String),
    /// The counter has vanished or may no longer be read.
    #[error("{0}")]
    Gone(String),
}

/// A cumulative energy meter.
pub trait Meter {
    /// Joules since its first reading, at `now`. Allocates nothing.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError>;

    /// Longest time between two reads over which nothing is lost; none for a counter, which counts by itself and
    /// knows its own wraps. Power readings are only joined over a few of their periods.
    fn longest_gap(&self) -> Option<Seconds> {
        None
    }

    /// The power of the last reading, where that is what the sensor reads; none for a counter.
    fn power(&self) -> Option<Watts> {
        None
    }
}

/// The part of the machine that a meter sees, or that a network runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it. A simulated device is all there is of its machine.
    Machine,
    /// The processors, with or without their memory.
    Cpu,
    /// The GPU with this UUID.
    Gpu(String),
}

impl Part {
    /// Whether the energy of `device` lies in what a meter of this part sees.
    pub fn contains(&self, device: &Self) -> bool {
        *self == Self::Machine || self == device
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Machine => f.write_str("the machine"),
            Self::Cpu => f.write_str("the CPU"),
            Self::Gpu(uuid) => write!(f, "GPU {uuid}"),
        }
    }
}

/// A meter with what is known of it; without a `meter` it cannot be used, and its record says why.
pub struct MeterCandidate {
    /// What is known of it.
    pub record: MeterRecord,
    /// The meter, if it works.
    pub meter: Option<Box<dyn Meter>>,
    /// The same energy by another way, only to compare.
    pub twin: Option<(String, Box<dyn Meter>)>,
    /// The smallest step of its reading, where it is known.
    pub resolution: Option<Joules>,
    /// Why it does not work.
    pub refusal: Option<Refusal>,
    /// What a reader of its joules must know.
    pub notes: Vec<Warning>,
    /// What it sees. `--meter auto` takes no meter that does not see the device.
    pub part: Part,
    /// Whether files or a library stand in for those of the machine.
    pub emulated: bool,
}

impl MeterCandidate {
    /// A meter that works.
    pub fn working(record: MeterRecord, meter: Box<dyn Meter>) -> Self {
        Self { meter: Some(meter), ..Self::without_meter(record) }
    }

    /// A meter that cannot be used, with the reason and what mends it.
    pub fn unavailable(id: &str, scope: &str, kind: MeterKind, refusal: Refusal) -> Self {
        let mut record = record(id, scope, kind);
        record.status = MeterStatus::Unavailable;
        record.reason = Some(refusal.to_string());
        Self { refusal: Some(refusal), ..Self::without_meter(record) }
    }

    fn without_meter(record: MeterRecord) -> Self {
        Self {
            record,
            meter: None,
            twin: None,
            resolution: None,
            refusal: None,
            notes: Vec::new(),
            part: Part::Machine,
            emulated: false,
        }
    }

    /// How long the load has to run before the meter shows nothing but it. A power sensor that says no more shows the
    /// mean of its last period: two of them later only what runs now.
    pub(super) fn lag(&self) -> Seconds {
        match (self.record.lag_s, self.record.kind, self.record.update_period_s) {
            (Some(lag), ..) => lag,
            (None, MeterKind::Power, Some(period)) => period * 2.0,
            _ => Seconds::ZERO,
        }
    }

    /// Makes the meter unavailable.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.meter = None;
        self.twin = None;
        self.record.status = MeterStatus::Unavailable;
        self.record.reason = Some(refusal.to_string());
        self.refusal = Some(refusal);
    }
}

/// The record of a sensor of which nothing more is known.
pub(super) fn record(id: &str, scope: &str, kind: MeterKind) -> MeterRecord {
    MeterRecord {
        id: id.to_string(),
        scope: scope.to_string(),
        kind,
        status: MeterStatus::Measured,
        reason: None,
        update_period_s: None,
        lag_s: None,
        coverage: None,
        systematic_relative: None,
    }
}
