//! The seam between the program and whatever reads energy.

use crate::clock::Instant;
use crate::trace::{MeterKind, MeterRecord, MeterStatus, Warning};
use crate::units::{Joules, Seconds};

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
}

impl MeterCandidate {
    /// A meter that works.
    pub fn working(record: MeterRecord, meter: Box<dyn Meter>) -> Self {
        Self { record, meter: Some(meter), twin: None, resolution: None, refusal: None, notes: Vec::new() }
    }

    /// A meter that cannot be used, with the reason and what mends it.
    pub fn unavailable(id: &str, scope: &str, kind: MeterKind, refusal: Refusal) -> Self {
        let mut record = record(id, scope, kind);
        record.status = MeterStatus::Unavailable;
        record.reason = Some(refusal.to_string());
        Self { record, meter: None, twin: None, resolution: None, refusal: Some(refusal), notes: Vec::new() }
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
