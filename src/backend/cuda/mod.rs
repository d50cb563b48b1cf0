//! NVIDIA GPUs, through libraries that are found when the program runs.
//!
//! So far only the libraries are found, checked and loaded ([`libraries`]); the backend that computes with them
//! comes on top and starts from a [`Cuda`]. One program, built without CUDA, serves CUDA 12 and 13.

pub mod libraries;

pub use libraries::{Cuda, Libraries, Search};
