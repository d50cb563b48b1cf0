//! The main job: a network file in, joules per layer out.
//!
//! Ties the line together: read, plan, prepare, choose meters, record, attribute, write. What the command line
//! calls, and what other programs can call.

mod calibrate;
mod clock;
mod contexts;
mod device;
mod job;
mod known_sensors;
mod null;
mod output;
mod planner;
mod records;
mod self_test;

pub use calibrate::{CalibrationError, CalibrationOptions, calibrate};
pub use device::DeviceChoice;
pub use job::{Hooks, Measured, Outcome, ProfileError, ProfileOptions, QUICK, Timing, measure, profile};
pub use known_sensors::keep_calibration;
pub use null::{NullOptions, NullRun, null_run};
pub use output::{
    OutputError, RUN_FILE, TRACE_FILE, TRUTH_FILE, disagreement, load_run, may_render, write_report,
};
pub use records::{Computed, layer_records, network_record};
