//! A convolution as a graph of operations, and the engines that compute it.

use cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendDescriptorType_t as Kind,
    cudnnBackendHeurMode_t as HeurMode, cudnnDataType_t as DataType,
};

use crate::backend::cuda::failure::{Failure, Severity};
use crate::network::Conv;
use crate::plan::{Layout, Precision};

use super::backend::Descriptor;
use super::descriptors::data_type;
use super::engine::{Engine, Parts};
use super::handle::Cudnn;
use super::view::View;

/// What the tensors of a graph are called in its variant packs; their order in [`ids`] is that of addresses.
const X: i64 = 1;
const FILTER: i64 = 2;
const Y: i64 = 3;
const BIAS: i64 = 4;
/// What the convolution leaves for the sum with the bias; it is never in memory.
const BETWEEN: i64 = 5;

/// Bytes that every address is a multiple of: what the widest loads need. Buffers and parameters begin at multiples of
/// 256.
const ALIGNMENT: i64 = 16;

/// A convolution, with the sum with its bias where there is one, as cuDNN analyses it.
#[derive(Debug)]
pub(in crate::backend::cuda) struct ConvolutionGraph {
    graph: Descriptor,
    parts: Parts,
    // Dropped last: the graph was made with its handle.
    cudnn: Cudnn,
}

/// Where proposals come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::cuda) enum Proposed {
    /// The heuristic that knows the device, best first.
    ByHeuristic,
    /// Engines that work in most cases.
    AsFallback,
}

impl ConvolutionGraph {
    /// Padding may differ between the sides. With `fused` the bias is added, in the precision's storage type.
    pub(in crate::backend::cuda) fn new(
        cudnn: &Cudnn,
        conv: &Conv,
        x: View,
        y: View,
        layout: Layout,
        precision: Precision,
        fused: bool,
    ) -> Result<Self, Failure> {
        let stored = data_type(precision);
        let filters = View::packed(
            [conv.out_channels, x.sizes[1] / conv.groups, conv.kernel[0], conv.kernel[1]],
            layout,
        );
        let [x, filters, result] =
            [(X, x), (FILTER, filters), (Y, y)].map(|(id, view)| tensor(id, &view, stored, false));
        let (x, filters, result) = (x?, filters?, result?);
        let graph = if fused {
            let between = tensor(BETWEEN, &y, DataType::CUDNN_DATA_FLOAT, true)?;
            let vector = View::packed([1, conv.out_channels, 1, 1], layout);
            let bias = tensor(BIAS, &vector, stored, false)?;
            let convolution = convolution(conv, &x, &filters, &between)?;
            let sum = sum(&between, &bias, &result)?;
            operations(cudnn, &[&convolution, &sum])?
        } else {
            operations(cudnn, &[&convolution(conv, &x, &filters, &result)?])?
        };
        let parts = Parts { ids: ids(fused), precision };
        Ok(Self { cudnn: cudnn.clone(), graph, parts })
    }

    /// The engines that cuDNN proposes, no more than `most`: only those that compute in the precision that was asked for,
    /// work, and need no more than `workspace` bytes.
    pub(in crate::backend::cuda) fn engines(
        &self,
        proposed: Proposed,
        most: usize,
        workspace: usize,
    ) -> Result<Vec<Engine>, Failure> {
        let mode = match proposed {
            Proposed::ByHeuristic => HeurMode::CUDNN_HEUR_MODE_A,
            Proposed::AsFallback => HeurMode::CUDNN_HEUR_MODE_FALLBACK,
        };
        let heuristic = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
        heuristic.set_descriptors(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[&self.graph])?;
        heuristic.set(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[mode])?;
        let heuristic = heuristic.finalize()?;
        let results = Name::CUDNN_ATTR_ENGINEHEUR_RESULTS;
        let count = heuristic.count_descriptors(results)?;
        let kind = Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR;
        let configurations = heuristic.get_descriptors(results, kind, count)?;
        let (mut engines, mut refusal) = (Vec::new(), None);
        for (place, configuration) in configurations.into_iter().enumerate() {
            match Engine::new(&self.cudnn, configuration, place, &self.parts) {
                Ok(Some(engine)) if engine.workspace() <= workspace => engines.push(engine),
                Ok(_) => {}
                Err(failure) if failure.severity == Severity::Lost => return Err(failure),
                // One that the library does not take back after all is no engine: there are others.
                Err(failure) => refusal = Some(failure),
            }
            if engines.len() == most {
                break;
            }
        }
        match refusal {
            Some(failure) if engines.is_empty() => Err(failure),
            _ => Ok(engines),
        }
    }
}

/// Makes and finalises the tensors and operations of a convolution, with and without its bias; only a graph of them
/// needs a handle, and so a GPU.
#[cfg(test)]
pub(super) fn descriptors_of(
    conv: &Conv,
    channels: usize,
    layout: Layout,
    precision: Precision,
) -> Result<(), Failure> {
    let stored = data_type(precision);
    let reach = |axis: usize, size: usize| {
        let taps = conv.dilation[axis] * (conv.kernel[axis] - 1) + 1;
        (size + conv.padding[axis] + conv.padding[axis + 2] - taps) / conv.stride[axis] + 1
    };
    let (height, width) = (9, 7);
    let x = View::packed([2, channels, height, width], layout);
    let y = View::packed([2, conv.out_channels, reach(0, height), reach(1, width)], layout);
    let filters =
        View::packed([conv.out_channels, channels / conv.groups, conv.kernel[0], conv.kernel[1]], layout);
    let [x, filters, result] =
        [(X, x), (FILTER, filters), (Y, y)].map(|(id, view)| tensor(id, &view, stored, false));
    let (x, filters, result) = (x?, filters?, result?);
    convolution(conv, &x, &filters, &result)?;
    let between = tensor(BETWEEN, &y, DataType::CUDNN_DATA_FLOAT, true)?;
    let bias = tensor(BIAS, &View::packed([1, conv.out_channels, 1, 1], layout), stored, false)?;
    convolution(conv, &x, &filters, &between)?;
    sum(&between, &bias, &result)?;
    Ok(())
}

/// The tensors of a graph in the order of their addresses: [`super::Sources`].
fn ids(fused: bool) -> Vec<i64> {
    if fused { vec![X, FILTER, Y, BIAS] } else { vec![X, FILTER, Y] }
}

fn longs<const N: usize>(values: [usize; N]) -> [i64; N] {
    values.map(|value| i64::try_from(value).expect("sizes of things in memory are far below 2^63"))
}

fn tensor(id: i64, view: &View, kind: DataType, between: bool) -> Result<Descriptor, Failure> {
    let tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
    tensor.set(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[kind])?;
    tensor.set(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &longs(view.sizes))?;
    tensor.set(Name::CUDNN_ATTR_TENSOR_STRIDES, &longs(view.strides))?;
    tensor.set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[id])?;
    tensor.set(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[ALIGNMENT])?;
    if between {
        tensor.set(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, &[true])?;
    }
    tensor.finalize()
}

fn convolution(
    conv: &Conv,
    x: &Descriptor,
    filter: &Descriptor,
    y: &Descriptor,
) -> Result<Descriptor, Failure> {
    let [top, left, bottom, right] = conv.padding;
    let convolution = Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?;
    // Sums in f32, whatever is stored. Groups follow from the channels of the filters.
    convolution.set(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, &[DataType::CUDNN_DATA_FLOAT])?;
    let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
    convolution.set(Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE, &[mode])?;
    convolution.set(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2_i64])?;
    convolution.set(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &longs([top, left]))?;
    convolution.set(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &longs([bottom, right]))?;
    convolution.set(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &longs(conv.stride))?;
    convolution.set(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, &longs(conv.dilation))?;
    let convolution = convolution.finalize()?;
    let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)?;
    operation.set_descriptors(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, &[&convolution])?;
    operation.set_descriptors(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, &[x])?;
    operation.set_descriptors(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, &[filter])?;
    operation.set_descriptors(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, &[y])?;
    operation.set(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, &[1.0_f32])?;
    operation.set(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, &[0.0_f32])?;
    operation.finalize()
}

fn sum(x: &Descriptor, bias: &Descriptor, y: &Descriptor) -> Result<Descriptor, Failure> {
    let sum = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?;
    sum.set(Name::CUDNN_ATTR_POINTWISE_MODE, &[sys::cudnnPointwiseMode_t::CUDNN_POINTWISE_ADD])?;
    sum.set(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, &[DataType::CUDNN_DATA_FLOAT])?;
    let sum = sum.finalize()?;
    let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?;
    operation.set_descriptors(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &[&sum])?;
    operation.set_descriptors(Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, &[x])?;
    operation.set_descriptors(Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, &[bias])?;
    operation.set_descriptors(Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, &[y])?;
    operation.finalize()
}

fn operations(cudnn: &Cudnn, operations: &[&Descriptor]) -> Result<Descriptor, Failure> {
    let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
    graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, &[cudnn.raw()])?;
    graph.set_descriptors(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, operations)?;
    graph.finalize()
}
