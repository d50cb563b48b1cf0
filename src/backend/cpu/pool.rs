//! Maximum and mean over windows and over whole planes.

use crate::backend::BackendError;
use crate::network::Pool;

use super::kernel::{Inputs, Job, Kernel};
use super::parallel::{Workers, for_each_plane};
use super::window::{Window, fold_strided};

/// Maximum over a window. NaN wins, as in PyTorch; a window without an element gives minus infinity.
pub(super) struct MaxPoolKernel {
    window: Window,
}

/// Mean over a window. A window without an element gives NaN: 0 / 0.
pub(super) struct AvgPoolKernel {
    window: Window,
    /// Positions that count along each axis, for each output position; their product is the divisor.
    counts: [Vec<f32>; 2],
}

/// What a global pool makes of a plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reduction {
    Mean,
    Maximum,
}

/// Mean or maximum of each plane.
pub(super) struct GlobalPoolKernel {
    plane: usize,
    reduction: Reduction,
}

fn window(job: &Job<'_>, pool: &Pool) -> Result<Window, BackendError> {
    Window::new(job, pool.kernel, pool.stride, pool.dilation, pool.padding)
}

impl MaxPoolKernel {
    pub(super) fn new(job: &Job<'_>, pool: &Pool) -> Result<Self, BackendError> {
        Ok(Self { window: window(job, pool)? })
    }
}

impl AvgPoolKernel {
    pub(super) fn new(job: &Job<'_>, pool: &Pool) -> Result<Self, BackendError> {
        let window = window(job, pool)?;
        let counts = [0, 1].map(|axis| {
            let counted = |out: usize, tap: usize| {
                if pool.count_include_pad {
                    // Stated padding counts; what ceil_mode adds beyond it does not, as in PyTorch.
                    window.padded(axis, out, tap) < window.padded_size(axis)
                } else {
                    window.inside(axis, tap).contains(&out)
                }
            };
            let count = |out: usize| (0..window.kernel[axis]).filter(|&tap| counted(out, tap)).count();
            (0..window.output[axis]).map(|out| count(out) as f32).collect()
        });
        Ok(Self { window, counts })
    }
}

impl GlobalPoolKernel {
    pub(super) fn new(job: &Job<'_>, reduction: Reduction) -> Result<Self, BackendError> {
        let [_, height, width] = job.chw()?;
        Ok(Self { plane: height * width, reduction })
    }
}

/// Folds every tap of the window into a row of the output at a time.
fn fold_plane(window: &Window, input: &[f32], first: f32, out: &mut [f32], fold: impl Fn(&mut f32, f32)) {
    let width = window.input[1];
    for (y, row) in out.chunks_exact_mut(window.output[1]).enumerate() {
        row.fill(first);
        for ky in (0..window.kernel[0]).filter(|&ky| window.inside(0, ky).contains(&y)) {
            let source = &input[window.source(0, y, ky) * width..][..width];
            for kx in 0..window.kernel[1] {
                let columns = window.inside(1, kx);
                if columns.is_empty() {
                    continue;
                }
                let source = &source[window.source(1, columns.start, kx)..];
                fold_strided(&mut row[columns], source, window.stride[1], &fold);
            }
        }
    }
}

fn for_each_pooled_plane(
    workers: Workers<'_>,
    window: &Window,
    inputs: &Inputs<'_>,
    out: &mut [f32],
    pool: impl Fn(&[f32], &mut [f32]) + Sync,
) {
    let (input, plane) = (inputs.get(0), window.output_plane());
    for_each_plane(workers, out, plane, plane.saturating_mul(window.taps()), |index, out| {
        pool(&input[index * window.input_plane()..][..window.input_plane()], out);
    });
}

/// The larger of the two; NaN if either is.
fn take_larger(largest: &mut f32, value: f32) {
    // One comparison and one selection without a branch: vector code.
    *largest = if (value > *largest) | value.is_nan() { value } else { *largest };
}

impl Kernel for MaxPoolKernel {
    fn algorithm(&self) -> &'static str {
        "direct"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        for_each_pooled_plane(workers, &self.window, inputs, out, |input, out| {
            fold_plane(&self.window, input, f32::NEG_INFINITY, out, take_larger);
        });
    }
}

impl Kernel for AvgPoolKernel {
    fn algorithm(&self) -> &'static str {
        "direct"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        for_each_pooled_plane(workers, &self.window, inputs, out, |input, out| {
            fold_plane(&self.window, input, 0.0, out, |sum, value| *sum += value);
            let rows = out.chunks_exact_mut(self.window.output[1]);
            for (row, &height) in rows.zip(&self.counts[0]) {
                row.iter_mut().zip(&self.counts[1]).for_each(|(y, &width)| *y /= height * width);
            }
        });
    }
}

impl Kernel for GlobalPoolKernel {
    fn algorithm(&self) -> &'static str {
        "direct"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        let input = inputs.get(0);
        for_each_plane(workers, out, 1, self.plane, |index, out| {
            let plane = &input[index * self.plane..][..self.plane];
            out[0] = match self.reduction {
                Reduction::Mean => plane.iter().sum::<f32>() / self.plane as f32,
                Reduction::Maximum => plane.iter().fold(f32::NEG_INFINITY, |mut largest, &value| {
                    take_larger(&mut largest, value);
                    largest
                }),
            };
        });
    }
}
