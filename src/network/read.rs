//! stub
use super::*;
/// e
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Network(#[from] NetworkError),
}
/// r
pub fn read(_p: &std::path::Path, _s: &[(String, i64)]) -> Result<Network, ReadError> {
    todo!()
}
