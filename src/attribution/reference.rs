//! The state of the device that the network brings it to in the long run, and what a window would have cost in it.
//!
//! Leakage grows with temperature, and energy per operation with clock and voltage. Windows are measured while the device
//! still warms up, and a layer that is repeated alone may run at another clock than within the network. So each window is
//! corrected to the network's own steady state:
//!
//! ```text
//! E' = (E + k t (T_ref - T)) (1 + s ln(f_ref / f))      t' = t (1 - s_t ln(f_ref / f))
//! ```
//!
//! with k the watts per kelvin, found in windows of active idle at several temperatures, T_ref where the temperatures of
//! the warm-up lead, f_ref the clock of whole passes at that temperature, and s and s_t the sensitivities to the clock,
//! of which only bounds are known.

use crate::stats::Uncertain;
use crate::trace::{Span, SpanKind, Trace};

use super::integrate::Reading;
use super::span_energy;

/// How time and dynamic energy of work go with the logarithm of the clock, with standard uncertainties. Arithmetic takes
/// as much less time as the clock is higher, memory has a clock of its own: exponents of time lie between 0 and 1. Dynamic
/// energy goes with the square of the voltage, which rises with the clock by less than in proportion.
const TIME_BY_CLOCK: (f64, f64) = (0.7, 0.3);
const DYNAMIC_BY_CLOCK: (f64, f64) = (0.9, 0.4);
/// Fewest windows, and least spread of their clocks, from which a kind of work tells its own exponents.
const FEWEST: usize = 3;
const SPREAD: f64 = 0.01;
/// Part of the clock within which windows tell an exponent.
const FAR: f64 = 0.08;
/// Least standard uncertainty of an exponent: it is none, in truth, but a curve.
const LEAST_ERROR: f64 = 0.1;
/// By how much an exponent may change over a factor e of the clock.
const CURVE: f64 = 0.75;
/// Scatter of a window's energy that an exponent is held against, in parts.
const SCATTER: f64 = 0.004;
/// Least rise of temperature, in kelvin, that tells what a kelvin costs.
const LEAST_RISE: f64 = 3.0;
/// Least rise that tells where it leads: how well, the fit says.
const LEAST_WAY: f64 = 1.0;
/// Standard uncertainty of one reading of temperature, in kelvin: boards show whole degrees (GUM 4.3.7).
const READING: f64 = 0.29;
/// Part of the way that is left by which it may not be that of an exponential.
const NO_EXPONENTIAL: f64 = 0.1;
/// Fewest windows that tell at which clock a limit holds the network.
const FEWEST_LIMITED: usize = 4;
/// A pause in a recording after which the device is no longer warm, in seconds.
const PAUSE: f64 = 20.0;
/// Time constants that are tried, in seconds: from the shortest to the longest of a cooler, geometrically.
const CONSTANTS: (f64, f64, usize) = (4.0, 240.0, 400);

/// The steady state, as far as the device shows it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reference {
    /// Temperature in degrees Celsius, where the network leads it.
    pub celsius: Option<Uncertain>,
    /// Watts for each kelvin.
    pub watts_per_kelvin: Option<Uncertain>,
    /// Clock of whole passes at that temperature, in megahertz.
    pub megahertz: Option<Uncertain>,
    /// Part by which the clock swings within passes, where something holds it down.
    pub swing: f64,
    /// Power of active idle at that temperature, in watts.
    pub active_idle: Option<Uncertain>,
}

/// What correcting a kind of work's windows leaves open: means over its windows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Correction {
    /// Reference less window, in kelvin.
    pub(super) kelvin: f64,
    /// Logarithm of reference over window.
    pub(super) clock: f64,
}

impl Reference {
    /// Finds the steady state in a trace; `idle` are the windows of active idle by the meter at hand.
    ///
    /// A kelvin costs what it adds to the power of whole passes; where a limit holds that constant, to active idle.
    pub(super) fn of(
        trace: &Trace,
        idle: &[(Reading, Option<f64>)],
        busy: &[(Reading, Option<f64>)],
    ) -> Self {
        let passes: Vec<&Span> = trace.spans.iter().filter(|span| span.kind == SpanKind::Pass).collect();
        let celsius = steady_temperature(trace).or_else(|| as_warm_as_it_got(trace)).or_else(|| {
            let seen: Vec<f64> = passes.iter().filter_map(|span| span.state.celsius).collect();
            Some(Uncertain::mean_of(&seen)?.widened(READING))
        });
        let line = line(idle);
        let limited = passes.iter().chain(&settling(trace)).any(|span| span.state.limited);
        let of_passes = self::line(busy).filter(|_| !limited);
        let of_idle = line.as_ref().map(|line| line.slope);
        let megahertz = clock(trace, &passes, celsius);
        let swings = passes.iter().filter(|span| span.state.limited).filter_map(|span| {
            Some(span.state.megahertz_sd? / span.state.megahertz.filter(|&clock| clock > 0.0)?)
        });
        let swing = swings.fold(0.0, f64::max);
        let active_idle = match (&line, celsius) {
            (Some(line), Some(celsius)) => Some(line.at(celsius)),
            _ => None,
        };
        Self {
            celsius,
            watts_per_kelvin: of_passes.map(|line| line.slope).or(of_idle),
            megahertz,
            swing,
            active_idle,
        }
    }

    /// What the work of a window would have read at the steady temperature, and how far from the steady state it was.
    /// `idle` is the power of active idle there, which is taken off for the time in which nothing ran.
    pub(super) fn warmed(&self, span: &Span, reading: Reading, idle: f64) -> (Reading, Correction) {
        let pause = span.state.rest_s.value();
        let busy = (reading.time - pause).max(0.0);
        let correction = self.distance(span);
        let warmer = self.watts_per_kelvin.map_or(0.0, |k| k.value) * correction.kelvin;
        let energy = reading.energy - (idle - warmer) * pause + warmer * busy;
        (Reading { energy, time: busy, ..reading }, correction)
    }

    fn distance(&self, span: &Span) -> Correction {
        let kelvin = self.celsius.zip(span.state.celsius).map_or(0.0, |(to, from)| to.value - from);
        let clocks = self.megahertz.zip(span.state.megahertz.filter(|&clock| clock > 0.0));
        let clock = clocks.filter(|(to, _)| to.value > 0.0).map_or(0.0, |(to, from)| (to.value / from).ln());
        Correction { kelvin, clock }
    }

    /// Standard uncertainty that temperature leaves to work of a time, in joules, corrected by so many kelvin.
    pub(super) fn temperature_error(&self, time: f64, kelvin: f64) -> f64 {
        let Some((k, celsius)) = self.watts_per_kelvin.zip(self.celsius) else { return 0.0 };
        time.abs() * (k.std_error * kelvin).hypot(k.value * celsius.std_error)
    }

    /// Standard uncertainty that the network's own clock leaves to an energy: how well it is known, and that it swings
    /// within a pass.
    pub(super) fn clock_error(&self, energy: f64, sensitivity: Sensitivity) -> f64 {
        let relative = self.megahertz.filter(|f| f.value > 0.0).map_or(0.0, |f| f.std_error / f.value);
        energy.abs() * sensitivity.energy.hypot(sensitivity.energy_error) * relative.hypot(self.swing / 2.0)
    }
}

/// The spans of the last warm-up: those with no long pause behind them.
fn last_warm_up(trace: &Trace) -> Vec<&Span> {
    let mut from = 0;
    for (at, pair) in trace.spans.windows(2).enumerate() {
        if (pair[1].start - pair[0].end).value() > PAUSE {
            from = at + 1;
        }
    }
    trace.spans[from..].iter().filter(|span| span.kind == SpanKind::WarmUp).collect()
}

/// The spans of the last warm-up at whose end a limit acts, or does not act, as it did in all of them.
fn settling(trace: &Trace) -> Vec<&Span> {
    let mut spans = last_warm_up(trace);
    let Some(last) = spans.last() else { return spans };
    let limited = last.state.limited;
    let other = spans.iter().rposition(|span| span.state.limited != limited);
    spans.drain(..other.map_or(0, |other| other + 1));
    spans
}

/// Where the temperature of the warm-up leads: T(t) = T_end - a exp(-t / c), by least squares over c.
///
/// A power limit that begins to act ends one exponential and begins another: from then on leakage takes from the work's
/// power what it adds, and no longer heats the device. So only what the limit does at the end counts.
///
/// None where too little was seen, or the temperature hardly rose.
pub fn steady_temperature(trace: &Trace) -> Option<Uncertain> {
    let spans = settling(trace);
    let begin = spans.first()?.start;
    let seen: Vec<(f64, f64)> =
        spans.iter().filter_map(|span| Some(((span.end - begin).value(), span.state.celsius?))).collect();
    leads_to(&seen)
}

/// Power of the warm-up's work at the temperature where it leads, in watts, by the readings of one meter.
pub fn steady_power(trace: &Trace, meter: usize) -> Option<f64> {
    let power = |span: &Span| Some(span_energy(trace, meter, span)?.value() / span.length().value());
    // The first window has the boost of a rested device.
    let spans = settling(trace).into_iter().filter(|span| span.round > 0);
    let seen: Vec<(f64, f64)> = spans.filter_map(|span| Some((span.state.celsius?, power(span)?))).collect();
    Some(Line::through(&seen)?.at(steady_temperature(trace)?).value)
}

/// The temperature at the end of the warm-up, where it does not show where it leads: about as far as it came in the time
/// that it had last.
fn as_warm_as_it_got(trace: &Trace) -> Option<Uncertain> {
    let spans = settling(trace);
    let celsius = |span: &&Span| span.state.celsius;
    let (first, last) = (spans.first().and_then(celsius)?, spans.last().and_then(celsius)?);
    (spans.len() > 1).then(|| Uncertain::known(last, READING.hypot((last - first) / 2.0)))
}

/// Where temperatures at times lead, in seconds and degrees Celsius.
fn leads_to(seen: &[(f64, f64)]) -> Option<Uncertain> {
    let (low, high) =
        seen.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &(_, c)| (l.min(c), h.max(c)));
    if seen.len() < 6 || high - low < LEAST_WAY {
        return None;
    }
    let (shortest, longest, steps) = CONSTANTS;
    let constants = (0..=steps).map(|i| shortest * (longest / shortest).powf(i as f64 / steps as f64));
    let fits: Vec<(f64, f64)> = constants.filter_map(|constant| settle(seen, constant)).collect();
    let &(end, least) = fits.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    // All that fit about as well: by chi-square of one degree of freedom, with the noise of whole degrees at least.
    let noise = (least / (seen.len() - 3) as f64).max(resolution(seen).powi(2));
    let among = fits.iter().filter(|(_, squares)| *squares <= least + noise).map(|(end, _)| *end);
    let (from, to) = among.fold((end, end), |(from, to), end| (from.min(end), to.max(end)));
    // Between the ends lie two standard uncertainties.
    let fit = ((to - from) / 2.0).max(resolution(seen) / 2.0);
    let ahead = seen.last().map_or(0.0, |(_, last)| end - last);
    Some(Uncertain::known(end, fit.hypot(NO_EXPONENTIAL * ahead)))
}

/// Standard uncertainty of the readings of a sensor: of whole degrees, or of what it shows.
fn resolution(seen: &[(f64, f64)]) -> f64 {
    if seen.iter().all(|(_, celsius)| celsius.fract() == 0.0) { READING } else { READING / 10.0 }
}

/// The end of the exponential with a time constant that fits best, and the sum of squares.
fn settle(seen: &[(f64, f64)], constant: f64) -> Option<(f64, f64)> {
    let n = seen.len() as f64;
    let x: Vec<f64> = seen.iter().map(|(t, _)| (-t / constant).exp()).collect();
    let (mx, my) = (x.iter().sum::<f64>() / n, seen.iter().map(|(_, c)| c).sum::<f64>() / n);
    let sxx: f64 = x.iter().map(|x| (x - mx).powi(2)).sum();
    let sxy: f64 = x.iter().zip(seen).map(|(x, (_, c))| (x - mx) * (c - my)).sum();
    if sxx <= 1e-12 {
        return None;
    }
    let slope = sxy / sxx;
    let end = my - slope * mx;
    let squares = x.iter().zip(seen).map(|(x, (_, c))| (c - end - slope * x).powi(2)).sum();
    Some((end, squares))
}

/// Power or clock over temperature.
struct Line {
    slope: Uncertain,
    mean_celsius: f64,
    mean: Uncertain,
}

impl Line {
    /// By least squares, through what was seen at temperatures; none where these hardly differ.
    fn through(seen: &[(f64, f64)]) -> Option<Self> {
        let (low, high) =
            seen.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &(c, _)| (l.min(c), h.max(c)));
        if seen.len() < 3 || high - low < LEAST_RISE {
            return None;
        }
        let n = seen.len() as f64;
        let (mx, my) = (seen.iter().map(|s| s.0).sum::<f64>() / n, seen.iter().map(|s| s.1).sum::<f64>() / n);
        let sxx: f64 = seen.iter().map(|(c, _)| (c - mx).powi(2)).sum();
        let slope = seen.iter().map(|(c, y)| (c - mx) * (y - my)).sum::<f64>() / sxx;
        let squares: f64 = seen.iter().map(|(c, y)| (y - my - slope * (c - mx)).powi(2)).sum();
        let (dof, variance) = (n - 2.0, squares / (n - 2.0));
        let of = |value: f64, variance: f64| Uncertain { value, std_error: variance.sqrt(), dof };
        Some(Self { slope: of(slope, variance / sxx), mean_celsius: mx, mean: of(my, variance / n) })
    }

    fn at(&self, celsius: Uncertain) -> Uncertain {
        let away = celsius.value - self.mean_celsius;
        let slope = self.slope.times(away);
        let unsure = (self.slope.value * celsius.std_error).abs();
        Uncertain { value: self.mean.value + slope.value, ..self.mean.plus(slope).widened(unsure) }
    }
}

/// The power of windows over their temperatures; none where these hardly differ.
fn line(windows: &[(Reading, Option<f64>)]) -> Option<Line> {
    let seen: Vec<(f64, f64)> =
        windows.iter().filter_map(|(r, celsius)| Some(((*celsius)?, r.energy / r.time))).collect();
    Line::through(&seen)
}

/// The clock of whole passes in the steady state that a trace leads to, in megahertz, and whether a limit holds it down.
pub fn steady_clock(trace: &Trace) -> Option<(f64, bool)> {
    let passes: Vec<&Span> = trace.spans.iter().filter(|span| span.kind == SpanKind::Pass).collect();
    let limited = passes.iter().chain(&settling(trace)).any(|span| span.state.limited);
    Some((clock(trace, &passes, steady_temperature(trace))?.value, limited))
}

/// The clock of whole passes at the steady temperature: what a limit leaves of it falls as leakage grows.
///
/// A limit that has come to act in the warm-up acts in the steady state, also if passes are measured while the device is
/// cooler.
fn clock(trace: &Trace, passes: &[&Span], celsius: Option<Uncertain>) -> Option<Uncertain> {
    let seen: Vec<f64> = passes.iter().filter_map(|span| span.state.megahertz).collect();
    let mean = match seen.len() {
        0 => return None,
        1 => Uncertain::known(seen[0], 0.005 * seen[0]),
        _ => Uncertain::mean_of(&seen)?,
    };
    let warm = settling(trace);
    let limited = || warm.iter().chain(passes).filter(|span| span.state.limited);
    let Some(celsius) = celsius.filter(|_| limited().next().is_some()) else { return Some(mean) };
    let pairs: Vec<(f64, f64)> =
        limited().filter_map(|span| Some((span.state.celsius?, span.state.megahertz?))).collect();
    let Some(line) = Line::through(&pairs).filter(|_| pairs.len() >= FEWEST_LIMITED) else {
        let clocks: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        return Some(Uncertain::mean_of(&clocks).filter(|_| pairs.len() >= FEWEST_LIMITED).unwrap_or(mean));
    };
    Some(line.at(celsius))
}

/// How energy and time of a kind of work go with the logarithm of the clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sensitivity {
    energy: f64,
    energy_error: f64,
    time: f64,
}

impl Sensitivity {
    /// What is known of all kernels. What they draw beside their dynamic energy is `resting`, a part of their power that
    /// goes with their time.
    fn of_all(resting: f64) -> Self {
        let resting = resting.clamp(0.0, 1.0);
        let (time, dynamic) = (TIME_BY_CLOCK, DYNAMIC_BY_CLOCK);
        Self {
            energy: (1.0 - resting) * dynamic.0 - resting * time.0,
            energy_error: ((1.0 - resting) * dynamic.1).hypot(resting * time.1),
            time: time.0,
        }
    }

    /// From windows of one kind of work at several clocks, as far as they tell more than what is known of all kernels:
    /// both are weighed by their variances. `idle` is the power of active idle, in watts, and `magnified` how much
    /// larger the scatter of these energies is, in parts, than that of whole windows.
    ///
    /// Only windows near the network's clock count: over more of it energy does not go along a straight line.
    pub(super) fn of(windows: &[(Reading, Correction)], idle: f64, magnified: f64) -> Self {
        let sum = |of: &dyn Fn(&Reading) -> f64| windows.iter().map(|w| of(&w.0)).sum::<f64>();
        let (energy, time) = (sum(&|r| r.energy), sum(&|r| r.time));
        let all = Self::of_all(if energy > 0.0 { idle * time / energy } else { 0.0 });
        let tells = |w: &&(Reading, Correction)| w.1.clock.abs() < FAR && w.0.energy > 0.0;
        let windows: Vec<&(Reading, Correction)> = windows.iter().filter(tells).collect();
        let n = windows.len() as f64;
        let clock = -windows.iter().map(|w| w.1.clock).sum::<f64>() / n;
        let sxx: f64 = windows.iter().map(|w| (-w.1.clock - clock).powi(2)).sum();
        if windows.len() < FEWEST || (sxx / n).sqrt() < SPREAD {
            return all;
        }
        let slope = |of: &dyn Fn(&Reading) -> f64| {
            windows.iter().map(|w| (-w.1.clock - clock) * (of(&w.0) / w.0.executions).ln()).sum::<f64>() / sxx
        };
        let (energy, variance) = (slope(&|r| r.energy), (SCATTER * magnified).powi(2) / sxx);
        let prior = all.energy_error.powi(2);
        let weight = prior / (prior + variance);
        let time = -slope(&|r| r.time);
        Self {
            energy: weight * energy + (1.0 - weight) * all.energy,
            energy_error: (weight * variance).sqrt().max(LEAST_ERROR),
            time: (weight * time + (1.0 - weight) * all.time).clamp(0.0, 1.5),
        }
    }

    /// Standard uncertainty of an energy that was corrected over this logarithm of the clock, in parts.
    pub(super) fn error(&self, clock: f64) -> f64 {
        (self.energy_error * clock).hypot(CURVE * clock.powi(2))
    }

    /// A window as it would have been at the network's clock.
    pub(super) fn at_clock(&self, reading: Reading, correction: Correction) -> Reading {
        Reading {
            energy: reading.energy * (self.energy * correction.clock).exp(),
            time: reading.time * (-self.time * correction.clock).exp(),
            ..reading
        }
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    fn window(energy: f64, time: f64) -> Reading {
        Reading { kind: SpanKind::Pass, round: 0, energy, time, executions: 1.0, edge: 0.0 }
    }

    /// A warm-up from 36 to 66 degrees with a time constant of 25 s, seen every 2.5 s.
    fn warm_up(seconds: f64) -> Vec<(f64, f64)> {
        let times = (1..).map(|i| 2.5 * f64::from(i)).take_while(|t| *t <= seconds);
        times.map(|t| (t, 66.0 - 30.0 * (-t / 25.0).exp())).collect()
    }

    #[test]
    fn a_warm_up_leads_to_its_end_long_before_it_is_there() {
        // After 60 s it is at 63.3 degrees.
        let end = leads_to(&warm_up(60.0)).unwrap();
        assert!((end.value - 66.0).abs() < 0.3 && end.std_error < 0.5, "{end:?}");
        // Of whole degrees the end is told less well, and the uncertainty says so.
        let whole: Vec<(f64, f64)> = warm_up(60.0).iter().map(|&(t, c)| (t, c.round())).collect();
        let rough = leads_to(&whole).unwrap();
        assert!(rough.std_error > end.std_error, "{rough:?} {end:?}");
        assert!((rough.value - 66.0).abs() < 2.0 * rough.std_error, "{rough:?}");
        // From its first seconds nothing is claimed to be known well, and from no rise nothing at all.
        let early = leads_to(&warm_up(15.0)).unwrap();
        assert!(
            (early.value - 66.0).abs() < 2.0 * early.std_error.max(1.0) && early.std_error > end.std_error,
            "{early:?}"
        );
        assert!(leads_to(&[(1.0, 60.0); 20]).is_none());
    }

    #[test]
    fn a_kelvin_costs_what_active_idle_rises_by() {
        // 100 W at 40 degrees and 1.5 W for each more, in windows of 2 s.
        let idle: Vec<(Reading, Option<f64>)> = [40.0, 62.0, 65.0, 66.0]
            .map(|c| (window(2.0 * (100.0 + 1.5 * (c - 40.0)), 2.0), Some(c)))
            .to_vec();
        let line = line(&idle).unwrap();
        assert_relative_eq!(line.slope.value, 1.5, max_relative = 1e-9);
        assert_relative_eq!(line.at(Uncertain::exact(70.0)).value, 145.0, max_relative = 1e-9);
        // A degree of uncertainty is worth 1.5 W.
        assert_relative_eq!(line.at(Uncertain::known(70.0, 1.0)).std_error, 1.5, max_relative = 1e-6);
        assert!(super::line(&idle[1..]).is_some() && super::line(&idle[2..]).is_none());
    }

    #[test]
    fn work_tells_how_it_goes_with_the_clock_and_is_brought_to_that_of_the_network() {
        // Energy goes with the clock to the power of 0.9, time to that of -1; the network is at 1000 MHz.
        let at = |megahertz: f64| {
            let clock = (1000.0 / megahertz).ln();
            let reading = window(2.0 * (megahertz / 1000.0).powf(0.9), 1000.0 / megahertz);
            (reading, Correction { kelvin: 0.0, clock })
        };
        let windows: Vec<(Reading, Correction)> = [940.0, 970.0, 1000.0, 1030.0].map(at).to_vec();
        let sensitivity = Sensitivity::of(&windows, 0.6, 1.0);
        let (reading, correction) = at(950.0);
        let there = sensitivity.at_clock(reading, correction);
        assert_relative_eq!(there.energy, 2.0, max_relative = 2e-3);
        assert_relative_eq!(there.time, 1.0, max_relative = 2e-3);
        // Two windows tell nothing: the exponent of all kernels, and its uncertainty.
        let none = Sensitivity::of(&windows[2..3], 0.6, 1.0);
        // Three tenths of its 2 W are drawn at rest too: 0.7 x 0.9 - 0.3 x 0.7, and the errors of both.
        assert_relative_eq!(none.energy, 0.42, max_relative = 1e-9);
        assert_relative_eq!(none.energy_error, 0.28_f64.hypot(0.09), max_relative = 1e-9);
        // Windows far from the network's clock tell no slope there.
        let far = [at(700.0), at(800.0), at(900.0)];
        assert!(Sensitivity::of(&far, 0.6, 1.0).energy_error > sensitivity.energy_error);
        assert!(sensitivity.energy_error < none.energy_error);
    }

    #[test]
    fn a_window_is_taken_to_the_temperature_of_the_network_and_its_rests_are_taken_off() {
        let reference = Reference {
            celsius: Some(Uncertain::known(66.0, 0.5)),
            watts_per_kelvin: Some(Uncertain::known(1.5, 0.1)),
            active_idle: Some(Uncertain::exact(120.0)),
            ..Reference::default()
        };
        let state = crate::trace::WindowState {
            celsius: Some(60.0),
            rest_s: crate::units::Seconds::new(0.25),
            ..Default::default()
        };
        let instant = crate::clock::Instant::from_nanos;
        let span = Span {
            kind: SpanKind::Pass,
            round: 0,
            start: instant(0),
            end: instant(1_000_000_000),
            executions: 1.0,
            edge_s: crate::units::Seconds::ZERO,
            state,
        };
        // 400 J in a second, a quarter of which it rested at 120 - 6 x 1.5 W; the work is 6 K too cool for 0.75 s.
        let (reading, correction) = reference.warmed(&span, window(400.0, 1.0), 120.0);
        assert_relative_eq!(reading.energy, 400.0 - 0.25 * 111.0 + 0.75 * 9.0, max_relative = 1e-9);
        assert_relative_eq!(reading.time, 0.75);
        assert_relative_eq!(correction.kelvin, 6.0);
        // (0.1 W/K x 6 K)^2 + (1.5 W/K x 0.5 K)^2, for two seconds.
        assert_relative_eq!(
            reference.temperature_error(2.0, 6.0),
            2.0 * 0.6_f64.hypot(0.75),
            max_relative = 1e-9
        );
    }
}
