//! A plan on the CPU: its buffers, its kernels, and the threads they run on.

use std::sync::Arc;

use crate::backend::{BackendError, Executor, Tensors, host_memory};
use crate::network::{LayerKind, Network, Parameter, TensorRef};
use crate::plan::{Plan, Step};

use super::batch_norm::Affine;
use super::buffer::Buffer;
use super::kernel::{Inputs, Job, Kernel, Place, kernel};
use super::parallel::{Scratch, Workers};
use super::simd::VectorUnit;
use super::team::Team;

/// A prepared plan. Weights of linear layers are shared with the [`Tensors`] they came
/// from; those of convolutions are packed into copies.
pub(super) struct CpuExecutor {
    device: String,
    team: Arc<Team>,
    steps: Vec<PreparedStep>,
    buffers: Vec<Buffer>,
    scratch: Scratch,
}

struct PreparedStep {
    kernel: Box<dyn Kernel>,
    inputs: Vec<Place>,
    output: Place,
}

impl CpuExecutor {
    pub(super) fn new(
        device: &str,
        team: Arc<Team>,
        unit: VectorUnit,
        network: &Network,
        plan: &Plan,
        tensors: &Tensors,
    ) -> Result<Self, BackendError> {
        let threads = team.threads();
        // Asked before the weights are packed, and again when the scratch memory is known.
        let packed = plan.steps.iter().filter_map(|step| network.layers.get(*step.layers.first()?));
        let packed = packed.filter(|layer| matches!(layer.kind, LayerKind::Conv(_)));
        let packed: Vec<usize> = packed.flat_map(|layer| &layer.parameters).map(Parameter::len).collect();
        let planned = plan.buffers.iter().copied();
        host_memory::require(device, host_memory::f32_bytes(planned.chain(packed)))?;
        let prepare = |step| prepare_step(network, plan, tensors, (threads, unit), step);
        let steps = plan.steps.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        let columns = steps.iter().map(|s| s.kernel.scratch()).max().unwrap_or(0);
        let scratch = std::iter::repeat_n(columns, threads);
        let needed = host_memory::f32_bytes(plan.buffers.iter().copied().chain(scratch));
        host_memory::require(device, needed)?;
        let buffers = plan.buffers.iter().map(|&len| Buffer::new(len)).collect::<Result<Vec<_>, _>>();
        let mut buffers = buffers.map_err(|error| BackendError::Device {
            device: device.to_string(),
            reason: format!("cannot get {} bytes for the buffers: {error}", plan.buffer_bytes()),
        })?;
        let input_len = plan.batch * network.input.iter().product::<usize>();
        if tensors.input.len() != input_len {
            let found = tensors.input.len();
            let reason = format!("input: expected {input_len} elements for the batch, found {found}");
            return Err(BackendError::Device { device: device.to_string(), reason });
        }
        buffers[plan.input].values_mut()[..input_len].copy_from_slice(&tensors.input);
        let scratch = Scratch::new(threads, columns);
        Ok(Self { device: device.to_string(), team, steps, buffers, scratch })
    }

    fn no_step(&self, step: usize) -> BackendError {
        let reason = format!("step: expected one below {}, found {step}", self.steps.len());
        BackendError::Device { device: self.device.clone(), reason }
    }
}

fn prepare_step(
    network: &Network,
    plan: &Plan,
    tensors: &Tensors,
    (threads, unit): (usize, VectorUnit),
    step: &Step,
) -> Result<PreparedStep, BackendError> {
    let stored = |index: usize| tensors.parameters.get(index).map_or(&[][..], Vec::as_slice);
    let job = |index: usize| Job::new(network, index, stored(index), plan.batch, threads, unit);
    let Some((&first, fused)) = step.layers.split_first() else {
        return Err(BackendError::Unsupported {
            layer: String::new(),
            reason: "a step without layers; plan the network again".to_string(),
        });
    };
    let mut prepared = job(first)?;
    for &index in fused {
        let part = job(index)?;
        match &part.layer.kind {
            LayerKind::BatchNorm { epsilon } => prepared.fused.affine = Some(Affine::new(&part, *epsilon)?),
            LayerKind::Add { operand: None } => prepared.fused.residual = true,
            LayerKind::Activation(activation) => prepared.fused.activation = Some(*activation),
            kind => {
                return Err(
                    part.unsupported(format!("{} is never fused; plan the network again", kind.name()))
                );
            }
        }
    }
    let len = |tensor: TensorRef| plan.batch * network.shape(tensor).iter().product::<usize>();
    let place = |(&tensor, &buffer): (&TensorRef, &usize)| Place { buffer, len: len(tensor) };
    Ok(PreparedStep {
        kernel: kernel(&prepared)?,
        inputs: step.reads.iter().zip(&step.inputs).map(place).collect(),
        output: Place { buffer: step.output, len: len(TensorRef::Layer(first)) },
    })
}

impl Executor for CpuExecutor {
    fn steps(&self) -> usize {
        self.steps.len()
    }

    fn launch(&mut self, step: usize) -> Result<(), BackendError> {
        let Some(PreparedStep { kernel, inputs, output }) = self.steps.get(step) else {
            return Err(self.no_step(step));
        };
        // Taken out, so that it can be written while the others are read; a plan never writes an input.
        let mut out = std::mem::take(&mut self.buffers[output.buffer]);
        let inputs = Inputs { buffers: &self.buffers, places: inputs };
        let workers = Workers { team: &self.team, scratch: &self.scratch };
        kernel.run(&inputs, &mut out.values_mut()[..output.len], workers);
        self.buffers[output.buffer] = out;
        Ok(())
    }

    /// Nothing to wait for: a launch returns when it has finished.
    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn algorithm(&self, step: usize) -> &str {
        self.steps.get(step).map_or("", |s| s.kernel.algorithm())
    }

    fn output(&mut self, step: usize) -> Result<Vec<f32>, BackendError> {
        let output = self.steps.get(step).ok_or_else(|| self.no_step(step))?.output;
        Ok(self.buffers[output.buffer].values()[..output.len].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::simd::Vectors;
    use super::*;
    use crate::backend::WeightOptions;
    use crate::network::{Conv, Definition, INPUT, LayerDefinition, LayerKind, Linear, Origin};
    use crate::plan::PlanOptions;

    fn network() -> Network {
        let conv = LayerKind::Conv(Conv {
            out_channels: 4,
            kernel: [3, 3],
            stride: [1, 1],
            padding: [1; 4],
            dilation: [1, 1],
            groups: 1,
            bias: true,
        });
        let kinds = [conv, LayerKind::Flatten, LayerKind::Linear(Linear { out_features: 5, bias: true })];
        let mut last = INPUT.to_string();
        let mut layers = Vec::new();
        for (i, kind) in kinds.into_iter().enumerate() {
            let name = format!("l{i}");
            let inputs = vec![std::mem::replace(&mut last, name.clone())];
            layers.push(LayerDefinition {
                name,
                kind,
                inputs,
                origin: Origin::File,
                values: BTreeMap::new(),
                same_padding: false,
            });
        }
        let [name, file, sha256] = ["test", "test.toml", ""].map(str::to_string);
        let input = vec![2, 6, 6];
        Network::new(Definition { name, file, sha256, input, set: BTreeMap::new(), layers }).unwrap()
    }

    fn executor(network: &Network) -> CpuExecutor {
        let team = Arc::new(Team::new(2).unwrap());
        let plan = Plan::new(network, &PlanOptions::default()).unwrap();
        let tensors = Tensors::new(network, &WeightOptions { seed: 1, batch: 1 }).unwrap();
        CpuExecutor::new("test", team, VectorUnit::detect(Vectors::Widest), network, &plan, &tensors).unwrap()
    }

    #[test]
    fn a_launch_uses_only_memory_that_prepare_allocated() {
        let mut executor = executor(&network());
        let places = |e: &CpuExecutor| {
            let buffers: Vec<_> = e.buffers.iter().map(|b| b.values().as_ptr_range()).collect();
            (buffers, e.scratch.places())
        };
        let before = places(&executor);
        assert!(before.1.iter().all(|&(_, capacity)| capacity >= 64 + 2 * 3 * 8), "{before:?}");
        for step in [0, 1, 0, 1] {
            executor.launch(step).unwrap();
        }
        assert_eq!(places(&executor), before);
    }

    #[test]
    fn each_step_names_its_algorithm() {
        let executor = executor(&network());
        // The order of a convolution depends on the vectors that the processor has.
        assert!(["indirect_positions", "indirect_channels"].contains(&executor.algorithm(0)));
        assert_eq!([1, 2].map(|step| executor.algorithm(step)), ["gemv", ""]);
    }
}
