//! stub
use super::*;
/// c
pub struct CpuBackend;
impl CpuBackend {
    /// n
    pub fn new(_: usize) -> Result<Self, BackendError> {
        Ok(Self)
    }
}
impl Backend for CpuBackend {
    fn info(&self) -> BackendInfo {
        todo!()
    }
    fn prepare(&self, _: &Network, _: &Plan, _: &Tensors) -> Result<Box<dyn Executor>, BackendError> {
        todo!()
    }
}
