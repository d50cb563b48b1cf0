//! Calls of the older interface that queue work: y = f(x).

use std::ffi::c_void;

use cudarc::cudnn::sys;

use crate::backend::cuda::driver::Stream;
use crate::backend::cuda::failure::Failure;

use super::call::done;
use super::descriptors::{LrnDescriptor, OpTensorDescriptor, PoolingDescriptor, TensorDescriptor};
use super::handle::Cudnn;

/// Factors of results and of what the output held; f32 for all of our types (cudnn_ops Library, "Scaling Parameters").
pub(super) const ONE: f32 = 1.0;
pub(super) const ZERO: f32 = 0.0;

/// A tensor in the device's memory.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend::cuda) struct Placed<'a>(
    pub(in crate::backend::cuda) &'a TensorDescriptor,
    pub(in crate::backend::cuda) u64,
);

pub(super) fn factor(value: &f32) -> *const c_void {
    std::ptr::from_ref(value).cast()
}

/// A device address for a call.
pub(super) fn at(address: u64) -> *mut c_void {
    address as *mut c_void
}

impl Cudnn {
    pub(in crate::backend::cuda) fn pool(
        &self,
        stream: &Stream,
        pooling: &PoolingDescriptor,
        Placed(x, x_at): Placed<'_>,
        Placed(y, y_at): Placed<'_>,
    ) -> Result<(), Failure> {
        let handle = self.on(stream)?;
        // SAFETY: handle and descriptors live; whoever queues holds memory of the descriptors' sizes at the addresses.
        let status = unsafe {
            sys::cudnnPoolingForward(
                handle,
                pooling.raw(),
                factor(&ONE),
                x.raw(),
                at(x_at),
                factor(&ZERO),
                y.raw(),
                at(y_at),
            )
        };
        done("cudnnPoolingForward", status)
    }

    /// Scale, shift, mean and variance are f32 vectors of the form `vectors`.
    pub(in crate::backend::cuda) fn batch_norm(
        &self,
        stream: &Stream,
        Placed(x, x_at): Placed<'_>,
        Placed(y, y_at): Placed<'_>,
        vectors: &TensorDescriptor,
        [scale, shift, mean, variance]: [u64; 4],
        epsilon: f32,
    ) -> Result<(), Failure> {
        let handle = self.on(stream)?;
        let mode = sys::cudnnBatchNormMode_t::CUDNN_BATCHNORM_SPATIAL;
        // SAFETY: as in `pool`.
        let status = unsafe {
            sys::cudnnBatchNormalizationForwardInference(
                handle,
                mode,
                factor(&ONE),
                factor(&ZERO),
                x.raw(),
                at(x_at),
                y.raw(),
                at(y_at),
                vectors.raw(),
                at(scale),
                at(shift),
                at(mean),
                at(variance),
                f64::from(epsilon),
            )
        };
        done("cudnnBatchNormalizationForwardInference", status)
    }

    pub(in crate::backend::cuda) fn lrn(
        &self,
        stream: &Stream,
        norm: &LrnDescriptor,
        Placed(x, x_at): Placed<'_>,
        Placed(y, y_at): Placed<'_>,
    ) -> Result<(), Failure> {
        let handle = self.on(stream)?;
        let mode = sys::cudnnLRNMode_t::CUDNN_LRN_CROSS_CHANNEL_DIM1;
        // SAFETY: as in `pool`.
        let status = unsafe {
            sys::cudnnLRNCrossChannelForward(
                handle,
                norm.raw(),
                mode,
                factor(&ONE),
                x.raw(),
                at(x_at),
                factor(&ZERO),
                y.raw(),
                at(y_at),
            )
        };
        done("cudnnLRNCrossChannelForward", status)
    }

    /// Over the channels, the largest number subtracted before it is raised.
    pub(in crate::backend::cuda) fn softmax(
        &self,
        stream: &Stream,
        Placed(x, x_at): Placed<'_>,
        Placed(y, y_at): Placed<'_>,
    ) -> Result<(), Failure> {
        let handle = self.on(stream)?;
        let algorithm = sys::cudnnSoftmaxAlgorithm_t::CUDNN_SOFTMAX_ACCURATE;
        let mode = sys::cudnnSoftmaxMode_t::CUDNN_SOFTMAX_MODE_CHANNEL;
        // SAFETY: as in `pool`.
        let status = unsafe {
            sys::cudnnSoftmaxForward(
                handle,
                algorithm,
                mode,
                factor(&ONE),
                x.raw(),
                at(x_at),
                factor(&ZERO),
                y.raw(),
                at(y_at),
            )
        };
        done("cudnnSoftmaxForward", status)
    }

    /// c = a and b together, all of one form.
    pub(in crate::backend::cuda) fn op_tensor(
        &self,
        stream: &Stream,
        operation: &OpTensorDescriptor,
        form: &TensorDescriptor,
        [a, b, c]: [u64; 3],
    ) -> Result<(), Failure> {
        let handle = self.on(stream)?;
        // SAFETY: as in `pool`.
        let status = unsafe {
            sys::cudnnOpTensor(
                handle,
                operation.raw(),
                factor(&ONE),
                form.raw(),
                at(a),
                factor(&ONE),
                form.raw(),
                at(b),
                factor(&ZERO),
                form.raw(),
                at(c),
            )
        };
        done("cudnnOpTensor", status)
    }
}
