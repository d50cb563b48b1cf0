//! The sources of the kernels, put together for NVRTC.

use std::fmt;

use crate::plan::Precision;

/// The kernels of one source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::backend::cuda) enum Family {
    /// Element-wise activations.
    Activation,
    /// Batch normalisation at inference.
    BatchNorm,
    /// A bias per channel, in place.
    Bias,
    /// Convolution from its definition.
    Conv,
    /// Elements moved as they are.
    Copy,
    /// Sums and products.
    Elementwise,
    /// Mean and maximum over whole planes.
    GlobalPool,
    /// A fully connected layer from its definition.
    Linear,
    /// Local response normalisation.
    Lrn,
    /// A border of a constant.
    Pad,
    /// Mean and maximum over windows.
    Pool,
    /// Softmax along any axis.
    Softmax,
}

/// Text that a family needs before its own.
mod common {
    pub(super) const STORAGE: &str = include_str!("../../../../kernels/storage.cuh");
    pub(super) const GRID: &str = include_str!("../../../../kernels/grid.cuh");
    pub(super) const CHANNEL: &str = include_str!("../../../../kernels/channel.cuh");
    pub(super) const LINES: &str = include_str!("../../../../kernels/lines.cuh");
    pub(super) const PLANES: &str = include_str!("../../../../kernels/planes.cuh");
    pub(super) const STRIDED: &str = include_str!("../../../../kernels/strided.cuh");
}

impl Family {
    /// All of them.
    pub(in crate::backend::cuda) const ALL: [Self; 12] = [
        Self::Activation,
        Self::BatchNorm,
        Self::Bias,
        Self::Conv,
        Self::Copy,
        Self::Elementwise,
        Self::GlobalPool,
        Self::Linear,
        Self::Lrn,
        Self::Pad,
        Self::Pool,
        Self::Softmax,
    ];

    /// The name of its file in `kernels/`.
    pub(in crate::backend::cuda) const fn file(self) -> &'static str {
        match self {
            Self::Activation => "activation.cu",
            Self::BatchNorm => "batch_norm.cu",
            Self::Bias => "bias.cu",
            Self::Conv => "conv.cu",
            Self::Copy => "copy.cu",
            Self::Elementwise => "elementwise.cu",
            Self::GlobalPool => "global_pool.cu",
            Self::Linear => "linear.cu",
            Self::Lrn => "lrn.cu",
            Self::Pad => "pad.cu",
            Self::Pool => "pool.cu",
            Self::Softmax => "softmax.cu",
        }
    }

    /// What stands between the common text and the family's own, and that.
    const fn texts(self) -> [&'static str; 2] {
        match self {
            Self::Activation => ["", include_str!("../../../../kernels/activation.cu")],
            Self::BatchNorm => [common::CHANNEL, include_str!("../../../../kernels/batch_norm.cu")],
            Self::Bias => [common::CHANNEL, include_str!("../../../../kernels/bias.cu")],
            Self::Conv => [common::PLANES, include_str!("../../../../kernels/conv.cu")],
            Self::Copy => [common::STRIDED, include_str!("../../../../kernels/copy.cu")],
            Self::Elementwise => [common::STRIDED, include_str!("../../../../kernels/elementwise.cu")],
            Self::GlobalPool => [common::LINES, include_str!("../../../../kernels/global_pool.cu")],
            Self::Linear => ["", include_str!("../../../../kernels/linear.cu")],
            Self::Lrn => [common::PLANES, include_str!("../../../../kernels/lrn.cu")],
            Self::Pad => [common::PLANES, include_str!("../../../../kernels/pad.cu")],
            Self::Pool => [common::PLANES, include_str!("../../../../kernels/pool.cu")],
            Self::Softmax => [common::LINES, include_str!("../../../../kernels/softmax.cu")],
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file())
    }
}

/// The whole text of a family's kernels for numbers stored in this precision. It includes nothing: users need no CUDA
/// toolkit.
pub(in crate::backend::cuda) fn source(family: Family, precision: Precision) -> String {
    let storage = match precision {
        Precision::F32 | Precision::Tf32 => "STORAGE_F32",
        Precision::F16 => "STORAGE_F16",
        Precision::Bf16 => "STORAGE_BF16",
    };
    let [between, own] = family.texts();
    format!("#define {storage}\n{}\n{}\n{between}\n{own}", common::STORAGE, common::GRID)
}
