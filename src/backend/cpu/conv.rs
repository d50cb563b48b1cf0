//! Convolutions: the choice of algorithm, and the sums of weights with what their taps read.

use std::ops::Range;
use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};

use crate::backend::BackendError;
use crate::network::{Conv, Role};

use super::depthwise::DepthwiseKernel;
use super::epilogue::Epilogue;
use super::grid::{Grid, Runs, copy_row};
use super::kernel::{Inputs, Job, Kernel};
use super::linear::LinearKernel;
use super::output::{Tile, Tiling, for_each_tile};
use super::panels::{Panel, Panels};
use super::parallel::Workers;
use super::simd::VectorUnit;
use super::tile;
use super::window::Window;

/// Elements of the input that a task copies: 512 KiB leave room for a panel of weights in an L2 cache of 1 MiB.
const BLOCK: usize = 1 << 17;

pub(super) fn kernel(job: &Job<'_>, conv: &Conv) -> Result<Box<dyn Kernel>, BackendError> {
    let window = Window::new(job, conv.kernel, conv.stride, conv.dilation, conv.padding)?;
    let [channels, ..] = job.chw()?;
    let covers_input = conv.padding == [0; 4] && conv.kernel == window.input;
    if covers_input && conv.groups == 1 && !job.fused.residual {
        // The window is the whole input: a fully connected layer.
        return Ok(Box::new(LinearKernel::new(job, channels * window.taps(), conv.out_channels)?));
    }
    if conv.groups == channels && channels > 1 {
        return Ok(Box::new(DepthwiseKernel::new(job, conv, window)?));
    }
    Ok(Box::new(ConvKernel::new(job, conv, window, channels)?))
}

/// What a vector holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Neighbouring output positions, for so many output channels at a time.
    Positions(usize),
    /// Output channels.
    Channels,
}

/// Sums over channels and taps, read through a table of offsets.
#[derive(Clone)]
struct ConvKernel {
    arch: Arch,
    grid: Grid,
    order: Order,
    /// One for each group.
    panels: Vec<Panels>,
    offsets: Vec<u32>,
    /// The offsets within the input itself, where positions are elements of it.
    direct: Option<Vec<u32>>,
    epilogue: Epilogue,
    groups: usize,
    /// Parts that the output channels of a group are cut into, and the panels of a part.
    splits: usize,
    panels_per_split: usize,
    /// Input channels of a group.
    channels: usize,
    input_plane: usize,
    /// Columns of an output row.
    columns: usize,
    tiling: Tiling,
}

impl ConvKernel {
    fn new(job: &Job<'_>, conv: &Conv, window: Window, channels: usize) -> Result<Self, BackendError> {
        let unit = job.unit;
        let window = window.without_rows();
        let channels = channels / conv.groups;
        let group_rows = conv.out_channels / conv.groups;
        let depth = channels * window.taps();
        let [height, columns] = window.output;

        let one_row = Grid::new(window.clone(), 1);
        let lines = one_row.most_rows(channels, BLOCK);
        let order = cheapest(&one_row, lines, group_rows, depth, unit);
        let (width, multiple) = match order {
            Order::Positions(rows) => (rows, rows),
            Order::Channels => (tile::CHANNEL_VECTORS * unit.lanes, unit.lanes),
        };
        let parts = job.batch * conv.groups;
        let splits = split_channels(&window, group_rows, width, parts, job.threads);
        let block = Tiling::new(1, height, parts * splits, lines, job.threads).tile;
        let grid = Grid::new(window, block);
        let offsets = job.offsets(&grid, channels)?;
        let epilogue = Epilogue::new(job, conv.out_channels)?;
        let weights = job.required(Role::Weight)?;
        let pack = |(group, weights): (usize, &[f32])| {
            Panels::new(weights, depth, width, multiple, |row| epilogue.terms(group * group_rows + row))
        };
        let panels: Vec<Panels> = weights.chunks_exact(group_rows * depth).enumerate().map(pack).collect();
        let rows = group_rows / splits;
        Ok(Self {
            arch: unit.arch,
            order,
            offsets,
            direct: direct_offsets(&grid, channels),
            panels,
            epilogue,
            groups: conv.groups,
            splits,
            panels_per_split: rows.div_ceil(width),
            channels,
            input_plane: grid.window().input_plane(),
            columns,
            tiling: Tiling { rows, columns: height * columns, tile: block * columns },
            grid,
        })
    }
}

/// Where a pointwise window's positions are elements of the input, it is read in place: copying it would cost more
/// than a product with few output channels. Not if its planes lie a multiple of 1 KiB apart, since their lines
/// would share few sets of the L1 cache.
fn direct_offsets(grid: &Grid, channels: usize) -> Option<Vec<u32>> {
    let plane = grid.window().input_plane();
    if !grid.is_the_input() || plane.is_multiple_of(256) {
        return None;
    }
    (0..channels).map(|channel| u32::try_from(channel * plane).ok()).collect()
}

/// The order that takes fewer vector operations for a block of `lines` output rows.
fn cheapest(grid: &Grid, lines: usize, rows: usize, depth: usize, unit: VectorUnit) -> Order {
    let runs = grid.runs(lines);
    let in_panel = if unit.registers >= 32 { 8 } else { 4 };
    let by_position = rows.next_multiple_of(in_panel) * runs.span().div_ceil(unit.lanes) * depth;
    // Sums of channels are stored one by one, which takes about as long as `lanes` products.
    let outputs = runs.count * runs.length;
    let by_channel = rows.div_ceil(unit.lanes) * outputs * (depth + unit.lanes);
    if by_position <= by_channel { Order::Positions(in_panel) } else { Order::Channels }
}

/// Parts of the output channels: one, unless the blocks alone cannot be shared out evenly and the weights are
/// larger than the input, so that it is cheaper for each thread to copy all the input than to read all weights.
fn split_channels(window: &Window, rows: usize, width: usize, parts: usize, threads: usize) -> usize {
    let heavy = rows * window.taps() > window.input_plane();
    let even = rows.is_multiple_of(threads * width);
    if heavy && even && !parts.is_multiple_of(threads) { threads } else { 1 }
}

impl Kernel for ConvKernel {
    fn algorithm(&self) -> &'static str {
        match self.order {
            Order::Positions(_) => "indirect_positions",
            Order::Channels => "indirect_channels",
        }
    }

    fn copied(&self) -> Option<Arc<dyn Kernel>> {
        Some(Arc::new(self.clone()))
    }

    fn scratch(&self) -> usize {
        self.grid.len(self.channels)
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        let input = inputs.get(0);
        let residual = inputs.residual();
        let group_input = self.channels * self.input_plane;
        // The output is a batch x groups x splits row of matrices, as the input is one of groups of channels.
        for_each_tile(workers.team, out, self.tiling, |matrix, tile| {
            workers.scratch.with(tile.thread(), |copy| {
                let input = &input[matrix / self.splits * group_input..];
                let residual = residual.map(|r| &r[matrix * self.tiling.rows * self.tiling.columns..]);
                self.arch.dispatch(Task { kernel: self, matrix, input, residual, copy, tile });
            });
        });
    }
}

/// One block of the output.
struct Task<'a> {
    kernel: &'a ConvKernel,
    matrix: usize,
    /// The input, from the channels of this block on.
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
        let range = self.tile.columns();
        let rows = range.start / kernel.columns..range.end / kernel.columns;
        let runs = kernel.grid.runs(rows.len());
        let source = self.source(simd, &rows, runs);
        let (part, split) = (self.matrix / kernel.splits, self.matrix % kernel.splits);
        let group = part % kernel.groups;
        let panels = &kernel.panels[group];
        let first = split * kernel.panels_per_split;
        for index in first..first + kernel.panels_per_split {
            let panel = panels.get(index);
            // Where the panel's first row lies in the tile.
            let first_row = panel.first - split * kernel.tiling.rows;
            match kernel.order {
                Order::Positions(8) => self.by_position::<S, 8>(simd, source, &panel, first_row, runs),
                Order::Positions(_) => self.by_position::<S, 4>(simd, source, &panel, first_row, runs),
                Order::Channels => self.by_channel(simd, source, &panel, first_row, runs),
            }
        }
    }
}

/// What the tiles of a block read: values, and the place of each (channel, tap) from a position on.
#[derive(Clone, Copy)]
struct Source<'a> {
    values: &'a [f32],
    offsets: &'a [u32],
}

impl<'a> Task<'a> {
    /// The input itself, if tiles may read whole vectors of it to the end; else a copy of what the rows need.
    #[inline(always)]
    fn source<S: Simd>(&mut self, simd: S, rows: &Range<usize>, runs: Runs) -> Source<'a> {
        let kernel = self.kernel;
        if let Some(offsets) = &kernel.direct {
            let values = &self.input[self.tile.columns().start..];
            let last = offsets.last().map_or(0, |&offset| offset as usize);
            if last + runs.span().next_multiple_of(S::F32_LANES) <= values.len() {
                return Source { values, offsets };
            }
        }
        let copy = std::mem::take(&mut self.copy);
        kernel.grid.fill(simd, &self.input[..kernel.channels * kernel.input_plane], rows, copy);
        Source { values: copy, offsets: &kernel.offsets }
    }

    #[inline(always)]
    fn by_position<S: Simd, const ROWS: usize>(
        &mut self,
        simd: S,
        Source { values, offsets }: Source<'_>,
        panel: &Panel<'_>,
        first_row: usize,
        runs: Runs,
    ) {
        let mut sums = [0.0; tile::LARGEST];
        let step = tile::POSITION_VECTORS * S::F32_LANES;
        let mut from = 0;
        while from < runs.span() {
            let positions = from..runs.span().min(from + step);
            let source = &values[from..];
            let width = tile::positions::<S, ROWS>(simd, source, offsets, panel, positions.len(), &mut sums);
            let sums = &mut sums[..panel.rows * width];
            tile::apart(
                simd,
                #[inline(always)]
                || self.store_positions(simd, sums, width, first_row, runs, positions.clone()),
            );
            from = positions.end;
        }
    }

    /// Stores sums\[row]\[position].
    #[inline(always)]
    fn store_positions<S: Simd>(
        &mut self,
        simd: S,
        sums: &mut [f32],
        width: usize,
        first_row: usize,
        runs: Runs,
        positions: Range<usize>,
    ) {
        if self.residual.is_some() {
            runs.overlapping(positions.clone(), |position, outputs| {
                for (row, sums) in sums.chunks_exact_mut(width).enumerate() {
                    let sums = &mut sums[position - positions.start..];
                    let others = self.residual(first_row + row, &outputs).unwrap_or(&[]);
                    sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
                }
            });
        }
        self.kernel.epilogue.activate(sums);
        runs.overlapping(positions.clone(), |position, outputs| {
            for (row, sums) in sums.chunks_exact(width).enumerate() {
                let sums = &sums[position - positions.start..][..outputs.len()];
                copy_row(simd, sums, &mut self.tile.row(first_row + row)[outputs.clone()]);
            }
        });
    }

    #[inline(always)]
    fn by_channel<S: Simd>(
        &mut self,
        simd: S,
        Source { values, offsets }: Source<'_>,
        panel: &Panel<'_>,
        first_row: usize,
        runs: Runs,
    ) {
        let most = if S::REGISTER_COUNT >= 32 { tile::MOST_POSITIONS } else { 6 };
        let mut sums = [0.0; tile::LARGEST];
        for run in 0..runs.count {
            let pieces = runs.length.div_ceil(most);
            for piece in 0..pieces {
                // Pieces as even as can be: a short one would leave the multipliers waiting.
                let (from, to) = (piece * runs.length / pieces, (piece + 1) * runs.length / pieces);
                let source = &values[run * runs.pitch + from..];
                tile::channels(simd, source, offsets, panel, to - from, &mut sums);
                let outputs = run * runs.length + from..run * runs.length + to;
                let sums = &sums[..outputs.len() * panel.width];
                tile::apart(
                    simd,
                    #[inline(always)]
                    || self.store_channels(sums, panel, first_row, &outputs),
                );
            }
        }
    }

    /// Stores sums\[position]\[row].
    #[inline(always)]
    fn store_channels(&mut self, sums: &[f32], panel: &Panel<'_>, first_row: usize, outputs: &Range<usize>) {
        /// At least [`tile::MOST_POSITIONS`].
        const WIDTH: usize = 16;
        let mut rows = [0.0; 2 * tile::LARGEST];
        let rows = &mut rows[..panel.rows * WIDTH];
        for (row, values) in rows.chunks_exact_mut(WIDTH).enumerate() {
            for (position, value) in values[..outputs.len()].iter_mut().enumerate() {
                *value = sums[position * panel.width + row];
            }
            if let Some(others) = self.residual(first_row + row, outputs) {
                values.iter_mut().zip(others).for_each(|(value, other)| *value += other);
            }
        }
        self.kernel.epilogue.activate(rows);
        for (row, values) in rows.chunks_exact(WIDTH).enumerate() {
            self.tile.row(first_row + row)[outputs.clone()].copy_from_slice(&values[..outputs.len()]);
        }
    }

    /// What a fused sum adds to some outputs of a row of the tile.
    #[inline(always)]
    fn residual(&self, row: usize, outputs: &Range<usize>) -> Option<&[f32]> {
        let start = row * self.kernel.tiling.columns + self.tile.columns().start + outputs.start;
        self.residual.map(|residual| &residual[start..][..outputs.len()])
    }
}
