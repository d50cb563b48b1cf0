//! Work that a simulated device has been given and has not done, with the marks between.

use std::collections::VecDeque;

use crate::backend::CacheUse;

use super::work::Traffic;

/// Executions of one step on end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Job {
    pub(super) step: usize,
    pub(super) times: f64,
    /// Executions to come, and of one the part that is not done.
    pub(super) left: f64,
    pub(super) cache: CacheUse,
    /// Traffic of each, and the factor by which chance makes them longer; none before the first begins.
    pub(super) begun: Option<(Traffic, f64)>,
}

impl Job {
    pub(super) fn new(step: usize, times: u64, cache: CacheUse) -> Self {
        let times = times as f64;
        Self { step, times, left: times, cache, begun: None }
    }
}

/// What comes next on a device.
#[derive(Debug, Clone, Copy, PartialEq)]
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
