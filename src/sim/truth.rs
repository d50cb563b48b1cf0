//! What the layers of a network truly cost on a simulated device: in the network, in its steady state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::Network;
use crate::plan::Plan;
use crate::units::{Joules, Seconds};

use super::machine::{Execution, Machine, Split};
use super::parameters::DeviceParameters;
use super::work::Work;

/// Format and version of `truth.json`.
pub const TRUTH_SCHEMA: &str = "layerjoule.truth/1";

/// Most stretches of passes after which the temperature counts as settled whatever it does.
const MOST_STRETCHES: usize = 100;
/// Change of temperature in kelvin that no energy shows any more.
const SETTLED: f64 = 1e-3;
/// Relative change of mean power from one stretch to the next that counts as none.
const STEADY: f64 = 1e-5;
/// Length of a stretch in time constants of the limiter.
const CONSTANTS: f64 = 8.0;
/// Fewest passes whose mean is the truth.
const PASSES: usize = 4;

/// The truth of a simulated run, beside its run file. Energies are of what the primary meter reads, for one pass of
/// the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Truth {
    /// The file format and its version.
    pub schema: String,
    /// The simulated device.
    pub device: String,
    /// The meter whose part of the device the joules are of.
    pub meter: String,
    /// Temperature that the network holds the device at, in degrees Celsius.
    pub temperature_c: f64,
    /// Clock that it runs at, in megahertz.
    pub clock_mhz: f64,
    /// Layers that execute something, in order.
    pub layers: Vec<LayerTruth>,
    /// Whole passes.
    pub pass: Vec<PassTruth>,
}

/// One layer in the network, with the gap behind its kernel: what a pass would be shorter by without it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LayerTruth {
    /// Its name; of layers that are computed together, that of the first.
    pub name: String,
    /// `forward`.
    pub phase: String,
    /// Time of its kernel and of the gap behind it.
    pub time_s: Seconds,
    /// Energy with the static share of that time.
    pub energy_j: Joules,
    /// Energy above active idle.
    pub energy_dynamic_j: Joules,
}

/// The whole network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PassTruth {
    /// `forward`.
    pub phase: String,
    /// Time with the gaps between kernels.
    pub time_s: Seconds,
    /// Energy with that of the gaps.
    pub energy_j: Joules,
}

impl Truth {
    /// Runs the network, without noise and without sensors, until temperature, clock and caches have settled, and
    /// then looks.
    ///
    /// `meter` is the id of the sensor whose part of the device counts; that of another meter counts for the board.
    pub fn of(network: &Network, plan: &Plan, device: &DeviceParameters, meter: &str) -> Self {
        let mut machine = Machine::quiet(device);
        machine.load(Work::of_plan(network, plan, device), plan.buffers.len());
        settle(&mut machine);
        let (clock, steps) = (&device.clock, machine.steps());
        let mut sums = vec![Execution::default(); steps];
        let (begin, mut passes) = (machine.now(), 0);
        // Over a few time constants of the limiter, whose clock is never quite still.
        while steps > 0 && (passes < PASSES || machine.now() - begin < clock.limiter_s * CONSTANTS) {
            for (step, sum) in sums.iter_mut().enumerate() {
                *sum = sum.plus(machine.execute(step));
            }
            passes += 1;
        }
        let sensor = device.sensor.iter().find(|sensor| sensor.id == meter);
        let joules = |energy: Split| {
            let domain = sensor.map_or(super::Domain::Board, |sensor| sensor.domain);
            Joules::new(energy.of(domain) / passes as f64)
        };
        let seconds = |time: f64| Seconds::new(time / passes as f64);
        let phase = || "forward".to_string();
        let whole = |sum: &Execution| (sum.time + sum.gap_time, sum.energy.plus(sum.gap_energy));
        let layer = |(step, sum): (usize, &Execution)| LayerTruth {
            name: plan.steps[step].layers.first().map_or(String::new(), |&l| network.layers[l].name.clone()),
            phase: phase(),
            time_s: seconds(whole(sum).0),
            energy_j: joules(whole(sum).1),
            // The gap costs nothing above active idle.
            energy_dynamic_j: joules(sum.energy) - joules(sum.static_energy),
        };
        let pass = PassTruth {
            phase: phase(),
            time_s: sums.iter().map(|sum| seconds(whole(sum).0)).sum(),
            energy_j: sums.iter().map(|sum| joules(whole(sum).1)).sum(),
        };
        Self {
            schema: TRUTH_SCHEMA.to_string(),
            device: device.name.clone(),
            meter: meter.to_string(),
            temperature_c: machine.celsius(),
            clock_mhz: machine.megahertz(),
            layers: sums.iter().enumerate().map(layer).collect(),
            pass: vec![pass],
        }
    }
}

/// Runs passes until nothing changes from one stretch to the next: the limiter by waiting, the temperature, which
/// takes minutes, by going to where the mean power leads. The boost has worn off long ago.
fn settle(machine: &mut Machine) {
    let (limiter, thermal) = (machine.device.clock.limiter_s, machine.device.thermal.clone());
    machine.wear_off();
    let mut last = f64::NAN;
    for _ in 0..MOST_STRETCHES {
        let (begin, energy) = (machine.now(), machine.energy().board);
        while machine.steps() > 0 && machine.now() - begin < limiter * CONSTANTS {
            for step in 0..machine.steps() {
                machine.execute(step);
            }
        }
        let time = machine.now() - begin;
        if time <= 0.0 {
            return;
        }
        let power = (machine.energy().board - energy) / time;
        let settled = thermal.ambient_c + thermal.resistance_k_per_w * power;
        let change = settled - machine.celsius();
        machine.set_celsius(settled);
        if change.abs() < SETTLED && (power / last - 1.0).abs() < STEADY {
            return;
        }
        last = power;
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;
    use crate::sim::testing::{device, network, plan};

    const TEXT: &str = "name = \"three\"\ninput = [32, 28, 28]\n\
        [[layer]]\nkind = \"conv\"\nout_channels = 32\nkernel = 3\npadding = 1\n\
        [[layer]]\nkind = \"relu\"\n[[layer]]\nkind = \"flatten\"\n[[layer]]\nkind = \"linear\"\nout_features = 10\n";

    fn truth(device: &DeviceParameters) -> Truth {
        let network = network(TEXT);
        Truth::of(&network, &plan(&network, 16), device, "sim")
    }

    #[test]
    fn a_layer_costs_what_the_device_file_says() {
        let mut device = device();
        (device.speed.efficiency_spread, device.speed.half_full_outputs) = (0.0, 0.0);
        let truth = truth(&device);
        let names: Vec<&str> = truth.layers.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["conv1", "relu1", "linear1"]);
        // The ReLU: 16 x 32 x 28 x 28 elements in and out, one operation each, no cache to find them in.
        let n = 16.0 * 32.0 * 28.0 * 28.0;
        let (bytes, speed, energy) = (8.0 * n, &device.speed, &device.energy);
        let time = bytes / speed.memory_bytes_per_s.min(speed.cache_bytes_per_s);
        let time = speed.kernel_s + time.max(n / speed.peak_flops_per_s);
        let joules = n * energy.elementwise_flop_j
            + bytes * (energy.cache_byte_j + energy.memory_byte_j)
            + energy.busy_w * time;
        let relu = &truth.layers[1];
        assert_relative_eq!(relu.time_s.value(), time, max_relative = 1e-6);
        assert_relative_eq!(relu.energy_dynamic_j.value(), joules, max_relative = 1e-6);
        let whole = joules + time * device.power.active_idle_w;
        assert_relative_eq!(relu.energy_j.value(), whole, max_relative = 1e-6);
    }

    #[test]
    fn layers_and_gaps_are_the_pass() {
        let mut device = device();
        device.speed.gap_s = 3e-6;
        let truth = truth(&device);
        let layers: f64 = truth.layers.iter().map(|l| l.energy_j.value()).sum();
        let times: f64 = truth.layers.iter().map(|l| l.time_s.value()).sum();
        let gaps = 3.0 * 3e-6;
        assert_relative_eq!(truth.pass[0].time_s.value(), times + gaps, max_relative = 1e-9);
        let idle = device.power.active_idle_w * gaps;
        assert_relative_eq!(truth.pass[0].energy_j.value(), layers + idle, max_relative = 1e-6);
    }

    #[test]
    fn the_device_is_warm_in_the_truth() {
        let mut device = device();
        device.thermal.leakage_w_per_k = 1.0;
        let truth = truth(&device);
        let power = truth.pass[0].energy_j / truth.pass[0].time_s;
        let settled = device.thermal.ambient_c + device.thermal.resistance_k_per_w * power.value();
        assert_relative_eq!(truth.temperature_c, settled, epsilon = 0.01);
    }

    #[test]
    fn a_neighbour_leaves_in_the_cache_what_the_next_layer_reads() {
        let mut device = device();
        let cold = truth(&device);
        // The ReLU's input is the convolution's output, 1.6 MB, written just before; the network's input is not.
        device.speed.cache_bytes = 8e6;
        let warm = truth(&device);
        let saved = (cold.layers[1].energy_dynamic_j - warm.layers[1].energy_dynamic_j).value();
        assert!(saved > 0.5 * 16.0 * 32.0 * 784.0 * 4.0 * device.energy.memory_byte_j, "{saved}");
    }
}
