//! The engines of the graph interface: which graphs they can do, what is said of them, and what they compute.

use std::collections::BTreeMap;

use cudarc::cudnn::sys::cudnnBackendNumericalNote_t as Note;

use crate::arithmetic::{Convolution, Scale, View, row_major};
use crate::machine::Machine;
use crate::numbers::Number;
use crate::queue::Work;

/// A tensor of a graph.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) id: i64,
    pub(super) number: Number,
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) alignment: usize,
    /// Whether it is never written to memory.
    pub(super) is_virtual: bool,
}

impl Tensor {
    fn at(&self, pointers: &BTreeMap<i64, usize>) -> View {
        let address = pointers.get(&self.id).copied().unwrap_or(0);
        View { address, number: self.number, dims: self.dims.clone(), strides: self.strides.clone() }
    }

    fn has_channels_last(&self) -> bool {
        self.dims[1] == 1 || self.strides[1] == 1
    }

    fn bytes(&self) -> usize {
        self.dims.iter().product::<usize>() * self.number.bytes()
    }
}

/// How a convolution goes over its input.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub(super) before: [usize; 2],
    pub(super) behind: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) compute: u32,
    pub(super) turned: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Convolved {
    pub(super) shape: Shape,
    pub(super) x: Tensor,
    pub(super) w: Tensor,
    pub(super) y: Tensor,
    pub(super) alpha: f32,
    pub(super) beta: f32,
}

impl Convolved {
    /// Whether the tensors' sizes go together ("CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR", "Finalization").
    /// The number of groups is that of x's channels over w's.
    pub(super) fn fits(&self) -> bool {
        let (x, w, y) = (&self.x.dims, &self.w.dims, &self.y.dims);
        if x.len() != 4 || w.len() != 4 || y.len() != 4 {
            return false;
        }
        let along = |axis: usize| {
            let reach = (w[2 + axis] - 1) * self.shape.dilation[axis] + 1;
            let padded = x[2 + axis] + self.shape.before[axis] + self.shape.behind[axis];
            padded.checked_sub(reach).map(|room| room / self.shape.stride[axis] + 1)
        };
        x[1].is_multiple_of(w[1])
            && w[0].is_multiple_of(x[1] / w[1])
            && y[0] == x[0]
            && y[1] == w[0]
            && along(0) == Some(y[2])
            && along(1) == Some(y[3])
    }
}

/// A sum of a tensor with one that may stretch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sum {
    pub(super) x: Tensor,
    pub(super) b: Tensor,
    pub(super) y: Tensor,
    pub(super) factors: [f32; 2],
}

impl Sum {
    pub(super) fn fits(&self) -> bool {
        self.x.dims == self.y.dims
            && self.b.dims.len() == self.x.dims.len()
            && self.b.dims.iter().zip(&self.x.dims).all(|(own, size)| *own == 1 || own == size)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operation {
    Convolution(Convolved),
    Sum(Sum),
}

/// A graph that is emulated: a convolution, and perhaps a bias on what it gives.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Graph {
    convolved: Convolved,
    sum: Option<Sum>,
}

impl Graph {
    pub(super) fn of(operations: Vec<Operation>) -> Option<Self> {
        match operations.as_slice() {
            [Operation::Convolution(convolved)] if !convolved.y.is_virtual => {
                Some(Self { convolved: convolved.clone(), sum: None })
            }
            [Operation::Convolution(convolved), Operation::Sum(sum)]
            | [Operation::Sum(sum), Operation::Convolution(convolved)]
                if convolved.y.is_virtual && convolved.y == sum.x && !sum.y.is_virtual =>
            {
                Some(Self { convolved: convolved.clone(), sum: Some(sum.clone()) })
            }
            _ => None,
        }
    }

    /// Those that have addresses.
    pub(super) fn tensors(&self) -> Vec<&Tensor> {
        let mut all = vec![&self.convolved.x, &self.convolved.w];
        match &self.sum {
            None => all.push(&self.convolved.y),
            Some(sum) => all.extend([&sum.b, &sum.y]),
        }
        all
    }

    fn output(&self) -> &Tensor {
        self.sum.as_ref().map_or(&self.convolved.y, |sum| &sum.y)
    }

    fn has_channels_last(&self) -> bool {
        [&self.convolved.x, &self.convolved.w, self.output()].iter().all(|tensor| tensor.has_channels_last())
    }

    fn is_nchw(&self) -> bool {
        [&self.convolved.x, &self.convolved.w, self.output()].iter().all(|tensor| {
            let plain = row_major(&tensor.dims);
            tensor
                .dims
                .iter()
                .zip(tensor.strides.iter().zip(plain))
                .all(|(size, (own, plain))| *size == 1 || *own == plain)
        })
    }
}

/// How many engines there are: 0 multiplies and adds, 1 has tensor cores, 2 has them for channels-last tensors with a
/// large workspace, 3 is Winograd's and never works.
pub(super) const COUNT: i64 = 4;

/// Whether an engine says that it can do a graph.
pub(super) fn supports(machine: &Machine, graph: &Graph, engine: i64) -> bool {
    let convolved = &graph.convolved;
    let cores = machine.settings.capability.0 >= if convolved.x.number == Number::F32 { 8 } else { 7 };
    let computes = Number::of_cudnn(convolved.shape.compute) == Some(Number::F32);
    let one_type = convolved.x.number == convolved.w.number && graph.output().number == convolved.x.number;
    // An asymmetric padding is not for the engines that were compiled before.
    let even = convolved.shape.before == convolved.shape.behind;
    let plain = graph.sum.is_none();
    let laid_out = graph.has_channels_last() || graph.is_nchw();
    computes
        && one_type
        && laid_out
        && match engine {
            0 => plain && even,
            1 => cores && (plain || graph.has_channels_last()),
            2 => cores && graph.has_channels_last() && convolved.x.dims[1] == convolved.w.dims[1],
            _ => plain && even && convolved.w.dims[2..] == [3, 3] && convolved.shape.stride == [1, 1],
        }
}

/// The engines for a graph, the best first.
pub(super) fn ranked(machine: &Machine, graph: &Graph, fallback: bool) -> Vec<i64> {
    let order: &[i64] = if fallback { &[0] } else { &[3, 2, 1, 0] };
    order.iter().copied().filter(|engine| supports(machine, graph, *engine)).collect()
}

/// What is said of an engine's numbers.
pub(super) fn notes(_graph: &Graph, engine: i64) -> Vec<u64> {
    match engine {
        0 => Vec::new(),
        3 => vec![Note::CUDNN_NUMERICAL_NOTE_WINOGRAD as u64],
        _ => vec![Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE as u64],
    }
}

/// A graph with the engine that does it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) graph: Graph,
    pub(super) engine: i64,
}

impl Plan {
    pub(super) fn works(&self) -> bool {
        self.engine != 3
    }

    pub(super) fn workspace(&self) -> usize {
        match self.engine {
            1 => 512,
            2 => 2 * self.graph.convolved.x.bytes(),
            _ => 0,
        }
    }

    pub(super) fn work(&self, _machine: &Machine, pointers: &BTreeMap<i64, usize>) -> Work {
        let convolved = &self.graph.convolved;
        // Tensor cores see binary32 as TF32.
        let tf32 = self.engine > 0 && convolved.x.number == Number::F32;
        let convolution = Convolution {
            x: convolved.x.at(pointers),
            w: convolved.w.at(pointers),
            y: convolved.y.at(pointers),
            before: convolved.shape.before,
            stride: convolved.shape.stride,
            dilation: convolved.shape.dilation,
            groups: convolved.x.dims[1] / convolved.w.dims[1],
            turned: convolved.shape.turned,
            tf32,
        };
        let (flops, bytes) = (convolution.flops(), convolution.bytes());
        let scale = Scale { alpha: convolved.alpha, beta: convolved.beta };
        let to = self.graph.output().at(pointers);
        let bias = self.graph.sum.as_ref().map(|sum| (sum.b.at(pointers), sum.factors));
        let name = format!("emulated_cudnn_engine{}_{}", self.engine, convolved.x.number.name());
        let key = (self.clone(), pointers.clone());
        let mut work = Work::kernel(&name, move |memory| {
            let mut values = convolution.compute(memory)?;
            let Some((bias, factors)) = &bias else { return to.blend(memory, &values, scale) };
            let bias = bias.read_stretched(memory, &to.dims)?;
            for (value, bias) in values.iter_mut().zip(bias) {
                *value = factors[0] * scale.alpha * *value + factors[1] * bias;
            }
            to.write(memory, &values)
        })
        .known_by(&key);
        work.slowness = match self.engine {
            0 => 1.3,
            1 => 0.6,
            _ => 0.4,
        };
        work.costing(flops, bytes)
    }
}
