//! Activations, sums and products.

use crate::backend::cuda::cudnn::{Cudnn, OpTensorDescriptor, TensorDescriptor, View};
use crate::backend::cuda::driver::Stream;
use crate::backend::cuda::failure::Failure;
use crate::backend::cuda::kernels::{self, Tensor};
use crate::backend::cuda::operation::{Job, Operation, Places};
use crate::backend::cuda::parameters::operand_form;
use crate::backend::cuda::tensor::TensorForm;
use crate::network::{Activation, Role};

use super::choice::{Candidates, parameter};
use super::form::keeps_order;
use super::own::Own;
use super::tools::Tools;

pub(super) fn activation(tools: &Tools, job: &Job<'_>, kind: Activation) -> Result<Candidates, Failure> {
    let (input, output) = (job.inputs[0].clone(), job.output.clone());
    let mut candidates = Candidates::default();
    let launches = move |places: &Places<'_>| {
        let x = Tensor { form: &input, at: places.inputs[0] };
        Ok(vec![kernels::activation(&kind, x, Tensor { form: &output, at: places.output })])
    };
    candidates.offer(Own::operation(tools, kind.name(), job.precision, launches))?;
    Ok(candidates)
}

/// How inputs become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Combination {
    Sum,
    Product,
}

pub(super) fn combined(
    tools: &Tools,
    job: &Job<'_>,
    combination: Combination,
    operand: Option<&[usize]>,
) -> Result<Candidates, Failure> {
    let Forms { inputs, stored, output } = forms(job, operand);
    let stored = match stored {
        Some(form) => Some((form, parameter(job, Role::Operand)?)),
        None => None,
    };
    let mut candidates = Candidates::default();
    if combination == Combination::Sum
        && stored.is_none()
        && inputs.len() == 2
        && inputs.iter().all(|x| *x == output)
    {
        candidates.offer(OpTensor::operation(tools, &output))?;
    }
    let name = if combination == Combination::Sum { "add" } else { "mul" };
    let launches = move |places: &Places<'_>| {
        let mut tensors: Vec<Tensor<'_>> =
            inputs.iter().zip(places.inputs).map(|(form, &at)| Tensor { form, at }).collect();
        if let Some((form, place)) = &stored {
            tensors.push(Tensor { form, at: places.parameters[*place] });
        }
        let y = Tensor { form: &output, at: places.output };
        match combination {
            Combination::Sum => kernels::add(&tensors, y),
            Combination::Product => kernels::mul(&tensors, y),
        }
    };
    candidates.offer(Own::operation(tools, name, job.precision, launches))?;
    Ok(candidates)
}

/// Forms of an element-wise kind as the kernels are told them.
#[derive(Debug, PartialEq)]
struct Forms {
    inputs: Vec<TensorForm>,
    stored: Option<TensorForm>,
    output: TensorForm,
}

/// Where all tensors lie in one order, whatever it is, they are rows of numbers: so a flattened channels-last tensor
/// needs no distances.
fn forms(job: &Job<'_>, operand: Option<&[usize]>) -> Forms {
    let stored = operand.map(|shape| operand_form(shape, &job.output));
    if job.output.strides().is_some() || !keeps_order(&job.inputs, operand) {
        return Forms { inputs: job.inputs.clone(), stored, output: job.output.clone() };
    }
    let row =
        |form: &TensorForm| TensorForm { shape: vec![form.item()], channels_last: None, ..form.clone() };
    Forms {
        inputs: job.inputs.iter().map(row).collect(),
        stored: stored.as_ref().map(row),
        output: row(&job.output),
    }
}

/// The sum of two tensors by cuDNN.
#[derive(Debug)]
struct OpTensor {
    cudnn: Cudnn,
    sum: OpTensorDescriptor,
    form: TensorDescriptor,
}

impl OpTensor {
    fn operation(tools: &Tools, form: &TensorForm) -> Result<Box<dyn Operation>, Failure> {
        Ok(Box::new(Self {
            cudnn: tools.cudnn.clone(),
            sum: OpTensorDescriptor::sum()?,
            form: TensorDescriptor::new(View::flat(form), form.precision)?,
        }))
    }
}

impl Operation for OpTensor {
    fn name(&self) -> &str {
        "cudnn op_tensor"
    }

    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure> {
        let [a, b] = [places.inputs[0], places.inputs[1]];
        self.cudnn.op_tensor(stream, &self.sum, &self.form, [a, b, places.output])
    }
}
