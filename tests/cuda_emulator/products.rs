//! cuBLASLt and cuBLAS.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use cudarc::cublaslt::sys::{
    cublasLtMatmulDescAttributes_t as D, cublasLtMatmulHeuristicResult_t as Found,
    cublasLtMatmulPreferenceAttributes_t as P,
};

use super::raw::{Gpu, call};

const INVALID_VALUE: u32 = 7;
const NOT_SUPPORTED: u32 = 15;

fn layout(gpu: &Gpu, number: u32, rows: u64, columns: u64, leading: i64) -> usize {
    let mut layout = 0;
    let made = call!(gpu, cublasLtMatrixLayoutCreate, &raw mut layout => *mut usize, number => u32, rows => u64,
        columns => u64, leading => i64);
    assert_eq!(made, 0);
    layout
}

fn set<V>(gpu: &Gpu, operation: usize, name: D, value: V) -> u32 {
    call!(gpu, cublasLtMatmulDescSetAttribute, operation => usize, name as u32 => u32,
        (&raw const value).cast() => *const c_void, size_of::<V>() => usize)
}

struct Product<'a> {
    gpu: &'a Gpu,
    handle: usize,
    operation: usize,
    layouts: [usize; 4],
}

impl<'a> Product<'a> {
    fn new(gpu: &'a Gpu, compute: u32, turns: [i32; 2], layouts: [usize; 4]) -> Self {
        let (mut handle, mut operation) = (0, 0);
        assert_eq!(call!(gpu, cublasLtCreate, &raw mut handle => *mut usize), 0);
        let made =
            call!(gpu, cublasLtMatmulDescCreate, &raw mut operation => *mut usize, compute => u32, 0 => u32);
        assert_eq!(made, 0);
        assert_eq!(set(gpu, operation, D::CUBLASLT_MATMUL_DESC_TRANSA, turns[0]), 0);
        assert_eq!(set(gpu, operation, D::CUBLASLT_MATMUL_DESC_TRANSB, turns[1]), 0);
        Self { gpu, handle, operation, layouts }
    }

    fn search(&self, workspace: u64) -> (u32, Vec<Found>) {
        let (mut wish, mut count) = (0, 0);
        assert_eq!(call!(self.gpu, cublasLtMatmulPreferenceCreate, &raw mut wish => *mut usize), 0);
        let name = P::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES as u32;
        let set = call!(self.gpu, cublasLtMatmulPreferenceSetAttribute, wish => usize, name => u32,
            (&raw const workspace).cast() => *const c_void, 8 => usize);
        assert_eq!(set, 0);
        let mut found = Vec::with_capacity(4);
        let [a, b, c, d] = self.layouts;
        let code = call!(self.gpu, cublasLtMatmulAlgoGetHeuristic, self.handle => usize, self.operation => usize,
            a => usize, b => usize, c => usize, d => usize, wish => usize, 4 => c_int,
            found.as_mut_ptr() => *mut Found, &raw mut count => *mut c_int);
        // SAFETY: the library wrote so many.
        unsafe { found.set_len(count as usize) };
        (code, found)
    }

    fn run(&self, found: &Found, pointers: [u64; 4], factors: [f32; 2], workspace: (u64, usize)) -> u32 {
        let ([a, b, c, d], [a_form, b_form, c_form, d_form]) = (pointers, self.layouts);
        call!(self.gpu, cublasLtMatmul, self.handle => usize, self.operation => usize,
            factors.as_ptr() => *const f32, a => u64, a_form => usize, b => u64, b_form => usize,
            &raw const factors[1] => *const f32, c => u64, c_form => usize, d => u64, d_form => usize,
            &raw const found.algo => *const cudarc::cublaslt::sys::cublasLtMatmulAlgo_t,
            workspace.0 => u64, workspace.1 => usize, null_mut() => *mut c_void)
    }
}

#[test]
fn a_linear_layer_by_hand() {
    let gpu = Gpu::new();
    // y = x · wᵀ + bias, rows of x and y the items: as columns, y is w turned times x.
    // w = [[1, 2, 3], [4, 5, 6]], x = [[1, 0, -1], [2, 2, 2]].
    let (w, x) = (gpu.floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), gpu.floats(&[1.0, 0.0, -1.0, 2.0, 2.0, 2.0]));
    let (bias, y) = (gpu.floats(&[10.0, 20.0]), gpu.alloc(16));
    let output = layout(&gpu, 0, 2, 2, 2);
    let product =
        Product::new(&gpu, 68, [1, 0], [layout(&gpu, 0, 3, 2, 3), layout(&gpu, 0, 3, 2, 3), output, output]);
    // CUBLASLT_EPILOGUE_BIAS.
    assert_eq!(set(&gpu, product.operation, D::CUBLASLT_MATMUL_DESC_EPILOGUE, 4_u32), 0);
    assert_eq!(set(&gpu, product.operation, D::CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias), 0);
    let (code, found) = product.search(1 << 20);
    assert_eq!((code, found.len()), (0, 2), "leading dimensions of three numbers are not for wide loads");
    for found in &found {
        let room = (gpu.alloc(1024), 1024);
        assert_eq!(product.run(found, [w, x, y, y], [1.0, 0.0], room), 0);
        assert_eq!(gpu.read_floats(y, 4), [8.0, 18.0, 22.0, 50.0]);
    }
    // CUBLASLT_EPILOGUE_RELU_BIAS, and twice the product less the output: 2·(-2, -2, 12, 30) + bias − y.
    assert_eq!(set(&gpu, product.operation, D::CUBLASLT_MATMUL_DESC_EPILOGUE, 6_u32), 0);
    assert_eq!(product.run(&found[1], [w, x, y, y], [2.0, -1.0], (0, 0)), 0);
    assert_eq!(gpu.read_floats(y, 4), [0.0, 0.0, 12.0, 30.0]);
}

#[test]
fn products_that_do_not_go_together_are_refused() {
    let gpu = Gpu::new();
    let form = |rows, columns| layout(&gpu, 0, rows, columns, rows as i64);
    let output = form(4, 4);
    let search = |a, b| Product::new(&gpu, 68, [0, 0], [a, b, output, output]).search(1 << 20).0;
    assert_eq!(search(form(4, 3), form(3, 4)), 0);
    assert_eq!(search(form(4, 3), form(4, 4)), INVALID_VALUE);
    assert_eq!(
        search(layout(&gpu, 0, 4, 3, 3), form(3, 4)),
        INVALID_VALUE,
        "a column is longer than the step"
    );
    assert_eq!(search(layout(&gpu, 2, 4, 3, 4), form(3, 4)), NOT_SUPPORTED, "binary16 with binary32");

    let product = Product::new(&gpu, 68, [0, 0], [form(4, 4), form(4, 4), output, output]);
    let (code, none) = product.search(0);
    assert_eq!((code, none.len(), none[0].workspaceSize), (0, 1, 0));
    let (_, found) = product.search(1 << 20);
    let (data, room) = (gpu.floats(&[1.0; 16]), gpu.alloc(4096));
    let run = |pointers, workspace| product.run(&found[0], pointers, [1.0, 0.0], workspace);
    assert_eq!(found[0].workspaceSize, 256);
    assert_eq!(run([data; 4], (room, 4096)), 0);
    assert_eq!(run([data; 4], (room, 255)), INVALID_VALUE, "too small");
    assert_eq!(run([data; 4], (room + 16, 1024)), INVALID_VALUE, "not aligned to 256 bytes");
    assert_eq!(run([data, data, 0, 0], (room, 4096)), INVALID_VALUE);
    let made_up = Found { algo: cudarc::cublaslt::sys::cublasLtMatmulAlgo_t { data: [1; 8] }, ..found[0] };
    assert_eq!(product.run(&made_up, [data; 4], [1.0, 0.0], (room, 4096)), INVALID_VALUE);
    assert_eq!(
        set(&gpu, product.operation, D::CUBLASLT_MATMUL_DESC_TRANSA, 0_i64),
        INVALID_VALUE,
        "of another size"
    );
}

#[test]
fn cublas_multiplies_batches_column_by_column() {
    let gpu = Gpu::new();
    let mut handle = 0;
    assert_eq!(call!(gpu, cublasCreate_v2, &raw mut handle => *mut usize), 0);
    // Two products of 1x2 with 2x1 in binary16: 1·3 + 2·4 = 11, 5·7 + 6·8 = 83.
    let half = |values: [u16; 4]| {
        let pointer = gpu.alloc(8);
        gpu.write(pointer, bytemuck::cast_slice(&values));
        pointer
    };
    // 1, 2, 5, 6 and 3, 4, 7, 8 in binary16.
    let (a, b) = (half([0x3c00, 0x4000, 0x4500, 0x4600]), half([0x4200, 0x4400, 0x4700, 0x4800]));
    let (c, one, zero) = (gpu.alloc(4), 1.0_f32, 0.0_f32);
    let code = call!(gpu, cublasGemmStridedBatchedEx, handle => usize, 0 => u32, 0 => u32, 1 => c_int, 1 => c_int,
        2 => c_int, &raw const one => *const f32, a => u64, 2 => u32, 1 => c_int, 2 => i64, b => u64, 2 => u32,
        2 => c_int, 2 => i64, &raw const zero => *const f32, c => u64, 2 => u32, 1 => c_int, 1 => i64, 2 => c_int,
        68 => u32, -1 => c_int);
    assert_eq!(code, 0);
    // 11 is 1.375 · 2^3, 83 is 1.296875 · 2^6.
    assert_eq!(gpu.read(c, 4), [0x80, 0x49, 0x30, 0x55]);
}
