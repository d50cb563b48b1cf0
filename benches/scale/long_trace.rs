//! A trace of ten million samples, as a recording makes them.

use std::path::Path;

use layerjoule::clock::Instant;
use layerjoule::report::run_report;
use layerjoule::trace::{
    DeviceRecord, Environment, Header, LayerRecord, MeterKind, MeterRecord, MeterStatus, NetworkRecord,
    RecordOptions, Sample, Samples, Span, SpanKind, TRACE_SCHEMA, Tool, Trace, TraceWriter, WindowState,
    read_trace,
};
use layerjoule::units::{Joules, Seconds};

const SAMPLES: usize = 10_000_000;
const SIGNATURES: usize = 200;
const METERS: usize = 3;
/// Readings of the primary meter in a window; other meters are read at its edges.
const PRIMARY: usize = 12;
const PER_WINDOW: usize = PRIMARY + 2 * (METERS - 1);

/// What is timed: attribution by all meters and the report.
pub(super) fn attributed() -> Box<dyn FnMut()> {
    let trace = trace();
    Box::new(move || check(&trace))
}

/// What is timed: reading the file, and the same.
pub(super) fn read() -> Box<dyn FnMut()> {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let path = dir.path().join("trace.jsonl");
    write(&path);
    Box::new(move || {
        let _kept_until_the_end = &dir;
        check(&read_trace(&path).expect("the trace is sound"));
    })
}

fn check(trace: &Trace) {
    assert!(trace.samples.len() >= SAMPLES, "{} samples", trace.samples.len());
    let report = run_report(trace);
    // One execution draws 50 W for 1 ms.
    let energy = report.layers[0].energy_j.expect("every layer has windows").value.value();
    assert!((energy - 0.05).abs() < 1e-6, "{energy}");
    assert_eq!(report.layers[0].also.len(), METERS - 1);
}

fn trace() -> Trace {
    let mut trace = Trace::new(header(), Vec::new());
    trace.spans.reserve_exact(SAMPLES.div_ceil(PER_WINDOW));
    windows(|span, samples| {
        trace.spans.push(*span);
        trace.samples.extend(samples.iter());
    });
    trace.complete = true;
    trace
}

fn write(path: &Path) {
    let mut writer = TraceWriter::create(path, &header()).expect("a temporary file can be written");
    windows(|span, samples| {
        let samples: Vec<Sample> = samples.iter().collect();
        writer.window(span, &samples, None).expect("a temporary file can be written");
    });
}

/// Rounds of all signatures, a pass and an idle window, each of half a second at 50 W, idle at 10 W.
fn windows(mut window: impl FnMut(&Span, &Samples)) {
    let kinds: Vec<SpanKind> =
        (0..SIGNATURES).map(SpanKind::Replay).chain([SpanKind::Pass, SpanKind::ActiveIdle]).collect();
    let (mut energy, step) = (0.0, 500_000_000 / (PRIMARY as u64 - 1));
    for at in 0..SAMPLES.div_ceil(PER_WINDOW) {
        let kind = kinds[at % kinds.len()];
        let watts = if kind == SpanKind::ActiveIdle { 10.0 } else { 50.0 };
        let start = at as u64 * 800_000_000;
        let instant = |i: usize| Instant::from_nanos(start + i as u64 * step);
        let mut samples = Samples::default();
        for i in 0..PRIMARY {
            let joules = Joules::new(energy + watts * (i as u64 * step) as f64 * 1e-9);
            samples.push(Sample { meter: 0, at: instant(i), energy: joules });
            if i == 0 || i == PRIMARY - 1 {
                (1..METERS).for_each(|meter| samples.push(Sample { meter, at: instant(i), energy: joules }));
            }
        }
        let (start, end) = (instant(0), instant(PRIMARY - 1));
        energy += watts * (end - start).value();
        let executions = ((end - start).value() * 1e3).round();
        let round = at / kinds.len();
        window(
            &Span {
                kind,
                round,
                start,
                end,
                executions,
                edge_s: Seconds::ZERO,
                state: WindowState::default(),
            },
            &samples,
        );
    }
}

fn header() -> Header {
    let layer = |signature: usize| LayerRecord {
        fused: Vec::new(),
        fused_into: None,
        name: format!("layer{signature}"),
        kind: "conv".to_string(),
        signature: Some(signature),
        algorithm: None,
        workspace_bytes: None,
        kernels: Vec::new(),
        output: vec![1],
        flops: 1000,
        flops_elementwise: 0,
        bytes: 100,
    };
    let meter = |index: usize| MeterRecord {
        id: format!("counter{index}"),
        scope: "a counter".to_string(),
        kind: MeterKind::Counter,
        status: MeterStatus::Measured,
        reason: None,
        update_period_s: Some(Seconds::new(1e-3)),
        lag_s: None,
        coverage: None,
        systematic_relative: None,
    };
    let seconds = Seconds::new(0.5);
    Header {
        schema: TRACE_SCHEMA.to_string(),
        tool: Tool::this(),
        created: "2026-01-01T00:00:00Z".to_string(),
        clock_origin_unix_s: Seconds::ZERO,
        simulated: true,
        emulated: false,
        network: NetworkRecord {
            name: "long".to_string(),
            source: "long.toml".to_string(),
            sha256: "0".repeat(64),
            batch: 1,
            set: Default::default(),
            parameters: 0,
            buffers: 0,
            flops: 0,
            flops_elementwise: 0,
        },
        layers: (0..SIGNATURES).map(layer).collect(),
        contexts: Vec::new(),
        excerpts: Vec::new(),
        beginnings: Vec::new(),
        signatures: (0..SIGNATURES).map(|s| format!("work {s}")).collect(),
        device: DeviceRecord {
            kind: "cpu".to_string(),
            name: "synthetic".to_string(),
            uuid: None,
            driver: None,
            cuda: None,
            cudnn: None,
            precision: "f32".to_string(),
            layout: "nchw".to_string(),
            cache: None,
            engine: "none".to_string(),
            threads: 1,
        },
        meters: (0..METERS).map(meter).collect(),
        primary_meter: 0,
        environment: Environment::default(),
        options: RecordOptions {
            target: None,
            rounds: SAMPLES / PER_WINDOW / (SIGNATURES + 2),
            window_s: seconds,
            window_updates: 0,
            pass_window_s: seconds,
            idle_window_s: seconds,
            settle_s: Seconds::new(0.3),
            warm_up_s: seconds,
            sampling_pairs: 0,
            sampling_window_s: Seconds::ZERO,
            seed: 0,
        },
    }
}
