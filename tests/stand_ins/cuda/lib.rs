//! A stand-in for NVIDIA's CUDA libraries: a GPU that computes on the host.
//!
//! One shared object has every function of `libcuda`, `libnvrtc`, `libcublasLt`, `libcublas` and `libcudnn` that the
//! product calls; `emulated_cuda` (`mod.rs`) makes a folder in which it goes by those five names. It is written from
//! NVIDIA's manuals and refuses what they say the real libraries refuse, so that a mistake shows without a GPU:
//!
//! - *Driver*: CUDA Driver API 13.0, the sections named in comments. *NVRTC*: NVRTC 13.0. *cuBLASLt*, *cuBLAS*: cuBLAS
//!   13.0. *cuDNN*: cuDNN 9 backend API (`cudnn_graph`, `cudnn_ops`, `cudnn_cnn`).
//! - Device memory is host memory with a registry: new memory is all ones (NaN in every type), accesses outside an
//!   allocation or to a freed one are `CUDA_ERROR_ILLEGAL_ADDRESS`, which stays, as on a GPU. Kernels' writes beyond
//!   an allocation or into freed memory are found at the next synchronisation.
//! - Work takes modelled time (`queue.rs`): streams and events have instants of the real monotonic clock, and nothing
//!   is finished before its time. What a copy to page-locked memory brings is not there before that either.
//! - Kernels are compiled as C++ (`nvrtc.rs`).
//!
//! Its results say nothing about a GPU's speed or energy.
//!
//! | variable `LAYERJOULE_EMULATED_…` | meaning |
//! |---|---|
//! | `UUID` | the GPU's UUID, as in `GPU-00000000-0000-0000-0000-000000000001`; with `MIG-…` the same number |
//! | `NAME` | its name; `Emulated GPU` if unset |
//! | `CAPABILITY` | compute capability; `9.0` if unset |
//! | `CUDA` | the driver's version; `13.0` if unset |
//! | `MEMORY` | bytes of device memory; 1 GiB if unset |
//! | `L2` | bytes of its L2 cache; 256 KiB if unset |
//! | `MULTIPROCESSORS` | how many; 4 if unset |
//! | `GFLOPS`, `GBYTES` | modelled speed, thousand millions a second; 4 and 8 if unset |
//! | `OVERHEAD` | seconds that each piece of work takes beside that; 5e-6 if unset |
//! | `LATENCY` | seconds from a launch to the earliest start; 5e-6 if unset |
//! | `ERRORS` | what fails: `FUNCTION=CODE,…`; `FUNCTION=CODE@3` the third call only, `FUNCTION=CODE@3+` from the third on. `cuInit=100`: no device; `cuMemAlloc_v2=2@3`: the third allocation finds no memory |
//! | `LOST` | `N` or `N:CODE`: after N pieces of work the device is lost; 214 (uncorrectable ECC error) if there is no code |
//! | `KERNEL_FAILS` | `NAME` or `NAME:CODE`: a kernel whose name contains this fails; 719 (launch failure) without a code |
//! | `CACHE` | folder in which compiled kernels are kept; `emulated_kernels` beside this library if unset |
//! | `LOG` | 1: why something was refused goes to standard error |
//!
//! | function | does |
//! |---|---|
//! | `int emulated_cuda_set(const char *name, const char *value)` | sets one of these variables, by what follows the underscore; NULL unsets it. Only before `cuInit`, but for faults and speeds. 0 if the value is fit |
//! | `uint64_t emulated_cuda_executed(void)` | pieces of work executed so far, each replay counted |
//! | `uint64_t emulated_cuda_allocated(void)` | bytes of device memory in use |
//!
//! Two copies of the file loaded by one process are two separate machines.
#![allow(
    missing_docs,
    non_snake_case,
    reason = "the functions and what their callers promise are described in NVIDIA's manuals"
)]
#![allow(clippy::print_stderr, clippy::too_many_arguments)]

mod arithmetic;
mod blas;
mod cudnn;
mod driver;
mod graphs;
mod kernels;
mod machine;
mod memory;
mod numbers;
mod pointers;
mod queue;
