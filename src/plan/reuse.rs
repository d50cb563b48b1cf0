//! What of its data a step finds in the last-level cache, by reuse distance: a tensor is found as far as it and what
//! has been used since its last use fit into the cache together (Mattson, Gecsei, Slutz, Traiger 1970, 10.1147/sj.92.0078,
//! for whole tensors).
//!
//! A layer that is repeated alone finds other data than in the network. Repeated behind the steps that come before it
//! there, each time on buffers that no cache holds, it finds what it finds in the network as soon as these steps include
//! the last use of everything that it finds there: an [`Excerpt`].

use std::collections::HashMap;

use crate::network::Network;

use super::{BufferId, Plan};

/// Steps that an excerpt has at most: of a longer one the last step is too small a part to be told from the others.
const MOST_STEPS: usize = 12;
/// Energy of moving a byte between memory and cache, for comparing errors only: 12 pJ/bit (HBM of A100 and GH200, SC25,
/// 10.1145/3712285.3759815).
const MEMORY_BYTE_J: f64 = 96e-12;
/// Energy of an operation, likewise: below what f32 takes, so that no error is taken for small beside arithmetic.
const OPERATION_J: f64 = 2e-12;
/// Part of a step's energy, and of the pass's, below which an error does not matter.
const TOLERATED_OF_STEP: f64 = 0.003;
const TOLERATED_OF_PASS: f64 = 0.0003;

/// Steps of a pass that are repeated together, so that the last one finds what it finds in the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Excerpt {
    /// The first step.
    pub first: usize,
    /// The step whose energy is asked for: that of the excerpt less that of the excerpt without it.
    pub last: usize,
    /// Whether each repetition works on buffers that no cache holds; otherwise on those that it used before.
    pub fresh: bool,
    /// Bytes that the last step moves between memory and cache in the network.
    pub memory_bytes: f64,
    /// By how much it differs in the excerpt, as far as reuse distances tell.
    pub error_bytes: f64,
}

impl Excerpt {
    /// A step alone, of whose caches nothing is known.
    pub const fn alone(step: usize) -> Self {
        Self { first: step, last: step, fresh: true, memory_bytes: 0.0, error_bytes: 0.0 }
    }
}

/// One tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Tensor {
    Buffer(BufferId),
    Parameters(usize),
}

/// What a step uses, in order: inputs, output, parameters.
#[derive(Debug, Clone, PartialEq)]
struct Use {
    tensors: Vec<(Tensor, f64)>,
    operations: f64,
}

/// For each step of a plan, the excerpt to measure it in on a device with a last-level cache of so many bytes.
pub fn excerpts(network: &Network, plan: &Plan, cache_bytes: f64) -> Vec<Excerpt> {
    let uses = uses(network, plan);
    let mut stack = Stack::new(cache_bytes);
    // The second pass finds what the first one left, and so does every other.
    for step in &uses {
        stack.run(step);
    }
    let in_network: Vec<f64> = uses.iter().map(|step| stack.run(step)).collect();
    let joules = |(step, memory): (&Use, &f64)| step.operations * OPERATION_J + memory * MEMORY_BYTE_J;
    let pass: f64 = uses.iter().zip(&in_network).map(joules).sum();
    (0..uses.len())
        .map(|last| {
            let own = joules((&uses[last], &in_network[last]));
            let tolerated = (own * TOLERATED_OF_STEP).max(pass * TOLERATED_OF_PASS) / MEMORY_BYTE_J;
            best(&uses, last, in_network[last], tolerated, cache_bytes)
        })
        .collect()
}

/// The first steps of a pass, repeated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beginning {
    /// Its last step.
    pub last: usize,
    /// Whether each repetition works on buffers that no cache holds; otherwise on those that it used before.
    pub fresh: bool,
    /// Bytes that it moves between memory and cache beyond those that its steps move in the network, by reuse distances.
    pub excess_bytes: f64,
}

/// Beginnings of a pass that cut it into about so many parts of about equal energy; the whole pass is none of them.
///
/// Of fresh buffers and those used before, each takes what finds more nearly in the cache what the network does.
pub fn beginnings(network: &Network, plan: &Plan, cache_bytes: f64, parts: usize) -> Vec<Beginning> {
    let uses = uses(network, plan);
    let mut stack = Stack::new(cache_bytes);
    for step in &uses {
        stack.run(step);
    }
    let in_network: Vec<f64> = uses.iter().map(|step| stack.run(step)).collect();
    let running = |sum: &mut f64, more: f64| {
        *sum += more;
        Some(*sum)
    };
    let joules = uses.iter().zip(&in_network).map(|(step, memory)| {
        let arithmetic = step.operations * OPERATION_J;
        arithmetic + memory * MEMORY_BYTE_J
    });
    let joules: Vec<f64> = joules.scan(0.0, running).collect();
    let memory: Vec<f64> = in_network.iter().copied().scan(0.0, running).collect();
    let pass = joules.last().copied().unwrap_or(0.0);
    let nearest = |part: usize| {
        let wanted = pass * part as f64 / parts as f64;
        let last = 0..uses.len().saturating_sub(1);
        last.min_by(|&a, &b| (joules[a] - wanted).abs().total_cmp(&(joules[b] - wanted).abs()))
    };
    let mut lasts: Vec<usize> = (1..parts).filter_map(nearest).collect();
    lasts.dedup();
    let beginning = |last: usize| {
        let excess = |fresh: bool| moved(&uses[..=last], fresh, cache_bytes) - memory[last];
        let [fresh, used] = [true, false].map(excess);
        let takes_fresh = fresh.abs() <= used.abs();
        Beginning { last, fresh: takes_fresh, excess_bytes: if takes_fresh { fresh } else { used } }
    };
    lasts.into_iter().map(beginning).collect()
}

/// The shortest excerpt whose error can be tolerated, or the one with the least.
fn best(uses: &[Use], last: usize, in_network: f64, tolerated: f64, cache_bytes: f64) -> Excerpt {
    let mut least: Option<Excerpt> = None;
    for first in (last.saturating_sub(MOST_STEPS - 1)..=last).rev() {
        for fresh in [true, false] {
            let (with, without) = (&uses[first..=last], &uses[first..last]);
            let found = moved(with, fresh, cache_bytes) - moved(without, fresh, cache_bytes);
            let error_bytes = (found - in_network).abs();
            let excerpt = Excerpt { first, last, fresh, memory_bytes: in_network, error_bytes };
            if error_bytes <= tolerated {
                return excerpt;
            }
            if least.is_none_or(|least| error_bytes < least.error_bytes) {
                least = Some(excerpt);
            }
        }
    }
    least.unwrap_or(Excerpt::alone(last))
}

/// Bytes between memory and cache in one repetition of some steps.
fn moved(steps: &[Use], fresh: bool, cache_bytes: f64) -> f64 {
    let mut stack = Stack::new(cache_bytes);
    if !fresh {
        for step in steps {
            stack.run(step);
        }
    }
    steps.iter().map(|step| stack.run(step)).sum()
}

/// What each step uses.
fn uses(network: &Network, plan: &Plan) -> Vec<Use> {
    let element = plan.precision.bytes() as f64;
    let batch = plan.batch as f64;
    let bytes = |shape: &[usize]| shape.iter().map(|&n| n as f64).product::<f64>() * batch * element;
    let of_step = |(index, step): (usize, &super::Step)| {
        let layers = || step.layers.iter().map(|&layer| &network.layers[layer]);
        let stored: f64 = layers().flat_map(|layer| &layer.parameters).map(|p| p.len() as f64).sum();
        let inputs = step.reads.iter().zip(&step.inputs);
        let mut tensors: Vec<(Tensor, f64)> =
            inputs.map(|(&read, &buffer)| (Tensor::Buffer(buffer), bytes(network.shape(read)))).collect();
        let output = step.layers.last().map_or(&[][..], |&layer| &network.layers[layer].output);
        tensors.push((Tensor::Buffer(step.output), bytes(output)));
        tensors.push((Tensor::Parameters(index), stored * element));
        let operations: f64 = layers().map(|l| (l.cost.flops + l.cost.flops_elementwise) as f64).sum();
        Use { tensors, operations: operations * batch }
    };
    plan.steps.iter().enumerate().map(of_step).collect()
}

/// Tensors in order of last use.
struct Stack {
    capacity: f64,
    /// Bytes that have passed.
    passed: f64,
    /// For each tensor: what had passed after its last use, and how much of it was used.
    last: HashMap<Tensor, (f64, f64)>,
}

impl Stack {
    fn new(capacity: f64) -> Self {
        Self { capacity, passed: 0.0, last: HashMap::new() }
    }

    /// Runs a step; bytes that memory gives or takes.
    fn run(&mut self, step: &Use) -> f64 {
        step.tensors.iter().map(|&(tensor, bytes)| self.touch(tensor, bytes)).sum()
    }

    fn touch(&mut self, tensor: Tensor, bytes: f64) -> f64 {
        let found = self.last.get(&tensor).map_or(0.0, |&(passed, used)| {
            (self.capacity - (self.passed - passed)).clamp(0.0, used.min(bytes))
        });
        self.passed += bytes;
        self.last.insert(tensor, (self.passed, bytes));
        bytes - found
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;
    use crate::plan::PlanOptions;

    /// Three ReLUs of 1000 elements, 4000 bytes each, in buffers 0 1 2.. as the plan takes them.
    fn chain(layers: usize, cache_bytes: f64) -> Vec<Excerpt> {
        let layer = "[[layer]]\nkind = \"relu\"\n";
        let text = format!("name = \"chain\"\ninput = [10, 10, 10]\n{}", layer.repeat(layers));
        let network = crate::network::parse("chain.toml".as_ref(), text.as_bytes(), &[]).unwrap();
        let plan = Plan::new(&network, &PlanOptions { keep_all: true, ..PlanOptions::default() }).unwrap();
        excerpts(&network, &plan, cache_bytes)
    }

    #[test]
    fn a_layer_that_finds_its_input_in_the_network_is_measured_behind_its_producer() {
        // Each step reads 4000 bytes and writes as many, and the cache holds 7000. In the network an input was just
        // written and is found, and an output was last used nine tensors ago. Alone, a step finds of its input, and of
        // its output, what fits beside the other: 3000 of 4000.
        let found = chain(5, 7000.0);
        assert_eq!((found[2].first, found[2].last, found[2].fresh), (1, 2, true));
        assert_relative_eq!(found[2].memory_bytes, 4000.0);
        assert_relative_eq!(found[2].error_bytes, 0.0);
        // The first layer reads the network's input, which nobody wrote: alone, on fresh buffers.
        assert_eq!((found[0].first, found[0].fresh), (0, true));
        assert_relative_eq!(found[0].memory_bytes, 8000.0);
    }

    #[test]
    fn beginnings_cut_the_pass_into_equal_parts_that_find_what_the_network_does() {
        let of = |layers: usize, cache_bytes: f64, parts: usize| {
            let text = format!(
                "name = \"chain\"\ninput = [10, 10, 10]\n{}",
                "[[layer]]\nkind = \"relu\"\n".repeat(layers)
            );
            let network = crate::network::parse("chain.toml".as_ref(), text.as_bytes(), &[]).unwrap();
            let plan =
                Plan::new(&network, &PlanOptions { keep_all: true, ..PlanOptions::default() }).unwrap();
            beginnings(&network, &plan, cache_bytes, parts)
        };
        // Eight equal layers without a cache: quarters end with the second, fourth and sixth.
        let quarters = of(8, 0.0, 4);
        assert_eq!(quarters.iter().map(|b| b.last).collect::<Vec<_>>(), [1, 3, 5]);
        assert!(quarters.iter().all(|b| b.excess_bytes == 0.0));
        // Where all fits the cache the network finds everything, and so does a beginning on the buffers used before.
        assert!(of(8, 1e6, 4).iter().all(|b| !b.fresh && b.excess_bytes == 0.0));
        // Each layer finds its input only: so does a beginning on fresh buffers, and its first layer nothing.
        assert!(of(8, 7000.0, 4).iter().all(|b| b.fresh && b.excess_bytes == 0.0));
        assert!(of(1, 0.0, 4).is_empty());
    }

    #[test]
    fn in_a_network_that_fits_the_cache_everything_is_found_alone() {
        for excerpt in chain(5, 1e6) {
            assert_eq!((excerpt.first, excerpt.fresh), (excerpt.last, false));
            assert_relative_eq!(excerpt.memory_bytes, 0.0);
        }
    }

    #[test]
    fn without_a_cache_a_layer_is_measured_alone() {
        for excerpt in chain(5, 0.0) {
            assert_eq!(excerpt.first, excerpt.last);
            assert_relative_eq!(excerpt.memory_bytes, 8000.0);
        }
    }

    #[test]
    fn a_tensor_is_found_as_far_as_it_and_what_passed_since_fit() {
        let use_of = |tensors: &[(Tensor, f64)]| Use { tensors: tensors.to_vec(), operations: 0.0 };
        let step =
            use_of(&[(Tensor::Buffer(0), 100.0), (Tensor::Buffer(1), 60.0), (Tensor::Parameters(0), 20.0)]);
        let mut stack = Stack::new(150.0);
        assert_relative_eq!(stack.run(&step), 180.0);
        // 80 passed since the input, of which 70 fit; 120 since the output: 30; 160 since the parameters: none.
        assert_relative_eq!(stack.run(&step), 30.0 + 30.0 + 20.0);
    }
}
