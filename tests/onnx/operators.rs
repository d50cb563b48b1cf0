use layerjoule::network::{Activation, Conv, LayerKind, Linear, Lrn, Pool, Role, Values};
use rten_onnx::onnx::DataType;

use super::builder::{Model, float_attr, floats, int_attr, ints, ints_attr, tensor_attr, text_attr};
use super::{assert_contains, kinds, only, read, refused, stored};

fn conv(out_channels: usize, kernel: usize) -> Conv {
    Conv {
        out_channels,
        kernel: [kernel, kernel],
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
        bias: false,
    }
}

fn pool(kernel: usize) -> Pool {
    Pool {
        kernel: [kernel, kernel],
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        ceil_mode: false,
        count_include_pad: false,
    }
}

fn conv_model(item: &[i64], weights: &[i64], attributes: Vec<rten_onnx::onnx::AttributeProto>) -> Model {
    let count = weights.iter().product::<i64>() as usize;
    Model::new(13, item).floats("w", weights, &vec![0.5; count]).node_with("Conv x w -> y", attributes)
}

#[test]
fn conv_takes_its_sizes_from_weights_and_attributes() {
    // 2 groups of 2 channels; height (9 + 1 + 2 - (2*2+1)) / 2 + 1 = 4, width (8 + 0 + 1 - 3) / 1 + 1 = 7.
    let model = Model::new(11, &[4, 9, 8])
        .floats("w", &[6, 2, 3, 3], &[0.25; 108])
        .floats("b", &[6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .node_with(
            "Conv x w b -> y",
            vec![
                ints_attr("kernel_shape", &[3, 3]),
                ints_attr("strides", &[2, 1]),
                ints_attr("pads", &[1, 0, 2, 1]),
                ints_attr("dilations", &[2, 1]),
                int_attr("group", 2),
            ],
        );
    let expected = Conv {
        out_channels: 6,
        kernel: [3, 3],
        stride: [2, 1],
        padding: [1, 0, 2, 1],
        dilation: [2, 1],
        groups: 2,
        bias: true,
    };
    assert_eq!(only(&model), (LayerKind::Conv(expected), vec![6, 4, 7]));
    let definition = read(&model);
    assert_eq!(stored(&definition, 0, Role::Weight), [0.25; 108]);
    assert_eq!(stored(&definition, 0, Role::Bias), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn conv_resolves_automatic_padding() {
    // 6 / stride 2 = 3 windows: (3 - 1) * 2 + 3 - 6 = 1 row and column of padding in all.
    for (auto_pad, padding, output) in [
        ("SAME_UPPER", [0, 0, 1, 1], vec![2, 3, 3]),
        ("SAME_LOWER", [1, 1, 0, 0], vec![2, 3, 3]),
        ("VALID", [0; 4], vec![2, 2, 2]),
    ] {
        let attributes = vec![text_attr("auto_pad", auto_pad), ints_attr("strides", &[2, 2])];
        let model = conv_model(&[1, 6, 6], &[2, 1, 3, 3], attributes);
        let expected = Conv { stride: [2, 2], padding, ..conv(2, 3) };
        assert_eq!(only(&model), (LayerKind::Conv(expected), output), "{auto_pad}");
    }
}

#[test]
fn conv_of_one_or_three_axes_is_refused_by_name() {
    assert_contains(&refused(&conv_model(&[2, 8], &[2, 2, 3], vec![])), &["node 0 (Conv)", "1-D", "N x 2x8"]);
    assert_contains(&refused(&conv_model(&[2, 8, 8, 8], &[2, 2, 3, 3, 3], vec![])), &["3-D", "found 3"]);
}

#[test]
fn conv_weights_must_fit_the_input_channels() {
    let text = refused(&conv_model(&[4, 8, 8], &[2, 3, 3, 3], vec![]));
    assert_contains(&text, &["net.onnx: node 0 (Conv)", "layer \"y\"", "expected 3 x 1 groups", "found 4"]);
    assert_contains(
        &refused(&conv_model(&[4, 8, 8], &[2, 4, 3, 3], vec![ints_attr("kernel_shape", &[5, 5])])),
        &["kernel_shape", "expected 3x3, found 5x5"],
    );
    let strides = vec![ints_attr("strides", &[0, 1])];
    assert_contains(&refused(&conv_model(&[4, 8, 8], &[2, 4, 3, 3], strides)), &["strides", "[0, 1]"]);
    let computed = Model::new(13, &[4, 8, 8]).node("Conv x x -> y");
    assert_contains(&refused(&computed), &["input 1 of Conv: expected a constant"]);
}

#[test]
fn weights_of_constant_of_shape_are_random_and_other_fills_stay() {
    let shape = |name: &str, dims: &[i64]| ints(name, &[dims.len() as i64], dims);
    let fill = |value: f32| vec![tensor_attr("value", floats("", &[1], &[value]))];
    let mut model = Model::new(9, &[1, 4, 4])
        .node_with("ConstantOfShape ws -> w", fill(0.5))
        .node_with("ConstantOfShape bs -> b", fill(0.25))
        .node("Conv x w b -> y");
    model.graph().initializer.extend([shape("ws", &[2, 1, 3, 3]), shape("bs", &[2])]);
    let definition = read(&model);
    assert_eq!(definition.layers[0].values[&Role::Weight], Values::Random);
    assert_eq!(definition.layers[0].values[&Role::Bias], Values::Fill(0.25));
}

#[test]
fn gemm_stores_weights_as_rows_of_outputs_with_alpha_and_beta_folded_in() {
    // B is 2 inputs x 3 outputs; doubled and transposed.
    let model = Model::new(13, &[2])
        .floats("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .floats("c", &[1, 3], &[1.0, 2.0, 3.0])
        .node_with("Gemm x w c -> y", vec![float_attr("alpha", 2.0), float_attr("beta", 0.5)]);
    let linear = LayerKind::Linear(Linear { out_features: 3, bias: true });
    assert_eq!(only(&model), (linear, vec![3]));
    let definition = read(&model);
    assert_eq!(stored(&definition, 0, Role::Weight), [2.0, 8.0, 4.0, 10.0, 6.0, 12.0]);
    assert_eq!(stored(&definition, 0, Role::Bias), [0.5, 1.0, 1.5]);
}

#[test]
fn gemm_with_transposed_b_keeps_the_stored_order() {
    let model = Model::new(9, &[2])
        .floats("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .floats("c", &[], &[7.0])
        .node_with("Gemm x w c -> y", vec![int_attr("transB", 1)]);
    let definition = read(&model);
    assert_eq!(stored(&definition, 0, Role::Weight), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(definition.layers[0].values[&Role::Bias], Values::Fill(7.0));
    let swapped = Model::new(9, &[2]).floats("w", &[2, 2], &[0.0; 4]);
    let swapped = swapped.node_with("Gemm x w -> y", vec![int_attr("transA", 1)]);
    assert_contains(&refused(&swapped), &["transA", "batch"]);
    let wide = Model::new(9, &[3]).floats("w", &[2, 2], &[0.0; 4]).node("Gemm x w -> y");
    assert_contains(&refused(&wide), &["expected 2 features", "found N x 3"]);
}

#[test]
fn matmul_is_a_linear_layer_and_its_bias_a_stored_operand() {
    let model = Model::new(13, &[5, 2])
        .floats("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .floats("b", &[3], &[7.0, 8.0, 9.0])
        .node("MatMul x w -> h")
        .node("Add b h -> y");
    let linear = LayerKind::Linear(Linear { out_features: 3, bias: false });
    assert_eq!(kinds(&model), (vec![linear, LayerKind::Add { operand: Some(vec![3]) }], vec![5, 3]));
    let definition = read(&model);
    assert_eq!(stored(&definition, 0, Role::Weight), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(stored(&definition, 1, Role::Operand), [7.0, 8.0, 9.0]);
}

#[test]
fn activations_take_their_parameters_and_defaults() {
    let cases = [
        ("Relu", vec![], Activation::Relu),
        ("LeakyRelu", vec![], Activation::LeakyRelu { alpha: 0.01 }),
        ("LeakyRelu", vec![float_attr("alpha", 0.1)], Activation::LeakyRelu { alpha: 0.1 }),
        ("Sigmoid", vec![], Activation::Sigmoid),
        ("Tanh", vec![], Activation::Tanh),
        ("HardSwish", vec![], Activation::HardSwish),
        ("HardSigmoid", vec![], Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }),
        ("Swish", vec![], Activation::Silu),
        ("Clip", vec![float_attr("min", 0.0), float_attr("max", 6.0)], Activation::Relu6),
        ("Clip", vec![float_attr("min", -1.0)], Activation::Clip { min: -1.0, max: f32::MAX }),
    ];
    for (op, attributes, expected) in cases {
        let model = Model::new(10, &[3]).node_with(&format!("{op} x -> y"), attributes);
        assert_eq!(only(&model), (LayerKind::Activation(expected), vec![3]), "{op}");
    }
}

#[test]
fn clip_reads_its_bounds_from_inputs_since_version_11() {
    let bounds =
        |text: &str| Model::new(11, &[3]).floats("zero", &[], &[0.0]).floats("six", &[], &[6.0]).node(text);
    assert_eq!(only(&bounds("Clip x zero six -> y")).0, LayerKind::Activation(Activation::Relu6));
    let upper = Activation::Clip { min: f32::MIN, max: 6.0 };
    assert_eq!(only(&bounds("Clip x _ six -> y")).0, LayerKind::Activation(upper));
}

#[test]
fn pools_take_their_windows() {
    let attributes = vec![
        ints_attr("kernel_shape", &[3, 3]),
        ints_attr("strides", &[2, 2]),
        ints_attr("pads", &[1, 1, 1, 1]),
        int_attr("ceil_mode", 1),
    ];
    // ceil((10 + 2 - 3) / 2) + 1 = 6; the sixth window starts at 10, before the end of input and left padding.
    let base = Pool { stride: [2, 2], padding: [1; 4], ceil_mode: true, ..pool(3) };
    let max = Model::new(12, &[2, 10, 10]).node_with("MaxPool x -> y", attributes.clone());
    assert_eq!(only(&max), (LayerKind::MaxPool(base.clone()), vec![2, 6, 6]));
    let counted = [attributes, vec![int_attr("count_include_pad", 1)]].concat();
    let mean = Model::new(12, &[2, 10, 10]).node_with("AveragePool x -> y", counted);
    let expected = Pool { count_include_pad: true, ..base };
    assert_eq!(only(&mean), (LayerKind::AvgPool(expected), vec![2, 6, 6]));
    let same = vec![ints_attr("kernel_shape", &[2, 2]), text_attr("auto_pad", "SAME_UPPER")];
    let same = Model::new(12, &[1, 5, 5]).node_with("AveragePool x -> y", same);
    assert_eq!(only(&same), (LayerKind::AvgPool(Pool { padding: [0, 0, 1, 1], ..pool(2) }), vec![1, 5, 5]));
    assert_contains(&refused(&Model::new(12, &[1, 5, 5]).node("MaxPool x -> y")), &["kernel_shape"]);
}

#[test]
fn indices_of_a_max_pool_are_refused() {
    let attributes = vec![ints_attr("kernel_shape", &[2, 2])];
    let model = Model::new(12, &[1, 4, 4]).node_with("MaxPool x -> p y", attributes);
    assert_contains(&refused(&model), &["\"y\" is output 1 of node 0 (MaxPool)"]);
}

#[test]
fn means_over_height_and_width_are_global_pools() {
    for (op, kind) in
        [("GlobalAveragePool", LayerKind::GlobalAvgPool), ("GlobalMaxPool", LayerKind::GlobalMaxPool)]
    {
        assert_eq!(only(&Model::new(9, &[3, 4, 5]).node(&format!("{op} x -> y"))), (kind, vec![3, 1, 1]));
    }
    let kept = Model::new(11, &[3, 4, 5]).node_with("ReduceMean x -> y", vec![ints_attr("axes", &[-1, 2])]);
    assert_eq!(only(&kept), (LayerKind::GlobalAvgPool, vec![3, 1, 1]));
    let dropped = Model::new(18, &[3, 4, 5])
        .ints("axes", &[2, 3])
        .node_with("ReduceMean x axes -> y", vec![int_attr("keepdims", 0)]);
    assert_eq!(kinds(&dropped), (vec![LayerKind::GlobalAvgPool, LayerKind::Flatten], vec![3]));
    let channels = Model::new(11, &[3, 4, 5]).node_with("ReduceMean x -> y", vec![ints_attr("axes", &[1])]);
    assert_contains(&refused(&channels), &["axes of ReduceMean", "found [1]"]);
}

#[test]
fn batch_norm_keeps_its_four_vectors() {
    let mut model = Model::new(15, &[2, 3, 3]);
    for (i, name) in ["s", "b", "m", "v"].into_iter().enumerate() {
        model = model.floats(name, &[2], &[i as f32, 10.0]);
    }
    let model = model.node_with(
        "BatchNormalization x s b m v -> y",
        vec![float_attr("epsilon", 1e-3), float_attr("momentum", 0.9)],
    );
    assert_eq!(only(&model), (LayerKind::BatchNorm { epsilon: 1e-3 }, vec![2, 3, 3]));
    let definition = read(&model);
    for (i, role) in [Role::Scale, Role::Shift, Role::Mean, Role::Variance].into_iter().enumerate() {
        assert_eq!(stored(&definition, 0, role), [i as f32, 10.0]);
    }
    let short = Model::new(15, &[2, 3, 3]).floats("s", &[3], &[0.0; 3]);
    let short = short.node("BatchNormalization x s s s s -> y");
    assert_contains(&refused(&short), &["scale of BatchNormalization: expected shape 2, found 3"]);
    let training = Model::new(15, &[2, 3, 3]).floats("s", &[2], &[0.0; 2]);
    let training =
        training.node_with("BatchNormalization x s s s s -> y", vec![int_attr("training_mode", 1)]);
    assert_contains(&refused(&training), &["training mode", "model.eval()"]);
}

#[test]
fn lrn_dropout_and_pad_take_their_parameters() {
    let lrn = Model::new(9, &[8, 2, 2]).node_with(
        "LRN x -> y",
        vec![int_attr("size", 5), float_attr("alpha", 2e-4), float_attr("bias", 2.0)],
    );
    let expected = Lrn { size: 5, alpha: 2e-4, beta: 0.75, k: 2.0 };
    assert_eq!(only(&lrn), (LayerKind::Lrn(expected), vec![8, 2, 2]));

    let old = Model::new(9, &[8]).node_with("Dropout x -> y", vec![float_attr("ratio", 0.4)]);
    assert_eq!(only(&old), (LayerKind::Dropout { p: 0.4 }, vec![8]));
    let new = Model::new(13, &[8]).floats("r", &[], &[0.3]).node("Dropout x r -> y mask");
    assert_eq!(only(&new), (LayerKind::Dropout { p: 0.3 }, vec![8]));

    let pad = LayerKind::Pad { padding: [1, 2, 3, 4], value: 0.5 };
    let pads = [0, 0, 1, 2, 0, 0, 3, 4];
    let old = vec![ints_attr("pads", &pads), float_attr("value", 0.5)];
    let old = Model::new(9, &[2, 5, 5]).node_with("Pad x -> y", old);
    assert_eq!(only(&old), (pad.clone(), vec![2, 9, 11]));
    let new = Model::new(13, &[2, 5, 5]).ints("p", &pads).floats("v", &[], &[0.5]).node("Pad x p v -> y");
    assert_eq!(only(&new), (pad.clone(), vec![2, 9, 11]));
    let axes =
        Model::new(18, &[2, 5, 5]).ints("p", &[2, 1, 4, 3]).ints("a", &[-1, 2]).floats("v", &[], &[0.5]);
    assert_eq!(only(&axes.node("Pad x p v a -> y")), (pad, vec![2, 9, 11]));
    let channels = Model::new(13, &[2, 5, 5]).ints("p", &[0, 1, 0, 0, 0, 0, 0, 0]).node("Pad x p -> y");
    assert_contains(&refused(&channels), &["batch and channels"]);
    let reflect = vec![ints_attr("pads", &pads), text_attr("mode", "reflect")];
    let reflect = Model::new(9, &[2, 5, 5]).node_with("Pad x -> y", reflect);
    assert_contains(&refused(&reflect), &["mode of Pad: expected constant, found reflect"]);
}

#[test]
fn sums_and_products_align_constants_with_an_item() {
    let with = |dims: &[i64], text: &str| {
        let count = dims.iter().product::<i64>() as usize;
        Model::new(13, &[2, 3, 3]).floats("c", dims, &vec![4.0; count]).node(text)
    };
    for (dims, operand) in [
        (&[1, 2, 1, 1][..], vec![2, 1, 1]),
        (&[2, 1, 1], vec![2, 1, 1]),
        (&[3], vec![3]),
        (&[], vec![]),
        (&[1, 1, 1, 1], vec![1, 1, 1]),
    ] {
        let add = LayerKind::Add { operand: Some(operand.clone()) };
        assert_eq!(only(&with(dims, "Add x c -> y")), (add, vec![2, 3, 3]), "{dims:?}");
        let mul = LayerKind::Mul { operand: Some(operand) };
        assert_eq!(only(&with(dims, "Mul c x -> y")), (mul, vec![2, 3, 3]), "{dims:?}");
    }
    // Four axes have one for the batch, which must be 1; five would make a tensor of another rank.
    assert_contains(&refused(&with(&[2, 2, 1, 1], "Add x c -> y")), &["each item of N x 2x3x3", "2x2x1x1"]);
    assert_contains(&refused(&with(&[1, 1, 2, 1, 1], "Add x c -> y")), &["1x1x2x1x1"]);
    assert_contains(&refused(&with(&[4], "Add x c -> y")), &["operand", "2x3x3", "found 4"]);
    let minus = with(&[1], "Sub x c -> y");
    assert_eq!(stored(&read(&minus), 0, Role::Operand), [-4.0]);
    let over = with(&[1], "Div x c -> y");
    assert_eq!(stored(&read(&over), 0, Role::Operand), [0.25]);
    assert_contains(&refused(&with(&[1], "Sub c x -> y")), &["a tensor and then a constant"]);
}

#[test]
fn tensors_are_added_in_one_layer_and_broadcast() {
    let sum = Model::new(9, &[2, 3, 3])
        .node("Relu x -> a")
        .node("Sigmoid x -> b")
        .node("GlobalAveragePool x -> c")
        .node("Sum a b x -> d")
        .node("Mul d c -> y");
    let (kinds, output) = kinds(&sum);
    assert_eq!(kinds[3..], [LayerKind::Add { operand: None }, LayerKind::Mul { operand: None }]);
    assert_eq!(output, [2, 3, 3]);
    let definition = read(&sum);
    assert_eq!(definition.layers[3].inputs, ["relu1", "sigmoid1", "input"]);
    let ranks = Model::new(9, &[2, 3]).node("Flatten x -> a").node("Add a x -> y");
    assert_contains(&refused(&ranks), &["as many axes as N x 6", "N x 2x3"]);
}

#[test]
fn numbers_are_read_from_every_floating_point_type() {
    let bytes = |numbers: &[u16]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let read_as = |data_type, raw: &[u8]| {
        let model = Model::new(13, &[2]).raw("c", data_type, &[2], raw).node("Add x c -> y");
        stored(&read(&model), 0, Role::Operand)
    };
    let single: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let double: Vec<u8> = [1.5f64, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(read_as(DataType::FLOAT, &single), [1.5, -2.0]);
    assert_eq!(read_as(DataType::DOUBLE, &double), [1.5, -2.0]);
    assert_eq!(read_as(DataType::FLOAT16, &bytes(&[0x3e00, 0xc000])), [1.5, -2.0]);
    assert_eq!(read_as(DataType::BFLOAT16, &bytes(&[0x3fc0, 0xc000])), [1.5, -2.0]);
}

#[test]
fn a_weight_of_two_layers_is_kept_once() {
    let model = Model::new(13, &[1, 4, 4])
        .floats("w", &[1, 1, 1, 1], &[0.5])
        .node("Conv x w -> h")
        .node("Conv h w -> y");
    let definition = read(&model);
    let values = |layer: usize| match &definition.layers[layer].values[&Role::Weight] {
        Values::Stored(values) => values.clone(),
        other => panic!("{other:?}"),
    };
    assert!(std::sync::Arc::ptr_eq(&values(0), &values(1)));
}

#[test]
fn an_unknown_operator_attribute_or_domain_is_named() {
    let unknown = Model::new(13, &[4]).node("Relu x -> h").node("Erf h -> y").named("gelu");
    assert_contains(&refused(&unknown), &["node 1 (Erf)", "layer \"gelu\"", "\"Erf\"", "Conv", "Unsqueeze"]);
    let attribute = Model::new(13, &[4]).node_with("Relu x -> y", vec![int_attr("in_place", 1)]);
    assert_contains(&refused(&attribute), &["attribute: expected none, found \"in_place\""]);
    let mut domain = Model::new(13, &[4]).node("Relu x -> y");
    domain.graph().node[0].domain = Some("com.microsoft".to_string());
    assert_contains(&refused(&domain), &["operator domain", "com.microsoft"]);
    // What no output depends on is left out, so it need not be known.
    let dead = Model::new(13, &[4]).node("Relu x -> y").node("Erf x -> unused");
    assert_eq!(only(&dead).0, LayerKind::Activation(Activation::Relu));
}
