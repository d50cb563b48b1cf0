//! The corpus: small whole files, which tests write under `cargo xtask bless`, and files that once broke a
//! reader.

use std::fs;
use std::path::{Path, PathBuf};

use layerjoule::clock::Instant;
use layerjoule::report::run_report;
use layerjoule::trace::Warning;
use layerjoule::trace::{
    LayerRecord, MeterKind, MeterRecord, MeterStatus, Sample, Span, SpanKind, Trace, TraceWriter, WindowState,
};
use layerjoule::units::{Joules, Seconds};

use super::checks::Reader;
use crate::onnx::builder::{Model, float_attr, int_attr, ints_attr};
use crate::support::program::repository;
use crate::support::{header, plan};

/// Files with this beginning must be accepted.
const WHOLE: &str = "whole-";

fn folder(reader: Reader) -> PathBuf {
    repository("fuzz/corpus").join(reader.name())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The files of a reader's corpus, in order of their names; for TOML the shipped networks too.
pub(super) fn load(reader: Reader) -> Vec<Vec<u8>> {
    let mut paths = files(&folder(reader));
    if reader == Reader::Toml {
        paths.extend(files(&repository("networks")));
    }
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The words of a reader's dictionary, in libFuzzer's format: a quoted word a line, `\"`, `\\` and `\xAB` in it.
pub(super) fn dictionary(reader: Reader) -> Vec<Vec<u8>> {
    let path = repository("fuzz/dictionaries").join(reader.name()).with_extension("dict");
    let text = fs::read_to_string(path).unwrap();
    let quoted = text.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix('"'));
    quoted.map(unescape).collect()
}

fn unescape(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let [first, tail @ ..] = rest {
        (rest, _) = match (first, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap();
                (tail, bytes.push(u8::from_str_radix(digits, 16).unwrap()))
            }
            (b'\\', [escaped, tail @ ..]) => (tail, bytes.push(*escaped)),
            _ => (tail, bytes.push(*first)),
        };
    }
    bytes
}

/// Two rounds of two kinds of work at 20 and 8 W over an idle of 3 W, read by a counter and a model.
pub(super) fn small_trace() -> Trace {
    let mut header = header(&plan(&[0, 0, 1]), 0.1, 2);
    let view = LayerRecord {
        fused: Vec::new(),
        fused_into: None,
        name: "flatten".into(),
        kind: "flatten".into(),
        signature: None,
        algorithm: None,
        workspace_bytes: None,
        kernels: Vec::new(),
        output: vec![1],
        flops: 0,
        flops_elementwise: 0,
        bytes: 0,
    };
    header.layers.push(view);
    header.network.batch = 2;
    header.meters.push(MeterRecord {
        id: "modelled".into(),
        scope: "a model of the scripted device".into(),
        kind: MeterKind::Modelled,
        status: MeterStatus::Estimated,
        reason: Some("published watts".into()),
        update_period_s: None,
        lag_s: None,
        coverage: None,
        systematic_relative: Some(0.3),
    });
    let mut trace = Trace::new(header, Vec::new());
    let (mut now, mut energy) = (1_000_000_000, 0.0);
    let mut window = |kind, round, millis: u64, watts: f64, executions| {
        let (start, before) = (now, energy);
        now += millis * 1_000_000;
        energy += watts * millis as f64 * 1e-3;
        let at = Instant::from_nanos;
        for (time, energy) in [(start, before), (now, energy)] {
            for meter in 0..2 {
                let energy = Joules::new(energy * (1.0 + 0.1 * meter as f64));
                trace.samples.push(Sample { meter, at: at(time), energy });
            }
        }
        let edge_s = Seconds::new(0.001);
        trace.spans.push(Span {
            kind,
            round,
            start: at(start),
            end: at(now),
            executions,
            edge_s,
            state: WindowState::default(),
        });
        now += 300_000_000;
    };
    window(SpanKind::WarmUp, 0, 1000, 15.0, 400.0);
    window(SpanKind::Idle, 0, 500, 2.5, 0.0);
    for round in 0..2 {
        window(SpanKind::Replay(1), round, 510, 8.0 + 0.1 * round as f64, 1000.0);
        window(SpanKind::Pass, round, 1020, 17.0 - 0.1 * round as f64, 390.0);
        window(SpanKind::ActiveIdle, round, 500, 3.0, 0.0);
        window(SpanKind::Replay(0), round, 500, 20.0 + 0.2 * round as f64, 500.0);
    }
    window(SpanKind::Idle, 1, 500, 2.6, 0.0);
    trace.warnings.push(Warning::new("example", "made by hand, not recorded"));
    trace.environment = Some(trace.header.environment.clone());
    trace.complete = true;
    trace
}

/// The bytes of a trace's file: each window with the samples up to its end.
pub(super) fn trace_bytes(trace: &Trace) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.jsonl");
    let mut writer = TraceWriter::create(&path, &trace.header).unwrap();
    let samples: Vec<_> = trace.samples.iter().collect();
    let mut written = 0;
    for span in &trace.spans {
        let end = samples.partition_point(|sample| sample.at <= span.end);
        writer.window(span, &samples[written..end], None).unwrap();
        written = end;
    }
    for warning in &trace.warnings {
        writer.warning(warning).unwrap();
    }
    writer.end(trace).unwrap();
    fs::read(path).unwrap()
}

/// The run file of a trace, as `profile` writes it.
pub(super) fn run_bytes(trace: &Trace) -> Vec<u8> {
    serde_json::to_vec_pretty(&run_report(trace)).unwrap()
}

/// Two convolutions whose sum and concatenation go through pools to a linear layer.
fn residual_onnx() -> Vec<u8> {
    Model::new(13, &[3, 8, 8])
        .floats("w1", &[3, 3, 3, 3], &[0.1; 81])
        .floats("w2", &[3, 1, 1, 1], &[0.5; 3])
        .floats("b2", &[3], &[0.0; 3])
        .raw("w3", rten_onnx::onnx::DataType::FLOAT16, &[2, 6], &[0, 0x3c].repeat(12))
        .ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1])
        .node("Pad x pads -> x1")
        .node("Conv x1 w1 -> c1")
        .node_with("Conv c1 w2 b2 -> c2", vec![int_attr("group", 3), ints_attr("kernel_shape", &[1, 1])])
        .node("Add c1 c2 -> sum")
        .node_with("LeakyRelu sum -> act", vec![float_attr("alpha", 0.2)])
        .node_with("Concat act x -> cat", vec![int_attr("axis", 1)])
        .node_with(
            "AveragePool cat -> pooled",
            vec![ints_attr("kernel_shape", &[3, 3]), ints_attr("strides", &[2, 2]), int_attr("ceil_mode", 1)],
        )
        .node("GlobalAveragePool pooled -> mean")
        .node("Flatten mean -> flat")
        .node_with("Gemm flat w3 -> y", vec![int_attr("transB", 1)])
        .bytes()
}

/// Clip, local response normalisation, a shuffle of channels and a reshape.
fn shuffle_onnx() -> Vec<u8> {
    Model::new(11, &[4, 4, 4])
        .floats("low", &[], &[0.0])
        .floats("high", &[], &[6.0])
        .ints("split", &[0, 2, 2, 4, 4])
        .ints("join", &[0, 4, 4, 4])
        .node("Clip x low high -> c")
        .node_with("LRN c -> n", vec![int_attr("size", 3)])
        .node("Reshape n split -> s")
        .node_with("Transpose s -> t", vec![ints_attr("perm", &[0, 2, 1, 3, 4])])
        .node("Reshape t join -> j")
        .node("Sigmoid j -> g")
        .node("Mul j g -> m")
        .node("Dropout m -> d")
        .node_with("ReduceMean d -> y", vec![ints_attr("axes", &[2, 3]), int_attr("keepdims", 0)])
        .bytes()
}

/// What the whole files of the corpus are made of, but for the TOML ones, which are written by hand.
fn made() -> Vec<(Reader, &'static str, Vec<u8>)> {
    let trace = small_trace();
    let mut unfinished = trace.clone();
    unfinished.spans.truncate(6);
    unfinished.samples = trace.samples.iter().take(24).collect();
    unfinished.complete = false;
    unfinished.ended_by = Some("stopped by the user".into());
    vec![
        (Reader::Onnx, "whole-plain.onnx", crate::onnx::damaged::small()),
        (Reader::Onnx, "whole-residual.onnx", residual_onnx()),
        (Reader::Onnx, "whole-shuffle.onnx", shuffle_onnx()),
        (Reader::Trace, "whole-finished.jsonl", trace_bytes(&trace)),
        (Reader::Trace, "whole-unfinished.jsonl", trace_bytes(&unfinished)),
        (Reader::Run, "whole-finished.json", run_bytes(&trace)),
        (Reader::Run, "whole-unfinished.json", run_bytes(&unfinished)),
    ]
}

#[test]
fn whole_files_of_the_corpus_are_accepted_and_the_others_break_nothing() {
    if std::env::var("BLESS").as_deref() == Ok("1") {
        for (reader, name, bytes) in made() {
            fs::write(folder(reader).join(name), bytes).unwrap();
        }
    }
    for reader in Reader::ALL {
        let mut whole = 0;
        for path in files(&folder(reader)) {
            let accepted = reader.check(&fs::read(&path).unwrap());
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(
                accepted || !name.starts_with(WHOLE),
                "{} is refused; run `cargo xtask bless`",
                path.display()
            );
            whole += usize::from(accepted);
        }
        assert!(whole >= 2, "{} has too few whole files", reader.name());
    }
}

#[test]
fn the_corpus_stays_small() {
    let size =
        |reader| files(&folder(reader)).iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>();
    let sum: u64 = Reader::ALL.into_iter().map(size).sum();
    assert!(sum < 300_000, "{sum} bytes");
}
