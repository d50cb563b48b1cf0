//! What a sensor can and cannot see, found from its readings beside a known load: how often it looks, over which
//! window it averages, how late it shows that, and how far its watts are from an external meter's.
//!
//! Pure estimation: readings and times of loads in, facts out. A fact is a value with its 95 % range, or the reason why
//! these readings do not tell; "not identifiable" is an answer. The method is that of Yang, Adámek, Armour, SC24
//! (10.1109/SC41406.2024.00028): docs/calibration.md.

mod coverage;
mod energy;
mod facts;
mod file;
mod grid;
mod health;
mod known;
mod load;
mod recorded;
mod search;
mod series;
mod traced;
mod window;

pub use coverage::{CoverageFact, CoverageSpread, SquareRun, agreed_coverage, coverage, coverage_spread};
pub use energy::{held_energy, metered_energy};
pub use facts::{
    ExternalFacts, ReadingFacts, ReadingKind, SelfTest, Spread, Unknown, energy_facts, reading_facts,
    sensor_facts,
};
pub use file::{CALIBRATION_SCHEMA, CalibratedDevice, Calibration, CalibrationFileError, parse_calibration};
pub use grid::{Grid, regular_grid};
pub use health::{Beside, Health, ReadRates, Verdict, Witnesses, advise, health};
pub use known::apply;
pub use load::{Load, Marks};
pub use recorded::{Recorded, RecordedError, read_recorded};
pub use series::Series;
pub use traced::traced_facts;
pub use window::{LoadKind, WindowFit, fit_window};
