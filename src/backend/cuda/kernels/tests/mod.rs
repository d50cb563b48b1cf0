//! Kernels without a GPU: their arithmetic as C++ on the host, their compilation by NVRTC.

// Shared with the integration tests.
#[path = "../../../../../tests/conformance/bounds.rs"]
#[allow(dead_code, reason = "integration tests use the rest")]
mod bounds;
#[path = "../../../../../tests/support/cuda_shim.rs"]
#[allow(dead_code, reason = "the emulated device uses the rest")]
mod cuda_shim;

mod host;
mod kinds;
mod layer;
mod limits;
mod movement;
mod number;
mod nvrtc;
mod signature;
mod special;
