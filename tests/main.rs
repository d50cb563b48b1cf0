//! The integration tests, one binary.

mod pipeline;
mod support;
