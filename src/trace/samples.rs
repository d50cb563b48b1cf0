//! Readings in columns: 18 bytes each, so that a trace of ten million fits a laptop.

use crate::clock::Instant;
use crate::units::Joules;

use super::Sample;

/// Most meters of a header: what a sample's meter column can count.
pub(super) const MOST_METERS: usize = 1 << 16;

/// The samples of a trace, in order of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Samples {
    meters: Vec<u16>,
    instants: Vec<Instant>,
    energies: Vec<Joules>,
}

impl Samples {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.instants.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.instants.is_empty()
    }

    /// The sample at a position.
    pub fn get(&self, at: usize) -> Option<Sample> {
        let (meter, instant, energy) = (self.meters.get(at)?, self.instants.get(at)?, self.energies.get(at)?);
        Some(Sample { meter: usize::from(*meter), at: *instant, energy: *energy })
    }

    /// When the last one was read.
    pub fn latest(&self) -> Option<Instant> {
        self.instants.last().copied()
    }

    /// All samples in order.
    pub fn iter(&self) -> impl Iterator<Item = Sample> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// Whether a meter has any sample.
    pub fn has(&self, meter: usize) -> bool {
        u16::try_from(meter).is_ok_and(|meter| self.meters.contains(&meter))
    }

    /// Adds one sample.
    pub fn push(&mut self, sample: Sample) {
        let meter = u16::try_from(sample.meter).expect("a header lists at most 65,536 meters");
        if self.instants.len() == self.instants.capacity() {
            // An eighth more instead of twice as much: the columns are most of the memory of a long trace.
            let more = self.len() / 8 + 1024;
            self.meters.reserve_exact(more);
            self.instants.reserve_exact(more);
            self.energies.reserve_exact(more);
        }
        self.meters.push(meter);
        self.instants.push(sample.at);
        self.energies.push(sample.energy);
    }

    /// The position of the first sample at `instant` or later, looked for from position `from` on. Its cost
    /// grows with the logarithm of the distance, so a walk through all windows costs no more than their number.
    pub fn position(&self, from: usize, instant: Instant) -> usize {
        let behind =
            from.checked_sub(1).and_then(|last| self.instants.get(last)).is_some_and(|&at| at >= instant);
        let from = if behind { 0 } else { from };
        let later = self.instants.get(from..).unwrap_or_default();
        let mut bound = 1;
        while later.get(bound - 1).is_some_and(|&at| at < instant) {
            bound *= 2;
        }
        let (low, high) = (bound / 2, later.len().min(bound));
        from + low + later.get(low..high).unwrap_or_default().partition_point(|&at| at < instant)
    }

    /// Removes all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Extend<Sample> for Samples {
    fn extend<I: IntoIterator<Item = Sample>>(&mut self, samples: I) {
        samples.into_iter().for_each(|sample| self.push(sample));
    }
}

impl FromIterator<Sample> for Samples {
    fn from_iter<I: IntoIterator<Item = Sample>>(samples: I) -> Self {
        let mut all = Self::default();
        all.extend(samples);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: &[u64]) -> Samples {
        let sample = |&nanos| Sample { meter: 0, at: Instant::from_nanos(nanos), energy: Joules::ZERO };
        nanos.iter().map(sample).collect()
    }

    #[test]
    fn a_position_is_found_from_every_place_before_it() {
        let nanos = [10, 10, 20, 30, 30, 30, 40, 55, 60, 60, 90];
        let samples = at(&nanos);
        for instant in 0..100 {
            let expected = nanos.iter().filter(|&&at| at < instant).count();
            for from in 0..=nanos.len() {
                assert_eq!(
                    samples.position(from, Instant::from_nanos(instant)),
                    expected,
                    "{instant} {from}"
                );
            }
        }
        assert_eq!(at(&[]).position(0, Instant::default()), 0);
    }

    #[test]
    fn samples_come_back_as_they_were_pushed() {
        let pushed: Vec<Sample> = (0..5000)
            .map(|i| Sample {
                meter: i % 3,
                at: Instant::from_nanos(i as u64),
                energy: Joules::new(i as f64 / 7.0),
            })
            .collect();
        let samples: Samples = pushed.iter().copied().collect();
        assert_eq!(samples.iter().collect::<Vec<_>>(), pushed);
        assert!(samples.has(2) && !samples.has(3) && !samples.has(usize::MAX));
    }
}
