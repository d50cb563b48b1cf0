//! The integration tests, one binary.

mod networks;
mod pipeline;
mod support;
