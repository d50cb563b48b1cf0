//! What makes the numbers of a run doubtful: sensors that fail while they seem to work, and clocks that are held down. Each
//! is said once for the run, with its numbers, its cause and what to do, and marked at every row that it concerns.

use crate::attribution::{
    Attribution, Commensurate, Frozen, HeldWindows, ReadRate, Stretch, commensurate, frozen, held_windows,
    read_rate,
};
use crate::stats::Uncertain;
use crate::trace::{MeterKind, SpanKind, Trace, Warning};

use super::run_file::{LayerRow, RunReport, Status};

/// Difference between energies of equal work, read often and seldom, beyond which a meter depends on it: the self-test of
/// energy counters allows as much (docs/measuring.md, NVML).
const READ_RATE: f64 = 0.02;

/// Part by which a window's clock may differ from that of the network.
const NEAR: f64 = 0.025;
/// Confidence of a verdict that makes all energies of a run wrong: at 95 %, one sound run in forty would be called so.
const CONFIDENCE: f64 = 0.99;
/// Half of the 95 % interval of that difference beyond which nothing is known of it. Sound sensors stay below 0.01.
const UNCLEAR: f64 = 0.05;

/// Adds to a report what its numbers do not show.
pub(super) fn doubt(report: &mut RunReport, trace: &Trace, primary: &Attribution) {
    for meter in (0..trace.header.meters.len()).filter(|&meter| trace.samples.has(meter)) {
        let is_primary = meter == trace.header.primary_meter;
        let id = &trace.header.meters[meter].id;
        if let Some(found) = frozen(trace, meter) {
            report.warnings.push(frozen_warning(id, &found));
            if is_primary {
                explain_missing(report, trace, id, &found);
            }
        }
        let sensor = trace.header.meters[meter].kind != MeterKind::Modelled;
        if let Some(found) = read_rate(trace, meter).filter(|_| sensor) {
            let depends = depends(&found);
            if depends && is_primary {
                mark_all(report, "read_rate");
            }
            if depends {
                report.warnings.push(read_rate_warning(id, &found));
            } else if found.energy.half_width(0.95) > UNCLEAR {
                report.warnings.push(unclear_warning(id, &found));
            }
        }
    }
    // How long the sensor's looks are is not in the record, so the worst is assumed.
    let meter = trace.header.primary_meter;
    if let Some(found) = commensurate(trace, meter, None, &primary.signatures, &primary.pass) {
        report.warnings.push(commensurate_warning(&trace.header.meters[meter].id, &found));
        mark_pass(report, "commensurate");
    }
    throttled(report, trace, primary);
    disagreeing(report, primary);
}

/// Names parts of the pass whose energy is not the sum of their layers, by another estimator, and marks these layers.
fn disagreeing(report: &mut RunReport, primary: &Attribution) {
    let found: Vec<&Stretch> = primary.stretches.iter().filter(|stretch| stretch.disagrees).collect();
    for stretch in found {
        let [first, last] = stretch.layers;
        let name = |at: usize| report.layers.get(at).map_or("?", |row| row.name.as_str());
        let joules = |energy: Uncertain| {
            let (value, half) = (energy.value, energy.half_width(0.95));
            format!("{} ± {}", super::si::quantity(value, "J"), super::si::quantity(half, "J"))
        };
        let text = format!(
            "{} to {}: measured behind each other as a part of the pass they cost {} above active idle, and as the sum of \
             their rows {}. The device may keep other data in its cache, or run at another clock, than the rows assume; \
             with --precise both are known better",
            name(first),
            name(last),
            joules(stretch.in_situ),
            joules(stretch.rows),
        );
        report.warnings.push(Warning::new("estimators_disagree", text));
        for row in rows(report).filter(|row| (first..=last).contains(&row.index)) {
            row.warnings.push("estimators_disagree".to_string());
        }
    }
}

/// Rows of work that was run.
fn rows(report: &mut RunReport) -> impl Iterator<Item = &mut LayerRow> {
    report
        .layers
        .iter_mut()
        .filter(|row| row.energy_j.is_some() || row.upper_j.is_some_and(|j| j.value() > 0.0))
}

fn mark_all(report: &mut RunReport, code: &str) {
    rows(report).for_each(|row| row.warnings.push(code.to_string()));
    mark_pass(report, code);
}

fn mark_pass(report: &mut RunReport, code: &str) {
    report.pass.iter_mut().for_each(|row| row.warnings.push(code.to_string()));
    report.closure.iter_mut().for_each(|row| row.warnings.push(code.to_string()));
}

fn frozen_warning(id: &str, found: &Frozen) -> Warning {
    let text = format!(
        "{id} showed {:.3} W in {} windows on end, of rest and of work alike, from {:.1} s of the recording on: its sensor \
         stands still. These windows, and those next to them, have no energy; run `layerjoule doctor`, and choose another \
         meter with --meter",
        found.watts,
        found.windows,
        found.since.value()
    );
    Warning::new("frozen_sensor", text)
}

/// Says of rows without a number that it is the sensor's fault.
fn explain_missing(report: &mut RunReport, trace: &Trace, id: &str, found: &Frozen) {
    let lost = |signature: usize| {
        let spans = trace.spans.iter().zip(&found.doubtful);
        spans.filter(|(span, doubtful)| **doubtful && span.kind == SpanKind::Replay(signature)).count()
    };
    for row in report.layers.iter_mut().filter(|row| row.status == Status::Unavailable) {
        let Some(signature) = trace.header.layers.get(row.index).and_then(|layer| layer.signature) else {
            continue;
        };
        let lost = lost(signature);
        if lost > 0 {
            row.reason = Some(format!(
                "{id} stood still at {:.3} W in or next to {lost} of its windows, and fewer than two others are left",
                found.watts
            ));
            row.warnings.push("frozen_sensor".to_string());
        }
    }
}

/// Whether a meter depends on how often it is read, by more than is allowed and than could be chance.
fn depends(found: &ReadRate) -> bool {
    let beyond = found.unexplained().abs();
    beyond > READ_RATE && beyond > found.energy.half_width(CONFIDENCE)
}

fn unclear_warning(id: &str, found: &ReadRate) -> Warning {
    let text = format!(
        "by {id} a pass costs {:+.1} ± {:.1} % more when it is read as often as in a layer's window than when it is read at \
         the edges only: too uncertain to tell whether the meter depends on how often it is read. Stop other programs and \
         run again, or compare with another --meter",
        (found.energy.value - 1.0) * 100.0,
        found.energy.half_width(0.95) * 100.0,
    );
    Warning::new("read_rate_unknown", text)
}

fn read_rate_warning(id: &str, found: &ReadRate) -> Warning {
    let text = format!(
        "by {id} a pass costs {} when it is read as often as in a layer's window and {} when it is read at the edges \
         only, {:+.1} ± {:.1} %, while its time changes by {:+.1} %: the meter depends on how often it is read, and every \
         energy by it is wrong. Use another with --meter",
        super::si::quantity(found.often, "J"),
        super::si::quantity(found.seldom, "J"),
        (found.energy.value - 1.0) * 100.0,
        found.energy.half_width(0.95) * 100.0,
        (found.time - 1.0) * 100.0
    );
    Warning::new("read_rate", text)
}

fn commensurate_warning(id: &str, found: &Commensurate) -> Warning {
    let count =
        |n: usize, one: &str, many: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {many}") };
    let error = match found.error {
        Some(error) => format!("up to {:.0} %", error * 100.0),
        None => "an amount that is not known, as not all layers have an energy".to_string(),
    };
    let text = format!(
        "a pass takes {} and {id} has a new value every {}, so {} and {} keep step: unless its sensor looks all the time \
         (`layerjoule calibrate` tells) it sees the same part of each pass, and the energy of the pass and the residual \
         may be wrong by {error}. Use another --batch, or a meter that looks all the time",
        super::si::quantity(found.pass.value(), "s"),
        super::si::quantity(found.period.value(), "s"),
        count(found.passes, "pass", "passes"),
        count(found.periods, "update", "updates"),
    );
    Warning::new("commensurate", text)
}

/// Marks what was measured while the device's clock was held down; where the device told that only of the whole run,
/// that may be any row. Where windows are brought to the clock of the network, which itself may be held down, it is those
/// rows none of whose windows came near it.
fn throttled(report: &mut RunReport, trace: &Trace, primary: &Attribution) {
    let planned = !trace.header.contexts.is_empty();
    let network = primary.reference.megahertz.map(|clock| clock.value);
    let held = held_windows(trace, |span| {
        let clock = span.state.megahertz?;
        let near = network.is_some_and(|network| (clock / network - 1.0).abs() <= NEAR);
        Some(if planned { !near } else { span.state.limited })
    });
    let whole_run = report.warnings.iter().any(|warning| warning.code == "throttled");
    let of_row = |row: &LayerRow| {
        let signature = trace.header.layers.get(row.index)?.signature?;
        held.get(signature).copied()
    };
    let (mut marked, mut all) = (0, 0);
    for row in rows(report) {
        let windows = of_row(row).unwrap_or_default();
        all += 1;
        let is_held = windows.held > if planned { windows.windows.saturating_sub(1) } else { 0 }
            || whole_run && windows.unknown > 0;
        if is_held {
            marked += 1;
            row.warnings.push("throttled".to_string());
        }
    }
    if marked == 0 {
        return;
    }
    let known = held.iter().all(|HeldWindows { unknown, .. }| *unknown == 0);
    let which = match known {
        true => format!("{marked} of {all} rows were measured while its clock was held down"),
        false => {
            format!("it does not tell when, so any of {marked} rows may be of a clock that was held down")
        }
    };
    match report.warnings.iter_mut().find(|warning| warning.code == "throttled") {
        Some(warning) => warning.text = format!("{}; {which}", warning.text),
        None => report.warnings.push(Warning::new("throttled", format!("the device was throttled: {which}"))),
    }
}
