//! `layerjoule` says, with error bars, how many joules each layer of a convolutional network costs.
//!
//! ```text
//! network file ─► Network ─► Plan ─► Executor ─► run ─► Trace ─► Attribution ─► RunReport ─► table, CSV, PNG, SVG
//!   TOML, ONNX     shapes    order    executes    spans   spans    joules per
//!                  cost      buffers  layers    + samples samples  layer, ±, closure
//! ```
//!
//! Data flows one way. Recording needs hardware; everything after [`trace::Trace`] is pure: same input, same
//! bytes out. Who may import whom is a table in `tests/architecture.rs`.

// Tests of internals use files that integration tests use too, and those name the crate.
#[cfg(test)]
extern crate self as layerjoule;

pub mod attribution;
pub mod backend;
pub mod calibration;
pub mod cli;
pub mod clock;
pub mod meter;
pub mod network;
pub mod plan;
pub mod profile;
pub mod report;
pub mod run;
pub mod sim;
pub mod stats;
pub mod trace;
pub mod units;
