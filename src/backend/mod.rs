//! Devices that run a plan. A [`Backend`] prepares an [`Executor`]; the executor launches steps.
//!
//! Whatever can be done before a window opens is done in [`Backend::prepare`]: memory, packed weights,
//! choice of algorithm. [`Executor::launch`] only computes.

mod cache;
pub mod cpu;
pub mod cuda;
mod error;
mod executor;
mod host_memory;
mod places;
pub mod reference;
mod turns;
mod weights;

use crate::network::Network;
use crate::plan::Plan;

pub use cache::CacheUse;
pub use error::BackendError;
pub use executor::{Executor, Mark, Mix, Task};
pub use weights::{Tensors, WeightOptions};

/// What runs the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendInfo {
    /// `cpu`, `cuda` or `sim`.
    pub kind: &'static str,
    /// The device's name as it gives it.
    pub name: String,
    /// Its unique identifier, where it has one.
    pub uuid: Option<String>,
    /// The library or engine that computes, with its version.
    pub engine: String,
    /// Worker threads.
    pub threads: usize,
    /// What its replays find in the last-level cache, where it decides that.
    pub cache: Option<CacheUse>,
    /// Whether a library stands in for a real device.
    pub emulated: bool,
    /// Version of its driver, where it has one.
    pub driver: Option<String>,
    /// Version of CUDA that it computes with, where it does.
    pub cuda: Option<String>,
    /// Version of cuDNN that it computes with, where it does.
    pub cudnn: Option<String>,
}

/// A device that can run networks.
pub trait Backend {
    /// What it is.
    fn info(&self) -> BackendInfo;

    /// Whether it computes values, so that it needs weights and an input.
    fn computes(&self) -> bool {
        true
    }

    /// Allocates and fills everything that the plan needs.
    ///
    /// # Errors
    ///
    /// The device lacks the memory, or a layer is of a kind it cannot run.
    fn prepare(
        &self,
        network: &Network,
        plan: &Plan,
        tensors: &Tensors,
    ) -> Result<Box<dyn Executor>, BackendError>;
}
