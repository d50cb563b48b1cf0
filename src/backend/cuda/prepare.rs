//! From a plan to an executor: forms, memory, and the fastest operation of each kind of work.

use crate::backend::{BackendError, CacheUse, Tensors};
use crate::network::{Layer, Network, TensorRef};
use crate::plan::{Plan, Step};

use super::driver::{Memory, Stream};
use super::executor::{CudaExecutor, Method, Parts, PreparedStep, Slot};
use super::failure::{Failure, Severity};
use super::fit::Needs;
use super::numbers;
use super::operation::{Job, Places};
use super::operations::{Tools, candidates, output_form};
use super::parameters;
use super::search::{Scratch, fastest};
use super::tensor::TensorForm;

/// Memory of rotating copies, in last-level caches: below 2 of others, 2 of the layer's own and what lies between.
const CACHES_OF_COPIES: u64 = 6;

/// Makes an executor of a plan.
pub(super) fn prepare(
    tools: &Tools,
    network: &Network,
    plan: &Plan,
    tensors: &Tensors,
    cache: CacheUse,
) -> Result<CudaExecutor, BackendError> {
    let name = tools.gpu().name();
    let on = |failure: Failure| failure.on(name);
    let jobs = jobs(network, plan)?;
    let images = images(plan, &jobs, tensors);
    let needs = Needs {
        fixed: images.iter().flatten().map(|image| image.len() as u64).sum::<u64>()
            + tools.gpu().l2_bytes().map_err(on)? as u64 * CACHES_OF_COPIES,
        buffers: plan.buffer_bytes(),
        batch: plan.batch,
    };
    needs.check(name, tools.gpu().memory().map_err(on)?.0)?;

    let stream = tools.stream();
    let (parameters, steps) = steps(stream, plan, &jobs, images).map_err(on)?;
    let width = plan.precision.bytes();
    let buffers = plan.buffers.iter().map(|&len| Memory::take(tools.gpu(), len * width));
    let buffers = buffers.collect::<Result<Vec<_>, _>>().map_err(on)?;
    let input = TensorForm::new(plan.batch, &network.input, plan.precision, plan.layout);
    if tensors.input.len() != input.elements() {
        let (expected, found) = (input.elements(), tensors.input.len());
        let reason = format!("input: expected {expected} elements for the batch, found {found}");
        return Err(BackendError::Device { device: name.to_string(), reason });
    }
    buffers[plan.input].write(stream, &numbers::to_device(&tensors.input, &input)).map_err(on)?;
    let (methods, scratch) = methods(tools, plan, &jobs, &steps, &buffers)?;
    let parts = Parts { stream: stream.clone(), methods, steps, buffers, parameters, scratch, cache };
    CudaExecutor::new(parts).map_err(on)
}

/// What each step of a plan computes, and how its tensors lie.
pub(super) fn jobs<'a>(network: &'a Network, plan: &Plan) -> Result<Vec<Job<'a>>, BackendError> {
    let forms = forms(network, plan);
    let form = |&tensor: &TensorRef| match tensor {
        TensorRef::Input => TensorForm::new(plan.batch, &network.input, plan.precision, plan.layout),
        TensorRef::Layer(index) => forms[index].clone(),
    };
    let job = |step: &Step| match step.layers.as_slice() {
        &[index] => Ok(Job {
            layer: &network.layers[index],
            inputs: network.layers[index].inputs.iter().map(form).collect(),
            output: forms[index].clone(),
            precision: plan.precision,
            layout: plan.layout,
        }),
        layers => Err(BackendError::Unsupported {
            layer: layers.first().map_or(String::new(), |&first| network.layers[first].name.clone()),
            reason: "the GPU computes layers one by one; leave out --fuse".to_string(),
        }),
    };
    plan.steps.iter().map(job).collect()
}

/// How the output of each layer lies.
fn forms(network: &Network, plan: &Plan) -> Vec<TensorForm> {
    let mut forms: Vec<TensorForm> = Vec::with_capacity(network.layers.len());
    for layer in &network.layers {
        let form = |&tensor: &TensorRef| match tensor {
            TensorRef::Input => TensorForm::new(plan.batch, &network.input, plan.precision, plan.layout),
            TensorRef::Layer(index) => forms[index].clone(),
        };
        let inputs: Vec<TensorForm> = layer.inputs.iter().map(form).collect();
        forms.push(form_of(layer, &inputs, plan));
    }
    forms
}

fn form_of(layer: &Layer, inputs: &[TensorForm], plan: &Plan) -> TensorForm {
    match inputs {
        [input, ..] if layer.kind.is_view() => input.viewed(&layer.output),
        _ => output_form(layer, inputs, plan.layout),
    }
}

/// The bytes of every step's parameters.
fn images(plan: &Plan, jobs: &[Job<'_>], tensors: &Tensors) -> Vec<Vec<Vec<u8>>> {
    let of = |(step, job): (&Step, &Job<'_>)| {
        let stored = step.layers.first().and_then(|&index| tensors.parameters.get(index));
        parameters::images(job, stored.map_or(&[][..], Vec::as_slice))
    };
    plan.steps.iter().zip(jobs).map(of).collect()
}

/// Brings the parameters to the device; the steps with all their places.
fn steps(
    stream: &Stream,
    plan: &Plan,
    jobs: &[Job<'_>],
    images: Vec<Vec<Vec<u8>>>,
) -> Result<(Vec<Memory>, Vec<PreparedStep>), Failure> {
    let (mut memories, mut steps) = (Vec::new(), Vec::with_capacity(plan.steps.len()));
    for ((step, job), images) in plan.steps.iter().zip(jobs).zip(images) {
        let mut parameters = Vec::with_capacity(images.len());
        for image in images {
            let memory = Memory::holding(stream.gpu(), stream, &image)?;
            parameters.push((memory.address(), image.len()));
            memories.push(memory);
        }
        let slot = |(&buffer, form): (&usize, &TensorForm)| Slot { buffer, bytes: form.bytes() };
        steps.push(PreparedStep {
            method: step.signature,
            inputs: step.inputs.iter().zip(&job.inputs).map(slot).collect(),
            parameters,
            output: Slot { buffer: step.output, bytes: job.output.bytes() },
            form: job.output.clone(),
        });
    }
    Ok((memories, steps))
}

/// The fastest operation of each signature, measured at its first step on what the steps before it left.
fn methods(
    tools: &Tools,
    plan: &Plan,
    jobs: &[Job<'_>],
    steps: &[PreparedStep],
    buffers: &[Memory],
) -> Result<(Vec<Method>, Memory), BackendError> {
    let (gpu, stream) = (tools.gpu(), tools.stream());
    let on = |failure: Failure| failure.on(gpu.name());
    let mut scratch = Scratch::new(gpu).map_err(on)?;
    let mut methods: Vec<Option<Method>> = plan.signatures.iter().map(|_| None).collect();
    for (step, job) in steps.iter().zip(jobs) {
        let inputs: Vec<u64> = step.inputs.iter().map(|slot| buffers[slot.buffer].address()).collect();
        let parameters: Vec<u64> = step.parameters.iter().map(|(address, _)| *address).collect();
        let output = buffers[step.output.buffer].address();
        let places = Places { inputs: &inputs, parameters: &parameters, output, workspace: 0 };
        let method = &mut methods[step.method];
        if method.is_none() {
            let unsupported = |failure: Failure| match failure.severity {
                Severity::Refused => {
                    BackendError::Unsupported { layer: job.layer.name.clone(), reason: failure.to_string() }
                }
                _ => failure.on(gpu.name()),
            };
            let choice = fastest(gpu, stream, candidates(tools, job)?, places, &mut scratch);
            let choice = choice.map_err(unsupported)?;
            *method = Some(Method { operation: choice.operation, each: choice.each, kernels: Vec::new() });
        }
        let Some(method) = method else { continue };
        let places = Places { workspace: scratch.address(), ..places };
        if method.kernels.is_empty() {
            let graph = stream.capture(|| method.operation.queue(stream, &places)).map_err(on)?;
            method.kernels = graph.kernels().map_err(on)?;
        }
        method.operation.queue(stream, &places).map_err(on)?;
    }
    stream.sync().map_err(on)?;
    let methods: Vec<Method> = methods.into_iter().flatten().collect();
    // What only candidates needed that were not taken is given back.
    drop(scratch);
    let workspace = methods.iter().map(|method| method.operation.workspace()).max().unwrap_or(0);
    Ok((methods, Memory::take(gpu, workspace).map_err(on)?))
}
