//! Kinds that move elements: own kernels, which no library has an equal of.

use crate::backend::cuda::failure::Failure;
use crate::backend::cuda::kernels::{self, Tensor};
use crate::backend::cuda::operation::{Job, Places};
use crate::network::Border;

use super::choice::Candidates;
use super::own::Own;
use super::tools::Tools;

/// An operation of one input that moves elements.
macro_rules! moving {
    ($tools:expr, $job:expr, $name:literal, |$x:ident, $y:ident| $launches:expr) => {{
        let (input, output) = ($job.inputs[0].clone(), $job.output.clone());
        let mut candidates = Candidates::default();
        let launches = move |places: &Places<'_>| {
            let $x = Tensor { form: &input, at: places.inputs[0] };
            let $y = Tensor { form: &output, at: places.output };
            $launches
        };
        candidates.offer(Own::operation($tools, $name, $job.precision, launches))?;
        Ok(candidates)
    }};
}

pub(super) fn concat(tools: &Tools, job: &Job<'_>, axis: usize) -> Result<Candidates, Failure> {
    let (inputs, output) = (job.inputs.clone(), job.output.clone());
    let mut candidates = Candidates::default();
    let launches = move |places: &Places<'_>| {
        let placed = inputs.iter().zip(places.inputs).map(|(form, &at)| Tensor { form, at });
        kernels::concat(axis, &placed.collect::<Vec<_>>(), Tensor { form: &output, at: places.output })
    };
    candidates.offer(Own::operation(tools, "concat", job.precision, launches))?;
    Ok(candidates)
}

pub(super) fn transpose(tools: &Tools, job: &Job<'_>, perm: &[usize]) -> Result<Candidates, Failure> {
    let perm = perm.to_vec();
    moving!(tools, job, "transpose", |x, y| kernels::transpose(&perm, x, y))
}

pub(super) fn channel_shuffle(tools: &Tools, job: &Job<'_>, groups: usize) -> Result<Candidates, Failure> {
    moving!(tools, job, "channel_shuffle", |x, y| kernels::channel_shuffle(groups, x, y))
}

pub(super) fn pad(tools: &Tools, job: &Job<'_>, border: Border, value: f32) -> Result<Candidates, Failure> {
    moving!(tools, job, "pad", |x, y| Ok(vec![kernels::pad(border, value, x, y)?]))
}

/// A view that is computed after all: its elements as they lie.
pub(super) fn view(tools: &Tools, job: &Job<'_>) -> Result<Candidates, Failure> {
    moving!(tools, job, "copy", |x, y| kernels::reorder(x, y))
}
