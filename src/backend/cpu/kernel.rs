//! What a kernel is, and which one runs which kind of layer.

use std::sync::Arc;

use crate::backend::BackendError;
use crate::network::{Activation, Layer, LayerKind, Network, Role};

use super::activation::ActivationKernel;
use super::batch_norm::{Affine, BatchNormKernel};
use super::broadcast::{BroadcastKernel, Operator};
use super::conv;
use super::grid::Grid;
use super::linear::LinearKernel;
use super::lrn::LrnKernel;
use super::movement::{ConcatKernel, PadKernel, ShuffleKernel, TransposeKernel};
use super::parallel::Workers;
use super::pool::{AvgPoolKernel, GlobalPoolKernel, MaxPoolKernel, Reduction};
use super::simd::VectorUnit;
use super::softmax::SoftmaxKernel;

/// A layer prepared for one batch size. Running it allocates nothing.
pub(super) trait Kernel: Send + Sync {
    /// The algorithm, by its field's name.
    fn algorithm(&self) -> &'static str;

    /// The same with parameters of its own in memory, for one that has any.
    fn copied(&self) -> Option<Arc<dyn Kernel>> {
        None
    }

    /// Elements of scratch memory that each thread needs.
    fn scratch(&self) -> usize {
        0
    }

    /// Computes the whole batch.
    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>);
}

/// A tensor's place in a memory: the whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) len: usize,
}

/// What a step reads: parts of a memory around what it writes.
pub(super) struct Inputs<'a> {
    before: &'a [f32],
    behind: &'a [f32],
    /// Where `behind` begins.
    from: usize,
    places: &'a [Place],
}

impl<'a> Inputs<'a> {
    /// Tensors in a memory, and apart from them the one that is written, which none of them overlaps.
    pub(super) fn around(memory: &'a mut [f32], places: &'a [Place], output: Place) -> (Self, &'a mut [f32]) {
        let (before, rest) = memory.split_at_mut(output.start);
        let (out, behind) = rest.split_at_mut(output.len);
        (Self { before, behind, from: output.start + output.len, places }, out)
    }
}

impl Inputs<'_> {
    pub(super) fn get(&self, index: usize) -> &[f32] {
        let Place { start, len } = self.places[index];
        match start.checked_sub(self.from) {
            None => &self.before[start..start + len],
            Some(start) => &self.behind[start..start + len],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// What a fused sum adds to the result of the step's first layer: the input after its only one.
    pub(super) fn residual(&self) -> Option<&[f32]> {
        (self.len() > 1).then(|| self.get(1))
    }
}

/// What the layers do that a plan fused with the first one of a step.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fused {
    /// A batch norm.
    pub(super) affine: Option<Affine>,
    /// A sum with one more input.
    pub(super) residual: bool,
    /// An activation.
    pub(super) activation: Option<Activation>,
}

/// Everything a kernel is prepared from.
pub(super) struct Job<'a> {
    pub(super) layer: &'a Layer,
    /// Shapes of the inputs, without the batch.
    pub(super) shapes: Vec<&'a [usize]>,
    pub(super) parameters: &'a [Arc<[f32]>],
    pub(super) batch: usize,
    pub(super) threads: usize,
    pub(super) unit: VectorUnit,
    pub(super) fused: Fused,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        network: &'a Network,
        index: usize,
        parameters: &'a [Arc<[f32]>],
        batch: usize,
        threads: usize,
        unit: VectorUnit,
    ) -> Result<Self, BackendError> {
        let layer = &network.layers[index];
        let shapes = layer.inputs.iter().map(|&t| network.shape(t)).collect();
        let job = Self { layer, shapes, parameters, batch, threads, unit, fused: Fused::default() };
        let sizes = |lens: Vec<usize>| format!("{lens:?}");
        let expected: Vec<usize> = layer.parameters.iter().map(|p| p.len()).collect();
        let found: Vec<usize> = parameters.iter().map(|p| p.len()).collect();
        if expected == found {
            return Ok(job);
        }
        Err(job.unsupported(format!(
            "stored tensors: expected {} elements, found {}; make them for this network",
            sizes(expected),
            sizes(found)
        )))
    }

    /// The first input's shape, without the batch.
    pub(super) fn input(&self) -> &'a [usize] {
        self.shapes[0]
    }

    /// Channels, height and width of the first input.
    pub(super) fn chw(&self) -> Result<[usize; 3], BackendError> {
        <[usize; 3]>::try_from(self.input())
            .map_err(|_| self.unsupported("expected an input of channels x height x width".to_string()))
    }

    pub(super) fn stored(&self, role: Role) -> Option<Arc<[f32]>> {
        let place = self.layer.parameters.iter().position(|p| p.role == role)?;
        self.parameters.get(place).cloned()
    }

    pub(super) fn required(&self, role: Role) -> Result<Arc<[f32]>, BackendError> {
        self.stored(role).ok_or_else(|| self.unsupported(format!("it has no stored {role:?}").to_lowercase()))
    }

    /// The table of offsets of a copy of some channels.
    pub(super) fn offsets(&self, grid: &Grid, channels: usize) -> Result<Vec<u32>, BackendError> {
        let reason = || "what one row of its output reads has more than 2^32 elements".to_string();
        grid.offsets(channels).ok_or_else(|| self.unsupported(reason()))
    }

    pub(super) fn unsupported(&self, reason: String) -> BackendError {
        BackendError::Unsupported { layer: self.layer.name.clone(), reason }
    }
}

pub(super) fn kernel(job: &Job<'_>) -> Result<Box<dyn Kernel>, BackendError> {
    let fused = &job.fused;
    let fits = match &job.layer.kind {
        LayerKind::Conv(_) => true,
        LayerKind::Linear(_) => fused.affine.is_none() && !fused.residual,
        LayerKind::BatchNorm { .. } | LayerKind::Add { .. } => fused.affine.is_none() && !fused.residual,
        _ => *fused == Fused::default(),
    };
    if !fits {
        return Err(job.unsupported(format!("it cannot be fused with {fused:?}; plan the network again")));
    }
    Ok(match &job.layer.kind {
        LayerKind::Conv(conv) => conv::kernel(job, conv)?,
        LayerKind::Linear(linear) => {
            let features = job.input().last().copied().unwrap_or(1);
            Box::new(LinearKernel::new(job, features, linear.out_features)?)
        }
        LayerKind::Activation(activation) => Box::new(ActivationKernel(*activation)),
        LayerKind::MaxPool(pool) => Box::new(MaxPoolKernel::new(job, pool)?),
        LayerKind::AvgPool(pool) => Box::new(AvgPoolKernel::new(job, pool)?),
        LayerKind::GlobalAvgPool => Box::new(GlobalPoolKernel::new(job, Reduction::Mean)?),
        LayerKind::GlobalMaxPool => Box::new(GlobalPoolKernel::new(job, Reduction::Maximum)?),
        LayerKind::BatchNorm { epsilon } => Box::new(BatchNormKernel::new(job, *epsilon)?),
        LayerKind::Lrn(lrn) => Box::new(LrnKernel::new(job, lrn)?),
        LayerKind::Add { .. } => Box::new(BroadcastKernel::new(job, Operator::Add)),
        LayerKind::Mul { .. } => Box::new(BroadcastKernel::new(job, Operator::Mul)),
        LayerKind::Concat { axis } => Box::new(ConcatKernel::new(job, *axis)),
        LayerKind::Transpose { perm } => Box::new(TransposeKernel::new(job, perm)),
        LayerKind::ChannelShuffle { groups } => Box::new(ShuffleKernel::new(job, *groups)?),
        LayerKind::Softmax { axis } => Box::new(SoftmaxKernel::new(job, *axis)),
        LayerKind::Pad { padding, value } => Box::new(PadKernel::new(job, *padding, *value)?),
        LayerKind::Flatten | LayerKind::Reshape { .. } | LayerKind::Dropout { .. } => {
            return Err(job.unsupported("a view executes nothing; plan the network again".to_string()));
        }
    })
}
