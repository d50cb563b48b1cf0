//! Mean power between the readings of a trace, and its windows in lanes of a readable number.

use crate::clock::Instant;
use crate::trace::{Span, SpanKind, Trace};

use crate::report::si::plottable;

/// Most windows in a lane, so that turned labels fit side by side.
const WINDOWS_PER_LANE: usize = 40;

/// Consecutive windows of one round.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lane<'a> {
    /// The round, from 0.
    pub(super) round: usize,
    /// Which of the round's lanes, from 0.
    pub(super) part: usize,
    /// Lanes of the round.
    pub(super) parts: usize,
    /// Its windows in order of time.
    pub(super) spans: Vec<&'a Span>,
}

impl Lane<'_> {
    /// Where its first window begins.
    pub(super) fn start(&self) -> Instant {
        self.spans.iter().map(|s| s.start).min().unwrap_or_default()
    }

    /// Where its last window ends.
    pub(super) fn end(&self) -> Instant {
        self.spans.iter().map(|s| s.end).max().unwrap_or_default()
    }
}

/// A reading of the cumulative meter, in joules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    at: Instant,
    joules: f64,
}

/// Mean power between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    /// When the earlier reading was taken.
    pub(super) from: Instant,
    /// When the later reading was taken.
    pub(super) to: Instant,
    /// The mean power between them.
    pub(super) watts: f64,
}

/// Windows by round, each round cut into lanes of about equal numbers of windows. Idle windows before and after
/// the rounds, and the warm-up, stand with the round beside them.
pub(super) fn lanes(trace: &Trace) -> Vec<Lane<'_>> {
    // The short windows that show what reading costs belong to no round.
    let shown = |s: &&Span| s.end > s.start && !matches!(s.kind, SpanKind::Watched | SpanKind::Unwatched);
    let mut spans: Vec<&Span> = trace.spans.iter().filter(shown).collect();
    spans.sort_by_key(|s| s.start);
    let mut lanes = vec![];
    // Whole passes and active idle of a planned run have numbers of their own, several in each round.
    let planned = !trace.header.contexts.is_empty();
    let beside = |span: &Span| match span.kind {
        SpanKind::Idle | SpanKind::WarmUp => true,
        SpanKind::Pass | SpanKind::ActiveIdle => planned,
        _ => false,
    };
    for round in spans.chunk_by(|a, b| a.round == b.round || beside(a) || beside(b)) {
        let number = round.iter().find(|s| !beside(s)).or(round.first()).map_or(0, |s| s.round);
        let parts = round.len().div_ceil(WINDOWS_PER_LANE);
        let each = round.len().div_ceil(parts);
        for (part, spans) in round.chunks(each).enumerate() {
            lanes.push(Lane { round: number, part, parts, spans: spans.to_vec() });
        }
    }
    lanes
}

/// Readings of a meter in order of time; none when the trace does not know the meter.
pub(super) fn readings(trace: &Trace, meter: &str) -> Vec<Reading> {
    let index = trace.header.meters.iter().position(|m| m.id == meter);
    let mine = trace.samples.iter().filter(|s| Some(s.meter) == index && plottable(s.energy.value()));
    let mut readings: Vec<Reading> = mine.map(|s| Reading { at: s.at, joules: s.energy.value() }).collect();
    readings.sort_by_key(|r| r.at);
    readings
}

/// Mean power between readings at least `resolution` seconds apart, from the lane's start to its end.
///
/// A cumulative meter's difference over two readings is exact however many lie between, so readings that are
/// too close together are skipped; so are polls that found the counter unchanged, since power between its
/// updates is not known. Readings at the edges of windows always count, so that windows do not mix.
pub(super) fn steps(lane: &Lane<'_>, readings: &[Reading], resolution: f64) -> Vec<Step> {
    let (start, end) = (lane.start(), lane.end());
    let mut edges: Vec<Instant> = lane.spans.iter().flat_map(|s| [s.start, s.end]).collect();
    edges.sort_unstable();
    let mut kept: Vec<(Reading, bool)> = vec![];
    let mut seen = f64::NAN;
    let first = readings.partition_point(|r| r.at < start);
    for reading in readings.iter().skip(first).take_while(|r| r.at <= end) {
        let edge = edges.binary_search(&reading.at).is_ok();
        let unchanged = seen.total_cmp(&reading.joules).is_eq();
        seen = reading.joules;
        let near = |(last, _): &(Reading, bool)| (reading.at - last.at).value() < resolution;
        if edge && kept.last().is_some_and(|last| near(last) && !last.1) {
            kept.pop();
        }
        if edge || !(unchanged || kept.last().is_some_and(near)) {
            kept.push((*reading, edge));
        }
    }
    let pairs = kept.iter().zip(kept.iter().skip(1)).map(|((a, _), (b, _))| (a, b));
    let long = pairs.filter(|(a, b)| (b.at - a.at).value() >= 0.5 * resolution && b.at > a.at);
    let step = |(a, b): (&Reading, &Reading)| {
        let watts = (b.joules - a.joules) / (b.at - a.at).value();
        Step { from: a.at, to: b.at, watts }
    };
    long.map(step).filter(|s| plottable(s.watts)).collect()
}

/// The top of the power axis: all but the highest half per cent of steps, which may be two readings too close
/// together; a step above it is drawn with an arrow.
pub(super) fn axis_top<'a>(steps: impl Iterator<Item = &'a Step>) -> f64 {
    let mut powers: Vec<f64> = steps.map(|s| s.watts).collect();
    powers.sort_by(f64::total_cmp);
    let highest = powers.last().copied().unwrap_or(0.0);
    let usual = powers.get(powers.len() * 199 / 200).copied().unwrap_or(highest);
    let top = if highest > 2.0 * usual { usual } else { highest };
    if top > 0.0 { top * 1.1 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use crate::trace::SpanKind;
    use crate::units::Seconds;

    use super::*;
    use crate::trace::WindowState;

    fn span(start: u64, end: u64) -> Span {
        let (start, end) = (Instant::from_nanos(start), Instant::from_nanos(end));
        Span {
            kind: SpanKind::Pass,
            round: 0,
            start,
            end,
            executions: 1.0,
            edge_s: Seconds::ZERO,
            state: WindowState::default(),
        }
    }

    fn reading(millis: u64, joules: f64) -> Reading {
        Reading { at: Instant::from_nanos(millis * 1_000_000), joules }
    }

    fn watts(spans: &[Span], readings: &[Reading], resolution: f64) -> Vec<f64> {
        let lane = Lane { round: 0, part: 0, parts: 1, spans: spans.iter().collect() };
        steps(&lane, readings, resolution).iter().map(|s| s.watts.round()).collect()
    }

    #[test]
    fn power_between_two_readings_is_energy_over_time() {
        let readings = [reading(0, 1.0), reading(100, 3.0), reading(200, 8.0)];
        assert_eq!(watts(&[span(0, 200_000_000)], &readings, 0.01), vec![20.0, 50.0]);
    }

    #[test]
    fn polls_of_an_unchanged_counter_are_not_zero_watts() {
        let readings = [0.0, 0.0, 0.0, 3.0, 3.0, 6.0].iter().zip(0..).map(|(j, k)| reading(k * 10, *j));
        let readings: Vec<Reading> = readings.collect();
        assert_eq!(watts(&[span(0, 50_000_000)], &readings, 0.001), vec![100.0, 150.0]);
    }

    #[test]
    fn windows_do_not_mix_when_readings_are_merged() {
        // 10 W for 100 ms, then 90 W for 100 ms, read every millisecond, drawn at no more than 40 ms.
        let joules = |k: u64| if k <= 100 { 0.010 * k as f64 } else { 1.0 + 0.090 * (k - 100) as f64 };
        let readings: Vec<Reading> = (0..=200).map(|k| reading(k, joules(k))).collect();
        let spans = [span(0, 100_000_000), span(100_000_000, 200_000_000)];
        assert_eq!(watts(&spans, &readings, 0.04), vec![10.0, 10.0, 90.0, 90.0]);
    }

    #[test]
    fn one_absurd_step_does_not_set_the_axis() {
        let step = |watts: f64| Step { from: Instant::from_nanos(0), to: Instant::from_nanos(1), watts };
        let mut steps = vec![step(100.0); 400];
        assert!((axis_top(steps.iter()) - 110.0).abs() < 1e-9);
        steps.push(step(1e9));
        assert!((axis_top(steps.iter()) - 110.0).abs() < 1e-9);
        assert!((axis_top([].iter()) - 1.0).abs() < 1e-9);
    }
}
