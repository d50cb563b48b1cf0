//! The null run: the whole procedure with nothing to measure.

use std::path::PathBuf;

use crate::attribution::null_power;
use crate::backend::cpu::CpuBackend;
use crate::backend::{Backend, BackendError, Executor};
use crate::clock::{Clock, MonotonicClock};
use crate::meter::{Chosen, MeterChoice, Part, choose, host_meters};
use crate::network::{Definition, INPUT, LayerDefinition, LayerKind, Network, Origin};
use crate::plan::{Plan, PlanOptions};
use crate::run::{Probe, Recording, Session, Surroundings, SystemProbe, record};
use crate::stats::Estimate;
use crate::trace::{Trace, TraceWriter, WeightsAndInput};
use crate::units::Watts;

use super::device::DeviceChoice;
use super::job::{ProfileError, ProfileOptions, Subject, Timing, header, schedule};
use super::output::temporary_directory;

/// What the null run works with.
#[derive(Debug, Clone, PartialEq)]
pub struct NullOptions {
    /// What reads the energy.
    pub meter: MeterChoice,
    /// Where `/sys` is.
    pub sysfs_root: PathBuf,
    /// Lengths of windows.
    pub timing: Timing,
    /// Seed of the schedule.
    pub seed: u64,
}

/// What a null run found.
#[derive(Debug)]
pub struct NullRun {
    /// Power above idle while nothing ran; its interval holds zero unless the procedure makes joules of nothing.
    pub above_idle: Option<Estimate<Watts>>,
    /// The recording.
    pub recording: Recording,
}

/// Runs rounds in which the passes are empty: windows, edges, samples and attribution are those of a profile.
///
/// # Errors
///
/// There is no meter, or no place for the trace.
pub fn null_run(options: &NullOptions, stop: &dyn Fn() -> bool) -> Result<NullRun, ProfileError> {
    let clock = MonotonicClock::start();
    let chosen = choose(host_meters(&options.sysfs_root, &clock), &options.meter, &Part::Cpu)?;
    let info = CpuBackend::new(1)?.info();
    let surroundings = Surroundings { sysfs_root: options.sysfs_root.clone(), ..Surroundings::default() };
    let mut probe = SystemProbe::start(surroundings);
    let environment = probe.environment(WeightsAndInput::default());
    let network = nothing();
    let plan = Plan::new(&network, &PlanOptions::default()).expect("an item of one element fits");
    let profile = ProfileOptions {
        network: PathBuf::new(),
        set: Vec::new(),
        batch: 1,
        fuse: false,
        device: DeviceChoice::Cpu { threads: Some(1) },
        precision: Default::default(),
        layout: Default::default(),
        cache: None,
        conv_algorithm: None,
        meter: options.meter.clone(),
        sysfs_root: options.sysfs_root.clone(),
        nvml_lib: None,
        timing: options.timing.clone(),
        seed: options.seed,
        out: None,
        force: false,
        calibrations: None,
    };
    let subject = Subject { network: &network, plan: &plan, info: &info, executor: &Nothing };
    let header = header(&profile, &subject, &chosen, environment, clock.origin_unix());
    let dir = temporary_directory()?;
    let mut writer = TraceWriter::create(&dir.path().join(super::TRACE_FILE), &header)?;
    let mut schedule = schedule(&header);
    let Chosen { mut meters, warnings, .. } = chosen;
    let session = Session {
        executor: &mut Nothing,
        plan: &plan,
        meters: &mut meters,
        clock: &clock,
        probe: &mut probe,
        stop,
        progress: &mut |_, _, _| {},
        pick: &mut |_, _| 0,
    };
    let recording = record(session, Trace::new(header, warnings), &mut schedule, &mut writer);
    Ok(NullRun { above_idle: null_power(&recording.trace).map(|power| power.estimate()), recording })
}

/// A network whose one layer is a view, so that its passes execute nothing.
fn nothing() -> Network {
    let flatten = LayerDefinition {
        name: "flatten".to_string(),
        kind: LayerKind::Flatten,
        inputs: vec![INPUT.to_string()],
        origin: Origin::File,
        values: Default::default(),
        same_padding: false,
    };
    let definition = Definition {
        name: "nothing".to_string(),
        file: String::new(),
        sha256: String::new(),
        input: vec![1],
        set: Default::default(),
        layers: vec![flatten],
    };
    Network::new(definition).expect("flatten takes any input")
}

/// Runs nothing.
struct Nothing;

impl Executor for Nothing {
    fn steps(&self) -> usize {
        0
    }

    fn launch(&mut self, _step: usize) -> Result<(), BackendError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn algorithm(&self, _step: usize) -> &str {
        "none"
    }

    fn output(&mut self, _step: usize) -> Result<Vec<f32>, BackendError> {
        Ok(Vec::new())
    }
}
