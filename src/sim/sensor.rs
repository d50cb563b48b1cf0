//! What stands between the true power of a device and what a program reads.
//!
//! A sensor looks at the device from time to time, sees the mean of a window, errs, and publishes late. Which sensors
//! do what is known from Yang, Adámek, Armour, SC24 (10.1109/SC41406.2024.00028) for NVIDIA boards and from
//! Hähnel et al. 2012 (10.1145/2425248.2425252) for RAPL.

use std::collections::VecDeque;

use crate::stats::{Rng, fingerprint};

use super::curve::EnergyCurve;
use super::parameters::{Fault, SensorKind, SensorParameters};

/// Periods of updates before the device's start: at the start the sensor shows something, however many updates were
/// missed.
const PERIODS_BEFORE_START: f64 = 10.0;
/// Largest share of the period by which an update may leave the regular grid, so that none overtakes another.
const LARGEST_JITTER: f64 = 0.49;

/// One look at the device.
#[derive(Debug, Clone, Copy)]
struct Update {
    at: f64,
    published: f64,
    missed: bool,
}

/// When the sensor looks.
#[derive(Debug, Clone)]
struct Schedule {
    first: f64,
    drawn: u64,
    random: Rng,
}

impl Schedule {
    /// The next update: on the regular grid but for its jitter, which does not add up.
    fn next(&mut self, parameters: &SensorParameters) -> Update {
        let SensorParameters { update_period_s: period, jitter_s, delay_s, missed, .. } = *parameters;
        let largest = LARGEST_JITTER * period;
        let jitter = (jitter_s * self.random.normal()).clamp(-largest, largest);
        let at = self.first + self.drawn as f64 * period + jitter;
        self.drawn += 1;
        let published = at + between(delay_s, &mut self.random);
        Update { at, published, missed: self.random.uniform() < missed }
    }
}

/// First-order autoregression of mean 0 and standard deviation 1, stationary from its first value.
#[derive(Debug, Clone)]
struct Noise {
    last: f64,
    random: Rng,
}

impl Noise {
    fn new(mut random: Rng) -> Self {
        Self { last: random.normal(), random }
    }

    fn next(&mut self, correlation: f64) -> f64 {
        let innovation = (1.0 - correlation * correlation).sqrt();
        let next = correlation * self.last + innovation * self.random.normal();
        std::mem::replace(&mut self.last, next)
    }
}

/// A sensor of a simulated device.
///
/// Time never runs backwards from one call to the next. With the curve, the parameters and the seed given, everything
/// that it shows is determined; sensors of different ids are independent.
#[derive(Debug, Clone)]
pub struct Sensor {
    parameters: SensorParameters,
    start: f64,
    schedule: Schedule,
    noise: Noise,
    queries: Rng,
    next: Update,
    /// What a counter has counted, and until when.
    total_j: f64,
    counted_until: f64,
    /// Updates on their way, with the time of publication; none overtakes the one before it.
    pending: VecDeque<(f64, f64)>,
    /// Joules or watts as last published, before they are cut to steps.
    published: f64,
    /// What queries added to the counter and made it forget.
    disturbance_j: f64,
    last_query: Option<(f64, f64)>,
}

impl Sensor {
    /// The sensor of a device that starts at `start`. The seed gives the phase of its updates, uniform in one period,
    /// and its noise. It has been looking for a while before, when the device drew what it draws at the start.
    pub fn new(parameters: &SensorParameters, seed: u64, start: f64) -> Self {
        let period = parameters.update_period_s;
        let phase = period * stream(parameters, seed, 0).uniform();
        let before = period * ((parameters.delay_s[1] / period).ceil() + PERIODS_BEFORE_START);
        Self { start, ..Self::with_phase(parameters, seed, start + phase - before) }
    }

    /// A sensor that looks for the first time at `first_update_s` (but for jitter), which is also its device's start.
    /// Until that look is published it shows zero; a counter's first look counts the period before it.
    pub fn with_phase(parameters: &SensorParameters, seed: u64, first_update_s: f64) -> Self {
        let mut schedule = Schedule { first: first_update_s, drawn: 0, random: stream(parameters, seed, 1) };
        let next = schedule.next(parameters);
        Self {
            start: first_update_s,
            schedule,
            noise: Noise::new(stream(parameters, seed, 2)),
            queries: stream(parameters, seed, 3),
            next,
            total_j: 0.0,
            counted_until: first_update_s - parameters.update_period_s,
            pending: VecDeque::new(),
            published: 0.0,
            disturbance_j: 0.0,
            last_query: None,
            parameters: parameters.clone(),
        }
    }

    /// What the sensor is.
    pub fn parameters(&self) -> &SensorParameters {
        &self.parameters
    }

    /// The earliest time at which the curve is still needed.
    pub fn needs_from(&self) -> f64 {
        match self.parameters.window_s {
            Some(window) => self.next.at - window,
            None if self.stuck(self.next.at) => self.next.at,
            None => self.counted_until,
        }
    }

    /// Takes all looks until `now`; the curve reaches there.
    pub fn advance(&mut self, curve: &dyn EnergyCurve, now: f64) {
        while self.next.at <= now {
            let next = self.schedule.next(&self.parameters);
            let update = std::mem::replace(&mut self.next, next);
            // Noise goes on with time, not with what is shown.
            let noise = self.noise.next(self.parameters.noise_correlation);
            if !update.missed && !self.stuck(update.at) {
                self.publish_until(update.at);
                let value = self.look(curve, update.at, noise);
                self.pending.push_back((update.published, value));
            }
        }
    }

    /// What the sensor shows at `now`: joules or watts. It must have looked until then.
    pub fn read(&mut self, now: f64) -> f64 {
        self.publish_until(now);
        let step = self.parameters.step;
        match self.parameters.kind {
            SensorKind::Power => (self.published / step).round() * step,
            SensorKind::Energy => {
                let total_j = self.published + self.disturbance(now);
                let shown_j = (total_j / step).floor() * step;
                self.parameters.wraps_at_j.map_or(shown_j, |end| shown_j.rem_euclid(end))
            }
        }
    }

    /// Draws the time that one query takes.
    pub fn query_time(&mut self) -> f64 {
        let usual = between(self.parameters.query_s, &mut self.queries);
        let slow = self.queries.uniform() < self.parameters.slow_queries;
        if slow { self.parameters.slow_query_s } else { usual }
    }

    /// The joules or watts of an update that happens.
    fn look(&mut self, curve: &dyn EnergyCurve, at: f64, noise: f64) -> f64 {
        if self.parameters.kind == SensorKind::Energy {
            self.reset_before(at);
        }
        let from = self.parameters.window_s.map_or(self.counted_until, |window| at - window);
        let domain = self.parameters.domain;
        let mean_w = (curve.joules(domain, at) - curve.joules(domain, from)) / (at - from);
        let SensorParameters { gain, offset_w, noise: deviation, .. } = self.parameters;
        // The registers of real sensors have no sign.
        let watts = ((gain * mean_w + offset_w) * (1.0 + deviation * noise)).max(0.0);
        self.total_j += watts * (at - self.counted_until);
        self.counted_until = at;
        match self.parameters.kind {
            SensorKind::Power => watts,
            SensorKind::Energy => self.total_j,
        }
    }

    /// Starts at zero again if that happens before the update at `at`.
    fn reset_before(&mut self, at: f64) {
        if let Some(Fault::Reset { at_s }) = self.parameters.fault
            && (self.counted_until..at).contains(&(self.start + at_s))
        {
            self.total_j = 0.0;
            self.counted_until = self.start + at_s;
        }
    }

    fn stuck(&self, at: f64) -> bool {
        matches!(self.parameters.fault, Some(Fault::Stuck { at_s }) if at >= self.start + at_s)
    }

    fn publish_until(&mut self, now: f64) {
        while let Some(&(at, value)) = self.pending.front()
            && at <= now
        {
            self.published = value;
            self.pending.pop_front();
        }
    }

    /// What queries did to the counter until `now`, where one happens. It sees its own cost only next time.
    fn disturbance(&mut self, now: f64) -> f64 {
        let Some(Fault::ReadRate { per_query_j, forgets_within_s }) = self.parameters.fault else {
            return 0.0;
        };
        if let Some((then, published)) = self.last_query.replace((now, self.published))
            && now - then < forgets_within_s
        {
            self.disturbance_j -= self.published - published;
        }
        let before = self.disturbance_j;
        self.disturbance_j += per_query_j;
        before
    }
}

/// Random numbers of one sensor for one purpose.
fn stream(parameters: &SensorParameters, seed: u64, purpose: u64) -> Rng {
    Rng::stream(seed, fingerprint(&parameters.id).wrapping_add(purpose))
}

fn between([least, most]: [f64; 2], random: &mut Rng) -> f64 {
    least + (most - least) * random.uniform()
}

#[cfg(test)]
mod tests {
    use super::super::parameters::Domain;
    use super::*;
    use crate::sim::History;
    use approx::assert_relative_eq;

    const BOARD: Domain = Domain::Board;

    /// A sensor without any fault that looks every `period` from `period` on.
    fn ideal(kind: SensorKind, period: f64, window: Option<f64>) -> SensorParameters {
        SensorParameters {
            id: "sim".to_string(),
            kind,
            domain: BOARD,
            update_period_s: period,
            window_s: window,
            jitter_s: 0.0,
            delay_s: [0.0, 0.0],
            noise: 0.0,
            noise_correlation: 0.0,
            gain: 1.0,
            offset_w: 0.0,
            step: 1e-6,
            missed: 0.0,
            query_s: [0.0, 0.0],
            slow_queries: 0.0,
            slow_query_s: 0.0,
            wraps_at_j: None,
            fault: None,
        }
    }

    fn sensor(parameters: &SensorParameters) -> Sensor {
        Sensor::with_phase(parameters, 1, parameters.update_period_s)
    }

    /// Constant power from the beginning for `seconds`.
    fn constant(watts: f64, seconds: f64) -> History {
        let mut history = History::new(0.0);
        history.push(seconds, watts, watts / 4.0);
        history
    }

    /// From 0 on: `low` and `high`, half of each `period`, beginning with `low`.
    fn square(period: f64, low: f64, high: f64, seconds: f64) -> History {
        let mut history = History::new(0.0);
        for half in 1..=(2.0 * seconds / period).round() as usize {
            history.push(half as f64 * period / 2.0, if half % 2 == 1 { low } else { high }, 0.0);
        }
        history
    }

    /// Advances to each time and reads there.
    fn readings(sensor: &mut Sensor, curve: &History, times: impl IntoIterator<Item = f64>) -> Vec<f64> {
        let read = |at| {
            sensor.advance(curve, at);
            sensor.read(at)
        };
        times.into_iter().map(read).collect()
    }

    /// Just after the updates `1..=count` of a sensor with this period.
    fn after_updates(period: f64, count: usize) -> impl Iterator<Item = f64> {
        (1..=count).map(move |k| (k as f64 + 1e-6) * period)
    }

    fn mean_and_deviation(xs: &[f64]) -> (f64, f64) {
        let n = xs.len() as f64;
        let mean = xs.iter().sum::<f64>() / n;
        (mean, (xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn a_power_reading_is_the_mean_of_the_window_before_its_update() {
        // 100 W until 0.97 s and 300 W from there on. The window of 0.1 s before 1.0 s has 70 ms of one and 30 ms of
        // the other; the next one lies in the second wholly.
        let mut curve = History::new(0.0);
        curve.push(0.97, 100.0, 0.0);
        curve.push(2.0, 300.0, 0.0);
        let mut sensor = sensor(&ideal(SensorKind::Power, 0.1, Some(0.1)));
        let seen = readings(&mut sensor, &curve, [0.95, 0.999, 1.001, 1.099, 1.101]);
        for (seen, true_mean) in seen.iter().zip([100.0, 100.0, 160.0, 160.0, 300.0]) {
            assert_relative_eq!(*seen, true_mean, epsilon = 1e-6);
        }
    }

    #[test]
    fn a_short_window_sees_only_part_of_a_square_wave() {
        // 25 of 100 ms, square of 40 ms: windows end at 0, 20, 0, 20 ms of its period, after 5 ms of the other power.
        let curve = square(0.04, 100.0, 300.0, 1.0);
        let mut sensor = sensor(&ideal(SensorKind::Power, 0.1, Some(0.025)));
        let seen = readings(&mut sensor, &curve, after_updates(0.1, 4));
        // (20 ms x 100 W + 5 ms x 300 W)/25 ms = 140 W, and the other way round 260 W.
        for (seen, true_mean) in seen.iter().zip([140.0, 260.0, 140.0, 260.0]) {
            assert_relative_eq!(*seen, true_mean, epsilon = 1e-6);
        }
    }

    #[test]
    fn a_part_time_counter_aliases_with_a_load_of_its_own_period() {
        // 100 W and 300 W by halves, mean 200 W. Windows of a quarter that begin with a change see one power only:
        // 50 % wrong. Over all phases a quarter sees each, and half sees mixtures: variance of the share
        // 2/4 x 1/4 + 1/2 x 1/12 = 1/6.
        let curve = square(0.1, 100.0, 300.0, 12.0);
        let watts: Vec<f64> = (0..200)
            .map(|phase| {
                let first = 1.0 + 0.1 * (f64::from(phase) + 0.5) / 200.0;
                let parameters = ideal(SensorKind::Energy, 0.1, Some(0.025));
                let mut sensor = Sensor::with_phase(&parameters, 1, first);
                let ends = [first + 0.01, first + 10.01];
                let joules = readings(&mut sensor, &curve, ends);
                (joules[1] - joules[0]) / 10.0
            })
            .collect();
        let (mean, deviation) = mean_and_deviation(&watts);
        assert_relative_eq!(mean, 200.0, max_relative = 1e-6);
        assert_relative_eq!(deviation, 200.0 / 6_f64.sqrt(), max_relative = 1e-3);
        let worst = watts.iter().map(|w| (w / 200.0 - 1.0).abs()).fold(0.0, f64::max);
        assert_relative_eq!(worst, 0.5, max_relative = 1e-6);
    }

    #[test]
    fn a_full_time_counter_is_exact_to_its_step_whatever_the_load() {
        let curve = square(0.037, 100.0, 300.0, 12.0);
        let parameters = SensorParameters { step: 0.001, ..ideal(SensorKind::Energy, 0.1, None) };
        for (k, seen) in
            readings(&mut sensor(&parameters), &curve, after_updates(0.1, 100)).into_iter().enumerate()
        {
            let truth = curve.joules(BOARD, 0.1 * (k + 1) as f64);
            assert!((-1e-9..0.001 + 1e-9).contains(&(truth - seen)), "update {k}: {seen} J, truth {truth} J");
        }
    }

    #[test]
    fn counters_floor_and_powers_round_to_their_step() {
        let curve = constant(70.0, 10.0);
        let counter = SensorParameters { step: 4.0, ..ideal(SensorKind::Energy, 0.1, None) };
        // 7, 14, 21 and 28 J.
        let seen = readings(&mut sensor(&counter), &curve, after_updates(0.1, 4));
        assert_eq!(seen, [4.0, 12.0, 20.0, 28.0]);
        let power = SensorParameters { step: 4.0, ..ideal(SensorKind::Power, 0.1, Some(0.1)) };
        assert_eq!(readings(&mut sensor(&power), &constant(70.5, 1.0), [0.15]), [72.0]);
        assert_eq!(readings(&mut sensor(&power), &constant(69.5, 1.0), [0.15]), [68.0]);
    }

    #[test]
    fn a_counter_wraps_where_its_parameters_say() {
        // 32 bits of 2^-14 J are 262 144 J, 2621.44 s at 100 W. After 2622 s: 56 J.
        let unit = 2_f64.powi(-14);
        let parameters = SensorParameters {
            step: unit,
            wraps_at_j: Some(unit * 2_f64.powi(32)),
            ..ideal(SensorKind::Energy, 1.0, None)
        };
        let seen = readings(&mut sensor(&parameters), &constant(100.0, 3000.0), [2621.5, 2622.5]);
        assert_relative_eq!(seen[0], 262_100.0, epsilon = unit);
        assert_relative_eq!(seen[1], 56.0, epsilon = unit);
    }

    #[test]
    fn gain_and_offset_act_on_the_power_of_each_kind() {
        // 1.05 x 200 W - 22 W = 188 W.
        let wrong =
            |kind, window| SensorParameters { gain: 1.05, offset_w: -22.0, ..ideal(kind, 0.1, window) };
        let curve = constant(200.0, 20.0);
        let power = readings(&mut sensor(&wrong(SensorKind::Power, Some(0.025))), &curve, [1.05]);
        assert_relative_eq!(power[0], 188.0, epsilon = 1e-6);
        for window in [None, Some(0.025)] {
            let joules = readings(&mut sensor(&wrong(SensorKind::Energy, window)), &curve, [0.05, 10.05]);
            assert_relative_eq!(joules[1], 1880.0, epsilon = 1e-4);
        }
    }

    #[test]
    fn a_sensor_shows_nothing_below_zero() {
        let parameters = SensorParameters { offset_w: -22.0, ..ideal(SensorKind::Energy, 0.1, None) };
        assert_eq!(readings(&mut sensor(&parameters), &constant(20.0, 20.0), [1.05, 10.05]), [0.0, 0.0]);
    }

    #[test]
    fn noise_has_the_deviation_and_correlation_of_its_parameters_from_the_first_update() {
        let (deviation, correlation) = (0.003, 0.65);
        let parameters = SensorParameters {
            noise: deviation,
            noise_correlation: correlation,
            step: 1e-9,
            ..ideal(SensorKind::Power, 0.1, Some(0.1))
        };
        let n = 100_000;
        let curve = constant(1.0, 11_000.0);
        let seen = readings(&mut sensor(&parameters), &curve, after_updates(0.1, n));
        let (mean, sd) = mean_and_deviation(&seen);
        let lag: f64 = seen.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum::<f64>() / n as f64;
        // Four standard errors (Bartlett 1946): sd of the mean s sqrt((1+r)/(1-r)/n), of the deviation
        // s sqrt((1+r^2)/(1-r^2)/(2n)), of the correlation sqrt((1-r^2)/n).
        let (n, r, r2) = (n as f64, correlation, correlation * correlation);
        assert!((mean - 1.0).abs() < 4.0 * deviation * ((1.0 + r) / (1.0 - r) / n).sqrt(), "mean {mean}");
        let sd_bound = 4.0 * deviation * ((1.0 + r2) / (1.0 - r2) / (2.0 * n)).sqrt();
        assert!((sd - deviation).abs() < sd_bound, "deviation {sd}");
        assert!((lag / sd / sd - r).abs() < 4.0 * ((1.0 - r2) / n).sqrt(), "correlation {}", lag / sd / sd);
        // The first update of many sensors has the same deviation.
        let firsts: Vec<f64> = (0..10_000)
            .map(|seed| readings(&mut Sensor::with_phase(&parameters, seed, 0.1), &curve, [0.15])[0])
            .collect();
        let (_, sd) = mean_and_deviation(&firsts);
        assert!((sd / deviation - 1.0).abs() < 4.0 / (2.0 * 10_000_f64).sqrt(), "first deviation {sd}");
    }

    #[test]
    fn updates_stay_on_a_regular_grid_however_they_jitter() {
        let parameters = SensorParameters { jitter_s: 0.002, ..ideal(SensorKind::Energy, 0.1, None) };
        let mut sensor = sensor(&parameters);
        let off_grid: Vec<f64> = (1..=10_000)
            .map(|k| {
                let off = sensor.next.at - f64::from(k) * 0.1;
                sensor.next = sensor.schedule.next(&parameters);
                off
            })
            .collect();
        let (mean, sd) = mean_and_deviation(&off_grid);
        // A walk that added up would have a deviation of 0.1 s or more.
        assert!(mean.abs() < 4.0 * 0.002 / 100.0, "mean {mean}");
        assert!((sd / 0.002 - 1.0).abs() < 4.0 / (2.0 * 10_000_f64).sqrt(), "deviation {sd}");
    }

    #[test]
    fn a_missed_update_keeps_a_power_and_delays_the_energy_of_a_counter() {
        let n = 10_000;
        let missing =
            |kind, window| SensorParameters { missed: 0.25, step: 1e-6, ..ideal(kind, 0.1, window) };
        // Power rises by 1 W at each update; a kept reading is the old one.
        let mut curve = History::new(0.0);
        (1..=n).for_each(|k| curve.push(k as f64 * 0.1, k as f64, 0.0));
        let power = missing(SensorKind::Power, Some(0.05));
        let seen = readings(&mut sensor(&power), &curve, after_updates(0.1, n));
        let kept = seen.windows(2).filter(|w| w[1] - w[0] < 0.5).count() as f64 / n as f64;
        assert!((kept - 0.25).abs() < 4.0 * (0.25 * 0.75 / n as f64).sqrt(), "{kept} were missed");
        assert!(seen.iter().enumerate().all(|(k, watts)| *watts < k as f64 + 1.0 + 1e-6));
        // A full counter that updates has the truth; one that misses has what it had.
        let joules = readings(&mut sensor(&missing(SensorKind::Energy, None)), &curve, after_updates(0.1, n));
        for (k, pair) in joules.windows(2).enumerate() {
            let truth = curve.joules(BOARD, (k + 2) as f64 * 0.1);
            assert!(pair[1] <= pair[0] || (pair[1] - truth).abs() < 1e-3, "update {k}: {pair:?}, {truth} J");
        }
        // A part-time counter takes the next window's power for all of the longer time.
        let part = missing(SensorKind::Energy, Some(0.05));
        let joules = readings(&mut sensor(&part), &curve, after_updates(0.1, n));
        let mut since = 0;
        for (k, pair) in joules.windows(2).enumerate() {
            since += 1;
            if pair[1] > pair[0] {
                let expected = (k + 2) as f64 * 0.1 * f64::from(since);
                let before = std::mem::take(&mut since);
                // The first update may have been missed too.
                let sound = (pair[1] - pair[0] - expected).abs() < 1e-3;
                assert!(sound || pair[0] == 0.0, "update {k} after {before}: {pair:?}");
            }
        }
    }

    #[test]
    fn a_delay_shifts_what_is_shown_and_keeps_its_order() {
        let late = SensorParameters { delay_s: [0.5, 0.5], ..ideal(SensorKind::Power, 0.1, Some(0.1)) };
        let mut curve = History::new(0.0);
        curve.push(0.9, 100.0, 0.0);
        curve.push(2.0, 300.0, 0.0);
        // The update at 1.0 s is the first to see 300 W.
        let seen = readings(&mut sensor(&late), &curve, [0.55, 0.65, 1.45, 1.495, 1.505, 1.6]);
        for (seen, expected) in seen.iter().zip([0.0, 100.0, 100.0, 100.0, 300.0, 300.0]) {
            assert_relative_eq!(*seen, expected, epsilon = 1e-6);
        }
        // Delays of up to five periods: a counter never shows less than it did.
        let random = SensorParameters { delay_s: [0.0, 0.5], ..ideal(SensorKind::Energy, 0.1, None) };
        let steps = (1..1000).map(|k| f64::from(k) * 0.01);
        let seen = readings(&mut sensor(&random), &constant(100.0, 10.0), steps);
        assert!(seen.is_sorted());
        assert!(seen[998] >= 940.0, "{} J after 9.99 s with at most 0.6 s behind", seen[998]);
    }

    #[test]
    fn a_stuck_counter_stands_from_its_time_on() {
        let fault = Some(Fault::Stuck { at_s: 2.0 });
        let parameters = SensorParameters { fault, ..ideal(SensorKind::Energy, 0.1, None) };
        let mut sensor = Sensor { start: 0.0, ..sensor(&parameters) };
        let seen = readings(&mut sensor, &constant(100.0, 10.0), [1.05, 1.95, 2.05, 9.0]);
        for (seen, expected) in seen.iter().zip([100.0, 190.0, 190.0, 190.0]) {
            assert_relative_eq!(*seen, expected, epsilon = 1e-5);
        }
        assert!(
            sensor.needs_from() > 8.9,
            "a stuck sensor would hold all memory from {}",
            sensor.needs_from()
        );
    }

    #[test]
    fn a_reset_counter_counts_again_from_zero() {
        // After 2.05 s it counts from there: 5 J at the update at 2.1 s, 95 J at that at 3 s.
        let fault = Some(Fault::Reset { at_s: 2.05 });
        for window in [None, Some(0.025)] {
            let parameters = SensorParameters { fault, ..ideal(SensorKind::Energy, 0.1, window) };
            let mut sensor = Sensor { start: 0.0, ..sensor(&parameters) };
            let seen = readings(&mut sensor, &constant(100.0, 10.0), [2.02, 2.12, 3.02]);
            for (seen, expected) in seen.iter().zip([200.0, 5.0, 95.0]) {
                assert_relative_eq!(*seen, expected, epsilon = 1e-5);
            }
        }
    }

    #[test]
    fn queries_that_cost_energy_raise_the_idle_power_that_they_find() {
        // The laptop of notes 1.3: 13 W idle by sampled power, about 8 J for each query of the counter. Found at
        // intervals of 0.1, 0.2 and 0.5 s: 85, 51 and 16 W there, 13 W + 8 J/interval here.
        let fault = Some(Fault::ReadRate { per_query_j: 8.0, forgets_within_s: 0.0 });
        let parameters = SensorParameters { fault, ..ideal(SensorKind::Energy, 0.1, None) };
        for (interval, watts) in [(0.1, 93.0), (0.2, 53.0), (0.5, 29.0)] {
            let queries = (1.0 / interval) as usize * 100;
            let times = (0..=queries).map(|k| 0.05 + k as f64 * interval);
            let seen = readings(&mut sensor(&parameters), &constant(13.0, 101.0), times);
            assert_relative_eq!((seen[queries] - seen[0]) / 100.0, watts, epsilon = 1e-4);
        }
    }

    #[test]
    fn queries_that_follow_closely_lose_the_energy_between_them() {
        let fault = Some(Fault::ReadRate { per_query_j: 0.0, forgets_within_s: 0.05 });
        let parameters = SensorParameters { fault, ..ideal(SensorKind::Energy, 0.1, None) };
        let over_10_s = |interval: f64| {
            let times = (0..=(10.0 / interval).round() as usize).map(|k| 0.05 + k as f64 * interval);
            let seen = readings(&mut sensor(&parameters), &constant(100.0, 11.0), times);
            seen[seen.len() - 1] - seen[0]
        };
        assert_relative_eq!(over_10_s(0.2), 1000.0, epsilon = 1e-5);
        // The last interval is forgotten by the query after it.
        assert!(over_10_s(0.02) <= 10.0 + 1e-5, "{} J", over_10_s(0.02));
    }

    #[test]
    fn a_query_takes_the_time_of_its_parameters() {
        let parameters = SensorParameters {
            query_s: [0.000_02, 0.000_5],
            slow_queries: 0.01,
            slow_query_s: 0.005,
            ..ideal(SensorKind::Energy, 0.1, None)
        };
        let mut sensor = sensor(&parameters);
        let times: Vec<f64> = (0..100_000).map(|_| sensor.query_time()).collect();
        let slow = times.iter().filter(|t| **t >= 0.005).count() as f64 / 1e5;
        assert!((slow - 0.01).abs() < 4.0 * (0.01 * 0.99 / 1e5_f64).sqrt(), "{slow} are slow");
        assert!(times.iter().all(|t| (0.000_02..0.000_5).contains(t) || (*t - 0.005).abs() < 1e-12));
    }

    #[test]
    fn a_new_sensor_shows_the_power_of_its_start_and_has_a_phase_from_its_seed() {
        let average = SensorParameters {
            delay_s: [0.5, 0.5],
            missed: 0.05,
            ..ideal(SensorKind::Power, 0.1, Some(1.0))
        };
        let curve = constant(80.0, 5.0);
        let mut phases: Vec<f64> = (0..1000)
            .map(|seed| {
                let mut sensor = Sensor::new(&average, seed, 2.0);
                assert_relative_eq!(readings(&mut sensor, &curve, [2.0])[0], 80.0, epsilon = 1e-6);
                (sensor.next.at - 2.0).rem_euclid(0.1)
            })
            .collect();
        phases.sort_by(f64::total_cmp);
        // Kolmogorov and Smirnov: the largest distance to the uniform distribution, at 0.1 %.
        let distance = |(k, phase): (usize, &f64)| (phase / 0.1 - (k as f64 + 0.5) / 1000.0).abs();
        let largest = phases.iter().enumerate().map(distance).fold(0.0, f64::max);
        assert!(largest < 1.95 / 1000_f64.sqrt(), "{largest}");
    }

    #[test]
    fn sensors_of_one_seed_repeat_themselves_and_those_of_other_ids_differ() {
        let parameters = SensorParameters {
            noise: 0.01,
            jitter_s: 0.001,
            missed: 0.1,
            delay_s: [0.0, 0.05],
            ..ideal(SensorKind::Power, 0.1, Some(0.1))
        };
        let other = SensorParameters { id: "sim-instant".to_string(), ..parameters.clone() };
        let show = |parameters, seed| {
            let times = (1..500).map(|k| f64::from(k) * 0.01);
            readings(&mut Sensor::new(parameters, seed, 0.0), &square(0.3, 100.0, 300.0, 6.0), times)
        };
        assert_eq!(show(&parameters, 7), show(&parameters, 7));
        assert_ne!(show(&parameters, 7), show(&parameters, 8));
        assert_ne!(show(&parameters, 7), show(&other, 7));
    }

    #[test]
    fn the_memory_and_the_processor_add_up_to_the_board() {
        let joules = |domain| {
            let parameters = SensorParameters { domain, ..ideal(SensorKind::Energy, 0.1, None) };
            readings(&mut sensor(&parameters), &constant(200.0, 20.0), [10.05])[0]
        };
        assert_relative_eq!(joules(Domain::Memory), 500.0, epsilon = 1e-4);
        assert_relative_eq!(joules(Domain::Processor), 1500.0, epsilon = 1e-4);
    }

    #[test]
    fn looking_allocates_nothing_in_the_steady_state() {
        let parameters =
            SensorParameters { noise: 0.003, delay_s: [0.0, 0.5], ..ideal(SensorKind::Energy, 0.001, None) };
        let curve = constant(100.0, 700.0);
        let mut sensor = Sensor::new(&parameters, 1, 0.0);
        sensor.advance(&curve, 10.0);
        let used = allocation_counter::measure(|| sensor.advance(&curve, 610.0));
        assert_eq!(used.count_total, 0);
    }
}
