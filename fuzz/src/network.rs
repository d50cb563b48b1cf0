//! Networks: what a reader accepts can be counted, planned and printed.

use std::collections::HashSet;
use std::path::Path;

use layerjoule::network::{Network, TensorRef, parse};
use layerjoule::plan::{Plan, PlanOptions};
use layerjoule::profile::{Computed, layer_records, network_record};
use layerjoule::report::unmeasured_rows;

use super::check_message;

/// Plans are checked step by step up to this many layers; beyond it only that there is one.
const MANY_LAYERS: usize = 2_000;

pub(super) fn check_toml(file: &str, bytes: &[u8]) -> bool {
    let Some(network) = read(file, bytes) else { return false };
    // A comment changes the file and not the network.
    let longer = [bytes, b"\n# the end\n"].concat();
    let mut again = read(file, &longer).expect("a comment does no harm");
    assert_ne!(again.sha256, network.sha256);
    again.sha256.clone_from(&network.sha256);
    assert!(again == network, "a comment changes the network");
    true
}

pub(super) fn check_onnx(file: &str, bytes: &[u8]) -> bool {
    read(file, bytes).is_some()
}

fn read(file: &str, bytes: &[u8]) -> Option<Network> {
    match parse(Path::new(file), bytes, &[]) {
        Ok(network) => {
            check_network(&network);
            Some(network)
        }
        Err(error) => {
            check_message(file, &error);
            None
        }
    }
}

fn check_network(network: &Network) {
    let mut names = HashSet::new();
    for (index, layer) in network.layers.iter().enumerate() {
        assert!(names.insert(layer.name.as_str()), "two layers are named {:?}", layer.name);
        assert!(!layer.name.is_empty() && !layer.name.chars().any(char::is_control), "{:?}", layer.name);
        assert!(!layer.inputs.is_empty(), "layer {:?} reads nothing", layer.name);
        for &input in &layer.inputs {
            assert!(
                !matches!(input, TensorRef::Layer(read) if read >= index),
                "{:?} reads ahead",
                layer.name
            );
        }
        assert!(volume(&layer.output) > 0, "layer {:?} computes nothing", layer.name);
    }
    for batch in [1, 3, usize::MAX] {
        let record = network_record(network, batch);
        assert_eq!((record.parameters, record.buffers), (network.trainable(), network.buffers()));
        match Plan::new(network, &PlanOptions { batch, fuse: batch == 3, ..PlanOptions::default() }) {
            Ok(plan) => check_plan(network, &plan),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

fn check_plan(network: &Network, plan: &Plan) {
    let records = layer_records(network, plan, |_| Computed::default());
    let signatures: Vec<String> = plan.signatures.iter().map(|s| s.text.clone()).collect();
    assert_eq!(unmeasured_rows(&records, &signatures).len(), network.layers.len());
    assert!(plan.buffer_bytes() > 0);
    if network.layers.len() > MANY_LAYERS {
        return;
    }
    for step in &plan.steps {
        assert!(!step.inputs.contains(&step.output), "a step writes what it reads");
        for &layer in &step.layers {
            let needed = volume(&network.layers[layer].output) * plan.batch as u128;
            assert!(plan.buffers[step.output] as u128 >= needed, "a buffer is too small");
        }
    }
}

fn volume(shape: &[usize]) -> u128 {
    shape.iter().map(|&size| size as u128).product()
}
