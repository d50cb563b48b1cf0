//! Whether a meter counts the same however often it is read.
//!
//! Some counters charge joules for each reading, others lose what lies between close ones (docs/measuring.md, sensors that
//! cannot be believed). The pairs of short windows that show what reading costs in time ([`super::slow_down`]) show that
//! too: equal work, read often in one and seldom in the other.

use std::collections::BTreeMap;

use crate::stats::Uncertain;
use crate::trace::{SpanKind, Trace};

use super::integrate::edge_energies;

/// Equal work by one meter that was read often and seldom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadRate {
    /// Joules of a pass, read as often as in a replay.
    pub often: f64,
    /// The same, read at the edges only.
    pub seldom: f64,
    /// The first over the second, pair by pair.
    pub energy: Uncertain,
    /// The same of the times of a pass.
    pub time: f64,
}

impl ReadRate {
    /// The part of `energy` that no true cost of reading explains. Reading may make a pass longer, by a time in which the
    /// device draws anything between nothing and what the work draws; beyond that it is the meter that errs.
    pub fn unexplained(&self) -> f64 {
        self.energy.value - self.energy.value.clamp(self.time.min(1.0), self.time.max(1.0))
    }
}

/// How much a meter depends on how often it is read. None with fewer than two pairs of windows that it read.
pub fn read_rate(trace: &Trace, meter: usize) -> Option<ReadRate> {
    let mut pairs: BTreeMap<usize, [Option<[f64; 2]>; 2]> = BTreeMap::new();
    for (span, edges) in trace.spans.iter().zip(edge_energies(trace, meter)) {
        let which = match span.kind {
            SpanKind::Watched => 0,
            SpanKind::Unwatched => 1,
            _ => continue,
        };
        if let Some([start, end]) = edges.filter(|_| span.executions > 0.0) {
            let each = [(end - start).value() / span.executions, span.length().value() / span.executions];
            pairs.entry(span.round).or_default()[which] = Some(each);
        }
    }
    let whole: Vec<[[f64; 2]; 2]> =
        pairs.into_values().filter_map(|[often, seldom]| Some([often?, seldom?])).collect();
    let mean = |values: Vec<f64>| Uncertain::mean_of(&values);
    Some(ReadRate {
        often: mean(whole.iter().map(|pair| pair[0][0]).collect())?.value,
        seldom: mean(whole.iter().map(|pair| pair[1][0]).collect())?.value,
        energy: mean(whole.iter().map(|[often, seldom]| often[0] / seldom[0]).collect())?,
        time: mean(whole.iter().map(|[often, seldom]| often[1] / seldom[1]).collect())?.value,
    })
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    #[test]
    fn what_a_longer_pass_draws_is_no_fault_of_the_meter() {
        let rate = |energy, time| {
            let energy = Uncertain::exact(energy);
            ReadRate { often: energy.value, seldom: 1.0, energy, time }.unexplained()
        };
        // A pass that takes 5 % longer may cost up to 5 % more.
        assert_relative_eq!(rate(1.03, 1.05), 0.0);
        assert_relative_eq!(rate(1.12, 1.05), 0.07, epsilon = 1e-12);
        assert_relative_eq!(rate(0.90, 1.05), -0.10, epsilon = 1e-12);
        // One that is shorter by chance explains as much less.
        assert_relative_eq!(rate(0.99, 0.99), 0.0);
        assert_relative_eq!(rate(1.02, 0.99), 0.02, epsilon = 1e-12);
    }
}
