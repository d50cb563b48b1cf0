//! The true state of a simulated device: time, power, temperature, clock and caches.

use std::rc::Rc;

use crate::backend::{CacheUse, Mix};
use crate::stats::Rng;

use super::history::History;
use super::parameters::{DeviceParameters, Domain, Tail};
use super::queue::{Entry, Job, Part, Queue, Work as Queued};
use super::sensor::Sensor;
use super::work::{Cache, Traffic, Work};

/// Longest stretch of rest over which power counts as constant: far below any thermal time constant.
const LONGEST_STRETCH: f64 = 0.05;
/// Time between two looks of the sensors, to keep the remembered past short.
const SENSORS_EVERY: f64 = 0.005;
/// Longest stretch of work at one clock, in time constants of the limiter.
const LIMITER_STRETCH: f64 = 0.25;
/// How strongly the power limiter turns: with a filter of the same time constant before it, 0.2 settles without
/// ringing (damping 0.6 where power goes with the third power of the clock).
const LIMITER_GAIN: f64 = 0.2;
/// Random decisions of a run that do not depend on each other.
const TIME_STREAM: u64 = 100;
const SENSOR_STREAM: u64 = 101;

/// One execution of a step as it truly was. Times in seconds, energies in joules.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Execution {
    pub(super) time: f64,
    pub(super) energy: Split,
    /// The same time at active idle.
    pub(super) static_energy: Split,
    /// The gap after it.
    pub(super) gap_time: f64,
    pub(super) gap_energy: Split,
}

impl Execution {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            time: self.time + other.time,
            energy: self.energy.plus(other.energy),
            static_energy: self.static_energy.plus(other.static_energy),
            gap_time: self.gap_time + other.gap_time,
            gap_energy: self.gap_energy.plus(other.gap_energy),
        }
    }

    fn times(self, factor: f64) -> Self {
        Self {
            time: self.time * factor,
            energy: self.energy.times(factor),
            static_energy: self.static_energy.times(factor),
            gap_time: self.gap_time * factor,
            gap_energy: self.gap_energy.times(factor),
        }
    }
}

/// Joules, or watts, of the board and of the memory as a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Split {
    pub(super) board: f64,
    pub(super) memory: f64,
}

impl Split {
    pub(super) fn of(self, domain: Domain) -> f64 {
        match domain {
            Domain::Board => self.board,
            Domain::Memory => self.memory,
            Domain::Processor => self.board - self.memory,
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { board: self.board + other.board, memory: self.memory + other.memory }
    }

    pub(super) fn times(self, factor: f64) -> Self {
        Self { board: self.board * factor, memory: self.memory * factor }
    }
}

/// A device at work. Everything happens at `now`, which only moves forward.
pub(super) struct Machine {
    pub(super) device: DeviceParameters,
    works: Vec<Work>,
    queue: Queue,
    cache: Cache,
    now: f64,
    celsius: f64,
    /// End of the last work; none before the first.
    worked_until: Option<f64>,
    /// Part of the boost that is left: one after a rest.
    boost: f64,
    /// The limiter's highest clock, relative to the reference.
    limit: f64,
    /// Power as the limiter sees it.
    filtered_w: f64,
    /// Whether work was launched since the last synchronisation.
    launched: bool,
    history: History,
    sensors: Vec<Sensor>,
    sensors_at: f64,
    noise: Rng,
}

impl Machine {
    /// A device at rest at ambient temperature. The seed decides about noise and about when sensors look.
    pub(super) fn new(device: &DeviceParameters, seed: u64) -> Self {
        let sensors = (0..).zip(&device.sensor);
        let sensors = sensors
            .map(|(i, sensor)| Sensor::new(sensor, Rng::stream(seed, SENSOR_STREAM + i).number(), 0.0))
            .collect();
        Self { sensors, ..Self::unread(device, Rng::stream(seed, TIME_STREAM)) }
    }

    /// The same without noise of its own and without sensors, to ask for the truth.
    pub(super) fn quiet(device: &DeviceParameters) -> Self {
        let mut device = device.clone();
        device.speed.time_noise = 0.0;
        Self::unread(&device, Rng::new(0))
    }

    fn unread(device: &DeviceParameters, noise: Rng) -> Self {
        let rest = device.power.idle_w;
        // Sensors have been looking before the device begins.
        let mut history = History::new(-1.0);
        history.push(0.0, rest, device.power.memory_idle_w);
        Self {
            works: Vec::new(),
            queue: Queue::default(),
            cache: Cache::new(device.speed.cache_bytes, 0, 0),
            now: 0.0,
            celsius: device.thermal.ambient_c + device.thermal.resistance_k_per_w * rest,
            worked_until: None,
            boost: 1.0,
            limit: most_clock(device),
            filtered_w: rest,
            launched: false,
            history,
            sensors: Vec::new(),
            sensors_at: 0.0,
            noise,
            device: device.clone(),
        }
    }

    /// Prepares the steps of a plan with this many buffers.
    pub(super) fn load(&mut self, works: Vec<Work>, buffers: usize) {
        self.cache = Cache::new(self.device.speed.cache_bytes, buffers, works.len());
        self.works = works;
    }

    pub(super) fn steps(&self) -> usize {
        self.works.len()
    }

    pub(super) fn now(&self) -> f64 {
        self.now
    }

    pub(super) fn celsius(&self) -> f64 {
        self.celsius
    }

    /// The clock in megahertz.
    pub(super) fn megahertz(&self) -> f64 {
        self.clock() * self.device.clock.reference_mhz
    }

    /// Whether the power limit holds the clock down.
    pub(super) fn limited(&self) -> bool {
        self.limit < self.wanted_clock() * 0.999
    }

    /// Runs a step once, after all that is queued.
    pub(super) fn execute(&mut self, step: usize) -> Execution {
        self.work_off();
        self.work(&mut Job::new(Queued::Step(step, CacheUse::Hot), 1), f64::INFINITY)
    }

    /// Runs a step `times` times on end.
    pub(super) fn replay(&mut self, step: usize, times: u64, cache: CacheUse) {
        self.enqueue(step, times, cache);
        self.work_off();
    }

    /// Puts `times` executions of a step into the queue, which is worked off while time passes.
    pub(super) fn enqueue(&mut self, step: usize, times: u64, cache: CacheUse) {
        let mut push = |times| self.push(Job::new(Queued::Step(step, cache), times));
        // What a step finds in the caches is settled after its first two executions, or is always nothing.
        let alone = if cache == CacheUse::Hot { times.min(2) } else { 0 };
        (0..alone).for_each(|_| push(1));
        if times > alone {
            push(times - alone);
        }
    }

    /// Puts `times` executions of a mix into the queue. One that is short against the limiter's time constant is done at
    /// its mean power, of a longer one each step by itself.
    pub(super) fn enqueue_mix(&mut self, mix: &Mix, times: u64) {
        let parts: Vec<Part> = (mix.first..=mix.last).map(|step| self.part(step, mix.times)).collect();
        let mut parts = self.with_traffic(parts, mix.fresh);
        if let Some((step, times)) = mix.filler {
            parts.extend(self.with_traffic(vec![self.part(step, times)], true));
        }
        self.cache.flush();
        let time: f64 = parts.iter().map(|part| self.one(part).time).sum();
        if time < self.device.clock.limiter_s * LIMITER_STRETCH {
            return self.push(Job::new(Queued::Parts(parts.into()), times));
        }
        let steps: Vec<Rc<[Part]>> =
            parts.iter().map(|&part| Rc::from([Part { times: 1.0, ..part }])).collect();
        let own = mix.last - mix.first + 1;
        let order = || {
            let repeated = (0..mix.times).flat_map(|_| &steps[..own]);
            repeated.chain((0..mix.filler.map_or(0, |(_, times)| times)).flat_map(|_| &steps[own..]))
        };
        for part in (0..times).flat_map(|_| order()).cloned().collect::<Vec<_>>() {
            self.push(Job::new(Queued::Parts(part), 1));
        }
    }

    fn part(&self, step: usize, times: u64) -> Part {
        Part { step, times: times as f64, traffic: Traffic::default(), noise: 1.0 }
    }

    /// Steps that run one after the other, on buffers that no cache holds or on those that they used before.
    fn with_traffic(&mut self, mut parts: Vec<Part>, fresh: bool) -> Vec<Part> {
        self.cache.flush();
        for _ in 0..if fresh { 1 } else { 2 } {
            for part in &mut parts {
                part.traffic = self.cache.pass(part.step, &self.works[part.step]);
            }
        }
        parts
    }

    fn push(&mut self, job: Job) {
        self.queue.entries.push_back(Entry::Job(job));
    }

    /// Puts a mark into the queue, behind all work.
    pub(super) fn mark(&mut self) -> u64 {
        let mark = self.queue.mark();
        self.work_until(self.now);
        mark
    }

    /// When the device came past a mark, if it has. Asked once.
    pub(super) fn passed(&mut self, mark: u64) -> Option<f64> {
        self.queue.passed(mark)
    }

    /// Works until the queue is empty.
    pub(super) fn work_off(&mut self) {
        self.work_until(f64::INFINITY);
    }

    /// Works until the queue is empty, or until a time.
    fn work_until(&mut self, until: f64) {
        while let Some(next) = self.queue.entries.pop_front() {
            match next {
                Entry::Mark(mark) => self.queue.pass(mark, self.now),
                Entry::Job(mut job) => {
                    self.work(&mut job, until);
                    if job.left > 0.0 {
                        self.queue.entries.push_front(Entry::Job(job));
                        return;
                    }
                }
            }
        }
    }

    /// Works on a job until it is done, or until a time. Its executions have the traffic of the first and are done in
    /// stretches of mean power: what happens within one is far shorter than the window of any sensor and than the time
    /// in which the limiter acts. Gives its part of the mean of one execution.
    fn work(&mut self, job: &mut Job, until: f64) -> Execution {
        let mut sum = Execution::default();
        if self.now >= until {
            return sum;
        }
        let parts = job.begun.take().unwrap_or_else(|| self.begin(job));
        let longest = self.device.clock.limiter_s * LIMITER_STRETCH;
        while job.left > 0.0 && self.now < until {
            let each = parts.iter().map(|part| self.one(part).times(part.times));
            let one = each.fold(Execution::default(), Execution::plus);
            let whole = one.time + one.gap_time;
            // A part of an execution, where it is longer than the limiter is slow, or than there is time.
            let wanted = job.left.min(longest / whole);
            let fitting = (until - self.now) / whole;
            let (part, end) =
                if fitting < wanted { (fitting, until) } else { (wanted, self.now + whole * wanted) };
            let power = one.energy.plus(one.gap_energy).times(1.0 / whole);
            self.spend(end, power, true);
            sum = sum.plus(one.times(part / job.times));
            job.left = if part < job.left { job.left - part } else { 0.0 };
        }
        if job.left <= 0.0 && job.work != Queued::Step(parts[0].step, CacheUse::Hot) {
            self.cache.flush();
        }
        job.begun = Some(parts);
        self.worked_until = Some(self.now);
        self.launched = true;
        sum
    }

    /// What a job's executions are, as it begins: what they move, and the factors by which they are longer than others.
    fn begin(&mut self, job: &Job) -> Rc<[Part]> {
        let mut parts: Vec<Part> = match &job.work {
            Queued::Parts(parts) => parts.to_vec(),
            &Queued::Step(step, cache) => {
                if cache == CacheUse::Cold {
                    self.cache.flush();
                }
                let traffic = self.cache.pass(step, &self.works[step]);
                vec![Part { traffic, ..self.part(step, 1) }]
            }
        };
        let deviation = self.device.speed.time_noise;
        for part in parts.iter_mut().filter(|_| deviation > 0.0) {
            part.noise = (1.0 + deviation * self.noise.normal()).clamp(0.5, 1.5);
        }
        parts.into()
    }

    /// One execution of a step at the clock and temperature of now.
    fn one(&self, part: &Part) -> Execution {
        let &Part { step, traffic, noise, .. } = part;
        let (device, work, clock) = (&self.device, &self.works[step], self.clock());
        let voltage = 1.0 + device.clock.voltage_slope * (clock - 1.0);
        let time = work.time(&device.speed, traffic, clock) * noise;
        let (operations, memory) = work.energy(&device.energy, traffic, voltage);
        let busy = device.energy.busy_w * work.occupancy * clock * voltage * voltage * time;
        let dynamic = Split { board: operations + busy + memory, memory };
        let rest = self.active_idle();
        let static_energy = rest.times(time);
        let gap_time = device.speed.gap_s;
        Execution {
            time,
            energy: dynamic.plus(static_energy),
            static_energy,
            gap_time,
            gap_energy: rest.times(gap_time),
        }
    }

    /// Waits for all work: the host needs a moment until it launches again.
    pub(super) fn synchronize(&mut self) {
        self.work_off();
        if std::mem::take(&mut self.launched) && self.device.speed.sync_s > 0.0 {
            let power = self.active_idle();
            self.spend(self.now + self.device.speed.sync_s, power, true);
        }
    }

    /// Rests until a time at which a new run begins, whose work has noise of its own.
    pub(super) fn begin_at(&mut self, from: f64) {
        if from > self.now {
            self.pass_until(from);
            self.noise = Rng::stream(self.noise.number(), from.to_bits());
        }
    }

    /// Lets time pass until one that is not before now: the device does what is queued, and then rests.
    pub(super) fn pass_until(&mut self, until: f64) {
        self.work_until(until);
        while self.now < until {
            let longest = until.min(self.now + LONGEST_STRETCH);
            // Where the hold ends, a new stretch begins.
            let end = self.hold_end().filter(|&end| end > self.now).map_or(longest, |end| end.min(longest));
            let power = self.resting(end - self.now);
            self.spend(end, power, false);
        }
    }

    /// Asks a sensor, which takes its time: joules or watts.
    pub(super) fn query(&mut self, sensor: usize) -> f64 {
        let takes = self.sensors[sensor].query_time();
        // The value is taken in the middle of the call.
        self.pass_until(self.now + takes / 2.0);
        let value = self.glance(sensor);
        self.pass_until(self.now + takes / 2.0);
        value
    }

    /// What a sensor shows to a thread that asks while the device works: joules or watts.
    pub(super) fn glance(&mut self, sensor: usize) -> f64 {
        self.look();
        self.sensors[sensor].read(self.now)
    }

    /// Brings the device to a temperature, as hours of the same work would.
    pub(super) fn set_celsius(&mut self, celsius: f64) {
        self.celsius = celsius;
    }

    /// Ends the boost, as a long time of work would.
    pub(super) fn wear_off(&mut self) {
        self.boost = 0.0;
    }

    /// True energy so far: only differences mean something.
    pub(super) fn energy(&self) -> Split {
        use super::curve::EnergyCurve;
        let at = |domain| self.history.joules(domain, self.now);
        Split { board: at(Domain::Board), memory: at(Domain::Memory) }
    }

    /// The clock relative to the reference.
    fn clock(&self) -> f64 {
        self.wanted_clock().min(self.limit)
    }

    /// The clock without the limiter.
    fn wanted_clock(&self) -> f64 {
        1.0 + (self.device.clock.boost_mhz / self.device.clock.reference_mhz - 1.0) * self.boost
    }

    /// Power between two kernels, at the temperature of now.
    fn active_idle(&self) -> Split {
        let (power, thermal) = (&self.device.power, &self.device.thermal);
        let leakage = thermal.leakage_w_per_k * (self.celsius - thermal.reference_c);
        Split { board: power.active_idle_w + leakage, memory: power.memory_idle_w }
    }

    /// Until when the power of active idle is held; none before any work.
    fn hold_end(&self) -> Option<f64> {
        Some(self.worked_until? + self.device.power.hold_s)
    }

    /// Mean power over a stretch in which nothing is asked of the device.
    fn resting(&self, stretch: f64) -> Split {
        let power = &self.device.power;
        let idle = Split { board: power.idle_w, memory: power.memory_idle_w };
        let Some(hold_end) = self.hold_end() else { return idle };
        let beyond = self.now - hold_end;
        let left = match power.tail {
            _ if beyond < 0.0 => 1.0,
            Tail::Step => 0.0,
            Tail::Exponential => {
                (-beyond / power.tail_s).exp() * way(stretch, power.tail_s) * power.tail_s / stretch
            }
        };
        Split { board: idle.board + (self.active_idle().board - idle.board) * left, ..idle }
    }

    /// Lets time pass until `end` at a power.
    fn spend(&mut self, end: f64, power: Split, working: bool) {
        let (thermal, clock) = (&self.device.thermal, &self.device.clock);
        let time = end - self.now;
        self.now = end;
        self.history.push(self.now, power.board, power.memory);
        let settled = thermal.ambient_c + thermal.resistance_k_per_w * power.board;
        self.celsius += (settled - self.celsius) * way(time, thermal.time_constant_s);
        let goal = if working { 0.0 } else { 1.0 };
        self.boost += (goal - self.boost) * way(time, clock.boost_decay_s);
        self.filtered_w += (power.board - self.filtered_w) * way(time, clock.limiter_s);
        let error = (self.device.power.limit_w - self.filtered_w) / self.device.power.limit_w;
        let turn = (LIMITER_GAIN * error * time / clock.limiter_s).clamp(-0.5, 0.5);
        let lowest = clock.lowest_mhz / clock.reference_mhz;
        self.limit = (self.limit * turn.exp()).clamp(lowest, most_clock(&self.device));
        if self.now - self.sensors_at > SENSORS_EVERY {
            self.look();
        }
    }

    /// Lets the sensors look at what has happened, and forgets what none needs any more.
    fn look(&mut self) {
        self.sensors_at = self.now;
        let mut needed = self.now;
        for sensor in &mut self.sensors {
            sensor.advance(&self.history, self.now);
            needed = needed.min(sensor.needs_from());
        }
        self.history.forget_before(needed);
    }
}

/// The highest clock relative to the reference.
fn most_clock(device: &DeviceParameters) -> f64 {
    (device.clock.boost_mhz / device.clock.reference_mhz).max(1.0)
}

/// The part of the way to its goal that a quantity goes in some time.
fn way(time: f64, constant: f64) -> f64 {
    let x = time / constant;
    // The first term of the series is exact to 5e-7 here, and millions of kernels are short.
    if x < 1e-3 { x * (1.0 - x / 2.0) } else { -(-x).exp_m1() }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;
    use crate::sim::parameters::{Power, Thermal};
    use crate::sim::testing::{device, network, plan};

    const TEXT: &str = "name = \"one\"\ninput = [64, 56, 56]\n\
        [[layer]]\nkind = \"conv\"\nout_channels = 64\nkernel = 3\npadding = 1\n";

    /// A machine with one convolution, and the power that it draws at the reference temperature and clock.
    fn machine(device: &DeviceParameters) -> (Machine, f64) {
        let network = network(TEXT);
        let plan = plan(&network, 8);
        let mut machine = Machine::quiet(device);
        machine.load(Work::of_plan(&network, &plan, device), plan.buffers.len());
        let once = machine.execute(0);
        let power = (once.energy.board - once.static_energy.board) / once.time + device.power.active_idle_w;
        (machine, power)
    }

    /// Works for a time; mean power over it.
    fn work(machine: &mut Machine, time: f64) -> f64 {
        let (begin, energy) = (machine.now(), machine.energy().board);
        while machine.now() - begin < time {
            machine.replay(0, 10, CacheUse::Hot);
        }
        (machine.energy().board - energy) / (machine.now() - begin)
    }

    #[test]
    fn temperature_settles_where_heat_and_leakage_balance() {
        let mut device = device();
        device.thermal = Thermal {
            ambient_c: 30.0,
            resistance_k_per_w: 0.1,
            time_constant_s: 20.0,
            leakage_w_per_k: 1.0,
            reference_c: 50.0,
        };
        let (mut machine, cool) = machine(&device);
        work(&mut machine, 300.0);
        // P = P0 + k (T - Tref) and T = Ta + R P give T = (Ta + R (P0 - k Tref)) / (1 - R k).
        let settled = (30.0 + 0.1 * (cool - 50.0)) / (1.0 - 0.1);
        assert_relative_eq!(machine.celsius(), settled, epsilon = 0.01);
        assert_relative_eq!(work(&mut machine, 1.0), cool + (settled - 50.0), epsilon = 0.05);
        // Without leakage, a rest of one time constant takes it all but e^-1 of the way.
        device.thermal.leakage_w_per_k = 0.0;
        let (mut machine, _) = self::machine(&device);
        machine.set_celsius(80.0);
        machine.pass_until(machine.now() + 20.0);
        let rest = 30.0 + 0.1 * device.power.active_idle_w;
        assert_relative_eq!(machine.celsius(), rest + (80.0 - rest) * (-1.0f64).exp(), epsilon = 0.01);
    }

    #[test]
    fn the_limiter_keeps_the_mean_power_by_lowering_the_clock() {
        let mut device = device();
        (device.clock.lowest_mhz, device.clock.voltage_slope) = (device.clock.reference_mhz * 0.2, 0.5);
        let free = machine(&device).1;
        device.power.limit_w = free * 0.8;
        let (mut machine, _) = machine(&device);
        work(&mut machine, device.clock.limiter_s * 40.0);
        assert_relative_eq!(work(&mut machine, 0.5), free * 0.8, max_relative = 0.002);
        assert!(machine.limited() && machine.megahertz() < device.clock.reference_mhz);
        // A lighter load is free again.
        machine.device.power.limit_w = free * 1.2;
        work(&mut machine, device.clock.limiter_s * 40.0);
        assert!(!machine.limited(), "{} MHz", machine.megahertz());
        assert_relative_eq!(machine.megahertz(), device.clock.reference_mhz, max_relative = 1e-6);
    }

    #[test]
    fn the_limiter_holds_kernels_longer_than_its_own_time() {
        let mut device = device();
        (device.clock.lowest_mhz, device.clock.voltage_slope) = (device.clock.reference_mhz * 0.2, 0.5);
        let (free_time, free) = {
            let (mut machine, free) = machine(&device);
            (machine.execute(0).time, free)
        };
        device.power.limit_w = free * 0.8;
        device.clock.limiter_s = free_time / 30.0;
        let (mut machine, _) = machine(&device);
        let means: Vec<f64> = (0..20).map(|_| machine.execute(0)).map(|e| e.energy.board / e.time).collect();
        // The clock finds its place within the first and stays there.
        for mean in &means[10..] {
            assert_relative_eq!(*mean, free * 0.8, max_relative = 0.005);
        }
    }

    #[test]
    fn a_rest_brings_the_boost_back_and_work_wears_it_off() {
        let mut device = device();
        device.clock.boost_mhz = device.clock.reference_mhz * 1.1;
        device.clock.boost_decay_s = 0.3;
        let (mut machine, _) = machine(&device);
        let relative = |machine: &Machine| machine.megahertz() / device.clock.reference_mhz;
        let start = machine.now();
        while machine.now() - start < 0.3 {
            machine.execute(0);
        }
        assert_relative_eq!(relative(&machine), 1.0 + 0.1 * (-1.0f64).exp(), epsilon = 1e-3);
        machine.pass_until(machine.now() + 10.0);
        assert_relative_eq!(relative(&machine), 1.1, epsilon = 1e-6);
        // A device whose clock has to wake up first.
        device.clock.boost_mhz = device.clock.reference_mhz * 0.5;
        device.clock.lowest_mhz = device.clock.boost_mhz;
        let mut waking = Machine::quiet(&device);
        assert_relative_eq!(relative(&waking), 0.5, epsilon = 1e-6);
        waking.pass_until(1.0);
        assert_relative_eq!(relative(&waking), 0.5, epsilon = 1e-6);
        assert_relative_eq!(relative(&self::machine(&device).0), 0.5, epsilon = 0.01);
    }

    #[test]
    fn after_work_the_power_holds_and_then_falls() {
        let mut device = device();
        device.power = Power {
            idle_w: 40.0,
            active_idle_w: 100.0,
            hold_s: 2.0,
            tail: Tail::Exponential,
            tail_s: 5.0,
            ..device.power
        };
        let (mut machine, _) = machine(&device);
        let resting = |machine: &mut Machine, time: f64| {
            let before = machine.energy().board;
            machine.pass_until(machine.now() + time);
            machine.energy().board - before
        };
        assert_relative_eq!(resting(&mut machine, 2.0), 200.0, max_relative = 1e-6);
        // 40 W, and 60 W x 5 s x (1 - e^-1) in the first time constant of the fall.
        let fall = 40.0 * 5.0 + 60.0 * 5.0 * (1.0 - (-1.0f64).exp());
        assert_relative_eq!(resting(&mut machine, 5.0), fall, max_relative = 5e-3);
        // A fall much faster than the stretches that rest is cut into: 60 W x 0.01 s.
        (device.power.hold_s, device.power.tail_s) = (0.013, 0.01);
        let (mut fast, _) = self::machine(&device);
        let whole = 100.0 * 0.013 + 40.0 * 0.987 + 60.0 * 0.01;
        assert_relative_eq!(resting(&mut fast, 1.0), whole, max_relative = 1e-9);
        // Before any work it idles.
        let mut fresh = Machine::quiet(&device);
        assert_relative_eq!(resting(&mut fresh, 3.0), 120.0, max_relative = 1e-9);
    }

    #[test]
    fn gaps_and_synchronisation_cost_active_idle() {
        let mut device = device();
        (device.speed.gap_s, device.speed.sync_s) = (2e-6, 30e-6);
        let (mut machine, _) = machine(&device);
        let before = (machine.now(), machine.energy().board);
        let once = machine.execute(0);
        assert_relative_eq!(once.gap_energy.board, device.power.active_idle_w * 2e-6, max_relative = 1e-9);
        machine.synchronize();
        // Nothing was launched since: no second wait.
        machine.synchronize();
        assert_relative_eq!(machine.now() - before.0, once.time + 32e-6, max_relative = 1e-9);
        let spent = once.energy.board + device.power.active_idle_w * 32e-6;
        assert_relative_eq!(machine.energy().board - before.1, spent, max_relative = 1e-9);
    }

    #[test]
    fn queued_work_is_done_while_time_passes_and_costs_the_same() {
        let mut device = device();
        device.speed.gap_s = 2e-6;
        let (mut machine, _) = machine(&device);
        let (mut reference, _) = self::machine(&device);
        reference.replay(0, 100, CacheUse::Hot);
        reference.pass_until(1.0);
        let begin = machine.now();
        let one = machine.execute(0);
        let each = one.time + one.gap_time;
        machine.enqueue(0, 49, CacheUse::Hot);
        let first = machine.mark();
        machine.enqueue(0, 50, CacheUse::Hot);
        let second = machine.mark();
        // Nothing happens until time passes; a query takes some.
        assert_relative_eq!(machine.now(), begin + each, max_relative = 1e-12);
        machine.pass_until(begin + 49.5 * each);
        assert_eq!(machine.passed(first), None);
        machine.pass_until(begin + 50.5 * each);
        assert_relative_eq!(machine.passed(first).unwrap(), begin + 50.0 * each, max_relative = 1e-9);
        assert_eq!(machine.passed(second), None);
        machine.pass_until(1.0);
        assert_relative_eq!(machine.passed(second).unwrap(), begin + 100.0 * each, max_relative = 1e-9);
        assert_relative_eq!(machine.energy().board, reference.energy().board, max_relative = 1e-9);
        // Behind an empty queue a mark is passed at once.
        let third = machine.mark();
        assert_eq!(machine.passed(third), Some(1.0));
    }

    #[test]
    fn a_burst_costs_what_its_executions_cost() {
        let mut device = device();
        device.speed.cache_bytes = 1e6;
        let (mut single, _) = machine(&device);
        let (mut burst, _) = machine(&device);
        for _ in 0..50 {
            single.execute(0);
        }
        burst.replay(0, 50, CacheUse::Hot);
        assert_relative_eq!(single.now(), burst.now(), max_relative = 1e-9);
        assert_relative_eq!(single.energy().board, burst.energy().board, max_relative = 1e-9);
    }

    #[test]
    fn cold_buffers_cost_more_than_warm_ones() {
        let mut device = device();
        device.speed.cache_bytes = 1e9;
        let joules = |cache: CacheUse| {
            let (mut machine, _) = machine(&device);
            let before = machine.energy().board;
            machine.replay(0, 100, cache);
            machine.energy().board - before
        };
        // 8 x 64 x 56 x 56 f32 in and out, and 64 x 64 x 9 weights with a bias: all from memory, or none of it.
        let bytes = 4.0 * (2.0 * 8.0 * 64.0 * 56.0 * 56.0 + 64.0 * 64.0 * 9.0 + 64.0);
        let memory = 100.0 * bytes * device.energy.memory_byte_j;
        let (cold, warm) = (joules(CacheUse::Cold), joules(CacheUse::Hot));
        // Arithmetic takes longer than memory here, so that nothing else differs.
        assert_relative_eq!(cold - warm, memory, max_relative = 1e-6);
    }

    #[test]
    fn a_query_takes_its_time() {
        let mut device = device();
        device.sensor[0].query_s = [1e-3, 1e-3];
        let mut machine = Machine::new(&device, 0);
        let before = machine.now();
        machine.query(0);
        assert_relative_eq!(machine.now() - before, 1e-3, max_relative = 1e-9);
    }
}
