//! The vector unit that this processor has, found at run time.

use pulp::{Arch, Simd, WithSimd};

/// What kernels are laid out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VectorUnit {
    /// f32 elements of a vector.
    pub(super) lanes: usize,
    /// Vector registers.
    pub(super) registers: usize,
}

impl VectorUnit {
    /// The widest one that the processor and the operating system support.
    pub(super) fn detect() -> Self {
        struct Ask;
        impl WithSimd for Ask {
            type Output = VectorUnit;

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> VectorUnit {
                VectorUnit { lanes: S::F32_LANES, registers: S::REGISTER_COUNT }
            }
        }
        Arch::new().dispatch(Ask)
    }
}

/// Runs loops that the compiler turns into vector code, compiled for the widest vectors of this processor.
///
/// Only what is inlined into `work` profits.
#[inline(always)]
pub(super) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}
