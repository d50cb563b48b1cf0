//! Memory, streams, events, graphs, kernels.
#![allow(clippy::float_cmp, reason = "these sums and roundings are exact")]

use std::ffi::{c_int, c_uint, c_void};
use std::ptr::null_mut;

use super::raw::{Gpu, call, compiler};

const INVALID_VALUE: u32 = 1;
const OUT_OF_MEMORY: u32 = 2;
const INVALID_CONTEXT: u32 = 201;
const NO_BINARY_FOR_GPU: u32 = 209;
const ECC_UNCORRECTABLE: u32 = 214;
const INVALID_HANDLE: u32 = 400;
const NOT_READY: u32 = 600;
const ILLEGAL_ADDRESS: u32 = 700;
const LAUNCH_FAILED: u32 = 719;
const CAPTURE_UNSUPPORTED: u32 = 900;
const CAPTURE_INVALIDATED: u32 = 901;
const CAPTURED_EVENT: u32 = 907;

const KERNELS: &str = "
extern \"C\" __global__ void __launch_bounds__(64) twice(const float *x, float *y, int count) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) y[i] = 2.0f * x[i];
}
";

fn twice(gpu: &Gpu) -> usize {
    let image = gpu.compile(KERNELS, &["--gpu-architecture=sm_90", "-default-device"]).unwrap();
    gpu.kernel(&image, "twice")
}

#[test]
fn new_memory_is_nan_and_copies_bring_what_was_written() {
    let gpu = Gpu::new();
    let pointer = gpu.alloc(12);
    assert!(gpu.read_floats(pointer, 3).iter().all(|value| value.is_nan()));
    gpu.write(pointer, bytemuck::cast_slice(&[1.0_f32, 2.0, 3.0]));
    assert_eq!(gpu.read_floats(pointer, 3), [1.0, 2.0, 3.0]);
    // The middle of an allocation has an address too.
    assert_eq!(gpu.read_floats(pointer + 4, 2), [2.0, 3.0]);
}

#[test]
fn copies_beyond_an_allocation_or_of_a_freed_one_are_refused() {
    let gpu = Gpu::new();
    let pointer = gpu.alloc(16);
    let mut bytes = [0_u8; 32];
    let to = bytes.as_mut_ptr().cast();
    let copy = |from: u64, length: usize| call!(gpu, cuMemcpyDtoHAsync_v2, to => *mut c_void, from => u64, length => usize, null_mut() => *mut c_void);
    assert_eq!(
        [copy(pointer, 16), copy(pointer, 17), copy(pointer + 8, 9)],
        [0, INVALID_VALUE, INVALID_VALUE]
    );
    let free = |pointer: u64| call!(gpu, cuMemFree_v2, pointer => u64);
    assert_eq!(
        [free(pointer + 8), free(pointer), free(pointer), free(0)],
        [INVALID_VALUE, 0, INVALID_VALUE, 0]
    );
    assert_eq!(copy(pointer, 16), INVALID_VALUE);
}

#[test]
fn memory_ends_where_it_is_set_to() {
    let gpu = Gpu::with(&[("MEMORY", "4096")]);
    let mut pointer = 0;
    let mut alloc = |bytes: usize| call!(gpu, cuMemAlloc_v2, &raw mut pointer => *mut u64, bytes => usize);
    assert_eq!(
        [alloc(0), alloc(3000), alloc(2000), alloc(1024), alloc(1)],
        [INVALID_VALUE, 0, OUT_OF_MEMORY, 0, OUT_OF_MEMORY]
    );
    let (mut free, mut total) = (0, 0);
    assert_eq!(call!(gpu, cuMemGetInfo_v2, &raw mut free => *mut usize, &raw mut total => *mut usize), 0);
    assert_eq!((free, total), (0, 4096));
}

#[test]
fn a_call_without_a_current_context_is_refused() {
    let gpu = Gpu::new();
    let mut pointer = 0;
    assert_eq!(call!(gpu, cuCtxSetCurrent, 0 => usize), 0);
    assert_eq!(call!(gpu, cuMemAlloc_v2, &raw mut pointer => *mut u64, 4 => usize), INVALID_CONTEXT);
}

#[test]
fn a_kernel_computes_and_its_launch_is_checked() {
    if !compiler() {
        return;
    }
    let gpu = Gpu::new();
    let kernel = twice(&gpu);
    let (x, y) = (gpu.floats(&[1.0, -2.0, 3.5]), gpu.alloc(12));
    assert_eq!(gpu.launch(kernel, 0, &[x, y], 3), 0);
    assert_eq!(call!(gpu, cuCtxSynchronize), 0);
    assert_eq!(gpu.read_floats(y, 3), [2.0, -4.0, 7.0]);
    let wide = call!(gpu, cuLaunchKernel, kernel => usize, 1 => u32, 1 => u32, 1 => u32, 65 => u32, 1 => u32, 1 => u32,
        0 => u32, 0 => usize, null_mut() => *mut c_void, null_mut() => *mut c_void);
    assert_eq!(wide, INVALID_VALUE, "its launch bounds are 64 threads");
}

#[test]
fn a_kernel_that_writes_beyond_its_buffer_breaks_the_context() {
    if !compiler() {
        return;
    }
    let gpu = Gpu::new();
    let kernel = twice(&gpu);
    let (x, y) = (gpu.floats(&[1.0; 4]), gpu.alloc(12));
    assert_eq!(gpu.launch(kernel, 0, &[x, y], 4), 0, "a launch does not wait for the kernel");
    assert_eq!(call!(gpu, cuCtxSynchronize), ILLEGAL_ADDRESS);
    let mut pointer = 0;
    assert_eq!(
        call!(gpu, cuMemAlloc_v2, &raw mut pointer => *mut u64, 4 => usize),
        ILLEGAL_ADDRESS,
        "it stays"
    );
}

#[test]
fn a_kernel_that_is_given_freed_memory_breaks_the_context() {
    if !compiler() {
        return;
    }
    let gpu = Gpu::new();
    let kernel = twice(&gpu);
    let (x, y) = (gpu.floats(&[1.0; 3]), gpu.alloc(12));
    assert_eq!(call!(gpu, cuMemFree_v2, x => u64), 0);
    assert_eq!(gpu.launch(kernel, 0, &[x, y], 3), 0);
    assert_eq!(call!(gpu, cuCtxSynchronize), ILLEGAL_ADDRESS);
}

#[test]
fn nvrtc_reports_errors_options_and_architectures() {
    if !compiler() {
        return;
    }
    let gpu = Gpu::new();
    let (code, log) =
        gpu.compile("extern \"C\" __global__ void k(float *y) { y[0] = nothing; }", &[]).unwrap_err();
    assert_eq!(code, 6);
    assert!(log.contains("nothing"), "{log}");
    let (code, log) = gpu.compile("#include <cmath>\n", &[]).unwrap_err();
    assert_eq!(code, 6);
    assert!(log.contains("cmath"), "NVRTC has no headers of the host: {log}");
    assert_eq!(gpu.compile(KERNELS, &["--fast"]).unwrap_err().0, 5);
    assert_eq!(gpu.compile(KERNELS, &["--gpu-architecture=sm_42"]).unwrap_err().0, 5);
    assert!(
        gpu.compile(KERNELS, &["--gpu-architecture=compute_90"]).unwrap().is_empty(),
        "PTX alone has no CUBIN"
    );
    // A GPU of compute capability 9.0 runs neither code for 8.0 nor for 10.0.
    for architecture in ["sm_80", "sm_100"] {
        let image = gpu.compile(KERNELS, &[&format!("--gpu-architecture={architecture}")]).unwrap();
        let mut module = 0;
        let loaded = call!(gpu, cuModuleLoadData, &raw mut module => *mut usize, image.as_ptr() => *const u8);
        assert_eq!(loaded, NO_BINARY_FOR_GPU, "{architecture}");
    }
}

/// A graph of what `work` puts into a stream.
fn captured(gpu: &Gpu, stream: usize, work: impl FnOnce()) -> usize {
    assert_eq!(call!(gpu, cuStreamBeginCapture_v2, stream => usize, 1 => c_uint), 0);
    work();
    let mut graph = 0;
    assert_eq!(call!(gpu, cuStreamEndCapture, stream => usize, &raw mut graph => *mut usize), 0);
    graph
}

fn instantiated(gpu: &Gpu, graph: usize) -> usize {
    let mut executable = 0;
    let made =
        call!(gpu, cuGraphInstantiateWithFlags, &raw mut executable => *mut usize, graph => usize, 0 => u64);
    assert_eq!(made, 0);
    executable
}

#[test]
fn a_captured_graph_runs_when_it_is_launched_each_time_anew() {
    if !compiler() {
        return;
    }
    let gpu = Gpu::new();
    let (kernel, stream) = (twice(&gpu), gpu.stream());
    let (x, y) = (gpu.floats(&[1.0, 2.0]), gpu.alloc(8));
    let graph = captured(&gpu, stream, || assert_eq!(gpu.launch(kernel, stream, &[x, y], 2), 0));
    assert!(gpu.read_floats(y, 2)[0].is_nan(), "capturing computes nothing");
    let executable = instantiated(&gpu, graph);
    let before = gpu.executed();
    for (input, output) in [([1.0_f32, 2.0], [2.0_f32, 4.0]), ([5.0, 6.0], [10.0, 12.0])] {
        gpu.write(x, bytemuck::cast_slice(&input));
        for _ in 0..3 {
            assert_eq!(call!(gpu, cuGraphLaunch, executable => usize, stream => usize), 0);
        }
        assert_eq!(gpu.synchronise(stream), 0);
        assert_eq!(gpu.read_floats(y, 2), output);
    }
    // Six replays, two copies there, two back.
    assert_eq!(gpu.executed() - before, 6 + 2 + 2);
}

#[test]
fn a_graph_of_graphs_repeats_its_child_and_names_its_kernels() {
    if !compiler() {
        return;
    }
    let gpu = Gpu::new();
    let (kernel, stream) = (twice(&gpu), gpu.stream());
    let x = gpu.floats(&[1.0, 3.0]);
    let child = captured(&gpu, stream, || assert_eq!(gpu.launch(kernel, stream, &[x, x], 2), 0));
    let mut graph = 0;
    assert_eq!(call!(gpu, cuGraphCreate, &raw mut graph => *mut usize, 0 => c_uint), 0);
    let mut last: Option<usize> = None;
    for _ in 0..3 {
        let mut node = 0;
        let before = last.as_ref().map_or(null_mut(), |last| std::ptr::from_ref(last).cast_mut());
        let count = usize::from(last.is_some());
        let added = call!(gpu, cuGraphAddChildGraphNode, &raw mut node => *mut usize, graph => usize,
            before => *mut usize, count => usize, child => usize);
        assert_eq!(added, 0);
        last = Some(node);
    }
    let executable = instantiated(&gpu, graph);
    assert_eq!(call!(gpu, cuGraphLaunch, executable => usize, stream => usize), 0);
    assert_eq!(gpu.synchronise(stream), 0);
    assert_eq!(gpu.read_floats(x, 2), [8.0, 24.0], "doubled three times");

    let mut nodes = [0_usize; 4];
    let mut count = nodes.len();
    let found = call!(gpu, cuGraphGetNodes, child => usize, nodes.as_mut_ptr() => *mut usize, &raw mut count => *mut usize);
    assert_eq!((found, count, nodes[1]), (0, 1, 0));
    let mut kind = 99_u32;
    assert_eq!(call!(gpu, cuGraphNodeGetType, nodes[0] => usize, &raw mut kind => *mut u32), 0);
    assert_eq!(kind, 0, "a kernel");
    // CUDA_KERNEL_NODE_PARAMS begins with the function.
    let mut parameters = [0_usize; 16];
    assert_eq!(
        call!(gpu, cuGraphKernelNodeGetParams_v2, nodes[0] => usize, parameters.as_mut_ptr() => *mut usize),
        0
    );
    let mut name: *const i8 = null_mut();
    assert_eq!(call!(gpu, cuFuncGetName, &raw mut name => *mut *const i8, parameters[0] => usize), 0);
    // SAFETY: the function gives a text that lasts.
    assert_eq!(unsafe { std::ffi::CStr::from_ptr(name) }, c"twice");
}

#[test]
fn waiting_inside_a_capture_invalidates_it() {
    let gpu = Gpu::new();
    let (stream, event) = (gpu.stream(), gpu.event());
    assert_eq!(call!(gpu, cuStreamBeginCapture_v2, stream => usize, 2 => c_uint), 0);
    assert_eq!(call!(gpu, cuEventRecord, event => usize, stream => usize), 0);
    assert_eq!(call!(gpu, cuEventQuery, event => usize), CAPTURED_EVENT);
    let mut graph = 7;
    let ended = call!(gpu, cuStreamEndCapture, stream => usize, &raw mut graph => *mut usize);
    assert_eq!((ended, graph), (CAPTURE_INVALIDATED, 0));

    assert_eq!(call!(gpu, cuStreamBeginCapture_v2, stream => usize, 2 => c_uint), 0);
    assert_eq!(gpu.synchronise(stream), CAPTURE_UNSUPPORTED);
    assert_eq!(
        call!(gpu, cuStreamEndCapture, stream => usize, &raw mut graph => *mut usize),
        CAPTURE_INVALIDATED
    );
    // A relaxed capture lets allocations pass, a global one does not.
    let mut pointer = 0;
    for (mode, code) in [(2, 0), (0, CAPTURE_UNSUPPORTED)] {
        assert_eq!(call!(gpu, cuStreamBeginCapture_v2, stream => usize, mode => c_uint), 0);
        assert_eq!(call!(gpu, cuMemAlloc_v2, &raw mut pointer => *mut u64, 4 => usize), code);
        let ended = call!(gpu, cuStreamEndCapture, stream => usize, &raw mut graph => *mut usize);
        assert_eq!(ended, if code == 0 { 0 } else { CAPTURE_INVALIDATED });
    }
    assert_eq!(
        call!(gpu, cuStreamBeginCapture_v2, 0 => usize, 2 => c_uint),
        CAPTURE_UNSUPPORTED,
        "the legacy stream"
    );
}

#[test]
fn events_tell_the_modelled_time_and_are_not_there_before_it() {
    // Five million bytes a second: five thousand take a millisecond, and nothing else does.
    let gpu = Gpu::with(&[("GBYTES", "0.005"), ("OVERHEAD", "0")]);
    let stream = gpu.stream();
    let pointer = gpu.alloc(2_000_000);
    let events: Vec<usize> = (0..3).map(|_| gpu.event()).collect();
    assert_eq!(call!(gpu, cuEventQuery, events[0] => usize), 0, "never recorded");
    let mut milliseconds = 0.0_f32;
    let mut elapsed = |from: usize, to: usize| {
        let code = call!(gpu, cuEventElapsedTime, &raw mut milliseconds => *mut f32, events[from] => usize, events[to] => usize);
        (code, milliseconds)
    };
    assert_eq!(elapsed(0, 1).0, INVALID_HANDLE);
    let fill = |times: usize, bytes: usize| {
        for _ in 0..times {
            let code = call!(gpu, cuMemsetD8Async, pointer => u64, 1 => u8, bytes => usize, stream => usize);
            assert_eq!(code, 0);
        }
    };
    let record =
        |event: usize| assert_eq!(call!(gpu, cuEventRecord, events[event] => usize, stream => usize), 0);
    // Long enough for the rest to be queued behind it, however slow the host is.
    fill(1, 2_000_000);
    record(0);
    fill(3, 5_000);
    record(1);
    fill(6, 5_000);
    record(2);
    assert_eq!(call!(gpu, cuEventQuery, events[2] => usize), NOT_READY, "it takes four tenths of a second");
    assert_eq!(elapsed(0, 2).0, NOT_READY);
    assert_eq!(call!(gpu, cuEventSynchronize, events[2] => usize), 0);
    assert_eq!([elapsed(0, 1), elapsed(1, 2)], [(0, 3.0), (0, 6.0)]);
    assert!(elapsed(1, 0).1 < 0.0);
}

#[test]
fn a_copy_to_page_locked_memory_is_not_there_before_its_time() {
    let gpu = Gpu::with(&[("LATENCY", "0.05")]);
    let (stream, from) = (gpu.stream(), gpu.floats(&[1.5]));
    let mut to = null_mut::<f32>();
    assert_eq!(
        call!(gpu, cuMemHostAlloc, (&raw mut to).cast() => *mut *mut c_void, 4 => usize, 0 => c_uint),
        0
    );
    let code =
        call!(gpu, cuMemcpyDtoHAsync_v2, to.cast() => *mut c_void, from => u64, 4 => usize, stream => usize);
    assert_eq!(code, 0);
    // SAFETY: the driver gave four bytes there.
    assert!(unsafe { to.read_volatile() }.is_nan());
    assert_eq!(gpu.synchronise(stream), 0);
    // SAFETY: likewise.
    assert_eq!(unsafe { to.read_volatile() }, 1.5);
    assert_eq!(call!(gpu, cuMemFreeHost, to.cast() => *mut c_void), 0);
}

#[test]
fn faults_come_when_they_are_asked_for() {
    let gpu = Gpu::with(&[("ERRORS", "cuMemAlloc_v2=2@3")]);
    let mut pointer = 0;
    let mut alloc = || call!(gpu, cuMemAlloc_v2, &raw mut pointer => *mut u64, 4 => usize);
    assert_eq!([alloc(), alloc(), alloc(), alloc()], [0, 0, OUT_OF_MEMORY, 0]);

    let gpu = Gpu::with(&[("LOST", "2")]);
    let pointer = gpu.alloc(4);
    let fill = || call!(gpu, cuMemsetD8Async, pointer => u64, 0 => u8, 4 => usize, 0 => usize);
    assert_eq!([fill(), fill(), call!(gpu, cuCtxSynchronize)], [0, 0, 0]);
    assert_eq!(fill(), 0, "the third fails after it was started");
    assert_eq!([call!(gpu, cuCtxSynchronize), fill()], [ECC_UNCORRECTABLE; 2]);

    let gpu = Gpu::unstarted(&[("ERRORS", "cuInit=100")]);
    assert_eq!(call!(gpu, cuInit, 0 => c_uint), 100);
    if compiler() {
        let gpu = Gpu::with(&[("KERNEL_FAILS", "twice")]);
        let kernel = twice(&gpu);
        assert_eq!(gpu.launch(kernel, 0, &[gpu.floats(&[1.0]), gpu.alloc(4)], 1), 0);
        assert_eq!(call!(gpu, cuCtxSynchronize), LAUNCH_FAILED);
    }
}

#[test]
fn the_device_is_what_it_is_set_to_be() {
    let gpu = Gpu::with(&[
        ("CAPABILITY", "8.6"),
        ("UUID", "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"),
        ("L2", "4096"),
    ]);
    let mut uuid = [0_u8; 16];
    assert_eq!(call!(gpu, cuDeviceGetUuid_v2, uuid.as_mut_ptr() => *mut u8, 0 => c_int), 0);
    assert_eq!(uuid, std::array::from_fn(|at| at as u8));
    let attribute = |number: u32| {
        let mut value = 0;
        let code = call!(gpu, cuDeviceGetAttribute, &raw mut value => *mut c_int, number => u32, 0 => c_int);
        (code, value)
    };
    // COMPUTE_CAPABILITY_MAJOR, MINOR, L2_CACHE_SIZE.
    assert_eq!([attribute(75), attribute(76), attribute(38)], [(0, 8), (0, 6), (0, 4096)]);
    assert_eq!(call!(gpu, cuDeviceGet, &mut 0_i32 => *mut c_int, 1 => c_int), 101);
}
