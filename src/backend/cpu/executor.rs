//! A plan on the CPU: its buffers, its kernels, and the threads they run on.

use std::sync::Arc;

use crate::backend::places::Slot;
use crate::backend::{BackendError, Executor, Mix, Task, Tensors, host_memory};
use crate::clock::Clock;
use crate::network::{LayerKind, Network, Parameter, TensorRef};
use crate::plan::{Plan, Step};

use super::batch_norm::Affine;
use super::buffer::Buffer;
use super::kernel::{Inputs, Job, Kernel, Place, kernel};
use super::mixes::{self, Fill, PlacedMix, PlacedStep};
use super::parallel::{Scratch, Workers};
use super::simd::VectorUnit;
use super::team::Team;

/// Where the plan's buffers begin in their memory, in elements: a page.
const PAGE: usize = 1024;

/// What computes.
pub(super) struct Processor {
    pub(super) team: Arc<Team>,
    pub(super) unit: VectorUnit,
    /// Bytes of the last-level cache; none where the system does not tell.
    pub(super) cache: Option<usize>,
}

/// A prepared plan. Weights of linear layers are shared with the [`Tensors`] they came
/// from; those of convolutions are packed into copies.
pub(super) struct CpuExecutor {
    device: String,
    processor: Processor,
    steps: Vec<PreparedStep>,
    /// The same with their places in `memory`.
    own: Vec<PlacedStep>,
    /// Where each of the plan's buffers lies in it.
    places: Vec<Place>,
    memory: Buffer,
    scratch: Scratch,
    /// The mix that is ready.
    mix: Option<PlacedMix>,
    notes: Vec<String>,
}

/// A step with what it reads and writes, in elements.
pub(super) struct PreparedStep {
    /// The name of its first layer.
    pub(super) name: String,
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) inputs: Vec<Slot>,
    pub(super) output: Slot,
    /// Elements of its parameters.
    pub(super) parameters: usize,
}

impl CpuExecutor {
    pub(super) fn new(
        device: &str,
        processor: Processor,
        network: &Network,
        plan: &Plan,
        tensors: &Tensors,
    ) -> Result<Self, BackendError> {
        let threads = processor.team.threads();
        // Asked before the weights are packed, and again when the scratch memory is known.
        let packed = plan.steps.iter().filter_map(|step| network.layers.get(*step.layers.first()?));
        let packed = packed.filter(|layer| matches!(layer.kind, LayerKind::Conv(_)));
        let packed: Vec<usize> = packed.flat_map(|layer| &layer.parameters).map(Parameter::len).collect();
        let planned = plan.buffers.iter().copied();
        host_memory::require(device, host_memory::f32_bytes(planned.chain(packed)))?;
        let prepare = |step| prepare_step(network, plan, tensors, (threads, processor.unit), step);
        let steps = plan.steps.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        let columns = steps.iter().map(|s| s.kernel.scratch()).max().unwrap_or(0);
        let scratch = std::iter::repeat_n(columns, threads);
        let needed = host_memory::f32_bytes(plan.buffers.iter().copied().chain(scratch));
        host_memory::require(device, needed)?;
        let mut end = 0;
        let place = |&len: &usize| {
            let start = end;
            end += len.next_multiple_of(PAGE);
            Place { start, len }
        };
        let places: Vec<Place> = plan.buffers.iter().map(place).collect();
        let mut memory = Buffer::new(end).map_err(|error| BackendError::Device {
            device: device.to_string(),
            reason: format!("cannot get {} bytes for the buffers: {error}", plan.buffer_bytes()),
        })?;
        let input_len = plan.batch * network.input.iter().product::<usize>();
        if tensors.input.len() != input_len {
            let found = tensors.input.len();
            let reason = format!("input: expected {input_len} elements for the batch, found {found}");
            return Err(BackendError::Device { device: device.to_string(), reason });
        }
        memory.values_mut()[places[plan.input].start..][..input_len].copy_from_slice(&tensors.input);
        let scratch = Scratch::new(threads, columns);
        let own = steps.iter().map(|step| own(step, &places)).collect();
        let device = device.to_string();
        Ok(Self { device, processor, steps, own, places, memory, scratch, mix: None, notes: Vec::new() })
    }

    fn no_step(&self, step: usize) -> BackendError {
        let reason = format!("step: expected one below {}, found {step}", self.steps.len());
        BackendError::Device { device: self.device.clone(), reason }
    }

    /// Runs steps in order over the plan's own buffers.
    fn run_own(&mut self, steps: std::ops::Range<usize>) {
        let workers = Workers { team: &self.processor.team, scratch: &self.scratch };
        run(&self.own[steps], &mut self.memory, workers);
    }

    /// Makes the copies of a mix, each with what the steps before its first one leave.
    fn place(&mut self, mix: Mix) -> Result<(), BackendError> {
        self.mix = None;
        let (mut placed, [filler, part]) =
            mixes::place(mix, &self.steps, &self.places, self.processor.cache, mixes::room())?;
        if let Some((step, _)) = mix.filler.filter(|_| !filler.is_empty()) {
            self.run_own(0..step);
            fill(&mut placed.memory, &self.memory, &filler);
        }
        self.run_own(0..mix.first);
        fill(&mut placed.memory, &self.memory, &part);
        self.notes.append(&mut placed.notes);
        self.mix = Some(placed);
        Ok(())
    }

    /// Runs a mix once, if it is ready.
    fn run_mix(&mut self, placed: &mut PlacedMix) {
        let mix = placed.mix;
        for _ in 0..mix.times {
            match placed.part.turn() {
                Some(steps) => run(steps, &mut placed.memory, self.workers()),
                None => self.run_own(mix.first..mix.last + 1),
            }
        }
        let (step, times) = mix.filler.unwrap_or((0, 0));
        for _ in 0..times {
            match placed.filler.turn() {
                Some(steps) => run(steps, &mut placed.memory, self.workers()),
                None => self.run_own(step..step + 1),
            }
        }
    }

    fn workers(&self) -> Workers<'_> {
        Workers { team: &self.processor.team, scratch: &self.scratch }
    }
}

/// A step over the plan's own buffers.
fn own(step: &PreparedStep, places: &[Place]) -> PlacedStep {
    let place = |slot: &Slot| Place { start: places[slot.buffer].start, len: slot.size };
    PlacedStep {
        kernel: Arc::clone(&step.kernel),
        inputs: step.inputs.iter().map(place).collect(),
        output: place(&step.output),
    }
}

fn run(steps: &[PlacedStep], memory: &mut Buffer, workers: Workers<'_>) {
    for PlacedStep { kernel, inputs, output } in steps {
        // A plan never writes an input.
        let (inputs, out) = Inputs::around(memory.values_mut(), inputs, *output);
        kernel.run(&inputs, out, workers);
    }
}

fn fill(to: &mut Buffer, from: &Buffer, fills: &[Fill]) {
    for (source, target) in fills {
        let values = &from.values()[source.start..][..source.len];
        to.values_mut()[target.start..][..target.len].copy_from_slice(values);
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
    let slot = |(&tensor, &buffer): (&TensorRef, &usize)| Slot { buffer, size: len(tensor) };
    let layers = || step.layers.iter().map(|&layer| &network.layers[layer]);
    Ok(PreparedStep {
        name: network.layers[first].name.clone(),
        kernel: Arc::from(kernel(&prepared)?),
        inputs: step.reads.iter().zip(&step.inputs).map(slot).collect(),
        output: Slot { buffer: step.output, size: len(TensorRef::Layer(first)) },
        parameters: layers().flat_map(|layer| &layer.parameters).map(Parameter::len).sum(),
    })
}

impl Executor for CpuExecutor {
    fn steps(&self) -> usize {
        self.steps.len()
    }

    fn launch(&mut self, step: usize) -> Result<(), BackendError> {
        if step >= self.steps.len() {
            return Err(self.no_step(step));
        }
        self.run_own(step..step + 1);
        Ok(())
    }

    /// What the copies of a mix hold stays valid from one time to the next, so that they are made once on end.
    fn ready(&mut self, task: Task, _clock: &dyn Clock) -> Result<u64, BackendError> {
        let last = match task {
            Task::Pass => return Ok(1),
            Task::Step(step) => step,
            Task::Mix(mix) => {
                let last = mix.filler.map_or(mix.last, |(filler, _)| filler.max(mix.last));
                if last >= self.steps.len() || mix.first > mix.last {
                    return Err(self.no_step(last.max(mix.first)));
                }
                if self.mix.as_ref().is_none_or(|ready| ready.mix != mix) {
                    self.place(mix)?;
                }
                mix.last
            }
        };
        (0..=last).try_for_each(|earlier| self.launch(earlier))?;
        Ok(1)
    }

    fn repeat(&mut self, task: Task, times: u64) -> Result<(), BackendError> {
        match task {
            Task::Step(step) => (0..times).try_for_each(|_| self.launch(step)),
            Task::Pass => {
                (0..times).for_each(|_| self.run_own(0..self.own.len()));
                Ok(())
            }
            Task::Mix(mix) => {
                let Some(mut placed) = self.mix.take_if(|ready| ready.mix == mix) else {
                    let reason = format!("{mix:?} is repeated before it is ready");
                    return Err(BackendError::Device { device: self.device.clone(), reason });
                };
                (0..times).for_each(|_| self.run_mix(&mut placed));
                self.mix = Some(placed);
                Ok(())
            }
        }
    }

    fn fresh_past(&self) -> Option<f64> {
        self.processor.cache.map(|bytes| bytes as f64)
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Nothing to wait for: a launch returns when it has finished.
    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn algorithm(&self, step: usize) -> &str {
        self.steps.get(step).map_or("", |s| s.kernel.algorithm())
    }

    fn output(&mut self, step: usize) -> Result<Vec<f32>, BackendError> {
        let Place { start, len } = self.own.get(step).ok_or_else(|| self.no_step(step))?.output;
        Ok(self.memory.values()[start..start + len].to_vec())
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

    fn processor(cache: Option<usize>) -> Processor {
        let team = Arc::new(Team::new(2).unwrap());
        Processor { team, unit: VectorUnit::detect(Vectors::Widest), cache }
    }

    fn executor(network: &Network) -> CpuExecutor {
        let plan = Plan::new(network, &PlanOptions::default()).unwrap();
        let tensors = Tensors::new(network, &WeightOptions { seed: 1, batch: 1 }).unwrap();
        CpuExecutor::new("test", processor(None), network, &plan, &tensors).unwrap()
    }

    #[test]
    fn a_launch_uses_only_memory_that_prepare_allocated() {
        let mut executor = executor(&network());
        let places = |e: &CpuExecutor| (e.memory.values().as_ptr_range(), e.scratch.places());
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

    /// A residual block between convolutions, with a batch norm and a linear layer behind, so that each kind of
    /// parameters occurs; the plan uses buffers again.
    const BLOCK: &str = r#"
name = "block"
input = [3, 9, 9]
[[layer]]
name = "stem"
kind = "conv"
out_channels = 4
kernel = 3
padding = 1
[[layer]]
name = "norm"
kind = "batch_norm"
[[layer]]
name = "depthwise"
kind = "conv"
out_channels = 4
kernel = 3
padding = 1
groups = 4
[[layer]]
name = "conv"
kind = "conv"
out_channels = 4
kernel = 1
[[layer]]
name = "sum"
kind = "add"
inputs = ["conv", "norm"]
[[layer]]
name = "relu"
kind = "relu"
[[layer]]
name = "flat"
kind = "flatten"
[[layer]]
name = "linear"
kind = "linear"
out_features = 7
[[layer]]
name = "softmax"
kind = "softmax"
"#;

    fn block(cache: Option<usize>) -> (CpuExecutor, Vec<Vec<f32>>) {
        let network = crate::network::parse("block.toml".as_ref(), BLOCK.as_bytes(), &[]).unwrap();
        let plan = Plan::new(&network, &PlanOptions { batch: 2, ..PlanOptions::default() }).unwrap();
        assert!(plan.buffers.len() < plan.steps.len(), "no buffer is used again");
        let tensors = Tensors::new(&network, &WeightOptions { seed: 1, batch: 2 }).unwrap();
        let mut executor = CpuExecutor::new("test", processor(cache), &network, &plan, &tensors).unwrap();
        let run = |step| {
            executor.launch(step).unwrap();
            executor.output(step).unwrap()
        };
        let outputs = (0..plan.steps.len()).map(run).collect();
        (executor, outputs)
    }

    /// What the last step of each copy left, after the copies had so many turns each.
    fn left(executor: &mut CpuExecutor, mix: Mix, turns: u64) -> [Vec<Vec<f32>>; 2] {
        let clock = crate::clock::MonotonicClock::start();
        executor.ready(Task::Mix(mix), &clock).unwrap();
        let copies =
            executor.mix.as_ref().map_or(1, |ready| ready.part.copies.len().max(ready.filler.copies.len()));
        executor.repeat(Task::Mix(mix), turns * copies as u64).unwrap();
        let ready = executor.mix.as_ref().unwrap();
        [&ready.part, &ready.filler].map(|part| {
            let output = |copy: &Vec<PlacedStep>| {
                let Place { start, len } = copy.last().unwrap().output;
                ready.memory.values()[start..][..len].to_vec()
            };
            part.copies.iter().map(output).collect()
        })
    }

    #[test]
    fn every_copy_of_an_excerpt_computes_what_the_pass_computes() {
        let (mut executor, outputs) = block(Some(40_000));
        for first in 0..outputs.len() {
            for (last, expected) in outputs.iter().enumerate().skip(first) {
                let [copies, _] = left(&mut executor, Mix::of(first, last, true), 3);
                assert!(copies.len() > 2, "{first} to {last}: {} copies", copies.len());
                assert!(copies.iter().all(|found| found == expected), "{first} to {last}");
                // The plan's own buffers have what they should, too.
                assert_eq!(&executor.output(last).unwrap(), expected, "{first} to {last}");
            }
        }
        assert_eq!(executor.notes(), Vec::<String>::new());
    }

    #[test]
    fn an_excerpt_that_finds_its_own_data_again_computes_the_same() {
        let (mut executor, outputs) = block(Some(40_000));
        for first in 0..outputs.len() {
            for (last, expected) in outputs.iter().enumerate().skip(first) {
                let [copies, _] = left(&mut executor, Mix::of(first, last, false), 3);
                // In the plan's buffers, or in one copy where the steps overwrite their input there.
                assert!(copies.len() <= 1, "{first} to {last}");
                let found = copies.first().cloned().unwrap_or_else(|| executor.output(last).unwrap());
                assert_eq!(&found, expected, "{first} to {last}");
            }
        }
    }

    #[test]
    fn a_filler_has_copies_of_its_own_and_both_keep_their_values() {
        let (mut executor, outputs) = block(Some(20_000));
        for filler in 0..outputs.len() {
            let mix = Mix { times: 3, filler: Some((filler, 2)), ..Mix::of(2, 4, true) };
            let [copies, fillers] = left(&mut executor, mix, 3);
            assert!(copies.len() > 1 && fillers.len() > 1, "{} and {} copies", copies.len(), fillers.len());
            assert!(copies.iter().all(|found| *found == outputs[4]), "behind {filler}");
            assert!(fillers.iter().all(|found| *found == outputs[filler]), "{filler}");
        }
    }

    #[test]
    fn copies_together_are_twice_the_cache_and_no_two_share_parameters() {
        let cache = 30_000;
        let (mut executor, _) = block(Some(cache));
        let linear = executor.steps.len() - 2;
        let [copies, _] = left(&mut executor, Mix::of(linear, linear, true), 1);
        // 2 x 4 x 9 x 9 elements in, 324 x 7 weights, 7 of bias and as many out: 648 + 2275 + 14, in lines of 16.
        let each = 4 * (656 + 2275 + 16);
        assert_eq!(copies.len(), 60_000_usize.div_ceil(each) + 1);
        let ready = executor.mix.as_ref().unwrap();
        let kernels = ready.part.copies.iter().map(|copy| Arc::as_ptr(&copy[0].kernel).cast::<()>());
        assert_eq!(kernels.collect::<std::collections::BTreeSet<_>>().len(), copies.len());
        assert_eq!(executor.fresh_past(), Some(30_000.0));
    }

    #[test]
    fn with_little_memory_there_are_fewer_copies_and_a_note() {
        let (executor, _) = block(None);
        let place = |mix, room| {
            let placed = mixes::place(mix, &executor.steps, &executor.places, Some(40_000), room).unwrap().0;
            (placed.part.copies.len(), placed.filler.copies.len(), placed.notes)
        };
        // The linear layer takes 11,788 bytes, of which 4 x 672 are not its parameters.
        let alone = Mix::of(6, 6, true);
        assert_eq!(place(alone, usize::MAX), (8, 0, Vec::new()));
        let (copies, _, notes) = place(alone, 40_000);
        assert_eq!(copies, 3);
        assert!(notes[0].starts_with("linear: there is memory for 3 of 8 copies"), "{notes:?}");
        assert_eq!(place(alone, 4 * 672).0, 1, "on the weights that are there");
        let (copies, _, notes) = place(alone, 100);
        assert!(copies == 0 && notes[0].contains("linear: there is no memory"), "{notes:?}");
        // The filler and the others share what there is.
        let both = Mix { filler: Some((6, 1)), ..Mix::of(2, 4, true) };
        let (copies, fillers, notes) = place(both, 60_000);
        assert!(copies >= 1 && fillers >= 1 && !notes.is_empty(), "{copies} and {fillers}: {notes:?}");
    }

    #[test]
    fn where_the_cache_is_not_known_steps_are_repeated_on_their_own_buffers() {
        let (mut executor, outputs) = block(None);
        assert_eq!(executor.fresh_past(), None);
        let [copies, _] = left(&mut executor, Mix::of(1, 1, true), 5);
        assert!(copies.is_empty());
        assert_eq!(executor.output(1).unwrap(), outputs[1]);
    }

    #[test]
    fn a_mix_that_is_not_ready_or_not_of_this_plan_is_refused() {
        let (mut executor, outputs) = block(Some(1000));
        let text = executor.repeat(Task::Mix(Mix::of(0, 1, true)), 1).unwrap_err().to_string();
        assert!(text.contains("is repeated before it is ready"), "{text}");
        let clock = crate::clock::MonotonicClock::start();
        let text = executor.ready(Task::Mix(Mix::of(0, 99, true)), &clock).unwrap_err().to_string();
        assert!(text.contains(&format!("expected one below {}, found 99", outputs.len())), "{text}");
    }
}
