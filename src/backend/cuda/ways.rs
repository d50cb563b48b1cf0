//! Each way of computing a layer by itself, to be held to a reference.

use crate::backend::{BackendError, Tensors};
use crate::network::Network;
use crate::plan::Plan;

use super::driver::{Memory, Stream};
use super::failure::Failure;
use super::numbers::{from_device, to_device};
use super::operation::{Job, Operation, Places};
use super::operations::{Tools, candidates};
use super::parameters;
use super::prepare::jobs;

/// What one way of computing a layer came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// The algorithm's name.
    pub name: String,
    /// Bytes of scratch memory.
    pub workspace: usize,
    /// The whole batch, row-major, or why the library refused after all.
    pub output: Result<Vec<f32>, String>,
}

/// Every way of computing a step, each captured as windows capture it and replayed twice, over memory that holds NaN.
pub(super) fn ways(
    tools: &Tools,
    network: &Network,
    plan: &Plan,
    tensors: &Tensors,
    step: usize,
    inputs: &[Vec<f32>],
) -> Result<Vec<Way>, BackendError> {
    let on = |failure: Failure| failure.on(tools.gpu().name());
    let jobs = jobs(network, plan)?;
    let (job, layer) = (&jobs[step], plan.steps[step].layers[0]);
    let stream = tools.stream();
    let holding = |bytes: &[u8]| Memory::holding(stream.gpu(), stream, bytes);
    let images = parameters::images(job, &tensors.parameters[layer]);
    let parameters = images.iter().map(|image| holding(image)).collect::<Result<Vec<_>, _>>().map_err(on)?;
    let placed = inputs.iter().zip(&job.inputs).map(|(values, form)| holding(&to_device(values, form)));
    let inputs = placed.collect::<Result<Vec<_>, _>>().map_err(on)?;
    candidates(tools, job)?
        .into_iter()
        .map(|operation| {
            let output = computed(stream, job, operation.as_ref(), &inputs, &parameters);
            let output = match output {
                Err(failure) if failure.severity == super::failure::Severity::Lost => {
                    return Err(on(failure));
                }
                output => output.map_err(|failure| failure.to_string()),
            };
            Ok(Way { name: operation.name().to_string(), workspace: operation.workspace(), output })
        })
        .collect()
}

fn computed(
    stream: &Stream,
    job: &Job<'_>,
    operation: &dyn Operation,
    inputs: &[Memory],
    parameters: &[Memory],
) -> Result<Vec<f32>, Failure> {
    // All ones is NaN in every type: what is not written, or read from scratch memory, shows.
    let unwritten = |bytes: usize| Memory::holding(stream.gpu(), stream, &vec![0xFF; bytes]);
    let (output, workspace) = (unwritten(job.output.bytes())?, unwritten(operation.workspace())?);
    let addresses = |memories: &[Memory]| memories.iter().map(Memory::address).collect::<Vec<u64>>();
    let (inputs, parameters) = (addresses(inputs), addresses(parameters));
    let places = Places {
        inputs: &inputs,
        parameters: &parameters,
        output: output.address(),
        workspace: workspace.address(),
    };
    // Once by itself: kernels are loaded, which a capture may not do.
    operation.queue(stream, &places)?;
    stream.sync()?;
    output.write(stream, &vec![0xFF; job.output.bytes()])?;
    let graph = stream.capture(|| operation.queue(stream, &places))?.instantiate()?;
    for _ in 0..2 {
        graph.launch(stream)?;
    }
    Ok(from_device(&output.read(stream, job.output.bytes())?, &job.output))
}
