//! The profiler measured with itself, in virtual time: what reading costs, runs of nothing, and equal runs.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use approx::assert_relative_eq;
use layerjoule::attribution::{energy_pairs, family_confidence, null_power, slow_down};
use layerjoule::backend::Executor;
use layerjoule::clock::{Clock, Instant, ManualClock};
use layerjoule::meter::{Meter, ReadError};
use layerjoule::plan::Plan;
use layerjoule::report::{RunReport, run_report};
use layerjoule::run::{Schedule, Session, Surroundings, SystemProbe, record};
use layerjoule::stats::Rng;
use layerjoule::trace::{Header, SpanKind, Trace, TraceWriter};
use layerjoule::units::{Joules, Seconds};

use crate::support::{Counter, Device, Steps, header, plan};

const IDLE: f64 = 10.0;
const PERIOD: f64 = 0.001;

/// Records a schedule of all signatures of a plan.
fn recorded(
    plan: &Plan,
    header: Header,
    executor: &mut dyn Executor,
    meter: Box<dyn Meter>,
    clock: &ManualClock,
) -> Trace {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TraceWriter::create(&dir.path().join("trace.jsonl"), &header).unwrap();
    let seed = header.options.seed;
    let mut schedule = Schedule::new(plan.signatures.len(), 0, &header.options, |round, kinds| {
        Rng::stream(seed, round as u64).shuffle(kinds);
    });
    let nowhere =
        Surroundings { sysfs_root: Path::new("/nowhere").into(), proc_root: Path::new("/nowhere").into() };
    let session = Session {
        executor,
        plan,
        meters: &mut [(0, meter)],
        clock,
        probe: &mut SystemProbe::start(nowhere),
        stop: &|| false,
        progress: &mut |_, _, _| {},
        pick: &mut |_, _| 0,
    };
    let recording = record(session, Trace::new(header, Vec::new()), &mut schedule, &mut writer);
    assert!(recording.error.is_none(), "{:?}", recording.error);
    recording.trace
}

/// The options of a run that compares eight pairs of windows of 0.2 s.
fn with_pairs(mut header: Header) -> Header {
    header.options.sampling_pairs = 8;
    header.options.sampling_window_s = Seconds::new(0.2);
    header
}

/// A counter whose readings keep the device waiting.
struct Slow {
    counter: Counter,
    takes: Seconds,
    reads: Rc<Cell<u64>>,
}

impl Meter for Slow {
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        self.reads.set(self.reads.get() + 1);
        self.counter.0.clock.advance(self.takes);
        self.counter.read(now)
    }
}

/// Two layers of 4.51 ms in all, measured by a counter that takes some time to read.
fn measured_by_a_slow_counter(takes: f64, pass: f64) -> (Trace, u64) {
    let device = Device::new(IDLE, PERIOD);
    let plan = plan(&[0, 1]);
    let mut steps = Steps {
        device: Rc::clone(&device),
        work: vec![(pass * 0.75, 100.0), (pass * 0.25, 60.0)],
        power_of: Box::new(|_, watts| watts),
    };
    let reads = Rc::new(Cell::new(0));
    let meter =
        Slow { counter: Counter(Rc::clone(&device)), takes: Seconds::new(takes), reads: Rc::clone(&reads) };
    let header = with_pairs(header(&plan, PERIOD, 6));
    let trace = recorded(&plan, header, &mut steps, Box::new(meter), &device.clock);
    (trace, reads.get())
}

fn warned(report: &RunReport) -> bool {
    report.warnings.iter().any(|warning| warning.code == "sampling")
}

/// By hand, in ms, for passes of 4.51 and readings of 5 (a layer's window of 500 is read every 50):
/// watched: opening reading to 5; ten passes to 50.1, reading to 55.1; to 100.2, 105.2; to 150.3, 155.3; to
/// 200.4, 205.4; the edge reads to 210.4, runs a pass and closes at 214.91: 41 passes, 5.2417 each.
/// unwatched: opening reading to 5; 44 passes to 203.44; the edge reads to 208.44, runs a pass and closes at
/// 212.95: 45 passes, 4.7322 each.
#[test]
fn the_slow_down_by_a_meter_that_takes_known_time_is_found() {
    let (trace, _) = measured_by_a_slow_counter(5e-3, 4.51e-3);
    let report = run_report(&trace);
    let sampling = report.sampling.as_ref().unwrap();
    let ratio = sampling.slow_down.unwrap();
    assert_relative_eq!(ratio.value, (214.91 / 41.0) / (212.95 / 45.0), max_relative = 1e-6);
    // Every pair is alike, so the interval has no width to speak of.
    assert!(ratio.half_width() < 1e-6, "{ratio:?}");
    assert!(sampling.reason.is_none());
    assert!(warned(&report), "{:?}", report.warnings);
}

#[test]
fn a_meter_that_takes_no_time_slows_nothing_down() {
    let (trace, _) = measured_by_a_slow_counter(0.0, 4.51e-3);
    let report = run_report(&trace);
    let sampling = report.sampling.as_ref().unwrap();
    assert_relative_eq!(sampling.slow_down.unwrap().value, 1.0, max_relative = 1e-9);
    assert_relative_eq!(sampling.share.unwrap(), 0.0);
    assert!(!warned(&report));
}

#[test]
fn readings_inside_windows_are_counted_with_their_time() {
    let takes = 2e-3;
    let (trace, all) = measured_by_a_slow_counter(takes, 4.51e-3);
    let sampling = run_report(&trace).sampling.unwrap();
    // Those while settling, before an opening edge and at a closing one are outside.
    assert!(sampling.reads > trace.spans.len() as u64 && sampling.reads < all, "{sampling:?} of {all}");
    assert_relative_eq!(sampling.time_s.value(), sampling.reads as f64 * takes, max_relative = 1e-9);
    let windows: f64 = trace.spans.iter().map(|span| span.length().value()).sum();
    assert_relative_eq!(sampling.share.unwrap(), sampling.time_s.value() / windows, max_relative = 1e-9);
    // A virtual clock knows no processor time, and nothing stands for it.
    assert!(sampling.cpu_s.is_none() && sampling.cpu_share.is_none());
}

#[test]
fn passes_too_long_for_short_windows_are_not_compared_and_the_report_says_why() {
    let (trace, _) = measured_by_a_slow_counter(0.0, 0.6);
    assert!(slow_down(&trace).is_none());
    let sampling = run_report(&trace).sampling.unwrap();
    assert!(sampling.reason.unwrap().contains("pass is too long"));
}

#[test]
fn a_short_run_spends_no_more_than_a_fifth_of_its_time_on_the_comparison() {
    let plan = plan(&[0]);
    let requests = |rounds: usize| {
        let header = with_pairs(header(&plan, PERIOD, rounds));
        let schedule = Schedule::new(1, 0, &header.options, |_, _| {});
        let whole = schedule.expected(&header.options);
        let mut bare = header.options.clone();
        bare.sampling_pairs = 0;
        let rest = Schedule::new(1, 0, &bare, |_, _| {}).expected(&bare);
        (whole - rest).value() / rest.value()
    };
    // Two rounds take 1 + 4 x 0.8 + 2 x 2.9 s: a fifth holds three pairs of 0.6 s, which are too few.
    assert_relative_eq!(requests(2), 0.0);
    // Three rounds take 12.9 s: four pairs.
    assert_relative_eq!(requests(3), 4.0 * 0.6 / 12.9, max_relative = 1e-9);
    assert_relative_eq!(requests(100), 8.0 * 0.6 / (4.2 + 290.0), max_relative = 1e-9);
}

/// Idle power with noise: each 50 ms has a mean of its own. Each reading may cost energy.
struct Idling {
    clock: Rc<ManualClock>,
    rng: Rng,
    noise: f64,
    per_read: f64,
    until: f64,
    energy: f64,
    watts: f64,
    reads: u64,
}

impl Meter for Idling {
    fn read(&mut self, _now: Instant) -> Result<Joules, ReadError> {
        const BLOCK: f64 = 0.05;
        self.reads += 1;
        // Published every millisecond.
        let now = (self.clock.now().since_origin().value() / PERIOD).floor() * PERIOD;
        while self.until < now {
            let block = (self.until / BLOCK + 1e-9).floor();
            if self.watts <= 0.0 || (self.until - block * BLOCK).abs() < 1e-9 {
                self.watts = IDLE * (1.0 + self.noise * self.rng.normal());
            }
            let next = ((block + 1.0) * BLOCK).min(now);
            self.energy += self.watts * (next - self.until);
            self.until = next;
        }
        Ok(Joules::new(self.energy + self.reads as f64 * self.per_read))
    }
}

fn null_run(seed: u64, noise: f64, per_read: f64) -> Trace {
    let clock = Rc::new(ManualClock::default());
    let meter = Idling {
        clock: Rc::clone(&clock),
        rng: Rng::new(seed),
        noise,
        per_read,
        until: 0.0,
        energy: 0.0,
        watts: 0.0,
        reads: 0,
    };
    let empty = plan(&[]);
    let device = Device::new(IDLE, PERIOD);
    let mut nothing = Steps { device, work: Vec::new(), power_of: Box::new(|_, watts| watts) };
    let header = header(&empty, PERIOD, 5);
    recorded(&empty, header, &mut nothing, Box::new(meter), &clock)
}

/// 300 runs have a standard error of 1.3 percentage points: 91 to 98 % is the nominal 95 % within three.
#[test]
fn a_run_of_nothing_has_no_power_above_idle_as_often_as_its_interval_says() {
    let inside = (0..300).filter(|&seed| {
        let power = null_power(&null_run(seed, 0.05, 0.0)).unwrap();
        power.value.abs() <= power.half_width(0.95)
    });
    let coverage = inside.count() as f64 / 300.0;
    assert!((0.91..=0.985).contains(&coverage), "{coverage}");
}

/// Some counters charge joules for being read (docs/measuring.md, self-check). All windows are read every 50 ms,
/// so what is left are the two readings at the edges: of half a second in idle, of a second in an empty pass.
#[test]
fn a_counter_that_charges_for_its_readings_fails_the_run_of_nothing() {
    let power = null_power(&null_run(1, 0.001, 0.05)).unwrap();
    // By hand: 22 readings of 50 mJ in 1 s, less 12 in 0.5 s: 1.1 W - 1.2 W.
    assert_relative_eq!(power.value, -0.1, max_relative = 0.1);
    assert!(power.value.abs() > 5.0 * power.half_width(0.95), "{power:?}");
}

const SIGNATURES: [usize; 4] = [0, 0, 1, 2];
const WORK: [(f64, f64); 4] = [(2e-3, 100.0), (2e-3, 100.0), (5e-4, 40.0), (1e-3, 60.0)];

/// A run in which each window has noise of 3 %; `factor` scales the power of one step.
fn noisy_run(seed: u64, factor: (usize, f64)) -> Trace {
    let device = Device::new(IDLE, PERIOD);
    let plan = plan(&SIGNATURES);
    let clock = Rc::clone(&device.clock);
    let state = RefCell::new((Rng::new(seed), 1.0, 0.0, [usize::MAX; 2]));
    let power_of = move |step: usize, watts: f64| {
        let (rng, noise, last, before) = &mut *state.borrow_mut();
        let now = clock.now().since_origin().value();
        // A new window: after a pause, or where replays of a step begin or end.
        let replayed = before[0] == before[1];
        if now - *last > 0.1 || replayed != (before[1] == step) {
            *noise = 1.0 + 0.03 * rng.normal();
        }
        (*last, *before) = (now, [before[1], step]);
        watts * *noise * if step == factor.0 { factor.1 } else { 1.0 }
    };
    let mut steps = Steps { device: Rc::clone(&device), work: WORK.to_vec(), power_of: Box::new(power_of) };
    let mut header = header(&plan, PERIOD, 5);
    header.options.seed = seed;
    let meter = Box::new(Counter(Rc::clone(&device)));
    recorded(&plan, header, &mut steps, meter, &device.clock)
}

/// Three signatures, three kinds and the pass of 60 pairs of runs: 420 intervals, of which three and three are
/// the same. Their standard error is about 1.6 percentage points.
#[test]
fn two_runs_of_the_same_network_agree_as_often_as_their_intervals_say() {
    let (mut each, mut families, mut all) = (0, 0, 0);
    for seed in 0..60 {
        let pairs = energy_pairs(&noisy_run(2 * seed, (0, 1.0)), &noisy_run(2 * seed + 1, (0, 1.0)));
        assert_eq!(pairs.len(), 7, "{pairs:?}");
        all += pairs.len();
        each += pairs.iter().filter(|pair| pair.agrees(0.95)).count();
        let confidence = family_confidence(pairs.len());
        families += usize::from(pairs.iter().all(|pair| pair.agrees(confidence)));
    }
    let each = each as f64 / all as f64;
    assert!((0.90..=0.99).contains(&each), "{each}");
    // At 95 % or more: 57 of 60, less two standard errors of 1.7.
    assert!(families >= 53, "{families} of 60");
}

#[test]
fn a_layer_that_costs_more_in_the_second_run_is_the_one_that_differs() {
    // 30 % against a noise of 3 % and five windows each.
    let pairs = energy_pairs(&noisy_run(1, (2, 1.0)), &noisy_run(2, (2, 1.3)));
    let confidence = family_confidence(pairs.len());
    let differing: Vec<&str> =
        pairs.iter().filter(|pair| !pair.agrees(confidence)).map(|pair| pair.name.as_str()).collect();
    assert_eq!(differing, ["layer2", "all relu"]);
}

#[test]
fn windows_grow_with_distinct_signatures_and_not_with_layers() {
    let windows = |layers: usize, signatures: usize| {
        let device = Device::new(IDLE, PERIOD);
        let of_step: Vec<usize> = (0..layers).map(|layer| layer % signatures).collect();
        let plan = plan(&of_step);
        let mut steps = Steps {
            device: Rc::clone(&device),
            work: vec![(1e-4, 50.0); layers],
            power_of: Box::new(|_, watts| watts),
        };
        let meter = Box::new(Counter(Rc::clone(&device)));
        let header = header(&plan, PERIOD, 3);
        let trace = recorded(&plan, header, &mut steps, meter, &device.clock);
        let replays = trace.spans.iter().filter(|span| matches!(span.kind, SpanKind::Replay(_))).count();
        (trace.spans.len(), replays)
    };
    // Three rounds of ten signatures, a pass and an idle window; four idle windows and the warm-up.
    assert_eq!(windows(50, 10), (3 * 12 + 5, 30));
    assert_eq!(windows(5000, 10), windows(50, 10));
    assert_eq!(windows(5000, 20).1, 2 * windows(5000, 10).1);
}
