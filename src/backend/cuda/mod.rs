//! NVIDIA GPUs, through libraries that are found when the program runs.
//!
//! [`libraries`] finds, checks and loads them; a [`Cuda`] is leave to call them. One program, built without CUDA,
//! serves CUDA 12 and 13.

#[allow(dead_code, unused_imports)] // The backend comes on top.
mod kernels;
pub mod libraries;
#[allow(dead_code)] // The backend comes on top.
mod tensor;

pub use libraries::{Cuda, Libraries, Search};
