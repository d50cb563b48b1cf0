//! One profile from beginning to end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::backend::{BackendError, BackendInfo, CacheUse, Executor, Tensors, WeightOptions};
use crate::clock::{Clock, Instant, MonotonicClock, rfc3339};
use crate::meter::{Chosen, MeterChoice, MeterError, choose};
use crate::network::{self, Network, ReadError};
use crate::plan::{Layout, Plan, PlanError, PlanOptions, Precision};
use crate::report::{RunReport, run_report};
use crate::run::{RecordError, Recording, Request, Schedule, Session, record};
use crate::sim::Truth;
use crate::stats::Rng;
use crate::trace::{
    DeviceRecord, Environment, Header, LayerRecord, MeterKind, PrecisionTarget, RecordOptions, SpanKind,
    TRACE_SCHEMA, Tool, Trace, TraceError, TraceWriter, Warning, WeightsAndInput,
};
use crate::units::Seconds;

use super::contexts::Contexts;
use super::device::{Device, DeviceChoice};
use super::known_sensors::known_sensors;
use super::output::{self, OutputError, TRACE_FILE};
use super::planner::{Planned, Planner};
use super::records::{Computed, layer_records, network_record};

/// Lengths of windows; none for the meter's default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timing {
    /// Rounds; at least two for an interval.
    pub rounds: Option<usize>,
    /// Least length of a replay window.
    pub window: Option<Seconds>,
    /// Load before each window.
    pub settle: Option<Seconds>,
    /// Load before the first window.
    pub warm_up: Option<Seconds>,
    /// Starts no window after this time.
    pub budget: Option<Seconds>,
    /// Half width of the intervals that are asked for, as a part of each layer's energy; none for the default.
    pub target: Option<f64>,
}

/// What to profile, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileOptions {
    /// The network file.
    pub network: PathBuf,
    /// Parameters of the file to override.
    pub set: Vec<(String, i64)>,
    /// Items in one pass.
    pub batch: usize,
    /// Computes batch norms, sums and activations together with the convolution before them.
    pub fuse: bool,
    /// What it runs on.
    pub device: DeviceChoice,
    /// Number format.
    pub precision: Precision,
    /// Order of axes.
    pub layout: Layout,
    /// What replays of a layer find in the caches, on devices that can decide that.
    pub cache: Option<CacheUse>,
    /// The only algorithm that convolutions may use; none for the fastest.
    pub conv_algorithm: Option<String>,
    /// What reads the energy.
    pub meter: MeterChoice,
    /// Where `/sys` is.
    pub sysfs_root: PathBuf,
    /// NVIDIA's management library; none for the one that the driver installed.
    pub nvml_lib: Option<PathBuf>,
    /// Lengths of windows.
    pub timing: Timing,
    /// Seed of schedule, weights and input.
    pub seed: u64,
    /// Output directory; none for `layerjoule-out/NETWORK-DEVICE`.
    pub out: Option<PathBuf>,
    /// Replaces a finished run.
    pub force: bool,
    /// Where calibrations are kept; none for meters of which nothing is known.
    pub calibrations: Option<PathBuf>,
}

impl ProfileOptions {
    /// Refuses what the device cannot do, before anything is read.
    fn check_device(&self) -> Result<(), ProfileError> {
        let (name, caches) = match &self.device {
            DeviceChoice::Cuda { .. } if self.fuse => {
                let text = "--fuse: a GPU computes layers one by one; leave it out".to_string();
                return Err(ProfileError::Usage(text));
            }
            DeviceChoice::Cuda { .. } => return Ok(()),
            DeviceChoice::Cpu { .. } => ("the CPU", false),
            DeviceChoice::Sim { .. } => ("a simulated device", true),
        };
        let refusal = if self.precision != Precision::F32 {
            format!(
                "--precision: {name} computes in f32, found {}; other formats need --device cuda",
                self.precision
            )
        } else if self.layout != Layout::Nchw {
            format!("--layout: {name} computes in nchw, found {}; others need --device cuda", self.layout)
        } else if let Some(algorithm) = &self.conv_algorithm {
            format!(
                "--conv-algo: {name} has no choice of algorithms, found {algorithm}; it needs --device cuda"
            )
        } else if let Some(cache) = self.cache.filter(|_| !caches) {
            format!("--cache: the CPU's caches are left as they are, found {}; it needs a GPU", cache.name())
        } else {
            return Ok(());
        };
        Err(ProfileError::Usage(refusal))
    }
}

/// What the caller sees and decides while a profile runs.
pub struct Hooks<'a> {
    /// A sentence about what happens next.
    pub say: &'a mut dyn FnMut(&str),
    /// Windows done, windows in all, and what comes.
    pub progress: &'a mut dyn FnMut(usize, usize, &str),
    /// Becomes true when the user wants to stop.
    pub stop: &'a dyn Fn() -> bool,
}

/// What a profile left.
#[derive(Debug)]
pub struct Outcome {
    /// The result, as far as it got.
    pub report: RunReport,
    /// Where it was written.
    pub dir: PathBuf,
    /// Why it ended early, if it did.
    pub ended_early: Option<RecordError>,
    /// Why run file, tables or pictures are not there; the trace is, and can be rendered later.
    pub unwritten: Option<OutputError>,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The network file is wrong.
    #[error(transparent)]
    Network(#[from] ReadError),
    /// The network cannot be planned.
    #[error("{file}: {source}")]
    Plan {
        /// The network file.
        file: PathBuf,
        /// Why.
        source: PlanError,
    },
    /// An option is out of its range.
    #[error("{0}")]
    Usage(String),
    /// No meter.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// The device cannot do it.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The output cannot be written or is in the way.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl From<TraceError> for ProfileError {
    fn from(error: TraceError) -> Self {
        Self::Output(error.into())
    }
}

/// More rounds than anyone waits for; a bound on the schedule's memory.
const MOST_ROUNDS: usize = 10_000;
/// Seeds of the independent random decisions of a run.
const SCHEDULE_STREAM: u64 = 1;
const PICK_STREAM: u64 = 2;

/// What a measurement left that nobody asked to keep.
#[derive(Debug)]
pub struct Measured {
    /// What was recorded, and why it ended early, if it did.
    pub recording: Recording,
    /// The truth, if the device was a simulated one.
    pub truth: Option<Truth>,
}

/// Profiles a network: reads it, runs it, measures it and writes the results.
///
/// # Errors
///
/// Nothing could be measured. A run that ended early is no error: its outcome says why.
pub fn profile(options: &ProfileOptions, hooks: Hooks<'_>) -> Result<Outcome, ProfileError> {
    let prepared = Prepared::new(options)?;
    let device = options.device.label();
    let dir = options.out.clone().unwrap_or_else(|| default_directory(&prepared.network, &device));
    let unfinished = output::unfinished_run(&dir, options.force)?;
    let recording = prepared.record(options, &dir, unfinished, hooks)?;
    let report = run_report(&recording.trace);
    let truth = prepared.truth(options, &recording.trace);
    let unwritten = output::write_report(&dir, &report, Some(&recording.trace))
        .and_then(|()| truth.map_or(Ok(()), |truth| output::write_truth(&dir, &truth)))
        .err();
    Ok(Outcome { report, dir, ended_early: recording.error, unwritten })
}

/// Measures as [`profile`] does and leaves no files.
///
/// # Errors
///
/// Those of [`profile`].
pub fn measure(options: &ProfileOptions, stop: &dyn Fn() -> bool) -> Result<Measured, ProfileError> {
    let prepared = Prepared::new(options)?;
    let dir = output::temporary_directory()?;
    let hooks = Hooks { say: &mut |_| {}, progress: &mut |_, _, _| {}, stop };
    let recording = prepared.record(options, dir.path(), None, hooks)?;
    let truth = prepared.truth(options, &recording.trace);
    Ok(Measured { recording, truth })
}

/// A network that is ready to be run.
struct Prepared {
    network: Network,
    plan: Plan,
}

impl Prepared {
    fn new(options: &ProfileOptions) -> Result<Self, ProfileError> {
        if let Some(rounds) = options.timing.rounds.filter(|rounds| !(2..=MOST_ROUNDS).contains(rounds)) {
            return Err(ProfileError::Usage(format!(
                "--rounds: expected at least 2, since one window has no spread, and at most {MOST_ROUNDS}; found {rounds}"
            )));
        }
        options.check_device()?;
        let network = network::read(&options.network, &options.set)?;
        let plan = Plan::new(
            &network,
            &PlanOptions {
                batch: options.batch,
                keep_all: false,
                fuse: options.fuse,
                precision: options.precision,
                layout: options.layout,
            },
        )
        .map_err(|source| ProfileError::Plan { file: options.network.clone(), source })?;
        if plan.steps.is_empty() {
            return Err(ProfileError::Usage(format!(
                "{}: no layer executes anything (flatten, reshape and dropout move no data), so there is no energy \
                 to measure",
                options.network.display()
            )));
        }
        Ok(Self { network, plan })
    }

    /// What a simulated device's sensors cannot see.
    fn truth(&self, options: &ProfileOptions, trace: &Trace) -> Option<Truth> {
        let meter = &trace.header.meters[trace.header.primary_meter].id;
        Some(Truth::of(&self.network, &self.plan, options.device.simulated()?, meter))
    }

    /// Measures into a directory, going on with an unfinished recording.
    fn record(
        &self,
        options: &ProfileOptions,
        dir: &Path,
        unfinished: Option<Box<Trace>>,
        hooks: Hooks<'_>,
    ) -> Result<Recording, ProfileError> {
        let Self { network, plan } = self;
        let Hooks { say, progress, stop } = hooks;
        // A second later than anything recorded, so that times stay in order across the break.
        let last = unfinished.as_ref().and_then(|trace| trace.spans.last());
        let from = last.map_or(Instant::default(), |span| span.end + Seconds::new(1.0));
        let device = Device::open(options, from, unfinished.as_deref().map(algorithms).unwrap_or_default())?;
        say(&format!("{}: {} layers, looking for meters", network.name, network.layers.len()));
        let meters = device.meters(options);
        let meters = known_sensors(options, &device.info(), meters, say);
        let chosen = choose(meters, &options.meter, &device.part())?;
        say(&meter_text(&chosen));
        let tensors = if device.backend.computes() {
            say("preparing weights and buffers");
            Tensors::new(network, &WeightOptions { seed: options.seed, batch: options.batch })?
        } else {
            Tensors::none()
        };
        let mut probe = device.probe(&options.sysfs_root);
        let environment = probe
            .environment(WeightsAndInput { seed: options.seed, distribution: tensors.distribution.clone() });
        let mut executor = device.backend.prepare(network, plan, &tensors)?;
        drop(tensors);
        let subject = Subject { network, plan, info: &device.info(), executor: executor.as_ref() };
        let header = header(options, &subject, &chosen, environment, device.clock.origin_unix());
        if let Some(trace) = &unfinished {
            output::may_continue(dir, trace, &header)?;
        }
        output::create_directory(dir)?;
        if unfinished.is_none() {
            output::remove_truth(dir)?;
        }
        let (mut trace, mut writer, mut controller) = start(unfinished, header, dir, &chosen)?;
        for warning in first_pass(executor.as_mut(), plan)? {
            if trace.warnings.contains(&warning) {
                continue;
            }
            writer.warning(&warning)?;
            trace.warnings.push(warning);
        }
        let clock = device.clock.as_ref();
        if let Some(budget) = options.timing.budget {
            controller.stop_at(clock.now() + budget);
        }
        let expected = controller.expected(&trace.header).value();
        let whose = if options.device.simulated().is_some() { " of simulated time" } else { "" };
        say(&format!("measuring; about {}{whose} at least", duration_text(expected)));
        let Chosen { mut meters, .. } = chosen;
        let session = Session {
            executor: executor.as_mut(),
            plan,
            meters: &mut meters,
            clock,
            probe: probe.as_mut(),
            stop,
            progress,
            pick: &mut |request, among| pick(options.seed, request, among),
        };
        Ok(record(session, trace, controller.as_mut(), &mut writer))
    }
}

/// One of several equal layers, by round and signature.
fn pick(seed: u64, request: Request, among: usize) -> usize {
    let SpanKind::Replay(signature) = request.kind else { return 0 };
    let stream = (request.round as u64) << 32 | signature as u64;
    Rng::stream(Rng::stream(seed, PICK_STREAM).number(), stream).below(among)
}

/// Opens the trace file; gives the trace so far, and what is still to be measured.
fn start(
    unfinished: Option<Box<Trace>>,
    header: Header,
    dir: &Path,
    chosen: &Chosen,
) -> Result<(Trace, TraceWriter, Box<dyn Planned>), ProfileError> {
    let path = dir.join(TRACE_FILE);
    let controller: Box<dyn Planned> = match (header.options.target, &unfinished) {
        (Some(target), trace) => Box::new(Planner::new(&header, target, trace.as_deref())),
        (None, Some(trace)) => Box::new(schedule(&header).without(trace)),
        (None, None) => Box::new(schedule(&header)),
    };
    if let Some(trace) = unfinished {
        return Ok((*trace, TraceWriter::resume(&path)?, controller));
    }
    let mut writer = TraceWriter::create(&path, &header)?;
    for warning in &chosen.warnings {
        writer.warning(warning)?;
    }
    Ok((Trace::new(header, chosen.warnings.clone()), writer, controller))
}

pub(super) fn schedule(header: &Header) -> Schedule {
    let seed = header.options.seed;
    Schedule::new(header.signatures.len(), &header.options, |round, kinds| {
        Rng::stream(Rng::stream(seed, SCHEDULE_STREAM).number(), round as u64).shuffle(kinds);
    })
}

/// Runs the network once, so that every page is touched, and looks at what comes out.
fn first_pass(executor: &mut dyn Executor, plan: &Plan) -> Result<Vec<Warning>, BackendError> {
    for step in 0..plan.steps.len() {
        executor.launch(step)?;
    }
    executor.sync()?;
    let Some(last) = plan.steps.len().checked_sub(1) else { return Ok(Vec::new()) };
    if executor.output(last)?.iter().all(|x| x.is_finite()) {
        return Ok(Vec::new());
    }
    Ok(vec![Warning::new(
        "not_finite",
        "the network's output is not finite with these weights; energy depends on data, so another --seed or \
         trained weights may give other joules",
    )])
}

fn default_directory(network: &Network, device: &str) -> PathBuf {
    let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = format!("{}-{device}", network.name).chars().map(safe).collect();
    PathBuf::from("layerjoule-out").join(name)
}

fn meter_text(chosen: &Chosen) -> String {
    let primary = chosen.primary();
    let mut text = format!("energy by {} ({})", primary.id, primary.scope);
    for record in &chosen.records {
        if let (crate::trace::MeterStatus::Unavailable, Some(reason)) = (record.status, &record.reason) {
            text.push_str(&format!("\n  not {}: {reason}", record.id));
        }
    }
    text
}

/// What is measured.
pub(super) struct Subject<'a> {
    pub(super) network: &'a Network,
    pub(super) plan: &'a Plan,
    pub(super) info: &'a BackendInfo,
    pub(super) executor: &'a dyn Executor,
}

pub(super) fn header(
    options: &ProfileOptions,
    subject: &Subject<'_>,
    chosen: &Chosen,
    environment: Environment,
    clock_origin_unix_s: Seconds,
) -> Header {
    let Subject { network, plan, info, executor } = subject;
    let simulated = options.device.simulated().is_some();
    // A fixed number of rounds, and what is found in the cache by command, are of layers alone.
    let alone = options.timing.rounds.is_some() || options.cache.is_some();
    let counts = chosen.primary().kind != MeterKind::Modelled;
    let contexts = match executor.fresh_past().filter(|_| counts && !alone) {
        Some(cache_bytes) => Contexts::of(network, plan, cache_bytes),
        None => Contexts::alone(plan),
    };
    Header {
        schema: TRACE_SCHEMA.to_string(),
        tool: Tool::this(),
        created: rfc3339(MonotonicClock::start().origin_unix()),
        clock_origin_unix_s,
        simulated,
        emulated: chosen.emulated || info.emulated,
        network: network_record(network, options.batch),
        layers: contexts.layers(plan, layer_records(network, plan, |step| computed(*executor, step))),
        device: device_record(info, plan),
        meters: chosen.records.clone(),
        primary_meter: chosen.meters[0].0,
        environment,
        options: match contexts.contexts.is_empty() {
            true => record_options(options, chosen),
            false => planned_options(options, chosen, executor.queues()),
        },
        signatures: contexts.signatures,
        contexts: contexts.contexts,
        excerpts: contexts.excerpts,
        beginnings: contexts.beginnings,
    }
}

/// The algorithm of each signature in a recording.
fn algorithms(trace: &Trace) -> BTreeMap<String, String> {
    let signature = |layer: &LayerRecord| trace.header.signatures.get(layer.signature?).cloned();
    let layers = trace.header.layers.iter();
    layers.filter_map(|layer| Some((signature(layer)?, layer.algorithm.clone()?))).collect()
}

/// What computes a step; the algorithm's name may be empty.
fn computed(executor: &dyn Executor, step: usize) -> Computed {
    Computed {
        algorithm: Some(executor.algorithm(step).to_string()),
        workspace_bytes: Some(executor.workspace(step)).filter(|&bytes| bytes > 0),
        kernels: executor.kernels(step).to_vec(),
    }
}

fn device_record(info: &BackendInfo, plan: &Plan) -> DeviceRecord {
    DeviceRecord {
        kind: info.kind.to_string(),
        name: info.name.clone(),
        uuid: info.uuid.clone(),
        driver: info.driver.clone(),
        cuda: info.cuda.clone(),
        cudnn: info.cudnn.clone(),
        precision: plan.precision.to_string(),
        layout: plan.layout.to_string(),
        cache: info.cache.map(|cache| cache.name().to_string()),
        engine: info.engine.clone(),
        threads: info.threads,
    }
}

/// Windows of whole passes are as many times as long as those of layers. The pass is what the sum of all layers
/// is held against, and that sum is the mean of many windows (docs/measuring.md, windows).
const PASS_WINDOWS: f64 = 5.0;

/// The defaults: windows of ten updates or half a second, whichever is longer; a model has no updates and no
/// noise of its own, so 0.2 s do. Three rounds after 0.3 s of settling each.
fn record_options(options: &ProfileOptions, chosen: &Chosen) -> RecordOptions {
    let modelled = chosen.primary().kind == MeterKind::Modelled;
    let default =
        |modelled_s: f64, counter_s: f64| Seconds::new(if modelled { modelled_s } else { counter_s });
    let timing = &options.timing;
    let window = timing.window.unwrap_or(default(0.2, 0.5));
    RecordOptions {
        rounds: timing.rounds.unwrap_or(3),
        window_s: window,
        window_updates: if modelled { 0 } else { 10 },
        pass_window_s: window * PASS_WINDOWS,
        idle_window_s: window,
        settle_s: timing.settle.unwrap_or(Seconds::new(chosen.lag.value().max(0.3))),
        warm_up_s: timing.warm_up.unwrap_or(default(3.0, 10.0)),
        sampling_pairs: 8,
        sampling_window_s: Seconds::new(0.2),
        target: None,
        seed: options.seed,
    }
}

/// Every layer to 2 %, or to a tenth of that of the pass.
const TARGET: f64 = 0.02;
/// The same for a first look.
pub const QUICK: f64 = 0.05;
const SMALL: f64 = 0.1;

/// Windows whose number is planned: five updates each, since more of them tell more than longer ones; the warm-up comes in
/// pieces, with a look at the temperature behind each.
fn planned_options(options: &ProfileOptions, chosen: &Chosen, queues: bool) -> RecordOptions {
    let timing = &options.timing;
    // What the meter's period makes of these is found when it is recorded: it is measured, and an interrupted run goes on
    // with options that are equal.
    let window = timing.window.unwrap_or(Seconds::new(if queues { 0.25 } else { 0.5 }));
    let relative = timing.target.unwrap_or(TARGET);
    RecordOptions {
        rounds: 0,
        window_s: window,
        window_updates: 5,
        settle_s: timing.settle.unwrap_or(Seconds::new(chosen.lag.value().max(0.2))),
        idle_window_s: window,
        pass_window_s: window * PASS_WINDOWS,
        warm_up_s: timing.warm_up.unwrap_or(Seconds::new(2.5)),
        target: Some(PrecisionTarget { relative, of_pass: relative * SMALL }),
        ..record_options(options, chosen)
    }
}

fn duration_text(seconds: f64) -> String {
    if seconds < 100.0 { format!("{seconds:.0} s") } else { format!("{:.1} min", seconds / 60.0) }
}
