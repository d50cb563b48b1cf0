//! Descriptors of the older interface, each destroyed when dropped.

use cudarc::cudnn::sys::{self, cudnnDataType_t as DataType};

use crate::backend::cuda::failure::Failure;
use crate::network::{Lrn, Pool};
use crate::plan::{Layout, Precision};

use super::call::{done, int};
use super::view::View;

/// A descriptor: a handle of its own type, made and destroyed by functions of its own.
macro_rules! descriptor {
    ($(#[$doc:meta])* $name:ident, $handle:ident, $create:ident, $destroy:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(in crate::backend::cuda) struct $name(sys::$handle);

        impl $name {
            fn create() -> Result<Self, Failure> {
                let mut handle = std::ptr::null_mut();
                // SAFETY: it writes one handle, destroyed in `drop`; whoever calls holds the library's handle.
                done(stringify!($create), unsafe { sys::$create(&raw mut handle) })?;
                Ok(Self(handle))
            }

            pub(super) fn raw(&self) -> sys::$handle {
                self.0
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: created in `create` and destroyed once; work that is queued does not need it any more.
                let _ = unsafe { sys::$destroy(self.0) };
            }
        }
    };
}

descriptor!(
    /// Sizes, distances and type of a tensor.
    TensorDescriptor, cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor
);
descriptor!(
    /// Sizes, order and type of filters.
    FilterDescriptor, cudnnFilterDescriptor_t, cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor
);
descriptor!(
    /// Padding, steps and arithmetic of a convolution.
    ConvolutionDescriptor,
    cudnnConvolutionDescriptor_t,
    cudnnCreateConvolutionDescriptor,
    cudnnDestroyConvolutionDescriptor
);
descriptor!(
    /// Window and kind of a pooling.
    PoolingDescriptor, cudnnPoolingDescriptor_t, cudnnCreatePoolingDescriptor, cudnnDestroyPoolingDescriptor
);
descriptor!(
    /// Numbers of a local response normalisation.
    LrnDescriptor, cudnnLRNDescriptor_t, cudnnCreateLRNDescriptor, cudnnDestroyLRNDescriptor
);
descriptor!(
    /// An operation on two tensors.
    OpTensorDescriptor, cudnnOpTensorDescriptor_t, cudnnCreateOpTensorDescriptor, cudnnDestroyOpTensorDescriptor
);
descriptor!(
    /// An activation.
    ActivationDescriptor,
    cudnnActivationDescriptor_t,
    cudnnCreateActivationDescriptor,
    cudnnDestroyActivationDescriptor
);

/// How numbers are stored.
pub(super) const fn data_type(precision: Precision) -> DataType {
    match precision {
        Precision::F32 | Precision::Tf32 => DataType::CUDNN_DATA_FLOAT,
        Precision::F16 => DataType::CUDNN_DATA_HALF,
        Precision::Bf16 => DataType::CUDNN_DATA_BFLOAT16,
    }
}

impl TensorDescriptor {
    pub(in crate::backend::cuda) fn new(view: View, precision: Precision) -> Result<Self, Failure> {
        const SET: &str = "cudnnSetTensor4dDescriptorEx";
        let tensor = Self::create()?;
        let [n, c, h, w] = ints(SET, view.sizes)?;
        let [n_step, c_step, h_step, w_step] = ints(SET, view.strides)?;
        // SAFETY: the descriptor lives.
        let status = unsafe {
            sys::cudnnSetTensor4dDescriptorEx(
                tensor.0,
                data_type(precision),
                n,
                c,
                h,
                w,
                n_step,
                c_step,
                h_step,
                w_step,
            )
        };
        done(SET, status)?;
        Ok(tensor)
    }

    /// The vectors of a batch normalisation per channel of tensors like `x`.
    pub(in crate::backend::cuda) fn of_channels(x: &Self) -> Result<Self, Failure> {
        let vectors = Self::create()?;
        let mode = sys::cudnnBatchNormMode_t::CUDNN_BATCHNORM_SPATIAL;
        // SAFETY: both descriptors live, and `x` is set.
        let status = unsafe { sys::cudnnDeriveBNTensorDescriptor(vectors.0, x.0, mode) };
        done("cudnnDeriveBNTensorDescriptor", status)?;
        Ok(vectors)
    }
}

impl FilterDescriptor {
    /// Filters of output channels x input channels x rows x columns, in the order of a layout.
    pub(super) fn new(sizes: [usize; 4], layout: Layout, precision: Precision) -> Result<Self, Failure> {
        const SET: &str = "cudnnSetFilter4dDescriptor";
        let filter = Self::create()?;
        let [k, c, r, s] = ints(SET, sizes)?;
        let format = match layout {
            Layout::Nchw => sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
            Layout::Nhwc => sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
        };
        // SAFETY: the descriptor lives.
        let status =
            unsafe { sys::cudnnSetFilter4dDescriptor(filter.0, data_type(precision), format, k, c, r, s) };
        done(SET, status)?;
        Ok(filter)
    }
}

impl ConvolutionDescriptor {
    /// With the same padding on both sides; sums are kept in f32.
    pub(super) fn new(
        padding: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
        groups: usize,
    ) -> Result<Self, Failure> {
        const SET: &str = "cudnnSetConvolution2dDescriptor";
        const GROUPS: &str = "cudnnSetConvolutionGroupCount";
        let convolution = Self::create()?;
        let ([top, left], [down, right], [rows, columns]) =
            (ints(SET, padding)?, ints(SET, stride)?, ints(SET, dilation)?);
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let sums = DataType::CUDNN_DATA_FLOAT;
        // SAFETY: the descriptor lives.
        let status = unsafe {
            sys::cudnnSetConvolution2dDescriptor(
                convolution.0,
                top,
                left,
                down,
                right,
                rows,
                columns,
                mode,
                sums,
            )
        };
        done(SET, status)?;
        let groups = int(GROUPS, groups)?;
        // SAFETY: the descriptor lives and is set.
        done(GROUPS, unsafe { sys::cudnnSetConvolutionGroupCount(convolution.0, groups) })?;
        Ok(convolution)
    }

    pub(super) fn set_math(&self, math: sys::cudnnMathType_t) -> Result<(), Failure> {
        // SAFETY: the descriptor lives and is set.
        let status = unsafe { sys::cudnnSetConvolutionMathType(self.0, math) };
        done("cudnnSetConvolutionMathType", status)
    }
}

/// What becomes of the numbers in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::cuda) enum PoolingMode {
    Maximum,
    /// Padding counts as zeros.
    MeanWithPadding,
    MeanWithoutPadding,
}

impl PoolingDescriptor {
    /// The first two numbers of the padding are taken for all four, and no dilation: whoever calls has made sure.
    pub(in crate::backend::cuda) fn new(mode: PoolingMode, pool: &Pool) -> Result<Self, Failure> {
        const SET: &str = "cudnnSetPooling2dDescriptor";
        let pooling = Self::create()?;
        let mode = match mode {
            PoolingMode::Maximum => sys::cudnnPoolingMode_t::CUDNN_POOLING_MAX,
            PoolingMode::MeanWithPadding => {
                sys::cudnnPoolingMode_t::CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING
            }
            PoolingMode::MeanWithoutPadding => {
                sys::cudnnPoolingMode_t::CUDNN_POOLING_AVERAGE_COUNT_EXCLUDE_PADDING
            }
        };
        let nan = sys::cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN;
        let [rows, columns] = ints(SET, pool.kernel)?;
        let [top, left] = ints(SET, [pool.padding[0], pool.padding[1]])?;
        let [down, right] = ints(SET, pool.stride)?;
        // SAFETY: the descriptor lives.
        let status = unsafe {
            sys::cudnnSetPooling2dDescriptor(pooling.0, mode, nan, rows, columns, top, left, down, right)
        };
        done(SET, status)?;
        Ok(pooling)
    }
}

impl LrnDescriptor {
    /// cuDNN divides alpha by the size of the window, as ONNX does, and looks back (size - 1) / 2 channels, rounded down,
    /// and ahead over the rest (cudnn_ops Library, `cudnnSetLRNDescriptor`).
    pub(in crate::backend::cuda) fn new(lrn: &Lrn) -> Result<Self, Failure> {
        const SET: &str = "cudnnSetLRNDescriptor";
        let norm = Self::create()?;
        let size = int(SET, lrn.size)?.unsigned_abs();
        let [alpha, beta, k] = [lrn.alpha, lrn.beta, lrn.k].map(f64::from);
        // SAFETY: the descriptor lives.
        done(SET, unsafe { sys::cudnnSetLRNDescriptor(norm.0, size, alpha, beta, k) })?;
        Ok(norm)
    }
}

impl OpTensorDescriptor {
    /// A sum, computed in f32.
    pub(in crate::backend::cuda) fn sum() -> Result<Self, Failure> {
        let sum = Self::create()?;
        let (operation, sums) = (sys::cudnnOpTensorOp_t::CUDNN_OP_TENSOR_ADD, DataType::CUDNN_DATA_FLOAT);
        let nan = sys::cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN;
        // SAFETY: the descriptor lives.
        let status = unsafe { sys::cudnnSetOpTensorDescriptor(sum.0, operation, sums, nan) };
        done("cudnnSetOpTensorDescriptor", status)?;
        Ok(sum)
    }
}

impl ActivationDescriptor {
    /// No activation.
    pub(in crate::backend::cuda) fn identity() -> Result<Self, Failure> {
        let identity = Self::create()?;
        let mode = sys::cudnnActivationMode_t::CUDNN_ACTIVATION_IDENTITY;
        let nan = sys::cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN;
        // SAFETY: the descriptor lives; the coefficient is of no meaning for this mode.
        let status = unsafe { sys::cudnnSetActivationDescriptor(identity.0, mode, nan, 0.0) };
        done("cudnnSetActivationDescriptor", status)?;
        Ok(identity)
    }
}

fn ints<const N: usize>(function: &'static str, values: [usize; N]) -> Result<[i32; N], Failure> {
    let mut ints = [0; N];
    for (to, from) in ints.iter_mut().zip(values) {
        *to = int(function, from)?;
    }
    Ok(ints)
}
