//! What one step of a plan asks of a device, and how long it takes at a clock.

use crate::network::Network;
use crate::plan::{BufferId, Plan, Step};
use crate::stats::{Rng, fingerprint};

use super::parameters::{DeviceParameters, Speed, WorkEnergy};

/// Bytes of an f32 element.
const ELEMENT: f64 = 4.0;

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
    (device.speed.efficiency * factor).min(1.0)
}

/// What the last cache holds, by reuse distance: a tensor is found as far as it and what has passed since its last
/// use fit together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cache {
    bytes: f64,
    /// Bytes that have passed so far.
    passed: f64,
    /// For each buffer, and for the weights of each step.
    buffers: Vec<LastUse>,
    weights: Vec<LastUse>,
}

/// When a tensor was used last.
#[derive(Debug, Clone, Copy, PartialEq)]
struct LastUse {
    /// [`Cache::passed`] after it.
    passed: f64,
    bytes: f64,
}

const NEVER: LastUse = LastUse { passed: f64::NEG_INFINITY, bytes: 0.0 };

impl Cache {
    /// An empty cache.
    pub(super) fn new(bytes: f64, buffers: usize, steps: usize) -> Self {
        Self { bytes, passed: 0.0, buffers: vec![NEVER; buffers], weights: vec![NEVER; steps] }
    }

    /// Forgets everything, as after a rotation of buffers past the cache's size.
    pub(super) fn flush(&mut self) {
        self.buffers.fill(NEVER);
        self.weights.fill(NEVER);
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
fn touch(passed: &mut f64, last: &mut LastUse, bytes: f64, capacity: f64) -> f64 {
    let fits = (capacity - (*passed - last.passed)).max(0.0);
    let found = fits.min(last.bytes).min(bytes);
    *passed += bytes;
    *last = LastUse { passed: *passed, bytes };
    bytes - found
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;
    use crate::sim::testing::{device, network, plan};

    /// 1 x 8 x 8 in, 4 channels of 3 x 3 without padding: 4 x 6 x 6 out, then a ReLU.
    const TEXT: &str = "name = \"two\"\ninput = [1, 8, 8]\n\
        [[layer]]\nkind = \"conv\"\nout_channels = 4\nkernel = 3\n[[layer]]\nkind = \"relu\"\n";

    fn works(device: &DeviceParameters, batch: usize) -> Vec<Work> {
        let network = network(TEXT);
        Work::of_plan(&network, &plan(&network, batch), device)
    }

    #[test]
    fn operations_bytes_and_occupancy_are_those_of_the_batch() {
        let mut device = device();
        (device.speed.half_full_outputs, device.speed.efficiency_spread) = (288.0, 0.0);
        let works = works(&device, 2);
        // 2 items x 144 outputs; 9 taps of 2 operations each, and a bias.
        assert_eq!((works[0].flops, works[0].elementwise_flops), (2.0 * 144.0 * 18.0, 288.0));
        assert_relative_eq!(works[0].occupancy, 0.5);
        assert_relative_eq!(works[0].weight_bytes, (36.0 + 4.0) * 4.0);
        assert_eq!((works[0].reads[0].1, works[0].writes.1), (2.0 * 64.0 * 4.0, 288.0 * 4.0));
        assert_eq!((works[1].flops, works[1].elementwise_flops, works[1].weight_bytes), (0.0, 288.0, 0.0));
    }

    #[test]
    fn time_is_the_slowest_of_arithmetic_cache_and_memory() {
        let mut device = device();
        device.speed = Speed {
            peak_flops_per_s: 1e6,
            efficiency: 0.5,
            efficiency_spread: 0.0,
            half_full_outputs: 0.0,
            memory_bytes_per_s: 1e5,
            cache_bytes_per_s: 1e6,
            kernel_s: 1e-3,
            ..device.speed
        };
        let works = works(&device, 1);
        // 2592 operations at half of 1e6, and 144 additions at 1e6; 992 bytes of 1 MB/s are faster.
        let traffic = Traffic { cache: 992.0, memory: 0.0 };
        assert_relative_eq!(works[0].time(&device.speed, traffic, 1.0), 1e-3 + 5.184e-3 + 0.144e-3);
        // Arithmetic follows the clock, memory does not.
        assert_relative_eq!(works[0].time(&device.speed, traffic, 0.5), 1e-3 + 2.0 * 5.328e-3);
        let traffic = Traffic { cache: 992.0, memory: 992.0 };
        assert_relative_eq!(works[0].time(&device.speed, traffic, 1.0), 1e-3 + 9.92e-3);
    }

    #[test]
    fn energy_adds_up_and_only_arithmetic_and_cache_follow_the_voltage() {
        let mut device = device();
        device.energy = WorkEnergy {
            flop_j: 1e-3,
            elementwise_flop_j: 2e-3,
            cache_byte_j: 3e-3,
            memory_byte_j: 4e-3,
            busy_w: 0.0,
        };
        let works = works(&device, 1);
        let (operations, memory) =
            works[0].energy(&device.energy, Traffic { cache: 100.0, memory: 10.0 }, 1.0);
        assert_relative_eq!(operations, 2.592 + 0.288 + 0.3);
        assert_relative_eq!(memory, 0.04);
        let higher = works[0].energy(&device.energy, Traffic { cache: 100.0, memory: 10.0 }, 1.1);
        assert_relative_eq!(higher.0, operations * 1.21);
        assert_relative_eq!(higher.1, memory);
    }

    #[test]
    fn a_board_has_its_own_efficiencies_and_keeps_them() {
        let mut device = device();
        (device.speed.efficiency, device.speed.efficiency_spread) = (0.4, 0.2);
        let of = |device: &DeviceParameters| -> Vec<f64> {
            (0..400).map(|i| efficiency(device, &format!("signature {i}"))).collect()
        };
        let (first, again) = (of(&device), of(&device));
        assert_eq!(first, again);
        let logs: Vec<f64> = first.iter().map(|e| (e / 0.4).ln()).collect();
        let mean = logs.iter().sum::<f64>() / 400.0;
        let spread = (logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 399.0).sqrt();
        // Four standard errors: 0.2 / 20 of the mean, 0.2 / sqrt(800) of the spread.
        assert!(mean.abs() < 0.04 && (spread - 0.2).abs() < 0.03, "{mean} {spread}");
        device.name.push('2');
        assert_ne!(first, of(&device));
    }

    #[test]
    fn a_tensor_is_found_as_far_as_it_and_what_has_passed_since_fit() {
        // Reads 100 bytes of buffer 0 and 20 of weights, writes 60 to buffer 1: 180 pass in one execution.
        let work = Work {
            flops: 0.0,
            elementwise_flops: 0.0,
            occupancy: 1.0,
            efficiency: 1.0,
            weight_bytes: 20.0,
            reads: vec![(0, 100.0)],
            writes: (1, 60.0),
        };
        let mut cache = Cache::new(200.0, 2, 1);
        let all = Traffic { cache: 180.0, memory: 180.0 };
        assert_eq!(cache.pass(0, &work), all);
        // Everything fits: 80 passed since the input, 120 since the output, 160 since the weights.
        assert_eq!(cache.pass(0, &work), Traffic { cache: 180.0, memory: 0.0 });
        cache.flush();
        assert_eq!(cache.pass(0, &work), all);
        // 150 bytes: 70 of the input are found, 30 of the output, none of the weights.
        let mut cache = Cache::new(150.0, 2, 1);
        cache.pass(0, &work);
        let traffic = cache.pass(0, &work);
        assert_relative_eq!(traffic.memory, 30.0 + 30.0 + 20.0);
        // Of a buffer that held 60 bytes no more is found, however much of it is read.
        let mut cache = Cache::new(1000.0, 2, 1);
        cache.pass(0, &work);
        let reader = Work { weight_bytes: 0.0, reads: vec![(1, 500.0)], writes: (0, 0.0), ..work };
        assert_relative_eq!(cache.pass(0, &reader).memory, 440.0);
    }
}
