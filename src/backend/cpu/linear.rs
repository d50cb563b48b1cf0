//! Fully connected layers.

use std::sync::Arc;

use crate::backend::BackendError;
use crate::network::Role;

use super::kernel::{Inputs, Job, Kernel};
use super::matmul::{Bias, Matrix, Tiling, for_each_tile};
use super::parallel::Scratch;

/// Up to as many rows, dot products are faster than a product that packs the weights.
const FEW: usize = 8;

/// Output = input x weights^T + bias, over all rows of the batch.
pub(super) struct LinearKernel {
    features: usize,
    outputs: usize,
    rows: usize,
    threads: usize,
    /// Output features x input features.
    weights: Arc<[f32]>,
    bias: Option<Arc<[f32]>>,
}

impl LinearKernel {
    pub(super) fn new(job: &Job<'_>, features: usize, outputs: usize) -> Result<Self, BackendError> {
        Ok(Self {
            features,
            outputs,
            rows: job.batch * (job.input().iter().product::<usize>() / features),
            threads: job.threads,
            weights: job.required(Role::Weight)?,
            bias: job.stored(Role::Bias),
        })
    }

    /// A few rows of input: the time is that of reading the weights, so each is read once, in order, and not
    /// packed first as a product of large matrices would.
    fn dot_products(&self, x: &[f32], out: &mut [f32]) {
        let widest = self.outputs.div_ceil(4 * self.threads);
        let tiling = Tiling::new(self.rows, self.outputs, 1, widest, self.threads);
        for_each_tile(out, tiling, |_, mut tile| {
            let range = tile.columns();
            let weights = self.weights[range.start * self.features..].chunks_exact(self.features);
            for (output, weights) in range.clone().zip(weights) {
                let bias = self.bias.as_ref().map_or(0.0, |bias| bias[output]);
                for (row, x) in x.chunks_exact(self.features).enumerate() {
                    tile.row(row)[output - range.start] = dot(weights, x) + bias;
                }
            }
        });
    }

    fn matrix(&self, x: &[f32], out: &mut [f32]) {
        let widest = self.outputs.div_ceil(self.threads);
        let tiling = Tiling::new(self.rows, self.outputs, 1, widest, self.threads);
        for_each_tile(out, tiling, |_, mut tile| {
            let range = tile.columns();
            let a = Matrix::row_major(x, self.rows, self.features, self.features);
            let weights = &self.weights[range.start * self.features..];
            let b = Matrix::column_major(weights, self.features, range.len(), self.features);
            tile.multiply(a, b, self.bias.as_deref().map_or(Bias::None, Bias::PerColumn));
        });
    }
}

impl Kernel for LinearKernel {
    fn algorithm(&self) -> &'static str {
        match self.rows {
            1 => "gemv",
            2..=FEW => "gemv_rows",
            _ => "gemm",
        }
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], _: &Scratch) {
        let x = inputs.get(0);
        if self.rows <= FEW { self.dot_products(x, out) } else { self.matrix(x, out) }
    }
}

/// Sum of products in 32 partial sums: independent chains that the compiler turns into vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 32;
    let mut sums = [0.0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a.zip(b) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}
