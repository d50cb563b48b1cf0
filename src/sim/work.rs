//! What one step of a plan asks of a device, and how long it takes at a clock.

use crate::network::Network;
use crate::plan::{BufferId, Plan, Step};
use crate::stats::Rng;

use super::parameters::{DeviceParameters, Speed, WorkEnergy};

/// Bytes of an f32 element.
const ELEMENT: f64 = 4.0;
/// Smallest and largest share of the peak that the spread may leave a kind of work.
const EFFICIENCIES: [f64; 2] = [0.02, 1.0];

/// Operations and tensors of one step, for the whole batch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Work {
    pub(super) flops: f64,
    pub(super) elementwise_flops: f64,
    /// Share of the device that it fills.
    pub(super) occupancy: f64,
    /// Share of the peak that it reaches where it fills the device.
    pub(super) efficiency: f64,
    pub(super) weight_bytes: f64,
    /// Buffers that it reads, with their bytes.
    pub(super) reads: Vec<(BufferId, f64)>,
    /// The buffer that it writes, with its bytes.
    pub(super) writes: (BufferId, f64),
}

/// Bytes that a step moves: all through the last cache, and those among them that memory has to give or take.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Traffic {
    pub(super) cache: f64,
    pub(super) memory: f64,
}

impl Work {
    /// The work of every step of a plan.
    pub(super) fn of_plan(network: &Network, plan: &Plan, device: &DeviceParameters) -> Vec<Self> {
        plan.steps.iter().map(|step| Self::of_step(network, plan, step, device)).collect()
    }

    fn of_step(network: &Network, plan: &Plan, step: &Step, device: &DeviceParameters) -> Self {
        let batch = plan.batch as f64;
        let layers = || step.layers.iter().map(|&index| &network.layers[index]);
        let elements = |shape: &[usize]| shape.iter().map(|&n| n as f64).product::<f64>() * batch;
        let stored: f64 = layers().flat_map(|l| &l.parameters).map(|p| p.len() as f64).sum();
        let last = step.layers.last().map_or(&[][..], |&index| &network.layers[index].output);
        let outputs = elements(last);
        let reads = step.reads.iter().zip(&step.inputs);
        Self {
            flops: layers().map(|l| l.cost.flops as f64).sum::<f64>() * batch,
            elementwise_flops: layers().map(|l| l.cost.flops_elementwise as f64).sum::<f64>() * batch,
            occupancy: outputs / (outputs + device.speed.half_full_outputs),
            efficiency: efficiency(device, &plan.signatures[step.signature].text),
            weight_bytes: stored * ELEMENT,
            reads: reads.map(|(&t, &buffer)| (buffer, elements(network.shape(t)) * ELEMENT)).collect(),
            writes: (step.output, outputs * ELEMENT),
        }
    }

    /// Time of one execution in seconds, where the clock is `clock` times the reference: the roofline, and what
    /// every kernel takes beside its work.
    pub(super) fn time(&self, speed: &Speed, traffic: Traffic, clock: f64) -> f64 {
        let rate = speed.peak_flops_per_s * clock * self.occupancy;
        let compute = self.flops / (rate * self.efficiency) + self.elementwise_flops / rate;
        let cache = traffic.cache / (speed.cache_bytes_per_s * clock);
        let memory = traffic.memory / speed.memory_bytes_per_s;
        speed.kernel_s + compute.max(cache).max(memory)
    }

    /// Energy of one execution above the static power, in joules: what operations and cache take, where the voltage
    /// is `voltage` times that of the reference clock, and what the memory takes, which has a clock of its own.
    pub(super) fn energy(&self, costs: &WorkEnergy, traffic: Traffic, voltage: f64) -> (f64, f64) {
        let operations = self.flops * costs.flop_j
            + self.elementwise_flops * costs.elementwise_flop_j
            + traffic.cache * costs.cache_byte_j;
        (operations * voltage * voltage, traffic.memory * costs.memory_byte_j)
    }
}

/// The share of the peak that a kind of work reaches on this board. A library has better kernels for one shape than
/// for another; which, is fixed by the device's name and the signature, so that every run meets the same board.
fn efficiency(device: &DeviceParameters, signature: &str) -> f64 {
    let mut rng = Rng::stream(fingerprint(&device.name), fingerprint(signature));
    let factor = (device.speed.efficiency_spread * rng.normal()).exp();
    (device.speed.efficiency * factor).clamp(EFFICIENCIES[0], EFFICIENCIES[1])
}

/// FNV-1a (Fowler, Noll, Vo; RFC 9923): the same on every machine and in every version.
fn fingerprint(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What the last cache holds, by reuse distance: a tensor is found as far as it and what has passed since its last
/// use fit together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cache {
    bytes: f64,
    /// Bytes that have passed so far.
    passed: f64,
    /// For each buffer, and for the weights of each step: `passed` after its last use.
    buffers: Vec<f64>,
    weights: Vec<f64>,
}

impl Cache {
    /// An empty cache.
    pub(super) fn new(bytes: f64, buffers: usize, steps: usize) -> Self {
        let never = f64::NEG_INFINITY;
        Self { bytes, passed: 0.0, buffers: vec![never; buffers], weights: vec![never; steps] }
    }

    /// Forgets everything, as after a rotation of buffers past the cache's size.
    pub(super) fn flush(&mut self) {
        self.buffers.fill(f64::NEG_INFINITY);
        self.weights.fill(f64::NEG_INFINITY);
    }

    /// One execution of a step.
    pub(super) fn pass(&mut self, step: usize, work: &Work) -> Traffic {
        let mut traffic = Traffic::default();
        for &(buffer, bytes) in work.reads.iter().chain([&work.writes]) {
            traffic.memory += touch(&mut self.passed, &mut self.buffers[buffer], bytes, self.bytes);
            traffic.cache += bytes;
        }
        traffic.memory += touch(&mut self.passed, &mut self.weights[step], work.weight_bytes, self.bytes);
        traffic.cache += work.weight_bytes;
        traffic
    }
}

/// Uses a tensor; the bytes of it that memory moves. What is written stays in the cache until it is pushed out, so
/// a write costs memory as much as a read: the part that does not fit.
fn touch(passed: &mut f64, last: &mut f64, bytes: f64, capacity: f64) -> f64 {
    let since = *passed - *last;
    let found = if bytes > 0.0 { ((capacity - since) / bytes).clamp(0.0, 1.0) } else { 1.0 };
    *passed += bytes;
    *last = *passed;
    bytes * (1.0 - found)
}
