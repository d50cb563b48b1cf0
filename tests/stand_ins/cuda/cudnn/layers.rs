//! Pooling, normalisation, softmax and element-wise operations (cuDNN, "cudnn_ops").

use cudarc::cudnn::sys::cudnnStatus_t as S;

use crate::arithmetic::{Pooling, View, lrn, pool, softmax};
use crate::machine::Machine;
use crate::numbers::Number;
use crate::pointers::In;
use crate::queue::Work;

use super::{Dnn, enter, need, same_dims, scale, status};

/// Input and output with data.
fn pair(machine: &Machine, x: usize, from: usize, y: usize, to: usize) -> Dnn<(View, View)> {
    need(machine, from != 0 && to != 0, S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a null pointer for data")?;
    Ok((machine.tensor(x)?.at(from), machine.tensor(y)?.at(to)))
}

fn traffic(views: &[&View]) -> f64 {
    views.iter().map(|view| view.bytes()).sum()
}

#[unsafe(no_mangle)]
extern "C" fn cudnnPoolingForward(
    handle: usize,
    pooling: usize,
    alpha: In<f32>,
    x: usize,
    from: usize,
    beta: In<f32>,
    y: usize,
    to: usize,
) -> u32 {
    status(enter("cudnnPoolingForward").and_then(|mut machine| {
        machine.cudnn.stream(handle)?;
        let scale = scale(alpha, beta)?;
        let shape = machine.pooling(pooling)?;
        let (x, y) = pair(&machine, x, from, y, to)?;
        // "The dimensions n, c of the input tensor and output tensors differ. The datatype of the input tensor and output
        // tensors differs."
        let bad = S::CUDNN_STATUS_BAD_PARAM;
        let fits =
            x.dims.len() == 4 && y.dims.len() == 4 && x.dims[..2] == y.dims[..2] && x.number == y.number;
        need(&machine, fits, bad, "a pooling's input and output do not go together")?;
        // cudnnGetPoolingNdForwardOutputDim: 1 + (in + 2 · padding − window) / stride, rounded down.
        for axis in 0..2 {
            let (padded, window) = (x.dims[2 + axis] + 2 * shape.padding[axis], shape.window[axis]);
            let out = padded.checked_sub(window).map(|room| room / shape.stride[axis] + 1);
            let why = format!("a pooling's output is {:?}, expected {out:?} along axis {axis}", y.dims);
            need(&machine, out == Some(y.dims[2 + axis]), bad, &why)?;
        }
        let two = |values: &[usize]| [values[0], values[1]];
        let (window, padding, stride) = (two(&shape.window), two(&shape.padding), two(&shape.stride));
        let how = match shape.mode {
            1 => Pooling::AveragePadded,
            2 => Pooling::AverageInside,
            _ => Pooling::Max { nan: shape.nan },
        };
        let bytes = traffic(&[&x, &y]);
        let key = (x.clone(), y.clone(), shape, scale);
        let work = Work::kernel(&format!("emulated_cudnn_pooling_{}", x.number.name()), move |memory| {
            let values = pool(&x.read(memory)?, &x.dims, &y.dims, window, padding, stride, how);
            y.blend(memory, &values, scale)
        })
        .known_by(&key);
        machine.run(handle, work.costing(0.0, bytes))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnLRNCrossChannelForward(
    handle: usize,
    normalisation: usize,
    mode: u32,
    alpha: In<f32>,
    x: usize,
    from: usize,
    beta: In<f32>,
    y: usize,
    to: usize,
) -> u32 {
    status(enter("cudnnLRNCrossChannelForward").and_then(|mut machine| {
        machine.cudnn.stream(handle)?;
        let scale = scale(alpha, beta)?;
        let own = machine.lrn(normalisation)?;
        let (x, y) = pair(&machine, x, from, y, to)?;
        // CUDNN_LRN_CROSS_CHANNEL_DIM1 is the only mode. "One of the tensor pointers x, y is NULL. Number of input tensor
        // dimensions is 2 or less."
        let bad = S::CUDNN_STATUS_BAD_PARAM;
        need(&machine, mode == 0 && x.dims.len() > 2, bad, "a local response normalisation of another kind")?;
        // "NOT_SUPPORTED: … any of the input or output tensor strides is negative / x and y dimensions mismatch / padding".
        let not = S::CUDNN_STATUS_NOT_SUPPORTED;
        let fits = same_dims(&x, &y) && x.number == y.number && x.strides == y.strides;
        need(&machine, fits, not, "a local response normalisation whose input and output differ")?;
        need(&machine, x.dims.len() <= 5, not, "a local response normalisation of more than five axes")?;
        let bytes = traffic(&[&x, &y]);
        let work = Work::kernel(&format!("emulated_cudnn_lrn_{}", x.number.name()), move |memory| {
            let values = lrn(&x.read(memory)?, &x.dims, own.size, own.alpha, own.beta, own.k);
            y.blend(memory, &values, scale)
        });
        machine.run(handle, work.costing(0.0, bytes))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSoftmaxForward(
    handle: usize,
    algorithm: u32,
    mode: u32,
    alpha: In<f32>,
    x: usize,
    from: usize,
    beta: In<f32>,
    y: usize,
    to: usize,
) -> u32 {
    status(enter("cudnnSoftmaxForward").and_then(|mut machine| {
        machine.cudnn.stream(handle)?;
        let scale = scale(alpha, beta)?;
        let (x, y) = pair(&machine, x, from, y, to)?;
        // "The dimensions n, c, h, w of the input tensor and output tensors differ. The datatype of the input tensor and
        // output tensors differ. The parameters algorithm or mode have an invalid enumerant value."
        let bad = S::CUDNN_STATUS_BAD_PARAM;
        need(&machine, algorithm <= 2 && mode <= 1, bad, "no such softmax")?;
        need(
            &machine,
            same_dims(&x, &y) && x.number == y.number,
            bad,
            "a softmax whose input and output differ",
        )?;
        // INSTANCE: over C, H, W of each item; CHANNEL: over C of each item and place.
        let plane: usize = x.dims[2..].iter().product();
        let (size, inner) = if mode == 0 { (x.dims[1] * plane, 1) } else { (x.dims[1], plane) };
        let bytes = traffic(&[&x, &y]);
        let work = Work::kernel(&format!("emulated_cudnn_softmax_{}", x.number.name()), move |memory| {
            let values = softmax(&x.read(memory)?, size, inner, algorithm == 0, algorithm == 2);
            y.blend(memory, &values, scale)
        });
        machine.run(handle, work.costing(0.0, bytes))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnBatchNormalizationForwardInference(
    handle: usize,
    mode: u32,
    alpha: In<f32>,
    beta: In<f32>,
    x: usize,
    from: usize,
    y: usize,
    to: usize,
    parameters: usize,
    gain: usize,
    bias: usize,
    mean: usize,
    variance: usize,
    epsilon: f64,
) -> u32 {
    status(enter("cudnnBatchNormalizationForwardInference").and_then(|mut machine| {
        machine.cudnn.stream(handle)?;
        let scale = scale(alpha, beta)?;
        let (x, y) = pair(&machine, x, from, y, to)?;
        let parameters = machine.tensor(parameters)?;
        let bad = S::CUDNN_STATUS_BAD_PARAM;
        let all = [gain, bias, mean, variance];
        need(&machine, !all.contains(&0), S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a null pointer for data")?;
        // "Number of xDesc or yDesc tensor descriptor dimensions is not within the range of [4,5]."
        need(
            &machine,
            (4..=5).contains(&x.dims.len()),
            bad,
            "batch normalisation of other than four or five axes",
        )?;
        need(
            &machine,
            same_dims(&x, &y) && x.number == y.number,
            bad,
            "a batch normalisation whose tensors differ",
        )?;
        // "bnScaleBiasMeanVarDesc dimensions are not 1xCx1x1 for 4D and 1xCx1x1x1 for 5D for spatial, and are not 1xCxHxW …
        // for per-activation mode."
        let mut expected = x.dims.clone();
        expected[0] = 1;
        if mode > 0 {
            expected[2..].fill(1);
        }
        let why =
            format!("batch normalisation's parameters are {:?}, expected {expected:?}", parameters.dims);
        need(&machine, mode <= 2 && parameters.dims == expected, bad, &why)?;
        // cudnnDeriveBNTensorDescriptor: binary32 for tensors of half precision too.
        need(
            &machine,
            parameters.number == Number::F32,
            bad,
            "batch normalisation's parameters are not binary32",
        )?;
        // CUDNN_BN_MIN_EPSILON is 0.
        need(&machine, epsilon >= 0.0, bad, "a negative epsilon")?;
        let views = all.map(|address| parameters.at(address));
        let bytes = traffic(&[&x, &y]);
        let work = Work::kernel(&format!("emulated_cudnn_batch_norm_{}", x.number.name()), move |memory| {
            let values = x.read(memory)?;
            let mut stretched = Vec::new();
            for view in &views {
                stretched.push(view.read_stretched(memory, &x.dims)?);
            }
            let normal = (0..values.len()).map(|at| {
                let deviation = (stretched[3][at] + epsilon as f32).sqrt();
                stretched[0][at] * (values[at] - stretched[2][at]) / deviation + stretched[1][at]
            });
            let normal: Vec<f32> = normal.collect();
            y.blend(memory, &normal, scale)
        });
        machine.run(handle, work.costing(0.0, bytes))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnActivationForward(
    handle: usize,
    activation: usize,
    alpha: In<f32>,
    x: usize,
    from: usize,
    beta: In<f32>,
    y: usize,
    to: usize,
) -> u32 {
    status(enter("cudnnActivationForward").and_then(|mut machine| {
        machine.cudnn.stream(handle)?;
        let scale = scale(alpha, beta)?;
        let own = machine.activation(activation)?;
        let (x, y) = pair(&machine, x, from, y, to)?;
        let bad = S::CUDNN_STATUS_BAD_PARAM;
        need(
            &machine,
            same_dims(&x, &y) && x.number == y.number,
            bad,
            "an activation whose input and output differ",
        )?;
        // "The parameter mode has an invalid enumerant value": the identity is for fused convolutions only.
        need(&machine, own.mode != 5, S::CUDNN_STATUS_NOT_SUPPORTED, "the identity is not an activation")?;
        // "In-place operation is allowed … this requires xDesc and yDesc descriptors to be identical (particularly, the
        // strides of the input and output must match)."
        let in_place = x.address != y.address || x.strides == y.strides;
        need(&machine, in_place, bad, "an activation in place with other strides")?;
        let coefficient = own.coefficient as f32;
        let bytes = traffic(&[&x, &y]);
        let work = Work::kernel(&format!("emulated_cudnn_activation_{}", x.number.name()), move |memory| {
            let values: Vec<f32> =
                x.read(memory)?.into_iter().map(|v| activated(own.mode, own.nan, coefficient, v)).collect();
            y.blend(memory, &values, scale)
        });
        machine.run(handle, work.costing(0.0, bytes))
    }))
}

/// cudnnActivationMode_t: SIGMOID, RELU, TANH, CLIPPED_RELU, ELU, IDENTITY, SWISH.
fn activated(mode: u32, nan: bool, coefficient: f32, v: f32) -> f32 {
    if v.is_nan() && nan {
        return v;
    }
    match mode {
        0 => 1.0 / (1.0 + (-v).exp()),
        1 => v.max(0.0),
        2 => v.tanh(),
        3 => v.max(0.0).min(coefficient),
        4 if v < 0.0 => coefficient * v.exp_m1(),
        6 => v / (1.0 + (-coefficient * v).exp()),
        _ => v,
    }
}

/// Whether `a` has the dimensions of `c`, or 1 where it stretches.
fn stretches(a: &View, c: &View) -> bool {
    a.dims.len() == c.dims.len() && a.dims.iter().zip(&c.dims).all(|(own, size)| *own == *size || *own == 1)
}

#[unsafe(no_mangle)]
extern "C" fn cudnnAddTensor(
    handle: usize,
    alpha: In<f32>,
    a: usize,
    from: usize,
    beta: In<f32>,
    c: usize,
    to: usize,
) -> u32 {
    status(enter("cudnnAddTensor").and_then(|mut machine| {
        machine.cudnn.stream(handle)?;
        let scale = scale(alpha, beta)?;
        let (a, c) = pair(&machine, a, from, c, to)?;
        // "The dimensions of the bias tensor refer to an amount of data that is incompatible with the output tensor
        // dimensions or the dataType of the two tensor descriptors are different." "Up to dimension 5."
        let bad = S::CUDNN_STATUS_BAD_PARAM;
        need(&machine, stretches(&a, &c) && a.number == c.number, bad, "tensors that cannot be added")?;
        need(&machine, c.dims.len() <= 5, S::CUDNN_STATUS_NOT_SUPPORTED, "a sum of more than five axes")?;
        let bytes = traffic(&[&a, &c, &c]);
        let work = Work::kernel(&format!("emulated_cudnn_add_{}", c.number.name()), move |memory| {
            let values = a.read_stretched(memory, &c.dims)?;
            c.blend(memory, &values, scale)
        });
        machine.run(handle, work.costing(0.0, bytes))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnOpTensor(
    handle: usize,
    operation: usize,
    alpha1: In<f32>,
    a: usize,
    first: usize,
    alpha2: In<f32>,
    b: usize,
    second: usize,
    beta: In<f32>,
    c: usize,
    to: usize,
) -> u32 {
    status(enter("cudnnOpTensor").and_then(|mut machine| {
        machine.cudnn.stream(handle)?;
        let own = machine.op_tensor(operation)?;
        let (left, scale) = (scale(alpha1, alpha2)?, scale(alpha1, beta)?);
        let (a, c) = pair(&machine, a, first, c, to)?;
        // SQRT 4 and NOT 5 use only A.
        let unary = own.operation >= 4;
        let b = if unary { a.clone() } else { machine.tensor(b)?.at(second) };
        let bad = S::CUDNN_STATUS_BAD_PARAM;
        need(
            &machine,
            unary || second != 0,
            S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
            "a null pointer for data",
        )?;
        // "each dimension of the input tensor A must match the corresponding dimension of the destination tensor C, and each
        // dimension of the input tensor B must match … or must be equal to 1"; "up to 5 dimensions".
        need(&machine, same_dims(&a, &c) && stretches(&b, &c), bad, "tensors that do not go together")?;
        need(
            &machine,
            c.dims.len() <= 5,
            S::CUDNN_STATUS_NOT_SUPPORTED,
            "an operation of more than five axes",
        )?;
        // Table "Supported Datatypes": binary32 computes all types that are emulated.
        let computes = Number::of_cudnn(own.compute) == Some(Number::F32);
        need(
            &machine,
            computes,
            S::CUDNN_STATUS_BAD_PARAM,
            "an operation that does not compute in binary32",
        )?;
        // "If the input tensor B is the same tensor as the destination tensor C, then the input tensor A also must be."
        let in_place = b.address != c.address || a.address == c.address || unary;
        need(&machine, in_place, bad, "B is C, but A is not")?;
        let bytes = traffic(&[&a, &b, &c]);
        let work = Work::kernel(&format!("emulated_cudnn_op_tensor_{}", c.number.name()), move |memory| {
            let (av, bv) = (a.read(memory)?, b.read_stretched(memory, &c.dims)?);
            let combined = av.iter().zip(bv).map(|(a, b)| {
                let (a, b) = (left.alpha * a, left.beta * b);
                match own.operation {
                    0 => a + b,
                    1 => a * b,
                    2 => a.min(b),
                    3 => a.max(b),
                    4 => a.sqrt(),
                    _ => 1.0 - a,
                }
            });
            let combined: Vec<f32> = combined.collect();
            c.blend(memory, &combined, crate::arithmetic::Scale { alpha: 1.0, beta: scale.beta })
        });
        machine.run(handle, work.costing(0.0, bytes))
    }))
}
