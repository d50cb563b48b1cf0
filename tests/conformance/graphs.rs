//! Random small networks with residual sums, concatenations, gates and views.

use layerjoule::network::{Activation, Conv, INPUT, LayerKind, Linear, Pool};
use proptest::prelude::*;

use super::{Node, check, network};

/// A graph under construction: every tensor so far with its shape.
struct Graph {
    nodes: Vec<Node>,
    tensors: Vec<(String, [usize; 3])>,
}

fn conv(out_channels: usize, kernel: usize, groups: usize) -> LayerKind {
    LayerKind::Conv(Conv {
        out_channels,
        kernel: [kernel; 2],
        stride: [1, 1],
        padding: [kernel / 2; 4],
        dilation: [1, 1],
        groups,
        bias: groups == 1,
    })
}

impl Graph {
    fn push(&mut self, kind: LayerKind, inputs: &[usize], shape: [usize; 3]) -> usize {
        let name = format!("t{}", self.tensors.len());
        let inputs = inputs.iter().map(|&i| self.tensors[i].0.clone()).collect();
        self.nodes.push((name.clone(), kind, inputs));
        self.tensors.push((name, shape));
        self.tensors.len() - 1
    }

    /// One of the tensors that fit, or the newest if none does.
    fn pick(&self, choice: usize, fits: impl Fn([usize; 3]) -> bool) -> usize {
        let fitting: Vec<usize> = (0..self.tensors.len()).filter(|&i| fits(self.tensors[i].1)).collect();
        fitting.get(choice % fitting.len().max(1)).copied().unwrap_or(self.tensors.len() - 1)
    }

    /// Adds what `operation` says, reading the tensor that `choice` points at.
    fn grow(&mut self, operation: usize, choice: usize) {
        let at = self.tensors.len() - 1 - choice % self.tensors.len().min(3);
        let shape @ [c, h, w] = self.tensors[at].1;
        let keep = |kind| (kind, vec![at], shape);
        let (kind, inputs, shape) = match operation {
            0 => keep(conv(c, 3, 1)),
            1 => keep(LayerKind::Activation(Activation::Relu)),
            2 => keep(LayerKind::BatchNorm { epsilon: 1e-5 }),
            3 => keep(LayerKind::Dropout { p: 0.5 }),
            4 => keep(conv(c, 3, c)),
            5 => (conv(choice % 7 + 1, 1, 1), vec![at], [choice % 7 + 1, h, w]),
            6 => {
                let other = self.pick(choice, |s| s == shape);
                (LayerKind::Add { operand: None }, vec![at, other], shape)
            }
            7 if c < 40 => {
                let other = self.pick(choice, |s| s[1..] == [h, w] && s[0] < 40);
                let channels = c + self.tensors[other].1[0];
                (LayerKind::Concat { axis: 0 }, vec![at, other], [channels, h, w])
            }
            8 if h > 1 && w > 1 => {
                let pool = Pool {
                    kernel: [2, 2],
                    stride: [2, 2],
                    padding: [0; 4],
                    dilation: [1, 1],
                    ceil_mode: true,
                    count_include_pad: false,
                };
                (LayerKind::MaxPool(pool), vec![at], [c, h.div_ceil(2), w.div_ceil(2)])
            }
            _ => {
                // A squeeze-and-excitation gate (Hu 2018).
                let mean = self.push(LayerKind::GlobalAvgPool, &[at], [c, 1, 1]);
                let squeezed = self.push(conv(c, 1, 1), &[mean], [c, 1, 1]);
                let gate = self.push(LayerKind::Activation(Activation::Sigmoid), &[squeezed], [c, 1, 1]);
                (LayerKind::Mul { operand: None }, vec![at, gate], shape)
            }
        };
        self.push(kind, &inputs, shape);
    }

    /// Ends in a classifier over the newest tensor; other loose ends stay results of their own.
    fn finish(mut self) -> Vec<Node> {
        let last = self.tensors.len() - 1;
        let [c, h, w] = self.tensors[last].1;
        let flat = self.push(LayerKind::Flatten, &[last], [c * h * w, 1, 1]);
        let scores =
            self.push(LayerKind::Linear(Linear { out_features: 10, bias: true }), &[flat], [10, 1, 1]);
        self.push(LayerKind::Softmax { axis: 0 }, &[scores], [10, 1, 1]);
        self.nodes
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_agree_layer_by_layer_and_buffers_may_be_reused(
        input in prop::array::uniform3(1..7usize),
        growth in prop::collection::vec((0..10usize, any::<u16>()), 1..25),
        (batch, threads, seed) in (1..4usize, 1..3usize, any::<u64>()),
    ) {
        let mut graph = Graph { nodes: Vec::new(), tensors: vec![(INPUT.to_string(), input)] };
        growth.iter().for_each(|&(operation, choice)| graph.grow(operation, usize::from(choice)));
        check(&network(&input, graph.finish()), batch, threads, seed);
    }
}
