//! How many copies of a layer's buffers take turns, and how many executions make a graph.

use crate::backend::CacheUse;
use crate::units::Seconds;

/// Length of a graph: long enough that its launch of some microseconds is nothing beside it, short enough that the edges
/// of a window are found in time.
const GRAPH: Seconds = Seconds::new(0.02);
/// Most kernels in a graph: launching takes some tenths of a microsecond a node of the host's time, while the meter
/// wants to be looked at every millisecond.
const MOST_NODES: usize = 4000;

/// Copies of the buffers of one execution, `footprint` bytes together, so that each is used again only after twice the
/// cache has passed through it. One execution that moves that much finds nothing of the last one anyway. A graph holds
/// all copies, and `nodes_each` bounds how many: buffers of a few kilobytes stay in the cache in part.
pub(super) fn copies(footprint: usize, cache: usize, nodes_each: usize, wanted: CacheUse) -> usize {
    match wanted {
        CacheUse::Hot => 1,
        CacheUse::Cold if footprint == 0 || footprint >= 2 * cache => 1,
        CacheUse::Cold => ((2 * cache).div_ceil(footprint) + 1).min(most(nodes_each)),
    }
}

/// Executions in a graph: a multiple of the copies, so that one graph goes on where the last one ended.
pub(super) fn executions(each: Seconds, nodes_each: usize, copies: usize) -> u64 {
    let (copies, most) = (copies.max(1), most(nodes_each));
    let fitting = if each > Seconds::ZERO { (GRAPH / each).round().max(1.0) as usize } else { most };
    let whole = fitting.div_ceil(copies) * copies;
    if whole <= most { whole as u64 } else { (most / copies * copies).max(copies) as u64 }
}

/// Executions that a graph has room for.
fn most(nodes_each: usize) -> usize {
    (MOST_NODES / nodes_each.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn buffers_come_back_after_twice_the_cache() {
        // 100 MiB of others between two uses: 20 of 5 MiB, and the one itself.
        assert_eq!(copies(5 * MIB, 50 * MIB, 1, CacheUse::Cold), 21);
        assert_eq!(copies(30 * MIB, 50 * MIB, 1, CacheUse::Cold), 5);
        assert_eq!(copies(100 * MIB, 50 * MIB, 1, CacheUse::Cold), 1);
        assert_eq!(copies(5 * MIB, 50 * MIB, 1, CacheUse::Hot), 1);
        assert_eq!(copies(0, 50 * MIB, 1, CacheUse::Cold), 1);
        assert_eq!(copies(5 * MIB, 0, 1, CacheUse::Cold), 1, "a device without such a cache");
        assert_eq!(copies(512, 60 * MIB, 1, CacheUse::Cold), 4000, "as many as a graph has room for");
        assert_eq!(copies(512, 60 * MIB, 3, CacheUse::Cold), 1333);
    }

    #[test]
    fn a_graph_takes_twenty_milliseconds_and_ends_with_the_last_copy() {
        let executions = |micros: f64, nodes, copies| executions(Seconds::new(micros * 1e-6), nodes, copies);
        assert_eq!(executions(100.0, 1, 1), 200);
        assert_eq!(executions(100.0, 1, 21), 210);
        assert_eq!(executions(50_000.0, 1, 1), 1, "longer than a graph");
        assert_eq!(executions(50_000.0, 1, 5), 5);
        assert_eq!(executions(0.5, 1, 1), 4000, "as many kernels as a graph may have");
        assert_eq!(executions(1.0, 200, 1), 20, "a pass of 200 kernels");
        assert_eq!(executions(1.0, 1, 3000), 3000, "two rounds of the copies would be too many");
        assert_eq!(executions(0.0, 3, 1), 1333);
    }
}
