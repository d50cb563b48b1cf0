//! Which way of computing a layer is the fastest on this device: measured, not guessed.

use crate::units::Seconds;

use super::driver::{Event, Gpu, GraphExec, Memory, Stream};
use super::failure::{Failure, Severity};
use super::operation::{Operation, Places};

/// How often each candidate is timed, in turns with the others, so that a clock that changes meanwhile changes for all.
const ROUNDS: usize = 3;
/// Length of one timing: thousands of times the resolution of events.
const TIMING: Seconds = Seconds::new(2e-3);
/// Most executions in one timing.
const MOST: f64 = 100.0;
/// Candidates that took this many times the best one's time at first are not timed again.
const HOPELESS: f64 = 3.0;
/// Work before the first timing: a GPU that rests has a tenth of its clock.
const WARM_UP: Seconds = Seconds::new(0.3);
/// Most launches for that, should the device's time not move.
const MOST_LAUNCHES: usize = 10_000;

/// The way chosen.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) operation: Box<dyn Operation>,
    /// One execution on data that the caches hold.
    pub(super) each: Seconds,
    /// The kernels that it runs, in order; empty where the driver does not tell.
    pub(super) kernels: Vec<String>,
    /// Nodes of a graph that one execution takes.
    pub(super) nodes: usize,
}

/// Times ways of computing layers, with scratch memory that all of them share.
#[derive(Debug)]
pub(super) struct Search<'a> {
    gpu: &'a Gpu,
    stream: &'a Stream,
    scratch: Memory,
    /// No candidate gets more scratch memory.
    most_scratch: usize,
    begin: Event,
    end: Event,
    warm: bool,
}

/// A candidate that works.
struct Trial {
    // Dropped first: it runs the operation's kernels.
    graph: GraphExec,
    operation: Box<dyn Operation>,
    kernels: Vec<String>,
    nodes: usize,
    /// Seconds of one execution, by a first look.
    first: f64,
    /// Executions in `graph`.
    executions: u32,
    times: Vec<f64>,
}

impl<'a> Search<'a> {
    /// A search whose candidates get `most_scratch` bytes of scratch memory at most.
    pub(super) fn new(gpu: &'a Gpu, stream: &'a Stream, most_scratch: usize) -> Result<Self, Failure> {
        let scratch = Memory::take(gpu, 0)?;
        let (begin, end) = (Event::new(gpu)?, Event::new(gpu)?);
        Ok(Self { gpu, stream, scratch, most_scratch, begin, end, warm: false })
    }

    /// Where the scratch memory lies; enough for everything that was chosen so far.
    pub(super) fn scratch(&self) -> u64 {
        self.scratch.address()
    }

    /// Measures all candidates on real data and takes the fastest, or the one called `known` if that works: what an
    /// earlier part of a run measured is measured on.
    ///
    /// # Errors
    ///
    /// The device is lost, or no candidate works; then the last one's words.
    pub(super) fn fastest(
        &mut self,
        mut candidates: Vec<Box<dyn Operation>>,
        known: Option<&str>,
        places: Places<'_>,
    ) -> Result<Choice, Failure> {
        if let Some(known) = candidates.iter().position(|candidate| Some(candidate.name()) == known) {
            candidates = vec![candidates.swap_remove(known)];
        }
        // One size for all, before any is timed: a graph holds the address.
        candidates.retain(|candidate| candidate.workspace() <= self.most_scratch);
        candidates.sort_by_key(|candidate| candidate.workspace());
        while let Err(failure) = self.grow(candidates.last().map_or(0, |candidate| candidate.workspace())) {
            // Without those that need the most it may fit.
            if failure.severity != Severity::OutOfMemory || candidates.pop().is_none() {
                return Err(failure);
            }
        }
        let mut trials: Vec<Trial> = Vec::new();
        let mut refusal = Failure::refused("search", "nothing computes this layer");
        for candidate in candidates {
            match self.attempt(candidate, places) {
                Ok(trial) => trials.push(trial),
                Err(failure) if failure.severity == Severity::Lost => return Err(failure),
                Err(failure) => refusal = failure,
            }
        }
        let best = trials.iter().map(|trial| trial.first).fold(f64::INFINITY, f64::min);
        trials.retain(|trial| trial.first <= best * HOPELESS);
        for _ in 0..ROUNDS {
            for trial in &mut trials {
                let time = self.time(&trial.graph, trial.executions)?;
                trial.times.push(time);
            }
        }
        let chosen = trials.into_iter().map(|trial| (median(&trial.times), trial));
        let chosen = chosen.min_by(|(a, _), (b, _)| a.total_cmp(b));
        let choice = |(each, trial): (f64, Trial)| Choice {
            operation: trial.operation,
            each: Seconds::new(each),
            kernels: trial.kernels,
            nodes: trial.nodes,
        };
        chosen.map(choice).ok_or(refusal)
    }

    /// Makes the scratch memory at least so long. What needed less goes on with the new one.
    fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        if bytes > self.scratch.bytes() {
            // The old one goes first, so that the two need not fit together.
            self.scratch = Memory::take(self.gpu, 0)?;
            self.scratch = Memory::take(self.gpu, bytes)?;
        }
        Ok(())
    }

    /// Runs a candidate, so that its kernels are loaded, and captures it: windows replay graphs, and what cannot be
    /// captured is no way to compute a layer.
    fn attempt(&mut self, operation: Box<dyn Operation>, places: Places<'_>) -> Result<Trial, Failure> {
        let places = Places { workspace: self.scratch.address(), ..places };
        operation.queue(self.stream, &places)?;
        self.stream.sync()?;
        let capture = |executions: u32| {
            self.stream.capture(|| (0..executions).try_for_each(|_| operation.queue(self.stream, &places)))
        };
        let one = capture(1)?;
        let (kernels, nodes) = (one.kernels()?, one.nodes()?);
        let one = one.instantiate()?;
        self.warm_up(&one)?;
        let first = self.time(&one, 1)?;
        let executions = (TIMING.value() / first).clamp(1.0, MOST) as u32;
        let graph = capture(executions)?.instantiate()?;
        Ok(Trial { operation, kernels, nodes, first, executions, graph, times: Vec::new() })
    }

    /// Lets the GPU work until its clock is up, once.
    fn warm_up(&mut self, graph: &GraphExec) -> Result<(), Failure> {
        if std::mem::replace(&mut self.warm, true) {
            return Ok(());
        }
        self.begin.record(self.stream)?;
        for _ in 0..MOST_LAUNCHES {
            graph.launch(self.stream)?;
            self.end.record(self.stream)?;
            self.end.sync()?;
            if self.end.since(&self.begin)? > WARM_UP {
                break;
            }
        }
        Ok(())
    }

    /// Seconds of one of the executions of a graph, never zero. The launch before is not timed: the first of a graph is
    /// slower.
    fn time(&mut self, graph: &GraphExec, executions: u32) -> Result<f64, Failure> {
        graph.launch(self.stream)?;
        self.begin.record(self.stream)?;
        graph.launch(self.stream)?;
        self.end.record(self.stream)?;
        self.end.sync()?;
        Ok((self.end.since(&self.begin)?.value() / f64::from(executions)).max(1e-9))
    }
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
