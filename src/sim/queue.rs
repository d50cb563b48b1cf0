//! Work that a simulated device has been given and has not done, with the marks between.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::backend::CacheUse;

use super::work::Traffic;

/// A step as a part of an execution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub(super) step: usize,
    /// How often it runs.
    pub(super) times: f64,
    pub(super) traffic: Traffic,
    /// The factor by which chance makes it longer than others.
    pub(super) noise: f64,
}

/// What one execution is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Work {
    /// A step, with what it finds in the caches when the first one begins.
    Step(usize, CacheUse),
    /// Steps whose traffic is known.
    Parts(Rc<[Part]>),
}

/// Executions on end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) times: f64,
    /// Executions to come, and of one the part that is not done.
    pub(super) left: f64,
    /// What each execution is; none before the first begins.
    pub(super) begun: Option<Rc<[Part]>>,
}

impl Job {
    pub(super) fn new(work: Work, times: u64) -> Self {
        let times = times as f64;
        Self { work, times, left: times, begun: None }
    }
}

/// What comes next on a device.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    Job(Job),
    Mark(u64),
}

/// Work in order, and when the device came past the marks behind it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) entries: VecDeque<Entry>,
    marks: u64,
    passed: VecDeque<(u64, f64)>,
}

impl Queue {
    /// Puts a mark behind all work, and gives its number.
    pub(super) fn mark(&mut self) -> u64 {
        self.marks += 1;
        self.entries.push_back(Entry::Mark(self.marks));
        self.marks
    }

    /// The device came past a mark.
    pub(super) fn pass(&mut self, mark: u64, at: f64) {
        self.passed.push_back((mark, at));
    }

    /// When the device came past a mark, if it has; that of earlier ones is forgotten.
    pub(super) fn passed(&mut self, mark: u64) -> Option<f64> {
        while let Some(&(earlier, at)) = self.passed.front().filter(|&&(passed, _)| passed <= mark) {
            self.passed.pop_front();
            if earlier == mark {
                return Some(at);
            }
        }
        None
    }
}
