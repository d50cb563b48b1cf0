//! The nine light models of the ONNX project (weights stripped) and its operator tests, from the Python wheel
//! onnx 1.22.0, folder onnx/backend/test/data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use layerjoule::network::{Network, Values, onnx_definition};
use layerjoule::stats::Rng;
use rten_onnx::onnx::{DataType, ModelProto};

use super::damaged::mutate;

/// The folder of the files, if they are there.
fn data() -> Option<PathBuf> {
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/onnx-1.22.0/onnx/backend/test/data");
    let named = std::env::var_os("LAYERJOULE_ONNX_DATA").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| PathBuf::from(unpacked));
    if folder.join("light").is_dir() {
        return Some(folder);
    }
    let text = format!("no ONNX test data in {}; set LAYERJOULE_ONNX_DATA", folder.display());
    assert!(std::env::var_os("REQUIRE_DATA").is_none_or(|value| value != "1"), "{text}");
    println!("skipped: {text}");
    None
}

fn light(folder: &Path, name: &str) -> Network {
    let bytes = std::fs::read(folder.join("light").join(format!("light_{name}.onnx"))).unwrap();
    let definition = onnx_definition(name, &bytes, "").unwrap_or_else(|error| panic!("{error}"));
    Network::new(definition).unwrap_or_else(|error| panic!("{error}"))
}

fn count_kinds(network: &Network) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for layer in &network.layers {
        *kinds.entry(layer.kind.name()).or_default() += 1;
    }
    kinds
}

/// Name, kinds with their number of layers, parameters that train, billions of multiply-accumulates.
type Expected = (&'static str, &'static [(&'static str, usize)], u64, Option<f64>);

/// Parameters as published: bvlc AlexNet and GoogLeNet; SqueezeNet 1.1, VGG-19, ResNet-50 in torchvision's
/// table, whose multiply-accumulates (to two digits) stand last. DenseNet-121 has torchvision's 7,978,856 and
/// once more the 83,648 scales and shifts, which Caffe keeps in layers of their own beside batch norm's. The
/// numbers of Inception v2, ShuffleNet and ZFNet-512 are held only to what the file itself states, below.
const LIGHT: [Expected; 9] = [
    (
        "bvlc_alexnet",
        &[("conv", 5), ("linear", 3), ("lrn", 2), ("relu", 7), ("dropout", 2)],
        60_965_224,
        None,
    ),
    (
        "densenet121",
        &[("conv", 121), ("batch_norm", 121), ("mul", 121), ("add", 121), ("concat", 58)],
        7_978_856 + 83_648,
        Some(2.83),
    ),
    ("inception_v1", &[("conv", 57), ("concat", 9), ("lrn", 2), ("max_pool", 13)], 6_998_552, None),
    ("inception_v2", &[("conv", 69), ("batch_norm", 69), ("concat", 10)], 11_214_888, None),
    (
        "resnet50",
        &[("conv", 53), ("batch_norm", 53), ("add", 16), ("relu", 49), ("linear", 1)],
        25_557_032,
        Some(4.09),
    ),
    ("shufflenet", &[("conv", 49), ("transpose", 16), ("add", 13), ("concat", 3)], 1_393_320, None),
    ("squeezenet", &[("conv", 26), ("concat", 8), ("relu", 26), ("dropout", 1)], 1_235_496, Some(0.35)),
    ("vgg19", &[("conv", 16), ("linear", 3), ("max_pool", 5)], 143_667_240, Some(19.63)),
    ("zfnet512", &[("conv", 5), ("linear", 3), ("lrn", 2)], 87_250_536, None),
];

#[test]
fn light_models_have_their_published_layers_and_parameters() {
    let Some(folder) = data() else { return };
    for (name, expected, parameters, macs) in LIGHT {
        let network = light(&folder, name);
        let kinds = count_kinds(&network);
        for &(kind, count) in expected {
            assert_eq!(kinds.get(kind), Some(&count), "{name}: {kind}");
        }
        assert_eq!(network.input, [3, 224, 224], "{name}");
        assert_eq!(network.layers.last().unwrap().output.iter().product::<usize>(), 1000, "{name}");
        assert_eq!(network.trainable(), parameters, "{name}");
        let flops: u64 = network.layers.iter().map(|layer| layer.cost.flops).sum();
        if let Some(published) = macs {
            // Half a unit of the table's last digit.
            assert!((flops as f64 / 2e9 - published).abs() <= 0.005, "{name}: {flops}");
        }
    }
}

#[test]
fn vgg19_has_the_operations_of_a_hand_calculation() {
    let Some(folder) = data() else { return };
    let network = light(&folder, "vgg19");
    let convs: [(u64, u64, u64, u64); 8] = [
        // Input channels, output channels, output side, how often.
        (3, 64, 224, 1),
        (64, 64, 224, 1),
        (64, 128, 112, 1),
        (128, 128, 112, 1),
        (128, 256, 56, 1),
        (256, 256, 56, 3),
        (256, 512, 28, 1),
        (512, 512, 28, 3),
    ];
    let macs: u64 = convs.iter().map(|(c, k, side, times)| c * k * 9 * side * side * times).sum();
    let macs = macs + 4 * 512 * 512 * 9 * 14 * 14 + 25_088 * 4096 + 4096 * 4096 + 4096 * 1000;
    assert_eq!(network.layers.iter().map(|layer| layer.cost.flops).sum::<u64>(), 2 * macs);
}

#[test]
fn every_number_of_a_light_model_belongs_to_one_layer() {
    let Some(folder) = data() else { return };
    for (name, ..) in LIGHT {
        let network = light(&folder, name);
        let bytes = std::fs::read(folder.join("light").join(format!("light_{name}.onnx"))).unwrap();
        let graph = ModelProto::parse_buf(&bytes).unwrap().graph.unwrap();
        let elements = |shape: &str| -> u64 {
            let tensor = graph.initializer.iter().find(|t| t.name.as_deref() == Some(shape)).unwrap();
            match &tensor.raw_data {
                Some(raw) => {
                    raw.borrow().as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).product::<i64>()
                }
                None => tensor.int64_data.iter().product(),
            }
            .unsigned_abs()
        };
        let fills = graph.node.iter().filter(|n| n.op_type.as_deref() == Some("ConstantOfShape"));
        let filled: u64 = fills.map(|n| elements(&n.input[0])).sum();
        // ResNet-50 keeps an initializer that no node reads.
        let used: Vec<Option<String>> = graph.node.iter().flat_map(|n| &n.input).cloned().map(Some).collect();
        let kept: u64 = graph
            .initializer
            .iter()
            .filter(|t| t.data_type == Some(DataType::FLOAT) && used.contains(&t.name))
            .map(|t| t.dims.iter().product::<i64>().unsigned_abs())
            .sum();
        assert_eq!(network.trainable() + network.buffers(), filled + kept, "{name}");
    }
}

#[test]
fn weights_of_light_models_are_random_and_the_rest_as_in_the_file() {
    let Some(folder) = data() else { return };
    let network = light(&folder, "resnet50");
    for parameter in network.layers.iter().flat_map(|layer| &layer.parameters) {
        let random = parameter.values == Values::Random;
        assert_eq!(random, parameter.shape.len() > 1, "{parameter:?}");
    }
    // Mean and variance of 53 layers: 64 + 3 * (64, 64, 256) + 256 and so on, 26,560 channels in all.
    assert_eq!(network.buffers(), 2 * 26_560);
}

#[test]
fn shapes_agree_with_those_stated_by_the_operator_tests() {
    let Some(folder) = data() else { return };
    let mut read = 0;
    for group in ["node", "pytorch-converted", "pytorch-operator", "simple"] {
        for entry in std::fs::read_dir(folder.join(group)).unwrap() {
            let path = entry.unwrap().path().join("model.onnx");
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let file = path.display().to_string();
            let network = match onnx_definition(&file, &bytes, "").and_then(Network::new) {
                Ok(network) => network,
                Err(error) => {
                    assert!(error.to_string().starts_with(&file), "{error}");
                    continue;
                }
            };
            let graph = ModelProto::parse_buf(&bytes).unwrap().graph.unwrap();
            let stated = graph.output[0].r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
            let Some(stated) = stated.and_then(|t| t.shape.as_ref()) else { continue };
            let stated: Option<Vec<usize>> =
                stated.dim.iter().skip(1).map(|d| d.dim_value.map(|v| v as usize)).collect();
            if let Some(stated) = stated {
                assert_eq!(network.layers.last().unwrap().output, stated, "{file}");
                read += 1;
            }
        }
    }
    println!("{read} operator tests read");
    assert!(read > 0, "no operator test was read");
}

#[test]
fn damaged_light_models_never_panic() {
    let Some(folder) = data() else { return };
    let mut rng = Rng::new(1);
    for (name, ..) in LIGHT {
        let bytes = std::fs::read(folder.join("light").join(format!("light_{name}.onnx"))).unwrap();
        for _ in 0..250 {
            let damaged = mutate(&bytes, &mut rng);
            let cut = &bytes[..rng.below(bytes.len())];
            assert!(onnx_definition(name, cut, "").is_err());
            if let Ok(definition) = onnx_definition(name, &damaged, "") {
                let _ = Network::new(definition);
            }
        }
    }
}
