//! A simulated device as the rest of the program sees it: a clock, a backend and meters that share one machine.

use std::cell::RefCell;
use std::rc::Rc;

use crate::backend::{Backend, BackendError, BackendInfo, CacheUse, Executor, Mark, Task, Tensors};
use crate::clock::{Clock, Instant};
use crate::meter::{Meter, MeterCandidate, PowerIntegral, ReadError, WrappingCounter};
use crate::network::Network;
use crate::plan::Plan;
use crate::trace::{MeterKind, MeterRecord, MeterStatus};
use crate::units::{Joules, Seconds, Watts};

use super::machine::Machine;
use super::parameters::{DeviceParameters, Domain, Fault, SensorKind, SensorParameters};
use super::work::Work;

/// A simulated device. Copies are the same device.
#[derive(Clone)]
pub struct SimDevice(Rc<RefCell<Machine>>);

/// What a simulated device shows of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    /// Temperature in degrees Celsius.
    pub celsius: f64,
    /// Clock in megahertz.
    pub megahertz: f64,
    /// Whether its power limit holds the clock down.
    pub limited: bool,
}

impl SimDevice {
    /// A device at rest. The seed decides about noise and about when its sensors look, never about the board.
    pub fn new(device: &DeviceParameters, seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Machine::new(device, seed))))
    }

    /// The same device that has been at rest until `from`, to go on with what another one began: its noise does not
    /// begin again.
    pub fn resting_until(device: &DeviceParameters, seed: u64, from: Instant) -> Self {
        let resting = Self::new(device, seed);
        resting.0.borrow_mut().begin_at(from.since_origin().value());
        resting
    }

    /// The device's own time.
    pub fn clock(&self) -> SimClock {
        SimClock(self.clone())
    }

    /// What runs networks on it; `cache` is what a step that is repeated finds in its caches.
    pub fn backend(&self, cache: CacheUse) -> SimBackend {
        SimBackend { device: self.clone(), cache }
    }

    /// Its sensors as meters, the primary one first. Nothing is known of their update periods but what the data sheet
    /// says of power readings.
    pub fn meters(&self) -> Vec<MeterCandidate> {
        let sensors = self.0.borrow().device.sensor.clone();
        let candidate = |(index, sensor): (usize, &SensorParameters)| {
            let reading = SimReading { device: self.clone(), sensor: index, fault: sensor.fault };
            let (kind, meter, period): (_, Box<dyn Meter>, _) = match sensor.kind {
                SensorKind::Energy => (MeterKind::Counter, Box::new(SimCounter::new(reading, sensor)), None),
                SensorKind::Power => {
                    let period = Seconds::new(sensor.update_period_s);
                    (
                        MeterKind::Power,
                        Box::new(SimPower {
                            reading,
                            id: sensor.id.clone(),
                            integral: PowerIntegral::new(period),
                        }),
                        Some(period),
                    )
                }
            };
            let scope = match sensor.domain {
                Domain::Board => "the simulated board",
                Domain::Processor => "the simulated processor, without memory",
                Domain::Memory => "the simulated memory",
            };
            let record = MeterRecord {
                id: sensor.id.clone(),
                scope: scope.to_string(),
                kind,
                status: MeterStatus::Measured,
                reason: None,
                update_period_s: period,
                lag_s: lag(sensor),
                coverage: None,
                systematic_relative: None,
            };
            MeterCandidate::working(record, meter)
        };
        sensors.iter().enumerate().map(candidate).collect()
    }

    /// Temperature, clock and limiter, as of now.
    pub fn condition(&self) -> Condition {
        let machine = self.0.borrow();
        Condition { celsius: machine.celsius(), megahertz: machine.megahertz(), limited: machine.limited() }
    }

    /// What it is made of.
    pub fn parameters(&self) -> DeviceParameters {
        self.0.borrow().device.clone()
    }

    /// Asks a sensor by its position, as a program asks a driver: joules or watts, after the time that it takes.
    pub fn query(&self, sensor: usize) -> f64 {
        self.0.borrow_mut().query(sensor)
    }

    /// What a sensor shows to another thread while this one's work runs: joules or watts, and none of the device's
    /// time. On a device that does not queue, work is done when its call returns, so this is how a program polls there
    /// during a kernel: it runs the kernel in bursts as long as a query takes, and glances between them.
    pub fn glance(&self, sensor: usize) -> f64 {
        self.0.borrow_mut().glance(sensor)
    }

    /// True joules of the board so far, of which only differences mean something: for tests of methods, not for
    /// methods.
    pub fn true_joules(&self) -> f64 {
        self.0.borrow().energy().board
    }

    /// Runs a step of the plan that was prepared last, each time on buffers that no cache holds.
    pub fn replay_cold(&self, step: usize, times: u64) {
        self.0.borrow_mut().replay(step, times, CacheUse::Cold);
    }
}

/// A simulated device's time: it moves when the device is asked, is waited for, or somebody sleeps. Where it does not
/// queue, starting work is waiting for it.
#[derive(Clone)]
pub struct SimClock(SimDevice);

impl Clock for SimClock {
    fn now(&self) -> Instant {
        Instant::default() + Seconds::new(self.0.0.borrow().now())
    }

    fn sleep_until(&self, deadline: Instant) {
        self.0.0.borrow_mut().pass_until(deadline.since_origin().value());
    }

    fn origin_unix(&self) -> Seconds {
        Seconds::ZERO
    }

    fn thread_time(&self) -> Option<Seconds> {
        None
    }
}

/// Runs networks on a simulated device.
pub struct SimBackend {
    device: SimDevice,
    cache: CacheUse,
}

impl Backend for SimBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            kind: "sim",
            name: self.device.0.borrow().device.name.clone(),
            uuid: Some(self.device.0.borrow().device.uuid()),
            engine: "simulated".to_string(),
            threads: 1,
            cache: Some(self.cache),
            emulated: false,
            driver: None,
            cuda: None,
            cudnn: None,
        }
    }

    fn computes(&self) -> bool {
        false
    }

    fn prepare(
        &self,
        network: &Network,
        plan: &Plan,
        _tensors: &Tensors,
    ) -> Result<Box<dyn Executor>, BackendError> {
        let mut machine = self.device.0.borrow_mut();
        let works = Work::of_plan(network, plan, &machine.device);
        machine.load(works, plan.buffers.len());
        Ok(Box::new(SimExecutor { device: self.device.clone(), cache: self.cache }))
    }
}

/// A prepared plan. It takes time and energy and computes nothing.
struct SimExecutor {
    device: SimDevice,
    cache: CacheUse,
}

impl SimExecutor {
    /// Starts work, and waits for it on a device that does not queue.
    fn start(&self, work: impl FnOnce(&mut Machine)) {
        let mut machine = self.device.0.borrow_mut();
        work(&mut machine);
        if !machine.device.speed.queues {
            machine.work_off();
        }
    }
}

impl Executor for SimExecutor {
    fn steps(&self) -> usize {
        self.device.0.borrow().steps()
    }

    fn launch(&mut self, step: usize) -> Result<(), BackendError> {
        self.start(|machine| machine.enqueue(step, 1, CacheUse::Hot));
        Ok(())
    }

    fn repeat(&mut self, task: Task, times: u64) -> Result<(), BackendError> {
        self.start(|machine| match task {
            Task::Step(step) => machine.enqueue(step, times, self.cache),
            Task::Pass => {
                for _ in 0..times {
                    (0..machine.steps()).for_each(|step| machine.enqueue(step, 1, CacheUse::Hot));
                }
            }
            Task::Mix(mix) => machine.enqueue_mix(&mix, times),
        });
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.device.0.borrow_mut().synchronize();
        Ok(())
    }

    fn queues(&self) -> bool {
        self.device.0.borrow().device.speed.queues
    }

    fn mark(&mut self, _clock: &dyn Clock) -> Result<Mark, BackendError> {
        Ok(Mark(self.device.0.borrow_mut().mark()))
    }

    fn passed(&mut self, mark: Mark, _clock: &dyn Clock) -> Result<Option<Instant>, BackendError> {
        let passed = self.device.0.borrow_mut().passed(mark.0);
        Ok(passed.map(|at| Instant::default() + Seconds::new(at)))
    }

    fn fresh_past(&self) -> Option<f64> {
        Some(self.device.0.borrow().device.speed.cache_bytes)
    }

    fn algorithm(&self, _step: usize) -> &str {
        "simulated"
    }

    fn output(&mut self, _step: usize) -> Result<Vec<f32>, BackendError> {
        Ok(Vec::new())
    }
}

/// How long after a change of power a reading of power may still show what was before it: until the first update
/// whose window begins after the change is published.
fn lag(sensor: &SensorParameters) -> Option<Seconds> {
    let window = sensor.window_s.filter(|_| sensor.kind == SensorKind::Power)?;
    Some(Seconds::new(window + sensor.update_period_s + sensor.delay_s[1]))
}

/// One sensor of a device.
struct SimReading {
    device: SimDevice,
    sensor: usize,
    fault: Option<Fault>,
}

impl SimReading {
    /// Joules or watts of the sensor of this name, after the time that asking takes.
    fn query(&self, now: Instant, id: &str) -> Result<f64, ReadError> {
        let value = self.device.query(self.sensor);
        let answers = self.fault.is_none_or(|fault| fault.answers(now.since_origin().value()));
        if answers { Ok(value) } else { Err(ReadError::Retry(format!("{id}: the sensor does not answer"))) }
    }
}

/// An energy counter.
struct SimCounter {
    reading: SimReading,
    id: String,
    step: f64,
    counter: WrappingCounter,
}

impl SimCounter {
    fn new(reading: SimReading, sensor: &SensorParameters) -> Self {
        let range = sensor.wraps_at_j.map_or(u64::MAX, |wraps| (wraps / sensor.step).round() as u64);
        let counter = WrappingCounter::new(range, Joules::new(sensor.step));
        Self { reading, id: sensor.id.clone(), step: sensor.step, counter }
    }
}

impl Meter for SimCounter {
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let counts = (self.reading.query(now, &self.id)? / self.step).round() as u64;
        self.counter.count(counts, now, &self.id)
    }
}

/// Readings of power, added up.
struct SimPower {
    reading: SimReading,
    id: String,
    integral: PowerIntegral,
}

impl Meter for SimPower {
    fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
        let watts = self.reading.query(now, &self.id)?;
        self.integral.add(now, Watts::new(watts)).map_err(|gap| ReadError::Lost(gap.to_string()))
    }

    fn longest_gap(&self) -> Option<Seconds> {
        Some(self.integral.longest_gap())
    }

    fn power(&self) -> Option<Watts> {
        self.integral.power()
    }
}
