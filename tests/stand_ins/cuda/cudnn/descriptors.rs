//! Descriptors of the older interface (cuDNN, "cudnn_ops" and "cudnn_cnn": `cudnnCreate…Descriptor`, `cudnnSet…`).

use std::ffi::{c_int, c_uint};

use cudarc::cudnn::sys::cudnnStatus_t as S;

use crate::arithmetic::{View, row_major};
use crate::machine::Machine;
use crate::numbers::Number;
use crate::pointers::{In, Out};

use super::{Dnn, enter, need, put, status};

/// Largest number of axes (`CUDNN_DIM_MAX`).
const MOST_AXES: usize = 8;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) number: Number,
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter {
    pub(super) number: Number,
    /// Whether channels lie beside each other: K x R x S x C.
    pub(super) channels_last: bool,
    /// K, C, R, S.
    pub(super) dims: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ConvolutionShape {
    pub(super) padding: Vec<usize>,
    pub(super) stride: Vec<usize>,
    pub(super) dilation: Vec<usize>,
    /// `CUDNN_CONVOLUTION`: the filter is turned.
    pub(super) turned: bool,
    pub(super) compute: u32,
    pub(super) groups: usize,
    pub(super) math: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct PoolingShape {
    pub(super) mode: u32,
    pub(super) nan: bool,
    pub(super) window: Vec<usize>,
    pub(super) padding: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lrn {
    pub(super) size: usize,
    pub(super) alpha: f64,
    pub(super) beta: f64,
    pub(super) k: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Activation {
    pub(super) mode: u32,
    pub(super) nan: bool,
    pub(super) coefficient: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct OpTensor {
    pub(super) operation: u32,
    pub(super) compute: u32,
}

/// A descriptor; none inside as long as nothing was set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Descriptor {
    Tensor(Option<Tensor>),
    Filter(Option<Filter>),
    Convolution(Option<ConvolutionShape>),
    Pooling(Option<PoolingShape>),
    Lrn(Option<Lrn>),
    Activation(Option<Activation>),
    OpTensor(Option<OpTensor>),
}

macro_rules! descriptors {
    ($($kind:ident $content:ty, $create:ident, $destroy:ident, $find:ident, $set:ident;)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $create(descriptor: Out<usize>) -> u32 {
            status(enter(stringify!($create)).and_then(|mut machine| {
                let handle = machine.new_handle();
                put(descriptor, handle)?;
                machine.cudnn.descriptors.insert(handle, Descriptor::$kind(None));
                Ok(())
            }))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $destroy(descriptor: usize) -> u32 {
            status(enter(stringify!($destroy)).and_then(|mut machine| {
                match machine.cudnn.descriptors.get(&descriptor) {
                    Some(Descriptor::$kind(_)) => machine.cudnn.descriptors.remove(&descriptor),
                    _ => return Err(S::CUDNN_STATUS_BAD_PARAM.into()),
                };
                Ok(())
            }))
        }

        impl Machine {
            /// What a descriptor holds; one that was never set holds nothing that could be used.
            pub(super) fn $find(&self, descriptor: usize) -> Dnn<$content> {
                match self.cudnn.descriptors.get(&descriptor) {
                    Some(Descriptor::$kind(Some(content))) => Ok(content.clone()),
                    _ => {
                        self.say(concat!("no ", stringify!($kind), " descriptor, or one that was not set"));
                        Err(S::CUDNN_STATUS_BAD_PARAM.into())
                    }
                }
            }

            fn $set(&mut self, descriptor: usize, content: $content) -> Dnn<()> {
                match self.cudnn.descriptors.get_mut(&descriptor) {
                    Some(Descriptor::$kind(place)) => {
                        *place = Some(content);
                        Ok(())
                    }
                    _ => Err(S::CUDNN_STATUS_BAD_PARAM.into()),
                }
            }
        }
    )*};
}

descriptors! {
    Tensor Tensor, cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor, tensor, set_tensor;
    Filter Filter, cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor, filter, set_filter;
    Convolution ConvolutionShape, cudnnCreateConvolutionDescriptor, cudnnDestroyConvolutionDescriptor,
        convolution_shape, set_convolution_shape;
    Pooling PoolingShape, cudnnCreatePoolingDescriptor, cudnnDestroyPoolingDescriptor, pooling, set_pooling;
    Lrn Lrn, cudnnCreateLRNDescriptor, cudnnDestroyLRNDescriptor, lrn, set_lrn;
    Activation Activation, cudnnCreateActivationDescriptor, cudnnDestroyActivationDescriptor, activation,
        set_activation;
    OpTensor OpTensor, cudnnCreateOpTensorDescriptor, cudnnDestroyOpTensorDescriptor, op_tensor, set_op_tensor;
}

impl Tensor {
    pub(super) fn at(&self, address: usize) -> View {
        View { address, number: self.number, dims: self.dims.clone(), strides: self.strides.clone() }
    }

    /// N x C x H x W with channels last, or such that it makes no difference.
    pub(super) fn is_nhwc(&self) -> bool {
        self.lies_as(&channels_last(&self.dims))
    }

    pub(super) fn is_nchw(&self) -> bool {
        self.lies_as(&row_major(&self.dims))
    }

    /// Whether the strides are these; that of an axis of 1 says nothing.
    fn lies_as(&self, strides: &[usize]) -> bool {
        self.dims
            .iter()
            .zip(self.strides.iter().zip(strides))
            .all(|(size, (own, other))| *size == 1 || own == other)
    }
}

impl Filter {
    pub(super) fn at(&self, address: usize) -> View {
        let strides = if self.channels_last { channels_last(&self.dims) } else { row_major(&self.dims) };
        View { address, number: self.number, dims: self.dims.clone(), strides }
    }
}

/// Strides of N x C x spatial axes when channels lie beside each other.
fn channels_last(dims: &[usize]) -> Vec<usize> {
    let mut order = vec![dims[0]];
    order.extend(&dims[2..]);
    order.push(dims[1]);
    let mut strides = row_major(&order);
    let channels = strides.pop().expect("there is at least one axis");
    strides.insert(1, channels);
    strides
}

fn number(machine: &Machine, data_type: u32) -> Dnn<Number> {
    let found = Number::of_cudnn(data_type);
    need(machine, found.is_some(), S::CUDNN_STATUS_NOT_SUPPORTED, "a data type that is not emulated")?;
    Ok(found.expect("it was just looked at"))
}

fn sizes(machine: &Machine, values: &[c_int], least: c_int, why: &str) -> Dnn<Vec<usize>> {
    need(machine, values.iter().all(|value| *value >= least), S::CUDNN_STATUS_BAD_PARAM, why)?;
    Ok(values.iter().map(|value| *value as usize).collect())
}

fn all(values: In<c_int>, count: c_int) -> Dnn<Vec<c_int>> {
    let count = usize::try_from(count).map_err(|_| S::CUDNN_STATUS_BAD_PARAM)?;
    values.all(count).ok_or_else(|| S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER.into())
}

// Tensors.

/// `CUDNN_TENSOR_NCHW` and `CUDNN_TENSOR_NHWC`; the vectorised format is not emulated.
fn is_channels_last(machine: &Machine, format: u32) -> Dnn<bool> {
    need(machine, format <= 2, S::CUDNN_STATUS_BAD_PARAM, "no such tensor format")?;
    need(machine, format < 2, S::CUDNN_STATUS_NOT_SUPPORTED, "the vectorised tensor format is not emulated")?;
    Ok(format == 1)
}

fn tensor(
    machine: &Machine,
    data_type: u32,
    dims: &[c_int],
    strides: Option<&[c_int]>,
    last: bool,
) -> Dnn<Tensor> {
    let dims = sizes(machine, dims, 1, "a tensor's dimension is not positive")?;
    // cudnnSetTensorNdDescriptor: "the total size of the tensor descriptor exceeds the maximum limit of 2 Giga-elements".
    let fits =
        dims.iter().try_fold(1_usize, |all, size| all.checked_mul(*size)).is_some_and(|all| all < 1 << 31);
    need(machine, fits, S::CUDNN_STATUS_NOT_SUPPORTED, "a tensor of 2 Gi elements or more")?;
    let strides = match strides {
        Some(strides) => sizes(machine, strides, 1, "a tensor's stride is not positive")?,
        None if last => channels_last(&dims),
        None => row_major(&dims),
    };
    Ok(Tensor { number: number(machine, data_type)?, dims, strides })
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetTensor4dDescriptor(
    descriptor: usize,
    format: u32,
    data_type: u32,
    n: c_int,
    c: c_int,
    h: c_int,
    w: c_int,
) -> u32 {
    status(enter("cudnnSetTensor4dDescriptor").and_then(|mut machine| {
        let last = is_channels_last(&machine, format)?;
        let content = tensor(&machine, data_type, &[n, c, h, w], None, last)?;
        machine.set_tensor(descriptor, content)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetTensor4dDescriptorEx(
    descriptor: usize,
    data_type: u32,
    n: c_int,
    c: c_int,
    h: c_int,
    w: c_int,
    n_stride: c_int,
    c_stride: c_int,
    h_stride: c_int,
    w_stride: c_int,
) -> u32 {
    status(enter("cudnnSetTensor4dDescriptorEx").and_then(|mut machine| {
        let strides = [n_stride, c_stride, h_stride, w_stride];
        let content = tensor(&machine, data_type, &[n, c, h, w], Some(&strides), false)?;
        machine.set_tensor(descriptor, content)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetTensorNdDescriptor(
    descriptor: usize,
    data_type: u32,
    axes: c_int,
    dims: In<c_int>,
    strides: In<c_int>,
) -> u32 {
    status(enter("cudnnSetTensorNdDescriptor").and_then(|mut machine| {
        // "NOT_SUPPORTED: the parameter nbDims is outside the range [4, CUDNN_DIM_MAX]"; real libraries take 3 as well,
        // which the manual's note on two dimensions allows.
        let fits = (3..=MOST_AXES as c_int).contains(&axes);
        need(&machine, fits, S::CUDNN_STATUS_NOT_SUPPORTED, "a tensor needs 3 to 8 axes")?;
        let (dims, strides) = (all(dims, axes)?, all(strides, axes)?);
        let content = tensor(&machine, data_type, &dims, Some(&strides), false)?;
        machine.set_tensor(descriptor, content)
    }))
}

/// Scale, bias, mean and variance: 1 x C x 1 x 1, or 1 x C x H x W per activation; binary32 for half types.
#[unsafe(no_mangle)]
extern "C" fn cudnnDeriveBNTensorDescriptor(descriptor: usize, x: usize, mode: u32) -> u32 {
    status(enter("cudnnDeriveBNTensorDescriptor").and_then(|mut machine| {
        let x = machine.tensor(x)?;
        need(&machine, mode <= 2, S::CUDNN_STATUS_BAD_PARAM, "no such mode of batch normalisation")?;
        let mut dims = x.dims;
        dims[0] = 1;
        if mode > 0 {
            dims[2..].fill(1);
        }
        machine.set_tensor(descriptor, Tensor { number: Number::F32, strides: row_major(&dims), dims })
    }))
}

// Filters and convolutions.

fn filter(machine: &Machine, data_type: u32, format: u32, dims: &[c_int]) -> Dnn<Filter> {
    let dims = sizes(machine, dims, 1, "a filter's dimension is not positive")?;
    Ok(Filter {
        number: number(machine, data_type)?,
        channels_last: is_channels_last(machine, format)?,
        dims,
    })
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetFilter4dDescriptor(
    descriptor: usize,
    data_type: u32,
    format: u32,
    k: c_int,
    c: c_int,
    h: c_int,
    w: c_int,
) -> u32 {
    status(enter("cudnnSetFilter4dDescriptor").and_then(|mut machine| {
        let content = filter(&machine, data_type, format, &[k, c, h, w])?;
        machine.set_filter(descriptor, content)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetFilterNdDescriptor(
    descriptor: usize,
    data_type: u32,
    format: u32,
    axes: c_int,
    dims: In<c_int>,
) -> u32 {
    status(enter("cudnnSetFilterNdDescriptor").and_then(|mut machine| {
        // "Due to historical reasons, the minimum number of dimensions in the filter descriptor is three."
        let fits = (3..=MOST_AXES as c_int).contains(&axes);
        need(&machine, fits, S::CUDNN_STATUS_NOT_SUPPORTED, "a filter needs 3 to 8 axes")?;
        let content = filter(&machine, data_type, format, &all(dims, axes)?)?;
        machine.set_filter(descriptor, content)
    }))
}

fn convolution(
    machine: &Machine,
    padding: &[c_int],
    stride: &[c_int],
    dilation: &[c_int],
    mode: u32,
    compute: u32,
) -> Dnn<ConvolutionShape> {
    need(machine, mode <= 1, S::CUDNN_STATUS_BAD_PARAM, "no such mode of convolution")?;
    number(machine, compute)?;
    Ok(ConvolutionShape {
        padding: sizes(machine, padding, 0, "a convolution's padding is negative")?,
        stride: sizes(machine, stride, 1, "a convolution's stride is not positive")?,
        dilation: sizes(machine, dilation, 1, "a convolution's dilation is not positive")?,
        turned: mode == 0,
        compute,
        groups: 1,
        math: 0,
    })
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetConvolution2dDescriptor(
    descriptor: usize,
    pad_h: c_int,
    pad_w: c_int,
    stride_h: c_int,
    stride_w: c_int,
    dilation_h: c_int,
    dilation_w: c_int,
    mode: u32,
    compute: u32,
) -> u32 {
    status(enter("cudnnSetConvolution2dDescriptor").and_then(|mut machine| {
        let (padding, stride, dilation) = ([pad_h, pad_w], [stride_h, stride_w], [dilation_h, dilation_w]);
        let content = convolution(&machine, &padding, &stride, &dilation, mode, compute)?;
        machine.set_convolution_shape(descriptor, content)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetConvolutionNdDescriptor(
    descriptor: usize,
    axes: c_int,
    padding: In<c_int>,
    stride: In<c_int>,
    dilation: In<c_int>,
    mode: u32,
    compute: u32,
) -> u32 {
    status(enter("cudnnSetConvolutionNdDescriptor").and_then(|mut machine| {
        need(&machine, axes >= 0, S::CUDNN_STATUS_BAD_PARAM, "a negative number of axes")?;
        // "arrayLengthRequest is greater than CUDNN_DIM_MAX-2"; only images are emulated.
        need(
            &machine,
            axes == 2,
            S::CUDNN_STATUS_NOT_SUPPORTED,
            "only convolutions along two axes are emulated",
        )?;
        let [padding, stride, dilation] = [all(padding, axes)?, all(stride, axes)?, all(dilation, axes)?];
        let content = convolution(&machine, &padding, &stride, &dilation, mode, compute)?;
        machine.set_convolution_shape(descriptor, content)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetConvolutionGroupCount(descriptor: usize, groups: c_int) -> u32 {
    status(enter("cudnnSetConvolutionGroupCount").and_then(|mut machine| {
        need(&machine, groups > 0, S::CUDNN_STATUS_BAD_PARAM, "a number of groups that is not positive")?;
        let mut content = machine.convolution_shape(descriptor)?;
        content.groups = groups as usize;
        machine.set_convolution_shape(descriptor, content)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetConvolutionMathType(descriptor: usize, math: u32) -> u32 {
    status(enter("cudnnSetConvolutionMathType").and_then(|mut machine| {
        // DEFAULT 0, TENSOR_OP 1, TENSOR_OP_ALLOW_CONVERSION 2, FMA 3.
        need(&machine, math <= 3, S::CUDNN_STATUS_BAD_PARAM, "no such type of mathematics")?;
        let mut content = machine.convolution_shape(descriptor)?;
        content.math = math;
        machine.set_convolution_shape(descriptor, content)
    }))
}

// The rest.

fn pooling(
    machine: &Machine,
    (mode, nan): (u32, u32),
    window: &[c_int],
    padding: &[c_int],
    stride: &[c_int],
) -> Dnn<PoolingShape> {
    need(machine, mode <= 3 && nan <= 1, S::CUDNN_STATUS_BAD_PARAM, "no such mode of pooling")?;
    let content = PoolingShape {
        mode,
        nan: nan == 1,
        window: sizes(machine, window, 1, "a pooling window is not positive")?,
        padding: sizes(machine, padding, 0, "a pooling's padding is negative")?,
        stride: sizes(machine, stride, 1, "a pooling's stride is not positive")?,
    };
    let smaller = content.padding.iter().zip(&content.window).all(|(padding, window)| padding < window);
    need(machine, smaller, S::CUDNN_STATUS_BAD_PARAM, "a pooling's padding is not smaller than its window")?;
    Ok(content)
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetPooling2dDescriptor(
    descriptor: usize,
    mode: u32,
    nan: u32,
    window_h: c_int,
    window_w: c_int,
    pad_h: c_int,
    pad_w: c_int,
    stride_h: c_int,
    stride_w: c_int,
) -> u32 {
    status(enter("cudnnSetPooling2dDescriptor").and_then(|mut machine| {
        let (window, padding, stride) = ([window_h, window_w], [pad_h, pad_w], [stride_h, stride_w]);
        let content = pooling(&machine, (mode, nan), &window, &padding, &stride)?;
        machine.set_pooling(descriptor, content)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetPoolingNdDescriptor(
    descriptor: usize,
    mode: u32,
    nan: u32,
    axes: c_int,
    window: In<c_int>,
    padding: In<c_int>,
    stride: In<c_int>,
) -> u32 {
    status(enter("cudnnSetPoolingNdDescriptor").and_then(|mut machine| {
        need(&machine, axes == 2, S::CUDNN_STATUS_NOT_SUPPORTED, "only pooling along two axes is emulated")?;
        let [window, padding, stride] = [all(window, axes)?, all(padding, axes)?, all(stride, axes)?];
        let content = pooling(&machine, (mode, nan), &window, &padding, &stride)?;
        machine.set_pooling(descriptor, content)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetLRNDescriptor(descriptor: usize, size: c_uint, alpha: f64, beta: f64, k: f64) -> u32 {
    status(enter("cudnnSetLRNDescriptor").and_then(|mut machine| {
        // CUDNN_LRN_MIN_N 1, MAX_N 16, MIN_K 1e-5, MIN_BETA 0.01: "One of the input parameters was out of valid range".
        let fits = (1..=16).contains(&size) && k >= 1e-5 && beta >= 0.01;
        need(&machine, fits, S::CUDNN_STATUS_BAD_PARAM, "a local response normalisation out of range")?;
        machine.set_lrn(descriptor, Lrn { size: size as usize, alpha, beta, k })
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetActivationDescriptor(descriptor: usize, mode: u32, nan: u32, coefficient: f64) -> u32 {
    status(enter("cudnnSetActivationDescriptor").and_then(|mut machine| {
        need(&machine, mode <= 6 && nan <= 1, S::CUDNN_STATUS_BAD_PARAM, "no such activation")?;
        machine.set_activation(descriptor, Activation { mode, nan: nan == 1, coefficient })
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetOpTensorDescriptor(descriptor: usize, operation: u32, compute: u32, nan: u32) -> u32 {
    status(enter("cudnnSetOpTensorDescriptor").and_then(|mut machine| {
        need(
            &machine,
            operation <= 5 && nan <= 1,
            S::CUDNN_STATUS_BAD_PARAM,
            "no such operation on tensors",
        )?;
        machine.set_op_tensor(descriptor, OpTensor { operation, compute })
    }))
}
