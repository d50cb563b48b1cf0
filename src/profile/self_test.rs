//! The tests that a meter goes through: steady loads, random ones, and square waves of its own period.

use crate::calibration::{
    Beside, CoverageSpread, Marks, ReadRates, ReadingFacts, ReadingKind, SelfTest, Series, Spread, SquareRun,
    Unknown, Witnesses, coverage_spread, health, regular_grid, sensor_facts,
};
use crate::clock::Instant;
use crate::meter::Meter;
use crate::run::{LoadError, Loads, MeterReading, SquareWave, Watched};
use crate::stats::Rng;
use crate::trace::{MeterKind, MeterRecord};
use crate::units::{Joules, Seconds, Watts};

/// Rest until a board has let go of its clocks (some hold them for seconds), rest that counts, and load before anything
/// else does.
const REST: Seconds = Seconds::new(10.0);
const IDLE: Seconds = Seconds::new(3.0);
const WARM_UP: Seconds = Seconds::new(10.0);
/// Rest right behind a load.
const BEHIND: Seconds = Seconds::new(1.5);
/// How much of that counts, and by what part the power may fall meanwhile and be called active idle.
const ACTIVE_IDLE: Seconds = Seconds::new(0.5);
const MOST_FALL: f64 = 0.05;
/// A reading that shows it later than this may show what a board draws that has let go.
const LATEST_ACTIVE: Seconds = Seconds::new(0.5);
/// Time between readings at which the period is looked for first, and where the sensor is faster; and how long.
const SEARCHES: [(Seconds, Seconds); 2] =
    [(Seconds::new(1e-3), Seconds::new(8.0)), (Seconds::new(2e-5), Seconds::new(0.5))];
/// Shortest and longest load of that search.
const SEARCH_LOADS: [f64; 2] = [0.005, 0.05];
/// Updates that the window is found from, and readings in each.
const UPDATES: f64 = 300.0;
const READINGS: f64 = 50.0;
/// On a device that waits for its work, a load lasts from one reading to the next.
const READINGS_IN_TURN: f64 = 8.0;
/// Shortest and longest load of the window's recording in periods: windows are known from half a period to ten.
const WINDOW_LOADS: [f64; 2] = [0.1, 10.0];
/// A steady load read often and seldom: time between readings, and length. Seldom so long that the slowest counter's
/// edges, 0.2 s, are one percent of it.
const OFTEN: (Seconds, Seconds) = (Seconds::new(0.005), Seconds::new(5.0));
const SELDOM: (Seconds, Seconds) = (Seconds::new(0.5), Seconds::new(20.0));
/// A load at the end of all tests, to see whether the reading still moves: the slowest known counters do each second.
const LAST: Seconds = Seconds::new(3.0);
/// Square waves of the sensor's own period, begun at as many phases of it: how long each, and the fewest periods in it.
const PHASES: usize = 8;
const WAVES: Seconds = Seconds::new(2.0);
const FEWEST_CYCLES: f64 = 20.0;
/// The period of one more, in that of the sensor: no simple fraction of it.
const ANOTHER: f64 = 0.37;
/// Readings in a period of these: few, since each may delay a load. A counter that is faster than this is read at the
/// ends only: its edges are half a percent of what it counts at most.
const READINGS_IN_WAVES: f64 = 8.0;
const FAST: Seconds = Seconds::new(0.01);
/// A period of this many pieces of work can be cut in halves, and loads may leave its grid by this part of it.
const PIECES: f64 = 8.0;
const MOST_LATE: f64 = 0.1;
/// That many of them may: a load that comes late counts as much, and the next one is in step again.
const MOST_OUT_OF_STEP: f64 = 0.2;
/// Square waves of a longer period take minutes.
const LONGEST_PERIOD: Seconds = Seconds::new(1.0);
/// How late the slowest known reading shows the mean of its window, where that is not known of this one: a second,
/// half a second late (SC24, table 3).
const LATEST: Seconds = Seconds::new(1.6);

/// What a meter reads.
pub(super) fn kind_of(record: &MeterRecord) -> ReadingKind {
    if record.kind == MeterKind::Power { ReadingKind::Power } else { ReadingKind::Counter }
}

/// Rest, load, and the rest right behind it, of all meters at once.
pub(super) struct Steady {
    idle: Watched,
    load: Watched,
    behind: Watched,
}

impl Steady {
    /// Records them. `read` are the places of these meters among `all`; the others have no readings.
    pub(super) fn record(
        loads: &mut Loads<'_>,
        meters: &mut [&mut dyn Meter],
        read: &[usize],
        all: usize,
    ) -> Result<(Self, Seconds), LoadError> {
        loads.rest(REST)?;
        // Before the load is prepared, which already wakes the device.
        let idle = loads.run(&[(Seconds::ZERO, IDLE)], OFTEN.0, meters)?;
        let each = loads.prepare()?;
        loads.run(&[(WARM_UP, Seconds::ZERO)], OFTEN.0, &mut [])?;
        let load = loads.run(&[(OFTEN.1, Seconds::ZERO)], OFTEN.0, meters)?;
        let behind = loads.run(&[(Seconds::ZERO, BEHIND)], OFTEN.0, meters)?;
        let placed = |watched: Watched| {
            let mut readings = vec![Vec::new(); all];
            for (&place, seen) in read.iter().zip(watched.readings) {
                readings[place] = seen;
            }
            Watched { readings, ..watched }
        };
        Ok((Self { idle: placed(idle), load: placed(load), behind: placed(behind) }, each))
    }

    pub(super) fn was_read(&self, index: usize) -> bool {
        !self.load.readings[index].is_empty()
    }

    pub(super) fn at_rest(&self, index: usize, kind: ReadingKind) -> Option<Watts> {
        mean_power(&series(&self.idle.readings[index], kind), kind)
    }

    pub(super) fn under_load(&self, index: usize, kind: ReadingKind) -> Option<Watts> {
        mean_power(&series(&self.load.readings[index], kind), kind)
    }

    /// How often a counter's energy passed unseen.
    fn lost(&self, index: usize, kind: ReadingKind) -> usize {
        [&self.idle, &self.load, &self.behind]
            .map(|watched| lost(&watched.readings[index], kind))
            .iter()
            .sum()
    }

    /// Power right behind the load, by a reading that shows a change of power wholly after `lag`.
    fn active_idle(&self, index: usize, kind: ReadingKind, lag: Seconds) -> Result<Watts, Unknown> {
        let end = self.load.loads.last().map(|load| load.1.since_origin()).unwrap_or_default();
        let from = (end + lag).value();
        let readings = series(&self.behind.readings[index], kind);
        let between = |from: f64, to: f64| {
            let part = readings.iter().filter(|(at, _)| (from..to).contains(at));
            mean_power(&Series::new(part), kind)
        };
        let half = ACTIVE_IDLE.value() / 2.0;
        let late =
            || Unknown(format!("this reading shows it {:.2} s later, or nobody knows when", lag.value()));
        if lag > LATEST_ACTIVE {
            return Err(late());
        }
        let early = between(from, from + half).ok_or_else(late)?;
        let later = between(from + half, from + 2.0 * half).ok_or_else(late)?;
        if (later - early).abs() > early.abs() * MOST_FALL {
            return Err(Unknown(format!(
                "the power does not stay: {:.1} W and then {:.1} W within {:.1} s behind a load",
                early.value(),
                later.value(),
                ACTIVE_IDLE.value()
            )));
        }
        Ok((early + later) / 2.0)
    }
}

/// One meter.
pub(super) struct Subject<'a> {
    /// The device.
    pub(super) name: &'a str,
    pub(super) id: &'a str,
    pub(super) kind: ReadingKind,
    pub(super) beside: Option<Beside>,
    pub(super) meter: &'a mut dyn Meter,
}

/// The tests of one meter.
pub(super) struct SelfTests<'a> {
    pub(super) steady: &'a Steady,
    /// Its place among the meters.
    pub(super) index: usize,
    /// Length of one execution.
    pub(super) each: Seconds,
    pub(super) random: Rng,
}

impl SelfTests<'_> {
    /// Runs all of them on a device that was under load before.
    pub(super) fn run(
        mut self,
        loads: &mut Loads<'_>,
        mut subject: Subject<'_>,
    ) -> Result<ReadingFacts, LoadError> {
        let (kind, meter) = (subject.kind, &mut subject.meter);
        loads.run(&[(WARM_UP, Seconds::ZERO)], OFTEN.0, &mut [])?;
        let often = loads.run(&[(OFTEN.1, Seconds::ZERO)], OFTEN.0, &mut [&mut **meter])?;
        let seldom = loads.run(&[(SELDOM.1, Seconds::ZERO)], SELDOM.0, &mut [&mut **meter])?;
        // Once more, so that what warmth adds meanwhile falls on both alike.
        let again = loads.run(&[(OFTEN.1, Seconds::ZERO)], OFTEN.0, &mut [&mut **meter])?;
        let mut facts = match self.window_recording(loads, &mut subject)? {
            Err(unknown) => ReadingFacts::unknown(subject.name, subject.id, &unknown),
            Ok(watched) => {
                sensor_facts(subject.name, subject.id, kind, &only(&watched, kind), &marks(&watched))
            }
        };
        let watts = |watched: &Watched| mean_power(&only(watched, kind), kind);
        let lag = lag(&facts, kind);
        let mut test = SelfTest {
            idle_w: self.steady.at_rest(self.index, kind),
            load_w: watts(&often).zip(watts(&again)).map(|(before, after)| (before + after) / 2.0),
            load_read_seldom_w: watts(&seldom),
            query_s: query_times(&often),
            beside: subject.beside.take(),
            active_idle_w: None,
        };
        match self.steady.active_idle(self.index, kind, lag) {
            Ok(watts) => test.active_idle_w = Some(watts),
            Err(unknown) => {
                facts.reasons.insert("active_idle_w".to_string(), unknown.to_string());
            }
        }
        let spread = self.square_waves(loads, &mut subject, &facts, &test)?;
        facts.witness(spread);
        // A counter may have stopped meanwhile.
        let last = loads.run(&[(LAST, Seconds::ZERO)], OFTEN.0, &mut [&mut *subject.meter])?;
        facts.reasons.remove("health");
        let busy = [(busy(&often) + busy(&again)) / 2.0, busy(&seldom)];
        facts.health = Some(health(&Witnesses {
            // Without noise, the power of a steady load is one number: then it may not be that of rest.
            moves: moves(&[&often, &seldom, &again, &last], kind)
                || kind == ReadingKind::Power && !rests(&test),
            lost: self.steady.lost(self.index, kind)
                + [&often, &seldom, &again, &last]
                    .map(|watched| lost(&watched.readings[0], kind))
                    .iter()
                    .sum::<usize>(),
            beside: test.beside.clone(),
            rates: test.load_w.zip(test.load_read_seldom_w).map(|(often, seldom)| ReadRates {
                power: [often, seldom],
                busy,
                rest: test.idle_w,
            }),
        }));
        facts.self_test = Some(test);
        Ok(facts)
    }

    /// Loads and rests of random lengths, many times longer and shorter than the sensor's period: no load has a period
    /// that it could keep step with.
    fn window_recording(
        &mut self,
        loads: &mut Loads<'_>,
        subject: &mut Subject<'_>,
    ) -> Result<Result<Watched, Unknown>, LoadError> {
        let mut grid = Err(Unknown("nothing was read".to_string()));
        for (poll, length) in SEARCHES {
            let parts = self.parts(length, SEARCH_LOADS);
            let watched = loads.run(&parts, poll, &mut [&mut *subject.meter])?;
            grid = regular_grid(&only(&watched, subject.kind));
            if grid.is_ok() {
                break;
            }
        }
        let period = match grid {
            Ok(grid) => grid.period.value,
            Err(unknown) => return Ok(Err(unknown)),
        };
        let scale = WINDOW_LOADS.map(|periods| periods * period.value());
        let mut parts = self.parts(period * UPDATES, scale);
        // Readings reach beyond the loads at both ends.
        parts.insert(0, (Seconds::ZERO, period));
        parts.push((Seconds::ZERO, period));
        let readings = if loads.queues() { READINGS } else { READINGS_IN_TURN };
        Ok(Ok(loads.run(&parts, period / readings, &mut [&mut *subject.meter])?))
    }

    /// Loads and rests for a time, their lengths uniform in the logarithm.
    fn parts(&mut self, length: Seconds, [least, most]: [f64; 2]) -> Vec<(Seconds, Seconds)> {
        let (least, mut left, mut parts) = (least.max(2.0 * self.each.value()), length.value(), Vec::new());
        let mut draw = || Seconds::new(least * (most / least).powf(self.random.uniform()));
        while left > 0.0 {
            let part = (draw(), draw());
            left -= (part.0 + part.1).value();
            parts.push(part);
        }
        parts
    }

    /// Square waves of the sensor's own period, begun at a random place in each eighth of it, in random order: a sensor
    /// with gaps keeps step with them, and sees more or less of the load by where they begin.
    fn square_waves(
        &mut self,
        loads: &mut Loads<'_>,
        subject: &mut Subject<'_>,
        facts: &ReadingFacts,
        test: &SelfTest,
    ) -> Result<Result<CoverageSpread, Unknown>, LoadError> {
        let unknown = |text: String| Ok(Err(Unknown(text)));
        let Some(period) = facts.update_period_s.map(|period| period.value) else {
            return unknown("the update period is not known".to_string());
        };
        let rest = test.active_idle_w.or(test.idle_w);
        let Some((rest, load)) = rest.zip(test.load_w) else {
            return unknown("the power of rest or load is not known".to_string());
        };
        if period > LONGEST_PERIOD {
            return unknown(format!(
                "eight square waves of a period of {:.1} s take minutes",
                period.value()
            ));
        }
        if self.each * PIECES > period {
            return unknown(format!(
                "a piece of work takes {:.3} ms here, and a load of the sensor's period, {:.3} ms, cannot be cut from \
                 such pieces",
                self.each.value() * 1e3,
                period.value() * 1e3
            ));
        }
        let mut slots: Vec<usize> = (0..PHASES).collect();
        self.random.shuffle(&mut slots);
        let (begun, mut runs) = (loads.now(), Vec::new());
        for slot in slots {
            let phase = (slot as f64 + self.random.uniform()) / PHASES as f64;
            let passed = (loads.now() - begun) / period;
            loads.rest(period * (phase - passed).rem_euclid(1.0))?;
            match self.square_run(loads, subject, facts, [period, period])? {
                Ok(run) => runs.push(run),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let another = self.square_run(loads, subject, facts, [period, period * ANOTHER])?.ok();
        Ok(coverage_spread(&runs, another, rest, load))
    }

    /// One square wave; the sensor's period decides how long and how often it is read.
    fn square_run(
        &self,
        loads: &mut Loads<'_>,
        subject: &mut Subject<'_>,
        facts: &ReadingFacts,
        [sensor, period]: [Seconds; 2],
    ) -> Result<Result<SquareRun, Unknown>, LoadError> {
        let kind = subject.kind;
        let ends_only = kind == ReadingKind::Counter && sensor < FAST;
        let settle = if ends_only { Seconds::ZERO } else { lag(facts, kind) };
        let length = settle.value() + WAVES.value().max(FEWEST_CYCLES * sensor.value());
        let wave = SquareWave {
            period,
            cycles: (length / period.value()).ceil() as usize,
            poll: (!ends_only).then(|| sensor / READINGS_IN_WAVES),
        };
        let watched = loads.square(wave, &mut [&mut *subject.meter])?;
        let Some(&first) = watched.cycles.first() else {
            return Ok(Err(Unknown("no load was run".to_string())));
        };
        // A query that takes long delays a load now and then, and the next one is in step again.
        let out_of_step = |(cycle, at): &(usize, &Instant)| {
            ((**at - first) - period * *cycle as f64).abs() > period * MOST_LATE
        };
        let late = watched.cycles.iter().enumerate().filter(out_of_step).count();
        if late as f64 > MOST_OUT_OF_STEP * wave.cycles as f64 {
            return Ok(Err(Unknown(format!(
                "{late} of {} loads do not keep to a period of {:.3} ms on this device",
                wave.cycles,
                period.value() * 1e3
            ))));
        }
        let readings = only(&watched, kind);
        let power = if ends_only {
            between_ends(&readings)
        } else {
            let from = (first.since_origin() + settle).value();
            mean_power(&Series::new(readings.iter().filter(|(at, _)| *at >= from)), kind)
        };
        let busy: f64 = watched.loads.iter().map(|load| (load.1 - load.0).value()).sum();
        let duty = busy / (period.value() * wave.cycles as f64);
        Ok(power
            .map(|power| SquareRun { power, duty })
            .ok_or_else(|| Unknown("the sensor stood still under square waves".to_string())))
    }
}

/// How long after a change of power this reading shows nothing but it.
fn lag(facts: &ReadingFacts, kind: ReadingKind) -> Seconds {
    let high = |fact: Option<crate::stats::Estimate<Seconds>>| fact.map(|fact| fact.high);
    let period = high(facts.update_period_s);
    match (kind, high(facts.window_s), high(facts.delay_s), period) {
        (_, Some(window), Some(delay), Some(period)) => {
            Seconds::new(delay.value().max(0.0)) + window + period
        }
        // A counter shows what it counted since its last update.
        (ReadingKind::Counter, _, _, Some(period)) => period * 2.0,
        _ => LATEST,
    }
}

/// The readings of a meter that was read alone.
fn only(watched: &Watched, kind: ReadingKind) -> Series {
    series(watched.readings.first().map_or(&[], Vec::as_slice), kind)
}

/// Readings as watts or joules at their times. A change is seen half an interval after it happens, on average.
fn series(readings: &[MeterReading], kind: ReadingKind) -> Series {
    let value = |reading: &MeterReading| match kind {
        ReadingKind::Power => reading.power.map(Watts::value),
        ReadingKind::Counter => reading.energy.map(Joules::value),
    };
    let at = |reading: &MeterReading| {
        (reading.begun.since_origin() + (reading.ended - reading.begun) / 2.0).value()
    };
    let mut readings: Vec<(f64, f64)> =
        readings.iter().filter_map(|reading| Some((at(reading), value(reading)?))).collect();
    // Two readings within the clock's step are one.
    readings.dedup_by(|later, earlier| later.0 <= earlier.0);
    let late = Series::new(readings.iter().copied()).poll().unwrap_or_default().value() / 2.0;
    Series::new(readings.into_iter().map(|(at, value)| (at - late, value)))
}

/// Mean power from the first change to the last. A reading of power that never changes shows one power.
fn mean_power(series: &Series, kind: ReadingKind) -> Option<Watts> {
    let changes = series.changes();
    let ends = changes.first().zip(changes.last()).filter(|(first, last)| first.0 < last.0);
    let Some(((from, before), (to, after))) = ends else {
        let still = *series.values().last()?;
        return (kind == ReadingKind::Power).then(|| Watts::new(still));
    };
    let joules = match kind {
        ReadingKind::Counter => after - before,
        // Each value holds until the next.
        ReadingKind::Power => changes.windows(2).map(|pair| pair[0].1 * (pair[1].0 - pair[0].0)).sum(),
    };
    Some(Watts::new(joules / (to - from)))
}

/// Mean power of a counter between its first reading and its last.
fn between_ends(series: &Series) -> Option<Watts> {
    let (from, to) = (*series.times().first()?, *series.times().last()?);
    let (before, after) = (*series.values().first()?, *series.values().last()?);
    (to > from && after > before).then(|| Watts::new((after - before) / (to - from)))
}

/// How often a counter's energy passed unseen. Readings of power may be too far apart to be joined, and that is no fault.
fn lost(readings: &[MeterReading], kind: ReadingKind) -> usize {
    let is_counter = kind == ReadingKind::Counter;
    readings.iter().filter(|reading| is_counter && reading.energy.is_none()).count()
}

/// Whether the reading moved under each of these loads.
fn moves(watched: &[&Watched], kind: ReadingKind) -> bool {
    watched.iter().all(|watched| !only(watched, kind).changes().is_empty())
}

/// Whether it shows the same at rest as under load: then one that does not move may be stuck.
fn rests(test: &SelfTest) -> bool {
    match (test.idle_w, test.load_w) {
        (Some(idle), Some(load)) => (load - idle).abs() <= idle.abs() * 1e-9,
        _ => true,
    }
}

/// The part of the time in which the device worked.
fn busy(watched: &Watched) -> f64 {
    let Some((first, last)) = watched.loads.first().zip(watched.loads.last()) else { return 0.0 };
    let busy: f64 = watched.loads.iter().map(|load| (load.1 - load.0).value()).sum();
    busy / (last.1 - first.0).value().max(f64::MIN_POSITIVE)
}

fn marks(watched: &Watched) -> Marks {
    let seconds = |at: Instant| at.since_origin().value();
    let loads = watched.loads.iter().map(|load| (seconds(load.0), seconds(load.1)));
    Marks::new(loads.filter(|load| load.0 < load.1).collect())
}

fn query_times(watched: &Watched) -> Option<Spread> {
    let readings = watched.readings.first()?;
    Spread::of(readings.iter().map(|reading| reading.ended - reading.begun))
}
