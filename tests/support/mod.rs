//! What several tests use: a scripted device with known power, in virtual time; a counter with injected energy;
//! the built program.

// Tests act as other processes, which have clocks of their own.
#[allow(clippy::disallowed_methods)]
pub(crate) mod injected;
pub(crate) mod program;
pub(crate) mod queued;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use layerjoule::backend::{BackendError, Executor};
use layerjoule::clock::{Clock, Instant, ManualClock};
use layerjoule::meter::{Meter, ReadError};
use layerjoule::plan::{Plan, Signature, Step};
use layerjoule::trace::{
    DeviceRecord, Environment, Header, LayerRecord, MeterKind, MeterRecord, MeterStatus, NetworkRecord,
    RecordOptions, TRACE_SCHEMA, Tool,
};
use layerjoule::units::{Joules, Seconds, Watts};

/// Power over virtual time and a counter that publishes it every `period`.
pub(crate) struct Device {
    pub(crate) clock: Rc<ManualClock>,
    idle: Watts,
    period: f64,
    state: RefCell<State>,
    /// What is worked off while time passes, in order.
    queue: RefCell<VecDeque<Given>>,
    /// When marks were passed: the first one's number is 1.
    passed: RefCell<Vec<f64>>,
}

/// Work for some seconds at some watts, or a mark.
enum Given {
    Work(f64, f64),
    Mark(u64),
}

struct State {
    until: f64,
    energy: f64,
    published: f64,
}

impl Device {
    pub(crate) fn new(idle: f64, period: f64) -> Rc<Self> {
        let state = RefCell::new(State { until: 0.0, energy: 0.0, published: 0.0 });
        Rc::new(Self {
            clock: Rc::new(ManualClock::default()),
            idle: Watts::new(idle),
            period,
            state,
            queue: RefCell::default(),
            passed: RefCell::default(),
        })
    }

    /// Queues `seconds` at `watts`.
    fn give(&self, seconds: f64, watts: f64) {
        self.catch_up();
        self.queue.borrow_mut().push_back(Given::Work(seconds, watts));
    }

    /// Puts a mark behind what is queued; marks are numbered from 1.
    fn mark(&self, number: u64) {
        self.catch_up();
        self.queue.borrow_mut().push_back(Given::Mark(number));
    }

    /// Whether there is something to do now.
    pub(crate) fn is_busy(&self) -> bool {
        self.catch_up();
        !self.queue.borrow().is_empty()
    }

    /// When a mark was passed, in seconds.
    fn passed(&self, number: u64) -> Option<f64> {
        self.catch_up();
        self.passed.borrow().get(number as usize - 1).copied()
    }

    /// Lets time pass until the queue is empty.
    fn wait(&self) {
        self.catch_up();
        let left = |given: &Given| if let Given::Work(seconds, _) = given { *seconds } else { 0.0 };
        let queued: f64 = self.queue.borrow().iter().map(left).sum();
        let until = self.state.borrow().until + queued;
        // A nanosecond more than none, as the clock has no parts of one.
        self.clock.sleep_until(Instant::default() + Seconds::new(until + 1e-9));
        self.catch_up();
    }

    /// Spends `seconds` at `watts`.
    pub(crate) fn work(&self, seconds: f64, watts: f64) {
        self.catch_up();
        let end = self.state.borrow().until + seconds;
        self.advance(end, watts);
        let target = Instant::default() + Seconds::new(self.state.borrow().until);
        self.clock.sleep_until(target);
    }

    /// In the time that passed on the clock the device worked off its queue, and was idle then.
    fn catch_up(&self) {
        let now = self.clock.now().since_origin().value();
        let mut queue = self.queue.borrow_mut();
        while let Some(next) = queue.front_mut() {
            let begin = self.state.borrow().until;
            match next {
                Given::Mark(number) => {
                    let mut passed = self.passed.borrow_mut();
                    assert_eq!(passed.len() + 1, *number as usize);
                    passed.push(begin);
                }
                Given::Work(seconds, watts) => {
                    let part = seconds.min((now - begin).max(0.0));
                    self.advance(begin + part, *watts);
                    if part < *seconds {
                        *seconds -= part;
                        return;
                    }
                }
            }
            queue.pop_front();
        }
        self.advance(now, self.idle.value());
    }

    fn advance(&self, to: f64, watts: f64) {
        let mut state = self.state.borrow_mut();
        while state.until < to {
            // The next publication, or the end.
            let tick = ((state.until / self.period).floor() + 1.0) * self.period;
            let next = if tick > state.until { tick.min(to) } else { to };
            state.energy += (next - state.until) * watts;
            state.until = next;
            if next >= tick {
                state.published = state.energy;
            }
        }
    }

    fn published(&self) -> Joules {
        self.catch_up();
        Joules::new(self.state.borrow().published)
    }
}

/// The device's counter.
pub(crate) struct Counter(pub(crate) Rc<Device>);

impl Meter for Counter {
    fn read(&mut self, _now: Instant) -> Result<Joules, ReadError> {
        Ok(self.0.published())
    }
}

/// Steps with known time and power; `power_of` may vary them.
pub(crate) struct Steps {
    pub(crate) device: Rc<Device>,
    pub(crate) work: Vec<(f64, f64)>,
    pub(crate) power_of: Box<dyn FnMut(usize, f64) -> f64>,
}

impl Executor for Steps {
    fn steps(&self) -> usize {
        self.work.len()
    }

    fn launch(&mut self, step: usize) -> Result<(), BackendError> {
        let (seconds, watts) = self.work[step];
        let watts = (self.power_of)(step, watts);
        self.device.work(seconds, watts);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn algorithm(&self, _step: usize) -> &str {
        "scripted"
    }

    fn output(&mut self, _step: usize) -> Result<Vec<f32>, BackendError> {
        Ok(Vec::new())
    }
}

/// A plan of steps with the given signatures.
pub(crate) fn plan(signature_of_step: &[usize]) -> Plan {
    let count = signature_of_step.iter().max().map_or(0, |m| m + 1);
    let steps_of = |s| signature_of_step.iter().enumerate().filter(move |(_, x)| **x == s).map(|(i, _)| i);
    Plan {
        batch: 1,
        precision: Default::default(),
        layout: Default::default(),
        steps: signature_of_step
            .iter()
            .enumerate()
            .map(|(i, &signature)| Step {
                layers: vec![i],
                reads: vec![layerjoule::network::TensorRef::Input],
                inputs: vec![0],
                output: 1,
                signature,
            })
            .collect(),
        buffers: vec![1, 1],
        input: 0,
        signatures: (0..count)
            .map(|s| Signature { text: format!("work {s}"), steps: steps_of(s).collect() })
            .collect(),
        step_of_layer: (0..signature_of_step.len()).map(Some).collect(),
        buffer_of_layer: vec![1; signature_of_step.len()],
    }
}

/// The header of a run of `plan` with one counter of the given period.
pub(crate) fn header(plan: &Plan, period: f64, rounds: usize) -> Header {
    Header {
        schema: TRACE_SCHEMA.to_string(),
        tool: Tool::this(),
        created: "2026-01-01T00:00:00Z".to_string(),
        clock_origin_unix_s: Seconds::ZERO,
        simulated: true,
        emulated: false,
        network: NetworkRecord {
            name: "scripted".to_string(),
            source: "scripted.toml".to_string(),
            sha256: "0".repeat(64),
            batch: 1,
            set: Default::default(),
            parameters: 0,
            buffers: 0,
            flops: 0,
            flops_elementwise: 0,
        },
        layers: plan
            .steps
            .iter()
            .enumerate()
            .map(|(i, step)| LayerRecord {
                fused: Vec::new(),
                fused_into: None,
                name: format!("layer{i}"),
                kind: ["conv", "relu", "linear"][step.signature % 3].to_string(),
                signature: Some(step.signature),
                algorithm: Some("scripted".to_string()),
                workspace_bytes: None,
                kernels: Vec::new(),
                output: vec![1],
                flops: 1000,
                flops_elementwise: 0,
                bytes: 100,
            })
            .collect(),
        contexts: Vec::new(),
        excerpts: Vec::new(),
        beginnings: Vec::new(),
        signatures: plan.signatures.iter().map(|s| s.text.clone()).collect(),
        device: DeviceRecord {
            kind: "cpu".to_string(),
            name: "scripted".to_string(),
            uuid: None,
            driver: None,
            cuda: None,
            cudnn: None,
            precision: "f32".to_string(),
            layout: "nchw".to_string(),
            cache: None,
            engine: "scripted".to_string(),
            threads: 1,
        },
        meters: vec![MeterRecord {
            id: "scripted".to_string(),
            scope: "the scripted device".to_string(),
            kind: MeterKind::Counter,
            status: MeterStatus::Measured,
            reason: None,
            update_period_s: Some(Seconds::new(period)),
            lag_s: None,
            coverage: None,
            systematic_relative: None,
        }],
        primary_meter: 0,
        environment: Environment::default(),
        options: RecordOptions {
            target: None,
            rounds,
            window_s: Seconds::new(0.5),
            window_updates: 10,
            pass_window_s: Seconds::new(1.0),
            idle_window_s: Seconds::new(0.5),
            settle_s: Seconds::new(0.3),
            warm_up_s: Seconds::new(1.0),
            sampling_pairs: 0,
            sampling_window_s: Seconds::ZERO,
            seed: 1,
        },
    }
}
