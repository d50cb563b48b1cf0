//! Products through cuBLAS's own interface.

use std::ffi::{c_int, c_longlong};

use super::descriptors::COMPUTE;
use super::*;

#[unsafe(no_mangle)]
extern "C" fn cublasCreate_v2(handle: Out<usize>) -> u32 {
    status(enter("cublasCreate_v2").and_then(|mut machine| {
        let works = machine.sticky.is_none();
        need(&machine, works, S::CUBLAS_STATUS_NOT_INITIALIZED, "cublasCreate: the device does not work")?;
        let new = machine.new_handle();
        put(handle, new)?;
        machine.blas.handles.insert(new, Handle { stream: 0 });
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasDestroy_v2(handle: usize) -> u32 {
    status(enter("cublasDestroy_v2").and_then(|mut machine| {
        machine.blas.handles.remove(&handle).map(|_| ()).ok_or(S::CUBLAS_STATUS_NOT_INITIALIZED as u32)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasSetStream_v2(handle: usize, stream: usize) -> u32 {
    status(enter("cublasSetStream_v2").and_then(|mut machine| {
        let known = machine.stream(stream).is_ok();
        need(&machine, known, S::CUBLAS_STATUS_INVALID_VALUE, "no such stream")?;
        let own = machine.blas.handles.get_mut(&handle).ok_or(S::CUBLAS_STATUS_NOT_INITIALIZED as u32)?;
        own.stream = stream;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasSetMathMode(handle: usize, _mode: u32) -> u32 {
    status(enter("cublasSetMathMode").and_then(|machine| {
        let known = machine.blas.handles.contains_key(&handle);
        need(&machine, known, S::CUBLAS_STATUS_NOT_INITIALIZED, "no such handle of cuBLAS")
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasSetWorkspace_v2(handle: usize, workspace: usize, bytes: usize) -> u32 {
    status(enter("cublasSetWorkspace_v2").and_then(|machine| {
        let known = machine.blas.handles.contains_key(&handle);
        need(&machine, known, S::CUBLAS_STATUS_NOT_INITIALIZED, "no such handle of cuBLAS")?;
        // "CUBLAS_STATUS_INVALID_VALUE: the workspace pointer wasn't at least 256 bytes aligned."
        let fits = workspace.is_multiple_of(256) && (bytes == 0 || machine.memory.has(workspace, bytes));
        need(
            &machine,
            fits,
            S::CUBLAS_STATUS_INVALID_VALUE,
            "a workspace that is not aligned or not device memory",
        )
    }))
}

/// A product through cuBLAS's own interface.
fn gemm(
    function: &str,
    handle: usize,
    turns: [u32; 2],
    size: [c_int; 3],
    factors: [In<f32>; 2],
    operands: [(usize, u32, c_int, i64); 3],
    batches: c_int,
    compute: u32,
) -> u32 {
    status(enter(function).and_then(|mut machine| {
        let invalid = S::CUBLAS_STATUS_INVALID_VALUE;
        let stream = machine.blas.handles.get(&handle).ok_or(S::CUBLAS_STATUS_NOT_INITIALIZED as u32)?.stream;
        let sizes = size.iter().all(|size| *size > 0) && batches > 0 && turns.iter().all(|turn| *turn <= 2);
        need(&machine, sizes, invalid, "sizes that are not positive")?;
        let known = COMPUTE.contains(&compute);
        need(&machine, known, S::CUBLAS_STATUS_NOT_SUPPORTED, "a way of computing that is not emulated")?;
        let [m, n, k] = size.map(|size| size as usize);
        let shapes =
            [if turns[0] > 0 { (k, m) } else { (m, k) }, if turns[1] > 0 { (n, k) } else { (k, n) }, (m, n)];
        let mut layouts = Vec::new();
        for ((address, number, leading, batch_stride), (rows, columns)) in operands.into_iter().zip(shapes) {
            let number = Number::of_cuda(number);
            need(
                &machine,
                number.is_some(),
                S::CUBLAS_STATUS_NOT_SUPPORTED,
                "a type of numbers that is not emulated",
            )?;
            need(&machine, leading as i64 >= rows as i64, invalid, "a leading dimension that is too small")?;
            need(&machine, address != 0, invalid, "a null pointer for data")?;
            let number = number.expect("it was just looked at");
            let leading = leading as usize;
            layouts.push(Layout {
                number,
                rows,
                columns,
                leading,
                by_rows: false,
                batches: batches as usize,
                batch_stride,
            });
        }
        layouts.push(layouts[2].clone());
        let types = layouts[0].number == layouts[1].number;
        need(&machine, types, S::CUBLAS_STATUS_NOT_SUPPORTED, "types of numbers that do not go together")?;
        let scale = Scale {
            alpha: factors[0].get().ok_or(invalid as u32)?,
            beta: factors[1].get().ok_or(invalid as u32)?,
        };
        let operation =
            Operation { compute, turn: turns.map(|turn| turn > 0), epilogue: 1, bias: 0, bias_type: None };
        let layouts: [Layout; 4] = layouts.try_into().map_err(|_| invalid as u32)?;
        let problem = Problem { operation, layouts, size: [m, n, k] };
        let [a, b, c] = operands.map(|operand| operand.0);
        let work = matmul(&problem, [a, b, c, c], scale, 1.0, "emulated_cublas_gemm");
        if machine.sticky.is_some() {
            return fail(S::CUBLAS_STATUS_EXECUTION_FAILED);
        }
        machine.submit(stream, work).map_err(|_| S::CUBLAS_STATUS_EXECUTION_FAILED as u32)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasSgemm_v2(
    handle: usize,
    turn_a: u32,
    turn_b: u32,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: In<f32>,
    a: usize,
    lda: c_int,
    b: usize,
    ldb: c_int,
    beta: In<f32>,
    c: usize,
    ldc: c_int,
) -> u32 {
    let operands = [(a, 0, lda, 0), (b, 0, ldb, 0), (c, 0, ldc, 0)];
    gemm("cublasSgemm_v2", handle, [turn_a, turn_b], [m, n, k], [alpha, beta], operands, 1, 68)
}

#[unsafe(no_mangle)]
extern "C" fn cublasGemmEx(
    handle: usize,
    turn_a: u32,
    turn_b: u32,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: In<f32>,
    a: usize,
    a_type: u32,
    lda: c_int,
    b: usize,
    b_type: u32,
    ldb: c_int,
    beta: In<f32>,
    c: usize,
    c_type: u32,
    ldc: c_int,
    compute: u32,
    _algorithm: c_int,
) -> u32 {
    let operands = [(a, a_type, lda, 0), (b, b_type, ldb, 0), (c, c_type, ldc, 0)];
    gemm("cublasGemmEx", handle, [turn_a, turn_b], [m, n, k], [alpha, beta], operands, 1, compute)
}

#[unsafe(no_mangle)]
extern "C" fn cublasGemmStridedBatchedEx(
    handle: usize,
    turn_a: u32,
    turn_b: u32,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: In<f32>,
    a: usize,
    a_type: u32,
    lda: c_int,
    stride_a: c_longlong,
    b: usize,
    b_type: u32,
    ldb: c_int,
    stride_b: c_longlong,
    beta: In<f32>,
    c: usize,
    c_type: u32,
    ldc: c_int,
    stride_c: c_longlong,
    batches: c_int,
    compute: u32,
    _algorithm: c_int,
) -> u32 {
    let operands = [(a, a_type, lda, stride_a), (b, b_type, ldb, stride_b), (c, c_type, ldc, stride_c)];
    let function = "cublasGemmStridedBatchedEx";
    gemm(function, handle, [turn_a, turn_b], [m, n, k], [alpha, beta], operands, batches, compute)
}
