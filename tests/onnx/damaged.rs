use layerjoule::network::{Network, onnx_definition};
use layerjoule::stats::Rng;
use proptest::prelude::*;

use super::builder::{Model, float_attr, floats, int_attr, ints, ints_attr, tensor_attr};

/// A small network with every part of a file that the reader looks at.
pub(crate) fn small() -> Vec<u8> {
    Model::new(9, &[2, 8, 8])
        .floats("w", &[4, 2, 3, 3], &[0.5; 72])
        .floats("s", &[4], &[1.0; 4])
        .ints("shape", &[2, 16])
        .node_with("Conv x w -> c", vec![ints_attr("pads", &[1, 1, 1, 1]), int_attr("group", 1)])
        .named("conv")
        .node_with("BatchNormalization c s s s s -> n", vec![float_attr("epsilon", 1e-3)])
        .node("Relu n -> r")
        .node_with("MaxPool r -> p", vec![ints_attr("kernel_shape", &[2, 2]), ints_attr("strides", &[2, 2])])
        .node("Shape p -> d")
        .node_with("Constant -> zero", vec![tensor_attr("value", ints("", &[], &[0]))])
        .node("Gather d zero -> b")
        .node_with("Unsqueeze b -> b1", vec![ints_attr("axes", &[0])])
        .node_with("Constant -> rest", vec![tensor_attr("value", ints("", &[1], &[-1]))])
        .node_with("Concat b1 rest -> t", vec![int_attr("axis", 0)])
        .node("Reshape p t -> f")
        .node_with("ConstantOfShape shape -> w2", vec![tensor_attr("value", floats("", &[1], &[0.1]))])
        .node_with("ConstantOfShape shape -> w3", vec![])
        .ints("four", &[64, 2])
        .node_with("ConstantOfShape four -> w4", vec![])
        .node("Gemm f w4 -> g")
        .node("Softmax g -> y")
        .bytes()
}

/// Reads whatever the bytes are; the answer does not matter, only that there is one.
fn survive(bytes: &[u8]) {
    if let Ok(definition) = onnx_definition("damaged.onnx", bytes, "") {
        let _ = Network::new(definition);
    }
}

/// Some bytes changed, removed or doubled.
pub(crate) fn mutate(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=rng.below(6) {
        let at = rng.below(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match rng.below(5) {
            0 => bytes[at] = rng.below(256) as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes[at] = [0x00, 0x7f, 0x80, 0xff][rng.below(4)],
            3 => drop(bytes.drain(at..(at + 1 + rng.below(8)).min(bytes.len()))),
            _ => bytes.insert(at, rng.below(256) as u8),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn the_small_network_is_whole_before_it_is_damaged() {
    let network = Network::new(onnx_definition("small.onnx", &small(), "").unwrap()).unwrap();
    assert_eq!(network.layers.len(), 7);
    // 4*2*3*3 weights, scale and shift of 4 channels, 64 x 2 weights.
    assert_eq!(network.trainable(), 72 + 8 + 128);
}

#[test]
fn a_file_cut_at_any_length_is_refused() {
    let bytes = small();
    for length in 0..bytes.len() {
        let error = onnx_definition("cut.onnx", &bytes[..length], "").unwrap_err();
        assert!(error.to_string().starts_with("cut.onnx: "), "{error}");
    }
}

#[test]
fn two_thousand_damaged_files_never_panic() {
    let bytes = small();
    let mut rng = Rng::new(20_260_101);
    for _ in 0..2_000 {
        survive(&mutate(&bytes, &mut rng));
    }
}

proptest! {
    #[test]
    fn random_bytes_are_never_a_model(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(onnx_definition("random.onnx", &bytes, "").is_err());
    }

    #[test]
    fn a_graph_of_random_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        // opset_import { version: 13 }, then a graph of these bytes.
        let head = [0x42, 2, 0x10, 13, 0x3a, bytes.len() as u8];
        survive(&[head.as_slice(), &bytes].concat());
    }
}
