//! Local response normalisation across channels, in ONNX's form.

use crate::backend::BackendError;
use crate::network::Lrn;

use super::kernel::{Inputs, Job, Kernel};
use super::parallel::{Workers, for_each_plane};

/// Sums the squares of the neighbouring channels in the output, then divides.
pub(super) struct LrnKernel {
    lrn: Lrn,
    channels: usize,
    plane: usize,
}

impl LrnKernel {
    pub(super) fn new(job: &Job<'_>, lrn: &Lrn) -> Result<Self, BackendError> {
        let [channels, height, width] = job.chw()?;
        Ok(Self { lrn: *lrn, channels, plane: height * width })
    }

    fn plane(&self, image: &[f32], channel: usize, out: &mut [f32]) {
        // Channels c - floor((size - 1) / 2) to c + ceil((size - 1) / 2), both included (ONNX, LRN).
        let first = channel.saturating_sub((self.lrn.size - 1) / 2);
        let last = channel.saturating_add(self.lrn.size / 2).min(self.channels - 1);
        let plane = |c: usize| &image[c * self.plane..][..self.plane];
        out.fill(0.0);
        for c in first..=last {
            out.iter_mut().zip(plane(c)).for_each(|(sum, &x)| *sum += x * x);
        }
        let (scale, offset) = (self.lrn.alpha / self.lrn.size as f32, self.lrn.k);
        let pairs = out.iter_mut().zip(plane(channel));
        if (self.lrn.beta - 0.75).abs() < f32::EPSILON {
            // The exponent of every published network; two square roots cost far less than a power.
            pairs.for_each(|(y, &x)| {
                let root = (offset + scale * *y).sqrt();
                *y = x / (root * root.sqrt());
            });
        } else {
            pairs.for_each(|(y, &x)| *y = x / (offset + scale * *y).powf(self.lrn.beta));
        }
    }
}

impl Kernel for LrnKernel {
    fn algorithm(&self) -> &'static str {
        "direct"
    }

    fn run(&self, inputs: &Inputs<'_>, out: &mut [f32], workers: Workers<'_>) {
        let x = inputs.get(0);
        let image = self.channels * self.plane;
        let work = self.plane.saturating_mul(self.lrn.size.min(self.channels) + 4);
        for_each_plane(workers, out, self.plane, work, |index, out| {
            self.plane(&x[index / self.channels * image..][..image], index % self.channels, out);
        });
    }
}
