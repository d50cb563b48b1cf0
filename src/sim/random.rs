//! Boards that nobody built: what the profiler must withstand beyond the presets.

use super::parameters::{
    Clocking, DeviceParameters, Domain, Fault, Power, SensorKind, SensorParameters, Speed, Tail, Thermal,
    WorkEnergy,
};
use crate::stats::Rng;

/// Keeps the board apart from the noise and the schedule, which have the same seed.
const BOARD_STREAM: u64 = 0xB0A2D;
/// Of the first sensors, this share has a fault.
const FAULTY: f64 = 0.1;

impl DeviceParameters {
    /// A board drawn from a seed, harsher than any preset: every artefact of real sensors, from wide ranges.
    ///
    /// Gain within 5 % and offset within 5 W, updates every 20 to 200 ms, in half of the boards part-time ones,
    /// noise and time noise to 1 %, missed updates to 5 %, a power limit that large layers meet, leakage, slow
    /// boosts and tails, gaps. A tenth of the boards has a counter that is stuck, starts again or suffers from being read.
    pub fn random(seed: u64) -> Self {
        let mut draw = Draw(Rng::stream(seed, BOARD_STREAM));
        let speed = draw.speed();
        let dynamic_w = draw.log(50.0, 600.0);
        let energy = draw.energy(&speed, dynamic_w);
        let power = draw.power(&energy, dynamic_w);
        let thermal = draw.thermal(&power);
        Self {
            name: format!("random device {seed}"),
            speed,
            energy,
            power,
            thermal,
            clock: draw.clock(),
            sensor: draw.sensors(),
        }
    }
}

/// Draws from one seed's board.
struct Draw(Rng);

impl Draw {
    fn within(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.0.uniform()
    }

    /// Uniform in the logarithm: every order of magnitude equally likely.
    fn log(&mut self, least: f64, most: f64) -> f64 {
        self.within(least.ln(), most.ln()).exp()
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.0.uniform() < probability
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.below(choices.len())]
    }

    fn speed(&mut self) -> Speed {
        let memory_bytes_per_s = self.log(1e11, 5e12);
        Speed {
            peak_flops_per_s: self.log(2e12, 1e14),
            efficiency: self.within(0.4, 0.9),
            efficiency_spread: self.within(0.0, 0.2),
            half_full_outputs: self.log(1e3, 3e5),
            memory_bytes_per_s,
            cache_bytes: self.log(128e3, 32e6),
            cache_bytes_per_s: memory_bytes_per_s * self.within(1.5, 8.0),
            kernel_s: self.log(5e-7, 8e-6),
            gap_s: self.log(5e-7, 3e-5),
            sync_s: self.log(5e-6, 3e-4),
            time_noise: self.within(0.0, 0.01),
            queues: true,
        }
    }

    /// Work that draws `dynamic_w` of conv at the full rate, and a share of that at the full bandwidth of memory.
    fn energy(&mut self, speed: &Speed, dynamic_w: f64) -> WorkEnergy {
        let flop_j = dynamic_w / (speed.peak_flops_per_s * speed.efficiency);
        let memory_byte_j = dynamic_w * self.within(0.1, 0.8) / speed.memory_bytes_per_s;
        WorkEnergy {
            flop_j,
            elementwise_flop_j: flop_j * self.within(1.0, 3.0),
            cache_byte_j: memory_byte_j * self.within(0.1, 0.5),
            memory_byte_j,
            busy_w: dynamic_w * self.within(0.05, 0.3),
        }
    }

    fn power(&mut self, energy: &WorkEnergy, dynamic_w: f64) -> Power {
        let idle_w = self.within(10.0, 100.0);
        let active_idle_w = idle_w * self.within(1.0, 2.5);
        let above_idle_w = energy.busy_w + dynamic_w;
        Power {
            idle_w,
            active_idle_w,
            memory_idle_w: idle_w * self.within(0.05, 0.6),
            hold_s: self.within(0.0, 4.0),
            tail: self.one_of(&[Tail::Step, Tail::Exponential]),
            tail_s: self.within(1.0, 10.0),
            // Layers near the full rate meet it on most boards.
            limit_w: active_idle_w + above_idle_w * self.within(0.6, 1.1),
        }
    }

    /// A board that is 25 to 60 K above the air at its limit, and leaks at most half a watt for each that heats it.
    /// No colder than where leakage would leave less than the memory's part of active idle.
    fn thermal(&mut self, power: &Power) -> Thermal {
        let (ambient_c, rise_k) = (self.within(15.0, 40.0), self.within(25.0, 60.0));
        let resistance_k_per_w = rise_k / power.limit_w;
        let leakage_w_per_k = self.within(0.4, 1.9).min(0.5 / resistance_k_per_w);
        let time_constant_s = self.within(15.0, 90.0);
        let reference_c = ambient_c + rise_k * self.within(0.3, 1.0);
        let warmest_c = ambient_c + 0.99 * (power.active_idle_w - power.memory_idle_w) / leakage_w_per_k;
        Thermal {
            ambient_c,
            resistance_k_per_w,
            time_constant_s,
            leakage_w_per_k,
            reference_c: reference_c.min(warmest_c),
        }
    }

    fn clock(&mut self) -> Clocking {
        let reference_mhz = self.within(800.0, 2500.0);
        Clocking {
            reference_mhz,
            boost_mhz: reference_mhz * self.within(1.0, 1.2),
            boost_decay_s: self.within(0.2, 2.0),
            lowest_mhz: reference_mhz * self.within(0.1, 0.6),
            voltage_slope: self.within(0.2, 0.9),
            limiter_s: self.log(0.01, 0.5),
        }
    }

    /// An energy counter and the power at an instant, and of half of the boards the average of a second: one
    /// chip's readings, so they share what that chip does.
    fn sensors(&mut self) -> Vec<SensorParameters> {
        let update_period_s = self.log(0.02, 0.2);
        let part_time = self.chance(0.5).then(|| update_period_s * self.within(0.1, 0.6));
        let delay_s = self.within(0.0, 0.002);
        let query_s = self.log(1e-5, 2e-4);
        let counter = SensorParameters {
            id: "sim".to_string(),
            kind: SensorKind::Energy,
            domain: Domain::Board,
            update_period_s,
            window_s: part_time,
            jitter_s: update_period_s * self.within(0.0, 0.2),
            delay_s: [delay_s, delay_s + self.within(0.0, 0.005)],
            noise: self.within(0.001, 0.01),
            noise_correlation: self.within(0.3, 0.9),
            gain: self.within(0.95, 1.05),
            offset_w: self.within(-5.0, 5.0),
            step: self.one_of(&[0.5_f64.powi(16), 0.5_f64.powi(14), 0.001, 0.1, 1.0]),
            missed: self.within(0.0, 0.05),
            query_s: [query_s, query_s * self.within(1.0, 10.0)],
            slow_queries: self.within(0.0, 0.02),
            slow_query_s: self.within(0.002, 0.02),
            wraps_at_j: None,
            fault: None,
        };
        let instant = SensorParameters {
            id: "sim-instant".to_string(),
            kind: SensorKind::Power,
            window_s: Some(part_time.unwrap_or(update_period_s)),
            step: self.one_of(&[0.001, 0.1, 1.0]),
            ..counter.clone()
        };
        let average = SensorParameters {
            id: "sim-average".to_string(),
            window_s: Some(1.0),
            delay_s: [0.5, 0.5],
            ..instant.clone()
        };
        let wraps_at_j = self.chance(0.5).then(|| (self.log(5e3, 3e5) / counter.step).round() * counter.step);
        let fault = self.chance(FAULTY).then(|| self.fault());
        let mut sensors = vec![SensorParameters { wraps_at_j, fault, ..counter }, instant];
        if self.chance(0.5) {
            sensors.push(average);
        }
        sensors
    }

    fn fault(&mut self) -> Fault {
        let at_s = self.log(2.0, 200.0);
        let read_rate =
            Fault::ReadRate { per_query_j: self.within(1.0, 10.0), forgets_within_s: self.log(0.01, 1.0) };
        self.one_of(&[Fault::Stuck { at_s }, Fault::Reset { at_s }, read_rate])
    }
}
