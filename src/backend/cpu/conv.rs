//! Convolutions: the choice of algorithm, and the products of weights with tiles of columns.

use std::sync::Arc;

use crate::backend::BackendError;
use crate::network::{Conv, Role};

use super::columns;
use super::depthwise::DepthwiseKernel;
use super::kernel::{Inputs, Job, Kernel};
use super::linear::LinearKernel;
use super::matmul::{Bias, Matrix, Tiling, for_each_tile};
use super::parallel::Scratch;
use super::window::Window;

/// Elements of a tile of columns: 1 MiB stays in the L2 cache between being written and being read. On an
/// AVX-512 server core a quarter of it took 30 % more CPU time over VGG-16's convolutions, twice as much the
/// same.
const TILE: usize = 1 << 18;

/// The narrowest tile: below one vector the product wastes most of its arithmetic.
const NARROWEST: usize = 16;

pub(super) fn kernel(job: &Job<'_>, conv: &Conv) -> Result<Box<dyn Kernel>, BackendError> {
    let window = Window::new(job, conv.kernel, conv.stride, conv.dilation, conv.padding)?;
    let [channels, ..] = job.chw()?;
    let covers_input = conv.padding == [0; 4] && conv.kernel == window.input;
    if covers_input && conv.groups == 1 {
        // The window is the whole input: a fully connected layer.
        return Ok(Box::new(LinearKernel::new(job, channels * window.taps(), conv.out_channels)?));
    }
    if conv.groups == channels && channels > 1 {
        return Ok(Box::new(DepthwiseKernel::new(job, conv, window)?));
    }
    Ok(Box::new(ConvKernel::new(job, conv, window, channels)?))
}

/// Weights times columns, tile by tile; a 1x1 convolution reads its input as columns.
struct ConvKernel {
    window: Window,
    groups: usize,
    /// Input channels of a group.
    channels: usize,
    tiling: Tiling,
    pointwise: bool,
    /// All output channels x (channels of a group x taps).
    weights: Arc<[f32]>,
    bias: Option<Arc<[f32]>>,
}

impl ConvKernel {
    fn new(job: &Job<'_>, conv: &Conv, window: Window, channels: usize) -> Result<Self, BackendError> {
        let group_channels = channels / conv.groups;
        let pointwise = conv.kernel == [1, 1] && conv.stride == [1, 1] && conv.padding == [0; 4];
        let widest = (TILE / (group_channels * window.taps())).max(NARROWEST);
        let parts = job.batch * conv.groups;
        let rows = conv.out_channels / conv.groups;
        Ok(Self {
            tiling: Tiling::new(rows, window.output_plane(), parts, widest, job.threads),
            window,
            groups: conv.groups,
            channels: group_channels,
            pointwise,
            weights: job.required(Role::Weight)?,
            bias: job.stored(Role::Bias),
        })
    }

    /// Length of a row of weights.
    fn depth(&self) -> usize {
        self.channels * self.window.taps()
    }
}

impl Kernel for ConvKernel {
    fn algorithm(&self) -> &'static str {
        if self.pointwise { "gemm_1x1" } else { "im2col_gemm" }
    }

    fn scratch(&self) -> usize {
        if self.pointwise { 0 } else { self.depth().saturating_mul(self.tiling.tile) }
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], scratch: &Scratch) {
        let (rows, depth, plane) = (self.tiling.rows, self.depth(), self.window.output_plane());
        let group_input = self.channels * self.window.input_plane();
        let input = inputs.get(0);
        // The output is a batch x groups row of matrices, as the input is of groups of channels.
        for_each_tile(out, self.tiling, |matrix, mut tile| {
            let group = matrix % self.groups;
            let image = &input[matrix * group_input..][..group_input];
            let weights = Matrix::row_major(&self.weights[group * rows * depth..], rows, depth, depth);
            let bias = match &self.bias {
                Some(bias) => Bias::PerRow(&bias[group * rows..][..rows]),
                None => Bias::None,
            };
            let range = tile.columns();
            let width = range.len();
            if self.pointwise {
                let columns = Matrix::row_major(&image[range.start..], depth, width, plane);
                tile.multiply(weights, columns, bias);
            } else {
                scratch.with(|buffer| {
                    let buffer = &mut buffer[..depth * width];
                    columns::fill(&self.window, image, range, buffer);
                    tile.multiply(weights, Matrix::row_major(buffer, depth, width, width), bias);
                });
            }
        });
    }
}
