//! A plan on a GPU: its buffers, its operations, and the graphs that windows replay.

use std::mem::ManuallyDrop;

use crate::backend::places::Slot;
use crate::backend::{BackendError, CacheUse, Executor, Mark, Mix, Task};
use crate::clock::{Clock, Instant, MonotonicClock};
use crate::units::Seconds;

use super::copies::{Addresses, Source};
use super::driver::{Event, Gpu, GraphExec, Memory, Stream};
use super::failure::{Failure, Severity};
use super::marks::Marks;
use super::mixes::{PlacedMix, PlacedPart, PlannedMix};
use super::numbers;
use super::nvtx::Nvtx;
use super::operation::{Operation, Places};
use super::rotation;
use super::tensor::TensorForm;

/// Between two looks whether work is done.
const POLL: Seconds = Seconds::new(1e-4);
/// How long work that is prepared or staged may take before the device is given up.
const PATIENCE: Seconds = Seconds::new(120.0);
/// The same for what a window left: two graphs of some milliseconds.
const PATIENCE_AT_THE_END: Seconds = Seconds::new(10.0);
/// The part of the free memory that copies leave: the driver takes some for graphs.
const LEFT_FREE: u64 = 16;

/// How one kind of work is computed.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) operation: Box<dyn Operation>,
    /// One execution on data that the caches hold.
    pub(super) each: Seconds,
    pub(super) kernels: Vec<String>,
    /// Nodes of a graph that one execution takes.
    pub(super) nodes: usize,
}

/// A step with the places of what it reads and writes.
#[derive(Debug)]
pub(super) struct PreparedStep {
    /// Its layer's name.
    pub(super) name: String,
    /// Index of its method.
    pub(super) method: usize,
    pub(super) inputs: Vec<Slot>,
    /// Addresses and bytes of its layer's parameters.
    pub(super) parameters: Vec<(u64, usize)>,
    pub(super) output: Slot,
    pub(super) form: TensorForm,
}

impl PreparedStep {
    /// Where its own buffers lie, whose addresses are these.
    pub(super) fn own(&self, buffer: impl Fn(&Slot) -> u64) -> Addresses {
        Addresses {
            inputs: self.inputs.iter().map(&buffer).collect(),
            parameters: self.parameters.iter().map(|(address, _)| *address).collect(),
            output: buffer(&self.output),
        }
    }
}

/// What is ready to be repeated.
#[derive(Debug)]
struct Ready {
    task: Task,
    /// They take turns.
    graphs: Vec<GraphExec>,
    /// The one that is next.
    next: usize,
    /// Executions in each graph.
    unit: usize,
    /// What runs in them; none for passes.
    mix: Option<PlacedMix>,
}

/// A prepared plan.
#[derive(Debug)]
pub(super) struct CudaExecutor {
    // Dropped first: a graph uses all that follows.
    ready: Option<Ready>,
    marks: Marks,
    /// Released unless the GPU hangs.
    methods: ManuallyDrop<Vec<Method>>,
    steps: Vec<PreparedStep>,
    buffers: Vec<Memory>,
    /// Held for the addresses in `steps`.
    _parameters: Vec<Memory>,
    scratch: Memory,
    /// Copies of what repeated steps use, as long as the longest so far.
    copies: Memory,
    /// Bytes of the last-level cache.
    l2: usize,
    cache: CacheUse,
    notes: Vec<String>,
    /// Names what is queued for another profiler, if one asked for that.
    ranges: Option<&'static Nvtx>,
    stream: Stream,
}

/// What an executor is made of.
pub(super) struct Parts {
    pub(super) stream: Stream,
    pub(super) methods: Vec<Method>,
    pub(super) steps: Vec<PreparedStep>,
    pub(super) buffers: Vec<Memory>,
    pub(super) parameters: Vec<Memory>,
    pub(super) scratch: Memory,
    pub(super) cache: CacheUse,
    pub(super) ranges: Option<&'static Nvtx>,
}

impl CudaExecutor {
    pub(super) fn new(parts: Parts) -> Result<Self, Failure> {
        let Parts { stream, methods, steps, buffers, parameters, scratch, cache, ranges } = parts;
        let gpu = stream.gpu().clone();
        Ok(Self {
            ready: None,
            marks: Marks::new(&gpu)?,
            methods: ManuallyDrop::new(methods),
            steps,
            buffers,
            _parameters: parameters,
            scratch,
            copies: Memory::take(&gpu, 0)?,
            l2: gpu.l2_bytes()?,
            cache,
            notes: Vec::new(),
            ranges,
            stream,
        })
    }

    fn gpu(&self) -> &Gpu {
        self.stream.gpu()
    }

    fn failed(&self, failure: &Failure) -> BackendError {
        failure.on(self.gpu().name())
    }

    fn step(&self, step: usize) -> Result<&PreparedStep, Failure> {
        let expected = self.steps.len();
        self.steps.get(step).ok_or_else(|| {
            Failure::refused("CudaExecutor", format!("step: expected one below {expected}, found {step}"))
        })
    }

    /// Where a buffer of the plan lies.
    fn address(&self, slot: &Slot) -> u64 {
        self.buffers[slot.buffer].address()
    }

    fn queue(&self, step: &PreparedStep, addresses: &Addresses) -> Result<(), Failure> {
        let places = Places {
            inputs: &addresses.inputs,
            parameters: &addresses.parameters,
            output: addresses.output,
            workspace: self.scratch.address(),
        };
        self.methods[step.method].operation.queue(&self.stream, &places)
    }

    fn queue_own(&self, step: usize) -> Result<(), Failure> {
        let step = self.step(step)?;
        self.named(&step.name, || self.queue(step, &step.own(|slot| self.address(slot))))
    }

    /// Queues work under a name that another profiler shows.
    fn named<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let Some(ranges) = self.ranges else { return work() };
        ranges.push(name);
        let done = work();
        ranges.pop();
        done
    }

    /// Queues an execution of a task that is ready.
    fn queue_execution(&self, mix: Option<&PlacedMix>, at: usize) -> Result<(), Failure> {
        match mix {
            None => (0..self.steps.len()).try_for_each(|step| self.queue_own(step)),
            Some(mix) => {
                mix.execution(at).try_for_each(|(step, addresses)| self.queue(self.step(step)?, addresses))
            }
        }
    }

    /// Graphs of the executions of a task, in turns.
    fn graphs(
        &self,
        task: Task,
        mix: Option<PlacedMix>,
        unit: usize,
        count: usize,
    ) -> Result<Ready, Failure> {
        let graph = |number: usize| {
            let mut executions = number * unit..(number + 1) * unit;
            let queue = || executions.try_for_each(|at| self.queue_execution(mix.as_ref(), at));
            let graph = self.stream.capture(queue)?.instantiate()?;
            graph.upload(&self.stream)?;
            Ok(graph)
        };
        let graphs = (0..count).map(graph).collect::<Result<Vec<_>, Failure>>()?;
        Ok(Ready { task, graphs, next: 0, unit, mix })
    }

    /// How many graphs of the task that is ready take turns.
    pub(super) fn graphs_in_turn(&self) -> u64 {
        self.ready.as_ref().map_or(1, |ready| ready.graphs.len() as u64)
    }

    /// What the last step left in each copy of the mix that is ready, and the same of its filler: the whole batch,
    /// row-major. For tests.
    ///
    /// # Errors
    ///
    /// The device failed, or no mix is ready.
    pub(super) fn left(&self) -> Result<[Vec<Vec<f32>>; 2], BackendError> {
        let left = || {
            let mix = self.ready.as_ref().and_then(|ready| ready.mix.as_ref());
            let mix = mix.ok_or_else(|| Failure::refused("CudaExecutor", "no mix is ready"))?;
            let copies = self.copies.read(&self.stream, self.copies.bytes())?;
            let output = |first: usize, copy: &Vec<Addresses>| {
                let step = self.step(first + copy.len() - 1)?;
                let own = &self.buffers[step.output.buffer];
                let from = copy.last().map_or(0, |step| step.output);
                if from == own.address() {
                    return Ok(numbers::from_device(&own.read(&self.stream, step.output.size)?, &step.form));
                }
                let from = (from - self.copies.address()) as usize;
                Ok(numbers::from_device(&copies[from..][..step.output.size], &step.form))
            };
            let of_part = |part: &PlacedPart| {
                part.addresses
                    .iter()
                    .map(|copy| output(part.first, copy))
                    .collect::<Result<Vec<_>, Failure>>()
            };
            Ok([of_part(&mix.part)?, mix.filler.as_ref().map_or(Ok(Vec::new()), of_part)?])
        };
        left().map_err(|failure: Failure| self.failed(&failure))
    }

    fn passes(&self) -> Result<Ready, Failure> {
        let methods = || self.steps.iter().map(|step| &self.methods[step.method]);
        let each: Seconds = methods().map(|method| method.each).sum();
        let unit = rotation::executions(rotation::LONG, each, methods().map(|method| method.nodes).sum());
        self.graphs(Task::Pass, None, unit, 1)
    }

    /// The steps of a mix over copies of what they use. Each copy has what comes from before the first step from the
    /// plan's own buffers, where the steps before it have run.
    fn mix(&mut self, task: Task, mix: &Mix, length: Seconds, clock: &dyn Clock) -> Result<Ready, Failure> {
        for step in [mix.first, mix.last].into_iter().chain(mix.filler.map(|(step, _)| step)) {
            self.step(step)?;
        }
        if mix.first > mix.last {
            let text =
                format!("steps: expected the first before the last, found {} and {}", mix.first, mix.last);
            return Err(Failure::refused("CudaExecutor", text));
        }
        let planned = PlannedMix::new(mix, &self.steps, &self.methods, length, self.l2);
        grow(&mut self.copies, self.stream.gpu(), planned.bytes())?;
        let (unit, count) = (planned.unit, planned.graphs);
        let placed = planned
            .placed(self.copies.address(), self.copies.bytes(), |slot| self.buffers[slot.buffer].address());
        for part in placed.filler.iter().chain([&placed.part]) {
            (0..part.first).try_for_each(|earlier| self.queue_own(earlier))?;
            for &(from, to, bytes) in &part.fills {
                let from = match from {
                    Source::Buffer(buffer) => self.buffers[buffer].address(),
                    Source::Address(address) => address,
                };
                self.stream.copy(from, to, bytes)?;
            }
        }
        (mix.first..=mix.last).try_for_each(|step| self.queue_own(step))?;
        wait(&self.stream, clock, PATIENCE)?;
        self.notes.extend(placed.notes.iter().cloned());
        self.graphs(task, Some(placed), unit, count)
    }

    fn prepare(&mut self, task: Task, clock: &dyn Clock) -> Result<u64, Failure> {
        let fits = self.ready.as_ref().is_some_and(|ready| ready.task == task && task == Task::Pass);
        if !fits {
            // Nothing may run on memory that is taken away.
            wait(&self.stream, clock, PATIENCE)?;
            self.ready = None;
            self.ready = Some(match task {
                Task::Pass => self.passes()?,
                Task::Mix(mix) => self.mix(task, &mix, rotation::SHORT, clock)?,
                Task::Step(step) => {
                    let mix = Mix::of(step, step, self.cache == CacheUse::Cold);
                    self.mix(task, &mix, rotation::LONG, clock)?
                }
            });
        }
        wait(&self.stream, clock, PATIENCE)?;
        self.marks.align(&self.stream, clock)?;
        Ok(self.ready.as_ref().map_or(1, |ready| ready.unit as u64))
    }

    fn start(&mut self, task: Task, times: u64) -> Result<(), Failure> {
        let Some(ready) = self.ready.as_ref().filter(|ready| ready.task == task) else {
            return Err(Failure::refused("CudaExecutor", format!("{task:?} is repeated before it is ready")));
        };
        let name = match task {
            Task::Step(step) => &self.step(step)?.name,
            Task::Pass => "pass",
            Task::Mix(mix) => &self.step(mix.last)?.name,
        };
        let unit = ready.unit as u64;
        let in_turns = ready.graphs.iter().cycle().skip(ready.next);
        let (whole, rest) = (times / unit, (times % unit) as usize);
        let launches = in_turns.take(usize::try_from(whole).unwrap_or(usize::MAX));
        self.named(name, || launches.into_iter().try_for_each(|graph| graph.launch(&self.stream)))?;
        let next = (ready.next + (whole % ready.graphs.len() as u64) as usize) % ready.graphs.len();
        // What does not fill a graph is queued kernel by kernel.
        let from = next * ready.unit;
        (from..from + rest).try_for_each(|at| self.queue_execution(ready.mix.as_ref(), at))?;
        if let Some(ready) = &mut self.ready {
            ready.next = next;
        }
        Ok(())
    }
}

/// Makes memory so long, or as long as can be had. What it held is lost.
fn grow(memory: &mut Memory, gpu: &Gpu, wanted: usize) -> Result<(), Failure> {
    if memory.bytes() >= wanted {
        return Ok(());
    }
    // The old one goes first, so that the two need not fit together.
    *memory = Memory::take(gpu, 0)?;
    let (free, _) = gpu.memory()?;
    let spared = free - free / LEFT_FREE;
    let mut bytes = wanted.min(usize::try_from(spared).unwrap_or(usize::MAX));
    loop {
        match Memory::take(gpu, bytes) {
            // Free memory need not be in one piece.
            Err(failure) if failure.severity == Severity::OutOfMemory && bytes > 0 => bytes /= 2,
            taken => {
                *memory = taken?;
                return Ok(());
            }
        }
    }
}

/// Waits until everything queued is done, but not for a device that hangs.
fn wait(stream: &Stream, clock: &dyn Clock, patience: Seconds) -> Result<(), Failure> {
    let last = Event::new(stream.gpu())?;
    last.record(stream)?;
    let begin = clock.now();
    while !last.passed()? {
        if clock.now() - begin > patience {
            let text = format!("the GPU has not finished its work for {:.0} s", patience.value());
            return Err(Failure { severity: Severity::Lost, ..Failure::refused("cuEventQuery", text) });
        }
        clock.sleep_until(clock.now() + POLL);
    }
    Ok(())
}

/// What is queued ends first: memory that is freed under a running graph would be a lost GPU. On one that hangs nothing
/// is released: every call that does would wait for ever.
impl Drop for CudaExecutor {
    fn drop(&mut self) {
        if wait(&self.stream, &MonotonicClock::start(), PATIENCE_AT_THE_END).is_err() {
            self.gpu().abandon();
            return;
        }
        self.ready = None;
        // SAFETY: dropped once, here, and not used after.
        unsafe { ManuallyDrop::drop(&mut self.methods) };
    }
}

impl Executor for CudaExecutor {
    fn steps(&self) -> usize {
        self.steps.len()
    }

    fn launch(&mut self, step: usize) -> Result<(), BackendError> {
        self.queue_own(step).map_err(|failure| self.failed(&failure))
    }

    fn ready(&mut self, task: Task, clock: &dyn Clock) -> Result<u64, BackendError> {
        self.prepare(task, clock).map_err(|failure| self.failed(&failure))
    }

    fn repeat(&mut self, task: Task, times: u64) -> Result<(), BackendError> {
        self.start(task, times).map_err(|failure| self.failed(&failure))
    }

    fn fresh_past(&self) -> Option<f64> {
        Some(self.l2 as f64)
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.stream.sync().map_err(|failure| self.failed(&failure))
    }

    fn queues(&self) -> bool {
        true
    }

    fn mark(&mut self, _clock: &dyn Clock) -> Result<Mark, BackendError> {
        self.marks.put(&self.stream).map(Mark).map_err(|failure| self.failed(&failure))
    }

    fn passed(&mut self, mark: Mark, _clock: &dyn Clock) -> Result<Option<Instant>, BackendError> {
        self.marks.passed(mark.0).map_err(|failure| self.failed(&failure))
    }

    fn algorithm(&self, step: usize) -> &str {
        self.steps.get(step).map_or("", |step| self.methods[step.method].operation.name())
    }

    fn workspace(&self, step: usize) -> u64 {
        self.steps.get(step).map_or(0, |step| self.methods[step.method].operation.workspace() as u64)
    }

    fn kernels(&self, step: usize) -> &[String] {
        self.steps.get(step).map_or(&[], |step| &self.methods[step.method].kernels)
    }

    fn output(&mut self, step: usize) -> Result<Vec<f32>, BackendError> {
        let read = || {
            let step = self.step(step)?;
            let bytes = self.buffers[step.output.buffer].read(&self.stream, step.output.size)?;
            Ok(numbers::from_device(&bytes, &step.form))
        };
        read().map_err(|failure| self.failed(&failure))
    }
}
