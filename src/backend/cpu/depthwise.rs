//! Depthwise convolutions: each output channel reads one input channel, so there is no matrix to multiply.

use std::ops::Range;
use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};

use crate::backend::BackendError;
use crate::network::{Conv, Role};

use super::epilogue::Epilogue;
use super::grid::{Grid, copy_row};
use super::kernel::{Inputs, Job, Kernel};
use super::output::{Tile, Tiling, for_each_tile};
use super::parallel::Workers;
use super::tile;
use super::window::Window;

/// Products of a task: large enough to hide what a task costs, small enough to spread over the threads.
const TASK: usize = 1 << 18;
/// Elements of the input that are copied at a time, for the L1 cache.
const BLOCK: usize = 1 << 12;

/// Sums over the taps, many neighbouring outputs at a time.
#[derive(Clone)]
pub(super) struct DepthwiseKernel {
    arch: Arch,
    grid: Grid,
    offsets: Vec<u32>,
    /// Rows of the output that are computed from one copy.
    lines: usize,
    tiling: Tiling,
    out_channels: usize,
    /// Output channels for each input channel.
    multiplier: usize,
    /// Output channels x taps.
    weights: Vec<f32>,
    epilogue: Epilogue,
}

impl DepthwiseKernel {
    pub(super) fn new(job: &Job<'_>, conv: &Conv, window: Window) -> Result<Self, BackendError> {
        let [height, columns] = window.output;
        let work = window.output_plane().saturating_mul(window.taps());
        // Channels of a task: a divisor of all, so that every task has as many.
        let most = (TASK / work.max(1)).max(1);
        let rows = (1..=most.min(conv.out_channels)).rev().find(|n| conv.out_channels.is_multiple_of(*n));
        let rows = rows.unwrap_or(1);
        let blocks = (window.input_plane().div_ceil(BLOCK)).clamp(1, height);
        let lines = height.div_ceil(blocks);
        let parts = job.batch * conv.out_channels / rows;
        let tile = Tiling::new(rows, height, parts, height.div_ceil(work.div_ceil(TASK)), job.threads).tile;
        let grid = Grid::new(window, lines);
        let offsets = job.offsets(&grid, 1)?;
        let epilogue = Epilogue::new(job, conv.out_channels)?;
        let weights = job.required(Role::Weight)?;
        let taps = grid.window().taps();
        let scaled = |(index, weight): (usize, &f32)| weight * epilogue.factor(index / taps);
        Ok(Self {
            arch: job.unit.arch,
            weights: weights.iter().enumerate().map(scaled).collect(),
            epilogue,
            grid,
            offsets,
            lines,
            tiling: Tiling { rows, columns: height * columns, tile: tile * columns },
            out_channels: conv.out_channels,
            multiplier: conv.out_channels / conv.groups,
        })
    }
}

impl Kernel for DepthwiseKernel {
    fn algorithm(&self) -> &'static str {
        "direct_depthwise"
    }

    fn copied(&self) -> Option<Arc<dyn Kernel>> {
        Some(Arc::new(self.clone()))
    }

    fn scratch(&self) -> usize {
        // The copy of the input, and the sums of the same positions.
        2 * self.grid.len(1)
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        for_each_tile(workers.team, out, self.tiling, |matrix, tile| {
            workers.scratch.with(tile.thread(), |copy| {
                let first = matrix * self.tiling.rows;
                let (input, residual) = (inputs.get(0), inputs.residual());
                self.arch.dispatch(Task { kernel: self, first, input, residual, copy, tile });
            });
        });
    }
}

/// Some rows of some planes.
struct Task<'a> {
    kernel: &'a DepthwiseKernel,
    /// The first plane, counted over the whole batch.
    first: usize,
    input: &'a [f32],
    residual: Option<&'a [f32]>,
    copy: &'a mut [f32],
    tile: Tile<'a>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let kernel = self.kernel;
        let window = kernel.grid.window();
        let columns = window.output[1];
        let range = self.tile.columns();
        for row in 0..kernel.tiling.rows {
            // A multiple of the input channels, so this counts the planes of the whole batch.
            let plane = (self.first + row) / kernel.multiplier;
            let source = &self.input[plane * window.input_plane()..][..window.input_plane()];
            let (mut line, last) = (range.start / columns, range.end / columns);
            while line < last {
                let lines = line..last.min(line + kernel.lines);
                tile::apart(
                    simd,
                    #[inline(always)]
                    || self.block(simd, row, source, lines.clone()),
                );
                line = lines.end;
            }
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn block<S: Simd>(&mut self, simd: S, row: usize, source: &[f32], lines: Range<usize>) {
        let kernel = self.kernel;
        let window = kernel.grid.window();
        let plane = self.first + row;
        let channel = plane % kernel.out_channels;
        let weights = &kernel.weights[channel * window.taps()..][..window.taps()];
        let runs = kernel.grid.runs(lines.len());
        let (copy, sums) = self.copy.split_at_mut(kernel.grid.len(1));
        let sums = &mut sums[..runs.span().next_multiple_of(S::F32_LANES)];
        kernel.grid.fill(simd, source, &lines, copy);
        tile::plane(simd, copy, &kernel.offsets, weights, kernel.epilogue.bias(channel), sums);

        let begin = lines.start * window.output[1];
        if let Some(residual) = self.residual {
            let others = &residual[plane * kernel.tiling.columns + begin..];
            for (run, others) in (0..runs.count).zip(others.chunks(runs.length)) {
                let sums = &mut sums[run * runs.pitch..][..runs.length];
                sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
            }
        }
        kernel.epilogue.activate(sums);
        let from = begin - self.tile.columns().start;
        let out = &mut self.tile.row(row)[from..];
        for (run, out) in (0..runs.count).zip(out.chunks_exact_mut(runs.length)) {
            copy_row(simd, &sums[run * runs.pitch..][..runs.length], out);
        }
    }
}
