//! The seam between the program and whatever reads energy.

use crate::clock::{Clock, Instant};
use crate::trace::{MeterKind, MeterRecord, MeterStatus};
use crate::units::Joules;

use super::update::update_period;

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
}

/// A meter with what is known of it; without a `meter` it cannot be used, and its record says why.
pub struct MeterCandidate {
    /// What is known of it.
    pub record: MeterRecord,
    /// The meter, if it works.
    pub meter: Option<Box<dyn Meter>>,
}

impl MeterCandidate {
    /// A meter that cannot be used, with the reason and what mends it.
    pub fn unavailable(id: &str, scope: &str, kind: MeterKind, reason: String) -> Self {
        let record = MeterRecord {
            id: id.to_string(),
            scope: scope.to_string(),
            kind,
            status: MeterStatus::Unavailable,
            reason: Some(reason),
            update_period_s: None,
            coverage: None,
            systematic_relative: None,
        };
        Self { record, meter: None }
    }

    /// Reads a counter until its update period is known; one that fails or stands still becomes unavailable.
    pub fn try_out(&mut self, clock: &dyn Clock) {
        let Some(meter) = self.meter.as_mut().filter(|_| self.record.kind == MeterKind::Counter) else {
            return;
        };
        match update_period(meter.as_mut(), clock) {
            Ok(period) => self.record.update_period_s = Some(period),
            Err(error) => {
                self.meter = None;
                self.record.status = MeterStatus::Unavailable;
                self.record.reason = Some(error.to_string());
            }
        }
    }
}
