//! The program that holds a GPU's every kind, precision and layout to the reference, on the emulated GPU: so the
//! backend's own code runs, down to each call's arguments, without a GPU. What libraries of NVIDIA's compute is shown on
//! a real one only.

mod cases;
mod tolerance;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use layerjoule::backend::reference;
use layerjoule::network::LayerKind;
use layerjoule::plan::Precision;
use tempfile::TempDir;

use crate::stand_ins::cuda::emulated_cuda;
use crate::stand_ins::example_file;

/// What the program prints for a precision; every line must agree.
fn conformance(precision: &str) -> String {
    // Mixes are repeated for some milliseconds: fewer kernels in each, and few copies.
    conformance_on(&[("OVERHEAD", "1e-4"), ("L2", "32768")], &["--precision", precision])
}

/// The same on an emulated GPU with these variables.
fn conformance_on(settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    emulated_cuda(folder.path());
    let output = Command::new(example_file("gpu_conformance", "gpu_conformance"))
        .env("LD_LIBRARY_PATH", folder.path())
        .arg("--cuda-path")
        .arg(folder.path())
        .args(arguments)
        .envs(settings.iter().map(|(name, value)| (format!("LAYERJOULE_EMULATED_{name}"), value)))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let bad: Vec<&str> =
        text.lines().filter(|line| line.starts_with("WRONG") || line.starts_with("FAILED")).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}", bad.join("\n"));
    text
}

/// Lines that agree and contain all of these words.
fn agreeing(text: &str, words: &[&str]) -> usize {
    text.lines().filter(|line| line.starts_with("ok") && words.iter().all(|word| line.contains(word))).count()
}

#[test]
fn every_kind_agrees_with_the_reference_in_f32() {
    let text = conformance("f32");
    for way in [
        "cudnn engine",
        "cudnn implicit_precomp_gemm with bias",
        "own pad + cudnn",
        "own reorder + own transpose",
        "cudnn pooling",
        "cudnn batch_norm",
        "cudnn lrn",
        "cudnn softmax",
        "cudnn op_tensor",
        "cublaslt algo",
        "own conv",
    ] {
        assert!(agreeing(&text, &[way]) > 0, "no {way} agrees:\n{text}");
    }
}

#[test]
fn every_kind_agrees_with_the_reference_in_tf32() {
    conformance("tf32");
}

#[test]
fn every_kind_agrees_with_the_reference_in_f16() {
    let text = conformance("f16");
    assert!(agreeing(&text, &["cudnn implicit_precomp_gemm with bias"]) > 0, "{text}");
    // Transforms are not kept exactly enough in 16 bits.
    assert_eq!(agreeing(&text, &["cudnn winograd"]) + agreeing(&text, &["cudnn fft"]), 0);
}

#[test]
fn every_kind_agrees_with_the_reference_in_bf16() {
    let text = conformance("bf16");
    assert!(agreeing(&text, &["bf16 nhwc", "conv 1x1", "cublaslt algo"]) > 0, "{text}");
}

/// The lines of mixes: what they say of the mix, and what it came to.
fn mixes(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let only = ["--only", "mixes", "--precision", "f32", "--layout", "nchw"];
    let text = conformance_on(settings, &only);
    let lines = text.lines().filter(|line| line.starts_with("ok")).map(|line| {
        let (mix, came_to) = line.rsplit_once(" | ").unwrap().1.split_once(": ").unwrap();
        (mix.to_string(), came_to.to_string())
    });
    lines.collect()
}

/// The copies of a mix and of its filler, its executions in a graph and the microseconds of each.
fn numbers(came_to: &str) -> ([u32; 3], f64) {
    let words: Vec<&str> = came_to.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    ([0, 2, 4].map(|at| words[at].parse().unwrap()), words[6].parse().unwrap())
}

#[test]
fn copies_of_an_excerpt_take_turns_past_twice_the_cache() {
    let mixes = mixes(&[("L2", "65536"), ("OVERHEAD", "5e-5")]);
    let of = |mix: &str| {
        let found = mixes.iter().find(|(words, _)| words == mix);
        numbers(&found.unwrap_or_else(|| panic!("no {mix} in {mixes:?}")).1).0
    };
    // The stem reads 3 x 3 x 36 numbers of 4 bytes, writes 3 x 8 x 36 and has weights of 8 x 27, and 8 of bias: in
    // pieces of 256 bytes 1536 + 3584 + 1024 + 256 = 6400 bytes, of which 21 are more than 131,072 between two uses. There
    // are fewer than twice as many as that and the one itself.
    let [copies, fillers, _] = of("steps 0 to 0 fresh x 1");
    assert!((22..44).contains(&copies) && fillers == 0, "{copies}");
    // On the same buffers there is one copy, the plan's own or another.
    assert_eq!(of("steps 0 to 0 x 1")[0], 1);
    assert_eq!(of("steps 0 to 2 x 1")[0], 1);
    let [copies, fillers, _] = of("steps 2 to 4 fresh x 2, then step 0 x 3");
    assert!(copies >= 2 && fillers >= 2, "{copies} and {fillers}");
}

#[test]
fn a_mix_takes_the_time_of_its_steps() {
    // Kernels so slow that the host is never late: their times are modelled.
    let mixes = mixes(&[("OVERHEAD", "1e-3"), ("L2", "8192")]);
    let of = |mix: &str| {
        let found = mixes.iter().find(|(words, _)| words == mix);
        numbers(&found.unwrap_or_else(|| panic!("no {mix} in {mixes:?}")).1)
    };
    let alone: Vec<f64> = (0..7).map(|step| of(&format!("steps {step} to {step} fresh x 1")).1).collect();
    assert!(alone.iter().all(|micros| *micros >= 1000.0), "{alone:?}");
    for (mix, expected) in [
        ("steps 0 to 6 fresh x 1", alone.iter().sum::<f64>()),
        ("steps 3 to 5 x 1", alone[3..=5].iter().sum()),
        ("steps 2 to 4 fresh x 2, then step 5 x 3", 2.0 * alone[2..=4].iter().sum::<f64>() + 3.0 * alone[5]),
        ("steps 1 to 3 x 1, then step 6 x 1", alone[1..=3].iter().sum::<f64>() + alone[6]),
    ] {
        let ([.., unit], micros) = of(mix);
        assert!((micros / expected - 1.0).abs() < 0.01, "{mix}: {micros} us, expected {expected}");
        // A graph takes about 4 ms, or one execution.
        assert_eq!(unit, (4000.0 / micros).round().max(1.0) as u32, "{mix}: {unit} of {micros} us");
    }
}

#[test]
fn where_memory_is_short_fewer_copies_take_turns_and_a_note_says_so() {
    // Parameters and buffers fit, and copies of twice the cache do not.
    let mixes = mixes(&[("L2", "262144"), ("MEMORY", "262144"), ("OVERHEAD", "5e-5")]);
    let noted: Vec<_> = mixes.iter().filter(|(_, came_to)| came_to.contains("there is memory for")).collect();
    assert!(noted.len() > 20, "{mixes:?}");
    for (mix, came_to) in noted {
        assert!(came_to.contains("lower --batch") && numbers(came_to).0[0] >= 1, "{mix}: {came_to}");
    }
}

#[test]
fn every_kind_of_layer_has_a_case() {
    let cases = cases::cases();
    let kinds: BTreeSet<&str> =
        cases.iter().flat_map(|case| &case.network.layers).map(|layer| layer.kind.name()).collect();
    let all = [
        "add",
        "avg_pool",
        "batch_norm",
        "channel_shuffle",
        "clip",
        "concat",
        "conv",
        "flatten",
        "global_avg_pool",
        "global_max_pool",
        "hard_sigmoid",
        "hard_swish",
        "leaky_relu",
        "linear",
        "lrn",
        "max_pool",
        "mul",
        "pad",
        "relu",
        "relu6",
        "reshape",
        "sigmoid",
        "silu",
        "softmax",
        "tanh",
        "transpose",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len());
}

/// A tolerance that hides a lost tap of a window, the smallest mistake that a convolution can make, would show nothing.
#[test]
fn a_convolution_that_misses_one_tap_is_outside_of_every_tolerance() {
    let cases = cases::cases();
    let case = cases.iter().find(|case| case.name == "conv 3x3 without bias").unwrap();
    let layer = &case.network.layers[0];
    assert!(matches!(layer.kind, LayerKind::Conv(_)));
    let ones = |len: usize| vec![1.0; len];
    let input = ones(case.batch * case.network.input.iter().product::<usize>());
    let weights: Arc<[f32]> = vec![1.0; layer.parameters[0].len()].into();
    let parameters = [weights];
    let expected = reference::layer_output(&case.network, 0, &[&input], &parameters, case.batch);
    for precision in Precision::ALL {
        let bounds =
            tolerance::tolerances(&case.network, 0, &[&input], &parameters, case.batch, precision, &expected);
        // Of 72 taps of 1 each; bf16 stores 72 in steps of 0.5.
        assert!(bounds.iter().all(|&bound| bound < 1.0), "{precision}: {bounds:?}");
    }
}
