//! The integration tests, one binary.

mod architecture;
mod conformance;
mod networks;
mod pictures;
mod pipeline;
mod powercap;
mod support;
