//! The CPU engine: f32, NCHW, one kernel for each kind of layer, parallel over a fixed number of threads.
//!
//! Convolutions multiply the weights with tiles of an im2col matrix (Chellapilla 2006, "High performance
//! convolutional neural networks for document processing") through the `gemm` crate.

mod activation;
mod batch_norm;
mod broadcast;
mod columns;
mod conv;
mod depthwise;
mod engine;
mod executor;
mod kernel;
mod linear;
mod lrn;
mod matmul;
mod movement;
mod parallel;
mod pool;
mod softmax;
mod window;

pub use engine::CpuBackend;
