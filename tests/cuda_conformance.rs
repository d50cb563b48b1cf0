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
    let folder = TempDir::new().unwrap();
    emulated_cuda(folder.path());
    let output = Command::new(example_file("gpu_conformance", "gpu_conformance"))
        .env("LD_LIBRARY_PATH", folder.path())
        .arg("--cuda-path")
        .arg(folder.path())
        .args(["--precision", precision])
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
