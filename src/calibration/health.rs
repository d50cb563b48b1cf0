//! Whether a reading can be believed, and which one to take instead.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Watts;

/// Under load a counter and the integral of power agree within this part (Zeus, PETSc and others find 1 to 2 %).
const MOST_UNDER_LOAD: f64 = 0.03;
/// At rest they agree within this part, or within these watts: 187 J beside 327 J in 5 s have been seen.
const MOST_AT_REST: f64 = 0.1;
const MOST_WATTS_AT_REST: Watts = Watts::new(5.0);
/// A steady load shows the same however often it is read, within this part.
const MOST_BY_RATE: f64 = 0.02;
/// Where a device waits for its reader for more than this part of the time, two rates of reading are two loads.
const MOST_WAITING: f64 = 0.1;

/// What is wrong with a reading, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing that the tests could see.
    Ok,
    /// It could not be read to the end of the tests.
    Unreadable,
    /// It stood still under load.
    StandsStill,
    /// Under load, counter and integrated power differ.
    DiffersUnderLoad,
    /// At rest, counter and integrated power differ.
    DiffersAtRest,
    /// The same load shows otherwise when it is read more often.
    DependsOnReadRate,
    /// The tests could not be made.
    NotIdentifiable,
}

/// Whether a reading can be believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// The gravest of what was found.
    pub verdict: Verdict,
    /// All that was found, and why a test could not be made.
    pub reasons: Vec<String>,
    /// The reading to take instead, where this one is not to be believed and another one is.
    pub use_instead: Option<String>,
}

impl Health {
    /// A verdict with one reason.
    pub fn of(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { verdict, reasons: vec![reason.into()], use_instead: None }
    }

    /// Whether the reading's joules must not be shown without a warning.
    pub fn is_ill(&self) -> bool {
        !matches!(self.verdict, Verdict::Ok | Verdict::NotIdentifiable)
    }
}

/// A counter's mean power beside that of a reading of power, over the same time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Beside {
    /// The other reading.
    pub id: String,
    /// Counter and reading at rest.
    pub at_rest: Option<[Watts; 2]>,
    /// Counter and reading under a steady load.
    pub under_load: Option<[Watts; 2]>,
}

/// A steady load read often and seldom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadRates {
    /// Mean power, read every 5 ms and every 500 ms.
    pub power: [Watts; 2],
    /// The part of the time in which the device worked, of either.
    pub busy: [f64; 2],
    /// Power at rest, where it is known.
    pub rest: Option<Watts>,
}

/// What the tests of one reading saw.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Witnesses {
    /// Whether it moved under load.
    pub moves: bool,
    /// Of a counter: how often energy passed unseen, as when it started again.
    pub lost: usize,
    /// Of a counter: the same beside a reading of power.
    pub beside: Option<Beside>,
    /// The same load at two rates of reading.
    pub rates: Option<ReadRates>,
}

/// The verdict.
pub fn health(witnesses: &Witnesses) -> Health {
    if !witnesses.moves {
        return Health::of(
            Verdict::StandsStill,
            "it did not move in seconds of load, in which it moves else: it is stuck",
        );
    }
    let mut found: Vec<(Verdict, String)> = Vec::new();
    if witnesses.lost > 0 {
        let text = format!("it started again or jumped, {} times during the tests", witnesses.lost);
        found.push((Verdict::Unreadable, text));
    }
    found.extend(witnesses.beside.iter().flat_map(beside));
    found.extend(witnesses.rates.as_ref().and_then(by_rate));
    let ill = found.iter().map(|(verdict, _)| *verdict).find(|verdict| *verdict != Verdict::NotIdentifiable);
    // One test that could not be made is no fault where the other one was.
    let made = witnesses.beside.is_some() || (witnesses.rates.is_some() && found.is_empty());
    let verdict = ill.unwrap_or(if made { Verdict::Ok } else { Verdict::NotIdentifiable });
    let mut reasons: Vec<String> = found.into_iter().map(|(_, reason)| reason).collect();
    if reasons.is_empty() && verdict == Verdict::NotIdentifiable {
        reasons.push("no test of it could be made".to_string());
    }
    Health { verdict, reasons, use_instead: None }
}

fn beside(beside: &Beside) -> Vec<(Verdict, String)> {
    let mut found = Vec::new();
    if let Some([counted, power]) = beside.under_load
        && (counted - power).abs() > power.abs() * MOST_UNDER_LOAD
    {
        found.push((
            Verdict::DiffersUnderLoad,
            format!(
                "under a steady load it counts {:.1} W, and {} shows {:.1} W, {:+.1} %: at most {:.0} % is usual",
                counted.value(),
                beside.id,
                power.value(),
                (counted / power - 1.0) * 100.0,
                MOST_UNDER_LOAD * 100.0
            ),
        ));
    }
    if let Some([counted, power]) = beside.at_rest {
        let most = (power.abs() * MOST_AT_REST).value().max(MOST_WATTS_AT_REST.value());
        if (counted - power).abs().value() > most {
            found.push((
                Verdict::DiffersAtRest,
                format!(
                    "at rest it counts {:.1} W, and {} shows {:.1} W: at most {most:.1} W apart is usual",
                    counted.value(),
                    beside.id,
                    power.value()
                ),
            ));
        }
    }
    found
}

/// On a device that waits while it is read, power in the pauses lies between that at rest and that of the load: what
/// either end allows is no fault of the meter.
fn by_rate(rates: &ReadRates) -> Option<(Verdict, String)> {
    let [often, seldom] = rates.power;
    let waiting = rates.busy.map(|busy| 1.0 - busy);
    if waiting[0] > MOST_WAITING {
        return Some((
            Verdict::NotIdentifiable,
            format!(
                "whether reading disturbs it is not identifiable: the device waits while it is read, {:.0} % of the \
                 time at a reading every 5 ms, so that two rates are two loads",
                waiting[0] * 100.0
            ),
        ));
    }
    let lost =
        (waiting[0] - waiting[1]).max(0.0) * (seldom - rates.rest.unwrap_or_default()).value().max(0.0);
    let most = MOST_BY_RATE * seldom.value().abs();
    let difference = (often - seldom).value();
    if (-(most + lost)..=most).contains(&difference) {
        return None;
    }
    Some((
        Verdict::DependsOnReadRate,
        format!(
            "the same load shows {:.1} W when read every 5 ms and {:.1} W every 500 ms: reading disturbs this meter, or \
             it is not contiguous",
            often.value(),
            seldom.value()
        ),
    ))
}

/// Names, for each reading that is ill, the first sound one of the same scope. Readings are (id, scope, health) in
/// order of preference.
pub fn advise(readings: &mut [(String, String, &mut Health)]) {
    let sound: Vec<(String, String)> = readings
        .iter()
        .filter(|(_, _, health)| health.verdict == Verdict::Ok)
        .map(|(id, scope, _)| (id.clone(), scope.clone()))
        .collect();
    for (_, scope, health) in readings.iter_mut().filter(|(_, _, health)| health.is_ill()) {
        health.use_instead = sound.iter().find(|(_, other)| other == scope).map(|(id, _)| id.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watts(pair: [f64; 2]) -> Option<[Watts; 2]> {
        Some(pair.map(Watts::new))
    }

    fn of(at_rest: [f64; 2], under_load: [f64; 2]) -> Health {
        let beside = Beside { id: "p".to_string(), at_rest: watts(at_rest), under_load: watts(under_load) };
        health(&Witnesses { moves: true, beside: Some(beside), ..Witnesses::default() })
    }

    #[test]
    fn a_counter_may_be_three_percent_off_under_load_and_five_watts_or_a_tenth_at_rest() {
        assert_eq!(of([34.9, 30.0], [308.0, 300.0]).verdict, Verdict::Ok);
        assert_eq!(of([98.0, 90.0], [291.5, 300.0]).verdict, Verdict::Ok);
        assert_eq!(of([30.0, 30.0], [290.0, 300.0]).verdict, Verdict::DiffersUnderLoad);
        assert_eq!(of([35.1, 30.0], [300.0, 300.0]).verdict, Verdict::DiffersAtRest);
        // 187 J beside 327 J in 5 s, as reported of a real board.
        let both = of([37.4, 65.4], [390.0, 300.0]);
        assert_eq!((both.verdict, both.reasons.len()), (Verdict::DiffersUnderLoad, 2));
        assert!(both.is_ill() && both.reasons[0].contains("+30.0 %"), "{both:?}");
    }

    fn rates(power: [f64; 2], busy: [f64; 2]) -> Health {
        let rates = ReadRates { power: power.map(Watts::new), busy, rest: Some(Watts::new(100.0)) };
        health(&Witnesses { moves: true, rates: Some(rates), ..Witnesses::default() })
    }

    #[test]
    fn a_meter_that_shows_more_when_it_is_read_more_often_is_ill() {
        assert_eq!(rates([203.9, 200.0], [1.0, 1.0]).verdict, Verdict::Ok);
        assert_eq!(rates([204.1, 200.0], [1.0, 1.0]).verdict, Verdict::DependsOnReadRate);
        assert_eq!(rates([195.9, 200.0], [1.0, 1.0]).verdict, Verdict::DependsOnReadRate);
    }

    #[test]
    fn a_device_that_waits_while_it_is_read_draws_less_and_its_meter_is_not_to_blame() {
        // 5 % of the time at rest are up to 5 W of the 100 W between rest and load; 4 W are the meter's own.
        assert_eq!(rates([191.5, 200.0], [0.95, 1.0]).verdict, Verdict::Ok);
        assert_eq!(rates([190.5, 200.0], [0.95, 1.0]).verdict, Verdict::DependsOnReadRate);
        assert_eq!(rates([204.5, 200.0], [0.95, 1.0]).verdict, Verdict::DependsOnReadRate);
        let waiting = rates([150.0, 200.0], [0.5, 1.0]);
        assert_eq!(waiting.verdict, Verdict::NotIdentifiable);
        assert!(waiting.reasons[0].contains("50 % of the"), "{waiting:?}");
    }

    #[test]
    fn a_counter_that_started_again_is_not_to_be_believed() {
        let rates = ReadRates { power: [Watts::new(200.0); 2], busy: [1.0; 2], rest: None };
        let witnesses = Witnesses { moves: true, lost: 1, beside: None, rates: Some(rates) };
        assert_eq!(health(&witnesses).verdict, Verdict::Unreadable);
        assert_eq!(health(&Witnesses { lost: 0, ..witnesses }).verdict, Verdict::Ok);
    }

    #[test]
    fn what_stands_still_is_stuck_and_what_nobody_tested_is_not_called_sound() {
        assert_eq!(health(&Witnesses::default()).verdict, Verdict::StandsStill);
        let untested = Witnesses { moves: true, ..Witnesses::default() };
        assert_eq!(health(&untested).verdict, Verdict::NotIdentifiable);
    }

    #[test]
    fn the_advice_is_a_sound_reading_of_the_same_part() {
        let sound = || Health { verdict: Verdict::Ok, reasons: Vec::new(), use_instead: None };
        let ill = || Health::of(Verdict::StandsStill, "stuck");
        let (mut a, mut b, mut c, mut d) = (ill(), sound(), sound(), ill());
        let named = |id: &str, scope: &str| (id.to_string(), scope.to_string());
        let [(ia, sa), (ib, sb), (ic, sc), (id, sd)] =
            [named("a", "board"), named("b", "memory"), named("c", "board"), named("d", "slot")];
        advise(&mut [(ia, sa, &mut a), (ib, sb, &mut b), (ic, sc, &mut c), (id, sd, &mut d)]);
        assert_eq!(a.use_instead.as_deref(), Some("c"));
        assert_eq!((b.use_instead, d.use_instead), (None, None));
    }
}
