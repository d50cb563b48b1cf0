use layerjoule::network::LayerKind;
use rten_onnx::onnx::{DataType, OperatorSetIdProto};

use super::builder::{Dim, Model, float_attr, floats, info, int_attr, ints, ints_attr, tensor_attr};
use super::{assert_contains, kinds, network, only, read, refused};

fn reshaped(dims: &[Dim], target: &[i64]) -> Model {
    Model::with_input(13, dims).ints("t", target).node("Reshape x t -> y")
}

#[test]
fn reshape_keeps_the_batch_however_the_target_states_it() {
    use Dim::{Known, Symbol};
    let item = [Known(2), Known(3), Known(4)];
    let one = [[Known(1)].as_slice(), &item].concat();
    let eight = [[Known(8)].as_slice(), &item].concat();
    let any = [[Symbol("N")].as_slice(), &item].concat();
    for (dims, target, expected) in [
        (&one, &[1, -1][..], vec![24]),
        (&one, &[1, 24], vec![24]),
        (&eight, &[8, 6, 4], vec![6, 4]),
        (&any, &[-1, 24], vec![24]),
        (&any, &[0, -1], vec![24]),
        (&any, &[0, 0, -1], vec![2, 12]),
        (&any, &[0, 4, 3, 2], vec![4, 3, 2]),
    ] {
        let shape = expected.clone();
        assert_eq!(only(&reshaped(dims, target)), (LayerKind::Reshape { shape }, expected), "{target:?}");
    }
    for (dims, target) in [
        (&any, &[1, -1][..]),
        (&one, &[-1]),
        (&one, &[24]),
        (&eight, &[4, 48]),
        (&eight, &[-1, 6]),
        (&any, &[-1, -1]),
    ] {
        assert_contains(&refused(&reshaped(dims, target)), &["batch", "node 0 (Reshape)"]);
    }
    assert_contains(&refused(&reshaped(&any, &[0, 5, -1])), &["target of Reshape", "24", "5x-1"]);
    assert_contains(&refused(&reshaped(&any, &[0, -7, 2])), &["target of Reshape"]);
}

#[test]
fn a_view_computed_from_the_shape_is_folded() {
    // PyTorch's x.view(x.size(0), -1) in operator set 9.
    let model = Model::new(9, &[2, 3, 4])
        .node("Shape x -> s")
        .node_with("Constant -> zero", vec![tensor_attr("value", ints("", &[], &[0]))])
        .node("Gather s zero -> n")
        .node_with("Unsqueeze n -> n1", vec![ints_attr("axes", &[0])])
        .node_with("Constant -> rest", vec![tensor_attr("value", ints("", &[1], &[-1]))])
        .node_with("Concat n1 rest -> t", vec![int_attr("axis", 0)])
        .node("Reshape x t -> y");
    assert_eq!(only(&model), (LayerKind::Reshape { shape: vec![24] }, vec![24]));
}

#[test]
fn a_channel_shuffle_computed_from_the_shape_is_folded() {
    // ShuffleNet: view(n, 2, c / 2, h, w), transpose(1, 2), view(n, c, h, w); the division by way of floats.
    let model = Model::new(13, &[6, 5, 5])
        .ints("i0", &[0])
        .ints("i1", &[1])
        .ints("two", &[2])
        .ints("five", &[5])
        .ints("end", &[4])
        .floats("half", &[1], &[2.0])
        .node("Shape x -> s")
        .node("Slice s i0 i1 i0 -> n")
        .node("Slice s i1 two i0 i1 -> c")
        .node("Slice s two end -> hw")
        .node_with("Cast c -> cf", vec![int_attr("to", 1)])
        .node("Div cf half -> df")
        .node("Floor df -> ff")
        .node_with("Cast ff -> d", vec![int_attr("to", 7)])
        .node_with("Concat n two d hw -> t", vec![int_attr("axis", 0)])
        .node("Reshape x t -> a")
        .node_with("Transpose a -> b", vec![ints_attr("perm", &[0, 2, 1, 3, 4])])
        .node("Mul d two -> c2")
        .node_with("Concat n c2 five five -> u", vec![int_attr("axis", -1)])
        .node("Reshape b u -> y");
    let expected = vec![
        LayerKind::Reshape { shape: vec![2, 3, 5, 5] },
        LayerKind::Transpose { perm: vec![1, 0, 2, 3] },
        LayerKind::Reshape { shape: vec![6, 5, 5] },
    ];
    assert_eq!(kinds(&model), (expected, vec![6, 5, 5]));
}

#[test]
fn a_cast_of_a_constant_changes_its_kind_of_number_or_nothing() {
    // 16 is BFLOAT16, 7 INT64; -2.5 and 2.5 are cut to -2 and 2, whose sum with 3 is 1 and 5.
    let model = Model::new(13, &[2])
        .floats("c", &[2], &[-2.5, 2.5])
        .ints("three", &[3])
        .node_with("Cast c -> i", vec![int_attr("to", 7)])
        .node("Add i three -> s")
        .node_with("Cast s -> f", vec![int_attr("to", 1)])
        .node_with("Cast f -> g", vec![int_attr("to", 16)])
        .node("Add x g -> y");
    assert_eq!(super::stored(&read(&model), 0, layerjoule::network::Role::Operand), [1.0, 5.0]);
    let text = Model::new(13, &[2]).ints("c", &[1]).node_with("Cast c -> d", vec![int_attr("to", 8)]);
    assert_contains(&refused(&text.node("Add x d -> y")), &["target of Cast over a constant", "STRING"]);
}

#[test]
fn what_computes_with_the_batch_or_mixes_its_items_is_refused() {
    let twice = Model::new(13, &[4])
        .ints("two", &[2])
        .scalar("zero", 0)
        .node("Shape x -> s")
        .node("Gather s zero -> n")
        .node("Mul n two -> m")
        .node("Reshape x m -> y");
    assert_contains(&refused(&twice), &["node 2 (Mul)", "computes with the batch size"]);
    let refuse = |text: &str, attributes| {
        refused(&Model::new(11, &[2, 3, 3]).node("Relu x -> a").node_with(text, attributes))
    };
    assert_contains(&refuse("Transpose a -> y", vec![]), &["[3, 2, 1, 0] moves axis 0"]);
    assert_contains(&refuse("Concat a x -> y", vec![int_attr("axis", 0)]), &["along axis 0"]);
    assert_contains(&refuse("Concat a x -> y", vec![int_attr("axis", -4)]), &["along axis 0"]);
    assert_contains(&refuse("Softmax a -> y", vec![int_attr("axis", 0)]), &["along axis 0"]);
    assert_contains(&refuse("Flatten a -> y", vec![int_attr("axis", 0)]), &["axis 0"]);
    assert_contains(&refuse("Flatten a -> y", vec![int_attr("axis", 2)]), &["axis 2 joins axis 0"]);
    assert_contains(&refuse("Unsqueeze a -> y", vec![ints_attr("axes", &[0])]), &["axis 0"]);
    assert_contains(&refuse("Squeeze a -> y", vec![ints_attr("axes", &[0])]), &["found the batch"]);
}

#[test]
fn axes_are_renamed_without_the_batch() {
    let item =
        |dims: &[i64], text: &str, attributes| only(&Model::new(11, dims).node_with(text, attributes)).1;
    assert_eq!(item(&[2, 3, 4], "Flatten x -> y", vec![]), [24]);
    assert_eq!(item(&[2, 3, 4], "Flatten x -> y", vec![int_attr("axis", -3)]), [24]);
    assert_eq!(item(&[2, 1, 1], "Squeeze x -> y", vec![ints_attr("axes", &[2, -1])]), [2]);
    assert_eq!(item(&[2, 1, 3, 1], "Squeeze x -> y", vec![]), [2, 3]);
    assert_eq!(item(&[2], "Unsqueeze x -> y", vec![ints_attr("axes", &[2, 3])]), [2, 1, 1]);
    assert_eq!(item(&[2, 3, 4], "Transpose x -> y", vec![ints_attr("perm", &[0, 2, 3, 1])]), [3, 4, 2]);
    assert_eq!(only(&Model::new(13, &[2, 1]).ints("a", &[2]).node("Squeeze x a -> y")).1, [2]);
    let fixed = Model::with_input(13, &[Dim::Known(1), Dim::Known(2), Dim::Known(1)]).node("Squeeze x -> y");
    assert_contains(&refused(&fixed), &["would remove axis 0"]);
}

#[test]
fn concat_joins_along_an_axis_of_the_item() {
    let model = Model::new(11, &[2, 3, 3])
        .node("Relu x -> a")
        .node_with("Concat a x a -> y", vec![int_attr("axis", 1)]);
    let (kinds, output) = kinds(&model);
    assert_eq!((&kinds[1], output), (&LayerKind::Concat { axis: 0 }, vec![6, 3, 3]));
    let last = Model::new(11, &[2, 3, 4])
        .node("Relu x -> a")
        .node_with("Concat a x -> y", vec![int_attr("axis", -1)]);
    assert_eq!(super::kinds(&last).1, [2, 3, 8]);
}

#[test]
fn softmax_joins_axes_before_version_13_and_not_since() {
    let model =
        |opset, dims: &[i64], attributes| Model::new(opset, dims).node_with("Softmax x -> y", attributes);
    assert_eq!(only(&model(13, &[2, 3], vec![])).0, LayerKind::Softmax { axis: 1 });
    assert_eq!(only(&model(13, &[2, 3], vec![int_attr("axis", 1)])).0, LayerKind::Softmax { axis: 0 });
    assert_eq!(only(&model(9, &[5], vec![])).0, LayerKind::Softmax { axis: 0 });
    // SqueezeNet: 1000 x 1 x 1 joined from axis 1 on is the channel axis alone.
    assert_eq!(only(&model(9, &[1000, 1, 1], vec![])).0, LayerKind::Softmax { axis: 0 });
    assert_eq!(only(&model(9, &[2, 3], vec![int_attr("axis", 2)])).0, LayerKind::Softmax { axis: 1 });
    let expected = vec![
        LayerKind::Reshape { shape: vec![12] },
        LayerKind::Softmax { axis: 0 },
        LayerKind::Reshape { shape: vec![2, 3, 2] },
    ];
    assert_eq!(kinds(&model(11, &[2, 3, 2], vec![])), (expected, vec![2, 3, 2]));
}

#[test]
fn names_come_from_nodes_where_they_are_unique() {
    let model = Model::new(18, &[2, 3, 3])
        .node("Relu x -> a")
        .named("block/relu")
        .node("Relu a -> b")
        .named("twice")
        .node("Relu b -> c")
        .named("twice")
        .node("Relu c -> d")
        .named("input")
        .node("Relu d -> e")
        .named("relu2")
        .node("Identity e -> f")
        .ints("axes", &[2, 3])
        .node_with("ReduceMean f axes -> y", vec![int_attr("keepdims", 0)])
        .named("mean");
    let definition = read(&model);
    let names: Vec<&str> = definition.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["block/relu", "relu1", "relu3", "relu4", "relu2", "mean", "mean.flatten"]);
    assert_eq!(definition.layers[5].inputs, ["relu2"]);
    assert_eq!(definition.layers[6].inputs, ["mean"]);
    assert_eq!(definition.name, "net");
}

#[test]
fn nodes_may_stand_in_any_order_and_every_output_counts() {
    let mut model = Model::new(13, &[4]).node("Sigmoid a -> y").node("Relu x -> a").node("Tanh a -> z");
    model.graph().output.push(info("z", DataType::FLOAT, &[]));
    let network = network(&model);
    let kinds: Vec<&str> = network.layers.iter().map(|layer| layer.kind.name()).collect();
    assert_eq!(kinds, ["relu", "sigmoid", "tanh"]);
}

#[test]
fn initializers_among_the_inputs_are_not_inputs() {
    let mut model = Model::new(9, &[1, 4, 4]).floats("w", &[1, 1, 1, 1], &[0.5]).node("Conv x w -> y");
    model.graph().input.insert(0, info("w", DataType::FLOAT, &[Dim::Known(1)]));
    assert_eq!(read(&model).input, [1, 4, 4]);
    model.graph().input.push(info("x2", DataType::FLOAT, &[Dim::Known(1), Dim::Known(1)]));
    assert_contains(&refused(&model), &["expected one, found x, x2"]);
}

#[test]
fn the_input_must_have_a_known_shape_and_be_of_floats() {
    use Dim::{Known, Symbol};
    let relu = |dims: &[Dim]| refused(&Model::with_input(13, dims).node("Relu x -> y"));
    assert_contains(
        &relu(&[Symbol("N"), Known(3), Symbol("height"), Known(8)]),
        &["size of axis 2 of input \"x\"", "symbol \"height\"", "--dim_param height"],
    );
    assert_contains(&relu(&[Known(1), Known(-1)]), &["size of axis 1", "found -1"]);
    assert_contains(&relu(&[Known(1), Known(0)]), &["size of axis 1", "found 0"]);
    assert_contains(&relu(&[Known(1)]), &["at least two axes", "found 1"]);
    assert_contains(&relu(&[]), &["found 0"]);
    assert_contains(&relu(&[Known(1), Known(i64::MAX), Known(i64::MAX)]), &["size of a tensor"]);
    let mut integers = Model::new(13, &[4]).node("Relu x -> y");
    integers.graph().input[0] = info("x", DataType::INT64, &[Known(1), Known(4)]);
    assert_contains(&refused(&integers), &["floating-point", "INT64"]);
}

#[test]
fn names_that_are_never_defined_twice_defined_or_cyclic_are_refused() {
    let dangling = Model::new(13, &[4]).node("Relu nowhere -> y").named("first");
    assert_contains(&refused(&dangling), &["node 0 (Relu): layer \"first\"", "found \"nowhere\""]);
    let output = Model::new(13, &[4]).node("Relu x -> z");
    assert_contains(&refused(&output), &["output of the graph", "found \"y\""]);
    let twice = Model::new(13, &[4]).node("Relu x -> y").node("Tanh x -> y");
    assert_contains(&refused(&twice), &["node 1 (Tanh)", "\"y\" is defined twice"]);
    let hidden = Model::new(13, &[4]).floats("x", &[1], &[0.0]).node("Relu x -> y");
    assert_contains(&refused(&hidden), &["inputs of the graph", "found none"]);
    let cycle = Model::new(13, &[4])
        .node("Add x c -> a")
        .node("Relu a -> b")
        .node("Tanh b -> c")
        .node("Sigmoid c -> y");
    assert_contains(&refused(&cycle), &["cycle: a -> b -> c -> a", "node 0 (Add)"]);
}

#[test]
fn data_must_agree_with_its_dims() {
    let short = Model::new(13, &[4]).floats("c", &[4], &[1.0; 3]).node("Add x c -> y");
    assert_contains(&refused(&short), &["data of tensor \"c\": expected 4 elements (4), found 3"]);
    let odd = Model::new(13, &[4]).raw("c", DataType::FLOAT, &[4], &[0; 15]).node("Add x c -> y");
    assert_contains(&refused(&odd), &["expected 4 elements (4), found 3 and 3 bytes"]);
    let lying = Model::new(13, &[4]).floats("c", &[1 << 40], &[1.0]).node("Add x c -> y");
    assert_contains(&refused(&lying), &["expected 1099511627776 elements", "found 1"]);
    let huge = Model::new(13, &[4]).floats("c", &[1 << 40, 1 << 40], &[1.0]).node("Add x c -> y");
    assert_contains(&refused(&huge), &["size of a tensor"]);
    let negative = Model::new(13, &[4]).floats("c", &[-4], &[1.0]).node("Add x c -> y");
    assert_contains(&refused(&negative), &["size of tensor \"c\"", "found -4"]);
    let text = Model::new(13, &[4]).raw("c", DataType::STRING, &[1], &[0]).node("Add x c -> y");
    assert_contains(&refused(&text), &["tensor \"c\"", "type STRING"]);
}

#[test]
fn numbers_outside_the_file_are_an_error_that_names_their_file() {
    let mut model = Model::new(13, &[4]).node("Add x c -> y");
    let mut tensor = floats("c", &[4], &[]);
    tensor.data_location = Some(rten_onnx::onnx::DataLocation::EXTERNAL);
    tensor.external_data = vec![rten_onnx::onnx::StringStringEntryProto {
        key: Some("location".to_string()),
        value: Some("net.onnx.data".to_string()),
    }];
    model.graph().initializer.push(tensor);
    assert_contains(&refused(&model), &["\"net.onnx.data\"", "save_as_external_data=False"]);
}

#[test]
fn a_huge_constant_of_shape_is_never_spread_out() {
    let fill = vec![tensor_attr("value", floats("", &[1], &[1.0]))];
    let weights = Model::new(9, &[1 << 20])
        .ints("s", &[1 << 20, 1 << 20])
        .node_with("ConstantOfShape s -> w", fill.clone())
        .node("MatMul x w -> y");
    // 2^40 weights are a legal description; they are drawn when the network is prepared, not here.
    assert_eq!(network(&weights).trainable(), 1 << 40);
    let integer = Model::new(9, &[4])
        .ints("s", &[1 << 40])
        .node_with("ConstantOfShape s -> t", vec![tensor_attr("value", ints("", &[1], &[1]))])
        .node("Reshape x t -> y");
    assert_contains(&refused(&integer), &["node 0 (ConstantOfShape)", "at most 65536", "1099511627776"]);
    let floor = Model::new(9, &[4])
        .ints("s", &[1 << 40])
        .node_with("ConstantOfShape s -> t", fill)
        .node("Floor t -> u")
        .node("Add x u -> y");
    assert_contains(&refused(&floor), &["node 1 (Floor)", "at most 65536"]);
    let doubled = (0..40).fold(Model::new(9, &[4]).floats("c0", &[4], &[1.0; 4]), |model, i| {
        model.node_with(&format!("Concat c{i} c{i} -> c{}", i + 1), vec![int_attr("axis", 0)])
    });
    assert_contains(&refused(&doubled.node("Add x c40 -> y")), &["far larger than the file"]);
}

#[test]
fn models_without_graph_nodes_outputs_or_version_are_refused() {
    assert_contains(&refused(&Model::new(13, &[4])), &["nodes of the graph: expected at least one"]);
    let mut model = Model::new(13, &[4]).node("Relu x -> y");
    model.graph().output.clear();
    assert_contains(&refused(&model), &["outputs of the graph"]);
    let mut model = Model::new(13, &[4]).node("Relu x -> y");
    model.proto.opset_import.clear();
    assert_contains(&refused(&model), &["opset_import"]);
    model.proto.opset_import = vec![OperatorSetIdProto { domain: None, version: Some(8) }];
    assert_contains(&refused(&model), &["expected 9 or later", "found 8"]);
    model.proto.graph = None;
    model.proto.opset_import = vec![OperatorSetIdProto { domain: None, version: Some(9) }];
    assert_contains(&refused(&model), &["a graph"]);
    let mut alias = Model::new(13, &[4]).node("Identity x -> y");
    assert_contains(&refused(&alias), &["output of the graph"]);
    alias.graph().node[0].op_type = None;
    assert_contains(&refused(&alias), &["operator"]);
}

#[test]
fn an_attribute_of_another_type_is_refused() {
    let model = Model::new(13, &[4]).node_with("LeakyRelu x -> y", vec![int_attr("alpha", 1)]);
    assert_contains(&refused(&model), &["attribute \"alpha\": expected a number, found type 2"]);
    let twice = vec![float_attr("alpha", 1.0), float_attr("alpha", 2.0)];
    let twice = Model::new(13, &[4]).node_with("LeakyRelu x -> y", twice);
    assert_contains(&refused(&twice), &["\"alpha\" is given twice"]);
}
