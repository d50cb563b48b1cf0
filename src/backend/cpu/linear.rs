//! Fully connected layers.

use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};

use crate::backend::BackendError;
use crate::network::Role;

use super::epilogue::Epilogue;
use super::kernel::{Inputs, Job, Kernel};
use super::output::{Tile, Tiling, for_each_tile};
use super::parallel::Workers;
use super::tile;

/// Rows of the input in a block of dot products.
const MOST_ROWS: usize = 8;
/// Rows of the weights in such a block.
const OUTPUTS: usize = 3;
/// Output features of a task.
const TASK: usize = 96;

/// Output = input x weights^T + bias, over all rows of the batch.
///
/// With few rows the time is that of reading the weights, so they are read where they lie, in order and, for up
/// to eight rows, once.
#[derive(Clone)]
pub(super) struct LinearKernel {
    arch: Arch,
    features: usize,
    outputs: usize,
    rows: usize,
    threads: usize,
    /// Output features x input features.
    weights: Arc<[f32]>,
    epilogue: Epilogue,
}

impl LinearKernel {
    pub(super) fn new(job: &Job<'_>, features: usize, outputs: usize) -> Result<Self, BackendError> {
        Ok(Self {
            arch: job.unit.arch,
            features,
            outputs,
            rows: job.batch * (job.input().iter().product::<usize>() / features),
            threads: job.threads,
            weights: job.required(Role::Weight)?,
            epilogue: Epilogue::new(job, outputs)?,
        })
    }
}

impl Kernel for LinearKernel {
    fn algorithm(&self) -> &'static str {
        if self.rows == 1 { "gemv" } else { "dot_products" }
    }

    fn copied(&self) -> Option<Arc<dyn Kernel>> {
        Some(Arc::new(Self { weights: Arc::from(&*self.weights), ..self.clone() }))
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        let input = inputs.get(0);
        let tiling = Tiling::new(self.rows, self.outputs, 1, TASK, self.threads);
        for_each_tile(workers.team, out, tiling, |_, tile| {
            self.arch.dispatch(Task { kernel: self, input, tile });
        });
    }
}

/// Some output features of all rows.
struct Task<'a> {
    kernel: &'a LinearKernel,
    input: &'a [f32],
    tile: Tile<'a>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let kernel = self.kernel;
        let (range, features) = (self.tile.columns(), kernel.features);
        let most = if S::REGISTER_COUNT >= 32 { MOST_ROWS } else { MOST_ROWS / 2 };
        let weights = &kernel.weights[range.start * features..range.end * features];
        for (block, weights) in weights.chunks(OUTPUTS * features).enumerate() {
            for row in (0..kernel.rows).step_by(most) {
                let count = most.min(kernel.rows - row);
                let input = &self.input[row * features..][..count * features];
                let mut sums = [[0.0; OUTPUTS]; MOST_ROWS];
                dots(simd, weights, input, features, &mut sums);
                for (index, sums) in sums[..count].iter().enumerate() {
                    let first = block * OUTPUTS;
                    let out = &mut self.tile.row(row + index)[first..];
                    let terms = out.iter_mut().zip(sums).take(weights.len() / features);
                    for (place, (out, sum)) in terms.enumerate() {
                        let output = range.start + first + place;
                        *out = sum * kernel.epilogue.factor(output) + kernel.epilogue.bias(output);
                    }
                }
            }
        }
        for row in 0..kernel.rows {
            kernel.epilogue.activate(self.tile.row(row));
        }
    }
}

/// The dot products of up to [`OUTPUTS`] rows of weights with up to [`MOST_ROWS`] rows of input.
#[inline(always)]
fn dots<S: Simd>(
    simd: S,
    weights: &[f32],
    input: &[f32],
    features: usize,
    sums: &mut [[f32; OUTPUTS]; MOST_ROWS],
) {
    macro_rules! by_rows {
        ($($n:literal)*) => {
            match input.len() / features {
                $($n => tile::apart(simd, #[inline(always)] || dots_of::<S, $n>(simd, weights, input, features, sums)),)*
                rows => unreachable!("a block has 1 to {MOST_ROWS} rows, found {rows}"),
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8);
}

#[inline(always)]
fn dots_of<S: Simd, const ROWS: usize>(
    simd: S,
    weights: &[f32],
    input: &[f32],
    features: usize,
    sums: &mut [[f32; OUTPUTS]; MOST_ROWS],
) {
    // Fewer rows of weights than a block has: the last one is computed again.
    let last = weights.len() / features - 1;
    let weights: [_; OUTPUTS] =
        std::array::from_fn(|o| S::as_simd_f32s(&weights[o.min(last) * features..][..features]));
    let input: [_; ROWS] = std::array::from_fn(|r| S::as_simd_f32s(&input[r * features..][..features]));
    let mut vectors = [[simd.splat_f32s(0.0); OUTPUTS]; ROWS];
    for k in 0..features / S::F32_LANES {
        // Indices, not iterators: these loops must be unrolled for the sums to stay in registers.
        for row in 0..ROWS {
            let value = input[row].0[k];
            for output in 0..OUTPUTS {
                let weight = weights[output].0[k];
                vectors[row][output] = simd.mul_add_e_f32s(value, weight, vectors[row][output]);
            }
        }
    }
    for (row, vectors) in vectors.iter().enumerate() {
        for (output, &vector) in vectors.iter().enumerate() {
            let rest = input[row].1.iter().zip(weights[output].1).map(|(x, w)| x * w).sum::<f32>();
            sums[row][output] = simd.reduce_sum_f32s(vector) + rest;
        }
    }
}
