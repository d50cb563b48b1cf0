//! Two counters that see the same domain must count the same.

use crate::clock::Clock;
use crate::trace::Warning;
use crate::units::{Joules, Seconds, Watts};

use super::interface::{Meter, MeterCandidate};
use super::perf::PERF_ID;
use super::powercap::POWERCAP_ID;

/// Over how long counters are compared: a thousand updates of RAPL.
const OVER: Seconds = Seconds::new(1.0);
/// Pieces of that time, in which the highest power is looked for.
const PIECES: usize = 20;

/// What one counter saw of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sight {
    /// Energy that it counted.
    pub energy: Joules,
    /// Its reading is up to this old.
    pub period: Seconds,
    /// Its smallest step.
    pub resolution: Joules,
}

/// How two counters of one domain differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disagreement {
    /// First minus second.
    pub difference: Joules,
    /// The most that their resolutions explain.
    pub explained: Joules,
}

/// The disagreement of two counters beyond what both resolutions explain; none if they agree.
///
/// Both edges of a counter's stretch are up to one period old, so its energy is off by at most the period at the
/// highest power seen there, and by one step of its count. `apart` is the time between the two readings.
pub fn disagreement(a: Sight, b: Sight, highest: Watts, apart: Seconds) -> Option<Disagreement> {
    let explained = highest * (a.period + b.period + apart) + a.resolution + b.resolution;
    let difference = a.energy - b.energy;
    (difference.abs() > explained).then_some(Disagreement { difference, explained })
}

/// Reads all counters that see the same domain for a second, and notes at both where they disagree.
pub(super) fn compare_counters(candidates: &mut [MeterCandidate], clock: &dyn Clock) {
    let pairs = pairs(candidates);
    if pairs.is_empty() {
        return;
    }
    let mut notes: Vec<(usize, Option<usize>, String)> = Vec::new();
    let mut traces: Vec<[Readings; 2]> = pairs.iter().map(|_| Default::default()).collect();
    let mut apart = vec![Seconds::ZERO; pairs.len()];
    let begin = clock.now();
    for piece in 0..=PIECES {
        clock.sleep_until(begin + OVER * (piece as f64 / PIECES as f64));
        for ((&(one, other), traces), apart) in pairs.iter().zip(&mut traces).zip(&mut apart) {
            let before = clock.now();
            traces[0].read(candidates[one].meter.as_deref_mut(), clock);
            match other {
                Some(other) => traces[1].read(candidates[other].meter.as_deref_mut(), clock),
                None => traces[1].read(candidates[one].twin.as_mut().map(|(_, m)| m.as_mut()), clock),
            }
            // At each edge the readings lie apart by no more than it took to read both.
            let took = clock.now() - before;
            if piece == 0 || piece == PIECES {
                *apart += took;
            }
        }
    }
    for ((&(one, other), traces), &apart) in pairs.iter().zip(&traces).zip(&apart) {
        let first = &candidates[one];
        let second_name = match other {
            Some(other) => candidates[other].record.id.clone(),
            None => first.twin.as_ref().map_or(String::new(), |(name, _)| name.clone()),
        };
        let second = other.map_or(first, |other| &candidates[other]);
        let text = match (traces[0].energy(), traces[1].energy()) {
            (Some(a), Some(b)) => {
                let highest =
                    if traces[0].highest > traces[1].highest { traces[0].highest } else { traces[1].highest };
                disagreement(sight(first, a), sight(second, b), highest, apart).map(|found| {
                    format!(
                        "{} counted {:.4} J and {second_name} {:.4} J in the same {:.1} s of the same domain ({}): \
                         {:.4} J apart, of which their resolutions explain {:.4} J. One of them is wrong: compare \
                         with a wattmeter, and use --meter to choose",
                        first.record.id,
                        a.value(),
                        b.value(),
                        OVER.value(),
                        first.record.scope,
                        found.difference.abs().value(),
                        found.explained.value()
                    )
                })
            }
            _ => Some(format!(
                "{} and {second_name} could not be compared: one of them failed to read",
                first.record.id
            )),
        };
        notes.extend(text.map(|text| (one, other, text)));
    }
    for (one, other, text) in notes {
        for index in [Some(one), other].into_iter().flatten() {
            candidates[index].notes.push(Warning::new("counters_disagree", text.clone()));
        }
    }
}

/// Counters of one domain: perf and powercap, and the two ways of powercap.
fn pairs(candidates: &[MeterCandidate]) -> Vec<(usize, Option<usize>)> {
    let works = |c: &MeterCandidate| c.meter.is_some();
    let mut pairs = Vec::new();
    for (i, candidate) in candidates.iter().enumerate().filter(|(_, c)| works(c)) {
        if candidate.twin.is_some() {
            pairs.push((i, None));
        }
        let Some(domain) = candidate.record.id.strip_prefix(PERF_ID) else { continue };
        let same = |c: &MeterCandidate| c.record.id.strip_prefix(POWERCAP_ID) == Some(domain) && works(c);
        // Other scopes, such as another number of packages, cannot be compared.
        let same = |c: &MeterCandidate| same(c) && c.record.scope == candidate.record.scope;
        if let Some(other) = candidates.iter().position(same) {
            pairs.push((i, Some(other)));
        }
    }
    pairs
}

fn sight(candidate: &MeterCandidate, energy: Joules) -> Sight {
    Sight {
        energy,
        period: candidate.record.update_period_s.unwrap_or(Seconds::ZERO),
        resolution: candidate.resolution.unwrap_or(Joules::ZERO),
    }
}

/// The readings of one counter, as far as they are needed.
#[derive(Default)]
struct Readings {
    first: Option<Joules>,
    last: Option<(crate::clock::Instant, Joules)>,
    highest: Watts,
    failed: bool,
}

impl Readings {
    fn read(&mut self, meter: Option<&mut (dyn Meter + 'static)>, clock: &dyn Clock) {
        let now = clock.now();
        let Some(Ok(energy)) = meter.map(|meter| meter.read(now)) else {
            self.failed = true;
            return;
        };
        if let Some((then, before)) = self.last {
            let power = (energy - before) / (now - then);
            if power > self.highest {
                self.highest = power;
            }
        }
        self.first.get_or_insert(energy);
        self.last = Some((now, energy));
    }

    fn energy(&self) -> Option<Joules> {
        let (first, (_, last)) = (self.first?, self.last?);
        (!self.failed).then_some(last - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Instant, ManualClock};
    use crate::meter::interface::{ReadError, record};
    use crate::trace::MeterKind;

    fn sight(energy: f64, period: f64) -> Sight {
        Sight { energy: Joules::new(energy), period: Seconds::new(period), resolution: Joules::new(0.01) }
    }

    #[test]
    fn counters_agree_within_both_periods_at_the_highest_power() {
        // 80 W x (1 ms + 1 ms + 0.5 ms) + 2 x 10 mJ = 0.22 J.
        let (highest, apart) = (Watts::new(80.0), Seconds::new(0.0005));
        assert_eq!(disagreement(sight(50.21, 0.001), sight(50.0, 0.001), highest, apart), None);
        let found = disagreement(sight(50.0, 0.001), sight(50.23, 0.001), highest, apart).unwrap();
        assert!((found.difference.value() + 0.23).abs() < 1e-9);
        assert!((found.explained.value() - 0.22).abs() < 1e-9);
    }

    /// A counter of constant power.
    struct Constant(f64);

    impl Meter for Constant {
        fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
            Ok(Watts::new(self.0) * now.since_origin())
        }
    }

    fn counter(id: &str, watts: f64) -> MeterCandidate {
        let mut record = record(id, "CPU package", MeterKind::Counter);
        record.update_period_s = Some(Seconds::new(0.001));
        MeterCandidate::working(record, Box::new(Constant(watts)))
    }

    #[test]
    fn both_counters_carry_a_note_with_both_numbers_when_they_disagree() {
        let mut candidates = [counter(PERF_ID, 50.0), counter(POWERCAP_ID, 51.0)];
        compare_counters(&mut candidates, &ManualClock::default());
        for candidate in &candidates {
            let [note] = &candidate.notes[..] else {
                panic!("{}: {:?}", candidate.record.id, candidate.notes)
            };
            assert_eq!(note.code, "counters_disagree");
            assert!(note.text.contains("50.0000 J") && note.text.contains("51.0000 J"), "{}", note.text);
        }
    }

    #[test]
    fn equal_counters_and_other_domains_carry_none() {
        let mut candidates =
            [counter(PERF_ID, 50.0), counter("rapl-powercap:dram", 9.0), counter(POWERCAP_ID, 50.05)];
        compare_counters(&mut candidates, &ManualClock::default());
        assert!(candidates.iter().all(|c| c.notes.is_empty()));
    }

    #[test]
    fn a_package_is_compared_with_its_memory_mapped_twin() {
        let mut candidates = [counter(POWERCAP_ID, 50.0)];
        candidates[0].twin = Some(("rapl-powercap by mmio".to_string(), Box::new(Constant(60.0))));
        compare_counters(&mut candidates, &ManualClock::default());
        assert!(candidates[0].notes[0].text.contains("rapl-powercap by mmio 60.0000 J"));
    }
}
