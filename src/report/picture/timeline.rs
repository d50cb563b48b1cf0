//! Power over time, with what ran when, in lanes one below the other.

use plotters::style::{Color, RGBAColor};

use crate::clock::Instant;
use crate::report::RunReport;
use crate::trace::{Header, Span, SpanKind, Trace};

use super::drawing::{Align, Drawing, Point};
use super::frame::{Entry, MARGIN, Symbol, empty, footer, header, legend, systematic_note};
use super::palette::{AXIS, GRID, INK, KindStyle, NEUTRAL, QUIET, WHITE};
use super::place::{Area, spread};
use super::power::{Lane, Step, axis_top, lanes, readings, steps};
use super::scale::Linear;
use super::type_setting::Face;
use crate::report::si::{Prefix, plottable, value_text};

const WIDTH: f64 = 1240.0;
/// Left of the lanes: tick labels and the turned title.
const AXIS_WIDTH: f64 = 64.0;
/// Height of a lane's power axis.
const PLOT_HEIGHT: f64 = 120.0;
/// Between a lane's labels and its plot, for the leaders.
const LEADER: f64 = 16.0;
/// Below a lane: tick labels.
const TICK_HEIGHT: f64 = 40.0;
/// Most lanes; more rounds are left out.
const MAX_LANES: usize = 8;
/// Longest label.
const LABEL_WIDTH: f64 = 150.0;
const LABEL: Face = Face::regular(10.5);
const HEAD: Face = Face::bold(11.5);
const TICK: Face = Face::regular(11.0);

/// Mean power between readings of the primary meter, with the windows shaded and named.
pub(super) fn power_over_time(report: &RunReport, trace: &Trace) -> Drawing {
    let mut drawing = Drawing::new(WIDTH);
    let y = header(&mut drawing, report, "Power over time");
    let readings = readings(trace, &report.primary_meter);
    let mut all = lanes(trace);
    if all.is_empty() || readings.len() < 2 {
        let y = empty(&mut drawing, y, "the trace has no window with two readings of this meter.");
        footer(&mut drawing, y, &[]);
        return drawing;
    }
    let lanes_in_trace = all.len();
    all.truncate(MAX_LANES);
    let plots: Vec<(Lane<'_>, Vec<Step>)> = all
        .into_iter()
        .map(|lane| {
            let pixel = (lane.end() - lane.start()).value() / (WIDTH - 2.0 * MARGIN - AXIS_WIDTH);
            let steps = steps(&lane, &readings, pixel);
            (lane, steps)
        })
        .collect();
    let top = axis_top(plots.iter().flat_map(|(_, steps)| steps));
    let idle = report.idle.power_w.map(|e| e.value.value()).filter(|w| plottable(*w));
    let top = idle.map_or(top, |w| top.max(w * 1.1));
    let spans: Vec<&Span> = plots.iter().flat_map(|(lane, _)| lane.spans.iter().copied()).collect();
    let entries = entries(&trace.header, &spans, idle);
    let mut y = legend(&mut drawing, (MARGIN, WIDTH - MARGIN, y), &entries) + 12.0;
    let origin = trace.spans.iter().map(|s| s.start).min().unwrap_or_default();
    for (lane, steps) in &plots {
        y = draw_lane(&mut drawing, y, lane, steps, &LaneView { header: &trace.header, origin, top, idle });
    }
    footer(&mut drawing, y - 10.0, &notes(report, trace, &plots, lanes_in_trace));
    drawing
}

/// What all lanes have in common.
struct LaneView<'a> {
    header: &'a Header,
    origin: Instant,
    top: f64,
    idle: Option<f64>,
}

fn draw_lane(drawing: &mut Drawing, y: f64, lane: &Lane<'_>, steps: &[Step], view: &LaneView<'_>) -> f64 {
    let (left, right) = (MARGIN + AXIS_WIDTH, WIDTH - MARGIN);
    let seconds = |at: Instant| (at - view.origin).value();
    let across = Linear::new((seconds(lane.start()), seconds(lane.end())), (left, right));
    let x = |at: Instant| across.at(seconds(at));
    let names: Vec<String> = lane.spans.iter().map(|s| span_label(view.header, s)).collect();
    let widths: Vec<f64> = names.iter().map(|n| LABEL.width(n)).collect();
    let level = fits_level(lane, x, &widths, (left, right));
    let band = if level { LABEL.size * 1.4 } else { widths.iter().copied().fold(0.0, f64::max) };
    let title = match lane.parts {
        1 => format!("round {}", lane.round + 1),
        parts => format!("round {}, part {} of {parts}", lane.round + 1, lane.part + 1),
    };
    drawing.text((MARGIN, y + 10.0), Align::Start, HEAD, INK, &title);
    let base = y + 24.0 + band;
    let top = base + if level { 4.0 } else { LEADER };
    let bottom = top + PLOT_HEIGHT;
    let places = centres(lane, x, level, (left, right));
    for ((span, name), place) in lane.spans.iter().zip(&names).zip(&places) {
        let (from, to) = (x(span.start), x(span.end));
        let (shade, edge) = span_inks(view.header, span);
        drawing.block((from, top), (to.max(from + 1.0), bottom), shade);
        // A gap keeps windows apart that follow each other at once.
        drawing.block((from + 0.5, top - 4.0), ((to - 0.5).max(from + 1.5), top), edge);
        if level {
            drawing.text((*place, base - LABEL.size * 0.7), Align::Middle, LABEL, INK, name);
        } else {
            drawing.turned_text((*place, base - 2.0), Align::Start, LABEL, INK, name);
            drawing.line((*place, base), ((from + to) / 2.0, top - 4.0), AXIS, 0.8);
        }
    }
    axes(drawing, &across, Area { left, right, top, bottom }, view);
    power_line(drawing, steps, x, &Linear::new((0.0, view.top), (bottom, top)), view.top);
    bottom + TICK_HEIGHT
}

/// Whether labels centred above their windows leave each other room without being turned.
fn fits_level(
    lane: &Lane<'_>,
    x: impl Fn(Instant) -> f64,
    widths: &[f64],
    (left, right): (f64, f64),
) -> bool {
    const SPACE: f64 = 8.0;
    let mut free = left;
    for (span, width) in lane.spans.iter().zip(widths) {
        let middle = (x(span.start) + x(span.end)) / 2.0;
        if middle - width / 2.0 < free || middle + width / 2.0 > right {
            return false;
        }
        free = middle + width / 2.0 + SPACE;
    }
    true
}

/// Where the labels of a lane stand.
fn centres(lane: &Lane<'_>, x: impl Fn(Instant) -> f64, level: bool, (left, right): (f64, f64)) -> Vec<f64> {
    let middles: Vec<f64> = lane.spans.iter().map(|s| (x(s.start) + x(s.end)) / 2.0).collect();
    if level {
        return middles;
    }
    let spacing = LABEL.size * 1.35;
    spread(&middles, spacing, (left + spacing / 2.0, right - spacing / 2.0))
}

fn axes(drawing: &mut Drawing, across: &Linear, area: Area, view: &LaneView<'_>) {
    let Area { left, right, top, bottom } = area;
    let prefix = Prefix::of(view.top);
    let up = Linear::new((0.0, view.top / prefix.factor), (bottom, top));
    for tick in up.ticks(4) {
        let y = tick.at;
        drawing.line((left, y), (right, y), GRID, 1.0);
        drawing.text((left - 7.0, y), Align::End, TICK, QUIET, &tick.text);
    }
    for tick in across.ticks(10) {
        let x = tick.at;
        drawing.line((x, bottom), (x, bottom + 4.0), AXIS, 1.0);
        // A label at the very edge would leave the picture.
        if x <= right - 6.0 {
            drawing.text((x, bottom + 13.0), Align::Middle, TICK, QUIET, &tick.text);
        }
    }
    drawing.frame((left, top), (right, bottom), AXIS, 1.0);
    drawing.text((right, bottom + 28.0), Align::End, TICK, QUIET, "time since the first window [s]");
    let title = format!("power [{}W]", prefix.symbol);
    drawing.turned_text((MARGIN + 8.0, (top + bottom) / 2.0), Align::Middle, HEAD, INK, &title);
    if let Some(idle) = view.idle {
        let y = up.at(idle / prefix.factor);
        drawing.dashes((left, y), right, IDLE, 1.4);
    }
}

fn power_line(drawing: &mut Drawing, steps: &[Step], x: impl Fn(Instant) -> f64, up: &Linear, top: f64) {
    let points: Vec<Point> =
        steps.iter().flat_map(|s| [(x(s.from), up.at(s.watts)), (x(s.to), up.at(s.watts))]).collect();
    if points.is_empty() {
        return;
    }
    drawing.path(points.clone(), WHITE.mix(0.7), 3.0);
    drawing.path(points, INK, 1.2);
    for step in steps.iter().filter(|s| s.watts > top || s.watts < 0.0) {
        let middle = (x(step.from) + x(step.to)) / 2.0;
        let (tip, base) = if step.watts > top { (up.at(top), 7.0) } else { (up.at(0.0), -7.0) };
        drawing.area(vec![(middle, tip), (middle - 4.0, tip + base), (middle + 4.0, tip + base)], INK);
    }
}

/// The colour of the idle line.
const IDLE: RGBAColor = RGBAColor(213, 94, 0, 1.0);

/// The layer of a signature that comes first.
fn first_layer(header: &Header, signature: usize) -> Option<&crate::trace::LayerRecord> {
    header.layers.iter().find(|l| l.signature == Some(signature))
}

/// The name of a window, short enough for the picture.
fn span_label(header: &Header, span: &Span) -> String {
    let number = match span.kind {
        SpanKind::Replay(signature) => header.layers.iter().position(|l| l.signature == Some(signature)),
        _ => None,
    };
    LABEL.label(number, &span_name(header, span), LABEL_WIDTH)
}

fn span_name(header: &Header, span: &Span) -> String {
    match span.kind {
        SpanKind::WarmUp => "warm-up".to_string(),
        SpanKind::Idle => "idle".to_string(),
        SpanKind::ActiveIdle => "active idle".to_string(),
        SpanKind::Pass | SpanKind::Watched | SpanKind::Unwatched => "whole passes".to_string(),
        SpanKind::Excerpt(_) | SpanKind::Filler(_) => "layers to take off".to_string(),
        SpanKind::Replay(signature) => match first_layer(header, signature) {
            Some(layer) => layer.name.clone(),
            None => format!("signature {signature}"),
        },
    }
}

/// Shade and top edge of a window.
fn span_inks(header: &Header, span: &Span) -> (RGBAColor, RGBAColor) {
    match span.kind {
        SpanKind::Idle => (NEUTRAL.mix(0.14), NEUTRAL),
        SpanKind::ActiveIdle => (NEUTRAL.mix(0.34), NEUTRAL),
        SpanKind::WarmUp | SpanKind::Excerpt(_) | SpanKind::Filler(_) => (NEUTRAL.mix(0.55), QUIET),
        SpanKind::Pass | SpanKind::Watched | SpanKind::Unwatched => (INK.mix(0.16), INK),
        SpanKind::Replay(signature) => {
            let kind = first_layer(header, signature).map_or("", |l| l.kind.as_str());
            let color = KindStyle::of(kind).color;
            (color.mix(0.26), color.mix(1.0))
        }
    }
}

fn entries(header: &Header, spans: &[&Span], idle: Option<f64>) -> Vec<Entry> {
    let mut entries =
        vec![Entry { text: "mean power between readings".to_string(), symbol: Symbol::Line(INK, 1.6) }];
    if let Some(watts) = idle {
        let text = format!("idle power, {}", value_text(watts, Prefix::of(watts), "W"));
        entries.push(Entry { text, symbol: Symbol::Dashes(IDLE) });
    }
    for span in spans {
        let text = match span.kind {
            SpanKind::Replay(signature) => first_layer(header, signature).map(|l| l.kind.clone()),
            _ => Some(span_name(header, span)),
        };
        if let Some(text) = text.filter(|t| !entries.iter().any(|e| e.text == *t)) {
            let (shade, edge) = span_inks(header, span);
            entries.push(Entry { text, symbol: Symbol::Swatch(shade, edge) });
        }
    }
    entries
}

fn notes(report: &RunReport, trace: &Trace, plots: &[(Lane<'_>, Vec<Step>)], lanes: usize) -> Vec<String> {
    let mut notes =
vec![
        "A window replays one kind of work and is named for the first layer that does it; #n: its position in the \
         order of execution."
            .to_string(),
        "Unshaded: warm-up, settling and pauses.".to_string(),
    ];
    if plots.len() < lanes {
        let shown: usize = plots.iter().map(|(lane, _)| lane.spans.len()).sum();
        let last = plots.last().map_or(0, |(lane, _)| lane.round + 1);
        let rounds = trace.spans.iter().map(|s| s.round.saturating_add(1)).max().unwrap_or(0);
        let all = trace.spans.len();
        notes.push(format!(
            "Shown: the first {shown} of {all} windows, up to round {last} of {rounds}. The trace has all."
        ));
    }
    if !trace.complete {
        notes.push("The recording is incomplete.".to_string());
    }
    notes.extend(systematic_note(report));
    notes
}
