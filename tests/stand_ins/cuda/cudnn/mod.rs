//! cuDNN: handles, versions, and what all of its functions share.

mod convolution;
mod descriptors;
mod engines;
mod graph;
mod layers;

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int};
use std::sync::MutexGuard;

use cudarc::cudnn::sys::cudnnStatus_t as S;

use crate::arithmetic::{Scale, View};
use crate::machine::{Cu, Machine, machine};
use crate::pointers::{In, Out};
use crate::queue::Work;

use descriptors::Descriptor;

/// A status of cuDNN; any number may be asked for as a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u32);

impl From<S> for Status {
    fn from(status: S) -> Self {
        Self(status as u32)
    }
}

pub(crate) type Dnn<T> = Result<T, Status>;

pub(crate) fn status(result: Dnn<()>) -> u32 {
    result.map_or_else(|status| status.0, |()| 0)
}

/// Handles with their streams, and descriptors.
#[derive(Default)]
pub(crate) struct State {
    handles: BTreeMap<usize, usize>,
    descriptors: BTreeMap<usize, Descriptor>,
    backend: BTreeMap<usize, graph::Backend>,
}

/// The machine for a call that may fail on demand.
pub(crate) fn enter(function: &str) -> Dnn<MutexGuard<'static, Machine>> {
    let mut machine = machine();
    match machine.faults.of_call(function) {
        None => Ok(machine),
        Some(status) => Err(Status(status)),
    }
}

pub(crate) fn put<T>(to: Out<T>, value: T) -> Dnn<()> {
    if to.put(value) { Ok(()) } else { Err(S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER.into()) }
}

/// Refuses what the manual says is refused, and says why if that is wanted.
pub(crate) fn need(machine: &Machine, holds: bool, status: S, why: &str) -> Dnn<()> {
    if holds {
        return Ok(());
    }
    machine.say(why);
    Err(status.into())
}

/// alpha and beta: "pointers to scaling factors in host memory", binary32 for every type emulated here.
pub(crate) fn scale(alpha: In<f32>, beta: In<f32>) -> Dnn<Scale> {
    let read = |factor: In<f32>| factor.get().ok_or(S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
    Ok(Scale { alpha: read(alpha)?, beta: read(beta)? })
}

impl State {
    pub(crate) fn stream(&self, handle: usize) -> Dnn<usize> {
        self.handles.get(&handle).copied().ok_or_else(|| S::CUDNN_STATUS_NOT_INITIALIZED.into())
    }
}

/// A failure of the driver below cuDNN.
fn executed(result: Cu<()>) -> Dnn<()> {
    result.map_err(|_| S::CUDNN_STATUS_EXECUTION_FAILED.into())
}

impl Machine {
    /// Starts a kernel of cuDNN's on its handle's stream.
    pub(crate) fn run(&mut self, handle: usize, work: Work) -> Dnn<()> {
        let stream = self.cudnn.stream(handle)?;
        if self.sticky.is_some() {
            return Err(S::CUDNN_STATUS_EXECUTION_FAILED.into());
        }
        executed(self.submit(stream, work))
    }
}

#[unsafe(no_mangle)]
extern "C" fn cudnnCreate(handle: Out<usize>) -> u32 {
    status(enter("cudnnCreate").and_then(|mut machine| {
        // Without a device: NOT_INITIALIZED, as the real library says (measured without a driver).
        let works = machine.faults.of_call("cuInit").is_none() && machine.sticky.is_none();
        need(&machine, works, S::CUDNN_STATUS_NOT_INITIALIZED, "cudnnCreate: no device")?;
        let new = machine.new_handle();
        put(handle, new)?;
        machine.cudnn.handles.insert(new, 0);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnDestroy(handle: usize) -> u32 {
    status(enter("cudnnDestroy").and_then(|mut machine| {
        machine.cudnn.handles.remove(&handle).map(|_| ()).ok_or_else(|| S::CUDNN_STATUS_BAD_PARAM.into())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetStream(handle: usize, stream: usize) -> u32 {
    status(enter("cudnnSetStream").and_then(|mut machine| {
        machine.cudnn.stream(handle)?;
        // "BAD_PARAM: invalid (NULL) handle. MAPPING_ERROR: mismatch between the user stream and the cuDNN handle context."
        machine.stream(stream).map_err(|_| S::CUDNN_STATUS_BAD_PARAM)?;
        machine.cudnn.handles.insert(handle, stream);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGetCudartVersion() -> usize {
    13_000
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGetVersion() -> usize {
    91_200
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGetProperty(property: c_int, value: Out<c_int>) -> u32 {
    // MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL.
    let known = [9, 12, 0].get(usize::try_from(property).unwrap_or(3)).copied();
    status(known.ok_or_else(|| S::CUDNN_STATUS_BAD_PARAM.into()).and_then(|known| put(value, known)))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnCnnVersionCheck() -> u32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGraphVersionCheck() -> u32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cudnnOpsVersionCheck() -> u32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGetErrorString(code: u32) -> *const c_char {
    let text = match code {
        0 => c"CUDNN_STATUS_SUCCESS",
        1001 => c"CUDNN_STATUS_NOT_INITIALIZED",
        2000 => c"CUDNN_STATUS_BAD_PARAM",
        2002 => c"CUDNN_STATUS_BAD_PARAM_NULL_POINTER",
        2003 => c"CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER",
        2004 => c"CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED",
        2006 => c"CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT",
        2008 => c"CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH",
        2010 => c"CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE",
        3000 => c"CUDNN_STATUS_NOT_SUPPORTED",
        4000 => c"CUDNN_STATUS_INTERNAL_ERROR",
        5000 => c"CUDNN_STATUS_EXECUTION_FAILED",
        _ => c"CUDNN_UNKNOWN_STATUS",
    };
    text.as_ptr()
}

/// It has no more to say than the status.
#[unsafe(no_mangle)]
unsafe extern "C" fn cudnnGetLastErrorString(text: *mut c_char, size: usize) {
    if size > 0 && !text.is_null() {
        // SAFETY: cudnn_graph Library: a place for `size` bytes.
        unsafe { text.write(0) };
    }
}

/// Whether two tensors have the same shape.
fn same_dims(a: &View, b: &View) -> bool {
    a.dims == b.dims
}
