//! Own kernels: their sources, how each is launched, and their compilation.
//!
//! There is one for every kind of layer, so that a network runs even where a library refuses. Everything but
//! [`compile`] is plain code: forms of tensors and parameters of a kind go in, [`Launch`]es come out. The sources lie in
//! `kernels/` at the top of the repository, one family of operations a file; each head says what it computes and after
//! whom.

mod channel;
mod compile;
mod copy;
mod elementwise;
mod launch;
mod linear;
mod lines;
mod source;
mod strided;
mod window;

#[cfg(test)]
mod tests;

pub(super) use channel::{NormVectors, activation, batch_norm, bias};
pub(super) use compile::{Code, CompileError, compile};
pub(super) use copy::{channel_shuffle, concat, reorder, transpose};
pub(super) use elementwise::{add, mul};
pub(super) use launch::{Argument, FormError, Launch, Tensor};
pub(super) use linear::linear;
pub(super) use lines::{global_average_pool, global_max_pool, softmax};
pub(super) use source::{Family, source};
pub(super) use window::{Weights, average_pool, conv, lrn, max_pool, pad};
