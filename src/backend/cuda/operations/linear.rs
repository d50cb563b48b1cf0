//! Fully connected layers.

use crate::backend::cuda::cublaslt::{Matmul, MatmulPlaces, Product};
use crate::backend::cuda::driver::Stream;
use crate::backend::cuda::failure::Failure;
use crate::backend::cuda::kernels::{self, Tensor};
use crate::backend::cuda::operation::{Job, Operation, Places};
use crate::backend::cuda::parameters::narrow_bias;
use crate::network::{Linear, Role};
use crate::plan::Precision;

use super::around::biased;
use super::choice::{Candidates, parameter};
use super::own::Own;
use super::tools::Tools;

/// Scratch memory for parts of a sum; more than cuBLAS itself takes on any device (cuBLAS Library,
/// `cublasSetWorkspace`).
const WORKSPACE: usize = 64 << 20;

pub(super) fn candidates(tools: &Tools, job: &Job<'_>, linear: &Linear) -> Result<Candidates, Failure> {
    let features = job.inputs[0].shape.last().copied().unwrap_or(1);
    let rows = job.inputs[0].elements() / features.max(1);
    let product =
        Product { rows, features, outputs: linear.out_features, precision: job.precision, bias: linear.bias };
    let weight = parameter(job, Role::Weight)?;
    let bias = if linear.bias { Some(parameter(job, Role::Bias)?) } else { None };
    let mut candidates = Candidates::default();
    products(tools, job, product, &mut candidates)?;
    if candidates.is_empty() {
        // The input's order is in the weights.
        let (input, output) = (job.inputs[0].row_major(), job.output.clone());
        let launches = move |places: &Places<'_>| {
            let x = Tensor { form: &input, at: places.inputs[0] };
            let y = Tensor { form: &output, at: places.output };
            let bias = bias.map(|place| places.parameters[place]);
            Ok(vec![kernels::linear(x, places.parameters[weight], bias, y)?])
        };
        candidates.offer(Own::operation(tools, "linear", job.precision, launches))?;
    }
    Ok(candidates)
}

/// Products by cuBLASLt, with the bias in the epilogue; where it offers none so, with an own kernel for the bias.
pub(super) fn products(
    tools: &Tools,
    job: &Job<'_>,
    product: Product,
    candidates: &mut Candidates,
) -> Result<(), Failure> {
    let weight = parameter(job, Role::Weight)?;
    let bias = if product.bias { Some(parameter(job, Role::Bias)?) } else { None };
    let workspace = tools.workspace.min(WORKSPACE);
    let operations = |product: Product| -> Result<Vec<Box<dyn Operation>>, Failure> {
        let found = tools.blas.products(product, workspace)?.into_iter();
        let bias = bias.filter(|_| product.bias);
        Ok(found
            .map(|matmul| Box::new(Fused { matmul, product, weight, bias }) as Box<dyn Operation>)
            .collect())
    };
    let mut found = Candidates::default();
    found.offer_all(operations(product))?;
    if let (true, Some(place)) = (found.is_empty(), bias) {
        let mut plain = Candidates::default();
        plain.offer_all(operations(Product { bias: false, ..product }))?;
        // The outputs are the last axis of a row, or the channels of a convolution.
        let axis = if job.output.channels_last.is_some() { 0 } else { job.output.shape.len() - 1 };
        found.extend(plain.map(|operation| biased(tools, axis, &job.output, place, operation)));
    }
    candidates.extend(found);
    Ok(())
}

/// A product of cuBLASLt.
#[derive(Debug)]
struct Fused {
    matmul: Matmul,
    product: Product,
    weight: usize,
    bias: Option<usize>,
}

/// The address of a bias in the precision's storage type, in the image that begins at `address`.
pub(super) fn stored_bias(address: u64, len: usize, precision: Precision) -> u64 {
    match precision.bytes() {
        2 => address + narrow_bias(len) as u64,
        _ => address,
    }
}

impl Operation for Fused {
    fn name(&self) -> &str {
        self.matmul.name()
    }

    fn workspace(&self) -> usize {
        self.matmul.workspace()
    }

    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure> {
        let Product { outputs, precision, .. } = self.product;
        let bias = self.bias.map(|place| stored_bias(places.parameters[place], outputs, precision));
        self.matmul.queue(
            stream,
            &MatmulPlaces {
                x: places.inputs[0],
                weights: places.parameters[self.weight],
                y: places.output,
                bias,
                workspace: places.workspace,
            },
        )
    }
}
