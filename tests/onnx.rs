//! The ONNX reader: operators with hand-made answers, damaged files, and the light models of the ONNX project.

// Clippy allows these in test functions only, not in what they call.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/onnx_builder.rs"]
pub(crate) mod builder;
mod damaged;
mod light;
mod operators;
mod shapes;

use layerjoule::network::{Definition, LayerKind, Network, Role, Values, onnx_definition};

use builder::Model;

/// The definition of a model that must be read.
fn read(model: &Model) -> Definition {
    onnx_definition("net.onnx", &model.bytes(), "").unwrap_or_else(|error| panic!("{error}"))
}

/// The message of a model that must be refused.
fn refused(model: &Model) -> String {
    match onnx_definition("net.onnx", &model.bytes(), "") {
        Err(error) => error.to_string(),
        Ok(definition) => panic!("was read as {:?}", definition.layers),
    }
}

/// The checked network of a model.
fn network(model: &Model) -> Network {
    Network::new(read(model)).unwrap_or_else(|error| panic!("{error}"))
}

/// The kinds of a model's layers and the shape of the last.
fn kinds(model: &Model) -> (Vec<LayerKind>, Vec<usize>) {
    let network = network(model);
    let output = network.layers.last().unwrap().output.clone();
    (network.layers.into_iter().map(|layer| layer.kind).collect(), output)
}

/// The only layer of a model.
fn only(model: &Model) -> (LayerKind, Vec<usize>) {
    let (mut kinds, output) = kinds(model);
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    (kinds.remove(0), output)
}

/// The stored numbers of a layer.
fn stored(definition: &Definition, layer: usize, role: Role) -> Vec<f32> {
    match definition.layers[layer].values.get(&role) {
        Some(Values::Stored(values)) => values.to_vec(),
        other => panic!("{role:?}: {other:?}"),
    }
}

/// Asserts that a text contains every part.
fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}
