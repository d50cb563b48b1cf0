//! Network files: the shipped ones against published figures, and wrong ones against their messages.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod forward;
mod fuzz;
mod published;
mod refusals;
mod stages;

use std::path::{Path, PathBuf};

use layerjoule::network::{Network, ReadError, read};

const SHIPPED: [&str; 16] = [
    "lenet5",
    "alexnet",
    "vgg16",
    "vgg19",
    "googlenet",
    "squeezenet1_1",
    "resnet18",
    "resnet50",
    "resnet50_v1",
    "densenet121",
    "xception",
    "mobilenet_v2",
    "nasnet_mobile",
    "simple_cnn",
    "dense_linear",
    "dense_poly",
];

fn shipped_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("networks").join(name).with_extension("toml")
}

fn shipped(name: &str, set: &[(&str, i64)]) -> Network {
    let set: Vec<_> = set.iter().map(|&(key, value)| (key.to_string(), value)).collect();
    read(&shipped_path(name), &set).unwrap()
}

/// Multiply-accumulates of convolutions and linear layers.
fn macs(network: &Network) -> u64 {
    network.layers.iter().map(|layer| layer.cost.flops / 2).sum()
}

fn output(network: &Network) -> &[usize] {
    &network.layers.last().unwrap().output
}

fn read_bytes(name: &str, bytes: &[u8], set: &[(&str, i64)]) -> Result<Network, ReadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let set: Vec<_> = set.iter().map(|&(key, value)| (key.to_string(), value)).collect();
    read(&path, &set)
}

fn read_text(text: &str) -> Result<Network, ReadError> {
    read_bytes("net.toml", text.as_bytes(), &[])
}

/// The message about a file, its folder left out.
fn message(result: Result<Network, ReadError>) -> String {
    let text = result.unwrap_err().to_string();
    text.find("net.").map_or(text.clone(), |at| text[at..].to_string())
}

/// The message about a network of a 3 x 8 x 8 input whose text after the second line is given.
fn refusal(rest: &str) -> String {
    message(read_text(&format!("name = \"n\"\ninput = [3, 8, 8]\n{rest}")))
}

/// The message about a network of one 3 x 3 convolution in which one line is replaced or added.
fn conv_refusal(line: &str) -> String {
    let key = line.split(' ').next().unwrap();
    let mut lines = vec!["out_channels = 4", "kernel = 3"];
    lines.retain(|l| !l.starts_with(key));
    refusal(&format!("[[layer]]\nkind = \"conv\"\n{}\n{line}\n", lines.join("\n")))
}

// ---- Shipped networks -------------------------------------------------------------------------------------

#[test]
fn multiply_accumulates_of_lenet5_agree_with_a_hand_count() {
    // 28*28*6*25 + 10*10*16*150 + 120*400 + 84*120 + 10*84
    assert_eq!(macs(&shipped("lenet5", &[])), 117_600 + 240_000 + 48_000 + 10_080 + 840);
}

#[test]
fn buffers_are_two_numbers_for_each_normalised_channel() {
    // Channels of all batch norms of ResNet-18: 64 + 2*2*64 + (2*2+1)*(128 + 256 + 512) = 4800.
    assert_eq!(shipped("resnet18", &[]).buffers(), 2 * 4800);
    assert_eq!(shipped("vgg16", &[]).buffers(), 0);
}

#[test]
fn every_shipped_network_ends_in_one_number_for_each_class() {
    for name in SHIPPED {
        let small = ["lenet5", "simple_cnn", "dense_linear", "dense_poly"];
        let classes = if small.contains(&name) { 10 } else { 1000 };
        assert_eq!(output(&shipped(name, &[])), [classes], "{name}");
        assert_eq!(output(&shipped(name, &[("classes", 7)])), [7], "{name}");
    }
}

#[test]
fn the_width_of_mobilenet_v2_follows_the_reference_rounding() {
    // "Total params" that Keras prints for MobileNetV2 with alpha 0.5, 1 and 1.4; it counts moving statistics in.
    for (width, total) in [(50, 1_987_224), (100, 3_538_984), (140, 6_156_712)] {
        let network = shipped("mobilenet_v2", &[("width", width)]);
        assert_eq!(network.trainable() + network.buffers(), total, "{width} %");
    }
}

#[test]
fn size_changes_the_shapes_and_not_the_parameters_of_a_global_pool_network() {
    let network = shipped("resnet18", &[("size", 64)]);
    assert_eq!(network.input, [3, 64, 64]);
    assert_eq!(network.trainable(), 11_689_512);
    // 64 -> 32 -> 16 -> 16 -> 8 -> 4 -> 2
    let layer = network.layers.iter().find(|l| l.name == "stage4.1.relu2").unwrap();
    assert_eq!(layer.output, [512, 2, 2]);
    assert_eq!(network.set["size"], 64);
}

#[test]
fn size_changes_the_first_linear_layer_of_vgg16() {
    // 32 -> 1 x 1 after five pools: fc6 has 512 inputs instead of 512*7*7.
    let parameters = 138_357_544 - 4096 * 512 * 48;
    assert_eq!(shipped("vgg16", &[("size", 32)]).trainable(), parameters);
}

#[test]
fn layers_of_blocks_carry_the_names_of_their_instances() {
    let network = shipped("resnet18", &[]);
    let names: Vec<&str> = network.layers.iter().map(|l| l.name.as_str()).collect();
    for name in ["stage2.1.conv1", "stage2.0.shortcut", "stage2.0.shortcut_bn", "flatten1"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert!(!names.contains(&"stage2.1.shortcut") && !names.contains(&"stage1.0.shortcut"));
    let convolutions = network.layers.iter().filter(|l| l.kind.name() == "conv").count();
    assert_eq!(convolutions, 20);
}

#[test]
fn the_fingerprint_is_the_sha_256_of_the_file() {
    // Computed with sha256sum.
    let bytes = b"name = 'n'\ninput = [1]\n[[layer]]\nkind = 'relu'\n";
    let network = read_bytes("net.toml", bytes, &[]).unwrap();
    assert_eq!(network.sha256, "07efea7e11ecb044e99f1d004a2f9bc1c78cb295d27ff56ce976de729c04e235");
}

// ---- Documentation ----------------------------------------------------------------------------------------

/// The TOML examples of the format's page.
fn documented() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/network-format.md");
    let page = std::fs::read_to_string(page).unwrap();
    page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_string()).collect()
}

#[test]
fn every_example_of_the_format_page_is_a_network() {
    let examples = documented();
    assert_eq!(examples.len(), 4);
    for example in examples {
        read_text(&example).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
}

#[test]
fn the_worked_example_of_the_format_page_is_the_shipped_resnet18() {
    let file = std::fs::read_to_string(shipped_path("resnet18")).unwrap();
    assert!(documented().contains(&file), "docs/network-format.md differs from networks/resnet18.toml");
}

// ---- Meaning ----------------------------------------------------------------------------------------------

#[test]
fn a_layer_left_out_stands_for_what_it_reads() {
    let text = r#"
name = "simple_cnn"
input = [3, 8, 8]
[parameters]
conv = 2
relu = 1
linear = 1
[block.conv_relu]
[[block.conv_relu.layer]]
kind = "conv"
out_channels = 4
kernel = 3
padding = 1
[[block.conv_relu.layer]]
kind = "relu"
when = "relu"
[[layer]]
name = "features"
block = "conv_relu"
repeat = "conv"
[[layer]]
kind = "flatten"
[[layer]]
name = "fc"
kind = "linear"
repeat = "linear"
out_features = 5
"#;
    let names = |set: &[(&str, i64)]| -> Vec<String> {
        let network = read_bytes("net.toml", text.as_bytes(), set).unwrap();
        network.layers.into_iter().map(|l| l.name).collect()
    };
    assert_eq!(
        names(&[]),
        ["features.0.conv1", "features.0.relu1", "features.1.conv1", "features.1.relu1", "flatten1", "fc.0"]
    );
    assert_eq!(
        names(&[("relu", 0), ("linear", 3)]),
        ["features.0.conv1", "features.1.conv1", "flatten1", "fc.0", "fc.1", "fc.2"]
    );
    assert_eq!(names(&[("conv", 0)]), ["flatten1", "fc.0"]);
}

#[test]
fn of_a_name_set_twice_the_last_value_counts() {
    assert_eq!(output(&shipped("lenet5", &[("classes", 3), ("classes", 4)])), [4]);
}

#[test]
fn layers_may_stand_before_those_they_read() {
    let network = read_text(
        "name = 'n'\ninput = [3, 8, 8]\n[[layer]]\nname = 'b'\nkind = 'relu'\ninputs = ['a']\n\
         [[layer]]\nname = 'a'\nkind = 'tanh'\ninputs = ['input']",
    )
    .unwrap();
    let names: Vec<&str> = network.layers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn a_file_without_extension_is_recognised_by_its_content() {
    let bytes = std::fs::read(shipped_path("lenet5")).unwrap();
    assert_eq!(read_bytes("net.", &bytes, &[]).unwrap().name, "lenet5");
    assert_eq!(read_bytes("net.TOML", &bytes, &[]).unwrap().name, "lenet5");
    let unknown = message(read_bytes("net.bin", b"\x00\x01\xff", &[]));
    assert_eq!(
        unknown,
        "net.bin: expected TOML text or an ONNX model, found neither; name the file *.toml or *.onnx"
    );
}

#[test]
fn ten_thousand_layers_are_read() {
    let mut text = String::from("name = \"deep\"\ninput = [3, 8, 8]\n");
    for _ in 0..10_000 {
        text.push_str("[[layer]]\nkind = \"conv\"\nout_channels = 3\nkernel = 3\npadding = 1\n");
    }
    assert_eq!(read_text(&text).unwrap().layers.len(), 10_000);
}

/// The readme's network file is the first thing that people copy.
#[test]
fn the_example_of_the_readme_is_a_network() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let example = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("readme.toml");
    std::fs::write(&path, example).unwrap();
    let network = layerjoule::network::read(&path, &[]).unwrap();
    assert_eq!(network.layers.last().unwrap().output, [10]);
}
