//! The whole line on a scripted device in virtual time: record, trace file, attribution, report.

use std::path::Path;
use std::rc::Rc;

use approx::assert_relative_eq;
use layerjoule::clock::{Clock, Instant, ManualClock};
use layerjoule::meter::{Meter, ReadError, powercap_meters};
use layerjoule::report::{RunReport, Status, run_report};
use layerjoule::run::{Recording, Schedule, Session, Surroundings, SystemProbe, record};
use layerjoule::stats::{Rng, fingerprint};
use layerjoule::trace::{
    MeterRecord, Sample, Span, SpanKind, Trace, TraceWriter, Warning, WindowState, read_trace,
};
use layerjoule::units::{Joules, Seconds};

use crate::support::injected::Tree;
use crate::support::{Counter, Device, Steps, header, plan};

/// Two layers of one kind of work, one of another, and a short one.
const SIGNATURES: [usize; 4] = [0, 0, 1, 2];
const WORK: [(f64, f64); 4] = [(2e-3, 100.0), (2e-3, 100.0), (5e-4, 40.0), (1e-5, 60.0)];
const IDLE: f64 = 10.0;

struct Rig {
    device: Rc<Device>,
    period: f64,
    rounds: usize,
}

impl Rig {
    fn new(period: f64, rounds: usize) -> Self {
        Self { device: Device::new(IDLE, period), period, rounds }
    }

    fn record(
        &self,
        path: &Path,
        earlier: Option<Trace>,
        stop_after: usize,
        power_of: impl FnMut(usize, f64) -> f64 + 'static,
    ) -> Recording {
        let counter: Box<dyn Meter> = Box::new(Counter(Rc::clone(&self.device)));
        self.record_by(vec![counter], path, earlier, stop_after, power_of)
    }

    /// Records by several meters, of which the first is the primary one and the others are called `side`.
    fn record_by(
        &self,
        meters: Vec<Box<dyn Meter>>,
        path: &Path,
        earlier: Option<Trace>,
        stop_after: usize,
        power_of: impl FnMut(usize, f64) -> f64 + 'static,
    ) -> Recording {
        let plan = plan(&SIGNATURES);
        let mut executor =
            Steps { device: Rc::clone(&self.device), work: WORK.to_vec(), power_of: Box::new(power_of) };
        let mut header = header(&plan, self.period, self.rounds);
        let side = MeterRecord { id: "side".to_string(), ..header.meters[0].clone() };
        header.meters.resize(meters.len(), side);
        let mut meters: Vec<(usize, Box<dyn Meter>)> = meters.into_iter().enumerate().collect();
        let mut schedule = Schedule::new(plan.signatures.len(), 0, &header.options, |round, kinds| {
            Rng::stream(1, round as u64).shuffle(kinds);
        });
        let (trace, mut writer) = match earlier {
            Some(trace) => {
                schedule = schedule.without(&trace);
                (trace, TraceWriter::resume(path).unwrap())
            }
            None => (Trace::new(header.clone(), Vec::new()), TraceWriter::create(path, &header).unwrap()),
        };
        let clock: &ManualClock = &self.device.clock;
        let done = std::cell::Cell::new(0);
        let session = Session {
            executor: &mut executor,
            plan: &plan,
            meters: &mut meters,
            clock,
            probe: &mut SystemProbe::start(nowhere()),
            stop: &|| done.get() >= stop_after,
            progress: &mut |finished, _, _| done.set(finished),
            pick: &mut |_, _| 0,
        };
        record(session, trace, &mut schedule, &mut writer)
    }
}

fn nowhere() -> Surroundings {
    Surroundings { sysfs_root: "/nowhere".into(), proc_root: "/nowhere".into() }
}

fn report_of(period: f64) -> RunReport {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.jsonl");
    let recording = Rig::new(period, 3).record(&path, None, usize::MAX, |_, watts| watts);
    assert!(recording.error.is_none(), "{:?}", recording.error);
    // What the file holds is what was measured.
    let read = read_trace(&path).unwrap();
    assert_eq!(read, recording.trace);
    run_report(&read)
}

#[test]
fn injected_energies_are_found_for_every_counter_period() {
    // 1 ms is RAPL, 20 and 100 ms are GPU boards.
    for period in [0.001, 0.02, 0.1] {
        let report = report_of(period);
        for (layer, (seconds, watts)) in report.layers.iter().zip(WORK) {
            let energy = layer.energy_j.expect("measured").value.value();
            // An edge is found to within one burst: at most a fifth of the period in a window of 0.5 s or more.
            let tolerance = (period / 5.0 + 2e-3) / 0.5;
            assert_relative_eq!(energy, seconds * watts, max_relative = tolerance);
            assert_relative_eq!(layer.time_s.unwrap().value.value(), seconds, max_relative = 1e-6);
            let dynamic = layer.energy_dynamic_j.unwrap().value.value();
            assert_relative_eq!(dynamic, seconds * (watts - IDLE), max_relative = 2.0 * tolerance);
            assert_eq!(layer.status, Status::Measured);
        }
        assert_relative_eq!(report.idle.active_power_w.unwrap().value.value(), IDLE, max_relative = 0.03);
    }
}

#[test]
fn layers_gaps_and_residual_make_the_measured_pass() {
    let report = report_of(0.001);
    let closure = &report.closure[0];
    let of = |e: &Option<layerjoule::stats::Estimate<layerjoule::units::Joules>>| e.unwrap().value.value();
    // By hand: 2 x 0.2 J + 0.02 J + 0.0006 J.
    assert_relative_eq!(of(&closure.pass_j), 0.4206, max_relative = 0.005);
    let sum = of(&closure.sum_of_layers_j) + of(&closure.gaps_j) + of(&closure.residual_j);
    assert_relative_eq!(sum, of(&closure.pass_j), max_relative = 1e-9);
    assert!(closure.residual_ratio.unwrap().abs() < 0.01, "{closure:?}");
    let kinds: f64 = report.kinds.iter().map(|k| k.share.unwrap()).sum();
    assert_relative_eq!(kinds, 1.0, max_relative = 1e-9);
}

#[test]
fn layers_of_one_signature_share_their_measurement() {
    let report = report_of(0.001);
    assert_eq!(report.layers[0].energy_j, report.layers[1].energy_j);
    assert_eq!(report.layers[0].windows, 3);
    assert_eq!(report.kinds.iter().find(|k| k.kind == "conv").unwrap().layers, 2);
}

/// Per-window noise of 3 %: of many intervals at 95 %, 90 to 98 % hold the truth. 120 runs x 3 signatures have
/// a standard error of 1.1 percentage points.
#[test]
fn ninety_five_percent_intervals_hold_the_truth_as_often_as_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let (mut inside, mut all) = (0, 0);
    for seed in 0..120 {
        let rig = Rig::new(0.001, 4);
        let mut rng = Rng::new(seed);
        let clock = Rc::clone(&rig.device.clock);
        let (mut factor, mut last, mut step_before) = (1.0, 0.0, usize::MAX);
        let noisy = move |step: usize, watts: f64| {
            let now = clock.now().since_origin().value();
            // A new window: another step, or a pause.
            if step != step_before || now - last > 0.1 {
                factor = 1.0 + 0.03 * rng.normal();
                step_before = step;
            }
            last = now;
            watts * factor
        };
        let path = dir.path().join(format!("{seed}.jsonl"));
        let report = run_report(&rig.record(&path, None, usize::MAX, noisy).trace);
        for index in [0, 2, 3] {
            let energy = report.layers[index].energy_j.expect("far above idle");
            let truth = WORK[index].0 * WORK[index].1;
            all += 1;
            inside += usize::from(energy.low.value() <= truth && truth <= energy.high.value());
        }
    }
    let coverage = inside as f64 / all as f64;
    assert!((0.90..=0.98).contains(&coverage), "{inside} of {all}");
}

#[test]
fn an_interrupted_run_keeps_its_windows_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.jsonl");
    let rig = Rig::new(0.001, 3);
    let first = rig.record(&path, None, 7, |_, watts| watts);
    assert!(matches!(first.error, Some(layerjoule::run::RecordError::Stopped)));
    assert_eq!(first.trace.spans.len(), 7);
    let report = run_report(&first.trace);
    assert!(report.warnings.iter().any(|w| w.code == "incomplete"));
    assert!(report.layers.iter().all(|l| l.energy_j.is_none() && l.reason.is_some()));
    // A crash in the middle of a line loses that line only.
    use std::io::Write;
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"window\":{\"sp").unwrap();
    let kept = read_trace(&path).unwrap();
    assert_eq!(kept.spans, first.trace.spans);
    rig.device.clock.advance(Seconds::new(60.0));
    let second = rig.record(&path, Some(kept), usize::MAX, |_, watts| watts);
    assert!(second.error.is_none());
    let whole = read_trace(&path).unwrap();
    assert!(whole.complete);
    // 4 idle windows, a warm-up each time, and 3 rounds of 3 signatures, passes and active idle.
    assert_eq!(whole.spans.len(), 4 + 2 + 3 * 5);
    let report = run_report(&whole);
    assert!(report.layers.iter().all(|l| l.windows == 3 && l.energy_j.is_some()));
    assert!(!report.warnings.iter().any(|w| w.code == "incomplete"));
}

/// The windows of traces as versions before queueing devices wrote them: what is measured on a device that works
/// while it is called may not change by a byte.
#[test]
fn windows_on_a_device_that_does_not_queue_are_what_they_always_were() {
    let dir = tempfile::tempdir().unwrap();
    let windows_of = |period: f64| {
        let path = dir.path().join(format!("{period}.jsonl"));
        let recording = Rig::new(period, 3).record(&path, None, usize::MAX, |_, watts| watts);
        assert!(recording.error.is_none(), "{:?}", recording.error);
        let text = std::fs::read_to_string(&path).unwrap();
        let windows: Vec<&str> = text.lines().filter(|line| line.starts_with("{\"window\"")).collect();
        assert_eq!(windows.len(), 4 + 1 + 3 * 5);
        fingerprint(&windows.join("\n"))
    };
    // Written by the version at 375a391.
    let then = [8_783_584_299_647_745_568, 11_626_873_831_309_946_200, 17_465_889_793_421_008_920];
    assert_eq!([0.001, 0.02, 0.1].map(windows_of), then);
}

#[test]
fn work_at_idle_power_has_an_energy_but_none_above_idle() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(0.001, 3);
    let mut rng = Rng::new(3);
    let recording = rig.record(&dir.path().join("t.jsonl"), None, usize::MAX, move |step, watts| {
        if step == 2 { IDLE * (1.0 + 0.01 * rng.normal()) } else { watts }
    });
    let report = run_report(&recording.trace);
    let layer = &report.layers[2];
    assert_eq!(layer.status, Status::Measured);
    assert_relative_eq!(layer.energy_j.unwrap().value.value(), WORK[2].0 * IDLE, max_relative = 0.05);
    assert!(layer.warnings.contains(&"not_above_idle".to_string()));
}

#[test]
fn an_energy_that_cannot_be_told_from_zero_is_null_with_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(0.001, 3);
    let (mut window, mut before, mut replayed) = (0, usize::MAX, false);
    // Windows of step 2 at 1, 1 and 30 W: mean 10.7, standard error 16.7 / sqrt(3) = 9.7, so below two of them.
    let recording = rig.record(&dir.path().join("t.jsonl"), None, usize::MAX, move |step, watts| {
        // Twice in a row is a replay; in a pass another step comes between.
        let again = step == 2 && before == 2;
        window += usize::from(again && !replayed);
        (before, replayed) = (step, again);
        if step != 2 {
            return watts;
        }
        if window == 3 { 30.0 } else { 1.0 }
    });
    let report = run_report(&recording.trace);
    let layer = &report.layers[2];
    assert_eq!(layer.status, Status::BelowDetection, "{layer:?}");
    assert!(layer.energy_j.is_none() && layer.energy_dynamic_j.is_none() && layer.share.is_none());
    // The bound is the upper end of the interval: 10.7 W + 4.303 x 9.7 W for half a millisecond.
    assert_relative_eq!(layer.upper_j.unwrap().value(), 52.3 * WORK[2].0, max_relative = 0.03);
}

#[test]
fn a_newer_trace_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.jsonl");
    Rig::new(0.001, 2).record(&path, None, 2, |_, watts| watts);
    let text = std::fs::read_to_string(&path).unwrap().replace("layerjoule.trace/1", "layerjoule.trace/2");
    std::fs::write(&path, text).unwrap();
    let error = read_trace(&path).unwrap_err().to_string();
    assert!(error.contains("expected layerjoule.trace/1, found layerjoule.trace/2"), "{error}");
}

/// The device's counter as powercap's file, whose count jumps by 5 kJ at some time.
struct Jumping {
    counter: Counter,
    tree: Tree,
    meter: Box<dyn Meter>,
    jump_at: Instant,
}

impl Jumping {
    fn new(device: &Rc<Device>, root: &Path, jump_at: Instant) -> Self {
        let tree = Tree::new(root, 262_143_328_850);
        let meter = powercap_meters(root).remove(0).meter.expect("a working counter");
        Self { counter: Counter(Rc::clone(device)), tree, meter, jump_at }
    }
}

impl Meter for Jumping {
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let jump = if now >= self.jump_at { 5_000_000_000 } else { 0 };
        self.tree.set((self.counter.read(now)?.value() * 1e6).round() as u64 + jump);
        self.meter.read(now)
    }
}

fn with_code<'a>(warnings: &'a [Warning], code: &str) -> Vec<&'a str> {
    warnings.iter().filter(|w| w.code == code).map(|w| w.text.as_str()).collect()
}

/// The middle of the first replay of a run without faults: virtual time is the same in every run.
fn amid_the_first_replay() -> Instant {
    let dir = tempfile::tempdir().unwrap();
    let sound = Rig::new(0.001, 3).record(&dir.path().join("t.jsonl"), None, usize::MAX, |_, watts| watts);
    let span = sound.trace.spans.iter().find(|s| matches!(s.kind, SpanKind::Replay(_))).unwrap();
    span.start + span.length() * 0.5
}

#[test]
fn a_window_in_which_the_counter_jumped_is_measured_again_and_the_run_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.jsonl");
    let rig = Rig::new(0.001, 3);
    let jump_at = amid_the_first_replay();
    let meter: Box<dyn Meter> = Box::new(Jumping::new(&rig.device, dir.path(), jump_at));
    let recording = rig.record_by(vec![meter], &path, None, usize::MAX, |_, watts| watts);
    assert!(recording.error.is_none(), "{:?}", recording.error);
    let read = read_trace(&path).unwrap();
    assert_eq!(read, recording.trace);
    assert!(read.spans.iter().all(|span| span.end < jump_at || span.start > jump_at));
    let report = run_report(&read);
    for (layer, (seconds, watts)) in report.layers.iter().zip(WORK) {
        let energy = layer.energy_j.expect("measured").value.value();
        assert_relative_eq!(energy, seconds * watts, max_relative = 0.005);
    }
    let [text] = with_code(&report.warnings, "lost_window")[..] else { panic!("{:?}", report.warnings) };
    assert!(text.starts_with("round 1: layer") && text.contains("the counter jumped from"), "{text}");
    assert!(text.ends_with("; the window was measured again"), "{text}");
}

#[test]
fn a_window_that_a_side_meter_loses_is_kept_without_its_reading_and_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.jsonl");
    let rig = Rig::new(0.001, 3);
    let jumping = Jumping::new(&rig.device, dir.path(), amid_the_first_replay());
    let meters: Vec<Box<dyn Meter>> = vec![Box::new(Counter(Rc::clone(&rig.device))), Box::new(jumping)];
    let recording = rig.record_by(meters, &path, None, usize::MAX, |_, watts| watts);
    assert!(recording.error.is_none(), "{:?}", recording.error);
    let read = read_trace(&path).unwrap();
    assert_eq!(read, recording.trace);
    let report = run_report(&read);
    let [text] = with_code(&report.warnings, "lost_reading")[..] else { panic!("{:?}", report.warnings) };
    assert!(text.starts_with("round 1: layer") && text.contains("the counter jumped from"), "{text}");
    assert!(text.ends_with("; the window has no reading by side"), "{text}");
    assert!(with_code(&report.warnings, "lost_window").is_empty());
    assert!(with_code(&report.warnings, "missing_readings")[0].contains("no reading in 1 of"));
}

/// A side meter that is lost at every look, each time for another reason.
struct Losing(u64);

impl Meter for Losing {
    fn read(&mut self, _now: Instant) -> Result<Joules, ReadError> {
        self.0 += 1;
        Err(ReadError::Lost(format!("reading ({}) is lost", self.0)))
    }
}

#[test]
fn five_reasons_are_told_and_that_there_were_more() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(0.001, 3);
    let meters: Vec<Box<dyn Meter>> = vec![Box::new(Counter(Rc::clone(&rig.device))), Box::new(Losing(0))];
    let recording = rig.record_by(meters, &dir.path().join("t.jsonl"), None, usize::MAX, |_, watts| watts);
    let told = with_code(&recording.trace.warnings, "lost_reading");
    assert_eq!(told.len(), 6, "{told:?}");
    assert!(told[..5].iter().all(|text| text.contains("is lost")), "{told:?}");
    assert!(told[5].starts_with("more than 5 different reasons"), "{told:?}");
}

/// Ten windows of one layer, 1 s each and 0.5 s apart. The primary counter counts 100 J in each; the side one
/// 60 J until it stops in the middle of the window `stops`.
fn with_side_counter(period: f64, stops: usize) -> Trace {
    let mut header = header(&plan(&[0]), 0.001, 10);
    let update_period_s = Some(Seconds::new(period));
    header.meters.push(MeterRecord { id: "side".to_string(), update_period_s, ..header.meters[0].clone() });
    let mut trace = Trace::new(header, Vec::new());
    trace.complete = true;
    let side_at = |seconds: f64| 60.0 * seconds.min(1.5 * stops as f64 + 0.5);
    for round in 0..10 {
        let start = 1.5 * round as f64;
        let at = |seconds| Instant::default() + Seconds::new(seconds);
        let span = Span {
            kind: SpanKind::Replay(0),
            round,
            start: at(start),
            end: at(start + 1.0),
            executions: 100.0,
            edge_s: Seconds::new(1e-6),
            state: WindowState::default(),
        };
        trace.spans.push(span);
        for seconds in [start, start + 1.0] {
            let sample = |meter, energy| Sample { meter, at: at(seconds), energy: Joules::new(energy) };
            trace.samples.extend([sample(0, 100.0 * seconds), sample(1, side_at(seconds))]);
        }
    }
    trace
}

#[test]
fn a_side_counter_that_stops_gives_no_energy_from_then_on_and_the_run_says_so() {
    // Stops in the seventh window: the three after it are still and together last 4 s, which are 50 periods
    // of 0.08 s; no single window is.
    for period in [0.001, 0.079] {
        let report = run_report(&with_side_counter(period, 6));
        let energy = report.layers[0].also[0].energy_j.expect("six sound windows");
        assert_relative_eq!(energy.value.value(), 0.6, max_relative = 1e-9);
        let [text] = with_code(&report.warnings, "still_counter")[..] else {
            panic!("{:?}", report.warnings)
        };
        assert!(text.starts_with("side stood still in 3 of 10 windows"), "{text}");
        assert!(with_code(&report.warnings, "missing_readings").is_empty());
        assert_relative_eq!(report.layers[0].energy_j.unwrap().value.value(), 1.0, max_relative = 1e-9);
    }
}

#[test]
fn a_side_counter_that_stops_at_once_has_no_energy_and_a_sound_or_slow_one_has_its_own() {
    let report = run_report(&with_side_counter(0.001, 0));
    assert_eq!(report.layers[0].also[0].energy_j, None);
    assert!(
        with_code(&report.warnings, "still_counter")[0].starts_with("side stood still in 9 of 10 windows")
    );
    let report = run_report(&with_side_counter(0.001, 10));
    assert_relative_eq!(report.layers[0].also[0].energy_j.unwrap().value.value(), 0.6, max_relative = 1e-9);
    assert!(with_code(&report.warnings, "still_counter").is_empty());
    // A window has one and two thirds of its periods: what it reads is as likely the energy of its neighbours.
    let report = run_report(&with_side_counter(0.6, 10));
    assert_eq!(report.layers[0].also[0].energy_j, None);
    let told = with_code(&report.warnings, "slow_counter");
    assert!(told[0].starts_with("side moves every 0.600 s, too seldom for 10 of 10 windows"), "{told:?}");
    assert_relative_eq!(report.layers[0].energy_j.unwrap().value.value(), 1.0, max_relative = 1e-9);
    assert!(with_code(&run_report(&with_side_counter(0.5, 10)).warnings, "slow_counter").is_empty());
    // 4 s are fewer than 50 periods of 0.081 s.
    assert!(with_code(&run_report(&with_side_counter(0.081, 6)).warnings, "still_counter").is_empty());
}
