//! What a calibration says of a meter of a later run.

use crate::trace::{Coverage, MeterRecord, Warning};
use crate::units::Seconds;

use super::facts::ReadingFacts;

/// A meter that moves this many times as often or as seldom as when it was calibrated is another one. The time between
/// a dozen changes, which is what a run sees before it begins, may be off by a tenth.
const ANOTHER: f64 = 1.5;

/// Fills what is known of a meter by its calibration: update period, lag and coverage, with a word in its reason.
/// `calibrated` is when.
///
/// Gives what a reader of its joules must know: that it is not to be believed, or that it is no longer the meter that
/// was calibrated, and then nothing is filled.
pub fn apply(facts: &ReadingFacts, calibrated: &str, record: &mut MeterRecord) -> Vec<Warning> {
    let id = &record.id;
    let mut warnings = Vec::new();
    if let Some(health) = facts.health.as_ref().filter(|health| health.is_ill()) {
        let instead = match &health.use_instead {
            Some(other) => format!("use --meter {other} instead"),
            None => "no other reading of the same part was found sound".to_string(),
        };
        let text = format!("{id} is not to be believed: {}; {instead}", health.reasons.join("; "));
        warnings.push(Warning::new("unhealthy_meter", text));
    }
    let period = facts.update_period_s.map(|period| period.value);
    if let (Some(then), Some(now)) = (period, record.update_period_s)
        && !(1.0 / ANOTHER..=ANOTHER).contains(&(now / then))
    {
        let text = format!(
            "{id} moves every {:.4} s, and when it was calibrated on {calibrated} every {:.4} s: its calibration is not \
             used; `layerjoule calibrate` makes a new one",
            now.value(),
            then.value()
        );
        warnings.push(Warning::new("calibration", text));
        return warnings;
    }
    let mut said: Vec<String> = Vec::new();
    if let Some(period) = period {
        record.update_period_s = Some(period);
        said.push(format!("moves every {:.4} s", period.value()));
    }
    if let Some(lag) = lag(facts) {
        record.lag_s = Some(lag);
        said.push(format!("shows a change of power wholly after {:.4} s", lag.value()));
    }
    if let Some(coverage) = facts.coverage {
        record.coverage = Some(coverage);
        said.push(match coverage {
            Coverage::Full => "looks all the time".to_string(),
            Coverage::PartTime => "looks part of the time".to_string(),
        });
    }
    if !said.is_empty() {
        let calibration = format!("calibrated on {calibrated}: {}", said.join(", "));
        record.reason = Some(match record.reason.take() {
            Some(before) => format!("{before}; {calibration}"),
            None => calibration,
        });
    }
    warnings
}

/// Until the first update whose window begins after a change is shown, at the upper ends of the ranges.
fn lag(facts: &ReadingFacts) -> Option<Seconds> {
    let (window, delay, period) = (facts.window_s?, facts.delay_s?, facts.update_period_s?);
    Some(window.high + period.high + if delay.high > Seconds::ZERO { delay.high } else { Seconds::ZERO })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Health, Verdict};
    use crate::stats::Estimate;
    use crate::trace::{MeterKind, MeterStatus};
    use approx::assert_relative_eq;

    fn record(period: Option<f64>) -> MeterRecord {
        MeterRecord {
            id: "sim".to_string(),
            scope: "the board".to_string(),
            kind: MeterKind::Counter,
            status: MeterStatus::Measured,
            reason: None,
            update_period_s: period.map(Seconds::new),
            lag_s: None,
            coverage: None,
            systematic_relative: Some(0.05),
        }
    }

    fn estimate(value: f64, half: f64) -> Option<Estimate<Seconds>> {
        let [value, low, high] = [value, value - half, value + half].map(Seconds::new);
        Some(Estimate { value, low, high })
    }

    fn facts() -> ReadingFacts {
        ReadingFacts {
            id: "sim".to_string(),
            update_period_s: estimate(0.1, 0.001),
            window_s: estimate(0.025, 0.002),
            delay_s: estimate(0.001, 0.001),
            coverage: Some(Coverage::PartTime),
            health: Some(Health { verdict: Verdict::Ok, reasons: Vec::new(), use_instead: None }),
            ..ReadingFacts::default()
        }
    }

    #[test]
    fn a_calibrated_meter_has_period_lag_and_coverage_and_says_whence() {
        let mut meter = record(Some(0.104));
        assert!(apply(&facts(), "2026-01-02", &mut meter).is_empty());
        assert_eq!(meter.update_period_s, Some(Seconds::new(0.1)));
        // The longest of each: 27 + 2 + 101 ms.
        assert_relative_eq!(meter.lag_s.unwrap().value(), 0.130, max_relative = 1e-9);
        assert_eq!(meter.coverage, Some(Coverage::PartTime));
        let reason = meter.reason.unwrap();
        assert!(
            reason.starts_with("calibrated on 2026-01-02") && reason.contains("part of the time"),
            "{reason}"
        );
        assert_eq!(meter.systematic_relative, Some(0.05));
    }

    #[test]
    fn what_was_not_identifiable_stays_as_it_was() {
        let (mut meter, before) = (record(Some(0.02)), record(Some(0.02)));
        assert!(apply(&ReadingFacts::default(), "2026-01-02", &mut meter).is_empty());
        assert_eq!(meter, before);
    }

    #[test]
    fn a_meter_that_moves_otherwise_than_when_it_was_calibrated_keeps_what_it_has_and_warns() {
        let (mut meter, before) = (record(Some(0.02)), record(Some(0.02)));
        let warnings = apply(&facts(), "2026-01-02", &mut meter);
        assert_eq!((meter, warnings.len()), (before, 1));
        assert!(warnings[0].code == "calibration" && warnings[0].text.contains("0.0200 s"), "{warnings:?}");
    }

    #[test]
    fn a_meter_that_was_found_ill_is_never_without_its_warning() {
        let mut health = Health::of(Verdict::DependsOnReadRate, "reading disturbs this meter");
        health.use_instead = Some("sim-instant".to_string());
        let ill = ReadingFacts { health: Some(health), ..facts() };
        // Whether its calibration can be used or not.
        for period in [0.1, 0.02] {
            let warnings = apply(&ill, "2026-01-02", &mut record(Some(period)));
            let warning = &warnings[0];
            assert!(
                warning.code == "unhealthy_meter" && warning.text.contains("--meter sim-instant"),
                "{warning:?}"
            );
        }
    }
}
