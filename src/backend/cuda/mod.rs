//! NVIDIA GPUs, through libraries that are found when the program runs.
//!
//! [`libraries`] finds, checks and loads them; a [`Cuda`] is leave to call them. One program, built without CUDA,
//! serves CUDA 12 and 13. [`CudaBackend`] computes: each layer has several ways to be computed (`operations`), which are
//! measured while preparing (`search`); windows replay graphs of some milliseconds (`executor`, `rotation`), over copies
//! of the buffers that take turns (`mixes`, `copies`).

mod copies;
mod cublaslt;
mod cudnn;
mod driver;
mod engine;
mod executor;
mod failure;
mod fit;
#[allow(dead_code, unused_imports)] // Tests use more of them.
mod kernels;
pub mod libraries;
mod marks;
mod mixed;
mod mixes;
mod numbers;
mod nvtx;
mod operation;
mod operations;
mod parameters;
mod prepare;
#[cfg(test)]
mod real_libraries;
mod rotation;
mod search;
mod tensor;
mod ways;

pub use engine::{CudaBackend, CudaOptions};
pub use libraries::{Cuda, Libraries, Search};
pub use mixed::Mixed;
pub use ways::Way;
