//! The integration tests, one binary.

mod networks;
