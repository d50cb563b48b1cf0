//! The vector unit that this processor has, found at run time.

use pulp::{Arch, Simd, WithSimd};

/// The widest vectors that the engine may use. It never uses wider ones than the processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vectors {
    /// Whatever the processor has.
    #[default]
    Widest,
    /// At most AVX2 on x86-64.
    Avx2,
    /// One element at a time.
    Scalar,
}

/// What kernels are laid out for, and run on.
#[derive(Debug, Clone, Copy)]
pub(super) struct VectorUnit {
    pub(super) arch: Arch,
    /// f32 elements of a vector.
    pub(super) lanes: usize,
    /// Vector registers.
    pub(super) registers: usize,
}

impl VectorUnit {
    /// The widest one that is allowed and that the processor and the operating system support.
    pub(super) fn detect(vectors: Vectors) -> Self {
        struct Ask(Arch);
        impl WithSimd for Ask {
            type Output = VectorUnit;

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> VectorUnit {
                VectorUnit { arch: self.0, lanes: S::F32_LANES, registers: S::REGISTER_COUNT }
            }
        }
        let arch = arch(vectors);
        arch.dispatch(Ask(arch))
    }
}

#[cfg(target_arch = "x86_64")]
fn arch(vectors: Vectors) -> Arch {
    match vectors {
        Vectors::Widest => Arch::new(),
        Vectors::Avx2 => pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3),
        Vectors::Scalar => Arch::Scalar,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn arch(vectors: Vectors) -> Arch {
    match vectors {
        Vectors::Widest | Vectors::Avx2 => Arch::new(),
        Vectors::Scalar => Arch::Scalar,
    }
}

/// Runs loops that the compiler turns into vector code, compiled for the widest vectors of this processor.
///
/// Only what is inlined into `work` profits.
#[inline(always)]
pub(super) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}
