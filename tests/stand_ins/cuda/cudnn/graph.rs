//! The graph interface (cuDNN, "cudnn_graph").

use cudarc::cudnn::sys::cudnnStatus_t as S;

/// A descriptor of the graph interface.
pub(crate) struct Backend;

macro_rules! not_yet {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> u32 {
            S::CUDNN_STATUS_NOT_SUPPORTED as u32
        }
    )*};
}

not_yet! {
    cudnnBackendCreateDescriptor cudnnBackendDestroyDescriptor cudnnBackendExecute cudnnBackendFinalize
    cudnnBackendGetAttribute cudnnBackendSetAttribute
}
