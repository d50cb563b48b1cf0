//! A kernel's launch: which kernel, how many threads, what arguments.

use std::ffi::c_void;
use std::ptr;

use crate::backend::cuda::tensor::TensorForm;

use super::source::Family;

/// Threads of a block; the kernels' `__launch_bounds__`, and `BLOCK` of `kernels/lines.cuh`.
pub(super) const THREADS: u32 = 256;

/// Blocks of a launch at most; more work goes round in a thread. Far below the limit of 2^31 - 1 (CUDA C++ Programming
/// Guide, "Technical Specifications per Compute Capability"), far above what a device runs at once.
const MOST_BLOCKS: u64 = 1 << 20;

/// Bytes that a thread moves at once at most; places that it does so at are aligned to them.
const PACK: u64 = 16;

/// A tensor in the device's memory.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend::cuda) struct Tensor<'a> {
    /// How it lies there.
    pub(in crate::backend::cuda) form: &'a TensorForm,
    /// Address of its first number.
    pub(in crate::backend::cuda) at: u64,
}

/// An argument of a kernel, as its parameter is declared.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::backend::cuda) enum Argument {
    /// An address on the device; 0 is null.
    Pointer(u64),
    /// `int`
    I32(i32),
    /// `long long`
    I64(i64),
    /// `float`
    F32(f32),
    /// A struct of as many `long long`, by value.
    Words(Vec<i64>),
}

/// One launch of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::backend::cuda) struct Launch {
    /// The source that has the kernel.
    pub(in crate::backend::cuda) family: Family,
    /// The kernel's name.
    pub(in crate::backend::cuda) kernel: &'static str,
    /// Blocks along x, y and z.
    pub(in crate::backend::cuda) grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub(in crate::backend::cuda) block: [u32; 3],
    /// The kernel's arguments in order.
    pub(in crate::backend::cuda) arguments: Vec<Argument>,
}

/// Why no kernel takes a tensor as it lies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::backend::cuda) enum FormError {
    /// Its numbers lie in the order of another shape.
    #[error(
        "{operation}: a tensor of shape {shape:?} lies in the order of channels-last {channels_last:?}, where its own axes \
         have no distances; it must be reordered first"
    )]
    Flattened { operation: &'static str, shape: Vec<usize>, channels_last: [usize; 3] },
    /// It has other axes than the operation works on.
    #[error("{operation}: the shape {shape:?} does not have the axes that it works on")]
    Axes { operation: &'static str, shape: Vec<usize> },
}

impl Argument {
    /// Where its value lies, for `cuLaunchKernel`; valid as long as the argument is neither moved nor changed.
    pub(in crate::backend::cuda) fn value(&self) -> *mut c_void {
        match self {
            Self::Pointer(value) => ptr::from_ref(value).cast_mut().cast(),
            Self::I32(value) => ptr::from_ref(value).cast_mut().cast(),
            Self::I64(value) => ptr::from_ref(value).cast_mut().cast(),
            Self::F32(value) => ptr::from_ref(value).cast_mut().cast(),
            Self::Words(values) => values.as_ptr().cast_mut().cast(),
        }
    }
}

impl Launch {
    /// A launch of a thread for each of `threads`, or fewer that go round.
    pub(super) fn threads(
        family: Family,
        kernel: &'static str,
        threads: usize,
        arguments: Vec<Argument>,
    ) -> Self {
        let blocks = (threads as u64).div_ceil(u64::from(THREADS));
        Self { family, kernel, grid: grid(blocks), block: [THREADS, 1, 1], arguments }
    }

    /// A launch of a block for each of `blocks`, or fewer that go round.
    pub(super) fn blocks(
        family: Family,
        kernel: &'static str,
        blocks: usize,
        block: [u32; 3],
        arguments: Vec<Argument>,
    ) -> Self {
        Self { family, kernel, grid: grid(blocks as u64), block, arguments }
    }

    /// Where the arguments' values lie, for `cuLaunchKernel`; valid as long as the launch is neither moved nor changed.
    pub(in crate::backend::cuda) fn values(&self) -> Vec<*mut c_void> {
        self.arguments.iter().map(Argument::value).collect()
    }
}

/// A grid has a block even where there is nothing to do: an empty one is refused.
fn grid(blocks: u64) -> [u32; 3] {
    let blocks = blocks.clamp(1, MOST_BLOCKS);
    [u32::try_from(blocks).expect("at most 2^20"), 1, 1]
}

impl Tensor<'_> {
    pub(super) fn pointer(&self) -> Argument {
        Argument::Pointer(self.at)
    }

    /// Distances between neighbours along the axes of an item.
    pub(super) fn strides(&self, operation: &'static str) -> Result<Vec<usize>, FormError> {
        self.form.strides().ok_or_else(|| FormError::Flattened {
            operation,
            shape: self.form.shape.clone(),
            channels_last: self.form.channels_last.expect("a row-major tensor has distances"),
        })
    }

    /// Size of an axis of an item and the distance between neighbours along it.
    pub(super) fn axis(&self, axis: usize, operation: &'static str) -> Result<(usize, usize), FormError> {
        let strides = self.strides(operation)?;
        match (self.form.shape.get(axis), strides.get(axis)) {
            (Some(&size), Some(&stride)) => Ok((size, stride)),
            _ => Err(self.wrong_axes(operation)),
        }
    }

    pub(super) fn wrong_axes(&self, operation: &'static str) -> FormError {
        FormError::Axes { operation, shape: self.form.shape.clone() }
    }
}

/// How many whole packs tensors of one form have, all aligned to them; 0 where one is not.
pub(super) fn packs(form: &TensorForm, places: &[u64]) -> usize {
    if places.iter().all(|place| place % PACK == 0) { form.bytes() / PACK as usize } else { 0 }
}

/// A count, size or distance as kernels take it.
pub(super) fn long(count: usize) -> Argument {
    Argument::I64(word(count))
}

/// A number that counts what lies in memory, which is far below 2^63.
pub(super) fn word(count: usize) -> i64 {
    i64::try_from(count).expect("a count of things in memory")
}
