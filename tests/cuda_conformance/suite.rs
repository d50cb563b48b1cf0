//! Every kind of layer in every precision and layout against the f64 reference, in every way that a GPU's libraries
//! offer, and steps repeated together against the pass: what `examples/gpu_conformance.rs` runs, on a GPU or on the emulated one.

pub(crate) mod cases;
pub(crate) mod check;
pub(crate) mod mixes;
mod tolerance;
