//! Definitions of 10,000 layers.

use std::fmt::Write;

use layerjoule::network;
use layerjoule::plan::{Plan, PlanOptions};
use layerjoule::profile::{Computed, layer_records, network_record};

const LAYERS: usize = 10_000;
const HEAD: &str = "name = \"large\"\ninput = [16, 8, 8]\n";

/// Writes a definition to a file; what is timed reads it, plans it and lays out its costs.
fn case(text: String) -> Box<dyn FnMut()> {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let path = dir.path().join("large.toml");
    std::fs::write(&path, text).expect("a temporary file can be written");
    Box::new(move || {
        let _kept_until_the_end = &dir;
        let network = network::read(&path, &[]).expect("the definition is sound");
        let plan = Plan::new(&network, &PlanOptions::default()).expect("the network can be planned");
        let record = network_record(&network, plan.batch);
        let layers = layer_records(&network, &plan, |_| Computed::default());
        assert!(layers.len() >= LAYERS && record.flops > 0, "{} layers", layers.len());
    })
}

/// Convolution, normalisation, activation, again and again.
pub(super) fn chain() -> Box<dyn FnMut()> {
    let mut text = HEAD.to_string();
    for i in 0..LAYERS {
        match i % 3 {
            0 => conv(&mut text, i, 16, ""),
            1 => plain(&mut text, i, "batch_norm", ""),
            _ => plain(&mut text, i, "relu", ""),
        }
    }
    case(text)
}

/// A sum with the block's own input after every second layer.
pub(super) fn residual() -> Box<dyn FnMut()> {
    let mut text = HEAD.to_string();
    for i in 0..LAYERS {
        let before = |n: usize| if i >= n { format!("layer{}", i - n) } else { "input".to_string() };
        match i % 3 {
            0 => conv(&mut text, i, 16, ""),
            1 => plain(&mut text, i, "relu", ""),
            _ => plain(&mut text, i, "add", &format!("inputs = [\"{}\", \"{}\"]\n", before(1), before(3))),
        }
    }
    case(text)
}

/// Every convolution has other channels: ten thousand signatures.
pub(super) fn distinct() -> Box<dyn FnMut()> {
    let mut text = HEAD.to_string();
    (0..LAYERS).for_each(|i| conv(&mut text, i, 1 + (i * 7919) % LAYERS, ""));
    case(text)
}

/// What a person would write.
pub(super) fn repeated() -> Box<dyn FnMut()> {
    let pair = "[[block.pair.layer]]\nname = \"conv\"\nkind = \"conv\"\nout_channels = 16\nkernel = 3\npadding = 1\n\
                [[block.pair.layer]]\nkind = \"relu\"\n";
    let body = format!("[[layer]]\nname = \"body\"\nblock = \"pair\"\nrepeat = {}\n", LAYERS / 2);
    let text = format!("{HEAD}{pair}{body}");
    case(text)
}

/// A hundred branches that read one layer, each a chain, concatenated at the end.
pub(super) fn branches() -> Box<dyn FnMut()> {
    const BRANCHES: usize = 100;
    let mut text = HEAD.to_string();
    conv(&mut text, 0, 16, "");
    let mut ends = Vec::new();
    for i in 1..=LAYERS {
        let first = i.saturating_sub(BRANCHES);
        conv(&mut text, i, 16, &format!("inputs = [\"layer{first}\"]\n"));
        if i > LAYERS - BRANCHES {
            ends.push(format!("\"layer{i}\""));
        }
    }
    plain(&mut text, LAYERS + 1, "concat", &format!("inputs = [{}]\n", ends.join(", ")));
    case(text)
}

fn conv(text: &mut String, i: usize, channels: usize, inputs: &str) {
    let fields = format!("out_channels = {channels}\nkernel = 3\npadding = 1\n{inputs}");
    plain(text, i, "conv", &fields);
}

fn plain(text: &mut String, i: usize, kind: &str, fields: &str) {
    write!(text, "[[layer]]\nname = \"layer{i}\"\nkind = \"{kind}\"\n{fields}").expect("a string grows");
}
