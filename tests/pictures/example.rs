//! Runs made by hand: no device, no network file.

use std::collections::BTreeMap;

use layerjoule::clock::Instant;
use layerjoule::report::{ClosureRow, IdleRow, KindRow, LayerRow, Method, PassRow, Phase, RunReport, Status};
use layerjoule::stats::{Estimate, Rng};
use layerjoule::trace::{
    DeviceRecord, Environment, Header, LayerRecord, MeterKind, MeterRecord, MeterStatus, NetworkRecord,
    Reads, RecordOptions, Sample, Sampling, Span, SpanKind, Tool, Trace, WindowState,
};
use layerjoule::units::{Joules, Seconds, Watts};

/// A report and the trace it could have come from.
pub(super) struct Example {
    pub(super) report: RunReport,
    pub(super) trace: Trace,
}

/// Name, kind, millijoules, FLOPs, element-wise FLOPs, bytes.
type Line = (String, &'static str, f64, u64, u64, u64);

/// Five layers with work and one without.
pub(super) fn lenet() -> Example {
    let lines: [(&str, &str, f64, u64, u64, u64); 6] = [
        ("conv1", "conv", 2.30, 235_200, 4_704, 22_000),
        ("relu1", "relu", 0.12, 0, 4_704, 37_632),
        ("pool1", "max_pool", 0.40, 0, 4_704, 23_520),
        ("flatten", "flatten", 0.0, 0, 0, 0),
        ("fc1", "linear", 8.20, 282_240, 120, 567_840),
        ("softmax", "softmax", 0.40, 0, 50, 80),
    ];
    let lines = lines.map(|(name, kind, mj, f, e, b)| (name.to_string(), kind, mj, f, e, b));
    example("lenet5", &lines, 3, &[0.2])
}

/// Sixty layers with the names of residual blocks.
pub(super) fn resnet() -> Example {
    let mut lines: Vec<Line> = vec![("conv1".into(), "conv", 31.0, 236_027_904, 0, 3_900_000)];
    for stage in 1..=4u32 {
        for block in 0..2 {
            let mj = 12.0 + 3.0 * f64::from(stage);
            let part = |part: &str, kind, mj: f64, f, e, b| -> Line {
                (format!("stage{stage}.{block}.{part}"), kind, mj, f, e, b)
            };
            let (act, weights) = (3_211_264 >> stage, 36_864u64 << (2 * stage));
            lines.extend([
                part("conv1", "conv", mj, 231_211_008, 0, act + weights * 4),
                part("bn1", "batch_norm", 0.9, 0, act / 4, act),
                part("relu1", "relu", 0.4, 0, act / 8, act),
                part("conv2", "conv", mj * 1.04, 231_211_008, 0, act + weights * 4),
                part("bn2", "batch_norm", 0.9, 0, act / 4, act),
                part("add", "add", 0.8, 0, act / 8, act * 3 / 2),
                part("relu2", "relu", 0.4, 0, act / 8, act),
            ]);
        }
    }
    lines.extend([
        ("gap".into(), "global_avg_pool", 0.05, 0, 25_088, 102_400),
        ("flatten".into(), "flatten", 0.0, 0, 0, 0),
        ("fc".into(), "linear", 1.9, 1_024_000, 1_000, 2_056_000),
    ]);
    example("resnet-60", &lines, 3, &[0.2])
}

/// As many layers as asked for, with the long names of an exported network.
pub(super) fn deep(layers: usize) -> Example {
    deep_with_windows(layers, &[0.2])
}

/// Windows of very different lengths, some shorter than a pixel.
pub(super) fn ragged() -> Example {
    deep_with_windows(400, &[0.02, 0.01, 1.5, 0.01, 0.01, 4.0, 0.01])
}

fn deep_with_windows(layers: usize, windows: &[f64]) -> Example {
    let mut lines: Vec<Line> = vec![];
    for block in 0.. {
        let mj = 0.3 + 2.0 * f64::from(block % 7);
        let pixels = 401_408u64 >> (block / 20).min(6);
        let name = |part: &str| format!("/features/features.{block}/conv/conv.{}/{part}", block % 4);
        lines.extend([
            (name("expand_conv_bn/Conv"), "conv", mj, pixels * 64, 0, pixels * 5),
            (name("Clip_output_0_quantized_activation"), "clip", 0.08, 0, pixels * 2, pixels * 8),
            (name("depthwise/Conv"), "conv", mj * 0.4, pixels * 18, 0, pixels * 8 + 9_000),
            (name("channel_shuffle"), "channel_shuffle", 0.07, 0, 0, pixels * 8),
            (
                format!("stage{}.{block}.expand_conv_bn", block / 10),
                "batch_norm",
                0.2,
                0,
                pixels * 2,
                pixels * 8,
            ),
            (name("Add"), "add", 0.11, 0, pixels, pixels * 12),
            (name("Concat"), "concat", 0.13, 0, 0, pixels * 8),
        ]);
        if lines.len() >= layers {
            lines.truncate(layers);
            return example("deep-export", &lines, 6, windows);
        }
    }
    unreachable!("blocks are added until there are enough layers");
}

impl Example {
    /// The same numbers from a model.
    pub(super) fn estimated(mut self) -> Self {
        for meter in [&mut self.report.meters[0], &mut self.trace.header.meters[0]] {
            meter.id = "modelled".to_string();
            meter.scope = "modelled CPU package".to_string();
            meter.kind = MeterKind::Modelled;
            meter.status = MeterStatus::Estimated;
            meter.systematic_relative = Some(0.5);
        }
        self.report.primary_meter = "modelled".to_string();
        for layer in &mut self.report.layers {
            layer.status = Status::Estimated;
            layer.method = Method::Modelled;
        }
        self
    }

    /// The same numbers from a simulated device.
    pub(super) fn simulated(mut self) -> Self {
        (self.report.simulated, self.trace.header.simulated) = (true, true);
        self.report.device.kind = "sim".to_string();
        self
    }

    /// Some rows below detection, some without a reading, one interval that reaches below zero.
    pub(super) fn with_missing(mut self) -> Self {
        for (k, layer) in self.report.layers.iter_mut().enumerate() {
            if k % 9 == 3 && layer.signature.is_some() {
                layer.status = Status::BelowDetection;
                (layer.energy_j, layer.share) = (None, None);
                layer.upper_j = Some(Joules::new(4e-6 + 1e-3 * (k / 9) as f64));
            } else if k % 11 == 5 && layer.signature.is_some() {
                layer.status = Status::Unavailable;
                (layer.energy_j, layer.share) = (None, None);
                layer.reason = Some("the counter did not move in 3 of 3 windows".to_string());
            } else if k % 13 == 2 {
                layer.energy_j = layer.energy_j.map(|e| around(e.value.value(), 1.6 * e.value.value()));
            } else if k == 8 {
                layer.energy_j = layer.energy_j.map(|e| around(e.value.value(), 0.2));
            }
        }
        self.report.kinds[1].energy_j = None;
        self.report.kinds[1].share = None;
        self
    }

    /// Names that are not fit for XML, and one that would reorder its neighbours.
    pub(super) fn with_markup(mut self) -> Self {
        self.report.network.name = "<script>&\"'\u{0}\u{1b}[31m\u{202e}".to_string();
        self.report.layers[0].name = "a<b>&c\u{7}\n]]>".to_string();
        self.report.layers[1].kind = "<&>".to_string();
        self.trace.header.layers[0].name = "x</text><svg>\u{fffe}".to_string();
        self
    }

    /// A run that was ended before anything was measured.
    pub(super) fn empty(mut self) -> Self {
        self.report.layers.clear();
        self.report.kinds.clear();
        self.report.closure.clear();
        self.report.pass.clear();
        self.report.meters.clear();
        self.trace.spans.clear();
        self.trace.samples.clear();
        self
    }

    /// Rows of three phases.
    pub(super) fn training(mut self) -> Self {
        let forward = self.report.layers.clone();
        for (phase, factor) in
            [(Phase::BackwardData, 1.1), (Phase::BackwardWeights, 0.9), (Phase::Update, 0.05)]
        {
            for row in &forward {
                if phase != Phase::BackwardData
                    && !matches!(row.kind.as_str(), "conv" | "linear" | "batch_norm")
                {
                    continue;
                }
                let mut row = row.clone();
                row.phase = phase;
                row.index = self.report.layers.len();
                row.energy_j = row.energy_j.map(|e| around(e.value.value() * factor, 0.03 * e.value.value()));
                self.report.layers.push(row);
            }
            let kinds: Vec<KindRow> =
                self.report.kinds.iter().filter(|k| k.phase == Phase::Forward).cloned().collect();
            for mut kind in kinds {
                kind.phase = phase;
                kind.energy_j =
                    kind.energy_j.map(|e| around(e.value.value() * factor, 0.02 * e.value.value()));
                self.report.kinds.push(kind);
            }
        }
        self
    }
}

fn around<T: From<f64>>(value: f64, half: f64) -> Estimate<T> {
    Estimate { value: value.into(), low: (value - half).into(), high: (value + half).into() }
}

fn example(name: &str, lines: &[Line], rounds: usize, windows: &[f64]) -> Example {
    let network = NetworkRecord {
        name: name.to_string(),
        source: format!("{name}.toml"),
        sha256: String::new(),
        batch: 1,
        set: BTreeMap::new(),
        parameters: 0,
        buffers: 0,
        flops: lines.iter().map(|l| l.3).sum(),
        flops_elementwise: lines.iter().map(|l| l.4).sum(),
    };
    let device = DeviceRecord {
        kind: "cpu".to_string(),
        name: "AMD EPYC 7763 64-Core Processor".to_string(),
        uuid: None,
        driver: None,
        cuda: None,
        cudnn: None,
        precision: "f32".to_string(),
        layout: "nchw".to_string(),
        cache: None,
        engine: "im2col-gemm".to_string(),
        threads: 8,
    };
    let meter = MeterRecord {
        id: "rapl-perf".to_string(),
        scope: "CPU packages".to_string(),
        kind: MeterKind::Counter,
        status: MeterStatus::Measured,
        reason: None,
        update_period_s: Some(Seconds::new(1e-3)),
        lag_s: None,
        coverage: None,
        systematic_relative: None,
    };
    let signatures = signatures(lines);
    let rows = rows(lines, &signatures);
    let trace = trace(lines, &signatures, (rounds, windows), &network, &device, &meter);
    let total: f64 = lines.iter().map(|l| l.2 * 1e-3).sum();
    let report = RunReport {
        schema: layerjoule::report::RUN_SCHEMA.to_string(),
        tool: Tool::this(),
        created: "2025-01-01T00:00:00Z".to_string(),
        simulated: false,
        emulated: false,
        network,
        device,
        meters: vec![meter.clone()],
        primary_meter: meter.id,
        environment: Environment::default(),
        kinds: kinds(lines, total),
        layers: rows,
        pass: vec![PassRow {
            phase: Phase::Forward,
            time_s: Some(around(total / 80.0, total / 8e4)),
            energy_j: Some(around(total * 1.07, total * 0.011)),
            energy_per_image_j: None,
            warnings: vec![],
        }],
        idle: IdleRow { power_w: Some(around(31.0, 0.4)), active_power_w: Some(around(38.0, 0.3)) },
        sampling: None,
        in_situ: Vec::new(),
        closure: vec![ClosureRow {
            phase: Phase::Forward,
            sum_of_layers_j: Some(around(total, total * 0.012)),
            gaps_j: Some(around(total * 0.03, total * 0.004)),
            pass_j: Some(around(total * 1.07, total * 0.011)),
            residual_j: Some(around(total * 0.04, total * 0.016)),
            residual_ratio: Some(0.04 / 1.07),
            reconciled_j: vec![],
            warnings: vec![],
        }],
        warnings: vec![],
    };
    Example { report, trace }
}

/// The signature of each line: kind and cost; none for views.
fn signatures(lines: &[Line]) -> Vec<Option<String>> {
    let text = |l: &Line| (l.5 > 0).then(|| format!("{} {} {} {}", l.1, l.3, l.4, l.5));
    lines.iter().map(text).collect()
}

fn rows(lines: &[Line], signatures: &[Option<String>]) -> Vec<LayerRow> {
    let total: f64 = lines.iter().map(|l| l.2).sum();
    let row = |(index, (line, signature)): (usize, (&Line, &Option<String>))| {
        let joules = line.2 * 1e-3;
        let works = signature.is_some();
        LayerRow {
            index,
            name: line.0.clone(),
            kind: line.1.to_string(),
            phase: Phase::Forward,
            covers: vec![],
            fused: vec![],
            signature: signature.clone(),
            algorithm: None,
            workspace_bytes: None,
            kernels: Vec::new(),
            executions: 1,
            replays: 900,
            windows: 3,
            method: Method::Replay,
            time_s: works.then(|| around(joules / 80.0, joules / 8e3)),
            energy_j: works.then(|| around(joules, joules * (0.02 + 0.01 * (index % 7) as f64))),
            energy_dynamic_j: None,
            uncertainty: None,
            power_w: works.then(|| around(80.0, 1.0)),
            flops: line.3,
            flops_elementwise: line.4,
            bytes: line.5,
            share: works.then(|| line.2 / total),
            also: vec![],
            status: if works { Status::Measured } else { Status::Unavailable },
            upper_j: None,
            reason: (!works).then(|| "executes nothing".to_string()),
            warnings: vec![],
        }
    };
    lines.iter().zip(signatures).enumerate().map(row).collect()
}

fn kinds(lines: &[Line], total: f64) -> Vec<KindRow> {
    let mut sums: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for line in lines.iter().filter(|l| l.5 > 0) {
        let sum = sums.entry(line.1).or_default();
        *sum = (sum.0 + 1, sum.1 + line.2 * 1e-3);
    }
    let row = |(kind, (layers, joules)): (&str, (usize, f64))| KindRow {
        kind: kind.to_string(),
        phase: Phase::Forward,
        layers,
        time_s: Some(around(joules / 80.0, joules / 8e3)),
        energy_j: Some(around(joules, joules * 0.025)),
        energy_dynamic_j: None,
        share: Some(joules / total),
    };
    sums.into_iter().map(row).collect()
}

fn trace(
    lines: &[Line],
    signatures: &[Option<String>],
    (rounds, windows): (usize, &[f64]),
    network: &NetworkRecord,
    device: &DeviceRecord,
    meter: &MeterRecord,
) -> Trace {
    let mut distinct: Vec<String> = vec![];
    for text in signatures.iter().flatten() {
        if !distinct.contains(text) {
            distinct.push(text.clone());
        }
    }
    let index = |s: &Option<String>| s.as_ref().and_then(|s| distinct.iter().position(|d| d == s));
    let layer = |(line, signature): (&Line, &Option<String>)| LayerRecord {
        fused: Vec::new(),
        fused_into: None,
        name: line.0.clone(),
        kind: line.1.to_string(),
        signature: index(signature),
        algorithm: None,
        workspace_bytes: None,
        kernels: Vec::new(),
        output: vec![],
        flops: line.3,
        flops_elementwise: line.4,
        bytes: line.5,
    };
    let header = Header {
        schema: layerjoule::trace::TRACE_SCHEMA.to_string(),
        tool: Tool::this(),
        created: "2025-01-01T00:00:00Z".to_string(),
        clock_origin_unix_s: Seconds::ZERO,
        simulated: false,
        emulated: false,
        network: network.clone(),
        contexts: Vec::new(),
        excerpts: Vec::new(),
        beginnings: Vec::new(),
        layers: lines.iter().zip(signatures).map(layer).collect(),
        signatures: distinct.clone(),
        device: device.clone(),
        meters: vec![meter.clone()],
        primary_meter: 0,
        environment: Environment::default(),
        options: RecordOptions {
            target: None,
            rounds,
            window_s: Seconds::new(0.2),
            window_updates: 20,
            pass_window_s: Seconds::new(1.0),
            idle_window_s: Seconds::new(0.5),
            settle_s: Seconds::new(0.05),
            warm_up_s: Seconds::new(1.0),
            sampling_pairs: 0,
            sampling_window_s: Seconds::ZERO,
            seed: 1,
        },
    };
    let mut tape = Tape::default();
    tape.window(SpanKind::Idle, 0, 1.0, 31.0);
    tape.rest(1.0, 75.0);
    for round in 0..rounds {
        for k in 0..distinct.len() {
            tape.rest(0.05, 70.0);
            tape.window(SpanKind::Replay(k), round, windows[k % windows.len()], 60.0 + 7.0 * (k % 6) as f64);
        }
        tape.rest(0.05, 70.0);
        tape.window(SpanKind::Pass, round, 1.0, 84.0);
        tape.rest(0.3, 45.0);
        tape.window(SpanKind::ActiveIdle, round, 0.5, 38.0);
    }
    tape.window(SpanKind::Idle, rounds.saturating_sub(1), 1.0, 31.5);
    Trace {
        header,
        spans: tape.spans,
        samples: tape.samples.into_iter().collect(),
        warnings: vec![],
        environment: None,
        complete: true,
        ended_by: None,
        sampling: Sampling { windows_s: Seconds::ZERO, reads: Reads::NONE },
    }
}

/// Writes spans and the samples of one meter, every 10 ms with some noise.
#[derive(Default)]
struct Tape {
    nanos: u64,
    joules: f64,
    rng: Option<Rng>,
    spans: Vec<Span>,
    samples: Vec<Sample>,
}

impl Tape {
    fn window(&mut self, kind: SpanKind, round: usize, seconds: f64, watts: f64) {
        let start = Instant::from_nanos(self.nanos);
        self.rest(seconds, watts);
        let end = Instant::from_nanos(self.nanos);
        self.spans.push(Span {
            kind,
            round,
            start,
            end,
            executions: 300.0,
            edge_s: Seconds::new(1e-4),
            state: WindowState::default(),
        });
    }

    fn rest(&mut self, seconds: f64, watts: f64) {
        let step = 0.01;
        for _ in 0..(seconds / step).round() as usize {
            self.sample();
            let noise = self.rng.get_or_insert_with(|| Rng::new(7)).uniform() - 0.5;
            self.joules += (Watts::new(watts + 6.0 * noise) * Seconds::new(step)).value();
            self.nanos += 10_000_000;
        }
        self.sample();
    }

    fn sample(&mut self) {
        let (at, energy) = (Instant::from_nanos(self.nanos), Joules::new(self.joules));
        self.samples.push(Sample { meter: 0, at, energy });
    }
}
