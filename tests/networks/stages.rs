//! Output shapes of the stages against the tables of the papers, and sizes that the papers do not have.

use super::*;

/// Shapes of named layers.
fn assert_shapes(name: &str, set: &[(&str, i64)], expected: &[(&str, &[usize])]) {
    let network = shipped(name, set);
    for (layer, shape) in expected {
        let found =
            network.layers.iter().find(|l| l.name == *layer).unwrap_or_else(|| panic!("{name} {layer}"));
        assert_eq!(found.output, *shape, "{name} {layer}");
    }
}

#[test]
fn googlenet_has_the_shapes_of_table_1() {
    let expected: [(&str, &[usize]); 14] = [
        ("conv1.conv", &[64, 112, 112]),
        ("pool1", &[64, 56, 56]),
        ("conv3.conv", &[192, 56, 56]),
        ("pool2", &[192, 28, 28]),
        ("inception3a.concat", &[256, 28, 28]),
        ("inception3b.concat", &[480, 28, 28]),
        ("inception4a.concat", &[512, 14, 14]),
        ("inception4b.concat", &[512, 14, 14]),
        ("inception4c.concat", &[512, 14, 14]),
        ("inception4d.concat", &[528, 14, 14]),
        ("inception4e.concat", &[832, 14, 14]),
        ("inception5a.concat", &[832, 7, 7]),
        ("inception5b.concat", &[1024, 7, 7]),
        ("avg_pool", &[1024, 1, 1]),
    ];
    assert_shapes("googlenet", &[], &expected);
}

#[test]
fn densenet121_has_the_shapes_of_table_1() {
    let expected: [(&str, &[usize]); 9] = [
        ("conv1", &[64, 112, 112]),
        ("pool1", &[64, 56, 56]),
        ("dense1.5.concat", &[256, 56, 56]),
        ("transition1.pool", &[128, 28, 28]),
        ("dense2.11.concat", &[512, 28, 28]),
        ("transition2.pool", &[256, 14, 14]),
        ("dense3.23.concat", &[1024, 14, 14]),
        ("transition3.pool", &[512, 7, 7]),
        ("dense4.15.concat", &[1024, 7, 7]),
    ];
    assert_shapes("densenet121", &[], &expected);
}

#[test]
fn vgg19_has_sixteen_convolutions_and_three_linear_layers() {
    let network = shipped("vgg19", &[]);
    let count = |kind: &str| network.layers.iter().filter(|l| l.kind.name() == kind).count();
    assert_eq!((count("conv"), count("linear")), (16, 3));
    assert_shapes("vgg19", &[], &[("pool1", &[64, 112, 112]), ("pool5", &[512, 7, 7]), ("fc6", &[4096])]);
}

#[test]
fn squeezenet_rounds_its_pools_up() {
    // 224 -> 111 -> 55 -> 27 -> 13; (111 - 3) / 2 + 1 = 55, and all others are exact as well.
    let expected: [(&str, &[usize]); 5] = [
        ("conv1", &[64, 111, 111]),
        ("pool1", &[64, 55, 55]),
        ("pool3", &[128, 27, 27]),
        ("pool5", &[256, 13, 13]),
        ("fire9.concat", &[512, 13, 13]),
    ];
    assert_shapes("squeezenet1_1", &[], &expected);
    // 128 -> 63 -> 31 -> 15 -> 7; 130 -> 64 -> 31.5, rounded up.
    assert_shapes("squeezenet1_1", &[("size", 130)], &[("pool1", &[64, 32, 32])]);
}

#[test]
fn resnet50_v1_strides_in_the_first_convolution_of_a_block() {
    let expected: [(&str, &[usize]); 5] = [
        ("stage1.2.relu3", &[256, 56, 56]),
        ("stage2.0.conv1", &[128, 28, 28]),
        ("stage2.3.relu3", &[512, 28, 28]),
        ("stage3.5.relu3", &[1024, 14, 14]),
        ("stage4.2.relu3", &[2048, 7, 7]),
    ];
    assert_shapes("resnet50_v1", &[], &expected);
    assert_shapes("resnet50", &[], &[("stage2.0.conv1", &[128, 56, 56]), ("stage2.0.conv2", &[128, 28, 28])]);
}

#[test]
fn xception_has_the_shapes_of_figure_5() {
    // The figure gives 19 x 19 x 728 for the middle flow and 10 x 10 x 2048 in the end.
    let expected: [(&str, &[usize]); 8] = [
        ("conv1", &[32, 149, 149]),
        ("conv2", &[64, 147, 147]),
        ("block2.add", &[128, 74, 74]),
        ("block3.add", &[256, 37, 37]),
        ("block4.add", &[728, 19, 19]),
        ("middle.7.add", &[728, 19, 19]),
        ("block13.add", &[1024, 10, 10]),
        ("block14_relu2", &[2048, 10, 10]),
    ];
    assert_shapes("xception", &[], &expected);
}

#[test]
fn nasnet_mobile_has_the_shapes_of_the_reference() {
    // Six inputs of a normal cell and four of a reduction cell are joined: 6 * 44 and 4 * 11 channels, and so on.
    let expected: [(&str, &[usize]); 9] = [
        ("conv1", &[32, 111, 111]),
        ("stem1.concat", &[44, 56, 56]),
        ("stem2.concat", &[88, 28, 28]),
        ("cell0.shrunk.concat", &[44, 28, 28]),
        ("cell3.concat", &[264, 28, 28]),
        ("reduce1.concat", &[352, 14, 14]),
        ("cell7.concat", &[528, 14, 14]),
        ("reduce2.concat", &[704, 7, 7]),
        ("cell11.concat", &[1056, 7, 7]),
    ];
    assert_shapes("nasnet_mobile", &[], &expected);
    let network = shipped("nasnet_mobile", &[]);
    assert!(!network.layers.iter().any(|l| l.name.starts_with("stem1.p.")), "the first cell adjusts nothing");
}

#[test]
fn a_border_follows_from_whether_the_size_is_even() {
    let padded = |size: i64, layer: &str| {
        let network = shipped("nasnet_mobile", &[("size", size)]);
        network.layers.iter().find(|l| l.name == layer).unwrap().kind.to_string()
    };
    // 224 -> 111 (odd) -> 56 (even), 227 -> 113 (odd) -> 57 (odd).
    assert_eq!(padded(224, "stem1.border"), "pad p1,1,1,1 v0");
    assert_eq!(padded(224, "stem2.border"), "pad p0,0,1,1 v0");
    assert_eq!(padded(227, "stem2.border"), "pad p1,1,1,1 v0");
    assert_eq!(padded(224, "stem2.left1.depthwise1"), "conv k5x5 s2x2 p1,1,2,2 d1x1 g22");
    assert_eq!(padded(227, "stem2.left1.depthwise1"), "conv k5x5 s2x2 p2,2,2,2 d1x1 g22");
}

#[test]
fn every_size_from_the_smallest_on_is_a_network() {
    for (name, smallest) in [("nasnet_mobile", 32), ("xception", 32), ("densenet121", 32), ("googlenet", 32)]
    {
        for size in smallest..smallest + 34 {
            assert_eq!(output(&shipped(name, &[("size", size)])), [1000], "{name} {size}");
        }
    }
}

// ---- The families of Yarally 2023 -------------------------------------------------------------------------

const CIFAR10: [(&str, i64); 2] = [("channels", 3), ("size", 32)];

/// Inputs and outputs of the linear layers.
fn widths(network: &Network) -> Vec<usize> {
    let linear = network.layers.iter().filter(|l| l.kind.name() == "linear");
    let mut widths: Vec<usize> = linear.map(|l| l.output[0]).collect();
    let first = network.layers.iter().find(|l| l.kind.name() == "flatten").unwrap();
    widths.insert(0, first.output[0]);
    widths
}

#[test]
fn simple_cnn_has_the_counts_of_yarally_2023() {
    // The authors' networks of FashionMNIST with 3 linear layers: parameters of 1 and 4 convolutions.
    assert_eq!(shipped("simple_cnn", &[("conv", 1)]).trainable(), 309_922);
    assert_eq!(shipped("simple_cnn", &[("conv", 4)]).trainable(), 133_642);
    assert_eq!(widths(&shipped("simple_cnn", &[("conv", 1)])), [588, 392, 196, 10]);
    assert_eq!(widths(&shipped("simple_cnn", &[("conv", 4)])), [81, 392, 196, 10]);
    // CIFAR-10: multiply-accumulates, 4.98 and 7.58 million. By hand, of 4 convolutions:
    // 32*32*9*27 + 16*16*27*81 + 8*8*81*243 + 4*4*243*729 and 972*1536 + 1536*768 + 768*10.
    let [channels, size] = CIFAR10;
    let convolutions = 248_832 + 559_872 + 1_259_712 + 2_834_352;
    let linear = 1_492_992 + 1_179_648 + 7_680;
    assert_eq!(macs(&shipped("simple_cnn", &[channels, size, ("conv", 4)])), convolutions + linear);
    assert_eq!(macs(&shipped("simple_cnn", &[channels, size, ("conv", 1)])), 4_975_104);
}

#[test]
fn simple_cnn_has_a_relu_for_each_convolution_or_none() {
    for (relu, expected) in [(0, 0), (1, 4)] {
        let network = shipped("simple_cnn", &[("conv", 4), ("linear", 3), ("relu", relu)]);
        let count = |kind: &str| network.layers.iter().filter(|l| l.kind.name() == kind).count();
        assert_eq!(count("relu"), expected);
        assert_eq!((count("conv"), count("batch_norm"), count("max_pool"), count("linear")), (4, 4, 4, 3));
    }
}

#[test]
fn widths_halve_or_fall_by_equal_steps() {
    let halved = [784, 392, 196, 98, 49, 24, 12, 10];
    assert_eq!(widths(&shipped("dense_poly", &[("linear", 7)])), halved);
    assert_eq!(widths(&shipped("simple_cnn", &[("conv", 1), ("linear", 7)]))[1..], halved[1..]);
    // 784 * 6/7, 5/7, and so on.
    let fallen = [784, 672, 560, 448, 336, 224, 112, 10];
    assert_eq!(widths(&shipped("dense_linear", &[("linear", 7)])), fallen);
    let [channels, size] = CIFAR10;
    assert_eq!(widths(&shipped("dense_linear", &[channels, size])), [3072, 2048, 1024, 10]);
    assert_eq!(widths(&shipped("dense_poly", &[channels, size, ("linear", 1)])), [3072, 10]);
    // Never narrower than the image has channels.
    assert_eq!(widths(&shipped("dense_poly", &[("linear", 12)]))[9..], [1, 1, 1, 10]);
}

#[test]
fn wrong_parameters_are_named_with_what_was_expected() {
    let refused = |name: &str, set: &[(&str, i64)]| {
        let set: Vec<_> = set.iter().map(|&(key, value)| (key.to_string(), value)).collect();
        let text = read(&shipped_path(name), &set).unwrap_err().to_string();
        text[text.find(".toml").unwrap()..].to_string()
    };
    let line = |name: &str, text: &str| {
        let file = std::fs::read_to_string(shipped_path(name)).unwrap();
        1 + file.lines().position(|line| line.starts_with(text)).unwrap()
    };
    for (key, value, least) in
        [("conv", 0, 1), ("conv", -1, 1), ("linear", 0, 1), ("linear", -3, 1), ("relu", -1, 0)]
    {
        assert_eq!(
            refused("simple_cnn", &[(key, value)]),
            format!(
                ".toml:{}: --set {key}: expected an integer of at least {least}, found {value}",
                line("simple_cnn", &format!("{key} = "))
            )
        );
    }
    // 28 -> 14 -> 7 -> 3 -> 1: the fifth pool has nothing left to pool.
    assert_eq!(
        refused("simple_cnn", &[("conv", 9)]),
        format!(
            ".toml:{}: layer \"features.4.pool\": kernel height (with dilation): expected at most the padded input height 1, found 2",
            line("simple_cnn", "kernel = 2")
        )
    );
    assert_eq!(
        refused("simple_cnn", &[("conv", 60)]),
        format!(
            ".toml:{}: layer \"features.39\": filters = \"channels * pow(3, index + 1)\": a value does not fit 64 bits",
            line("simple_cnn", "filters = \"channels")
        )
    );
    assert!(
        refused("dense_poly", &[("linear", 0)])
            .ends_with("--set linear: expected an integer of at least 1, found 0")
    );
    assert!(
        refused("dense_linear", &[("size", 0)])
            .ends_with("input: expected an integer of at least 1, found 0 (from \"size\")")
    );
    assert!(
        refused("nasnet_mobile", &[("size", 31)])
            .ends_with("--set size: expected an integer of at least 32, found 31")
    );
    assert!(
        refused("mobilenet_v2", &[("width", 0)])
            .ends_with("--set width: expected an integer of at least 1, found 0")
    );
}
