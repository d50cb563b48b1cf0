//! Energy by kind and per layer, as bars.

use crate::report::{ClosureRow, KindRow, LayerRow, RunReport, Status};
use crate::stats::Estimate;
use crate::units::Joules;

use super::bars::{Reading, Row, Table};
use super::drawing::Drawing;
use super::frame::{MARGIN, by_model, empty, footer, has_phases, header, phase_text, systematic_note};
use super::palette::KindStyle;
use crate::report::si::{percent_text, plottable};

/// Width of a picture with one table.
const WIDTH: f64 = 1080.0;
/// Most rows of one table; more go beside it.
const ROWS_PER_TABLE: usize = 200;
/// Most tables side by side.
const MAX_TABLES: usize = 4;
/// Between tables.
const GUTTER: f64 = 32.0;

const INTERVALS: &str = "Error bars: 95 % interval; an arrow: it reaches beyond the axis.";

/// Kinds in order of their energy, and below them how layers, gaps and residual add up to the measured pass.
pub(super) fn by_kind(report: &RunReport) -> Drawing {
    let mut drawing = Drawing::new(WIDTH);
    let y = header(&mut drawing, report, "Energy by kind of layer");
    let mut kinds: Vec<&KindRow> = report.kinds.iter().collect();
    let energy = |k: &KindRow| k.energy_j.map_or(f64::NEG_INFINITY, |e| e.value.value());
    kinds.sort_by(|a, b| energy(b).total_cmp(&energy(a)).then_with(|| a.kind.cmp(&b.kind)));
    let mut rows: Vec<Row> = kinds.iter().map(|k| kind_row(report, k)).collect();
    if rows.is_empty() {
        let y = empty(&mut drawing, y, "the run has no kinds of layers.");
        footer(&mut drawing, y, &[]);
        return drawing;
    }
    let has_balance = !report.closure.is_empty();
    rows.extend(report.closure.iter().flat_map(|c| balance_rows(report, c)));
    let table = Table {
        x: MARGIN,
        y,
        width: WIDTH - 2.0 * MARGIN,
        row: 30.0,
        axis: "energy of one pass",
        heads: ["kind", "layers with energy"],
    };
    let y = table.draw(&mut drawing, &rows, &rows);
    let mut notes = vec![INTERVALS.to_string(), "Share: of the sum of layers in the same phase.".to_string()];
    if has_balance {
        notes.push("Grey: sum of layers + gaps + residual = the whole pass, run as one.".to_string());
    }
    notes.extend(systematic_note(report));
    footer(&mut drawing, y, &notes);
    drawing
}

fn kind_row(report: &RunReport, kind: &KindRow) -> Row {
    let mine = |l: &&LayerRow| l.kind == kind.kind && l.phase == kind.phase && l.signature.is_some();
    let works = report.layers.iter().filter(mine).count();
    let undetected = report.layers.iter().filter(mine).any(|l| l.status == Status::BelowDetection);
    let modelled = report.layers.iter().filter(mine).any(|l| l.status == Status::Estimated);
    let name = if has_phases(report) {
        format!("{}, {}", kind.kind, phase_text(kind.phase))
    } else {
        kind.kind.clone()
    };
    let reading = match joules(kind.energy_j) {
        Some(e) if modelled => Reading::Modelled(e),
        Some(e) => Reading::Measured(e),
        None if works == 0 && kind.layers == 0 => Reading::NoWork,
        None if undetected => Reading::Undetected,
        None => Reading::Missing,
    };
    let detail =
        if works > kind.layers { format!("{} of {works}", kind.layers) } else { kind.layers.to_string() };
    let style = Some(KindStyle::of(&kind.kind));
    Row { name, number: None, detail, style, reading, share: kind.share, rule_above: false }
}

fn balance_rows(report: &RunReport, closure: &ClosureRow) -> Vec<Row> {
    let phase = if has_phases(report) { format!(", {}", phase_text(closure.phase)) } else { String::new() };
    let known = if by_model(report) { Reading::Modelled } else { Reading::Measured };
    let row = |name: &str, energy: Option<Estimate<Joules>>, rule_above: bool| Row {
        name: format!("{name}{phase}"),
        number: None,
        detail: String::new(),
        style: None,
        reading: joules(energy).map_or(Reading::Missing, known),
        share: None,
        rule_above,
    };
    let ratio = closure.residual_ratio.map(|r| format!(" ({} of the pass)", percent_text(r)));
    let residual = format!("residual{}", ratio.unwrap_or_default());
    vec![
        row("sum of layers", closure.sum_of_layers_j, true),
        row("gaps at idle power", closure.gaps_j, false),
        row(&residual, closure.residual_j, false),
        row("whole pass", closure.pass_j, false),
    ]
}

/// Layers in order of execution.
pub(super) fn per_layer(report: &RunReport) -> Drawing {
    let limit = ROWS_PER_TABLE * MAX_TABLES;
    let shown = costliest(&report.layers, limit);
    let rows: Vec<Row> = shown.iter().map(|l| layer_row(report, l)).collect();
    let tables = rows.len().div_ceil(ROWS_PER_TABLE).max(1);
    let each = rows.len().div_ceil(tables).max(1);
    let width = WIDTH - 2.0 * MARGIN;
    let mut drawing = Drawing::new(2.0 * MARGIN + tables as f64 * (width + GUTTER) - GUTTER);
    let y = header(&mut drawing, report, "Energy per layer");
    if rows.is_empty() {
        let y = empty(&mut drawing, y, "the run has no layers.");
        footer(&mut drawing, y, &[]);
        return drawing;
    }
    let row = match each {
        0..=12 => 30.0,
        13..=40 => 24.0,
        _ => 18.0,
    };
    let mut below = y;
    for (k, part) in rows.chunks(each).enumerate() {
        let x = MARGIN + k as f64 * (width + GUTTER);
        let table = Table { x, y, width, row, axis: "energy of one execution", heads: ["layer", "kind"] };
        below = below.max(table.draw(&mut drawing, part, &rows));
    }
    footer(&mut drawing, below, &layer_notes(report, &rows, shown.len()));
    drawing
}

/// The layers that cost most, still in order of execution, when not all of them fit.
fn costliest(layers: &[LayerRow], limit: usize) -> Vec<&LayerRow> {
    if layers.len() <= limit {
        return layers.iter().collect();
    }
    let energy = |l: &LayerRow| l.energy_j.map_or(f64::NEG_INFINITY, |e| e.value.value());
    let mut order: Vec<(usize, &LayerRow)> = layers.iter().enumerate().collect();
    order.sort_by(|a, b| energy(b.1).total_cmp(&energy(a.1)));
    order.truncate(limit);
    order.sort_by_key(|(k, _)| *k);
    order.into_iter().map(|(_, l)| l).collect()
}

fn layer_row(report: &RunReport, layer: &LayerRow) -> Row {
    let reading = match (layer.status, joules(layer.energy_j)) {
        (_, None) if report.is_fused(layer) => Reading::Fused,
        (_, None) if layer.signature.is_none() => Reading::NoWork,
        (Status::Measured, Some(e)) => Reading::Measured(e),
        (Status::Estimated, Some(e)) => Reading::Modelled(e),
        (Status::BelowDetection, _) => {
            layer.upper_j.map_or(Reading::Undetected, |u| Reading::Below(u.value()))
        }
        _ => Reading::Missing,
    };
    let detail = if has_phases(report) {
        format!("{}, {}", layer.kind, phase_text(layer.phase))
    } else {
        layer.kind.clone()
    };
    let style = Some(KindStyle::of(&layer.kind));
    Row {
        name: layer.name.clone(),
        number: Some(layer.index),
        detail,
        style,
        reading,
        share: layer.share,
        rule_above: false,
    }
}

fn layer_notes(report: &RunReport, rows: &[Row], shown: usize) -> Vec<String> {
    let mut notes = vec![
        INTERVALS.to_string(),
        "Share: of the sum of layers in the same phase. #n before a shortened name: position in the order of execution.".to_string(),
        "Layers that do the same work share one measurement, so their errors are fully correlated."
            .to_string(),
    ];
    let any = |test: fn(&Reading) -> bool| rows.iter().any(|r| test(&r.reading));
    if any(|r| matches!(r, Reading::Below(_))) {
        notes.push("Open diamond and < x: below detection; x is the upper bound.".to_string());
    }
    if any(|r| *r == Reading::NoWork) {
        notes.push("No work: the layer executes nothing.".to_string());
    }
    if any(|r| *r == Reading::Fused) {
        notes.push(
            "Fused: computed together with a convolution or another layer above, whose row holds the energy."
                .to_string(),
        );
    }
    let absurd = rows.iter().filter(|r| match r.reading {
        Reading::Measured(e) | Reading::Modelled(e) => !plottable(e.value),
        Reading::Below(upper) => !plottable(upper),
        _ => false,
    });
    match absurd.count() {
        0 => {}
        count => notes.push(format!("{count} rows are not drawn: their value is no plausible number.")),
    }
    notes.extend(missing_reasons(report));
    let all = report.layers.len();
    if shown < all {
        notes.push(format!("{shown} of {all} rows: those of the highest energy. The run file has all."));
    }
    notes.extend(systematic_note(report));
    notes
}

/// The first few reasons why layers have no reading, each with the number of layers it concerns.
fn missing_reasons(report: &RunReport) -> Vec<String> {
    const SHOWN: usize = 3;
    let mut reasons: Vec<(&str, usize)> = vec![];
    let missing = |l: &&LayerRow| l.status == Status::Unavailable && l.signature.is_some();
    for layer in report.layers.iter().filter(missing) {
        let reason = layer.reason.as_deref().unwrap_or("the run file gives no reason");
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((reason, 1)),
        }
    }
    let more = reasons.len().saturating_sub(SHOWN);
    let mut notes: Vec<String> = reasons
        .iter()
        .take(SHOWN)
        .map(|(reason, count)| format!("No reading ({count} {}): {reason}.", rows_word(*count)))
        .collect();
    if more > 0 {
        notes.push(format!("No reading: {more} more reasons stand in the run file."));
    }
    notes
}

fn rows_word(count: usize) -> &'static str {
    if count == 1 { "row" } else { "rows" }
}

fn joules(energy: Option<Estimate<Joules>>) -> Option<Estimate<f64>> {
    energy.map(|e| Estimate { value: e.value.value(), low: e.low.value(), high: e.high.value() })
}
