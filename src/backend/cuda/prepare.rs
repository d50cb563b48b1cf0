//! From a plan to an executor: forms, memory, and the fastest operation of each kind of work.

use std::collections::BTreeMap;

use crate::backend::places::Slot;
use crate::backend::{BackendError, CacheUse, Tensors};
use crate::network::{Layer, Network, TensorRef};
use crate::plan::{Plan, Step};

use super::driver::{Memory, Stream};
use super::executor::{CudaExecutor, Method, Parts, PreparedStep};
use super::failure::{Failure, Severity};
use super::fit::Needs;
use super::numbers;
use super::nvtx::Nvtx;
use super::operation::{Job, Places};
use super::operations::{Tools, candidates, output_form};
use super::parameters;
use super::search::{Choice, Search};
use super::tensor::TensorForm;

/// Share of the memory that is left which one operation may take as scratch memory.
const SHARE_OF_SCRATCH: u64 = 2;

/// What is wanted of an executor beside the plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes<'a> {
    /// What replays find in the caches.
    pub(super) cache: CacheUse,
    /// Algorithms that an earlier part of the run used, by signature.
    pub(super) algorithms: &'a BTreeMap<String, String>,
    /// Names of what is queued, for another profiler.
    pub(super) ranges: Option<&'static Nvtx>,
}

/// Makes an executor of a plan.
pub(super) fn prepare(
    tools: &Tools,
    network: &Network,
    plan: &Plan,
    tensors: &Tensors,
    wishes: Wishes<'_>,
) -> Result<CudaExecutor, BackendError> {
    let (gpu, stream) = (tools.gpu(), tools.stream());
    let name = gpu.name();
    let on = |failure: Failure| failure.on(name);
    let free = || gpu.memory().map(|(free, _)| free).map_err(on);
    let jobs = jobs(network, plan)?;
    let images = images(plan, &jobs, tensors);
    let parameters = images.iter().flatten().map(|image| image.len() as u64).sum();
    let needs = Needs { fixed: parameters, buffers: plan.buffer_bytes(), batch: plan.batch };
    needs.check(name, free()?)?;

    let (parameters, steps) = steps(stream, plan, &jobs, images).map_err(on)?;
    let width = plan.precision.bytes();
    let buffers = plan.buffers.iter().map(|&len| Memory::take(gpu, len * width));
    let buffers = buffers.collect::<Result<Vec<_>, _>>().map_err(on)?;
    let input = TensorForm::new(plan.batch, &network.input, plan.precision, plan.layout);
    if tensors.input.len() != input.elements() {
        let (expected, found) = (input.elements(), tensors.input.len());
        let reason = format!("input: expected {expected} elements for the batch, found {found}");
        return Err(BackendError::Device { device: name.to_string(), reason });
    }
    buffers[plan.input].write(stream, &numbers::to_device(&tensors.input, &input)).map_err(on)?;
    let methods = methods(tools, plan, &jobs, &steps, &buffers, wishes.algorithms)?;

    let scratch = methods.iter().map(|method| method.operation.workspace()).max().unwrap_or(0);
    // The buffers are taken already; a smaller batch would leave more.
    let needs = Needs { fixed: scratch as u64, ..needs };
    needs.check(name, free()? + needs.buffers)?;
    let scratch = Memory::take(gpu, scratch).map_err(on)?;
    let (cache, ranges) = (wishes.cache, wishes.ranges);
    let parts = Parts { stream: stream.clone(), methods, steps, buffers, parameters, scratch, cache, ranges };
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
    let methods = method_of_step(plan, jobs);
    for (method, ((step, job), images)) in methods.into_iter().zip(plan.steps.iter().zip(jobs).zip(images)) {
        let mut parameters = Vec::with_capacity(images.len());
        for image in images {
            let memory = Memory::holding(stream.gpu(), stream, &image)?;
            parameters.push((memory.address(), image.len()));
            memories.push(memory);
        }
        let slot = |(&buffer, form): (&usize, &TensorForm)| Slot { buffer, size: form.bytes() };
        steps.push(PreparedStep {
            name: job.layer.name.clone(),
            method,
            inputs: step.inputs.iter().zip(&job.inputs).map(slot).collect(),
            parameters,
            output: Slot { buffer: step.output, size: job.output.bytes() },
            form: job.output.clone(),
        });
    }
    Ok((memories, steps))
}

/// Which steps are computed in the same way: those of a signature whose tensors also lie in the same order, which
/// differs where one reads a tensor that was flattened and the other does not.
fn method_of_step(plan: &Plan, jobs: &[Job<'_>]) -> Vec<usize> {
    let mut kinds: Vec<(usize, &[TensorForm], &TensorForm)> = Vec::new();
    plan.steps
        .iter()
        .zip(jobs)
        .map(|(step, job)| {
            let kind = (step.signature, job.inputs.as_slice(), &job.output);
            kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            })
        })
        .collect()
}

/// The fastest operation of each method, measured at its first step on what the steps before it left.
fn methods(
    tools: &Tools,
    plan: &Plan,
    jobs: &[Job<'_>],
    steps: &[PreparedStep],
    buffers: &[Memory],
    known: &BTreeMap<String, String>,
) -> Result<Vec<Method>, BackendError> {
    let (gpu, stream) = (tools.gpu(), tools.stream());
    let on = |failure: Failure| failure.on(gpu.name());
    let most_scratch = gpu.memory().map_err(on)?.0 / SHARE_OF_SCRATCH;
    let most_scratch = usize::try_from(most_scratch).unwrap_or(usize::MAX);
    let mut search = Search::new(gpu, stream, most_scratch).map_err(on)?;
    // Steps come in the order of their methods' first use.
    let mut methods: Vec<Method> = Vec::new();
    for ((step, job), signature) in steps.iter().zip(jobs).zip(plan.steps.iter().map(|step| step.signature)) {
        let inputs: Vec<u64> = step.inputs.iter().map(|slot| buffers[slot.buffer].address()).collect();
        let parameters: Vec<u64> = step.parameters.iter().map(|(address, _)| *address).collect();
        let output = buffers[step.output.buffer].address();
        let places = Places { inputs: &inputs, parameters: &parameters, output, workspace: 0 };
        if step.method == methods.len() {
            let known = known.get(&plan.signatures[signature].text).map(String::as_str);
            let choice = search.fastest(candidates(tools, job)?, known, places);
            let Choice { operation, each, kernels, nodes } =
                choice.map_err(|failure| unsupported(failure, job, gpu.name()))?;
            methods.push(Method { operation, each, kernels, nodes });
        }
        let places = Places { workspace: search.scratch(), ..places };
        methods[step.method].operation.queue(stream, &places).map_err(on)?;
    }
    stream.sync().map_err(on)?;
    Ok(methods)
}

/// A failure of everything that could compute a layer.
fn unsupported(failure: Failure, job: &Job<'_>, device: &str) -> BackendError {
    match failure.severity {
        Severity::Refused => {
            BackendError::Unsupported { layer: job.layer.name.clone(), reason: failure.to_string() }
        }
        _ => failure.on(device),
    }
}
