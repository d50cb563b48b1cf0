//! The integration tests, one binary.

mod architecture;
mod networks;
mod pipeline;
mod support;
