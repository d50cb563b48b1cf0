//! Wrong network files and what is said about them.

use layerjoule::network::read;

use super::{conv_refusal, message, read_bytes, read_text, refusal, shipped_path};

#[test]
fn files_that_are_no_networks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        message(read(&folder.path().join("net.toml"), &[]))
            .starts_with("net.toml: cannot read the network file: No such file")
    );
    std::fs::create_dir(folder.path().join("net.d")).unwrap();
    assert_eq!(
        message(read(&folder.path().join("net.d"), &[])),
        "net.d: expected a network file (.toml or .onnx), found a directory"
    );
    assert_eq!(
        message(read_text("")),
        "net.toml: network definition: expected name, input and at least one [[layer]], found an empty file"
    );
    assert_eq!(
        message(read_text("# nothing\n")),
        "net.toml: network definition: expected name, input and at least one [[layer]], found an empty file"
    );
    assert_eq!(
        message(read_text("name = \"n\"\ninput = [3, 8, 8")),
        "net.toml:2: not valid TOML: unclosed array, expected `]`"
    );
    assert_eq!(message(read_text("name = \"n\"\nname = \"m\"")), "net.toml:2: not valid TOML: duplicate key");
    assert_eq!(
        message(read_bytes("net.toml", b"name = 1\nx = \"\xff\"", &[])),
        "net.toml:2: encoding: expected UTF-8, found byte 0xff"
    );
    assert_eq!(
        message(read_bytes("net.onnx", b"", &[("size", 1)])),
        r#"net.onnx: --set: expected none, as ONNX files declare no parameters, found "size""#
    );
    assert_eq!(
        message(read_text("name = \"n\"\ninput = [3, 8, 8]")),
        "net.toml: layer: expected at least one [[layer]], found nothing"
    );
    assert_eq!(
        message(read_text("name = \"n\"\ninput = [3, 8, 8]\nlayer = []")),
        "net.toml:3: layer: expected at least one [[layer]], found a list of 0"
    );
    assert_eq!(
        message(read_text("input = [3, 8, 8]")),
        "net.toml: name: expected the network's name, found nothing"
    );
    assert_eq!(message(read_text("name = 3")), "net.toml:1: name: expected a name in quotes, found 3");
    assert_eq!(
        message(read_text("name = \"n\"\n[[layer]]\nkind = \"relu\"")),
        "net.toml: input: expected a list of sizes such as [3, 224, 224], found nothing"
    );
    assert_eq!(
        message(read_text("name = \"n\"\ninput = [3, 0, 8]\n[[layer]]\nkind = \"relu\"")),
        "net.toml:2: input: expected an integer of at least 1, found 0"
    );
    assert_eq!(
        message(read_text("name = \"n\"\ninput = []\n[[layer]]\nkind = \"relu\"")),
        "net.toml:2: input: expected 1 to 8 axes, found 0"
    );
    assert_eq!(
        message(read_text("name = \"n\"\ninput = [9000000000000000000, 9, 9]\n[[layer]]\nkind = \"relu\"")),
        "net.toml: size of a tensor: expected a count of elements below 2^60, found 9000000000000000000x9x9"
    );
    assert_eq!(
        message(read_text(&format!("name = \"n\"\nx = {}", "[".repeat(100_000)))),
        "net.toml:2: not valid TOML: cannot recurse further; max recursion depth met"
    );
}

#[test]
fn names_that_do_not_exist_are_refused_with_the_nearest() {
    assert_eq!(
        refusal("lr = 1\n[[layer]]\nkind = \"relu\""),
        r#"net.toml:3: key of the file: expected one of name, input, parameters, block, layer, found "lr""#
    );
    assert_eq!(
        refusal("[[layer]]\nkind = \"relu\"\nalpha = 1"),
        r#"net.toml:5: layer "relu1": key of relu: expected one of name, kind, inputs, when, repeat, found "alpha""#
    );
    assert_eq!(
        conv_refusal("kernal = 3"),
        r#"net.toml:7: layer "conv1": key of conv: expected one of name, kind, inputs, when, repeat, out_channels, kernel, stride, padding, dilation, groups, bias, found "kernal" (did you mean "kernel"?)"#
    );
    let unknown_kind = refusal("[[layer]]\nname = \"a\"\nkind = \"maxpool\"");
    assert!(unknown_kind.starts_with("net.toml:5: layer \"a\": kind: expected one of conv, linear, relu,"));
    assert!(unknown_kind.ends_with("found \"maxpool\" (did you mean \"max_pool\"?)"));
    assert_eq!(
        refusal("[[layer]]\nname = \"a\""),
        r#"net.toml:3: layer "a": kind: expected the name of a kind, or block = "…", found nothing"#
    );
    assert_eq!(
        refusal("[[layer]]\nblock = \"basik\"\n[block.basic]\n[[block.basic.layer]]\nkind = \"relu\""),
        r#"net.toml:4: layer "basik1": block: expected one of basic, found "basik" (did you mean "basic"?)"#
    );
    assert_eq!(
        refusal(
            "[[layer]]\nkind = \"relu\"\ninputs = [\"conv1\"]\n[[layer]]\nname = \"conv\"\nkind = \"tanh\""
        ),
        r#"net.toml:5: layer "relu1": inputs: expected the name of a layer, or "input", found "conv1" (did you mean "conv"?)"#
    );
    assert_eq!(
        refusal("[[layer]]\nblock = \"b\"\n[block.b]\n[[block.b.layer]]\nkind = \"relu\"\ninputs = [\"x\"]"),
        r#"net.toml:8: layer "b1.relu1": inputs: expected the name of a layer, or "input", found "x""#
    );
    assert_eq!(
        message(read_bytes("net.toml", &std::fs::read(shipped_path("lenet5")).unwrap(), &[("siez", 1)])),
        r#"net.toml: --set: expected one of classes, size, found "siez" (did you mean "size"?)"#
    );
    assert_eq!(
        message(read_bytes(
            "net.toml",
            b"name = \"n\"\ninput = [1]\n[[layer]]\nkind = \"relu\"",
            &[("size", 1)]
        )),
        r#"net.toml: --set: expected none, as the file declares no [parameters], found "size""#
    );
}

#[test]
fn wrong_graphs_are_refused() {
    let layer = |name: &str, inputs: &str| {
        format!("[[layer]]\nname = \"{name}\"\nkind = \"relu\"\ninputs = [\"{inputs}\"]\n")
    };
    assert_eq!(
        refusal(&(layer("a", "c") + &layer("b", "a") + &layer("c", "b"))),
        r#"net.toml:3: layer "a": the layers read each other in a cycle: a -> b -> c -> a; break it"#
    );
    assert_eq!(
        refusal(&layer("a", "a")),
        r#"net.toml:3: layer "a": the layers read each other in a cycle: a -> a; break it"#
    );
    assert_eq!(
        refusal(&(layer("a", "input") + &layer("a", "input"))),
        r#"net.toml:7: layer "a": the name is already used in line 3; names must be unique"#
    );
    assert_eq!(
        refusal(&layer("input", "input")),
        r#"net.toml:4: "input" is what the network or block reads; choose another name"#
    );
    assert_eq!(
        refusal("[[layer]]\nkind = \"relu\"\ninputs = []"),
        r#"net.toml:5: layer "relu1": inputs: expected a list of names such as ["conv1"], found a list of 0"#
    );
    assert_eq!(
        refusal("[[layer]]\nkind = \"relu\"\ninputs = \"input\""),
        r#"net.toml:5: layer "relu1": inputs: expected a list of names such as ["conv1"], found "input""#
    );
    assert_eq!(
        refusal("[[layer]]\nkind = \"add\""),
        r#"net.toml:3: layer "add1": inputs of add: expected two or more, found 1"#
    );
    assert_eq!(
        refusal("[[layer]]\nkind = \"relu\"\ninputs = [\"input\", \"input\"]"),
        r#"net.toml:5: layer "relu1": inputs of relu: expected one, found 2"#
    );
    assert_eq!(
        refusal(
            &(layer("a", "b").replace("kind", "when = 0\nkind")
                + &layer("b", "a").replace("kind", "when = 0\nkind")
                + &layer("c", "a"))
        ),
        r#"net.toml:8: layer "b": the layers left out by `when` or `repeat` read each other in a cycle; break it"#
    );
    assert_eq!(
        refusal("[[layer]]\nkind = \"relu\"\nblock = \"b\"\n[block.b]\n[[block.b.layer]]\nkind = \"relu\""),
        r#"net.toml:3: layer "relu1": a layer has a kind or a block, not both; remove one of them"#
    );
}

#[test]
fn wrong_values_are_refused_with_line_expected_and_found() {
    assert_eq!(
        conv_refusal("out_channels = 0"),
        r#"net.toml:6: layer "conv1": out_channels: expected an integer of at least 1, found 0"#
    );
    assert_eq!(
        conv_refusal("out_channels = -4"),
        r#"net.toml:6: layer "conv1": out_channels: expected an integer of at least 1, found -4"#
    );
    assert_eq!(
        conv_refusal("out_channels = 4.5"),
        r#"net.toml:6: layer "conv1": out_channels: expected an integer or an expression in quotes, found 4.5 (a float)"#
    );
    assert_eq!(
        conv_refusal("out_channels = 9e18"),
        r#"net.toml:6: layer "conv1": out_channels: expected an integer or an expression in quotes, found 9e18 (a float)"#
    );
    assert_eq!(
        conv_refusal("out_channels = 9000000000000000000"),
        r#"net.toml:3: layer "conv1": size of a tensor: expected a count of elements below 2^60, found 9000000000000000000x6x6"#
    );
    assert_eq!(
        conv_refusal("out_channels = 99999999999999999999"),
        r#"net.toml:6: layer "conv1": out_channels: expected an integer that fits 64 bits, found 99999999999999999999"#
    );
    assert_eq!(
        conv_refusal("out_channels = true"),
        r#"net.toml:6: layer "conv1": out_channels: expected an integer or an expression in quotes, found true"#
    );
    assert_eq!(
        conv_refusal("out_channels = \"2 - 2\""),
        r#"net.toml:6: layer "conv1": out_channels: expected an integer of at least 1, found 0 (from "2 - 2")"#
    );
    assert_eq!(
        conv_refusal("kernel = 0"),
        r#"net.toml:6: layer "conv1": kernel: expected an integer of at least 1, found 0"#
    );
    assert_eq!(
        conv_refusal("kernel = 9"),
        r#"net.toml:6: layer "conv1": kernel height (with dilation): expected at most the padded input height 8, found 9"#
    );
    assert_eq!(
        conv_refusal("kernel = [1, 2, 3]"),
        r#"net.toml:6: layer "conv1": kernel: expected an integer of at least 1, or two in brackets, found a list of 3"#
    );
    assert_eq!(
        conv_refusal("kernel = 9223372036854775807"),
        r#"net.toml:6: layer "conv1": kernel height (with dilation): expected at most the padded input height 8, found 9223372036854775807"#
    );
    assert_eq!(
        conv_refusal("dilation = 9223372036854775807"),
        r#"net.toml:6: layer "conv1": kernel height (with dilation): expected at most the padded input height 8, found 18446744073709551615"#
    );
    assert_eq!(
        conv_refusal("padding = 9223372036854775807"),
        r#"net.toml:7: layer "conv1": padding: expected a size that fits a machine word, found an overflow"#
    );
    assert_eq!(
        conv_refusal("padding = 2000000000"),
        r#"net.toml:3: layer "conv1": size of a tensor: expected a count of elements below 2^60, found 4x4000000006x4000000006"#
    );
    assert_eq!(
        conv_refusal("padding = -1"),
        r#"net.toml:7: layer "conv1": padding: expected an integer of at least 0, found -1"#
    );
    assert_eq!(
        conv_refusal("stride = 0"),
        r#"net.toml:7: layer "conv1": stride: expected an integer of at least 1, found 0"#
    );
    assert_eq!(
        conv_refusal("groups = 2"),
        r#"net.toml:7: layer "conv1": groups: expected a divisor of 3 input channels and 4 output channels, found 2"#
    );
    assert_eq!(
        conv_refusal("groups = 0"),
        r#"net.toml:7: layer "conv1": groups: expected an integer of at least 1, found 0"#
    );
    assert_eq!(
        conv_refusal("bias = 0.5"),
        r#"net.toml:7: layer "conv1": bias: expected true, false or an expression in quotes, found 0.5 (a float)"#
    );
    assert_eq!(
        conv_refusal("repeat = -1"),
        r#"net.toml:7: layer "conv1": repeat: expected an integer of at least 0, found -1"#
    );
    assert_eq!(
        refusal("[[layer]]\nname = \"d\"\nkind = \"dropout\"\np = 1.5"),
        r#"net.toml:6: layer "d": p: expected a number from 0 to below 1, found 1.5 (a float)"#
    );
    assert_eq!(
        refusal("[[layer]]\nname = \"d\"\nkind = \"batch_norm\"\nepsilon = nan"),
        r#"net.toml:6: layer "d": epsilon: expected a finite number, found nan (a float)"#
    );
    assert_eq!(
        refusal("[[layer]]\nname = \"d\"\nkind = \"leaky_relu\"\nalpha = 1e300"),
        r#"net.toml:6: layer "d": alpha: expected a finite number, found 1e300 (a float)"#
    );
    assert_eq!(
        refusal("[[layer]]\nname = \"d\"\nkind = \"clip\"\nmin = 2\nmax = 1"),
        r#"net.toml:7: layer "d": max: expected a number of at least min, which is 2, found 1"#
    );
    assert_eq!(
        refusal("[[layer]]\nname = \"d\"\nkind = \"linear\""),
        r#"net.toml:3: layer "d": out_features: expected an integer of at least 1, found nothing"#
    );
    assert_eq!(
        refusal("[[layer]]\nname = \"d\"\nkind = \"softmax\"\naxis = 3"),
        r#"net.toml:6: layer "d": axis: expected below 3, found 3"#
    );
    assert_eq!(
        refusal("[[layer]]\nname = \"d\"\nkind = \"reshape\"\nshape = [5, 5]"),
        r#"net.toml:6: layer "d": reshape keeps the number of elements: expected 192 elements (3x8x8), found 25 (5x5)"#
    );
    assert_eq!(
        refusal("[[layer]]\nname = \"d\"\nkind = \"reshape\"\nshape = [1,1,1,1,1,1,1,1,192]"),
        r#"net.toml:6: layer "d": shape: expected 1 to 8 axes, found 9"#
    );
    assert_eq!(
        refusal("[[layer]]\nname = \"\"\nkind = \"relu\""),
        r#"net.toml:4: name: expected visible characters without a space at either end, found """#
    );
    assert_eq!(
        refusal("[parameters]\n2x = 1\n[[layer]]\nkind = \"relu\""),
        r#"net.toml:4: name of a parameter: expected letters, digits and _, and no word of the expression language, found "2x""#
    );
    assert_eq!(
        refusal("[parameters]\nx = 1.5\n[[layer]]\nkind = \"relu\""),
        "net.toml:4: x: expected an integer, found 1.5 (a float)"
    );
}

#[test]
fn names_of_spaces_are_refused() {
    for name in [" ", "a ", "\t"] {
        assert_eq!(
            refusal(&format!("[[layer]]\nname = {name:?}\nkind = \"relu\"")),
            format!(
                "net.toml:4: name: expected visible characters without a space at either end, found {name:?}"
            )
        );
    }
}

#[test]
fn an_empty_list_of_names_is_said_to_be_empty() {
    assert_eq!(
        refusal("[[layer]]\nblock = \"a\""),
        r#"net.toml:4: layer "a1": block: expected none, as the file declares none, found "a""#
    );
}

#[test]
fn parameters_below_their_least_value_are_refused() {
    let file = |parameter: &str| {
        format!("name = \"n\"\ninput = [\"x\"]\n[parameters]\nx = {parameter}\n[[layer]]\nkind = \"relu\"")
    };
    let set = |parameter: &str, value| read_bytes("net.toml", file(parameter).as_bytes(), &[("x", value)]);
    assert_eq!(set("{ default = 3, least = 2 }", 2).unwrap().input, [2]);
    assert_eq!(
        message(set("{ default = 3, least = 2 }", 1)),
        "net.toml:4: --set x: expected an integer of at least 2, found 1"
    );
    for (parameter, expected) in [
        ("{ default = 1, least = 2 }", "default: expected an integer of at least 2, found 1"),
        ("{ least = 2 }", "default: expected an integer, found nothing"),
        ("{ default = \"3\" }", "default: expected an integer, found \"3\""),
        (
            "{ default = 3, most = 4 }",
            "key of parameter \"x\": expected one of default, least, found \"most\"",
        ),
    ] {
        assert_eq!(message(read_text(&file(parameter))), format!("net.toml:4: {expected}"));
    }
}

#[test]
fn blocks_of_several_inputs_are_given_as_many() {
    let block = |inputs: &str, use_: &str| {
        refusal(&format!(
            "[block.b]\ninputs = {inputs}\n[[block.b.layer]]\nkind = \"add\"\ninputs = [\"input\", \"p\"]\n[[layer]]\nblock = \"b\"\n{use_}"
        ))
    };
    assert_eq!(
        block(r#"["input", "p"]"#, r#"inputs = ["input"]"#),
        r#"net.toml:10: layer "b1": inputs of a block: expected 2 (input, p), found 1"#
    );
    for wrong in [r#"["p", "input"]"#, r#"["input", "p", "p"]"#] {
        assert_eq!(
            block(wrong, ""),
            format!(
                r#"net.toml:4: inputs: expected a list of different names that begins with "input", found {wrong}"#
            )
        );
    }
    assert_eq!(
        block(r#"["input", "add1"]"#, ""),
        r#"net.toml:5: "add1" is what the block reads; choose another name"#
    );
}

#[test]
fn padding_says_what_it_may_be() {
    assert_eq!(
        conv_refusal("padding = \"sam\""),
        r#"net.toml:7: layer "conv1": padding = "sam": there is no parameter "sam"; none is declared here"#
    );
    assert_eq!(
        conv_refusal("padding = [1, 2, 3]"),
        r#"net.toml:7: layer "conv1": padding: expected an integer of at least 0, [height, width], [top, left, bottom, right] or "same", found a list of 3"#
    );
    let pad = |padding: &str| refusal(&format!("[[layer]]\nkind = \"pad\"\npadding = {padding}"));
    assert_eq!(
        pad("[-4, 0, -4, 0]"),
        r#"net.toml:5: layer "pad1": padding: expected less than the 8 of the input's height cut off, found 8"#
    );
    assert_eq!(
        pad("9223372036854775807"),
        r#"net.toml:5: layer "pad1": padding: expected a size that fits a machine word, found an overflow"#
    );
    assert_eq!(
        pad("\"same\""),
        r#"net.toml:5: layer "pad1": padding = "same": there is no parameter "same"; none is declared here"#
    );
}

#[test]
fn powers_are_checked() {
    for (expression, problem) in [
        ("pow(2, 63)", "a value does not fit 64 bits"),
        ("pow(1, 99999999999)", "a value does not fit 64 bits"),
        ("pow(2, -1)", "pow needs an exponent of at least 0, found -1"),
        ("pow(2)", "pow takes 2 arguments, found 1"),
    ] {
        assert_eq!(
            conv_refusal(&format!("out_channels = \"{expression}\"")),
            format!("net.toml:6: layer \"conv1\": out_channels = {expression:?}: {problem}")
        );
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    assert_eq!(
        refusal(
            "[[layer]]\nname = \"a\"\nkind = \"max_pool\"\nkernel = 2\n[[layer]]\nname = \"sum\"\nkind = \"add\"\ninputs = [\"a\", \"input\"]"
        ),
        r#"net.toml:10: layer "sum": shape of an operand: expected 3x4x4, found 3x8x8"#
    );
    assert_eq!(
        refusal("[[layer]]\nname = \"a\"\nkind = \"max_pool\"\nkernel = 2\npadding = 2"),
        r#"net.toml:7: layer "a": padding of a pool: expected at most 1 (less than its kernel), found 2"#
    );
    assert_eq!(
        refusal(
            "[[layer]]\nkind = \"flatten\"\n[[layer]]\nname = \"c\"\nkind = \"conv\"\nout_channels = 1\nkernel = 1"
        ),
        r#"net.toml:5: layer "c": input shape: expected channels x height x width, found 192"#
    );
}

#[test]
fn a_residual_sum_of_unequal_shapes_is_refused_at_its_line() {
    let text = std::fs::read_to_string(shipped_path("resnet18")).unwrap();
    let text = text.replace("when = \"stride != 1\"", "when = false");
    let line = 1 + text.lines().position(|line| line.starts_with("inputs = [\"bn2\"")).unwrap();
    assert_eq!(
        message(read_text(&text)),
        format!(
            "net.toml:{line}: layer \"stage2.0.add\": shape of an operand: expected 128x28x28, found 64x56x56"
        )
    );
}

#[test]
fn the_totals_of_a_network_must_fit_as_well() {
    let pair = "[[layer]]\nkind = \"linear\"\nout_features = 100000000000000000\nbias = false\n[[layer]]\nkind = \"linear\"\nout_features = 1\nbias = false\n";
    let head = "[[layer]]\nkind = \"flatten\"\n[[layer]]\nkind = \"linear\"\nout_features = 1\n";
    assert_eq!(
        refusal(&(head.to_string() + &pair.repeat(200))),
        "net.toml: parameters of all layers: expected a count below 2^64, found an overflow"
    );
}

#[test]
fn wrong_expressions_are_refused() {
    assert_eq!(
        conv_refusal("out_channels = \"widht * 2\""),
        r#"net.toml:6: layer "conv1": out_channels = "widht * 2": there is no parameter "widht"; none is declared here"#
    );
    assert_eq!(
        conv_refusal("out_channels = \"8 / (1 - 1)\""),
        r#"net.toml:6: layer "conv1": out_channels = "8 / (1 - 1)": division by zero"#
    );
    assert_eq!(
        conv_refusal("out_channels = \"9223372036854775807 + 1\""),
        r#"net.toml:6: layer "conv1": out_channels = "9223372036854775807 + 1": a value does not fit 64 bits"#
    );
    assert_eq!(
        conv_refusal("out_channels = \"\""),
        r#"net.toml:6: layer "conv1": out_channels = "": expected a number, a parameter or "(", found the end"#
    );
    assert_eq!(
        conv_refusal("out_channels = \"same\""),
        r#"net.toml:6: layer "conv1": out_channels = "same": there is no parameter "same"; none is declared here"#
    );
    let open = "(".repeat(60);
    assert_eq!(
        conv_refusal(&format!("out_channels = \"{}1\"", "(".repeat(100))),
        format!(
            r#"net.toml:6: layer "conv1": out_channels = "{open}": the expression nests more than 32 deep; simplify it"#
        )
    );
    assert_eq!(
        conv_refusal(&format!("out_channels = \"{}1\"", "(".repeat(1_000_000))),
        format!(
            r#"net.toml:6: layer "conv1": out_channels = "{open}": the expression has 1000001 bytes, at most 256 are allowed; split it into parameters"#
        )
    );
    assert_eq!(
        conv_refusal("stride = \"index + 1\""),
        r#"net.toml:7: layer "conv1": stride = "index + 1": "index" counts the repetitions of a layer and is only known where one has `repeat`"#
    );
}

#[test]
fn bombs_are_refused() {
    assert_eq!(
        conv_refusal("repeat = 9223372036854775807"),
        r#"net.toml:3: layer "conv1.99999": layers, blocks and repetitions: expected at most 100000, found more"#
    );
    let nested = |depth: usize| -> String {
        (0..depth).map(|i| format!("[[block.b{i}.layer]]\nblock = \"b{}\"\nrepeat = 1000\n", i + 1)).collect()
    };
    let leaf =
        |depth: usize| format!("[[block.b{depth}.layer]]\nkind = \"relu\"\n[[layer]]\nblock = \"b0\"\n");
    assert_eq!(
        refusal(&(nested(5) + &leaf(5))),
        r#"net.toml:15: layer "b01.b11.0.b21.0.b31.0.b41.49.b51.946": layers, blocks and repetitions: expected at most 100000, found more"#
    );
    assert_eq!(
        refusal(&(nested(50) + &leaf(50))),
        r#"net.toml:24: layer "b81": blocks nest more than 8 deep; flatten them"#
    );
    assert_eq!(
        refusal(
            "[[layer]]\nblock = \"a\"\n[[block.a.layer]]\nblock = \"b\"\n[[block.b.layer]]\nkind = \"relu\"\n[[block.b.layer]]\nblock = \"a\""
        ),
        r#"net.toml:9: layer "a1": the blocks contain each other in a cycle: a -> b -> a; break it"#
    );
    assert_eq!(
        refusal("[[layer]]\nkind = \"relu\"\n[[block.a.layer]]\nblock = \"a\""),
        r#"net.toml:5: layer "a1": the blocks contain each other in a cycle: a -> a; break it"#
    );
    assert_eq!(
        refusal("[[layer]]\nblock = \"a\"\n[block.a]"),
        r#"net.toml:5: layer of block "a": expected at least one [[layer]], found nothing"#
    );
    assert_eq!(
        refusal(
            "[[layer]]\nblock = \"a\"\nrepeat = 1\ninputs = [\"input\", \"input\"]\n[[block.a.layer]]\nkind = \"relu\""
        ),
        r#"net.toml:6: layer "a1.0": inputs of a block: expected one, found 2"#
    );
    let names = vec!["\"input\""; 1000].join(", ");
    assert_eq!(
        refusal(&format!("[[layer]]\nkind = \"concat\"\nrepeat = 1000\ninputs = [{names}]")),
        r#"net.toml:3: layer "concat1.399": inputs of all layers: expected at most 400000, found more"#
    );
}
