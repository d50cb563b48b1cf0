//! Convolution by the older interface (cuDNN, "cudnn_cnn").

use std::ffi::c_int;

use cudarc::cudnn::sys::{
    cudnnConvolutionFwdAlgo_t as Algo, cudnnConvolutionFwdAlgoPerf_t, cudnnDeterminism_t, cudnnMathType_t,
    cudnnStatus_t as S,
};
use cudarc::driver::sys::CUresult as R;

use crate::arithmetic::{Convolution, Scale};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::numbers::Number;
use crate::pointers::{In, Out};
use crate::queue::Work;

use super::descriptors::{Activation, ConvolutionShape, Filter, Tensor};
use super::{Dnn, enter, need, put, same_dims, scale, status};

/// All algorithms, `CUDNN_CONVOLUTION_FWD_ALGO_COUNT` of them.
const ALGORITHMS: [Algo; 8] = [
    Algo::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
    Algo::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
    Algo::CUDNN_CONVOLUTION_FWD_ALGO_GEMM,
    Algo::CUDNN_CONVOLUTION_FWD_ALGO_DIRECT,
    Algo::CUDNN_CONVOLUTION_FWD_ALGO_FFT,
    Algo::CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING,
    Algo::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD,
    Algo::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
];

const MATHS: [cudnnMathType_t; 4] = [
    cudnnMathType_t::CUDNN_DEFAULT_MATH,
    cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    cudnnMathType_t::CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION,
    cudnnMathType_t::CUDNN_FMA_MATH,
];

/// A convolution that fits together.
struct Problem {
    x: Tensor,
    w: Filter,
    y: Tensor,
    shape: ConvolutionShape,
    tf32: bool,
}

impl Problem {
    fn find(machine: &Machine, x: usize, w: usize, shape: usize, y: usize) -> Dnn<Self> {
        let (x, w) = (machine.tensor(x)?, machine.filter(w)?);
        let (shape, y) = (machine.convolution_shape(shape)?, machine.tensor(y)?);
        let bad = S::CUDNN_STATUS_BAD_PARAM;
        // "xDesc and wDesc have a non-equal number of dimensions", "… is less than three".
        let four = x.dims.len() == 4 && w.dims.len() == 4 && y.dims.len() == 4;
        need(machine, four, bad, "a convolution of other than four axes")?;
        // "xDesc, wDesc, or yDesc have a non-equal data type" (for the configurations emulated here).
        let equal = x.number == w.number && x.number == y.number;
        need(machine, equal, bad, "a convolution of different types")?;
        // "For some spatial dimension, wDesc has a spatial size that is larger than the input spatial size (including
        // zero-padding size)"; and the number of channels, which groups share.
        let groups = shape.groups;
        let divides = w.dims[0].is_multiple_of(groups) && x.dims[1] == w.dims[1] * groups;
        need(machine, divides, bad, "a convolution whose channels and groups do not go together")?;
        let out = output(&x.dims, &w.dims, &shape).ok_or(bad)?;
        // cudnnGetConvolutionNdForwardOutputDim has the formula.
        need(
            machine,
            y.dims == out,
            bad,
            &format!("a convolution's output is {:?}, expected {out:?}", y.dims),
        )?;
        // Floats are seen as TF32 on devices that have it, unless CUDNN_FMA_MATH (cudnnMathType_t).
        let tf32 = x.number == Number::F32 && shape.math != 3 && machine.settings.capability.0 >= 8;
        Ok(Self { x, w, y, shape, tf32 })
    }

    /// Whether an algorithm can do it (cudnnConvolutionForward, tables of supported algorithms for 2D).
    fn supports(&self, algorithm: Algo) -> bool {
        let shape = &self.shape;
        // PSEUDO_HALF, PSEUDO_BFLOAT16 and FLOAT configurations compute in binary32, TRUE_HALF in binary16.
        let compute = Number::of_cudnn(shape.compute);
        let configured =
            compute == Some(Number::F32) || compute == Some(Number::F16) && self.x.number == Number::F16;
        // "If the filter's format is CUDNN_TENSOR_NHWC": input and output must be NHWC too; and the other way round.
        let layout = if self.w.channels_last {
            self.x.is_nhwc() && self.y.is_nhwc()
        } else {
            self.x.is_nchw() && self.y.is_nchw()
        };
        // Channels-last filters belong to the two implicit algorithms.
        let planar = !self.w.channels_last || self.x.is_nchw() && self.y.is_nchw() && self.w.dims[1] == 1;
        let undilated = shape.dilation == [1, 1];
        let unit = shape.stride == [1, 1];
        let kernel = &self.w.dims[2..];
        let narrow = |axis: usize| shape.padding[axis] < kernel[axis];
        configured
            && layout
            && match algorithm {
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM => true,
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM => true,
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_GEMM => planar && undilated && self.x.number == Number::F32,
                // "This algorithm is not implemented in cuDNN."
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_FFT => {
                    planar
                        && undilated
                        && unit
                        && self.x.number != Number::Bf16
                        && (0..2).all(|axis| {
                            self.x.dims[2 + axis] + 2 * shape.padding[axis] <= 256 && narrow(axis)
                        })
                }
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING => {
                    planar
                        && undilated
                        && unit
                        && self.x.number != Number::Bf16
                        && kernel.iter().all(|size| *size <= 32)
                        && narrow(0)
                        && narrow(1)
                }
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD => {
                    planar && undilated && unit && kernel == [3, 3] && self.x.number != Number::Bf16
                }
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED => {
                    planar && undilated && unit && (kernel == [3, 3] || kernel == [5, 5])
                }
                _ => false,
            }
    }

    fn workspace(&self, algorithm: Algo) -> usize {
        let floats = |shape: &[usize]| 4 * shape.iter().product::<usize>();
        match algorithm {
            Algo::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM => {
                4 * self.y.dims[2] * self.y.dims[3] + 256
            }
            Algo::CUDNN_CONVOLUTION_FWD_ALGO_GEMM => {
                floats(&self.w.dims[1..]) * self.y.dims[2] * self.y.dims[3]
            }
            Algo::CUDNN_CONVOLUTION_FWD_ALGO_FFT => 8 * (floats(&self.x.dims) + floats(&self.w.dims)),
            Algo::CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING => 4 * (floats(&self.x.dims) + floats(&self.w.dims)),
            Algo::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED => 2 * floats(&self.x.dims),
            _ => 0,
        }
    }

    /// How many times the modelled time an algorithm takes; tensor cores halve it.
    fn slowness(&self, algorithm: Algo) -> f64 {
        let cores = if self.tf32 || self.x.number != Number::F32 { 0.5 } else { 1.0 };
        cores
            * match algorithm {
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM => 1.5,
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM => 1.0,
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_GEMM => 2.0,
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD => 0.9,
                Algo::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED => 0.7,
                _ => 4.0,
            }
    }

    fn at(&self, x: usize, w: usize, y: usize) -> Convolution {
        let two = |values: &[usize]| [values[0], values[1]];
        Convolution {
            x: self.x.at(x),
            w: self.w.at(w),
            y: self.y.at(y),
            before: two(&self.shape.padding),
            stride: two(&self.shape.stride),
            dilation: two(&self.shape.dilation),
            groups: self.shape.groups,
            turned: self.shape.turned,
            tf32: self.tf32,
        }
    }

    /// Computes, and does with the sums what `then` says, which depends on `with` alone.
    fn work(
        &self,
        algorithm: Algo,
        convolution: Convolution,
        with: impl std::fmt::Debug,
        then: impl Fn(&mut Memory, Vec<f32>) -> Result<(), R> + Send + Sync + 'static,
    ) -> Work {
        let (flops, bytes) = (convolution.flops(), convolution.bytes());
        let name = format!("emulated_cudnn_{}_{}", short(algorithm), self.x.number.name());
        let key = (convolution.clone(), with);
        let mut work = Work::kernel(&name, move |memory| {
            let values = convolution.compute(memory)?;
            then(memory, values)
        })
        .known_by(&key);
        work.slowness = self.slowness(algorithm);
        work.costing(flops, bytes)
    }

    fn seconds(&self, machine: &Machine, algorithm: Algo) -> f64 {
        let convolution = self.at(0, 0, 0);
        let settings = &machine.settings;
        let longer = (convolution.flops() / settings.flops).max(convolution.bytes() / settings.bandwidth);
        settings.overhead + self.slowness(algorithm) * longer
    }

    /// What a search says of each algorithm, the fastest first and those that cannot do it last.
    fn ranking(&self, machine: &Machine, room: Option<usize>) -> Vec<cudnnConvolutionFwdAlgoPerf_t> {
        let mut all: Vec<_> = ALGORITHMS
            .into_iter()
            .map(|algorithm| {
                let memory = self.workspace(algorithm);
                let status = if !self.supports(algorithm) {
                    S::CUDNN_STATUS_NOT_SUPPORTED
                } else if room.is_some_and(|room| room < memory) {
                    // cudnnConvolutionFwdAlgoPerf_t: "if the provided workspace is insufficient".
                    S::CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
                } else {
                    S::CUDNN_STATUS_SUCCESS
                };
                let works = status == S::CUDNN_STATUS_SUCCESS;
                cudnnConvolutionFwdAlgoPerf_t {
                    algo: algorithm,
                    status,
                    time: if works { (self.seconds(machine, algorithm) * 1e3) as f32 } else { -1.0 },
                    memory: if works { memory } else { 0 },
                    determinism: cudnnDeterminism_t::CUDNN_DETERMINISTIC,
                    mathType: MATHS[self.shape.math as usize],
                    reserved: [0; 3],
                }
            })
            .collect();
        all.sort_by(|a, b| (a.time < 0.0).cmp(&(b.time < 0.0)).then(a.time.total_cmp(&b.time)));
        all
    }
}

fn short(algorithm: Algo) -> String {
    format!("{algorithm:?}").trim_start_matches("CUDNN_CONVOLUTION_FWD_ALGO_").to_lowercase()
}

/// 1 + (in + 2 · padding − ((window − 1) · dilation + 1)) / stride, rounded down.
fn output(x: &[usize], w: &[usize], shape: &ConvolutionShape) -> Option<Vec<usize>> {
    let mut out = vec![x[0], w[0]];
    for axis in 0..2 {
        let reach = (w[2 + axis] - 1) * shape.dilation[axis] + 1;
        let room = (x[2 + axis] + 2 * shape.padding[axis]).checked_sub(reach)?;
        out.push(room / shape.stride[axis] + 1);
    }
    Some(out)
}

/// Whether a workspace can be used: there, large enough, and all of it on the device.
fn workspace_fits(machine: &Machine, address: usize, given: usize, needed: usize) -> Dnn<()> {
    if needed == 0 {
        return Ok(());
    }
    let bad = S::CUDNN_STATUS_BAD_PARAM;
    need(
        machine,
        address != 0 && given >= needed,
        bad,
        &format!("a workspace of {given} bytes, {needed} are needed"),
    )?;
    // The library writes there: an address that is not the device's is found by the hardware.
    let known = machine.memory.has(address, needed);
    need(machine, known, S::CUDNN_STATUS_EXECUTION_FAILED, "a workspace that is not device memory")
}

fn algorithm(machine: &Machine, code: u32) -> Dnn<Algo> {
    let found = ALGORITHMS.get(code as usize).copied();
    need(machine, found.is_some(), S::CUDNN_STATUS_BAD_PARAM, "no such algorithm")?;
    Ok(found.expect("it was just looked at"))
}

fn pointers(machine: &Machine, all: &[usize]) -> Dnn<()> {
    need(machine, !all.contains(&0), S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a null pointer for data")
}

#[unsafe(no_mangle)]
extern "C" fn cudnnConvolutionForward(
    handle: usize,
    alpha: In<f32>,
    x_descriptor: usize,
    x: usize,
    w_descriptor: usize,
    w: usize,
    shape: usize,
    code: u32,
    workspace: usize,
    workspace_bytes: usize,
    beta: In<f32>,
    y_descriptor: usize,
    y: usize,
) -> u32 {
    status(enter("cudnnConvolutionForward").and_then(|mut machine| {
        machine.cudnn.stream(handle)?;
        let scale = scale(alpha, beta)?;
        let problem = Problem::find(&machine, x_descriptor, w_descriptor, shape, y_descriptor)?;
        let algorithm = algorithm(&machine, code)?;
        need(
            &machine,
            problem.supports(algorithm),
            S::CUDNN_STATUS_NOT_SUPPORTED,
            "the algorithm cannot do this",
        )?;
        pointers(&machine, &[x, w, y])?;
        workspace_fits(&machine, workspace, workspace_bytes, problem.workspace(algorithm))?;
        let convolution = problem.at(x, w, y);
        let to = convolution.y.clone();
        let work = problem
            .work(algorithm, convolution, scale, move |memory, values| to.blend(memory, &values, scale));
        machine.run(handle, work)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnConvolutionBiasActivationForward(
    handle: usize,
    alpha1: In<f32>,
    x_descriptor: usize,
    x: usize,
    w_descriptor: usize,
    w: usize,
    shape: usize,
    code: u32,
    workspace: usize,
    workspace_bytes: usize,
    alpha2: In<f32>,
    z_descriptor: usize,
    z: usize,
    bias_descriptor: usize,
    bias: usize,
    activation: usize,
    y_descriptor: usize,
    y: usize,
) -> u32 {
    status(enter("cudnnConvolutionBiasActivationForward").and_then(|mut machine| {
        machine.cudnn.stream(handle)?;
        let factors = scale(alpha1, alpha2)?;
        let problem = Problem::find(&machine, x_descriptor, w_descriptor, shape, y_descriptor)?;
        let algorithm = algorithm(&machine, code)?;
        let activation = machine.activation(activation)?;
        fused_rules(&machine, algorithm, activation)?;
        need(
            &machine,
            problem.supports(algorithm),
            S::CUDNN_STATUS_NOT_SUPPORTED,
            "the algorithm cannot do this",
        )?;
        pointers(&machine, &[x, w, y, z, bias])?;
        workspace_fits(&machine, workspace, workspace_bytes, problem.workspace(algorithm))?;
        let (z, bias) = (machine.tensor(z_descriptor)?.at(z), machine.tensor(bias_descriptor)?.at(bias));
        let convolution = problem.at(x, w, y);
        let to = convolution.y.clone();
        // "zDesc and destDesc should match"; "the first dimension of biasDesc should be equal to one … the second … to
        // the first dimension of filterDesc".
        let bad = S::CUDNN_STATUS_BAD_PARAM;
        need(&machine, same_dims(&z, &to) && z.number == to.number, bad, "z does not match y")?;
        let channels = vec![1, to.dims[1], 1, 1];
        need(
            &machine,
            bias.dims == channels,
            bad,
            &format!("a bias of {:?}, expected {channels:?}", bias.dims),
        )?;
        let with = (z.clone(), bias.clone(), factors, activation);
        let work = problem.work(algorithm, convolution, with, move |memory, values| {
            // "Scaling Parameters", which the manual of alpha2 refers to: what has the factor 0 is not read and may hold
            // NaN.
            let z = if factors.beta == 0.0 { vec![0.0; values.len()] } else { z.read(memory)? };
            let bias = bias.read_stretched(memory, &to.dims)?;
            let relu = activation.mode == 1;
            let sums = values.iter().zip(z.iter().zip(&bias)).map(|(value, (z, bias))| {
                let sum = factors.alpha * value + factors.beta * z + bias;
                if relu { sum.max(0.0) } else { sum }
            });
            let sums: Vec<f32> = sums.collect();
            to.write(memory, &sums)
        });
        machine.run(handle, work)
    }))
}

/// "Only the CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM algo is enabled with CUDNN_ACTIVATION_IDENTITY"; "the mode
/// of the activationDesc is neither CUDNN_ACTIVATION_RELU nor CUDNN_ACTIVATION_IDENTITY"; "the reluNanOpt of the
/// activationDesc is not CUDNN_NOT_PROPAGATE_NAN".
fn fused_rules(machine: &Machine, algorithm: Algo, activation: Activation) -> Dnn<()> {
    let not = S::CUDNN_STATUS_NOT_SUPPORTED;
    need(machine, activation.mode == 1 || activation.mode == 5, not, "an activation that cannot be fused")?;
    need(machine, !activation.nan, not, "a fused activation that propagates NaN")?;
    let fits = activation.mode == 1 || algorithm == Algo::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
    need(machine, fits, not, "a fused identity with another algorithm than IMPLICIT_PRECOMP_GEMM")
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGetConvolutionForwardAlgorithmMaxCount(handle: usize, count: Out<c_int>) -> u32 {
    status(enter("cudnnGetConvolutionForwardAlgorithmMaxCount").and_then(|machine| {
        machine.cudnn.stream(handle)?;
        put(count, ALGORITHMS.len() as c_int)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGetConvolutionForwardWorkspaceSize(
    handle: usize,
    x: usize,
    w: usize,
    shape: usize,
    y: usize,
    code: u32,
    bytes: Out<usize>,
) -> u32 {
    status(enter("cudnnGetConvolutionForwardWorkspaceSize").and_then(|machine| {
        machine.cudnn.stream(handle)?;
        let problem = Problem::find(&machine, x, w, shape, y)?;
        let algorithm = algorithm(&machine, code)?;
        need(
            &machine,
            problem.supports(algorithm),
            S::CUDNN_STATUS_NOT_SUPPORTED,
            "the algorithm cannot do this",
        )?;
        put(bytes, problem.workspace(algorithm))
    }))
}

fn answer(
    machine: &Machine,
    ranking: &[cudnnConvolutionFwdAlgoPerf_t],
    asked: c_int,
    count: Out<c_int>,
    results: Out<cudnnConvolutionFwdAlgoPerf_t>,
) -> Dnn<()> {
    need(machine, asked >= 1, S::CUDNN_STATUS_BAD_PARAM, "no algorithm is asked for")?;
    let given = ranking.len().min(asked as usize);
    for (index, result) in ranking[..given].iter().enumerate() {
        if !results.put_at(index, *result) {
            return Err(S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER.into());
        }
    }
    put(count, given as c_int)
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGetConvolutionForwardAlgorithm_v7(
    handle: usize,
    x: usize,
    w: usize,
    shape: usize,
    y: usize,
    asked: c_int,
    count: Out<c_int>,
    results: Out<cudnnConvolutionFwdAlgoPerf_t>,
) -> u32 {
    status(enter("cudnnGetConvolutionForwardAlgorithm_v7").and_then(|machine| {
        machine.cudnn.stream(handle)?;
        let problem = Problem::find(&machine, x, w, shape, y)?;
        answer(&machine, &problem.ranking(&machine, None), asked, count, results)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnFindConvolutionForwardAlgorithmEx(
    handle: usize,
    x_descriptor: usize,
    x: usize,
    w_descriptor: usize,
    w: usize,
    shape: usize,
    y_descriptor: usize,
    y: usize,
    asked: c_int,
    count: Out<c_int>,
    results: Out<cudnnConvolutionFwdAlgoPerf_t>,
    workspace: usize,
    workspace_bytes: usize,
) -> u32 {
    status(enter("cudnnFindConvolutionForwardAlgorithmEx").and_then(|mut machine| {
        let stream = machine.cudnn.stream(handle)?;
        let problem = Problem::find(&machine, x_descriptor, w_descriptor, shape, y_descriptor)?;
        pointers(&machine, &[x, w, y])?;
        // It synchronises, which a capture does not allow.
        let capturing = machine.capture_of(stream).map_err(|_| S::CUDNN_STATUS_EXECUTION_FAILED)?.is_some();
        need(&machine, !capturing, S::CUDNN_STATUS_EXECUTION_FAILED, "a search inside of a capture")?;
        let room = if workspace == 0 { 0 } else { workspace_bytes };
        if room > 0 {
            workspace_fits(&machine, workspace, workspace_bytes, workspace_bytes)?;
        }
        let ranking = problem.ranking(&machine, Some(room));
        // "The output tensor data is overwritten."
        let convolution = problem.at(x, w, y);
        let to = convolution.y.clone();
        let work = problem.work(
            Algo::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
            convolution,
            "search",
            move |memory, values| to.blend(memory, &values, Scale { alpha: 1.0, beta: 0.0 }),
        );
        machine.run(handle, work)?;
        need(&machine, machine.sticky.is_none(), S::CUDNN_STATUS_EXECUTION_FAILED, "the search failed")?;
        answer(&machine, &ranking, asked, count, results)
    }))
}
