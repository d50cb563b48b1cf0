//! The integration tests, one binary.

mod architecture;
mod networks;
mod pictures;
mod pipeline;
mod support;
