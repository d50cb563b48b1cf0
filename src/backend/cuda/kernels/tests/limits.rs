//! Launches: what a device allows, and what the shim itself would notice.

use crate::backend::cuda::tensor::TensorForm;
use crate::network::Activation;
use crate::plan::{Layout, Precision};

use super::super::{
    Argument, Family, Launch, Tensor, activation, bias, global_average_pool, reorder, softmax, source,
};
use super::cuda_shim::{self, kernel_names};
use super::host::{Buffer, can_compile, run};

/// The most threads of a block, and of blocks along x, y and z (CUDA C++ Programming Guide, "Technical Specifications
/// per Compute Capability").
fn is_allowed(launch: &Launch) -> bool {
    let threads: u32 = launch.block.iter().product();
    let [x, y, z] = launch.grid;
    threads == 256
        && (1..=i32::MAX as u32).contains(&x)
        && (1..=65_535).contains(&y)
        && (1..=65_535).contains(&z)
}

#[test]
fn tensors_of_more_than_four_billion_numbers_have_launches_that_a_device_takes() {
    let large = TensorForm::new(1 << 12, &[64, 512, 512], Precision::F16, Layout::Nhwc);
    let rows = large.row_major();
    let count = 1_i64 << 36;
    let (x, y) = (Tensor { form: &large, at: 0x1_0000 }, Tensor { form: &rows, at: 0x2_0000 });
    let relu = activation(&Activation::Relu, x, x);
    assert!(is_allowed(&relu));
    assert_eq!(relu.arguments[2..4], [Argument::I64(count), Argument::I64(count / 8)]);
    let means = TensorForm::new(1 << 12, &[64, 1, 1], Precision::F16, Layout::Nhwc);
    let means = Tensor { form: &means, at: 0 };
    for launch in [
        bias(0, 0, x).unwrap(),
        softmax(2, y, y).unwrap(),
        softmax(0, x, x).unwrap(),
        global_average_pool(x, means).unwrap(),
        global_average_pool(y, means).unwrap(),
        reorder(x, y).unwrap().remove(0),
    ] {
        assert!(is_allowed(&launch), "{launch:?}");
    }
}

#[test]
fn a_launch_of_little_work_has_one_block() {
    let form = TensorForm::new(1, &[5], Precision::F32, Layout::Nchw);
    let x = Tensor { form: &form, at: 0 };
    let launch = activation(&Activation::Relu, x, x);
    assert_eq!((launch.grid, launch.block), ([1, 1, 1], [256, 1, 1]));
}

#[test]
fn packs_are_used_only_where_every_tensor_is_aligned_to_sixteen_bytes() {
    let form = TensorForm::new(1, &[35], Precision::F16, Layout::Nchw);
    let packs = |x: u64, y: u64| {
        let launch =
            activation(&Activation::Relu, Tensor { form: &form, at: x }, Tensor { form: &form, at: y });
        launch.arguments[3].clone()
    };
    // 35 numbers of 2 bytes: four packs and three numbers.
    assert_eq!(packs(0x100, 0x210), Argument::I64(4));
    assert_eq!(packs(0x102, 0x210), Argument::I64(0));
    assert_eq!(packs(0x100, 0x218), Argument::I64(0));
}

#[test]
fn every_kernel_of_a_source_is_found_by_its_name() {
    let text = "extern \"C\" __global__ void first(int *x) {}\n__device__ void inner() {}\n\
                extern \"C\" __global__ void __launch_bounds__(256)\nsecond(float y) {}";
    assert_eq!(kernel_names(text), ["first", "second"]);
    let all: Vec<String> =
        Family::ALL.iter().flat_map(|&family| kernel_names(&source(family, Precision::F32))).collect();
    let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (31, 31), "{all:?}");
}

#[test]
fn a_store_beyond_a_buffer_is_noticed() {
    if !can_compile() {
        return;
    }
    let form = TensorForm::new(1, &[21], Precision::F32, Layout::Nchw);
    // One number short.
    let mut y = Buffer::holding(&[0; 20 * 4], 0);
    let tensor = Tensor { form: &form, at: y.at() };
    run(&activation(&Activation::Sigmoid, tensor, tensor), Precision::F32, false);
    assert!(!y.intact());
}

#[test]
fn threads_of_a_block_wait_for_each_other() {
    if !can_compile() {
        return;
    }
    // Each thread writes its number and reads its neighbour's, which has run later: without barriers it would read NaN.
    let text = "extern \"C\" __global__ void turn_round(int *y) {\n\
                __shared__ int place[64];\nplace[threadIdx.x] = threadIdx.x;\n__syncthreads();\n\
                y[blockIdx.x * 64 + threadIdx.x] = place[(threadIdx.x + 1) % 64] + 100 * blockIdx.x;\n\
                __syncthreads();\n}";
    let folder = tempfile::tempdir().unwrap();
    let object = cuda_shim::compile_once(text, folder.path()).unwrap();
    // SAFETY: the object was compiled from the text above.
    let library = unsafe { libloading::Library::new(object) }.unwrap();
    type Run = unsafe extern "C" fn(*const u32, *const u32, *mut *mut std::ffi::c_void);
    // SAFETY: the shim exports the function with this signature.
    let run = unsafe { library.get::<Run>(b"shim_run_turn_round\0") }.unwrap();
    let mut y = vec![0_i32; 128];
    let pointer = Argument::Pointer(y.as_mut_ptr() as u64);
    // SAFETY: two blocks of 64 threads write 128 numbers.
    unsafe { run([2, 1, 1].as_ptr(), [64, 1, 1].as_ptr(), [pointer.value()].as_mut_ptr()) };
    let expected: Vec<i32> = (0..128).map(|i| (i % 64 + 1) % 64 + 100 * (i / 64)).collect();
    assert_eq!(y, expected);
}

#[test]
fn an_error_in_a_source_comes_back_with_the_compilers_words() {
    if !can_compile() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let error = cuda_shim::compile_once("extern \"C\" __global__ void k() { nonsense; }", folder.path());
    let error = error.unwrap_err();
    assert!(error.contains("kernel.cu:1") && error.contains("nonsense"), "{error}");
}
