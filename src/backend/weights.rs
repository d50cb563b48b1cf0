//! Numbers for weights and input.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use crate::network::{LayerKind, Network, Parameter, Role, Values};

use super::{BackendError, host_memory};

/// How to draw what the network file does not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightOptions {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Items in the input.
    pub batch: usize,
}

/// All stored tensors of a network and one batch of input.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensors {
    /// For each layer, its parameters in the order of [`crate::network::Layer::parameters`], row-major.
    pub parameters: Vec<Vec<Arc<[f32]>>>,
    /// The whole batch, row-major: batch x the network's input shape.
    pub input: Vec<f32>,
    /// How they were made, in words.
    pub distribution: String,
}

/// Elements drawn from one generator. Fixed, so that the numbers do not depend on the number of threads.
const BLOCK: usize = 1 << 16;

/// Stands for the input where a layer's index is asked for; no network has as many layers.
const INPUT_STREAM: u64 = u64::MAX;

impl Tensors {
    /// Takes the file's numbers and draws the others.
    ///
    /// A tensor's random numbers depend on the seed, the index of its layer and its place in the layer, not
    /// on other layers or on the number of threads.
    ///
    /// # Errors
    ///
    /// The tensors do not fit into the memory that is available.
    pub fn new(network: &Network, options: &WeightOptions) -> Result<Self, BackendError> {
        let items: usize = network.input.iter().product();
        let input_len = items.checked_mul(options.batch);
        let made = network.layers.iter().flat_map(|l| &l.parameters).filter(|p| !is_stored(p));
        let needed = input_len.and_then(|n| host_memory::f32_bytes(made.map(Parameter::len).chain([n])));
        host_memory::require("the host", needed)?;

        let parameters = network.layers.iter().enumerate().map(|(index, layer)| {
            let tensor = |(place, parameter): (usize, &Parameter)| {
                let stream = Stream { seed: options.seed, layer: index as u64, parameter: place as u64 };
                make(&layer.kind, parameter, stream)
            };
            layer.parameters.iter().enumerate().map(tensor).collect()
        });
        let parameters = parameters.collect();
        let mut input = vec![0.0; input_len.unwrap_or(0)];
        let stream = Stream { seed: options.seed, layer: INPUT_STREAM, parameter: 0 };
        Draw::Normal { std: 1.0 }.fill(&mut input, stream);
        Ok(Self { parameters, input, distribution: describe(network) })
    }

    /// Nothing, for a device that computes nothing.
    pub fn none() -> Self {
        let distribution = "none: nothing is computed".to_string();
        Self { parameters: Vec::new(), input: Vec::new(), distribution }
    }
}

fn is_stored(parameter: &Parameter) -> bool {
    matches!(parameter.values, Values::Stored(_))
}

fn make(kind: &LayerKind, parameter: &Parameter, stream: Stream) -> Arc<[f32]> {
    let filled = |value| std::iter::repeat_n(value, parameter.len()).collect::<Arc<[f32]>>();
    match &parameter.values {
        Values::Stored(values) => Arc::clone(values),
        Values::Fill(value) => filled(*value),
        Values::Random => {
            let mut values = filled(0.0);
            let slice = Arc::get_mut(&mut values).expect("a new Arc has one owner");
            Draw::of(kind, parameter).fill(slice, stream);
            values
        }
    }
}

/// A distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Draw {
    /// Mean zero.
    Normal { std: f32 },
    /// 0.5 to 1.5.
    AroundOne,
}

impl Draw {
    /// Distributions that keep the magnitude of activations near 1 through many layers, as trained networks
    /// do; numbers that overflow or become denormal would change the time and the power of the arithmetic.
    fn of(kind: &LayerKind, parameter: &Parameter) -> Self {
        match parameter.role {
            Role::Weight => {
                let fan_in: usize = parameter.shape.iter().skip(1).product();
                // He et al. 2015 (arXiv 1502.01852), equation 10.
                Self::Normal { std: (2.0 / fan_in.max(1) as f64).sqrt() as f32 }
            }
            Role::Bias => Self::Normal { std: 0.01 },
            Role::Scale | Role::Variance => Self::AroundOne,
            Role::Shift | Role::Mean => Self::Normal { std: 0.1 },
            Role::Operand if matches!(kind, LayerKind::Mul { .. }) => Self::AroundOne,
            Role::Operand => Self::Normal { std: 0.1 },
        }
    }

    fn fill(self, values: &mut [f32], stream: Stream) {
        values.par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
            let mut rng = stream.generator(block as u64);
            match self {
                Self::Normal { std } => values.iter_mut().for_each(|v| {
                    let z: f32 = StandardNormal.sample(&mut rng);
                    *v = std * z;
                }),
                Self::AroundOne => values.iter_mut().for_each(|v| *v = 0.5 + rng.random::<f32>()),
            }
        });
    }
}

/// Which numbers of the seed a tensor gets.
#[derive(Debug, Clone, Copy)]
struct Stream {
    seed: u64,
    layer: u64,
    parameter: u64,
}

impl Stream {
    fn generator(self, block: u64) -> Pcg64Mcg {
        let parts = [self.layer, self.parameter, block];
        Pcg64Mcg::seed_from_u64(parts.iter().fold(mix(self.seed), |state, &part| mix(state ^ mix(part))))
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, 10.1145/2660193.2660195): neighbours become unrelated.
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn describe(network: &Network) -> String {
    let parameters: Vec<&Parameter> = network.layers.iter().flat_map(|l| &l.parameters).collect();
    let count = |test: fn(&Values) -> bool| parameters.iter().filter(|p| test(&p.values)).count();
    let random = count(|v| matches!(v, Values::Random));
    let mut text = String::new();
    if random < parameters.len() {
        let stored = count(|v| matches!(v, Values::Stored(_)));
        let filled = count(|v| matches!(v, Values::Fill(_)));
        text +=
            &format!("{stored} tensors from the file, {filled} filled with one number, {random} random; ");
    }
    if random > 0 {
        text += "random conv and linear weights: normal, std sqrt(2 / fan-in); biases: normal, std 0.01; \
                 batch-norm scale and variance and factors of mul: uniform 0.5 to 1.5; batch-norm shift and \
                 mean and summands of add: normal, std 0.1; ";
    }
    text + "input: standard normal"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::network::{Activation, Conv, Definition, INPUT, LayerDefinition, Linear, Origin};

    fn network(input: Vec<usize>, layers: Vec<(LayerKind, Vec<String>)>) -> Network {
        let layers = layers.into_iter().enumerate().map(|(i, (kind, inputs))| LayerDefinition {
            name: format!("l{i}"),
            kind,
            inputs,
            origin: Origin::File,
            values: BTreeMap::new(),
            same_padding: false,
        });
        let layers = layers.collect();
        let [name, file, sha256] = ["test", "test.toml", ""].map(str::to_string);
        Network::new(Definition { name, file, sha256, input, set: BTreeMap::new(), layers }).unwrap()
    }

    fn linear(out_features: usize) -> LayerKind {
        LayerKind::Linear(Linear { out_features, bias: true })
    }

    fn conv(out_channels: usize, kernel: usize) -> LayerKind {
        let pad = kernel / 2;
        LayerKind::Conv(Conv {
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [pad; 4],
            dilation: [1; 2],
            groups: 1,
            bias: false,
        })
    }

    fn tensors(network: &Network, seed: u64) -> Tensors {
        Tensors::new(network, &WeightOptions { seed, batch: 2 }).unwrap()
    }

    #[test]
    fn a_seed_repeats_its_tensors_on_any_number_of_threads_and_another_seed_does_not() {
        let net = network(vec![300], vec![(linear(700), vec![INPUT.to_string()])]);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| tensors(&net, 3))
        };
        assert_eq!(on(1), on(3));
        assert_ne!(on(1).parameters, tensors(&net, 4).parameters);
    }

    #[test]
    fn a_layers_numbers_do_not_depend_on_what_follows_it() {
        let one = network(vec![30], vec![(linear(20), vec![INPUT.to_string()])]);
        let two =
            network(vec![30], vec![(linear(20), vec![INPUT.to_string()]), (linear(9), vec!["l0".into()])]);
        let (one, two) = (tensors(&one, 5), tensors(&two, 5));
        assert_eq!(one.parameters[0], two.parameters[0]);
        assert_eq!(one.input, two.input);
    }

    #[test]
    fn weights_have_the_variance_two_over_fan_in() {
        let net = network(vec![8, 4, 4], vec![(conv(2000, 3), vec![INPUT.to_string()])]);
        let weights = &tensors(&net, 1).parameters[0][0];
        let n = weights.len() as f64;
        let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
        let variance = weights.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum::<f64>() / n;
        let expected = 2.0 / (8.0 * 9.0);
        // Four standard errors.
        assert!(mean.abs() < 4.0 * (expected / n).sqrt(), "mean {mean}");
        assert!((variance / expected - 1.0).abs() < 4.0 * (2.0 / n).sqrt(), "variance {variance}");
    }

    #[test]
    fn stored_values_are_shared_and_fills_are_filled() {
        let stored: Arc<[f32]> = vec![1.0, 2.0].into();
        let parameter = |values| Parameter { role: Role::Bias, shape: vec![2], values };
        let stream = Stream { seed: 0, layer: 0, parameter: 0 };
        let taken = make(&linear(2), &parameter(Values::Stored(stored.clone())), stream);
        assert!(Arc::ptr_eq(&taken, &stored));
        assert_eq!(*make(&linear(2), &parameter(Values::Fill(0.5)), stream), [0.5, 0.5]);
    }

    #[test]
    fn a_network_larger_than_memory_is_an_error() {
        let net = network(vec![1 << 29], vec![(linear(1 << 29), vec![INPUT.to_string()])]);
        let error = Tensors::new(&net, &WeightOptions { seed: 0, batch: 1 });
        assert!(matches!(error, Err(BackendError::OutOfMemory { .. })), "{error:?}");
    }

    #[test]
    fn fifty_residual_blocks_stay_finite_and_normal() {
        let mut layers = vec![(conv(16, 3), vec![INPUT.to_string()])];
        let mut last = "l0".to_string();
        for _ in 0..50 {
            let branch = [
                conv(16, 3),
                LayerKind::BatchNorm { epsilon: 1e-5 },
                LayerKind::Activation(Activation::Relu),
                conv(16, 3),
                LayerKind::BatchNorm { epsilon: 1e-5 },
            ];
            let mut from = last.clone();
            for kind in branch {
                layers.push((kind, vec![from]));
                from = format!("l{}", layers.len() - 1);
            }
            layers.push((LayerKind::Add { operand: None }, vec![from, last]));
            layers.push((LayerKind::Activation(Activation::Relu), vec![format!("l{}", layers.len() - 1)]));
            last = format!("l{}", layers.len() - 1);
        }
        let net = network(vec![3, 6, 6], layers);
        let tensors = Tensors::new(&net, &WeightOptions { seed: 11, batch: 1 }).unwrap();
        let outputs = super::super::reference::run(&net, &tensors, 1);
        for (layer, values) in net.layers.iter().zip(&outputs) {
            for &value in values {
                let normal = value == 0.0 || (1e-30..1e30).contains(&value.abs());
                assert!(normal, "{}: {value}", layer.name);
            }
            let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(largest > 1e-3, "{}: the signal died out", layer.name);
        }
    }
}
