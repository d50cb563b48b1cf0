//! Batch normalisation, local response normalisation and softmax.

use crate::backend::cuda::cudnn::{Cudnn, LrnDescriptor, Placed, TensorDescriptor, View};
use crate::backend::cuda::driver::Stream;
use crate::backend::cuda::failure::Failure;
use crate::backend::cuda::kernels::{self, NormVectors, Tensor};
use crate::backend::cuda::operation::{Job, Operation, Places};
use crate::network::{Lrn, Role};

use super::choice::{Candidates, parameter};
use super::own::Own;
use super::tools::Tools;

pub(super) fn batch_norm(tools: &Tools, job: &Job<'_>, epsilon: f32) -> Result<Candidates, Failure> {
    let mut vectors = [0; 4];
    for (place, role) in vectors.iter_mut().zip([Role::Scale, Role::Shift, Role::Mean, Role::Variance]) {
        *place = parameter(job, role)?;
    }
    let mut candidates = Candidates::default();
    candidates.offer(BatchNorm::operation(tools, job, vectors, epsilon))?;
    let form = job.output.clone();
    let launches = move |places: &Places<'_>| {
        let [scale, shift, mean, variance] = vectors.map(|place| places.parameters[place]);
        let x = Tensor { form: &form, at: places.inputs[0] };
        let y = Tensor { form: &form, at: places.output };
        Ok(vec![kernels::batch_norm(epsilon, x, NormVectors { scale, shift, mean, variance }, y)?])
    };
    candidates.offer(Own::operation(tools, "batch_norm", job.precision, launches))?;
    Ok(candidates)
}

/// Batch normalisation by cuDNN.
#[derive(Debug)]
struct BatchNorm {
    cudnn: Cudnn,
    form: TensorDescriptor,
    vectors: TensorDescriptor,
    places: [usize; 4],
    epsilon: f32,
}

impl BatchNorm {
    fn operation(
        tools: &Tools,
        job: &Job<'_>,
        places: [usize; 4],
        epsilon: f32,
    ) -> Result<Box<dyn Operation>, Failure> {
        let refused = || Failure::refused("cudnnBatchNormalizationForwardInference", "no channels to see");
        let view = View::along(&job.output, 0).ok_or_else(refused)?;
        let form = TensorDescriptor::new(view, job.precision)?;
        let vectors = TensorDescriptor::of_channels(&form)?;
        Ok(Box::new(Self { cudnn: tools.cudnn.clone(), form, vectors, places, epsilon }))
    }
}

impl Operation for BatchNorm {
    fn name(&self) -> &str {
        "cudnn batch_norm"
    }

    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure> {
        let vectors = self.places.map(|place| places.parameters[place]);
        let (x, y) = (Placed(&self.form, places.inputs[0]), Placed(&self.form, places.output));
        self.cudnn.batch_norm(stream, x, y, &self.vectors, vectors, self.epsilon)
    }
}

pub(super) fn lrn(tools: &Tools, job: &Job<'_>, of: &Lrn) -> Result<Candidates, Failure> {
    let mut candidates = Candidates::default();
    candidates.offer(CrossChannel::operation(tools, job, of))?;
    let (input, output, of) = (job.inputs[0].clone(), job.output.clone(), *of);
    let launches = move |places: &Places<'_>| {
        let x = Tensor { form: &input, at: places.inputs[0] };
        Ok(vec![kernels::lrn(&of, x, Tensor { form: &output, at: places.output })?])
    };
    candidates.offer(Own::operation(tools, "lrn", job.precision, launches))?;
    Ok(candidates)
}

/// Local response normalisation by cuDNN.
#[derive(Debug)]
struct CrossChannel {
    cudnn: Cudnn,
    norm: LrnDescriptor,
    form: TensorDescriptor,
}

impl CrossChannel {
    fn operation(tools: &Tools, job: &Job<'_>, lrn: &Lrn) -> Result<Box<dyn Operation>, Failure> {
        let refused = |text: &str| Failure::refused("cudnnLRNCrossChannelForward", text);
        if !within_limits(lrn) {
            return Err(refused("the window, k or beta is outside of cuDNN's limits"));
        }
        let view =
            View::planes(&job.inputs[0], job.layout).ok_or_else(|| refused("no planes in this layout"))?;
        Ok(Box::new(Self {
            cudnn: tools.cudnn.clone(),
            norm: LrnDescriptor::new(lrn)?,
            form: TensorDescriptor::new(view, job.precision)?,
        }))
    }
}

/// `CUDNN_LRN_MIN_N`, `CUDNN_LRN_MAX_N`, `CUDNN_LRN_MIN_K` and `CUDNN_LRN_MIN_BETA` of cudnn_ops.h.
fn within_limits(lrn: &Lrn) -> bool {
    (1..=16).contains(&lrn.size) && lrn.k >= 1e-5 && lrn.beta >= 0.01
}

impl Operation for CrossChannel {
    fn name(&self) -> &str {
        "cudnn lrn"
    }

    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure> {
        let (x, y) = (Placed(&self.form, places.inputs[0]), Placed(&self.form, places.output));
        self.cudnn.lrn(stream, &self.norm, x, y)
    }
}

pub(super) fn softmax(tools: &Tools, job: &Job<'_>, axis: usize) -> Result<Candidates, Failure> {
    let mut candidates = Candidates::default();
    candidates.offer(Softmax::operation(tools, job, axis))?;
    let (input, output) = (job.inputs[0].clone(), job.output.clone());
    let launches = move |places: &Places<'_>| {
        let x = Tensor { form: &input, at: places.inputs[0] };
        Ok(vec![kernels::softmax(axis, x, Tensor { form: &output, at: places.output })?])
    };
    candidates.offer(Own::operation(tools, "softmax", job.precision, launches))?;
    Ok(candidates)
}

/// Softmax by cuDNN, the axis seen as channels.
#[derive(Debug)]
struct Softmax {
    cudnn: Cudnn,
    form: TensorDescriptor,
}

impl Softmax {
    fn operation(tools: &Tools, job: &Job<'_>, axis: usize) -> Result<Box<dyn Operation>, Failure> {
        let refused = || Failure::refused("cudnnSoftmaxForward", "the axis cannot be seen as channels");
        let view =
            View::along(&job.output, axis).filter(|_| job.inputs[0] == job.output).ok_or_else(refused)?;
        Ok(Box::new(Self { cudnn: tools.cudnn.clone(), form: TensorDescriptor::new(view, job.precision)? }))
    }
}

impl Operation for Softmax {
    fn name(&self) -> &str {
        "cudnn softmax"
    }

    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure> {
        self.cudnn.softmax(stream, Placed(&self.form, places.inputs[0]), Placed(&self.form, places.output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisations_beyond_cudnns_limits_are_left_to_the_own_kernel() {
        // AlexNet's (Krizhevsky 2012, section 3.3).
        let usual = Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 2.0 };
        assert!(within_limits(&usual));
        assert!(!within_limits(&Lrn { size: 17, ..usual }));
        assert!(!within_limits(&Lrn { k: 0.0, ..usual }));
        assert!(!within_limits(&Lrn { beta: 0.001, ..usual }));
    }
}
