//! Small networks that have every kind of layer, in the shapes where a library or an order of axes is likely to be
//! mistaken.

use std::collections::BTreeMap;

use layerjoule::network::{
    Activation, Conv, Definition, INPUT, LayerDefinition, LayerKind, Linear, Lrn, Network, Origin, Pool,
};

/// A network with a name that says what it is there for.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) network: Network,
    pub(crate) batch: usize,
}

/// A layer's kind and the numbers of the layers before it that it reads; none for the network's input.
type Node = (LayerKind, &'static [Option<usize>]);

/// The input alone.
const IN: &[Option<usize>] = &[None];
/// The first, second and third layer alone.
const L0: &[Option<usize>] = &[Some(0)];
const L1: &[Option<usize>] = &[Some(1)];
const L2: &[Option<usize>] = &[Some(2)];

fn network(name: &str, input: &[usize], nodes: Vec<Node>) -> Network {
    let read = |node: &Option<usize>| node.map_or(INPUT.to_string(), |layer| format!("l{layer}"));
    let layers = nodes.into_iter().enumerate().map(|(index, (kind, inputs))| LayerDefinition {
        name: format!("l{index}"),
        kind,
        inputs: inputs.iter().map(read).collect(),
        origin: Origin::File,
        values: BTreeMap::new(),
        same_padding: false,
    });
    let definition = Definition {
        name: name.to_string(),
        file: "conformance".to_string(),
        sha256: String::new(),
        input: input.to_vec(),
        set: BTreeMap::new(),
        layers: layers.collect(),
    };
    Network::new(definition).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Three by three, in one group, with bias, so that all four sides are padded by 1.
fn conv(out_channels: usize) -> Conv {
    Conv {
        out_channels,
        kernel: [3; 2],
        stride: [1; 2],
        padding: [1; 4],
        dilation: [1; 2],
        groups: 1,
        bias: true,
    }
}

fn pool(kernel: usize, stride: usize, padding: usize) -> Pool {
    Pool {
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 4],
        dilation: [1; 2],
        ceil_mode: false,
        count_include_pad: true,
    }
}

fn linear(out_features: usize, bias: bool) -> LayerKind {
    LayerKind::Linear(Linear { out_features, bias })
}

fn relu() -> LayerKind {
    LayerKind::Activation(Activation::Relu)
}

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = convolutions();
    cases.extend(products());
    cases.extend(windows());
    cases.extend(normalisations());
    cases.extend(elementwise());
    cases.extend(movements());
    cases
}

fn case(name: &'static str, input: &[usize], nodes: Vec<Node>) -> Case {
    Case { name, network: network(name, input, nodes), batch: 3 }
}

fn convolutions() -> Vec<Case> {
    let of = |name, input: &[usize], conv| case(name, input, vec![(LayerKind::Conv(conv), IN)]);
    vec![
        of("conv 3x3 with bias", &[8, 7, 6], conv(16)),
        of("conv 3x3 without bias", &[8, 7, 6], Conv { bias: false, ..conv(16) }),
        of("conv of odd channels", &[3, 9, 5], conv(7)),
        of("conv 1x1", &[16, 5, 5], Conv { kernel: [1; 2], padding: [0; 4], ..conv(8) }),
        of("conv with stride", &[8, 9, 8], Conv { stride: [2, 3], ..conv(8) }),
        of("conv with dilation", &[8, 9, 9], Conv { dilation: [2; 2], padding: [2; 4], ..conv(8) }),
        of("conv padded on two sides", &[4, 6, 6], Conv { stride: [2; 2], padding: [0, 0, 1, 1], ..conv(8) }),
        of("conv padded by 3 2 0 1", &[4, 6, 6], Conv { padding: [3, 2, 0, 1], ..conv(5) }),
        of("conv in groups", &[8, 6, 6], Conv { groups: 2, ..conv(16) }),
        of("depthwise conv", &[8, 6, 6], Conv { groups: 8, ..conv(8) }),
        of("conv of one channel", &[1, 8, 8], Conv { kernel: [5; 2], padding: [0; 4], ..conv(4) }),
        of("conv of one place", &[8, 1, 1], conv(8)),
        of("conv to one channel", &[8, 5, 5], Conv { bias: false, ..conv(1) }),
        of("conv of uneven window", &[4, 8, 9], Conv { kernel: [1, 5], padding: [0, 2, 0, 2], ..conv(6) }),
        case(
            "residual block",
            &[8, 6, 6],
            vec![
                (LayerKind::Conv(Conv { bias: false, ..conv(8) }), IN),
                (LayerKind::BatchNorm { epsilon: 1e-5 }, L0),
                (relu(), L1),
                (LayerKind::Conv(conv(8)), L2),
                (LayerKind::Add { operand: None }, &[Some(3), None]),
            ],
        ),
    ]
}

fn products() -> Vec<Case> {
    vec![
        case("linear", &[40], vec![(linear(24, true), IN)]),
        case("linear without bias", &[40], vec![(linear(24, false), IN)]),
        case("linear of odd sizes", &[37], vec![(linear(11, true), IN)]),
        case("linear of matrices", &[5, 16], vec![(linear(8, true), IN)]),
        case("linear of planes", &[3, 4, 8], vec![(linear(8, true), IN)]),
        case(
            "linear of flattened planes",
            &[4, 3, 5],
            vec![
                (LayerKind::Conv(conv(6)), IN),
                (relu(), L0),
                (LayerKind::Flatten, L1),
                (linear(9, true), L2),
            ],
        ),
        case(
            "linear of reshaped planes",
            &[4, 3, 4],
            vec![(LayerKind::Reshape { shape: vec![6, 8] }, IN), (linear(8, true), L0)],
        ),
    ]
}

fn windows() -> Vec<Case> {
    let max = |name, pool| case(name, &[5, 9, 8], vec![(LayerKind::MaxPool(pool), IN)]);
    let mean = |name, pool| case(name, &[5, 9, 8], vec![(LayerKind::AvgPool(pool), IN)]);
    let uneven = [0, 1, 1, 0];
    vec![
        max("max pool", pool(2, 2, 0)),
        max("padded max pool", pool(3, 2, 1)),
        max("max pool in ceil mode", Pool { ceil_mode: true, ..pool(3, 2, 0) }),
        max("max pool with dilation", Pool { dilation: [2; 2], ..pool(3, 1, 1) }),
        max("max pool padded on two sides", Pool { padding: uneven, ..pool(3, 2, 0) }),
        mean("mean pool", pool(2, 2, 0)),
        mean("mean pool that counts its padding", pool(3, 2, 1)),
        mean("mean pool that does not", Pool { count_include_pad: false, ..pool(3, 2, 1) }),
        mean("mean pool in ceil mode", Pool { ceil_mode: true, ..pool(3, 2, 1) }),
        mean("mean pool padded on two sides", Pool { padding: uneven, ..pool(3, 2, 0) }),
        case("global mean", &[6, 5, 7], vec![(LayerKind::GlobalAvgPool, IN)]),
        case("global maximum", &[6, 5, 7], vec![(LayerKind::GlobalMaxPool, IN)]),
    ]
}

fn normalisations() -> Vec<Case> {
    let lrn = |name, size, k| {
        let kind = LayerKind::Lrn(Lrn { size, alpha: 0.5, beta: 0.75, k });
        case(name, &[7, 4, 5], vec![(kind, IN)])
    };
    let softmax = |name, input: &[usize], axis| case(name, input, vec![(LayerKind::Softmax { axis }, IN)]);
    vec![
        case("batch norm", &[6, 4, 5], vec![(LayerKind::BatchNorm { epsilon: 1e-3 }, IN)]),
        case("batch norm of vectors", &[6], vec![(LayerKind::BatchNorm { epsilon: 1e-3 }, IN)]),
        case(
            "batch norm of a flattened tensor",
            &[3, 2, 2],
            vec![
                (LayerKind::MaxPool(pool(1, 1, 0)), IN),
                (LayerKind::Flatten, L0),
                (LayerKind::BatchNorm { epsilon: 1e-3 }, L1),
            ],
        ),
        lrn("lrn", 5, 1.0),
        lrn("lrn of even size", 4, 2.0),
        lrn("lrn beyond cuDNN's sizes", 17, 1.0),
        softmax("softmax", &[10], 0),
        softmax("softmax of channels", &[5, 3, 4], 0),
        softmax("softmax of columns", &[5, 3, 4], 2),
        softmax("softmax of rows of a matrix", &[6, 7], 0),
    ]
}

fn elementwise() -> Vec<Case> {
    let activations = [
        ("relu", Activation::Relu),
        ("relu6", Activation::Relu6),
        ("leaky_relu", Activation::LeakyRelu { alpha: 0.125 }),
        ("sigmoid", Activation::Sigmoid),
        ("tanh", Activation::Tanh),
        ("silu", Activation::Silu),
        ("hard_swish", Activation::HardSwish),
        ("hard_sigmoid", Activation::HardSigmoid { alpha: 0.25, beta: 0.5 }),
        ("clip", Activation::Clip { min: -0.5, max: 0.75 }),
    ];
    let mut cases: Vec<Case> = activations
        .into_iter()
        .map(|(name, of)| case(name, &[5, 3, 7], vec![(LayerKind::Activation(of), IN)]))
        .collect();
    let by = |name, operand: &[usize], sum: bool| {
        let operand = Some(operand.to_vec());
        let kind = if sum { LayerKind::Add { operand } } else { LayerKind::Mul { operand } };
        case(name, &[4, 3, 5], vec![(kind, IN)])
    };
    cases.extend([
        by("sum with a whole operand", &[4, 3, 5], true),
        by("sum with an operand per channel", &[4, 1, 1], true),
        by("product with an operand per column", &[5], false),
        by("product with a number", &[1], false),
        case(
            "sum of two",
            &[4, 3, 5],
            vec![(relu(), IN), (LayerKind::Add { operand: None }, &[Some(0), None])],
        ),
        case(
            "sum of five",
            &[4, 3, 5],
            vec![(relu(), IN), (LayerKind::Add { operand: None }, &[Some(0), None, None, Some(0), None])],
        ),
        case(
            "product with a gate",
            &[4, 3, 5],
            vec![(LayerKind::GlobalAvgPool, IN), (LayerKind::Mul { operand: None }, &[None, Some(0)])],
        ),
        case(
            "sum with an operand after flattening",
            &[4, 3, 5],
            vec![
                (LayerKind::MaxPool(pool(1, 1, 0)), IN),
                (LayerKind::Flatten, L0),
                (LayerKind::Add { operand: Some(vec![60]) }, L1),
                (linear(7, true), L2),
            ],
        ),
        case(
            "stretched operand after reshaping",
            &[4, 3, 5],
            vec![
                (LayerKind::Reshape { shape: vec![10, 6] }, IN),
                (LayerKind::Mul { operand: Some(vec![6]) }, L0),
            ],
        ),
    ]);
    cases
}

fn movements() -> Vec<Case> {
    vec![
        case(
            "concat of channels",
            &[4, 3, 5],
            vec![(LayerKind::Conv(conv(6)), IN), (LayerKind::Concat { axis: 0 }, &[None, Some(0), None])],
        ),
        case(
            "concat of columns",
            &[4, 3, 5],
            vec![(relu(), IN), (LayerKind::Concat { axis: 2 }, &[None, Some(0)])],
        ),
        case(
            "concat of flattened tensors",
            &[4, 3, 5],
            vec![
                (LayerKind::Flatten, IN),
                (relu(), L0),
                (LayerKind::Concat { axis: 0 }, &[Some(0), Some(1)]),
            ],
        ),
        case("transpose", &[4, 3, 5], vec![(LayerKind::Transpose { perm: vec![2, 0, 1] }, IN)]),
        case(
            "transpose after reshaping",
            &[4, 3, 5],
            vec![
                (LayerKind::Reshape { shape: vec![6, 10] }, IN),
                (LayerKind::Transpose { perm: vec![1, 0] }, L0),
            ],
        ),
        case("channel shuffle", &[6, 3, 5], vec![(LayerKind::ChannelShuffle { groups: 3 }, IN)]),
        case("pad", &[4, 3, 5], vec![(LayerKind::Pad { padding: [1, 2, 0, 3], value: 0.5 }, IN)]),
        case("pad and cut", &[4, 5, 5], vec![(LayerKind::Pad { padding: [-1, 2, 1, -2], value: 0.0 }, IN)]),
    ]
}
