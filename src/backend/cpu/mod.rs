//! The CPU engine: f32, NCHW, one kernel for each kind of layer, parallel over a fixed number of threads.
//!
//! Convolutions read a padded copy of a block of the input through a table of offsets (Dukhan 2019, "The
//! Indirect Convolution Algorithm", arXiv 1907.02129), with weights packed while preparing. The vector code is
//! written once with `pulp` and chosen at run time: AVX-512, AVX2, NEON or scalar.

mod activation;
mod batch_norm;
mod broadcast;
mod buffer;
mod cache;
mod conv;
mod depthwise;
mod engine;
mod epilogue;
mod executor;
mod grid;
mod kernel;
mod linear;
mod lrn;
mod mixes;
mod movement;
mod output;
mod panels;
mod parallel;
mod pool;
mod simd;
mod softmax;
mod team;
mod tile;
mod window;

pub use engine::CpuBackend;
pub use simd::Vectors;
