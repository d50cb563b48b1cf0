//! cuBLASLt and cuBLAS: matrix products.

mod classic;
mod descriptors;

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int};
use std::sync::MutexGuard;

use cudarc::cublaslt::sys::{
    cublasLtEpilogue_t as Epilogue, cublasLtMatmulAlgo_t,
    cublasLtMatmulAlgoConfigAttributes_t as ConfigAttribute, cublasLtMatmulDescAttributes_t as DescAttribute,
    cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreferenceAttributes_t as Preference,
    cublasLtMatrixLayoutAttribute_t as LayoutAttribute, cublasStatus_t as S,
};

use crate::arithmetic::{Matrix, Scale, product};
use crate::machine::{Machine, machine};
use crate::numbers::Number;
use crate::pointers::{In, Out};
use crate::queue::Work;

type Blas<T> = Result<T, u32>;

fn status(result: Blas<()>) -> u32 {
    result.map_or_else(|status| status, |()| 0)
}

fn fail<T>(status: S) -> Blas<T> {
    Err(status as u32)
}

fn need(machine: &Machine, holds: bool, status: S, why: &str) -> Blas<()> {
    if holds {
        return Ok(());
    }
    machine.say(why);
    fail(status)
}

fn put<T>(to: Out<T>, value: T) -> Blas<()> {
    if to.put(value) { Ok(()) } else { fail(S::CUBLAS_STATUS_INVALID_VALUE) }
}

fn enter(function: &str) -> Blas<MutexGuard<'static, Machine>> {
    let mut machine = machine();
    match machine.faults.of_call(function) {
        None => Ok(machine),
        Some(status) => Err(status),
    }
}

/// One operand of cuBLASLt.
#[derive(Debug, Clone, PartialEq)]
struct Layout {
    number: Number,
    rows: usize,
    columns: usize,
    leading: usize,
    /// Whether rows, not columns, lie in one piece (`CUBLASLT_ORDER_ROW`).
    by_rows: bool,
    batches: usize,
    batch_stride: i64,
}

/// An operation of cuBLASLt.
#[derive(Debug, Clone, PartialEq)]
struct Operation {
    compute: u32,
    turn: [bool; 2],
    epilogue: u32,
    bias: usize,
    bias_type: Option<u32>,
}

/// What a search may use.
#[derive(Debug, Clone, PartialEq)]
struct Wish {
    workspace: u64,
    /// Smallest alignments of A, B, C, D that will be given.
    alignment: [u32; 4],
}

#[derive(Debug)]
struct Handle {
    stream: usize,
}

#[derive(Default)]
pub(crate) struct State {
    light: BTreeMap<usize, ()>,
    layouts: BTreeMap<usize, Layout>,
    operations: BTreeMap<usize, Operation>,
    wishes: BTreeMap<usize, Wish>,
    handles: BTreeMap<usize, Handle>,
}

// Versions: cuBLAS 13.0.2 of CUDA 13.0.

const VERSION: [c_int; 3] = [13, 0, 2];

fn property(number: c_int, value: Out<c_int>) -> u32 {
    let known = usize::try_from(number).ok().and_then(|number| VERSION.get(number).copied());
    status(known.ok_or(S::CUBLAS_STATUS_INVALID_VALUE as u32).and_then(|known| put(value, known)))
}

fn status_text(code: u32) -> *const c_char {
    let text = match code {
        0 => c"CUBLAS_STATUS_SUCCESS",
        1 => c"CUBLAS_STATUS_NOT_INITIALIZED",
        3 => c"CUBLAS_STATUS_ALLOC_FAILED",
        7 => c"CUBLAS_STATUS_INVALID_VALUE",
        8 => c"CUBLAS_STATUS_ARCH_MISMATCH",
        11 => c"CUBLAS_STATUS_MAPPING_ERROR",
        13 => c"CUBLAS_STATUS_EXECUTION_FAILED",
        14 => c"CUBLAS_STATUS_INTERNAL_ERROR",
        15 => c"CUBLAS_STATUS_NOT_SUPPORTED",
        16 => c"CUBLAS_STATUS_LICENSE_ERROR",
        _ => c"CUBLAS_STATUS unknown",
    };
    text.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetProperty(number: c_int, value: Out<c_int>) -> u32 {
    property(number, value)
}

#[unsafe(no_mangle)]
extern "C" fn cublasGetProperty(number: c_int, value: Out<c_int>) -> u32 {
    property(number, value)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetVersion() -> usize {
    130_002
}

#[unsafe(no_mangle)]
extern "C" fn cublasGetVersion_v2(_handle: usize, version: Out<c_int>) -> u32 {
    status(put(version, 130_002))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetCudartVersion() -> usize {
    13_000
}

#[unsafe(no_mangle)]
extern "C" fn cublasGetCudartVersion() -> usize {
    13_000
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetStatusString(code: u32) -> *const c_char {
    status_text(code)
}

#[unsafe(no_mangle)]
extern "C" fn cublasGetStatusString(code: u32) -> *const c_char {
    status_text(code)
}

// cuBLASLt.

#[unsafe(no_mangle)]
extern "C" fn cublasLtCreate(handle: Out<usize>) -> u32 {
    status(enter("cublasLtCreate").and_then(|mut machine| {
        let works = machine.sticky.is_none();
        need(&machine, works, S::CUBLAS_STATUS_NOT_INITIALIZED, "cublasLtCreate: the device does not work")?;
        let new = machine.new_handle();
        put(handle, new)?;
        machine.blas.light.insert(new, ());
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtDestroy(handle: usize) -> u32 {
    status(enter("cublasLtDestroy").and_then(|mut machine| {
        machine.blas.light.remove(&handle).ok_or(S::CUBLAS_STATUS_NOT_INITIALIZED as u32)
    }))
}

/// A product whose parts go together.
struct Problem {
    operation: Operation,
    /// A, B, C, D.
    layouts: [Layout; 4],
    /// Rows, columns and inner length.
    size: [usize; 3],
}

impl Problem {
    fn find(machine: &Machine, operation: usize, layouts: [usize; 4]) -> Blas<Self> {
        let invalid = S::CUBLAS_STATUS_INVALID_VALUE;
        let operation = machine.blas.operations.get(&operation).cloned().ok_or(invalid as u32)?;
        let mut found = Vec::new();
        for layout in layouts {
            found.push(machine.blas.layouts.get(&layout).cloned().ok_or(invalid as u32)?);
        }
        let layouts: [Layout; 4] = found.try_into().map_err(|_| invalid as u32)?;
        let [a, b, c, d] = &layouts;
        let turned = |layout: &Layout, turn| {
            if turn { [layout.columns, layout.rows] } else { [layout.rows, layout.columns] }
        };
        let ([m, k], [inner, n]) = (turned(a, operation.turn[0]), turned(b, operation.turn[1]));
        let fits = k == inner && [c, d].iter().all(|layout| layout.rows == m && layout.columns == n);
        let why = format!("a product of {m} x {k} with {inner} x {n} into {} x {}", d.rows, d.columns);
        need(machine, fits && m * n * k > 0, invalid, &why)?;
        let long_enough = layouts.iter().all(|l| l.leading >= if l.by_rows { l.columns } else { l.rows });
        need(machine, long_enough, invalid, "a leading dimension that is too small")?;
        // Table of cublasLtMatmul: A and B have one type; C and D have one: the same, or binary32 for half types.
        let number = a.number;
        let types =
            b.number == number && c.number == d.number && (d.number == number || d.number == Number::F32);
        let tf32 = operation.compute != 77 || number == Number::F32;
        need(
            machine,
            types && tf32,
            S::CUBLAS_STATUS_NOT_SUPPORTED,
            "types of numbers that do not go together",
        )?;
        let batches = layouts.iter().all(|l| l.batches == d.batches);
        need(machine, batches, invalid, "numbers of batches that differ")?;
        let biased = operation.epilogue & 4 != 0;
        // "CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: same as D, or binary32/half as the table says".
        let bias = operation.bias_type.map_or(Some(d.number), Number::of_cuda);
        let fits = !biased || bias == Some(d.number) || bias == Some(number);
        need(machine, fits, S::CUBLAS_STATUS_NOT_SUPPORTED, "a bias of another type")?;
        Ok(Self { operation, size: [m, n, k], layouts })
    }

    /// Bytes of workspace that each of the emulated algorithms needs: none, a split along the inner axis, more of it.
    fn workspace(&self, algorithm: u64) -> usize {
        let [m, n, _] = self.size;
        [0, 4 * m * n, 16 * m * n].get(algorithm as usize).copied().unwrap_or(0).next_multiple_of(256)
            * usize::from(algorithm > 0)
    }
}

/// Modelled times of the algorithms; the last is the fastest, if its workspace may be had.
const SLOWNESS: [f64; 3] = [1.2, 1.0, 0.9];

/// What an algorithm's opaque words hold, so that made-up ones are found.
const SIGN: u64 = 0xe3_0000;

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulAlgoGetHeuristic(
    handle: usize,
    operation: usize,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    wish: usize,
    asked: c_int,
    results: Out<cublasLtMatmulHeuristicResult_t>,
    count: Out<c_int>,
) -> u32 {
    status(enter("cublasLtMatmulAlgoGetHeuristic").and_then(|machine| {
        let known = machine.blas.light.contains_key(&handle);
        need(&machine, known, S::CUBLAS_STATUS_NOT_INITIALIZED, "no such handle of cuBLASLt")?;
        need(&machine, asked > 0, S::CUBLAS_STATUS_INVALID_VALUE, "no algorithm is asked for")?;
        let problem = Problem::find(&machine, operation, [a, b, c, d])?;
        let wish = machine.blas.wishes.get(&wish).ok_or(S::CUBLAS_STATUS_INVALID_VALUE as u32)?;
        let aligned = wish.alignment.iter().zip(&problem.layouts);
        // Vector loads of 16 bytes need addresses and leading dimensions that allow them.
        let wide = aligned
            .clone()
            .all(|(bytes, l)| bytes.is_multiple_of(16) && (l.leading * l.number.bytes()).is_multiple_of(16));
        let element = aligned.into_iter().all(|(bytes, l)| bytes.is_multiple_of(l.number.bytes() as u32));
        need(&machine, element, S::CUBLAS_STATUS_NOT_SUPPORTED, "an alignment below that of a number")?;
        let fits = |algorithm: &u64| {
            problem.workspace(*algorithm) as u64 <= wish.workspace && (wide || *algorithm < 2)
        };
        let found: Vec<u64> = (0..3).rev().filter(fits).take(asked as usize).collect();
        for (index, algorithm) in found.iter().enumerate() {
            let mut data = [0; 8];
            (data[0], data[1]) = (SIGN, *algorithm);
            let result = cublasLtMatmulHeuristicResult_t {
                algo: cublasLtMatmulAlgo_t { data },
                workspaceSize: problem.workspace(*algorithm),
                state: S::CUBLAS_STATUS_SUCCESS,
                wavesCount: 1.0,
                reserved: [0; 4],
            };
            if !results.put_at(index, result) {
                return fail(S::CUBLAS_STATUS_INVALID_VALUE);
            }
        }
        put(count, found.len() as c_int)
    }))
}

/// The number of an algorithm that a search gave.
fn algorithm(machine: &Machine, algo: In<[u64; 8]>) -> Blas<u64> {
    let words = algo.get().ok_or(S::CUBLAS_STATUS_INVALID_VALUE as u32)?;
    let known = words[0] == SIGN && words[1] < 3;
    need(machine, known, S::CUBLAS_STATUS_INVALID_VALUE, "an algorithm that no search gave")?;
    Ok(words[1])
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulAlgoConfigGetAttribute(
    algo: In<[u64; 8]>,
    name: u32,
    to: Out<u8>,
    size: usize,
    written: Out<usize>,
) -> u32 {
    status(enter("cublasLtMatmulAlgoConfigGetAttribute").and_then(|machine| {
        let number = algorithm(&machine, algo)?;
        use ConfigAttribute as A;
        let value: u32 = match name {
            a if a == A::CUBLASLT_ALGO_CONFIG_ID as u32 => 60 + number as u32,
            a if a == A::CUBLASLT_ALGO_CONFIG_TILE_ID as u32 => 20,
            a if a == A::CUBLASLT_ALGO_CONFIG_SPLITK_NUM as u32 => number as u32 + 1,
            a if a == A::CUBLASLT_ALGO_CONFIG_STAGES_ID as u32 => 8,
            a if a == A::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME as u32
                || a == A::CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING as u32
                || a == A::CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION as u32 =>
            {
                0
            }
            a if a == A::CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID as u32
                || a == A::CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID as u32 =>
            {
                // The only ones of two bytes.
                let bytes = 0_u16.to_ne_bytes();
                return config_answer(&machine, &bytes, to, size, written);
            }
            _ => {
                return need(
                    &machine,
                    false,
                    S::CUBLAS_STATUS_INVALID_VALUE,
                    "no such attribute of an algorithm",
                );
            }
        };
        config_answer(&machine, &value.to_ne_bytes(), to, size, written)
    }))
}

/// "If sizeInBytes is 0, writes the size only … CUBLAS_STATUS_INVALID_VALUE if sizeInBytes doesn't match."
fn config_answer(machine: &Machine, bytes: &[u8], to: Out<u8>, size: usize, written: Out<usize>) -> Blas<()> {
    if size > 0 {
        need(
            machine,
            size == bytes.len() && !to.is_null(),
            S::CUBLAS_STATUS_INVALID_VALUE,
            "an attribute of another size",
        )?;
        crate::pointers::to_host(to.address(), bytes);
    }
    if written.is_null() { Ok(()) } else { put(written, bytes.len()) }
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmul(
    handle: usize,
    operation: usize,
    alpha: In<f32>,
    a: usize,
    a_layout: usize,
    b: usize,
    b_layout: usize,
    beta: In<f32>,
    c: usize,
    c_layout: usize,
    d: usize,
    d_layout: usize,
    algo: In<[u64; 8]>,
    workspace: usize,
    workspace_bytes: usize,
    stream: usize,
) -> u32 {
    status(enter("cublasLtMatmul").and_then(|mut machine| {
        let known = machine.blas.light.contains_key(&handle);
        need(&machine, known, S::CUBLAS_STATUS_NOT_INITIALIZED, "no such handle of cuBLASLt")?;
        let invalid = S::CUBLAS_STATUS_INVALID_VALUE;
        let problem = Problem::find(&machine, operation, [a_layout, b_layout, c_layout, d_layout])?;
        // Without an algorithm the library searches one by itself, for the given workspace.
        let number = if algo.is_null() { 0 } else { algorithm(&machine, algo)? };
        let needed = problem.workspace(number);
        // "workspaceSizeInBytes is less than workspace required by the configured algo"; "must be 256B aligned".
        let fits =
            needed == 0 || workspace_bytes >= needed && workspace.is_multiple_of(256) && workspace != 0;
        need(
            &machine,
            fits,
            invalid,
            &format!("a workspace of {workspace_bytes} bytes at {workspace:#x}, {needed} are needed"),
        )?;
        let there = needed == 0 || machine.memory.has(workspace, needed);
        need(&machine, there, S::CUBLAS_STATUS_EXECUTION_FAILED, "a workspace that is not device memory")?;
        let scale =
            Scale { alpha: alpha.get().ok_or(invalid as u32)?, beta: beta.get().ok_or(invalid as u32)? };
        let pointers = a != 0 && b != 0 && d != 0 && (c != 0 || scale.beta == 0.0);
        need(&machine, pointers, invalid, "a null pointer for data")?;
        // The wide algorithm was promised aligned addresses.
        let wide = [a, b, d].iter().all(|address| address.is_multiple_of(16));
        need(
            &machine,
            number < 2 || wide,
            invalid,
            "addresses that are less aligned than the algorithm was searched for",
        )?;
        let in_place = c == d || scale.beta == 0.0 || c_layout != d_layout || c != 0;
        need(&machine, in_place, invalid, "C and D differ in place")?;
        let work =
            matmul(&problem, [a, b, c, d], scale, SLOWNESS[number as usize], "emulated_cublaslt_matmul");
        if machine.sticky.is_some() {
            return fail(S::CUBLAS_STATUS_EXECUTION_FAILED);
        }
        machine.submit(stream, work).map_err(|_| S::CUBLAS_STATUS_EXECUTION_FAILED as u32)
    }))
}

/// A layout's matrix; by rows it is the transposed one by columns.
fn matrix(layout: &Layout, address: usize) -> (Matrix, bool) {
    let (rows, columns) =
        if layout.by_rows { (layout.columns, layout.rows) } else { (layout.rows, layout.columns) };
    (Matrix { address, number: layout.number, rows, columns, leading: layout.leading }, layout.by_rows)
}

fn matmul(problem: &Problem, addresses: [usize; 4], scale: Scale, slowness: f64, name: &str) -> Work {
    let [m, n, k] = problem.size;
    let layouts = problem.layouts.clone();
    let operation = problem.operation.clone();
    let bytes: usize = layouts.iter().map(|l| l.rows * l.columns * l.number.bytes() * l.batches).sum();
    let batches = layouts[3].batches;
    let tf32 = operation.compute == 77;
    let slowness = slowness * if tf32 || layouts[0].number != Number::F32 { 0.5 } else { 1.0 };
    let name = format!("{name}_{}{}", layouts[0].number.name(), if tf32 { "_tf32" } else { "" });
    let key = (layouts.clone(), operation.clone(), addresses, scale);
    let mut work = Work::kernel(&name, move |memory| {
        for batch in 0..batches {
            let at = |which: usize| {
                let (whole, by_rows) = matrix(&layouts[which], addresses[which]);
                (whole.at(batch, layouts[which].batch_stride), by_rows)
            };
            let ((a, a_rows), (b, b_rows)) = (at(0), at(1));
            let turns = [a_rows != operation.turn[0], b_rows != operation.turn[1]];
            let mut values = product(memory, (&a, turns[0]), (&b, turns[1]), tf32)?;
            let (d, d_rows) = at(3);
            let mut old = vec![0.0; values.len()];
            if scale.beta != 0.0 {
                let (c, c_rows) = at(2);
                let stored = c.view().read(memory)?;
                for (place, old) in old.iter_mut().enumerate() {
                    *old = stored[if c_rows { place % m * n + place / m } else { place }];
                }
            }
            let bias = if operation.epilogue & 4 == 0 {
                None
            } else {
                // "The bias vector length must match matrix D rows, and it must be packed."
                let number = operation.bias_type.and_then(Number::of_cuda).unwrap_or(d.number);
                Some(number.decode(memory.read(operation.bias, m * number.bytes())?))
            };
            for (place, value) in values.iter_mut().enumerate() {
                let bias = bias.as_ref().map_or(0.0, |bias| bias[place % m]);
                *value = scale.alpha * *value + scale.beta * old[place] + bias;
                if operation.epilogue & 2 != 0 {
                    *value = value.max(0.0);
                }
            }
            if d_rows {
                let by_rows: Vec<f32> = (0..m * n).map(|place| values[place % n * m + place / n]).collect();
                d.view().write(memory, &by_rows)?;
            } else {
                d.view().write(memory, &values)?;
            }
        }
        Ok(())
    })
    .known_by(&key);
    work.slowness = slowness;
    work.costing(2.0 * (m * n * k * batches) as f64, bytes as f64)
}
