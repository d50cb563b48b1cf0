//! Windows on a device that goes on working while its meter is read, in virtual time.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use approx::assert_relative_eq;
use layerjoule::backend::Executor;
use layerjoule::clock::{Clock, Instant, ManualClock};
use layerjoule::meter::{Meter, ReadError};
use layerjoule::report::run_report;
use layerjoule::run::{Probe, RecordError, Recording, Schedule, Session, Surroundings, SystemProbe, record};
use layerjoule::trace::{
    Condition, Environment, MeterRecord, Span, SpanKind, Trace, TraceWriter, WeightsAndInput, read_trace,
};
use layerjoule::units::{Joules, Seconds};

use crate::support::queued::Queued;
use crate::support::{Counter, Device, Steps, header, plan};

const IDLE: f64 = 50.0;
/// One execution: 0.62 J.
const EACH: f64 = 3.1e-3;
const WATTS: f64 = 200.0;
/// What a reading takes.
const READING: f64 = 2e-3;

/// The device's counter, which takes its time; notes when it was asked.
struct Slow {
    counter: Counter,
    asked: Rc<RefCell<Vec<f64>>>,
    longest_gap: Option<Seconds>,
    /// From when on a reading takes so long, once.
    stalls: Option<(f64, f64)>,
}

impl Slow {
    fn new(device: &Rc<Device>) -> Self {
        Self { counter: Counter(Rc::clone(device)), asked: Rc::default(), longest_gap: None, stalls: None }
    }
}

impl Meter for Slow {
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let now_s = now.since_origin().value();
        self.asked.borrow_mut().push(now_s);
        let stall = self.stalls.take_if(|(from, _)| *from <= now_s);
        self.counter.0.clock.advance(Seconds::new(stall.map_or(READING, |(_, takes)| takes)));
        self.counter.read(now)
    }

    fn longest_gap(&self) -> Option<Seconds> {
        self.longest_gap
    }
}

struct Run {
    signatures: Vec<usize>,
    period: f64,
    window: f64,
    rounds: usize,
}

impl Run {
    /// Records by several meters, the first of them the primary one. The user stops it at some time.
    fn record(
        &self,
        path: &Path,
        executor: &mut dyn Executor,
        meters: Vec<Box<dyn Meter>>,
        clock: &ManualClock,
        stopped_at: f64,
    ) -> Recording {
        let nowhere = Surroundings { sysfs_root: "/nowhere".into(), proc_root: "/nowhere".into() };
        let mut probe = SystemProbe::start(nowhere);
        self.record_with(path, executor, meters, clock, stopped_at, &mut probe)
    }

    fn record_with(
        &self,
        path: &Path,
        executor: &mut dyn Executor,
        meters: Vec<Box<dyn Meter>>,
        clock: &ManualClock,
        stopped_at: f64,
        probe: &mut dyn Probe,
    ) -> Recording {
        let plan = plan(&self.signatures);
        let mut header = header(&plan, self.period, self.rounds);
        let seconds = Seconds::new(self.window);
        (header.options.window_s, header.options.pass_window_s) = (seconds, seconds);
        let side = MeterRecord { id: "side".to_string(), ..header.meters[0].clone() };
        header.meters.resize(meters.len(), side);
        let mut schedule = Schedule::new(plan.signatures.len(), &header.options, |_, _| {});
        let mut meters: Vec<(usize, Box<dyn Meter>)> = meters.into_iter().enumerate().collect();
        let mut writer = TraceWriter::create(path, &header).unwrap();
        let session = Session {
            executor,
            plan: &plan,
            meters: &mut meters,
            clock,
            probe,
            stop: &|| clock.now().since_origin().value() >= stopped_at,
            progress: &mut |_, _, _| {},
            pick: &mut |_, _| 0,
        };
        record(session, Trace::new(header, Vec::new()), &mut schedule, &mut writer)
    }

    /// The same by one counter, until its end.
    fn by_a_slow_counter(&self, device: &Rc<Device>, executor: &mut dyn Executor) -> (Recording, Vec<f64>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.jsonl");
        let meter = Slow::new(device);
        let asked = Rc::clone(&meter.asked);
        let recording = self.record(&path, executor, vec![Box::new(meter)], &device.clock, f64::INFINITY);
        assert_eq!(read_trace(&path).unwrap(), recording.trace);
        let asked = asked.borrow().clone();
        (recording, asked)
    }
}

/// Three windows of a layer and its pass, with a counter one of whose readings in the middle of a window of work takes
/// `stall`; and when that was, by the same run without it.
fn with_a_stall(stall: f64) -> (Recording, Span) {
    let run = Run { signatures: vec![0], period: 0.02, window: 2.0, rounds: 3 };
    let record = |stalls: Option<(f64, f64)>| {
        let device = Device::new(IDLE, run.period);
        let mut executor = Queued::new(&device, &[(EACH, WATTS)]);
        let meter = Slow { stalls, ..Slow::new(&device) };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.jsonl");
        let recording = run.record(&path, &mut executor, vec![Box::new(meter)], &device.clock, f64::INFINITY);
        assert!(recording.error.is_none(), "{:?}", recording.error);
        recording
    };
    let usual = record(None).trace;
    let span = *usual.spans.iter().find(|span| span.kind == SpanKind::Replay(0)).unwrap();
    let middle = (span.start.since_origin() + span.end.since_origin()) / 2.0;
    (record(Some((middle.value(), stall))), span)
}

#[test]
fn a_window_in_which_the_device_had_nothing_to_do_is_measured_again() {
    let (recording, disturbed) = with_a_stall(0.1);
    let [warning] = recording.trace.warnings.as_slice() else { panic!("{:?}", recording.trace.warnings) };
    let words = ["layer0: the device had nothing to do for ", "the host was held up", "was measured again"];
    assert!(warning.code == "lost_window" && words.iter().all(|w| warning.text.contains(w)), "{warning:?}");
    let again = recording.trace.spans.iter().find(|span| span.kind == disturbed.kind).unwrap();
    assert!(again.start > disturbed.end);
    for span in working(&recording.trace) {
        assert_relative_eq!(span.executions, span.length().value() / EACH, max_relative = 1e-7);
    }
    let row = run_report(&recording.trace).layers.remove(0);
    assert_relative_eq!(row.energy_j.unwrap().value.value(), EACH * WATTS, max_relative = 1e-3);
}

#[test]
fn a_host_that_is_fifty_milliseconds_late_leaves_the_device_something_to_do() {
    let (recording, disturbed) = with_a_stall(0.05);
    assert!(recording.trace.warnings.is_empty(), "{:?}", recording.trace.warnings);
    let span = recording.trace.spans.iter().find(|span| span.kind == disturbed.kind).unwrap();
    assert_eq!(span.start, disturbed.start);
    assert_relative_eq!(span.executions, span.length().value() / EACH, max_relative = 1e-7);
}

fn working(trace: &Trace) -> impl Iterator<Item = &Span> {
    trace.spans.iter().filter(|span| !matches!(span.kind, SpanKind::Idle | SpanKind::ActiveIdle))
}

/// By hand, for the device that waits: every time that nobody has looked for 20 ms, both meters take 4 ms, and then six
/// executions fit until 22.6 ms have passed: 4 ms at 50 W for six, 33 mJ more than 0.62 J each. Ten more readings of 2 ms
/// are for the picture of the window. Those at its closing edge, up to four in 8 s, are within the tolerance.
#[test]
fn reading_meters_costs_a_layer_nothing_on_a_device_that_queues_and_five_percent_on_one_that_waits() {
    let run = Run { signatures: vec![0], period: 0.02, window: 8.0, rounds: 3 };
    let layer = |queues: bool| {
        let device = Device::new(IDLE, run.period);
        let mut executor: Box<dyn Executor> = if queues {
            Box::new(Queued::new(&device, &[(EACH, WATTS)]))
        } else {
            let power_of = Box::new(|_, watts| watts);
            Box::new(Steps { device: Rc::clone(&device), work: vec![(EACH, WATTS)], power_of })
        };
        // A reading of power that must be looked at every 20 ms.
        let side = Slow { longest_gap: Some(Seconds::new(0.1)), ..Slow::new(&device) };
        let meters: Vec<Box<dyn Meter>> = vec![Box::new(Slow::new(&device)), Box::new(side)];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.jsonl");
        let recording = run.record(&path, executor.as_mut(), meters, &device.clock, f64::INFINITY);
        assert!(recording.error.is_none(), "{:?}", recording.error);
        let row = run_report(&recording.trace).layers.remove(0);
        (row.energy_j.unwrap().value.value(), row.time_s.unwrap().value.value())
    };
    let ((energy, time), (waited_energy, waited_time)) = (layer(true), layer(false));
    assert_relative_eq!(energy, EACH * WATTS, max_relative = 1e-3);
    assert_relative_eq!(time, EACH, max_relative = 1e-7);
    let waits = (EACH + 2.0 * READING / 6.0) * run.window / (run.window - 10.0 * READING);
    assert_relative_eq!(waited_time, waits, max_relative = 2e-3);
    assert_relative_eq!(waited_energy, EACH * WATTS + IDLE * (waits - EACH), max_relative = 2e-3);
}

#[test]
fn executions_at_edges_are_parts_that_make_the_length_of_the_window() {
    // Two steps of different power, so that a pass is of two parts.
    let work = [(EACH, WATTS), (0.7e-3, 90.0)];
    let run = Run { signatures: vec![0, 1], period: 0.1, window: 2.0, rounds: 2 };
    let device = Device::new(IDLE, run.period);
    let mut executor = Queued::new(&device, &work);
    let (recording, _) = run.by_a_slow_counter(&device, &mut executor);
    assert!(recording.error.is_none(), "{:?}", recording.error);
    let mut parts = 0;
    for span in working(&recording.trace) {
        let each = match span.kind {
            SpanKind::Replay(step) => work[step].0,
            _ => work[0].0 + work[1].0,
        };
        // The device never waits, so it is always amid an execution.
        assert_relative_eq!(span.executions, span.length().value() / each, max_relative = 1e-8);
        parts += usize::from(span.executions.fract() > 1e-3 && span.executions.fract() < 0.999);
        // Both edges lie within a look of 2 ms, another, and a quarter of an execution.
        assert!(span.edge_s.value() <= 2.0 * READING + 1e-3 + each / 4.0, "{span:?}");
        assert!(span.edge_s.value() > each / 4.0, "{span:?}");
    }
    assert!(parts >= 6, "{parts} windows end amid an execution");
    let replays = run_report(&recording.trace).layers[0].replays as f64;
    let of_first = working(&recording.trace).filter(|span| span.kind == SpanKind::Replay(0));
    assert_relative_eq!(replays, of_first.map(|span| span.executions).sum::<f64>(), epsilon = 0.5);
}

#[test]
fn the_meter_is_asked_fast_only_where_it_should_change() {
    let run = Run { signatures: vec![0], period: 0.1, window: 2.0, rounds: 4 };
    let device = Device::new(IDLE, run.period);
    let mut executor = Queued::new(&device, &[(EACH, WATTS)]);
    let (recording, asked) = run.by_a_slow_counter(&device, &mut executor);
    assert!(recording.error.is_none(), "{:?}", recording.error);
    let mut fast = 0;
    for span in &recording.trace.spans {
        let within =
            |at: &&f64| (span.start.since_origin().value()..span.end.since_origin().value()).contains(*at);
        let times: Vec<f64> = asked.iter().filter(within).copied().collect();
        for pair in times.windows(2).filter(|pair| pair[1] - pair[0] < 0.01) {
            fast += 1;
            // The counter moves at whole tenths of a second, and was last seen to up to a look later.
            let from_edge = (pair[1] / run.period).round() * run.period - pair[1];
            assert!(from_edge.abs() <= 5e-3 + 2.0 * READING + 1e-3, "asked {from_edge} s from an edge");
        }
        // Its opening, ten readings, and ten milliseconds of 2 ms each around the closing edge.
        let most = 1 + 10 + 6;
        assert!(times.len() <= most, "{} readings in {span:?}", times.len());
    }
    assert!(fast >= recording.trace.spans.len(), "{fast}");
}

#[test]
fn a_meter_one_percent_slower_than_it_was_found_to_be_is_expected_when_it_comes() {
    let run = Run { signatures: vec![0], period: 0.1, window: 2.0, rounds: 4 };
    let device = Device::new(IDLE, run.period * 1.01);
    let mut executor = Queued::new(&device, &[(EACH, WATTS)]);
    let (recording, _) = run.by_a_slow_counter(&device, &mut executor);
    assert!(recording.error.is_none(), "{:?}", recording.error);
    let periods = |span: &Span| (span.length().value() / (run.period * 1.01)).round() as u32;
    // A change that is not expected when it comes, 10 ms late in the first window, leaves the window open for another.
    let (first, later) = recording.trace.spans.split_at(3);
    assert!(periods(&first[0]) == 11, "nothing was to be learnt: {:?}", first[0]);
    let long = |span: &&Span| matches!(span.kind, SpanKind::Replay(_) | SpanKind::Pass);
    let found: Vec<u32> = later.iter().filter(long).map(periods).collect();
    // 2 s are 19.8 of them.
    assert!(found.len() >= 6 && found.iter().all(|&found| found == 20), "{found:?}");
}

/// Notes for each look whether the device is said to work, and whether it does.
struct Watcher {
    device: Rc<Device>,
    seen: Vec<(bool, bool)>,
}

impl Probe for Watcher {
    fn look(&mut self, busy: bool) -> Condition {
        self.seen.push((busy, self.device.is_busy()));
        // Five queries of a driver.
        self.device.clock.advance(Seconds::new(10e-3));
        self.seen.push((busy, self.device.is_busy()));
        Condition::default()
    }

    fn environment(&self, _weights_and_input: WeightsAndInput) -> Environment {
        Environment::default()
    }

    fn finish(&mut self, _begin: &Environment, _earlier: Option<&Environment>) -> Environment {
        Environment::default()
    }
}

#[test]
fn the_device_is_looked_at_while_its_load_still_runs() {
    let run = Run { signatures: vec![0], period: 0.02, window: 1.0, rounds: 2 };
    let device = Device::new(IDLE, run.period);
    let mut executor = Queued::new(&device, &[(EACH, WATTS)]);
    let mut probe = Watcher { device: Rc::clone(&device), seen: Vec::new() };
    let dir = tempfile::tempdir().unwrap();
    let meter: Box<dyn Meter> = Box::new(Slow::new(&device));
    let path = dir.path().join("trace.jsonl");
    let recording =
        run.record_with(&path, &mut executor, vec![meter], &device.clock, f64::INFINITY, &mut probe);
    assert!(recording.error.is_none(), "{:?}", recording.error);
    assert!(probe.seen.iter().all(|(said, works)| said == works), "{:?}", probe.seen);
    let busy = probe.seen.iter().filter(|(said, _)| *said).count();
    // Thrice in each window of work, at every third of ten readings, and behind its end; before one of whole passes once
    // more, which shows that the device has no clock to wait for; once behind one of rest. Each look notes two things.
    let work = working(&recording.trace).count();
    let passes = recording.trace.spans.iter().filter(|span| span.kind == SpanKind::Pass).count();
    assert_eq!(busy, 2 * (4 * work + passes));
    assert_eq!(probe.seen.len() - busy, 2 * (recording.trace.spans.len() - work));
}

#[test]
fn bursts_are_whole_units_of_about_twenty_milliseconds() {
    let run = Run { signatures: vec![0], period: 0.02, window: 1.0, rounds: 2 };
    let device = Device::new(IDLE, run.period);
    // Units of 7 x 0.1 ms: 20 ms are 28.6 of them.
    let mut executor = Queued::new(&device, &[(1e-4, WATTS)]);
    executor.unit = 7;
    let (recording, _) = run.by_a_slow_counter(&device, &mut executor);
    assert!(recording.error.is_none(), "{:?}", recording.error);
    assert!(executor.bursts.iter().all(|burst| burst % 7 == 0));
    // Tenfold at most: 7, 70 of them, and then at their length.
    assert_eq!(executor.bursts[..2], [7, 7]);
    assert!(executor.bursts.iter().all(|&burst| burst <= 28 * 7), "{:?}", executor.bursts);
    let long = executor.bursts.iter().filter(|&&burst| burst as f64 * 1e-4 >= 0.01).count();
    let settling = executor.bursts.len() - long;
    assert!(
        settling <= 4 * recording.trace.spans.len(),
        "{settling} short bursts of {}",
        executor.bursts.len()
    );
    for span in working(&recording.trace) {
        assert_relative_eq!(span.executions, span.length().value() / 1e-4, max_relative = 1e-7);
    }
}

#[test]
fn a_window_of_long_passes_has_four_of_them() {
    let run = Run { signatures: vec![0, 1], period: 0.02, window: 0.5, rounds: 2 };
    let device = Device::new(IDLE, run.period);
    let work = [(0.9, WATTS), (0.4, 90.0)];
    let mut executor = Queued::new(&device, &work);
    let (recording, _) = run.by_a_slow_counter(&device, &mut executor);
    assert!(recording.error.is_none(), "{:?}", recording.error);
    let passes: Vec<f64> = recording
        .trace
        .spans
        .iter()
        .filter(|span| span.kind == SpanKind::Pass)
        .map(|span| span.executions)
        .collect();
    assert_eq!(passes.len(), 2);
    assert!(passes.iter().all(|passes| (4.0..6.5).contains(passes)), "{passes:?}");
}

#[test]
fn a_device_that_passes_no_more_marks_ends_the_run_in_finite_time_and_is_named() {
    let run = Run { signatures: vec![0], period: 0.02, window: 1.0, rounds: 3 };
    let device = Device::new(IDLE, run.period);
    // Some two hundred bursts of 20 ms are four seconds of work.
    let mut executor = Queued::new(&device, &[(EACH, WATTS)]);
    executor.hangs_after = 200;
    let (recording, _) = run.by_a_slow_counter(&device, &mut executor);
    let Some(RecordError::Hangs { seconds }) = recording.error else { panic!("{:?}", recording.error) };
    assert!((60.0..61.0).contains(&seconds), "{seconds}");
    assert!(working(&recording.trace).count() >= 2 && !recording.trace.complete);
    let why = recording.trace.ended_by.unwrap();
    assert!(why.contains("has not finished a burst of work for 60 s: it hangs"), "{why}");
    assert!(device.clock.now().since_origin() < Seconds::new(80.0));
}

#[test]
fn a_device_that_is_lost_ends_the_run_and_keeps_what_is_finished() {
    let run = Run { signatures: vec![0], period: 0.02, window: 1.0, rounds: 3 };
    let device = Device::new(IDLE, run.period);
    let mut executor = Queued::new(&device, &[(EACH, WATTS)]);
    // Amid the first window of passes.
    executor.lost_at = 4.5;
    let (recording, _) = run.by_a_slow_counter(&device, &mut executor);
    assert!(matches!(recording.error, Some(RecordError::Backend(_))), "{:?}", recording.error);
    assert!(recording.trace.ended_by.unwrap().contains("fell off the bus"));
    let last = recording.trace.spans.last().unwrap().end.since_origin().value();
    assert!((3.0..4.5).contains(&last) && device.clock.now().since_origin() < Seconds::new(4.6), "{last}");
}

#[test]
fn a_user_who_stops_a_run_waits_for_no_more_than_what_is_queued() {
    let run = Run { signatures: vec![0], period: 0.02, window: 1.0, rounds: 3 };
    let dir = tempfile::tempdir().unwrap();
    for stopped_at in [4.0, 4.567, 5.31] {
        let device = Device::new(IDLE, run.period);
        let mut executor = Queued::new(&device, &[(EACH, WATTS)]);
        let path = dir.path().join(format!("{stopped_at}.jsonl"));
        let meter: Box<dyn Meter> = Box::new(Slow::new(&device));
        let recording = run.record(&path, &mut executor, vec![meter], &device.clock, stopped_at);
        assert!(matches!(recording.error, Some(RecordError::Stopped)), "{:?}", recording.error);
        let late = device.clock.now().since_origin().value() - stopped_at;
        assert!(late < 0.045, "{late} s");
    }
}
