//! The recording loop.

use crate::backend::{BackendError, Executor, Mix};
use crate::clock::Clock;
use crate::meter::{Meter, ReadError};
use crate::plan::Plan;
use crate::trace::{
    ExcerptRecord, FillerRun, RecordOptions, Span, SpanKind, Trace, TraceError, TraceWriter, Warning,
    WindowState,
};
use crate::units::Seconds;

use super::environment::Probe;
use super::schedule::{Controller, Mixing, Request};
use super::window::{Lengths, Load, Rig, Window};

/// Attempts at a window that is lost.
const ATTEMPTS: usize = 5;
/// Distinct reasons of one kind that are told; that there were more is told once.
const REASONS: usize = 5;

/// Why a recording ended before its controller did.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The primary meter failed.
    #[error("the meter failed: {0}")]
    Meter(ReadError),
    /// The primary meter no longer moves.
    #[error("the meter's reading has not changed for {seconds:.0} s; run `layerjoule doctor`")]
    Still {
        /// How long.
        seconds: f64,
    },
    /// The primary meter no longer answers.
    #[error("the meter has not answered for {seconds:.0} s; run `layerjoule doctor`")]
    Silent {
        /// How long.
        seconds: f64,
    },
    /// The device does not finish its work.
    #[error(
        "the device has not finished a burst of work for {seconds:.0} s: it hangs; look for its errors in the \
         system's log, and restart it or the machine"
    )]
    Hangs {
        /// How long.
        seconds: f64,
    },
    /// The device was to be kept busy and was not, so that a window would take idle power for the work's.
    #[error(
        "the device had nothing to do for {:.1} ms of a window: the host was held up; stop other programs on it",
        idle.value() * 1e3
    )]
    HeldUp {
        /// How long in all.
        idle: Seconds,
    },
    /// The trace file cannot be written.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The time given is used up.
    #[error("the time budget ran out")]
    Budget,
    /// The user stopped it.
    #[error("stopped by the user")]
    Stopped,
}

/// What a recording works with.
pub struct Session<'a> {
    /// The prepared network.
    pub executor: &'a mut dyn Executor,
    /// Its plan.
    pub plan: &'a Plan,
    /// Meters with their index in the header; the first is the primary one.
    pub meters: &'a mut [(usize, Box<dyn Meter>)],
    /// The clock.
    pub clock: &'a dyn Clock,
    /// Looks at the machine.
    pub probe: &'a mut dyn Probe,
    /// Becomes true when the user wants to stop.
    pub stop: &'a dyn Fn() -> bool,
    /// Told before each window: windows done, windows in all, and what comes.
    pub progress: &'a mut dyn FnMut(usize, usize, &str),
    /// A number below the given bound, for the choice among equal layers: seeded, by round and signature.
    pub pick: &'a mut dyn FnMut(Request, usize) -> usize,
}

/// What a recording left.
#[derive(Debug)]
pub struct Recording {
    /// Everything measured, with what an earlier part had.
    pub trace: Trace,
    /// Why it ended early, if it did.
    pub error: Option<RecordError>,
}

/// Measures what the controller asks for, appending each window to the trace file as it is finished.
///
/// Whatever happens, the windows finished so far are in the returned trace.
pub fn record(
    session: Session<'_>,
    mut trace: Trace,
    controller: &mut dyn Controller,
    writer: &mut TraceWriter,
) -> Recording {
    let Session { executor, plan, meters, clock, probe, stop, progress, pick } = session;
    let options = trace.header.options.clone();
    let period = trace.header.meters[trace.header.primary_meter].update_period_s;
    let queues = executor.queues();
    let mut rig = Rig::new(executor, plan.steps.len(), clock, meters, period, stop);
    let mut error = None;
    let mut done = 0;
    let lightest = lightest(plan, &trace);
    while let Some(request) = controller.next(&trace, clock.now()) {
        let what = describe(&trace, request);
        // What is planned may grow on the way.
        progress(done, controller.total(), &what);
        let load = match request.kind {
            SpanKind::Idle => Load::Idle,
            SpanKind::ActiveIdle => lightest.map_or(Load::Idle, Load::Awake),
            // A pass of nothing takes no time, so a window of it waits: the null run.
            _ if plan.steps.is_empty() => Load::Idle,
            SpanKind::WarmUp | SpanKind::Pass | SpanKind::Watched | SpanKind::Unwatched => Load::Pass,
            SpanKind::Replay(signature) => match trace.header.contexts.get(signature) {
                Some(context) => mix(context.excerpt, request.mixing),
                None => {
                    let steps = &plan.signatures[signature].steps;
                    Load::Step(steps[pick(request, steps.len())])
                }
            },
            SpanKind::Excerpt(excerpt) => mix(trace.header.excerpts[excerpt], request.mixing),
            SpanKind::Filler(step) => {
                mix(ExcerptRecord { first: step, last: step, fresh: true }, request.mixing)
            }
        };
        let mut lost = Vec::new();
        let rest = f64::from(request.mixing.rest_permille) / 1000.0;
        let usual = lengths(request.kind, &options, period, queues);
        // What a sensor sees of bursts depends on when it looks, so it looks more often.
        let longer = if rest > 0.0 { usual.window * RESTING } else { usual.window };
        let lengths = Lengths { rest, window: longer, ..usual };
        let measured = measure(&mut rig, load, lengths, &mut *probe, &mut lost);
        let mut told: Result<(), TraceError> = lost.iter().try_for_each(|reason| {
            tell(&mut trace, writer, "lost_window", reason, |reason| {
                format!("{what}: {reason}; the window was measured again")
            })
        });
        for note in rig.executor.notes() {
            told = told.and_then(|()| tell(&mut trace, writer, "few_copies", &note, str::to_string));
        }
        for (meter, reason) in rig.losses().filter(|_| measured.is_ok()) {
            let id = trace.header.meters[meter].id.clone();
            told = told.and_then(|()| {
                tell(&mut trace, writer, "lost_reading", reason, |reason| {
                    format!("{what}: {reason}; the window has no reading by {id}")
                })
            });
        }
        match measured.and_then(|window| told.map(|()| window).map_err(RecordError::from)) {
            Ok(window) => {
                let span = Span {
                    kind: request.kind,
                    round: request.round,
                    start: window.start,
                    end: window.end,
                    // The waiting of a null run is one execution of nothing.
                    executions: if plan.steps.is_empty() { 1.0 } else { window.executions * repeated(load) },
                    edge_s: window.edge,
                    state: WindowState { filler: filler(load, window.executions), ..window.state },
                };
                trace.spans.push(span);
                trace.samples.extend(rig.samples.iter().copied());
                trace.sampling.add(&span, window.reads);
                if let Err(failed) = writer.window(&span, &rig.samples, Some(window.reads)) {
                    error = Some(failed.into());
                    break;
                }
            }
            Err(failed) => {
                error = Some(failed);
                break;
            }
        }
        done += 1;
    }
    progress(done, controller.total(), "");
    if error.is_none() && controller.out_of_time() {
        error = Some(RecordError::Budget);
    }
    trace.complete = error.is_none();
    let environment = probe.finish(&trace.header.environment, trace.environment.as_ref());
    trace.ended_by = error.as_ref().map(RecordError::to_string);
    trace.environment = Some(environment);
    if let Err(failed) = writer.end(&trace) {
        error.get_or_insert(failed.into());
    }
    Recording { trace, error }
}

/// Measures a window; one in which the meter lost energy, or the device had nothing to do, is measured again, and `lost`
/// says why.
fn measure(
    rig: &mut Rig<'_>,
    load: Load,
    lengths: Lengths,
    probe: &mut dyn Probe,
    lost: &mut Vec<String>,
) -> Result<Window, RecordError> {
    for _ in 1..ATTEMPTS {
        match rig.measure(load, lengths, probe) {
            Err(RecordError::Meter(ReadError::Lost(reason))) => lost.push(reason),
            Err(error @ RecordError::HeldUp { .. }) => lost.push(error.to_string()),
            other => return other,
        }
    }
    rig.measure(load, lengths, probe)
}

/// Adds a warning to the trace and its file: one for each reason, and no more than a few of one code.
fn tell(
    trace: &mut Trace,
    writer: &mut TraceWriter,
    code: &str,
    reason: &str,
    text: impl FnOnce(&str) -> String,
) -> Result<(), TraceError> {
    let mut told = 0;
    for warning in trace.warnings.iter().filter(|warning| warning.code == code) {
        if warning.text.contains(reason) {
            return Ok(());
        }
        told += 1;
    }
    let warning = match told {
        0..REASONS => Warning::new(code, text(reason)),
        REASONS => {
            Warning::new(code, format!("more than {REASONS} different reasons; the others are not listed"))
        }
        _ => return Ok(()),
    };
    writer.warning(&warning)?;
    trace.warnings.push(warning);
    Ok(())
}

/// Samples of the primary meter inside a window, for the power picture.
const SAMPLES: f64 = 10.0;
/// How much longer windows are in which the device rests between bursts.
const RESTING: f64 = 2.0;
/// The same where windows are planned and the device waits while its meter is read.
const FEW_SAMPLES: f64 = 2.5;

/// How long to load and to measure, and how often to read. `period` is the primary meter's.
///
/// Work and idle are read equally often, so that what reading costs cancels in energies above idle. (It did not
/// where passes were read less often: a null run by the modelled meter missed zero by 2.4 mW of 1.48 W.)
fn lengths(kind: SpanKind, options: &RecordOptions, period: Option<Seconds>, queues: bool) -> Lengths {
    let samples = if options.target.is_some() && !queues { FEW_SAMPLES } else { SAMPLES };
    let updates = |n: usize| period.map_or(Seconds::ZERO, |period| period * n as f64);
    let at_least = |length: Seconds, least: Seconds| if length < least { least } else { length };
    let window = |length: Seconds, n: usize| {
        let window = at_least(length, updates(n));
        Lengths { settle: options.settle_s, window, every: Some(window / samples), rest: 0.0, still: false }
    };
    let replay = window(options.window_s, options.window_updates);
    let short = Lengths {
        settle: options.sampling_window_s / 2.0,
        window: options.sampling_window_s,
        every: replay.every,
        rest: 0.0,
        still: false,
    };
    match kind {
        SpanKind::WarmUp => Lengths { settle: Seconds::ZERO, ..window(options.warm_up_s, 0) },
        SpanKind::Replay(_) | SpanKind::Excerpt(_) | SpanKind::Filler(_) => replay,
        SpanKind::Pass => {
            // As many more updates as the window is longer.
            let times = at_least(options.pass_window_s, options.window_s) / options.window_s;
            let updates = (options.window_updates as f64 * times).round() as usize;
            // Whole passes tell the clock of the network; other work is compared with it at the clock that it has.
            Lengths { every: replay.every, still: true, ..window(options.pass_window_s, updates) }
        }
        SpanKind::Idle | SpanKind::ActiveIdle => {
            Lengths { every: replay.every, ..window(options.idle_window_s, options.window_updates) }
        }
        SpanKind::Watched => short,
        SpanKind::Unwatched => Lengths { every: None, ..short },
    }
}

/// The step that takes the least time, about: a byte takes as long as ten operations on most devices.
fn lightest(plan: &Plan, trace: &Trace) -> Option<usize> {
    let work = |step: &usize| -> u64 {
        let layers = plan.steps[*step].layers.iter().map(|&layer| &trace.header.layers[layer]);
        layers.map(|layer| layer.bytes.max((layer.flops + layer.flops_elementwise) / 10)).sum()
    };
    (0..plan.steps.len()).min_by_key(work)
}

/// An excerpt of the pass with what runs beside it.
fn mix(excerpt: ExcerptRecord, mixing: Mixing) -> Load {
    let ExcerptRecord { first, last, fresh } = excerpt;
    Load::Mix(Mix { times: mixing.times.max(1), filler: mixing.filler, ..Mix::of(first, last, fresh) })
}

/// How often the work of a window is done in one execution of its load.
fn repeated(load: Load) -> f64 {
    if let Load::Mix(mix) = load { mix.times as f64 } else { 1.0 }
}

/// What ran beside the work.
fn filler(load: Load, executions: f64) -> Option<FillerRun> {
    let Load::Mix(Mix { filler: Some((step, times)), .. }) = load else { return None };
    Some(FillerRun { step, executions: executions * times as f64 })
}

fn describe(trace: &Trace, request: Request) -> String {
    let round = request.round + 1;
    match request.kind {
        SpanKind::WarmUp => "warming up".to_string(),
        SpanKind::Idle => "idle".to_string(),
        SpanKind::ActiveIdle => format!("round {round}: idle"),
        SpanKind::Pass => format!("round {round}: whole passes"),
        SpanKind::Watched | SpanKind::Unwatched => "what reading the meter costs".to_string(),
        SpanKind::Excerpt(_) | SpanKind::Filler(_) => format!("round {round}: layers to take off"),
        SpanKind::Replay(signature) => {
            let first = trace.header.layers.iter().find(|l| l.signature == Some(signature));
            format!("round {round}: {}", first.map_or("?", |l| l.name.as_str()))
        }
    }
}
