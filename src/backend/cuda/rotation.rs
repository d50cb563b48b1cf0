//! How many executions make a graph, and how many graphs take turns.

use crate::units::Seconds;

/// Length of a graph of passes or of a step alone: long enough that its launch of some microseconds is nothing beside
/// it, short enough that the edges of a window are found in time.
pub(super) const LONG: Seconds = Seconds::new(0.02);
/// The same of a mix, which also runs in bursts with rests between them.
pub(super) const SHORT: Seconds = Seconds::new(0.004);
/// Most kernels in a graph: launching takes some tenths of a microsecond a node of the host's time, while the meter
/// wants to be looked at every millisecond.
const MOST_NODES: usize = 4000;
/// Most graphs that take turns, because one does not reach all copies of the buffers: they are captured again before
/// each window.
const MOST_GRAPHS: usize = 5;

/// Executions in a graph.
pub(super) fn executions(length: Seconds, each: Seconds, nodes_each: usize) -> usize {
    let most = (MOST_NODES / nodes_each.max(1)).max(1);
    let fitting = if each > Seconds::ZERO { (length / each).round().max(1.0) as usize } else { most };
    fitting.min(most)
}

/// Graphs that reach all copies of the buffers: of `copies` with `times` uses of one after the other in each of the
/// `executions` of a graph. Buffers of some hundred bytes have more copies than that, and stay in the cache in part.
pub(super) fn graphs(executions: usize, copies: usize, times: usize) -> usize {
    copies.div_ceil((executions * times).max(1)).clamp(1, MOST_GRAPHS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_takes_its_length_or_as_many_kernels_as_it_may_have() {
        let executions = |micros: f64, nodes| executions(LONG, Seconds::new(micros * 1e-6), nodes);
        assert_eq!(executions(100.0, 1), 200);
        assert_eq!(executions(50_000.0, 1), 1, "longer than a graph");
        assert_eq!(executions(0.5, 1), 4000, "as many kernels as a graph may have");
        assert_eq!(executions(1.0, 200), 20, "a pass of 200 kernels");
        assert_eq!(executions(0.0, 3), 1333);
        assert_eq!(executions(1.0, 5000), 1);
        assert_eq!(super::executions(SHORT, Seconds::new(1e-4), 1), 40);
    }

    #[test]
    fn graphs_reach_all_copies_unless_there_are_very_many() {
        assert_eq!(graphs(200, 21, 1), 1);
        assert_eq!(graphs(40, 100, 1), 3);
        assert_eq!(graphs(40, 100, 2), 2);
        assert_eq!(graphs(4000, 200_000, 1), 5);
        assert_eq!(graphs(4000, 1, 1), 1);
    }
}
