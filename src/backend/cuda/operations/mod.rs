//! Every way of computing each kind of layer that the libraries and the own kernels offer.
//!
//! [`candidates`] makes them; what is the fastest is measured elsewhere. Each file has a family of kinds.

mod around;
mod choice;
mod conv;
mod elementwise;
mod form;
mod linear;
mod movement;
mod normalise;
mod own;
mod pool;
mod tools;

pub(super) use choice::candidates;
pub(super) use form::{output_form, permutes_weights};
pub(super) use tools::{ToolOptions, Tools};
