//! Pointers of callers.
//!
//! A pointer that a function of CUDA takes becomes one of these types in the function's signature; they lie in memory
//! as the pointer does. What is promised for all of them is the C functions' contract: a pointer that is not null can
//! be read or written as its function's manual says, for as long as the call lasts.

use std::ffi::{CStr, c_char};

/// Where a function writes one value or several.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

/// What a function reads.
#[repr(transparent)]
pub(crate) struct In<T>(*const T);

/// A text that ends with a zero.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Text(*const c_char);

// Not derived: the pointers are copied, whatever they lead to.
impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T> Out<T> {
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Writes a value; false if there is no place for it.
    #[must_use]
    pub(crate) fn put(self, value: T) -> bool {
        self.put_at(0, value)
    }

    /// Writes the value at an index.
    #[must_use]
    pub(crate) fn put_at(self, index: usize, value: T) -> bool {
        if self.0.is_null() {
            return false;
        }
        // SAFETY: the caller of the C function promises room for as many values as it asked for.
        let place = unsafe { self.0.add(index) };
        // SAFETY: likewise; callers' buffers for attributes need not be aligned.
        unsafe { place.write_unaligned(value) };
        true
    }

    pub(crate) fn address(self) -> usize {
        self.0 as usize
    }
}

impl<T: Copy> In<T> {
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The value, if there is one.
    pub(crate) fn get(self) -> Option<T> {
        self.at(0)
    }

    /// The value at an index.
    pub(crate) fn at(self, index: usize) -> Option<T> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the caller of the C function promises as many values as it announced.
        let place = unsafe { self.0.add(index) };
        // SAFETY: likewise; callers' buffers for attributes need not be aligned.
        Some(unsafe { place.read_unaligned() })
    }

    /// So many values.
    pub(crate) fn all(self, count: usize) -> Option<Vec<T>> {
        (0..count).map(|index| self.at(index)).collect()
    }

    /// The same place, read as another type.
    pub(crate) fn cast<U>(self) -> In<U> {
        In(self.0.cast())
    }
}

impl Text {
    pub(crate) fn get(self) -> Option<String> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: it is not null, and the caller of the C function promises a zero at its end.
        let text = unsafe { CStr::from_ptr(self.0) };
        Some(text.to_string_lossy().into_owned())
    }
}

/// Copies bytes from the caller's memory.
pub(crate) fn host_bytes(address: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    // SAFETY: the caller of the C function promises so many bytes there; `bytes` has as many and is new.
    unsafe { std::ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), length) };
    bytes
}

/// Copies bytes into the caller's memory.
pub(crate) fn to_host(address: usize, bytes: &[u8]) {
    // SAFETY: the caller of the C function promises room for as many bytes as it asked for.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
}

impl<T> From<Out<T>> for In<T> {
    fn from(out: Out<T>) -> Self {
        Self(out.0)
    }
}
