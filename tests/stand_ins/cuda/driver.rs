//! The driver's functions: device, context, memory, streams, events. Graphs and kernels have their own files.

use std::ffi::{c_char, c_int, c_uchar, c_uint, c_void};

use cudarc::driver::sys::{CUdevice_attribute as A, CUresult as R};

use crate::graphs::may_block;
use crate::machine::{
    CONTEXT, Code, Cu, Machine, code, current, enter, enter_context, put, set_current, sleep_until,
    uuid_bytes,
};
use crate::pointers::{Out, host_bytes, to_host};
use crate::queue::{Event, Kind, Stream, Work, not_ready};

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: c_uint) -> u32 {
    code(enter("cuInit").and_then(|mut machine| {
        // "Flags must be 0."
        if flags != 0 {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        machine.initialised = true;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuDriverGetVersion(version: Out<c_int>) -> u32 {
    code(enter("cuDriverGetVersion").and_then(|machine| put(version, machine.settings.cuda)))
}

/// Codes with their names and texts as in the manual's section "CUresult".
const ERRORS: [(R, &std::ffi::CStr, &std::ffi::CStr); 24] = [
    (R::CUDA_SUCCESS, c"CUDA_SUCCESS", c"no error"),
    (R::CUDA_ERROR_INVALID_VALUE, c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
    (R::CUDA_ERROR_OUT_OF_MEMORY, c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"),
    (R::CUDA_ERROR_NOT_INITIALIZED, c"CUDA_ERROR_NOT_INITIALIZED", c"initialization error"),
    (R::CUDA_ERROR_NO_DEVICE, c"CUDA_ERROR_NO_DEVICE", c"no CUDA-capable device is detected"),
    (R::CUDA_ERROR_INVALID_DEVICE, c"CUDA_ERROR_INVALID_DEVICE", c"invalid device ordinal"),
    (R::CUDA_ERROR_INVALID_IMAGE, c"CUDA_ERROR_INVALID_IMAGE", c"device kernel image is invalid"),
    (R::CUDA_ERROR_INVALID_CONTEXT, c"CUDA_ERROR_INVALID_CONTEXT", c"invalid device context"),
    (
        R::CUDA_ERROR_NO_BINARY_FOR_GPU,
        c"CUDA_ERROR_NO_BINARY_FOR_GPU",
        c"no kernel image is available for execution on the device",
    ),
    (
        R::CUDA_ERROR_ECC_UNCORRECTABLE,
        c"CUDA_ERROR_ECC_UNCORRECTABLE",
        c"uncorrectable ECC error encountered",
    ),
    (R::CUDA_ERROR_INVALID_HANDLE, c"CUDA_ERROR_INVALID_HANDLE", c"invalid resource handle"),
    (
        R::CUDA_ERROR_ILLEGAL_STATE,
        c"CUDA_ERROR_ILLEGAL_STATE",
        c"the operation cannot be performed in the present state",
    ),
    (R::CUDA_ERROR_NOT_FOUND, c"CUDA_ERROR_NOT_FOUND", c"named symbol not found"),
    (R::CUDA_ERROR_NOT_READY, c"CUDA_ERROR_NOT_READY", c"device not ready"),
    (
        R::CUDA_ERROR_ILLEGAL_ADDRESS,
        c"CUDA_ERROR_ILLEGAL_ADDRESS",
        c"an illegal memory access was encountered",
    ),
    (R::CUDA_ERROR_MISALIGNED_ADDRESS, c"CUDA_ERROR_MISALIGNED_ADDRESS", c"misaligned address"),
    (R::CUDA_ERROR_LAUNCH_FAILED, c"CUDA_ERROR_LAUNCH_FAILED", c"unspecified launch failure"),
    (R::CUDA_ERROR_LAUNCH_TIMEOUT, c"CUDA_ERROR_LAUNCH_TIMEOUT", c"the launch timed out and was terminated"),
    (R::CUDA_ERROR_NOT_SUPPORTED, c"CUDA_ERROR_NOT_SUPPORTED", c"operation not supported"),
    (
        R::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        c"operation not permitted when stream is capturing",
    ),
    (
        R::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
        c"operation failed due to a previous error during capture",
    ),
    (
        R::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
        c"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
        c"operation would make the legacy stream depend on a capturing blocking stream",
    ),
    (
        R::CUDA_ERROR_CAPTURED_EVENT,
        c"CUDA_ERROR_CAPTURED_EVENT",
        c"operation not permitted on an event last recorded in a capturing stream",
    ),
    (R::CUDA_ERROR_UNKNOWN, c"CUDA_ERROR_UNKNOWN", c"unknown error"),
];

fn error_text(error: u32, to: Out<*const c_char>, name: bool) -> u32 {
    let found = ERRORS.iter().find(|(code, ..)| *code as u32 == error);
    let text = found.map(|(_, own, words)| if name { own.as_ptr() } else { words.as_ptr() });
    // "If the error code is not recognized, CUDA_ERROR_INVALID_VALUE will be returned and *pStr will be set to NULL."
    let written = to.put(text.unwrap_or(std::ptr::null()));
    if written && text.is_some() { 0 } else { R::CUDA_ERROR_INVALID_VALUE as u32 }
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(error: u32, to: Out<*const c_char>) -> u32 {
    error_text(error, to, true)
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorString(error: u32, to: Out<*const c_char>) -> u32 {
    error_text(error, to, false)
}

// Devices.

/// The machine for a question about a device, of which there is only number 0.
fn enter_device(function: &str, device: c_int) -> Cu<std::sync::MutexGuard<'static, Machine>> {
    let machine = enter(function)?;
    if !machine.initialised {
        return Err(R::CUDA_ERROR_NOT_INITIALIZED.into());
    }
    if device == 0 { Ok(machine) } else { Err(R::CUDA_ERROR_INVALID_DEVICE.into()) }
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: Out<c_int>) -> u32 {
    code(enter_device("cuDeviceGetCount", 0).and_then(|_machine| put(count, 1)))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(device: Out<c_int>, ordinal: c_int) -> u32 {
    code(enter_device("cuDeviceGet", ordinal).and_then(|_machine| put(device, ordinal)))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetName(name: Out<u8>, length: c_int, device: c_int) -> u32 {
    code(enter_device("cuDeviceGetName", device).and_then(|machine| {
        let room =
            usize::try_from(length).ok().filter(|room| *room > 0).ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
        let text = machine.settings.name.bytes().take(room - 1).chain([0]);
        text.enumerate().try_for_each(|(at, byte)| {
            if name.put_at(at, byte) { Ok(()) } else { Err(R::CUDA_ERROR_INVALID_VALUE.into()) }
        })
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: c_int) -> u32 {
    code(enter_device("cuDeviceGetUuid_v2", device).and_then(|machine| {
        put(uuid, uuid_bytes(&machine.settings.uuid).expect("it was looked at when it was set"))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: c_int) -> u32 {
    code(enter_device("cuDeviceTotalMem_v2", device).and_then(|machine| put(bytes, machine.memory.total())))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetAttribute(value: Out<c_int>, attribute: u32, device: c_int) -> u32 {
    code(enter_device("cuDeviceGetAttribute", device).and_then(|machine| {
        let settings = &machine.settings;
        let known = [
            (A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, settings.capability.0),
            (A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, settings.capability.1),
            (A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, settings.multiprocessors),
            (A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, settings.l2),
            (A::CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32),
            (A::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024),
            (A::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024),
            (A::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024),
            (A::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64),
            (A::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, i32::MAX),
            (A::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65_535),
            (A::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65_535),
            (A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 48 << 10),
            (A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 96 << 10),
            (A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 100 << 10),
            (A::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65_536),
            (A::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65_536),
            (A::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048),
            (A::CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32),
            (A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1_000_000),
            (A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1_000_000),
            (A::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 64),
            (A::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 1),
            (A::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, 0),
            (A::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, 0),
            (A::CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, 0),
            (A::CU_DEVICE_ATTRIBUTE_ECC_ENABLED, 1),
            (A::CU_DEVICE_ATTRIBUTE_INTEGRATED, 0),
            (A::CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1),
            (A::CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1),
            (A::CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1),
            (A::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1),
        ];
        let found = known.iter().find(|(name, _)| *name as u32 == attribute);
        if found.is_none() {
            machine.say(&format!("cuDeviceGetAttribute: attribute {attribute} is not emulated"));
        }
        put(value, found.ok_or(R::CUDA_ERROR_INVALID_VALUE)?.1)
    }))
}

// Contexts.

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(context: Out<usize>, device: c_int) -> u32 {
    code(enter_device("cuDevicePrimaryCtxRetain", device).and_then(|mut machine| {
        put(context, CONTEXT)?;
        machine.retained += 1;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> u32 {
    code(enter_device("cuDevicePrimaryCtxRelease_v2", device).and_then(|mut machine| {
        machine.retained = machine.retained.checked_sub(1).ok_or(R::CUDA_ERROR_INVALID_CONTEXT)?;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCurrent(context: Out<usize>) -> u32 {
    code(enter_device("cuCtxGetCurrent", 0).and_then(|_machine| put(context, current())))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: usize) -> u32 {
    code(enter_device("cuCtxSetCurrent", 0).and_then(|_machine| {
        if context != 0 && context != CONTEXT {
            return Err(R::CUDA_ERROR_INVALID_CONTEXT.into());
        }
        set_current(context);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> u32 {
    code(enter_context("cuCtxSynchronize").and_then(|mut machine| {
        // It would have to wait for a stream that does not run.
        if let Some(capture) = machine.queue.captures.values_mut().next() {
            capture.invalid = true;
            return Err(R::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.into());
        }
        let end = machine.queue.streams.values().map(|stream| stream.end).fold(0.0, f64::max);
        wait_until(machine, end)
    }))
}

/// Waits without holding the machine, so that other threads can go on.
fn wait_until(machine: std::sync::MutexGuard<'static, Machine>, end: f64) -> Cu<()> {
    let clock = machine.clock;
    drop(machine);
    sleep_until(&clock, end);
    crate::machine::machine().settle(end)
}

// Memory.

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(pointer: Out<u64>, bytes: usize) -> u32 {
    code(enter_context("cuMemAlloc_v2").and_then(|mut machine| {
        may_block(&mut machine)?;
        let address = machine.memory.allocate(bytes)?;
        put(pointer, address as u64)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocAsync(pointer: Out<u64>, bytes: usize, stream: usize) -> u32 {
    code(enter_context("cuMemAllocAsync").and_then(|mut machine| {
        // Real graphs can have allocation nodes; these cannot.
        if machine.capture_of(stream)?.is_some() {
            return Err(R::CUDA_ERROR_NOT_SUPPORTED.into());
        }
        let address = machine.memory.allocate(bytes)?;
        put(pointer, address as u64)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(pointer: u64) -> u32 {
    code(enter_context("cuMemFree_v2").and_then(|mut machine| {
        may_block(&mut machine)?;
        // "cuMemFree … Note that this function may also return error codes from previous, asynchronous launches"; freeing
        // null does nothing.
        if pointer == 0 { Ok(()) } else { free(&mut machine, pointer) }
    }))
}

fn free(machine: &mut Machine, pointer: u64) -> Cu<()> {
    let freed = machine.memory.free(pointer as usize);
    if freed == Err(R::CUDA_ERROR_ILLEGAL_ADDRESS) {
        machine
            .fail(R::CUDA_ERROR_ILLEGAL_ADDRESS as u32, "something wrote around an allocation that is freed");
    }
    Ok(freed?)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(pointer: u64, stream: usize) -> u32 {
    code(enter_context("cuMemFreeAsync").and_then(|mut machine| {
        if machine.capture_of(stream)?.is_some() {
            return Err(R::CUDA_ERROR_NOT_SUPPORTED.into());
        }
        free(&mut machine, pointer)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) -> u32 {
    code(enter_context("cuMemGetInfo_v2").and_then(|machine| {
        put(free, machine.memory.total() - machine.memory.in_use())?;
        put(total, machine.memory.total())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostAlloc(pointer: Out<usize>, bytes: usize, flags: c_uint) -> u32 {
    code(enter_context("cuMemHostAlloc").and_then(|mut machine| {
        // PORTABLE 1, DEVICEMAP 2, WRITECOMBINED 4.
        if flags & !7 != 0 {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        may_block(&mut machine)?;
        let address = machine.memory.allocate_host(bytes)?;
        put(pointer, address)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(pointer: usize) -> u32 {
    code(enter_context("cuMemFreeHost").and_then(|mut machine| {
        may_block(&mut machine)?;
        machine.deliver(f64::INFINITY);
        Ok(machine.memory.free_host(pointer)?)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: usize) -> u32 {
    code(enter_context("cuMemcpyHtoDAsync_v2").and_then(|mut machine| {
        let (to, from) = (to as usize, from as usize);
        if !machine.memory.has(to, bytes) || from == 0 && bytes > 0 {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        let mut work =
            Work::new("[memcpy HtoD]", Kind::Copy, move |memory| memory.write(to, &host_bytes(from, bytes)));
        work.host = true;
        machine.submit(stream, work.costing(0.0, bytes as f64))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: usize) -> u32 {
    code(enter_context("cuMemcpyDtoHAsync_v2").and_then(|mut machine| {
        let (to, from) = (to as usize, from as usize);
        if !machine.memory.has(from, bytes) || to == 0 && bytes > 0 {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        let mut work = Work::new("[memcpy DtoH]", Kind::Copy, move |memory| {
            let found = memory.read(from, bytes)?.to_vec();
            if memory.is_page_locked(to, bytes) {
                to_host(to, &vec![crate::memory::UNSET; bytes]);
                memory.outbox.push((to, found));
            } else {
                to_host(to, &found);
            }
            Ok(())
        });
        work.host = true;
        let pageable = !machine.memory.is_page_locked(to, bytes);
        machine.submit(stream, work.costing(0.0, bytes as f64))?;
        // "API synchronization behavior": a copy to pageable memory returns when it has ended.
        let end = machine.stream(stream)?.end;
        if pageable && machine.capture_of(stream)?.is_none() { wait_until(machine, end) } else { Ok(()) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: usize) -> u32 {
    code(enter_context("cuMemcpyDtoDAsync_v2").and_then(|mut machine| {
        let (to, from) = (to as usize, from as usize);
        if !machine.memory.has(to, bytes) || !machine.memory.has(from, bytes) {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        let work = Work::new("[memcpy DtoD]", Kind::Copy, move |memory| {
            let found = memory.read(from, bytes)?.to_vec();
            memory.write(to, &found)
        });
        machine.submit(stream, work.costing(0.0, 2.0 * bytes as f64))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: u64, value: c_uchar, bytes: usize, stream: usize) -> u32 {
    code(enter_context("cuMemsetD8Async").and_then(|mut machine| {
        let to = to as usize;
        if !machine.memory.has(to, bytes) {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        let work = Work::new("[memset]", Kind::Fill, move |memory| memory.write(to, &vec![value; bytes]));
        machine.submit(stream, work.costing(0.0, bytes as f64))
    }))
}

// Streams.

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreate(stream: Out<usize>, flags: c_uint) -> u32 {
    code(enter_context("cuStreamCreate").and_then(|mut machine| {
        // CU_STREAM_DEFAULT 0, CU_STREAM_NON_BLOCKING 1.
        if flags > 1 {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        let handle = machine.new_handle();
        put(stream, handle)?;
        machine.queue.streams.insert(handle, Stream { non_blocking: flags == 1, ..Stream::default() });
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: usize) -> u32 {
    code(enter_context("cuStreamDestroy_v2").and_then(|mut machine| {
        if stream <= 1 {
            return Err(R::CUDA_ERROR_INVALID_HANDLE.into());
        }
        let gone = machine.queue.streams.remove(&stream).ok_or(R::CUDA_ERROR_INVALID_HANDLE)?;
        if let Some(number) = gone.capture {
            machine.queue.captures.remove(&number);
        }
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: usize) -> u32 {
    code(enter_context("cuStreamSynchronize").and_then(|mut machine| {
        machine.legacy_rules(stream)?;
        if let Some(capture) = machine.capture_of(stream)? {
            capture.invalid = true;
            return Err(R::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.into());
        }
        let end = machine.stream(stream)?.end;
        wait_until(machine, end)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: usize, event: usize, flags: c_uint) -> u32 {
    code(enter_context("cuStreamWaitEvent").and_then(|mut machine| {
        let event = machine.queue.events.get(&event).ok_or(R::CUDA_ERROR_INVALID_HANDLE)?;
        let (at, capture) = (event.at, event.capture);
        if flags > 1 {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        let own = machine.stream(stream)?.capture;
        match (capture, own) {
            // The stream joins the capture that the event belongs to.
            (Some(number), None) if machine.queue.captures.contains_key(&number) => {
                machine.stream(stream)?.capture = Some(number);
            }
            (Some(number), Some(own)) if number == own => {}
            // cuStreamBeginCapture: a capture cannot depend on work outside of it.
            (None, Some(_)) => {
                if let Some(capture) = machine.capture_of(stream)? {
                    capture.invalid = true;
                }
                return Err(R::CUDA_ERROR_STREAM_CAPTURE_ISOLATION.into());
            }
            (Some(_), Some(_)) => return Err(R::CUDA_ERROR_STREAM_CAPTURE_MERGE.into()),
            _ => {
                let stream = machine.stream(stream)?;
                stream.end = stream.end.max(at.unwrap_or(0.0));
            }
        }
        Ok(())
    }))
}

// Events.

#[unsafe(no_mangle)]
extern "C" fn cuEventCreate(event: Out<usize>, flags: c_uint) -> u32 {
    code(enter_context("cuEventCreate").and_then(|mut machine| {
        // BLOCKING_SYNC 1, DISABLE_TIMING 2; INTERPROCESS 4 is not emulated.
        if flags & !3 != 0 {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        let handle = machine.new_handle();
        put(event, handle)?;
        machine.queue.events.insert(handle, Event { timed: flags & 2 == 0, ..Event::default() });
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: usize) -> u32 {
    code(enter_context("cuEventDestroy_v2").and_then(|mut machine| {
        machine.queue.events.remove(&event).map(|_| ()).ok_or_else(|| R::CUDA_ERROR_INVALID_HANDLE.into())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: usize, stream: usize) -> u32 {
    code(enter_context("cuEventRecord").and_then(|mut machine| {
        machine.legacy_rules(stream)?;
        let capturing = machine.capture_of(stream)?.is_some();
        let capture = machine.stream(stream)?.capture;
        let now = machine.now();
        let end = machine.stream(stream)?.end;
        let event = machine.queue.events.get_mut(&event).ok_or(R::CUDA_ERROR_INVALID_HANDLE)?;
        if capturing {
            event.capture = capture;
        } else {
            (event.at, event.capture) = (Some(end.max(now)), None);
        }
        Ok(())
    }))
}

/// An event that a wait or a question may be about.
fn event_outside_capture(machine: &mut Machine, event: usize) -> Cu<Option<f64>> {
    let event = machine.queue.events.get(&event).ok_or(R::CUDA_ERROR_INVALID_HANDLE)?;
    let (at, capture) = (event.at, event.capture);
    if let Some(number) = capture {
        if let Some(capture) = machine.queue.captures.get_mut(&number) {
            capture.invalid = true;
        }
        return Err(R::CUDA_ERROR_CAPTURED_EVENT.into());
    }
    Ok(at)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: usize) -> u32 {
    code(enter_context("cuEventQuery").and_then(|mut machine| {
        may_block(&mut machine)?;
        let at = event_outside_capture(&mut machine, event)?;
        let now = machine.now();
        // "If cuEventRecord() has not been called … CUDA_SUCCESS is returned."
        if at.is_some_and(|at| at > now) {
            return Err(not_ready());
        }
        machine.settle(now)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: usize) -> u32 {
    code(enter_context("cuEventSynchronize").and_then(|mut machine| {
        may_block(&mut machine)?;
        let at = event_outside_capture(&mut machine, event)?;
        wait_until(machine, at.unwrap_or(0.0))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime(milliseconds: Out<f32>, start: usize, end: usize) -> u32 {
    code(enter_context("cuEventElapsedTime").and_then(|mut machine| {
        let now = machine.now();
        let mut instant = |event: usize| -> Cu<f64> {
            let timed = machine.queue.events.get(&event).is_some_and(|event| event.timed);
            // "If either event has not been recorded or was created without timing … CUDA_ERROR_INVALID_HANDLE."
            let at = event_outside_capture(&mut machine, event)?.filter(|_| timed);
            at.ok_or_else(|| Code::from(R::CUDA_ERROR_INVALID_HANDLE))
        };
        let (start, end) = (instant(start)?, instant(end)?);
        if start.max(end) > now {
            return Err(not_ready());
        }
        // "The resolution is about half a microsecond."
        let steps = ((end - start) / 0.5e-6).round();
        put(milliseconds, (steps * 0.5e-3) as f32)
    }))
}
