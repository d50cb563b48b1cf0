//! A plan on the CPU: its buffers, its kernels, and the pool they run in.

use std::sync::Arc;

use rayon::ThreadPool;

use crate::backend::{BackendError, Executor, Tensors, host_memory};
use crate::network::{Network, TensorRef};
use crate::plan::{Plan, Step};

use super::kernel::{Inputs, Job, Kernel, Place, kernel};
use super::parallel::Scratch;

/// A prepared plan. Weights are shared with the [`Tensors`] they came from, not copied.
pub(super) struct CpuExecutor {
    device: String,
    pool: Arc<ThreadPool>,
    steps: Vec<PreparedStep>,
    buffers: Vec<Vec<f32>>,
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
        pool: Arc<ThreadPool>,
        network: &Network,
        plan: &Plan,
        tensors: &Tensors,
    ) -> Result<Self, BackendError> {
        let threads = pool.current_num_threads();
        let prepare = |step| prepare_step(network, plan, tensors, threads, step);
        let steps = plan.steps.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        let columns = steps.iter().map(|s| s.kernel.scratch()).max().unwrap_or(0);
        let scratch = std::iter::repeat_n(columns, threads);
        let needed = host_memory::f32_bytes(plan.buffers.iter().copied().chain(scratch));
        host_memory::require(device, needed)?;
        let mut buffers: Vec<Vec<f32>> = plan.buffers.iter().map(|&len| vec![0.0; len]).collect();
        let input_len = plan.batch * network.input.iter().product::<usize>();
        if tensors.input.len() != input_len {
            let found = tensors.input.len();
            let reason = format!("input: expected {input_len} elements for the batch, found {found}");
            return Err(BackendError::Device { device: device.to_string(), reason });
        }
        buffers[plan.input][..input_len].copy_from_slice(&tensors.input);
        let scratch = Scratch::new(threads, columns);
        Ok(Self { device: device.to_string(), pool, steps, buffers, scratch })
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
    threads: usize,
    step: &Step,
) -> Result<PreparedStep, BackendError> {
    let &[index] = step.layers.as_slice() else {
        let layer = step.layers.first().and_then(|&i| network.layers.get(i));
        return Err(BackendError::Unsupported {
            layer: layer.map_or_else(String::new, |l| l.name.clone()),
            reason: format!("the CPU engine runs one layer a step, found {}", step.layers.len()),
        });
    };
    let parameters = tensors.parameters.get(index).map_or(&[][..], Vec::as_slice);
    let job = Job::new(network, index, parameters, plan.batch, threads)?;
    let len = |tensor: TensorRef| plan.batch * network.shape(tensor).iter().product::<usize>();
    let place = |(&tensor, &buffer): (&TensorRef, &usize)| Place { buffer, len: len(tensor) };
    Ok(PreparedStep {
        kernel: kernel(&job)?,
        inputs: job.layer.inputs.iter().zip(&step.inputs).map(place).collect(),
        output: Place { buffer: step.output, len: len(TensorRef::Layer(index)) },
    })
}

impl Executor for CpuExecutor {
    fn launch(&mut self, step: usize) -> Result<(), BackendError> {
        let Some(PreparedStep { kernel, inputs, output }) = self.steps.get(step) else {
            return Err(self.no_step(step));
        };
        // Taken out, so that it can be written while the others are read; a plan never writes an input.
        let mut out = std::mem::take(&mut self.buffers[output.buffer]);
        let inputs = Inputs { buffers: &self.buffers, places: inputs };
        self.pool.install(|| kernel.run(&inputs, &mut out[..output.len], &self.scratch));
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
        Ok(self.buffers[output.buffer][..output.len].to_vec())
    }
}
