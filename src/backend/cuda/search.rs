//! Which way of computing a layer is the fastest on this device: measured, not guessed.

use crate::units::Seconds;

use super::driver::{Event, Gpu, Memory, Stream};
use super::failure::{Failure, Severity};
use super::operation::{Operation, Places};

/// How often each candidate is timed, in turns with the others, so that a clock that changes meanwhile changes for all.
const ROUNDS: usize = 3;
/// Length of one timing: hundreds of times the resolution of events.
const TIMING: Seconds = Seconds::new(2e-3);
/// Most executions in one timing.
const MOST: f64 = 100.0;
/// Candidates that took this many times the best one's time at first are not timed again.
const HOPELESS: f64 = 3.0;

/// Scratch memory that all operations share.
#[derive(Debug)]
pub(super) struct Scratch(Memory);

impl Scratch {
    pub(super) fn new(gpu: &Gpu) -> Result<Self, Failure> {
        Ok(Self(Memory::take(gpu, 0)?))
    }

    /// Makes it at least so long.
    fn grow(&mut self, gpu: &Gpu, bytes: usize) -> Result<(), Failure> {
        if bytes > self.0.bytes() {
            // The old one goes first, so that the two need not fit together.
            self.0 = Memory::take(gpu, 0)?;
            self.0 = Memory::take(gpu, bytes)?;
        }
        Ok(())
    }

    pub(super) fn address(&self) -> u64 {
        self.0.address()
    }
}

/// The way chosen, and the time of one execution on data that the caches hold.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) operation: Box<dyn Operation>,
    pub(super) each: Seconds,
}

/// Measures all candidates on real data and takes the fastest.
///
/// # Errors
///
/// The device is lost, or no candidate works; then the last one's words.
pub(super) fn fastest(
    gpu: &Gpu,
    stream: &Stream,
    candidates: Vec<Box<dyn Operation>>,
    places: Places<'_>,
    scratch: &mut Scratch,
) -> Result<Choice, Failure> {
    let mut timer = Timer { begin: Event::new(gpu)?, end: Event::new(gpu)?, stream };
    let mut working: Vec<(Box<dyn Operation>, Vec<f64>)> = Vec::new();
    let mut refusal = Failure::refused("search", "nothing computes this layer");
    for candidate in candidates {
        match first_time(gpu, &mut timer, candidate.as_ref(), places, scratch) {
            Ok(each) => working.push((candidate, vec![each])),
            Err(failure) if failure.severity == Severity::Lost => return Err(failure),
            Err(failure) => refusal = failure,
        }
    }
    let best = working.iter().map(|(_, times)| times[0]).fold(f64::INFINITY, f64::min);
    working.retain(|(_, times)| times[0] <= best * HOPELESS);
    if working.len() > 1 {
        for _ in 0..ROUNDS {
            for (candidate, times) in &mut working {
                let places = Places { workspace: scratch.address(), ..places };
                let executions = (TIMING.value() / times[0]).clamp(1.0, MOST) as u32;
                times.push(timer.time(candidate.as_ref(), &places, executions)?);
            }
        }
    }
    let each = |times: &[f64]| median(if times.len() > 1 { &times[1..] } else { times });
    let chosen = working.into_iter().map(|(operation, times)| (each(&times), operation));
    let chosen = chosen.min_by(|(a, _), (b, _)| a.total_cmp(b));
    chosen.map(|(each, operation)| Choice { operation, each: Seconds::new(each) }).ok_or(refusal)
}

/// The time of one execution after one that nobody times: it loads kernels.
fn first_time(
    gpu: &Gpu,
    timer: &mut Timer<'_>,
    candidate: &dyn Operation,
    places: Places<'_>,
    scratch: &mut Scratch,
) -> Result<f64, Failure> {
    scratch.grow(gpu, candidate.workspace())?;
    let places = Places { workspace: scratch.address(), ..places };
    candidate.queue(timer.stream, &places)?;
    timer.stream.sync()?;
    timer.time(candidate, &places, 1)
}

struct Timer<'a> {
    begin: Event,
    end: Event,
    stream: &'a Stream,
}

impl Timer<'_> {
    /// Seconds of one execution, never zero.
    fn time(
        &mut self,
        operation: &dyn Operation,
        places: &Places<'_>,
        executions: u32,
    ) -> Result<f64, Failure> {
        self.begin.record(self.stream)?;
        for _ in 0..executions {
            operation.queue(self.stream, places)?;
        }
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
