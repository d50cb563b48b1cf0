//! A scripted device that queues: it works while virtual time passes, and tells when it came past marks.

use std::rc::Rc;

use layerjoule::backend::{BackendError, Executor, Mark, Task};
use layerjoule::clock::{Clock, Instant};
use layerjoule::units::Seconds;

use super::Device;

/// Steps with known time and power in a queue.
pub(crate) struct Queued {
    pub(crate) device: Rc<Device>,
    pub(crate) work: Vec<(f64, f64)>,
    /// Executions that it takes at once.
    pub(crate) unit: u64,
    /// The number of marks after which it stops passing any.
    pub(crate) hangs_after: u64,
    /// When it is lost, in seconds.
    pub(crate) lost_at: f64,
    /// Executions of each burst, in order.
    pub(crate) bursts: Vec<u64>,
    marks: u64,
}

impl Queued {
    pub(crate) fn new(device: &Rc<Device>, work: &[(f64, f64)]) -> Self {
        Self {
            device: Rc::clone(device),
            work: work.to_vec(),
            unit: 1,
            hangs_after: u64::MAX,
            lost_at: f64::INFINITY,
            bursts: Vec::new(),
            marks: 0,
        }
    }

    fn check(&self) -> Result<(), BackendError> {
        if self.device.clock.now().since_origin().value() < self.lost_at {
            return Ok(());
        }
        let reason = "the device fell off the bus".to_string();
        Err(BackendError::Device { device: "scripted".to_string(), reason })
    }
}

impl Executor for Queued {
    fn steps(&self) -> usize {
        self.work.len()
    }

    fn launch(&mut self, step: usize) -> Result<(), BackendError> {
        self.check()?;
        let (seconds, watts) = self.work[step];
        self.device.give(seconds, watts);
        Ok(())
    }

    fn ready(&mut self, task: Task, _clock: &dyn Clock) -> Result<u64, BackendError> {
        if let Task::Step(step) = task {
            (0..=step).try_for_each(|earlier| self.launch(earlier))?;
            self.sync()?;
        }
        Ok(self.unit)
    }

    fn repeat(&mut self, task: Task, times: u64) -> Result<(), BackendError> {
        self.check()?;
        self.bursts.push(times);
        match task {
            Task::Step(step) => {
                let (seconds, watts) = self.work[step];
                self.device.give(seconds * times as f64, watts);
            }
            Task::Pass => {
                for _ in 0..times {
                    self.work.iter().for_each(|&(seconds, watts)| self.device.give(seconds, watts));
                }
            }
            Task::Mix(mix) => {
                for step in (0..times).flat_map(|_| mix.steps()) {
                    let (seconds, watts) = self.work[step];
                    self.device.give(seconds, watts);
                }
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.check()?;
        self.device.wait();
        Ok(())
    }

    fn queues(&self) -> bool {
        true
    }

    fn mark(&mut self, _clock: &dyn Clock) -> Result<Mark, BackendError> {
        self.marks += 1;
        self.device.mark(self.marks);
        Ok(Mark(self.marks))
    }

    fn passed(&mut self, mark: Mark, _clock: &dyn Clock) -> Result<Option<Instant>, BackendError> {
        self.check()?;
        let passed = self.device.passed(mark.0).filter(|_| mark.0 <= self.hangs_after);
        Ok(passed.map(|at| Instant::default() + Seconds::new(at)))
    }

    fn algorithm(&self, _step: usize) -> &str {
        "scripted"
    }

    fn output(&mut self, _step: usize) -> Result<Vec<f32>, BackendError> {
        Ok(Vec::new())
    }
}
