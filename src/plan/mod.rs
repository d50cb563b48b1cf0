//! What is executed, in which order, over which buffers, and which layers do the same work.
//!
//! A plan is made once, before anything is timed. Layers whose kind, parameters and shapes are equal share a
//! [`Signature`]: they are measured together and their errors are fully correlated.

mod buffers;
mod format;
mod fuse;
mod lower;
mod reuse;

use crate::network::TensorRef;

pub use format::{Layout, Precision};
pub use reuse::{Beginning, Excerpt, beginnings, excerpts};

/// Index of a buffer in [`Plan::buffers`].
pub type BufferId = usize;

/// What to plan for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOptions {
    /// Items in one pass.
    pub batch: usize,
    /// Gives every layer its own buffer, so that each output can be read after a pass. Costs memory.
    pub keep_all: bool,
    /// Computes a batch norm, a sum and an activation in the same step as the convolution before them, where
    /// nothing else reads what lies between: inference engines do so by default, training frameworks do not.
    pub fuse: bool,
    /// Number format.
    pub precision: Precision,
    /// Order of axes.
    pub layout: Layout,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            batch: 1,
            keep_all: false,
            fuse: false,
            precision: Precision::default(),
            layout: Layout::default(),
        }
    }
}

/// One unit of execution: a layer, or several that one kernel computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Layers it computes, by index in the network; the first names the step.
    pub layers: Vec<usize>,
    /// Tensors it reads: the inputs of its first layer, then what the others need beside its result.
    pub reads: Vec<TensorRef>,
    /// The buffer of each tensor that it reads.
    pub inputs: Vec<BufferId>,
    /// The buffer it writes; never one of its inputs.
    pub output: BufferId,
    /// Index in [`Plan::signatures`].
    pub signature: usize,
}

/// A kind of work that is measured once for all the steps that do it.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// Kind, parameters, shapes, precision and layout as one text.
    pub text: String,
    /// The steps that do this work.
    pub steps: Vec<usize>,
}

/// Order, buffers and signatures of a network for one batch size.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Items in one pass.
    pub batch: usize,
    /// Number format of the buffers.
    pub precision: Precision,
    /// Order of axes in the buffers.
    pub layout: Layout,
    /// Steps in order of execution.
    pub steps: Vec<Step>,
    /// Elements of each buffer, for the whole batch.
    pub buffers: Vec<usize>,
    /// The buffer of the network's input, which no step writes.
    pub input: BufferId,
    /// Kinds of work, in order of first use.
    pub signatures: Vec<Signature>,
    /// For each layer of the network: its step, or none for a view that executes nothing.
    pub step_of_layer: Vec<Option<usize>>,
    /// For each layer of the network: the buffer that holds its output. A layer that is fused with the next has no
    /// output in memory; the buffer is that of its step.
    pub buffer_of_layer: Vec<BufferId>,
}

/// Why a network cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The batch is zero.
    #[error("batch: expected at least 1, found 0")]
    EmptyBatch,
    /// A tensor of the whole batch does not fit a machine word.
    #[error(
        "layer \"{layer}\": {batch} items of {elements} elements do not fit the address space; lower --batch"
    )]
    TooLarge {
        /// The layer.
        layer: String,
        /// The batch size asked for.
        batch: usize,
        /// Elements of one item.
        elements: usize,
    },
}
