//! The energy of a device over the recent past.

use std::collections::VecDeque;

use super::curve::EnergyCurve;
use super::parameters::Domain;

/// Joules from the beginning until an instant.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: f64,
    board_j: f64,
    memory_j: f64,
}

impl Point {
    fn joules(&self, domain: Domain) -> f64 {
        match domain {
            Domain::Board => self.board_j,
            Domain::Processor => self.board_j - self.memory_j,
            Domain::Memory => self.memory_j,
        }
    }
}

/// Stretches of constant power, one after the other. As an [`EnergyCurve`], it goes on as a straight line before the
/// first stretch that it remembers and after the last: the device drew that power already, and goes on with it.
#[derive(Debug, Clone)]
pub struct History {
    /// The beginning and the ends of the stretches, in order. Never empty.
    points: VecDeque<Point>,
}

impl History {
    /// A history that begins at `start`, where the device has used no joules.
    pub fn new(start: f64) -> Self {
        Self { points: VecDeque::from([Point { at: start, board_j: 0.0, memory_j: 0.0 }]) }
    }

    /// Appends a stretch of constant power from the end of the last one. A stretch of no length is nothing.
    pub fn push(&mut self, end_s: f64, board_w: f64, memory_w: f64) {
        let last = self.last();
        let length = end_s - last.at;
        debug_assert!(length >= 0.0, "a stretch that ends {} s before it begins", -length);
        if length > 0.0 {
            self.points.push_back(Point {
                at: end_s,
                board_j: last.board_j + board_w * length,
                memory_j: last.memory_j + memory_w * length,
            });
        }
    }

    /// Forgets the stretches that end before `s`, so that memory is held for what sensors still need.
    pub fn forget_before(&mut self, s: f64) {
        // Two points stay, because the line before the remembered part needs them.
        while self.points.len() > 2 && self.points[1].at <= s {
            self.points.pop_front();
        }
    }

    /// The end of the last stretch.
    pub fn end(&self) -> f64 {
        self.last().at
    }

    fn last(&self) -> Point {
        *self.points.back().expect("a history has its beginning")
    }
}

impl EnergyCurve for History {
    fn joules(&self, domain: Domain, at: f64) -> f64 {
        let last = self.points.len() - 1;
        let after = self.points.partition_point(|point| point.at < at).clamp(1.min(last), last);
        let (a, b) = (&self.points[after.saturating_sub(1)], &self.points[after]);
        let (from, to) = (a.joules(domain), b.joules(domain));
        if after == 0 { to } else { from + (to - from) * ((at - a.at) / (b.at - a.at)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    /// 100 W for 2 s and then 300 W for 1 s, of which the memory has 40 W and 90 W.
    fn two_stretches() -> History {
        let mut history = History::new(10.0);
        history.push(12.0, 100.0, 40.0);
        history.push(13.0, 300.0, 90.0);
        history
    }

    #[test]
    fn joules_are_power_times_time_in_each_domain() {
        let history = two_stretches();
        for (at, board, memory) in
            [(10.0, 0.0, 0.0), (11.0, 100.0, 40.0), (12.0, 200.0, 80.0), (12.25, 275.0, 102.5)]
        {
            assert_relative_eq!(history.joules(Domain::Board, at), board);
            assert_relative_eq!(history.joules(Domain::Memory, at), memory);
            assert_relative_eq!(history.joules(Domain::Processor, at), board - memory);
        }
        assert_relative_eq!(history.end(), 13.0);
    }

    #[test]
    fn before_and_after_the_curve_goes_on_with_the_nearest_power() {
        let history = two_stretches();
        assert_relative_eq!(history.joules(Domain::Board, 9.0), -100.0);
        assert_relative_eq!(history.joules(Domain::Board, 14.0), 800.0);
        assert_relative_eq!(History::new(5.0).joules(Domain::Board, 7.0), 0.0);
    }

    #[test]
    fn a_stretch_of_no_length_changes_nothing() {
        let mut history = two_stretches();
        history.push(13.0, 1e6, 1e6);
        assert_relative_eq!(history.joules(Domain::Board, 12.5), 350.0);
        assert_relative_eq!(history.joules(Domain::Board, 13.0), 500.0);
    }

    #[test]
    fn what_is_needed_later_is_not_forgotten() {
        let mut history = two_stretches();
        history.push(20.0, 50.0, 10.0);
        history.forget_before(12.5);
        assert_relative_eq!(history.joules(Domain::Board, 12.5), 350.0);
        assert_relative_eq!(history.joules(Domain::Board, 20.0), 850.0);
        history.forget_before(100.0);
        assert_relative_eq!(history.joules(Domain::Board, 19.0), 800.0);
    }

    #[test]
    fn millions_of_stretches_keep_their_joules_and_little_memory() {
        // 20 s in stretches of 10 us; a sensor that needs the last 100 ms remembers 10 000 of them.
        let mut history = History::new(0.0);
        for k in 1..=2_000_000_u32 {
            let end = f64::from(k) * 10e-6;
            history.push(end, if k % 2 == 0 { 500.0 } else { 100.0 }, 30.0);
            history.forget_before(end - 0.1);
        }
        assert!(history.points.capacity() < 40_000, "{} points are held", history.points.capacity());
        assert_relative_eq!(history.joules(Domain::Board, 20.0), 6000.0, max_relative = 1e-9);
        assert_relative_eq!(history.joules(Domain::Memory, 19.95), 598.5, max_relative = 1e-9);
    }
}
