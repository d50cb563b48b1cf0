//! The kinds of layers, their keys and defaults.

use super::fields::{Fields, SAME};
use super::place::Misplaced;
use crate::network::{Activation, Conv, LayerKind, Linear, Lrn, Pool};

const POOL: &[&str] = &["kernel", "stride", "padding", "dilation", "ceil_mode"];

/// Every kind with its keys, beside those that all layers have.
pub(super) const KINDS: &[(&str, &[&str])] = &[
    ("conv", &["out_channels", "kernel", "stride", "padding", "dilation", "groups", "bias"]),
    ("linear", &["out_features", "bias"]),
    ("relu", &[]),
    ("relu6", &[]),
    ("leaky_relu", &["alpha"]),
    ("sigmoid", &[]),
    ("tanh", &[]),
    ("silu", &[]),
    ("hard_swish", &[]),
    ("hard_sigmoid", &["alpha", "beta"]),
    ("clip", &["min", "max"]),
    ("max_pool", POOL),
    ("avg_pool", &["kernel", "stride", "padding", "dilation", "ceil_mode", "count_include_pad"]),
    ("global_avg_pool", &[]),
    ("global_max_pool", &[]),
    ("batch_norm", &["epsilon"]),
    ("lrn", &["size", "alpha", "beta", "k"]),
    ("add", &["operand"]),
    ("mul", &["operand"]),
    ("concat", &["axis"]),
    ("flatten", &[]),
    ("reshape", &["shape"]),
    ("transpose", &["perm"]),
    ("channel_shuffle", &["groups"]),
    ("dropout", &["p"]),
    ("softmax", &["axis"]),
    ("pad", &["padding", "value"]),
];

/// The keys of a kind, if there is such a kind.
pub(super) fn keys(kind: &str) -> Option<&'static [&'static str]> {
    KINDS.iter().find(|(name, _)| *name == kind).map(|(_, keys)| *keys)
}

/// The kind with the values of its keys. `name` is one of [`KINDS`].
pub(super) fn layer_kind(name: &str, fields: &Fields<'_>) -> Result<LayerKind, Misplaced> {
    if let Some(activation) = activation(name, fields)? {
        return Ok(LayerKind::Activation(activation));
    }
    Ok(match name {
        "conv" => LayerKind::Conv(conv(fields)?),
        "linear" => LayerKind::Linear(Linear {
            out_features: fields.size("out_features", 1, None)?,
            bias: fields.flag("bias", true)?,
        }),
        "max_pool" => LayerKind::MaxPool(pool(fields)?),
        "avg_pool" => LayerKind::AvgPool(pool(fields)?),
        "global_avg_pool" => LayerKind::GlobalAvgPool,
        "global_max_pool" => LayerKind::GlobalMaxPool,
        // The default of PyTorch's BatchNorm2d and of ONNX's BatchNormalization.
        "batch_norm" => {
            LayerKind::BatchNorm { epsilon: fields.number_in("epsilon", 0.0..f32::INFINITY, 1e-5)? }
        }
        // The defaults of ONNX's LRN.
        "lrn" => LayerKind::Lrn(Lrn {
            size: fields.size("size", 1, None)?,
            alpha: fields.number("alpha", Some(1e-4))?,
            beta: fields.number("beta", Some(0.75))?,
            k: fields.number("k", Some(1.0))?,
        }),
        "add" => LayerKind::Add { operand: fields.optional_sizes("operand")? },
        "mul" => LayerKind::Mul { operand: fields.optional_sizes("operand")? },
        "concat" => LayerKind::Concat { axis: fields.size("axis", 0, Some(0))? },
        "flatten" => LayerKind::Flatten,
        "reshape" => LayerKind::Reshape { shape: fields.sizes("shape")? },
        "transpose" => LayerKind::Transpose { perm: fields.axes("perm")? },
        "channel_shuffle" => LayerKind::ChannelShuffle { groups: fields.size("groups", 1, None)? },
        "dropout" => LayerKind::Dropout { p: fields.number_in("p", 0.0..1.0, 0.5)? },
        "softmax" => LayerKind::Softmax { axis: fields.size("axis", 0, Some(0))? },
        "pad" => {
            LayerKind::Pad { padding: fields.border("padding")?, value: fields.number("value", Some(0.0))? }
        }
        _ => return Err(fields.wrong("kind", "the name of a kind")),
    })
}

/// Whether the padding of a kind's window follows from the size of what it reads.
pub(super) fn same_padding(kind: &LayerKind, fields: &Fields<'_>) -> bool {
    let window = matches!(kind, LayerKind::Conv(_) | LayerKind::MaxPool(_) | LayerKind::AvgPool(_));
    window && fields.says("padding", SAME)
}

fn activation(name: &str, fields: &Fields<'_>) -> Result<Option<Activation>, Misplaced> {
    Ok(Some(match name {
        "relu" => Activation::Relu,
        "relu6" => Activation::Relu6,
        // The defaults of PyTorch and of ONNX.
        "leaky_relu" => Activation::LeakyRelu { alpha: fields.number("alpha", Some(0.01))? },
        "sigmoid" => Activation::Sigmoid,
        "tanh" => Activation::Tanh,
        "silu" => Activation::Silu,
        "hard_swish" => Activation::HardSwish,
        // PyTorch's and MobileNetV3's constants (Howard 2019, arXiv:1905.02244, section 5.2).
        "hard_sigmoid" => Activation::HardSigmoid {
            alpha: fields.number("alpha", Some(1.0 / 6.0))?,
            beta: fields.number("beta", Some(0.5))?,
        },
        "clip" => {
            let (min, max) = (fields.number("min", None)?, fields.number("max", None)?);
            if min > max {
                return Err(fields.wrong("max", &format!("a number of at least min, which is {min}")));
            }
            Activation::Clip { min, max }
        }
        _ => return Ok(None),
    }))
}

fn conv(fields: &Fields<'_>) -> Result<Conv, Misplaced> {
    Ok(Conv {
        out_channels: fields.size("out_channels", 1, None)?,
        kernel: fields.size2("kernel", 1, None)?,
        stride: fields.size2("stride", 1, Some([1, 1]))?,
        padding: fields.padding("padding")?,
        dilation: fields.size2("dilation", 1, Some([1, 1]))?,
        groups: fields.size("groups", 1, Some(1))?,
        bias: fields.flag("bias", true)?,
    })
}

fn pool(fields: &Fields<'_>) -> Result<Pool, Misplaced> {
    let kernel = fields.size2("kernel", 1, None)?;
    Ok(Pool {
        kernel,
        stride: fields.size2("stride", 1, Some(kernel))?,
        padding: fields.padding("padding")?,
        dilation: fields.size2("dilation", 1, Some([1, 1]))?,
        ceil_mode: fields.flag("ceil_mode", false)?,
        // PyTorch's default, which ONNX does not share.
        count_include_pad: fields.flag("count_include_pad", true)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::network::text::definition;

    /// The only layer of a file that has these lines for it.
    fn kind_of(lines: &str) -> LayerKind {
        let text = format!("name = 'n'\ninput = [4, 8, 8]\n[[layer]]\n{lines}");
        definition("n.toml", &text, "", &[]).unwrap().layers.remove(0).kind
    }

    #[test]
    fn every_kind_and_key_is_documented_and_nothing_else_is() {
        let page = include_str!("../../../docs/network-format.md");
        let section = page.split("## Kinds").nth(1).unwrap().split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let quoted =
            |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_string).collect() };
        let documented: BTreeMap<String, Vec<String>> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').collect();
                (quoted(cells[1]).remove(0), quoted(cells[2]))
            })
            .collect();
        let mut expected: BTreeMap<String, Vec<String>> = KINDS
            .iter()
            .map(|(kind, keys)| (kind.to_string(), keys.iter().map(|key| key.to_string()).collect()))
            .collect();
        // The page refers to the keys of max_pool there.
        expected
            .insert("avg_pool".to_string(), vec!["max_pool".to_string(), "count_include_pad".to_string()]);
        assert_eq!(documented, expected);
    }

    #[test]
    fn every_kind_is_built_under_its_own_name() {
        let given = [
            ("conv", "out_channels = 2\nkernel = 1"),
            ("linear", "out_features = 2"),
            ("clip", "min = 0\nmax = 1"),
            ("max_pool", "kernel = 2"),
            ("avg_pool", "kernel = 2"),
            ("lrn", "size = 5"),
            ("reshape", "shape = [256]"),
            ("transpose", "perm = [1, 2, 0]"),
            ("channel_shuffle", "groups = 2"),
            ("pad", "padding = 1"),
        ];
        let given: BTreeMap<&str, &str> = given.into_iter().collect();
        for (kind, _) in KINDS {
            let lines = given.get(kind).copied().unwrap_or_default();
            assert_eq!(kind_of(&format!("kind = '{kind}'\n{lines}")).name(), *kind);
        }
    }

    #[test]
    fn defaults_are_those_of_the_page() {
        let LayerKind::Conv(conv) = kind_of("kind = 'conv'\nout_channels = 2\nkernel = [3, 5]") else {
            panic!()
        };
        let expected = Conv {
            out_channels: 2,
            kernel: [3, 5],
            stride: [1, 1],
            padding: [0; 4],
            dilation: [1, 1],
            groups: 1,
            bias: true,
        };
        assert_eq!(conv, expected);
        let LayerKind::AvgPool(pool) = kind_of("kind = 'avg_pool'\nkernel = [3, 2]") else { panic!() };
        assert_eq!((pool.stride, pool.padding, pool.dilation), ([3, 2], [0; 4], [1, 1]));
        assert!(!pool.ceil_mode && pool.count_include_pad);
        assert_eq!(kind_of("kind = 'batch_norm'"), LayerKind::BatchNorm { epsilon: 1e-5 });
        assert_eq!(kind_of("kind = 'dropout'"), LayerKind::Dropout { p: 0.5 });
        let lrn = Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 };
        assert_eq!(kind_of("kind = 'lrn'\nsize = 5"), LayerKind::Lrn(lrn));
    }

    #[test]
    fn padding_is_given_for_all_for_both_axes_or_for_each_side() {
        for (text, padding) in [("1", [1; 4]), ("[1, 2]", [1, 2, 1, 2]), ("[1, 2, 3, 4]", [1, 2, 3, 4])] {
            let kind = kind_of(&format!("kind = 'pad'\npadding = {text}\nvalue = -1.5"));
            assert_eq!(kind, LayerKind::Pad { padding, value: -1.5 });
        }
    }

    #[test]
    fn a_negative_border_is_cut_off() {
        let kind = kind_of("kind = 'pad'\npadding = [-1, 0, '1 - 3', 4]");
        assert_eq!(kind, LayerKind::Pad { padding: [-1, 0, -2, 4], value: 0.0 });
    }

    #[test]
    fn same_padding_is_left_to_the_shapes() {
        let same = |lines: &str| {
            let text = format!("name = 'n'\ninput = [4, 8, 8]\n[[layer]]\n{lines}\npadding = 'same'");
            definition("n.toml", &text, "", &[]).unwrap().layers.remove(0).same_padding
        };
        assert!(same("kind = 'conv'\nout_channels = 2\nkernel = 3"));
        assert!(same("kind = 'avg_pool'\nkernel = 3\nstride = 2"));
    }

    #[test]
    fn an_operand_is_a_stored_tensor() {
        let kind = kind_of("kind = 'mul'\noperand = ['2 + 2', 1, 1]");
        assert_eq!(kind, LayerKind::Mul { operand: Some(vec![4, 1, 1]) });
        assert_eq!(kind_of("kind = 'add'"), LayerKind::Add { operand: None });
    }
}
