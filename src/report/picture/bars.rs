//! Rows of horizontal bars with error bars, set as a table: name, kind, bar, energy, share.

use plotters::style::{Color, RGBAColor};

use crate::stats::Estimate;

use super::drawing::{Align, Drawing};
use super::palette::{AXIS, BAND, FAINT, Fill, GRID, INK, KindStyle, LIGHT, NEUTRAL, QUIET, WHITE};
use super::scale::Linear;
use super::type_setting::Face;
use crate::report::si::{Prefix, estimate_text, percent_text, plottable, value_text};

/// A line of the table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// First column.
    pub(super) name: String,
    /// Position in the order of execution, shown before a name that is shortened.
    pub(super) number: Option<usize>,
    /// Second column, quiet.
    pub(super) detail: String,
    /// Mark and colour; none for what is no layer.
    pub(super) style: Option<KindStyle>,
    /// What is known of its energy.
    pub(super) reading: Reading,
    /// Its share of the sum.
    pub(super) share: Option<f64>,
    /// Whether a line is drawn above it.
    pub(super) rule_above: bool,
}

/// What is known of an energy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reading {
    /// From a sensor, in joules.
    Measured(Estimate<f64>),
    /// From a model, in joules.
    Modelled(Estimate<f64>),
    /// Below detection, no more than this.
    Below(f64),
    /// Below detection, and no bound known.
    Undetected,
    /// No reading.
    Missing,
    /// Nothing was executed.
    NoWork,
    /// Computed together with another layer.
    Fused,
}

impl Reading {
    fn estimate(&self) -> Option<Estimate<f64>> {
        match self {
            Self::Measured(e) | Self::Modelled(e) => Some(*e),
            _ => None,
        }
    }

    fn text(&self, prefix: Prefix) -> String {
        match self {
            Self::Measured(e) | Self::Modelled(e) => estimate_text(*e, prefix, "J"),
            Self::Below(upper) => format!("< {}", value_text(*upper, prefix, "J")),
            Self::Undetected => "below detection".to_string(),
            Self::Missing => "no reading".to_string(),
            Self::NoWork => "no work".to_string(),
            Self::Fused => "fused".to_string(),
        }
    }
}

/// How a table of bars is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    /// Left edge.
    pub(super) x: f64,
    /// Top edge.
    pub(super) y: f64,
    /// From the left edge to the right.
    pub(super) width: f64,
    /// From one row to the next.
    pub(super) row: f64,
    /// What a bar's length is; the unit is added.
    pub(super) axis: &'a str,
    /// Heads of the first two columns.
    pub(super) heads: [&'a str; 2],
}

/// The range of values that bars and whiskers share, with its unit.
#[derive(Debug, Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
    prefix: Prefix,
}

impl Range {
    /// Zero, all values and bounds, and whiskers up to half as long as the longest bar.
    fn of(rows: &[Row]) -> Self {
        let values = |f: fn(&Reading) -> Vec<f64>| -> Vec<f64> {
            rows.iter().flat_map(|r| f(&r.reading)).filter(|v| plottable(*v)).collect()
        };
        let ends = values(|r| match r {
            Reading::Below(upper) => vec![*upper],
            _ => r.estimate().map(|e| e.value).into_iter().collect(),
        });
        let whiskers =
            values(|r| r.estimate().filter(|e| plottable(e.value)).map_or(vec![], |e| vec![e.low, e.high]));
        let (low, high) = ends.iter().fold((0.0f64, 0.0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        let room = high - low;
        let low = whiskers.iter().fold(low, |l, w| l.min(w.max(low - 0.12 * room)));
        let high = whiskers.iter().fold(high, |h, w| h.max(w.min(high + 0.5 * room)));
        Self { low, high, prefix: Prefix::of(high.max(-low)) }
    }
}

/// Widths of the columns in pixels.
struct Columns {
    name: f64,
    detail: f64,
    share: f64,
    scale: Linear,
    left: f64,
    right: f64,
}

const GAP: f64 = 14.0;
const HEAD: Face = Face::bold(11.5);
const TICK: Face = Face::regular(11.0);
const HEAD_HEIGHT: f64 = 44.0;
const FOOT_HEIGHT: f64 = 40.0;

impl Table<'_> {
    /// Draws some of all rows, whose columns are as wide as all rows need; returns the height below them.
    pub(super) fn draw(&self, drawing: &mut Drawing, rows: &[Row], all: &[Row]) -> f64 {
        let (range, heads) = (Range::of(all), self.heads);
        let face = self.face();
        let columns = self.columns(all, range, heads);
        let top = self.y + HEAD_HEIGHT;
        let bottom = top + rows.len() as f64 * self.row;
        for k in (1..rows.len()).step_by(2) {
            let y = top + k as f64 * self.row;
            drawing.block((self.x, y), (self.x + self.width, y + self.row), BAND);
        }
        self.draw_grid(drawing, &columns, range, (top, bottom));
        self.draw_heads(drawing, &columns, heads, range);
        for (k, row) in rows.iter().enumerate() {
            let y = top + (k as f64 + 0.5) * self.row;
            if row.rule_above {
                let edge = y - self.row / 2.0;
                drawing.line((self.x, edge), (self.x + self.width, edge), AXIS, 1.0);
            }
            self.draw_row(drawing, &columns, range, row, y, face);
        }
        bottom + FOOT_HEIGHT
    }

    fn face(&self) -> Face {
        Face::regular((self.row * 0.62).clamp(10.5, 13.0))
    }

    fn columns(&self, rows: &[Row], range: Range, heads: [&str; 2]) -> Columns {
        let face = self.face();
        let widest = |head: &str, text: &dyn Fn(&Row) -> String| {
            rows.iter().map(|r| face.width(&text(r))).fold(HEAD.width(head), f64::max).ceil()
        };
        let mark = self.row.min(18.0);
        let name = widest(heads[0], &|r| r.name.clone()).min(self.width * 0.30) + mark;
        let detail = widest(heads[1], &|r| r.detail.clone()).min(self.width * 0.22);
        let energy = widest("energy", &|r| r.reading.text(range.prefix));
        let share = widest("share", &|r| r.share.map(percent_text).unwrap_or_default());
        let left = self.x + 6.0 + name + GAP + detail + GAP + 4.0;
        let right = (self.x + self.width - 6.0 - share - GAP - energy - GAP).max(left + 60.0);
        // Half a tick label may stand out on either side.
        let scale = Linear::new((range.low, range.high), (left + 12.0, right - 12.0));
        Columns { name, detail, share, scale, left, right }
    }

    fn draw_heads(&self, drawing: &mut Drawing, columns: &Columns, heads: [&str; 2], range: Range) {
        let y = self.y + HEAD_HEIGHT - 14.0;
        let x = self.x + 6.0;
        drawing.text((x, y), Align::Start, HEAD, INK, heads[0]);
        drawing.text((x + columns.name + GAP, y), Align::Start, HEAD, INK, heads[1]);
        let right = self.x + self.width - 6.0;
        drawing.text((right - columns.share - GAP, y), Align::End, HEAD, INK, "energy");
        drawing.text((right, y), Align::End, HEAD, INK, "share");
        let axis = format!("{} [{}J]", self.axis, range.prefix.symbol);
        let middle = (columns.left + columns.right) / 2.0;
        drawing.text((middle, self.y + HEAD_HEIGHT - 32.0), Align::Middle, HEAD, INK, &axis);
    }

    fn draw_grid(&self, drawing: &mut Drawing, columns: &Columns, range: Range, (top, bottom): (f64, f64)) {
        let wanted = ((columns.right - columns.left) / 70.0).clamp(2.0, 8.0) as usize;
        let unit = Linear::new(
            (range.low / range.prefix.factor, range.high / range.prefix.factor),
            (columns.scale.at(f64::NEG_INFINITY), columns.scale.at(f64::INFINITY)),
        );
        for tick in unit.ticks(wanted) {
            let x = tick.at;
            drawing.line((x, top), (x, bottom), GRID, 1.0);
            for y in [top - 14.0, bottom + 12.0] {
                drawing.text((x, y), Align::Middle, TICK, QUIET, &tick.text);
            }
        }
        let zero = columns.scale.at(0.0);
        drawing.line((zero, top - 4.0), (zero, bottom + 4.0), AXIS, 1.2);
        let axis = format!("{} [{}J]", self.axis, range.prefix.symbol);
        let middle = (columns.left + columns.right) / 2.0;
        drawing.text((middle, bottom + 29.0), Align::Middle, HEAD, INK, &axis);
    }

    fn draw_row(
        &self,
        drawing: &mut Drawing,
        columns: &Columns,
        range: Range,
        row: &Row,
        y: f64,
        face: Face,
    ) {
        let idle = matches!(row.reading, Reading::NoWork | Reading::Fused);
        let (ink, quiet) = if idle { (FAINT, FAINT) } else { (INK, QUIET) };
        let mark = self.row.min(18.0);
        let x = self.x + 6.0;
        if let Some(style) = row.style.filter(|_| !idle) {
            style.draw(drawing, (x + mark * 0.3, y), mark * 0.24, Fill::Solid);
        }
        let name = face.label(row.number, &row.name, columns.name - mark);
        drawing.text((x + mark, y), Align::Start, face, ink, &name);
        let detail = face.shorten(&row.detail, columns.detail);
        drawing.text((x + columns.name + GAP, y), Align::Start, face, quiet, &detail);
        let right = self.x + self.width - 6.0;
        let text = row.reading.text(range.prefix);
        let energy_ink = if row.reading.estimate().is_some() { INK } else { quiet };
        drawing.text((right - columns.share - GAP, y), Align::End, face, energy_ink, &text);
        if let Some(share) = row.share {
            drawing.text((right, y), Align::End, face, quiet, &percent_text(share));
        }
        self.draw_bar(drawing, columns, row, y);
    }

    fn draw_bar(&self, drawing: &mut Drawing, columns: &Columns, row: &Row, y: f64) {
        let scale = &columns.scale;
        let half = (self.row * 0.30).min(9.0);
        let color = row.style.map_or(NEUTRAL, |s| s.color.mix(1.0));
        match row.reading {
            Reading::Measured(e) if plottable(e.value) => {
                drawing.block((scale.at(0.0), y - half), (scale.at(e.value), y + half), color);
                whisker(drawing, scale, e, y, half);
            }
            Reading::Modelled(e) if plottable(e.value) => {
                let (a, b) = ((scale.at(0.0), y - half), (scale.at(e.value), y + half));
                drawing.block(a, b, color.mix(LIGHT));
                drawing.frame(a, b, color, 1.4);
                whisker(drawing, scale, e, y, half);
            }
            Reading::Below(upper) if plottable(upper) => bound(drawing, scale, upper, y, half, color),
            _ => {}
        }
    }
}

/// A line from zero to a bound that the value does not reach, and an open mark at the bound.
fn bound(drawing: &mut Drawing, scale: &Linear, upper: f64, y: f64, half: f64, color: RGBAColor) {
    let (zero, end) = (scale.at(0.0), scale.at(upper));
    drawing.dashes((zero, y), end, QUIET, 1.0);
    let r = half.min(5.0);
    let corners = vec![(end - r, y), (end, y - r), (end + r, y), (end, y + r), (end - r, y), (end, y - r)];
    drawing.area(corners.clone(), WHITE);
    drawing.path(corners, color, 1.6);
}

/// A 95 % interval with caps; an arrow where it leaves the axis.
fn whisker(drawing: &mut Drawing, scale: &Linear, estimate: Estimate<f64>, y: f64, half: f64) {
    let Estimate { low, high, .. } = estimate;
    // An interval of no width has no whisker, and neither has one whose ends are no numbers.
    let wide = low < high;
    if !wide {
        return;
    }
    let (from, to) = (scale.at(low), scale.at(high));
    let cap = half * 0.62;
    let ends = [(low, from, -1.0), (high, to, 1.0)];
    let mut strokes = vec![((from, y), (to, y))];
    strokes.extend(ends.iter().filter(|e| scale.holds(e.0)).map(|(_, x, _)| ((*x, y - cap), (*x, y + cap))));
    // A light rim below keeps the lines visible on dark bars.
    for (ink, width) in [(WHITE.mix(0.8), 3.2), (INK, 1.4)] {
        for (a, b) in &strokes {
            drawing.line(*a, *b, ink, width);
        }
    }
    for (_, x, side) in ends.iter().filter(|e| !scale.holds(e.0)) {
        drawing.area(vec![(x + side * 8.0, y), (*x, y - 4.0), (*x, y + 4.0)], INK);
    }
}
