//! Descriptors of the graph interface: attributes by name and type, sealed before use.

use std::ffi::c_void;

use cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type,
    cudnnBackendDescriptorType_t as Kind,
};

use crate::backend::cuda::failure::Failure;

use super::call::done;

/// A descriptor, destroyed when dropped. A descriptor that it was given is copied or counted by the library: it may go
/// first.
#[derive(Debug)]
pub(super) struct Descriptor(sys::cudnnBackendDescriptor_t);

/// A type whose values an attribute has.
pub(super) trait Attribute: Copy {
    const TYPE: Type;
}

/// Declares attribute types: a plain one, or one of our own around a number.
macro_rules! attribute {
    ($($rust:ty => $type:ident),* $(,)?) => {
        $(impl Attribute for $rust {
            const TYPE: Type = Type::$type;
        })*
    };
}

attribute!(
    i64 => CUDNN_TYPE_INT64,
    f32 => CUDNN_TYPE_FLOAT,
    bool => CUDNN_TYPE_BOOLEAN,
    *mut c_void => CUDNN_TYPE_VOID_PTR,
    sys::cudnnHandle_t => CUDNN_TYPE_HANDLE,
    sys::cudnnDataType_t => CUDNN_TYPE_DATA_TYPE,
    sys::cudnnConvolutionMode_t => CUDNN_TYPE_CONVOLUTION_MODE,
    sys::cudnnPointwiseMode_t => CUDNN_TYPE_POINTWISE_MODE,
    sys::cudnnBackendHeurMode_t => CUDNN_TYPE_HEUR_MODE,
    Note => CUDNN_TYPE_NUMERICAL_NOTE,
    Knob => CUDNN_TYPE_KNOB_TYPE,
);

/// `cudnnBackendNumericalNote_t` as a number: a newer library may have notes that the binding lacks.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Note(pub(super) u32);

/// `cudnnBackendKnobType_t` as a number, for the same reason.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Knob(pub(super) u32);

/// A count for the library.
fn long(count: usize) -> i64 {
    i64::try_from(count).expect("counts of things in memory are far below 2^63")
}

impl Descriptor {
    pub(super) fn new(kind: Kind) -> Result<Self, Failure> {
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: it writes one handle, destroyed in `drop`; whoever calls holds the library's handle.
        let status = unsafe { sys::cudnnBackendCreateDescriptor(kind, &raw mut descriptor) };
        done("cudnnBackendCreateDescriptor", status)?;
        Ok(Self(descriptor))
    }

    pub(super) fn raw(&self) -> sys::cudnnBackendDescriptor_t {
        self.0
    }

    pub(super) fn set<T: Attribute>(&self, name: Name, values: &[T]) -> Result<(), Failure> {
        self.set_raw(name, T::TYPE, values.len(), values.as_ptr().cast())
    }

    pub(super) fn set_descriptors(&self, name: Name, values: &[&Self]) -> Result<(), Failure> {
        let handles: Vec<_> = values.iter().map(|value| value.0).collect();
        self.set_raw(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, handles.len(), handles.as_ptr().cast())
    }

    fn set_raw(&self, name: Name, kind: Type, count: usize, values: *const c_void) -> Result<(), Failure> {
        // SAFETY: the descriptor lives; there are `count` values of this type, which the library copies.
        let status = unsafe { sys::cudnnBackendSetAttribute(self.0, name, kind, long(count), values) };
        done("cudnnBackendSetAttribute", status)
    }

    /// Checks the attributes; they cannot be changed any more.
    pub(super) fn finalize(self) -> Result<Self, Failure> {
        // SAFETY: the descriptor lives.
        done("cudnnBackendFinalize", unsafe { sys::cudnnBackendFinalize(self.0) })?;
        Ok(self)
    }

    /// An attribute's values, `most` at most.
    pub(super) fn get<T: Attribute + Default>(&self, name: Name, most: usize) -> Result<Vec<T>, Failure> {
        let mut values = vec![T::default(); most];
        let count = self.get_raw(name, T::TYPE, most, values.as_mut_ptr().cast())?;
        values.truncate(count);
        Ok(values)
    }

    /// An attribute's only value.
    pub(super) fn get_one<T: Attribute + Default>(&self, name: Name) -> Result<T, Failure> {
        let missing = || Failure::refused("cudnnBackendGetAttribute", format!("{name:?} has no value"));
        self.get(name, 1)?.first().copied().ok_or_else(missing)
    }

    /// Descriptors that an attribute consists of, `most` at most. They are made empty here, and the library fills them.
    pub(super) fn get_descriptors(&self, name: Name, kind: Kind, most: usize) -> Result<Vec<Self>, Failure> {
        let mut found = (0..most).map(|_| Self::new(kind)).collect::<Result<Vec<_>, _>>()?;
        let mut handles: Vec<_> = found.iter().map(|descriptor| descriptor.0).collect();
        let places = handles.as_mut_ptr().cast();
        let count = self.get_raw(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, most, places)?;
        found.truncate(count);
        Ok(found)
    }

    /// How many values an attribute has.
    pub(super) fn count_descriptors(&self, name: Name) -> Result<usize, Failure> {
        self.get_raw(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, std::ptr::null_mut())
    }

    fn get_raw(&self, name: Name, kind: Type, most: usize, places: *mut c_void) -> Result<usize, Failure> {
        let mut count = 0;
        // SAFETY: the descriptor lives; there are places for `most` values of this type.
        let status =
            unsafe { sys::cudnnBackendGetAttribute(self.0, name, kind, long(most), &raw mut count, places) };
        done("cudnnBackendGetAttribute", status)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: created in `new` and destroyed once.
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}
