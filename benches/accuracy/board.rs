//! A simulated device as a tool drives a GPU: launches, waits, sleeps, reads.

use layerjoule::backend::{Backend as _, CacheUse, Executor, Task, Tensors};
use layerjoule::clock::Clock as _;
use layerjoule::sim::{DeviceParameters, SensorKind, SimDevice};
use layerjoule::stats::Estimate;
use layerjoule::units::{Joules, Seconds};

use super::subject::Subject;

/// Work between two looks at sensors and state is cut into bursts of this length: far below the time constants of
/// clocks and power limits.
const BURST: f64 = 5e-3;
/// Executions of a burst whose time is not known.
const COLD_BURST: u64 = 10;
/// Longest time between two looks of the process that counts wraps.
const WATCH: f64 = 1.0;
/// Fewest seconds between two queries of a loop that does nothing else, the shortest that was measured on a real
/// driver (notes on query cost: 20 us).
const FASTEST_QUERY: f64 = 20e-6;

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Work {
    /// One step of the plan.
    Step(usize),
    /// All steps in order.
    Pass,
}

/// Joules of one execution, with a 95 % interval where the method gives one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Value {
    pub(crate) joules: f64,
    pub(crate) interval: Option<[f64; 2]>,
}

impl Value {
    /// A number without an interval.
    pub(crate) fn bare(joules: f64) -> Self {
        Self { joules, interval: None }
    }
}

impl From<Estimate<Joules>> for Value {
    fn from(estimate: Estimate<Joules>) -> Self {
        let Estimate { value, low, high } = estimate;
        Self { joules: value.value(), interval: Some([low.value(), high.value()]) }
    }
}

/// What a method says of a network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// Of each step; none where it gives no number.
    pub(crate) layers: Vec<Option<Value>>,
    pub(crate) pass: Option<Value>,
    /// What it accounts for between the layers.
    pub(crate) gaps: f64,
    /// Time of the device that it took.
    pub(crate) seconds: f64,
    /// The sensor that it read.
    pub(crate) sensor: usize,
}

/// An energy counter whose wraps are counted. One that falls without wrapping, as after a reset, is believed.
struct Counter {
    sensor: usize,
    range: Option<f64>,
    last: f64,
    wrapped: f64,
}

impl Counter {
    fn unwrapped(&mut self, raw: f64) -> f64 {
        if let Some(range) = self.range.filter(|_| raw < self.last) {
            self.wrapped += range;
        }
        self.last = raw;
        self.wrapped + raw
    }
}

/// A device with a prepared network. Everything that a tool does on it takes the device's time.
pub(crate) struct Board<'a> {
    pub(crate) subject: &'a Subject,
    device: SimDevice,
    executor: Box<dyn Executor>,
    counter: Option<Counter>,
}

impl<'a> Board<'a> {
    /// A cold board.
    pub(crate) fn new(subject: &'a Subject, seed: u64) -> Result<Self, String> {
        // Tools that look while a kernel runs are modelled by bursts with glances between them, which cost the device
        // nothing: so the work of a burst is done when its call returns.
        let mut synchronous = subject.device.clone();
        synchronous.speed.queues = false;
        let device = SimDevice::new(&synchronous, seed);
        let executor = device
            .backend(CacheUse::Hot)
            .prepare(&subject.network, &subject.plan, &Tensors::none())
            .map_err(|error| error.to_string())?;
        let counter = subject.sensors(SensorKind::Energy).next().map(|(sensor, parameters)| Counter {
            sensor,
            range: parameters.wraps_at_j,
            last: 0.0,
            wrapped: 0.0,
        });
        Ok(Self { subject, device, executor, counter })
    }

    /// What the board is made of.
    pub(crate) fn parameters(&self) -> &'a DeviceParameters {
        &self.subject.device
    }

    /// Seconds since the board started.
    pub(crate) fn now(&self) -> f64 {
        self.device.clock().now().since_origin().value()
    }

    /// Sleeps.
    pub(crate) fn rest(&mut self, seconds: f64) {
        // Counted, because the clock's nanoseconds may never reach a sum of floats exactly.
        let naps = (seconds / WATCH).ceil().max(1.0);
        for _ in 0..naps as u64 {
            self.sleep(seconds / naps);
            self.watch_counter();
        }
    }

    fn sleep(&self, seconds: f64) {
        let clock = self.device.clock();
        clock.sleep_until(clock.now() + Seconds::new(seconds));
    }

    /// Launches work once.
    pub(crate) fn launch(&mut self, work: Work) -> Result<(), String> {
        match work {
            Work::Step(step) => self.step(step, 1),
            Work::Pass => (0..self.subject.plan.steps.len()).try_for_each(|step| self.step(step, 1)),
        }
    }

    fn step(&mut self, step: usize, times: u64) -> Result<(), String> {
        self.executor.repeat(Task::Step(step), times).map_err(|error| error.to_string())
    }

    /// Waits for everything launched.
    pub(crate) fn sync(&mut self) -> Result<(), String> {
        self.executor.sync().map_err(|error| error.to_string())
    }

    /// Launches work `times` times on end. `each` is the time of one execution, by which it is cut into bursts.
    pub(crate) fn run(&mut self, work: Work, times: u64, each: f64) -> Result<(), String> {
        self.run_watched(work, times, each, BURST, |_| {})
    }

    /// The same with a look by another thread at least every `every` seconds, as far as executions are that short.
    pub(crate) fn run_watched(
        &mut self,
        work: Work,
        times: u64,
        each: f64,
        every: f64,
        mut look: impl FnMut(&Self),
    ) -> Result<(), String> {
        let mut left = times;
        while left > 0 {
            match work {
                Work::Step(step) => {
                    let burst = ((every.min(BURST) / each) as u64).clamp(1, left);
                    self.step(step, burst)?;
                    look(self);
                    self.watch_counter();
                    left -= burst;
                }
                Work::Pass => {
                    for step in 0..self.subject.plan.steps.len() {
                        self.step(step, 1)?;
                        look(self);
                    }
                    self.watch_counter();
                    left -= 1;
                }
            }
        }
        Ok(())
    }

    /// Mean time of `times` executions that are each waited for, without the wait itself: what events around a
    /// kernel show.
    pub(crate) fn time_of(&mut self, work: Work, times: usize) -> Result<f64, String> {
        let mut sum = 0.0;
        for _ in 0..times {
            let begin = self.now();
            self.launch(work)?;
            sum += self.now() - begin;
            self.sync()?;
        }
        Ok(sum / times as f64)
    }

    /// Runs passes for some seconds: what somebody does before measuring anything.
    pub(crate) fn warm_up(&mut self, seconds: f64) -> Result<(), String> {
        let until = self.now() + seconds;
        while self.now() < until {
            self.launch(Work::Pass)?;
        }
        self.sync()
    }

    /// Position of the energy counter.
    pub(crate) fn counter_index(&self) -> Result<usize, String> {
        self.counter.as_ref().map(|counter| counter.sensor).ok_or("no energy counter".to_string())
    }

    /// Waits for all work and reads the energy counter, its wraps undone.
    pub(crate) fn counter(&mut self) -> Result<f64, String> {
        self.sync()?;
        let raw = self.query(self.counter_index()?);
        self.counter.as_mut().map(|counter| counter.unwrapped(raw)).ok_or("no energy counter".to_string())
    }

    /// A process beside the tool looks often enough that no wrap is missed, as Zeus's does; counters that never wrap
    /// have none.
    fn watch_counter(&mut self) {
        if let Some(counter) = self.counter.as_mut().filter(|counter| counter.range.is_some()) {
            counter.unwrapped(self.device.glance(counter.sensor));
        }
    }

    /// Position of the power reading with the shortest average.
    pub(crate) fn instant_power(&self) -> Result<usize, String> {
        let window =
            |(_, sensor): &(usize, &layerjoule::sim::SensorParameters)| sensor.window_s.unwrap_or(0.0);
        let sensors = self.subject.sensors(SensorKind::Power);
        let shortest = sensors.min_by(|a, b| window(a).total_cmp(&window(b)));
        shortest.map(|(index, _)| index).ok_or("no reading of power".to_string())
    }

    /// Asks a sensor; the device rests meanwhile.
    pub(crate) fn query(&self, sensor: usize) -> f64 {
        let begin = self.now();
        let value = self.device.query(sensor);
        self.sleep((begin + FASTEST_QUERY - self.now()).max(0.0));
        value
    }

    /// What a thread sees that asks while the device works.
    pub(crate) fn glance(&self, sensor: usize) -> f64 {
        self.device.glance(sensor)
    }

    /// Runs a step on buffers that no cache holds.
    pub(crate) fn run_cold(&self, step: usize, times: u64) {
        let bursts = times / COLD_BURST;
        (0..bursts).for_each(|_| self.device.replay_cold(step, COLD_BURST));
        self.device.replay_cold(step, times % COLD_BURST);
    }

    /// What a perfect meter would show: for what is not the sensors' doing.
    pub(crate) fn true_joules(&self) -> f64 {
        self.device.true_joules()
    }

    /// Mean time of a query of a sensor.
    pub(crate) fn query_time(&self, sensor: usize) -> f64 {
        let [least, most] = self.parameters().sensor[sensor].query_s;
        ((least + most) / 2.0).max(FASTEST_QUERY)
    }
}

/// Applies a measurement to each kind of work once, and to the pass: layers of equal signature cost the same, and a
/// tool's user would not measure them twice.
pub(crate) fn each_signature(
    board: &mut Board<'_>,
    sensor: usize,
    mut measure: impl FnMut(&mut Board<'_>, Work) -> Result<Value, String>,
) -> Result<Answer, String> {
    let plan = &board.subject.plan;
    let mut layers = vec![None; plan.steps.len()];
    for signature in &plan.signatures {
        let Some(&first) = signature.steps.first() else { continue };
        let value = measure(board, Work::Step(first))?;
        signature.steps.iter().for_each(|&step| layers[step] = Some(value));
    }
    let pass = Some(measure(board, Work::Pass)?);
    Ok(Answer { layers, pass, gaps: 0.0, seconds: board.now(), sensor })
}
