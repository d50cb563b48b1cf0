//! The CPU as a backend.

use std::path::Path;
use std::sync::Arc;

use crate::backend::{Backend, BackendError, BackendInfo, Executor, Tensors};
use crate::network::Network;
use crate::plan::Plan;

use super::cache;
use super::executor::{CpuExecutor, Processor};
use super::simd::{VectorUnit, Vectors};
use super::team::Team;

/// The CPU with a fixed number of worker threads.
#[derive(Debug, Clone)]
pub struct CpuBackend {
    name: String,
    team: Arc<Team>,
    unit: VectorUnit,
    /// Bytes of the last-level caches that the threads reach; none where the system does not tell.
    cache: Option<usize>,
}

impl CpuBackend {
    /// Starts the worker threads; 0 is refused.
    ///
    /// # Errors
    ///
    /// No threads are asked for, or the system starts no more.
    pub fn new(threads: usize) -> Result<Self, BackendError> {
        Self::with_vectors(threads, Vectors::Widest)
    }

    /// The same with vectors of a given width at most.
    ///
    /// # Errors
    ///
    /// As [`CpuBackend::new`].
    pub fn with_vectors(threads: usize, vectors: Vectors) -> Result<Self, BackendError> {
        let name = model_name(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
        let failed = |reason: String| BackendError::Device { device: name.clone(), reason };
        if threads == 0 {
            return Err(failed("threads: expected at least 1, found 0".to_string()));
        }
        let team = Team::new(threads)
            .map_err(|e| failed(format!("cannot start {threads} threads: {e}; ask for fewer")))?;
        let cache = cache::last_level(Path::new("/sys"), threads);
        Ok(Self { team: Arc::new(team), name, unit: VectorUnit::detect(vectors), cache })
    }
}

impl Backend for CpuBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            kind: "cpu",
            name: self.name.clone(),
            uuid: None,
            engine: format!("layerjoule-cpu {} ({}-lane f32)", env!("CARGO_PKG_VERSION"), self.unit.lanes),
            threads: self.team.threads(),
            cache: None,
            emulated: false,
            driver: None,
            cuda: None,
            cudnn: None,
        }
    }

    fn prepare(
        &self,
        network: &Network,
        plan: &Plan,
        tensors: &Tensors,
    ) -> Result<Box<dyn Executor>, BackendError> {
        let processor = Processor { team: Arc::clone(&self.team), unit: self.unit, cache: self.cache };
        let executor = CpuExecutor::new(&self.name, processor, network, plan, tensors)?;
        Ok(Box::new(executor))
    }
}

/// The first `model name` of /proc/cpuinfo (proc(5)), or the architecture where there is none.
fn model_name(cpuinfo: &str) -> String {
    let field = |line: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_string())
    };
    cpuinfo.lines().find_map(field).unwrap_or_else(|| format!("{} CPU", std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_named_as_the_kernel_names_it() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.0: GHz\nmodel name\t: another\n";
        assert_eq!(model_name(text), "Some CPU @ 2.0: GHz");
        assert_eq!(model_name(""), format!("{} CPU", std::env::consts::ARCH));
    }

    #[test]
    fn no_threads_are_an_error() {
        let error = CpuBackend::new(0).unwrap_err().to_string();
        assert!(error.contains("threads: expected at least 1, found 0"), "{error}");
        assert_eq!(CpuBackend::new(2).unwrap().info().threads, 2);
    }
}
