//! The driver interface of CUDA: device, memory, queue, times, graphs and kernels, each released when dropped.
//!
//! Everything belongs to one thread: the primary context of the device is made current on the thread that opens it.

mod call;
mod device;
mod event;
mod graph;
mod memory;
mod module;
mod stream;

pub(super) use device::Gpu;
pub(super) use event::Event;
pub(super) use graph::GraphExec;
pub(super) use memory::Memory;
pub(super) use module::{Function, Module};
pub(super) use stream::Stream;
