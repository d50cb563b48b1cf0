//! Two counters that see the same domain must count the same.

use crate::clock::{Clock, Instant};
use crate::trace::Warning;
use crate::units::{Joules, Seconds, Watts};

use super::interface::{Meter, MeterCandidate};
use super::perf::PERF_ID;
use super::powercap::POWERCAP_ID;

/// Over how long counters are compared: a thousand updates of RAPL.
const OVER: Seconds = Seconds::new(1.0);
/// Pieces of that time, in which the highest power is looked for.
const PIECES: usize = 20;
/// Pieces before which the halves of that time begin and end.
const EDGES: [usize; 3] = [0, PIECES / 2, PIECES];

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
///
/// A counter that is wrong is so in both halves of the second, with the same sign. A peak of power at an edge, too
/// short for the highest power seen, moves energy across that edge only: it makes one half differ, or both with
/// opposite signs.
pub(super) fn compare_counters(candidates: &mut [MeterCandidate], clock: &dyn Clock) {
    let pairs = pairs(candidates);
    if pairs.is_empty() {
        return;
    }
    let mut traces: Vec<[Readings; 2]> = pairs.iter().map(|_| Default::default()).collect();
    // At each edge the readings of a pair lie apart by no more than it took to read both.
    let mut apart = vec![[Seconds::ZERO; EDGES.len()]; pairs.len()];
    let begin = clock.now();
    for piece in 0..=PIECES {
        clock.sleep_until(begin + OVER * (piece as f64 / PIECES as f64));
        let edge = EDGES.iter().position(|&edge| edge == piece);
        for ((&(one, other), traces), apart) in pairs.iter().zip(&mut traces).zip(&mut apart) {
            let before = clock.now();
            traces[0].read(candidates[one].meter.as_deref_mut(), clock, edge);
            match other {
                Some(other) => traces[1].read(candidates[other].meter.as_deref_mut(), clock, edge),
                None => traces[1].read(candidates[one].twin.as_mut().map(|(_, m)| m.as_mut()), clock, edge),
            }
            if let Some(edge) = edge {
                apart[edge] = clock.now() - before;
            }
        }
    }
    let compared = pairs.iter().zip(&traces).zip(&apart);
    let notes: Vec<(usize, Option<usize>, Warning)> = compared
        .filter_map(|((&(one, other), traces), apart)| {
            let second = other.map_or(&candidates[one], |other| &candidates[other]);
            Some((one, other, note(&candidates[one], second, other.is_none(), traces, apart)?))
        })
        .collect();
    for (one, other, note) in notes {
        for index in [Some(one), other].into_iter().flatten() {
            candidates[index].notes.push(note.clone());
        }
    }
}

/// What a comparison has to say of a pair; nothing if they agree.
fn note(
    first: &MeterCandidate,
    second: &MeterCandidate,
    by_twin: bool,
    traces: &[Readings; 2],
    apart: &[Seconds; EDGES.len()],
) -> Option<Warning> {
    let first_name = &first.record.id;
    let second_name = match &second.twin {
        Some((name, _)) if by_twin => name,
        _ => &second.record.id,
    };
    let (Some([a, middle_a]), Some([b, middle_b])) = (traces[0].energies(), traces[1].energies()) else {
        return Some(Warning::new(
            "counters_not_compared",
            format!("{first_name} and {second_name} could not be compared: one of them failed to read"),
        ));
    };
    let highest = if traces[0].highest > traces[1].highest { traces[0].highest } else { traces[1].highest };
    let differ =
        |a: Joules, b: Joules, apart| disagreement(sight(first, a), sight(second, b), highest, apart);
    let begin = differ(middle_a, middle_b, apart[0] + apart[1])?;
    let end = differ(a - middle_a, b - middle_b, apart[1] + apart[2])?;
    if (begin.difference > Joules::ZERO) != (end.difference > Joules::ZERO) {
        return None;
    }
    let found = differ(a, b, apart[0] + apart[2])?;
    Some(Warning::new(
        "counters_disagree",
        format!(
            "{first_name} counted {:.4} J and {second_name} {:.4} J in the same {:.1} s of the same domain ({}): \
             {:.4} J apart, of which their resolutions explain {:.4} J, and in both halves alike. One of them is \
             wrong: compare with a wattmeter, and use --meter to choose",
            a.value(),
            b.value(),
            OVER.value(),
            first.record.scope,
            found.difference.abs().value(),
            found.explained.value()
        ),
    ))
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
    /// At each of [`EDGES`].
    edges: [Option<Joules>; EDGES.len()],
    last: Option<(Instant, Joules)>,
    highest: Watts,
    failed: bool,
}

impl Readings {
    fn read(&mut self, meter: Option<&mut (dyn Meter + 'static)>, clock: &dyn Clock, edge: Option<usize>) {
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
        if let Some(edge) = edge {
            self.edges[edge] = Some(energy);
        }
        self.last = Some((now, energy));
    }

    /// Energies of the whole time and of its first half; none if a reading failed.
    fn energies(&self) -> Option<[Joules; 2]> {
        let [Some(begin), Some(middle), Some(end)] = self.edges else { return None };
        (!self.failed).then_some([end - begin, middle - begin])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
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

    /// 50 W, and 1000 W more in the last millisecond before some time; the reading is this old.
    struct Peak {
        peak_end: f64,
        age: f64,
    }

    impl Meter for Peak {
        fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
            let t = now.since_origin().value() - self.age;
            let peak = (t - (self.peak_end - 1e-3)).clamp(0.0, 1e-3);
            Ok(Joules::new(50.0 * t + 1000.0 * peak))
        }
    }

    #[test]
    fn a_peak_at_an_edge_is_no_disagreement() {
        // One reading is a period older, so at that edge it lacks 1000 W x 1 ms = 1 J. The highest power seen is the
        // mean of 50 ms, 70 W: 70 W x 2 ms = 0.14 J are explained.
        let whole = Sight { resolution: Joules::ZERO, ..sight(51.0, 0.001) };
        let older = Sight { energy: Joules::new(50.0), ..whole };
        assert!(disagreement(whole, older, Watts::new(70.0), Seconds::ZERO).is_some());
        for peak_end in [0.5, 1.0] {
            let mut candidates = [counter(PERF_ID, 50.0), counter(POWERCAP_ID, 50.0)];
            for (candidate, age) in candidates.iter_mut().zip([0.0, 1e-3]) {
                candidate.meter = Some(Box::new(Peak { peak_end, age }));
            }
            compare_counters(&mut candidates, &ManualClock::default());
            assert!(candidates.iter().all(|c| c.notes.is_empty()), "{peak_end}: {:?}", candidates[0].notes);
        }
    }

    /// Cannot be read once, in the middle.
    struct Failing(usize);

    impl Meter for Failing {
        fn read(&mut self, now: Instant) -> Result<Joules, ReadError> {
            self.0 += 1;
            if self.0 == 7 { Err(ReadError::Gone("gone".to_string())) } else { Constant(50.0).read(now) }
        }
    }

    #[test]
    fn counters_that_failed_to_read_are_not_said_to_disagree() {
        let mut candidates = [counter(PERF_ID, 50.0), counter(POWERCAP_ID, 50.0)];
        candidates[1].meter = Some(Box::new(Failing(0)));
        compare_counters(&mut candidates, &ManualClock::default());
        for candidate in &candidates {
            let codes: Vec<&str> = candidate.notes.iter().map(|note| note.code.as_str()).collect();
            assert_eq!(codes, ["counters_not_compared"]);
        }
    }
}
