//! cuBLASLt's descriptors and what may be set in them.

use super::*;

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutCreate(
    layout: Out<usize>,
    number: u32,
    rows: u64,
    columns: u64,
    leading: i64,
) -> u32 {
    status(enter("cublasLtMatrixLayoutCreate").and_then(|mut machine| {
        let known = Number::of_cuda(number);
        need(
            &machine,
            known.is_some(),
            S::CUBLAS_STATUS_INVALID_VALUE,
            "a type of numbers that is not emulated",
        )?;
        let content = Layout {
            number: known.expect("it was just looked at"),
            rows: rows as usize,
            columns: columns as usize,
            leading: leading as usize,
            by_rows: false,
            batches: 1,
            batch_stride: 0,
        };
        let handle = machine.new_handle();
        put(layout, handle)?;
        machine.blas.layouts.insert(handle, content);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutDestroy(layout: usize) -> u32 {
    status(enter("cublasLtMatrixLayoutDestroy").and_then(|mut machine| {
        machine.blas.layouts.remove(&layout).map(|_| ()).ok_or(S::CUBLAS_STATUS_INVALID_VALUE as u32)
    }))
}

/// An attribute's value. "CUBLAS_STATUS_INVALID_VALUE: if buf is NULL or sizeInBytes doesn't match the size of the
/// internal storage for the selected attribute."
fn attribute<T: Copy>(machine: &Machine, from: In<u8>, size: usize) -> Blas<T> {
    let fits = size == size_of::<T>() && !from.is_null();
    need(machine, fits, S::CUBLAS_STATUS_INVALID_VALUE, "an attribute of another size")?;
    from.cast::<T>().get().ok_or(S::CUBLAS_STATUS_INVALID_VALUE as u32)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutSetAttribute(layout: usize, name: u32, from: In<u8>, size: usize) -> u32 {
    status(enter("cublasLtMatrixLayoutSetAttribute").and_then(|mut machine| {
        let mut content =
            machine.blas.layouts.get(&layout).cloned().ok_or(S::CUBLAS_STATUS_INVALID_VALUE as u32)?;
        use LayoutAttribute as A;
        match name {
            a if a == A::CUBLASLT_MATRIX_LAYOUT_ORDER as u32 => {
                let order: i32 = attribute(&machine, from, size)?;
                // CUBLASLT_ORDER_COL 0, CUBLASLT_ORDER_ROW 1.
                need(
                    &machine,
                    order == 0 || order == 1,
                    S::CUBLAS_STATUS_NOT_SUPPORTED,
                    "an order that is not emulated",
                )?;
                content.by_rows = order == 1;
            }
            a if a == A::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT as u32 => {
                let count: i32 = attribute(&machine, from, size)?;
                need(&machine, count >= 1, S::CUBLAS_STATUS_INVALID_VALUE, "a number of batches below one")?;
                content.batches = count as usize;
            }
            a if a == A::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET as u32 => {
                content.batch_stride = attribute(&machine, from, size)?;
            }
            a if a == A::CUBLASLT_MATRIX_LAYOUT_LD as u32 => {
                content.leading = attribute::<i64>(&machine, from, size)? as usize;
            }
            a if a == A::CUBLASLT_MATRIX_LAYOUT_ROWS as u32 => {
                content.rows = attribute::<u64>(&machine, from, size)? as usize;
            }
            a if a == A::CUBLASLT_MATRIX_LAYOUT_COLS as u32 => {
                content.columns = attribute::<u64>(&machine, from, size)? as usize;
            }
            _ => {
                return need(
                    &machine,
                    false,
                    S::CUBLAS_STATUS_INVALID_VALUE,
                    "a layout's attribute that is not emulated",
                );
            }
        }
        machine.blas.layouts.insert(layout, content);
        Ok(())
    }))
}

/// cublasComputeType_t: CUBLAS_COMPUTE_32F, 32F_PEDANTIC, 32F_FAST_TF32.
pub(super) const COMPUTE: [u32; 3] = [68, 69, 77];

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescCreate(operation: Out<usize>, compute: u32, scale: u32) -> u32 {
    status(enter("cublasLtMatmulDescCreate").and_then(|mut machine| {
        let known = COMPUTE.contains(&compute);
        need(&machine, known, S::CUBLAS_STATUS_INVALID_VALUE, "a way of computing that is not emulated")?;
        // Table "Supported data types": with 32F the scale type is CUDA_R_32F.
        need(&machine, scale == 0, S::CUBLAS_STATUS_INVALID_VALUE, "factors that are not binary32")?;
        let handle = machine.new_handle();
        put(operation, handle)?;
        let content = Operation { compute, turn: [false; 2], epilogue: 1, bias: 0, bias_type: None };
        machine.blas.operations.insert(handle, content);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescDestroy(operation: usize) -> u32 {
    status(enter("cublasLtMatmulDescDestroy").and_then(|mut machine| {
        machine.blas.operations.remove(&operation).map(|_| ()).ok_or(S::CUBLAS_STATUS_INVALID_VALUE as u32)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescSetAttribute(operation: usize, name: u32, from: In<u8>, size: usize) -> u32 {
    status(enter("cublasLtMatmulDescSetAttribute").and_then(|mut machine| {
        let mut content =
            machine.blas.operations.get(&operation).cloned().ok_or(S::CUBLAS_STATUS_INVALID_VALUE as u32)?;
        use DescAttribute as A;
        let invalid = S::CUBLAS_STATUS_INVALID_VALUE;
        match name {
            a if a == A::CUBLASLT_MATMUL_DESC_TRANSA as u32 || a == A::CUBLASLT_MATMUL_DESC_TRANSB as u32 => {
                let turn: i32 = attribute(&machine, from, size)?;
                // CUBLAS_OP_N 0, T 1, C 2, which is T for real numbers.
                need(&machine, (0..=2).contains(&turn), invalid, "no such operation on a matrix")?;
                content.turn[usize::from(a == A::CUBLASLT_MATMUL_DESC_TRANSB as u32)] = turn > 0;
            }
            a if a == A::CUBLASLT_MATMUL_DESC_POINTER_MODE as u32 => {
                let mode: i32 = attribute(&machine, from, size)?;
                need(
                    &machine,
                    mode == 0,
                    S::CUBLAS_STATUS_NOT_SUPPORTED,
                    "factors on the device are not emulated",
                )?;
            }
            a if a == A::CUBLASLT_MATMUL_DESC_EPILOGUE as u32 => {
                let epilogue: u32 = attribute(&machine, from, size)?;
                let known = [
                    Epilogue::CUBLASLT_EPILOGUE_DEFAULT,
                    Epilogue::CUBLASLT_EPILOGUE_RELU,
                    Epilogue::CUBLASLT_EPILOGUE_BIAS,
                    Epilogue::CUBLASLT_EPILOGUE_RELU_BIAS,
                ];
                let known = known.iter().any(|k| *k as u32 == epilogue);
                need(&machine, known, S::CUBLAS_STATUS_NOT_SUPPORTED, "an epilogue that is not emulated")?;
                content.epilogue = epilogue;
            }
            a if a == A::CUBLASLT_MATMUL_DESC_BIAS_POINTER as u32 => {
                content.bias = attribute::<u64>(&machine, from, size)? as usize;
            }
            a if a == A::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE as u32 => {
                let number: i32 = attribute(&machine, from, size)?;
                // "-1: same as D".
                content.bias_type = u32::try_from(number).ok();
            }
            _ => return need(&machine, false, invalid, "an operation's attribute that is not emulated"),
        }
        machine.blas.operations.insert(operation, content);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceCreate(wish: Out<usize>) -> u32 {
    status(enter("cublasLtMatmulPreferenceCreate").and_then(|mut machine| {
        let handle = machine.new_handle();
        put(wish, handle)?;
        // Defaults: no workspace, alignments of 256 bytes.
        machine.blas.wishes.insert(handle, Wish { workspace: 0, alignment: [256; 4] });
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceDestroy(wish: usize) -> u32 {
    status(enter("cublasLtMatmulPreferenceDestroy").and_then(|mut machine| {
        machine.blas.wishes.remove(&wish).map(|_| ()).ok_or(S::CUBLAS_STATUS_INVALID_VALUE as u32)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceSetAttribute(wish: usize, name: u32, from: In<u8>, size: usize) -> u32 {
    status(enter("cublasLtMatmulPreferenceSetAttribute").and_then(|mut machine| {
        let mut content =
            machine.blas.wishes.get(&wish).cloned().ok_or(S::CUBLAS_STATUS_INVALID_VALUE as u32)?;
        use Preference as A;
        let first = A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES as u32;
        match name {
            a if a == A::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES as u32 => {
                content.workspace = attribute(&machine, from, size)?;
            }
            a if (first..first + 4).contains(&a) => {
                content.alignment[(a - first) as usize] = attribute(&machine, from, size)?;
            }
            a if a == A::CUBLASLT_MATMUL_PREF_SEARCH_MODE as u32
                || a == A::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK as u32 =>
            {
                attribute::<u32>(&machine, from, size)?;
            }
            _ => {
                let why = "a preference that is not emulated";
                return need(&machine, false, S::CUBLAS_STATUS_INVALID_VALUE, why);
            }
        }
        machine.blas.wishes.insert(wish, content);
        Ok(())
    }))
}
