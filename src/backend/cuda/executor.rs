//! A plan on a GPU: its buffers, its operations, and the graphs that windows replay.

use std::mem::ManuallyDrop;

use crate::backend::{BackendError, CacheUse, Executor, Mark, Task};
use crate::clock::{Clock, Instant, MonotonicClock};
use crate::units::Seconds;

use super::driver::{Event, Gpu, Graph, GraphExec, Memory, Stream};
use super::failure::{Failure, Severity};
use super::marks::Marks;
use super::numbers;
use super::nvtx::Nvtx;
use super::operation::{Operation, Places};
use super::rotation;
use super::tensor::TensorForm;

/// Where copies of different buffers begin: what every library's kernels are content with.
const ALIGNMENT: usize = 256;

/// Between two looks whether work is done.
const POLL: Seconds = Seconds::new(1e-4);
/// How long work that is prepared or staged may take before the device is given up.
const PATIENCE: Seconds = Seconds::new(120.0);
/// The same for what a window left: two graphs of some milliseconds.
const PATIENCE_AT_THE_END: Seconds = Seconds::new(10.0);

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

/// A buffer as one tensor uses it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// Index in the plan's buffers.
    pub(super) buffer: usize,
    /// Bytes of the tensor.
    pub(super) bytes: usize,
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
    /// Its inputs, each once: a layer may read a tensor twice.
    fn distinct_inputs(&self) -> Vec<Slot> {
        let mut distinct: Vec<Slot> = Vec::with_capacity(self.inputs.len());
        for slot in &self.inputs {
            if distinct.iter().all(|known| known.buffer != slot.buffer) {
                distinct.push(*slot);
            }
        }
        distinct
    }

    /// Bytes of all that one execution touches.
    fn footprint(&self) -> usize {
        let inputs = self.distinct_inputs();
        let inputs = inputs.iter().map(|slot| slot.bytes);
        let parameters = self.parameters.iter().map(|&(_, bytes)| bytes);
        let all = inputs.chain(parameters).chain([self.output.bytes]);
        all.map(|bytes| bytes.next_multiple_of(ALIGNMENT)).sum()
    }

    /// How many copies of its buffers take turns, and the bytes of all.
    pub(super) fn rotation(&self, cache: usize, nodes: usize, wanted: CacheUse) -> (usize, usize) {
        let footprint = self.footprint();
        match rotation::copies(footprint, cache, nodes, wanted) {
            // Its own buffers do.
            1 => (1, 0),
            copies => (copies, copies * footprint),
        }
    }
}

/// What is ready to be repeated.
#[derive(Debug)]
struct Ready {
    task: Task,
    graph: GraphExec,
    /// Executions in the graph.
    unit: u64,
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
    /// Rotating copies of one step's buffers.
    copies: Memory,
    cache: CacheUse,
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
    /// Room for the copies of any step's buffers.
    pub(super) copies: Memory,
    pub(super) cache: CacheUse,
    pub(super) ranges: Option<&'static Nvtx>,
}

/// The addresses of one copy of a step's buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Addresses {
    inputs: Vec<u64>,
    parameters: Vec<u64>,
    output: u64,
}

impl CudaExecutor {
    pub(super) fn new(parts: Parts) -> Result<Self, Failure> {
        let Parts { stream, methods, steps, buffers, parameters, scratch, copies, cache, ranges } = parts;
        let gpu = stream.gpu().clone();
        Ok(Self {
            ready: None,
            marks: Marks::new(&gpu)?,
            methods: ManuallyDrop::new(methods),
            steps,
            buffers,
            _parameters: parameters,
            scratch,
            copies,
            cache,
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

    /// Where a step's own buffers lie.
    fn own(&self, step: &PreparedStep) -> Addresses {
        let address = |slot: &Slot| self.buffers[slot.buffer].address();
        Addresses {
            inputs: step.inputs.iter().map(address).collect(),
            parameters: step.parameters.iter().map(|(address, _)| *address).collect(),
            output: address(&step.output),
        }
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
        self.named(&step.name, || self.queue(step, &self.own(step)))
    }

    /// Queues work under a name that another profiler shows.
    fn named<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let Some(ranges) = self.ranges else { return work() };
        ranges.push(name);
        let done = work();
        ranges.pop();
        done
    }

    /// Copies a step's inputs and parameters as often as they take turns; the places of all copies.
    fn copy(&mut self, step: usize) -> Result<Vec<Addresses>, Failure> {
        let l2 = self.gpu().l2_bytes()?;
        let step = self.step(step)?;
        let (count, bytes) = step.rotation(l2, self.methods[step.method].nodes, self.cache);
        let own = self.own(step);
        if count == 1 {
            return Ok(vec![own]);
        }
        if self.copies.bytes() < bytes {
            return Err(Failure::refused("CudaExecutor", "the copies were not prepared"));
        }
        let inputs = step.distinct_inputs();
        let mut next = self.copies.address();
        let mut place = |bytes: usize| {
            let here = next;
            next += bytes.next_multiple_of(ALIGNMENT) as u64;
            here
        };
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            let copied: Vec<u64> = inputs.iter().map(|slot| place(slot.bytes)).collect();
            let copy_of = |slot: &Slot| {
                let at = inputs.iter().position(|known| known.buffer == slot.buffer);
                at.map_or(0, |at| copied[at])
            };
            let addresses = Addresses {
                inputs: step.inputs.iter().map(copy_of).collect(),
                parameters: step.parameters.iter().map(|&(_, bytes)| place(bytes)).collect(),
                output: place(step.output.bytes),
            };
            for (slot, &to) in inputs.iter().zip(&copied) {
                self.stream.copy(self.buffers[slot.buffer].address(), to, slot.bytes)?;
            }
            for (&(from, bytes), &to) in step.parameters.iter().zip(&addresses.parameters) {
                self.stream.copy(from, to, bytes)?;
            }
            all.push(addresses);
        }
        Ok(all)
    }

    /// A graph of about 20 ms of a task.
    fn graph(&mut self, task: Task) -> Result<Ready, Failure> {
        let (unit, graph) = match task {
            Task::Step(step) => self.graph_of_step(step)?,
            Task::Pass => self.graph_of_passes()?,
            Task::Mix(_) => return Err(Failure::refused("CudaExecutor", "mixes are not there yet")),
        };
        let graph = graph.instantiate()?;
        graph.upload(&self.stream)?;
        Ok(Ready { task, graph, unit })
    }

    fn graph_of_step(&mut self, step: usize) -> Result<(u64, Graph), Failure> {
        let copies = self.copy(step)?;
        let step = self.step(step)?;
        let method = &self.methods[step.method];
        let unit = rotation::executions(method.each, method.nodes, copies.len());
        let turns = copies.iter().cycle().take(usize::try_from(unit).unwrap_or(usize::MAX));
        let queue = || turns.into_iter().try_for_each(|addresses| self.queue(step, addresses));
        Ok((unit, self.stream.capture(queue)?))
    }

    fn graph_of_passes(&self) -> Result<(u64, Graph), Failure> {
        let methods = || self.steps.iter().map(|step| &self.methods[step.method]);
        let each: Seconds = methods().map(|method| method.each).sum();
        let unit = rotation::executions(each, methods().map(|method| method.nodes).sum(), 1);
        let pass = || (0..self.steps.len()).try_for_each(|step| self.queue_own(step));
        Ok((unit, self.stream.capture(|| (0..unit).try_for_each(|_| pass()))?))
    }

    fn prepare(&mut self, task: Task, clock: &dyn Clock) -> Result<u64, Failure> {
        if let Task::Step(step) = task {
            (0..=step).try_for_each(|earlier| self.queue_own(earlier))?;
            wait(&self.stream, clock, PATIENCE)?;
        }
        let fits = self.ready.as_ref().is_some_and(|ready| ready.task == task && task == Task::Pass);
        if !fits {
            self.ready = None;
            self.ready = Some(self.graph(task)?);
        }
        wait(&self.stream, clock, PATIENCE)?;
        self.marks.align(&self.stream, clock)?;
        Ok(self.ready.as_ref().map_or(1, |ready| ready.unit))
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
        let launch = || (0..times / ready.unit).try_for_each(|_| ready.graph.launch(&self.stream));
        self.named(name, launch)?;
        // What does not fill a graph is queued kernel by kernel.
        (0..times % ready.unit).try_for_each(|_| match task {
            Task::Step(step) => self.queue_own(step),
            Task::Pass => (0..self.steps.len()).try_for_each(|step| self.queue_own(step)),
            Task::Mix(mix) => mix.steps().try_for_each(|step| self.queue_own(step)),
        })
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
            let bytes = self.buffers[step.output.buffer].read(&self.stream, step.output.bytes)?;
            Ok(numbers::from_device(&bytes, &step.form))
        };
        read().map_err(|failure| self.failed(&failure))
    }
}
