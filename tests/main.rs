//! The integration tests, one binary.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy allows them in test functions only, and helpers serve tests too"
)]

mod accuracy;
mod architecture;
mod calibrate;
mod cli;
mod conformance;
mod cuda_conformance;
mod cuda_emulator;
mod cuda_libraries;
mod cuda_profile;
mod doctor;
mod gpu_bundle;
mod hwmon;
mod mutation;
mod networks;
mod nvml;
mod onnx;
mod pathological;
mod perf;
mod pictures;
mod pipeline;
mod planned;
mod powercap;
mod queue;
mod sampling;
mod schema;
mod sim;
mod sim_boards;
mod sim_files;
mod stand_in_nvml;
mod stand_ins;
mod support;
