//! What every picture has around its data: title, device and meter, banners, legend and notes.

use crate::report::{Phase, RunReport, Status};
use crate::trace::{MeterRecord, MeterStatus};

use super::drawing::{Align, Drawing};
use super::palette::{BANNER, BANNER_EDGE, Fill, INK, KindStyle, QUIET};
use super::type_setting::{Face, LINE};
use crate::report::si::short_percent;

/// White around everything.
pub(super) const MARGIN: f64 = 28.0;

const TITLE: Face = Face::bold(19.0);
const SUBTITLE: Face = Face::regular(12.5);
const MARKED: Face = Face::bold(13.0);
const NOTE: Face = Face::regular(11.5);
const LEGEND: Face = Face::regular(11.5);

/// Names longer than this are shortened before they enter a sentence.
const LONGEST_NAME: f64 = 420.0;

/// Draws title, subtitle and banners from the top; returns the height below them.
pub(super) fn header(drawing: &mut Drawing, report: &RunReport, title: &str) -> f64 {
    let width = drawing.width - 2.0 * MARGIN;
    let mut y = MARGIN;
    let network = TITLE.shorten(&report.network.name, LONGEST_NAME);
    let batch = report.network.batch;
    let title = format!("{title}: {network}, batch {batch}, {}", phase_text(run_phase(report)));
    y = lines(drawing, y, &TITLE.wrap(&title, width), TITLE, INK) + 3.0;
    for text in [device_text(report), meter_text(report)] {
        y = lines(drawing, y, &SUBTITLE.wrap(&text, width), SUBTITLE, QUIET);
    }
    for mark in marks(report) {
        y = banner(drawing, y + 8.0, &mark, width);
    }
    y + 14.0
}

/// Draws notes below the data and sets the height of the drawing.
pub(super) fn footer(drawing: &mut Drawing, y: f64, notes: &[String]) {
    let width = drawing.width - 2.0 * MARGIN;
    let mut y = y + 10.0;
    for note in notes {
        y = lines(drawing, y, &NOTE.wrap(note, width), NOTE, QUIET) + 2.0;
    }
    drawing.height = y + MARGIN - 8.0;
}

/// Draws a sentence where data would be; returns the height below it.
pub(super) fn empty(drawing: &mut Drawing, y: f64, reason: &str) -> f64 {
    let face = Face::regular(15.0);
    let width = drawing.width - 2.0 * MARGIN;
    let text: Vec<String> = face.wrap(&format!("Nothing to show: {reason}"), width);
    lines(drawing, y + 40.0, &text, face, INK) + 40.0
}

/// An entry of a legend: a mark or a swatch, and its text.
pub(super) struct Entry {
    /// The words.
    pub(super) text: String,
    /// What to draw in a square of 14 pixels around the point.
    pub(super) symbol: Symbol,
}

/// What stands before a legend's words.
pub(super) enum Symbol {
    /// The mark of a kind.
    Kind(KindStyle),
    /// A rectangle of a colour with a darker top edge.
    Swatch(plotters::style::RGBAColor, plotters::style::RGBAColor),
    /// A line.
    Line(plotters::style::RGBAColor, f64),
    /// A dashed line.
    Dashes(plotters::style::RGBAColor),
}

/// Draws a legend in as many lines as it needs from `x` on; returns the height below it.
pub(super) fn legend(drawing: &mut Drawing, area: (f64, f64, f64), entries: &[Entry]) -> f64 {
    let (left, right, top) = area;
    let height = LEGEND.size * 1.6;
    let (mut x, mut y) = (left, top + height / 2.0);
    for entry in entries {
        let text = LEGEND.shorten(&entry.text, (right - left - 24.0).max(0.0));
        let width = LEGEND.width(&text) + 24.0;
        if x > left && x + width > right {
            x = left;
            y += height;
        }
        entry.symbol.draw(drawing, (x + 8.0, y));
        drawing.text((x + 20.0, y), Align::Start, LEGEND, INK, &text);
        x += width + 16.0;
    }
    if entries.is_empty() { top } else { y + height / 2.0 }
}

impl Symbol {
    fn draw(&self, drawing: &mut Drawing, (x, y): (f64, f64)) {
        match self {
            Self::Kind(style) => style.draw(drawing, (x, y), 5.0, Fill::Solid),
            Self::Swatch(fill, edge) => {
                drawing.block((x - 7.0, y - 5.0), (x + 7.0, y + 5.0), *fill);
                drawing.block((x - 7.0, y - 6.0), (x + 7.0, y - 3.0), *edge);
            }
            Self::Line(ink, width) => drawing.line((x - 7.0, y), (x + 7.0, y), *ink, *width),
            Self::Dashes(ink) => drawing.dashes((x - 8.0, y), x + 8.0, *ink, 1.6),
        }
    }
}

fn lines(
    drawing: &mut Drawing,
    y: f64,
    lines: &[String],
    face: Face,
    ink: plotters::style::RGBAColor,
) -> f64 {
    let step = face.size * LINE;
    for (k, line) in lines.iter().enumerate() {
        drawing.text((MARGIN, y + (k as f64 + 0.5) * step), Align::Start, face, ink, line);
    }
    y + lines.len() as f64 * step
}

fn banner(drawing: &mut Drawing, y: f64, text: &str, width: f64) -> f64 {
    let text = MARKED.wrap(text, width - 36.0);
    let step = MARKED.size * LINE;
    let height = text.len() as f64 * step + 12.0;
    drawing.block((MARGIN, y), (MARGIN + width, y + height), BANNER);
    drawing.block((MARGIN, y), (MARGIN + 6.0, y + height), BANNER_EDGE);
    for (k, line) in text.iter().enumerate() {
        let middle = y + 6.0 + (k as f64 + 0.5) * step;
        drawing.text((MARGIN + 18.0, middle), Align::Start, MARKED, INK, line);
    }
    y + height
}

/// Why the energies of a report are not those of a real device, in capitals.
fn marks(report: &RunReport) -> Vec<String> {
    let mut marks = vec![];
    if report.simulated {
        marks.push("SIMULATED: a simulated device gave these numbers, no real one ran".to_string());
    }
    if report.emulated {
        marks.push("EMULATED: a stand-in library gave these numbers, no real device was read".to_string());
    }
    let rows = report.layers.iter().filter(|l| l.status == Status::Estimated).count();
    if by_model(report) {
        let error = primary_meter(report).and_then(|m| m.systematic_relative);
        let error = error.map(|e| format!("; ±{} systematic", short_percent(e))).unwrap_or_default();
        marks.push(format!("ESTIMATED: modelled, not measured{error}"));
    } else if rows > 0 {
        let all = report.layers.len();
        marks.push(format!(
            "PARTLY ESTIMATED: {rows} of {all} rows are modelled, not measured, and drawn light"
        ));
    }
    marks
}

fn primary_meter(report: &RunReport) -> Option<&MeterRecord> {
    report.meters.iter().find(|m| m.id == report.primary_meter)
}

/// Whether a model stands in for the meter.
pub(super) fn by_model(report: &RunReport) -> bool {
    primary_meter(report).is_some_and(|m| m.status == MeterStatus::Estimated)
}

/// What intervals and curves leave out, where the meter has an error common to all its readings.
pub(super) fn systematic_note(report: &RunReport) -> Option<String> {
    let meter = primary_meter(report)?;
    let error = meter.systematic_relative.filter(|e| *e != 0.0)?;
    Some(format!(
        "On top of all this comes an error common to all readings of meter {}, ±{}.",
        SUBTITLE.shorten(&meter.id, LONGEST_NAME),
        short_percent(error)
    ))
}

fn device_text(report: &RunReport) -> String {
    let d = &report.device;
    let name = SUBTITLE.shorten(&d.name, LONGEST_NAME);
    let engine = SUBTITLE.shorten(&d.engine, LONGEST_NAME);
    // Only the CPU's engine has threads.
    let threads = match d.threads {
        _ if d.kind != "cpu" => String::new(),
        0 => String::new(),
        1 => ", 1 thread".to_string(),
        n => format!(", {n} threads"),
    };
    format!("{name} ({}), engine {engine}, {}, {}{threads}", d.kind, d.precision, d.layout)
}

fn meter_text(report: &RunReport) -> String {
    let id = SUBTITLE.shorten(&report.primary_meter, LONGEST_NAME);
    match primary_meter(report) {
        Some(meter) => {
            format!("Energy by meter {id}, scope: {}", SUBTITLE.shorten(&meter.scope, LONGEST_NAME))
        }
        None if id.is_empty() => "No meter".to_string(),
        None => format!("Energy by meter {id}, whose scope the run file does not tell"),
    }
}

/// Forward, or training when any row is of another phase.
fn run_phase(report: &RunReport) -> Phase {
    let phases = report.layers.iter().map(|l| l.phase).chain(report.pass.iter().map(|p| p.phase));
    if phases.into_iter().any(|p| p != Phase::Forward) { Phase::Training } else { Phase::Forward }
}

/// Whether rows need their phase beside them.
pub(super) fn has_phases(report: &RunReport) -> bool {
    run_phase(report) != Phase::Forward
}

/// The phase in words.
pub(super) fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Forward => "forward",
        Phase::BackwardData => "backward data",
        Phase::BackwardWeights => "backward weights",
        Phase::Update => "update",
        Phase::Training => "training",
    }
}
