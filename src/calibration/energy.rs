//! What a program would say that reads a sensor and adds up, beside what an external meter says.

use crate::stats::Estimate;
use crate::units::Joules;

use super::load::{Load, Marks};
use super::series::Series;

/// Joules between two times where each reading, in watts, holds until the next one; none where the readings do not
/// reach that far.
///
/// A reading may have been taken up to one interval after its time: the range is that of shifting all of them by up to
/// an interval.
pub fn held_energy(readings: &Series, loads: &[(f64, f64)]) -> Option<Estimate<Joules>> {
    let poll = readings.poll()?.value();
    let (first, last) = (readings.times().first()?, readings.times().last()?);
    if !loads.iter().all(|(start, end)| *first <= *start && *end <= *last) {
        return None;
    }
    let shifted = |late: f64| -> f64 {
        loads.iter().map(|(start, end)| held(readings, start - late, end - late)).sum()
    };
    let value = shifted(0.0);
    let later = (1..=4).map(|quarter| shifted(poll * f64::from(quarter) / 4.0));
    let (low, high) = later.fold((value, value), |(low, high), joules| (low.min(joules), high.max(joules)));
    Some(Estimate { value: Joules::new(value), low: Joules::new(low), high: Joules::new(high) })
}

fn held(readings: &Series, start: f64, end: f64) -> f64 {
    let (times, values) = (readings.times(), readings.values());
    let from = times.partition_point(|time| *time <= start).saturating_sub(1);
    let until = |at: usize| times.get(at + 1).copied().unwrap_or(f64::INFINITY);
    let part = |at: usize| values[at] * (until(at).min(end) - times[at].max(start)).max(0.0);
    (from..times.len()).take_while(|&at| times[at] < end).map(part).sum()
}

/// Joules of an external meter over loads. The range is that of moving all loads by up to one of its samples.
pub fn metered_energy(meter: &Series, loads: &[(f64, f64)]) -> Option<Estimate<Joules>> {
    let sample = meter.poll()?.value();
    let load = Load::metered(meter, None);
    if !loads.iter().all(|(start, end)| load.covers(start - sample, end + sample)) {
        return None;
    }
    let moved =
        |by: f64| loads.iter().map(|(start, end)| load.energy(start + by, end + by).value()).sum::<f64>();
    let (value, before, after) = (moved(0.0), moved(-sample), moved(sample));
    let (low, high) = (value.min(before).min(after), value.max(before).max(after));
    Some(Estimate { value: Joules::new(value), low: Joules::new(low), high: Joules::new(high) })
}

/// All loads as one, from the first start to the last end.
pub(super) fn whole(marks: &Marks) -> Vec<(f64, f64)> {
    marks.span().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn each_reading_holds_until_the_next() {
        // 100 W from 0 s, 300 W from 1 s, 50 W from 2 s.
        let readings = Series::new([(0.0, 100.0), (1.0, 300.0), (2.0, 50.0), (3.0, 50.0)]);
        let energy = held_energy(&readings, &[(0.5, 1.5), (1.75, 2.25)]).unwrap();
        // 50 + 150 + 75 + 12.5 J.
        assert_relative_eq!(energy.value.value(), 287.5);
        assert!(energy.low <= energy.value && energy.value <= energy.high);
        assert!(held_energy(&readings, &[(2.5, 3.5)]).is_none());
    }
}
