//! Energy per floating-point operation against arithmetic intensity.

use crate::report::{LayerRow, Phase, RunReport, Status};

use super::drawing::{Align, Drawing, Point};
use super::frame::{
    Entry, MARGIN, Symbol, empty, footer, has_phases, header, legend, phase_text, systematic_note,
};
use super::palette::{AXIS, Fill, GRID, INK, KindStyle, QUIET};
use super::place::{Area, Board};
use super::scale::Log;
use super::type_setting::Face;
use crate::report::si::{Prefix, plottable};

const WIDTH: f64 = 1080.0;
const PLOT_HEIGHT: f64 = 560.0;
/// Left of the plot: tick labels and the turned title.
const AXIS_WIDTH: f64 = 64.0;
/// Below the plot: tick labels and the title.
const AXIS_HEIGHT: f64 = 46.0;
/// Half the size of a mark.
const RADIUS: f64 = 6.0;
/// Most layers that are named.
const MAX_LABELS: usize = 16;
const LABEL: Face = Face::regular(11.0);
const HEAD: Face = Face::bold(11.5);

/// A measurement in the plot; several layers of one signature share it.
#[derive(Debug, Clone, PartialEq)]
struct Spot<'a> {
    layer: &'a LayerRow,
    /// Layers that share it.
    count: usize,
    /// FLOP per byte.
    intensity: f64,
    /// Joules per FLOP: value or bound, and its interval.
    cost: f64,
    interval: Option<(f64, f64)>,
}

/// Rows that have no place in the plot, by the reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct LeftOut {
    no_flops: usize,
    no_energy: usize,
    not_positive: usize,
}

/// One point for each kind of work: joules per FLOP over FLOP per byte, both logarithmic.
pub(super) fn energy_per_flop(report: &RunReport) -> Drawing {
    let mut drawing = Drawing::new(WIDTH);
    let y = header(&mut drawing, report, "Energy per FLOP");
    let (spots, left_out) = spots(&report.layers);
    let y = if spots.is_empty() {
        empty(&mut drawing, y, "no layer has FLOPs, bytes and an energy above zero.")
    } else {
        let y = legend(&mut drawing, (MARGIN, WIDTH - MARGIN, y), &entries(&spots)) + 14.0;
        plot(&mut drawing, y, &spots, has_phases(report));
        y + PLOT_HEIGHT + AXIS_HEIGHT
    };
    footer(&mut drawing, y, &notes(report, &spots, left_out));
    drawing
}

/// Points for rows of equal signature, and how many rows have none.
fn spots(layers: &[LayerRow]) -> (Vec<Spot<'_>>, LeftOut) {
    let mut spots: Vec<Spot<'_>> = vec![];
    let mut left_out = LeftOut::default();
    for layer in layers.iter().filter(|l| l.signature.is_some()) {
        let same = |s: &&mut Spot<'_>| s.layer.signature == layer.signature && s.layer.phase == layer.phase;
        let flops = layer.flops as f64 + layer.flops_elementwise as f64;
        if flops <= 0.0 || layer.bytes == 0 {
            left_out.no_flops += 1;
            continue;
        }
        if let Some(spot) = spots.iter_mut().find(same) {
            spot.count += 1;
            continue;
        }
        let (energy, interval) = match (layer.status, layer.energy_j, layer.upper_j) {
            (Status::BelowDetection, _, Some(upper)) => (upper.value(), None),
            (Status::Measured | Status::Estimated, Some(e), _) => {
                (e.value.value(), Some((e.low.value() / flops, e.high.value() / flops)))
            }
            _ => {
                left_out.no_energy += 1;
                continue;
            }
        };
        let cost = energy / flops;
        if !(cost > 0.0 && plottable(cost)) {
            left_out.not_positive += 1;
            continue;
        }
        let intensity = flops / layer.bytes as f64;
        spots.push(Spot { layer, count: 1, intensity, cost, interval });
    }
    (spots, left_out)
}

/// Kinds in the order of their names, so that the legend of two runs reads alike.
fn entries(spots: &[Spot<'_>]) -> Vec<Entry> {
    let mut kinds: Vec<&str> = spots.iter().map(|s| s.layer.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let entry = |kind: &str| Entry { text: kind.to_string(), symbol: Symbol::Kind(KindStyle::of(kind)) };
    kinds.into_iter().map(entry).collect()
}

/// Room on both sides of the outermost values, in decades.
const ROOM: f64 = 0.12;

/// The values' range with room around it; whiskers widen it by a decade at most.
fn range(values: impl Iterator<Item = f64> + Clone, whiskers: impl Iterator<Item = f64>) -> (f64, f64) {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(0.0, f64::max);
    let (mut from, mut to) = (low, high);
    for end in whiskers.filter(|w| *w > 0.0 && plottable(*w)) {
        from = from.min(end.max(low / 10.0));
        to = to.max(end.min(high * 10.0));
    }
    // At least a decade, so that a single point has an axis around it.
    let lack = (1.0 - (to / from).log10()).max(0.0) / 2.0 + ROOM;
    (from * 10f64.powf(-lack), to * 10f64.powf(lack))
}

fn plot(drawing: &mut Drawing, y: f64, spots: &[Spot<'_>], phases: bool) {
    let (left, right) = (MARGIN + AXIS_WIDTH, WIDTH - MARGIN);
    let (top, bottom) = (y, y + PLOT_HEIGHT);
    let whiskers = spots.iter().filter_map(|s| s.interval).flat_map(|(l, h)| [l, h]);
    let costs = range(spots.iter().map(|s| s.cost), whiskers);
    let intensities = range(spots.iter().map(|s| s.intensity), std::iter::empty());
    // The prefix of the middle of the axis keeps tick labels short on both sides.
    let prefix = Prefix::of((costs.0 * costs.1).sqrt());
    let inner = 10.0;
    let across = Log::new(intensities, (left + inner, right - inner));
    let up = Log::new((costs.0 / prefix.factor, costs.1 / prefix.factor), (bottom - inner, top + inner));
    grid(drawing, Area { left, top, right, bottom }, &across, &up, prefix);
    let at = |s: &Spot<'_>| (across.at(s.intensity), up.at(s.cost / prefix.factor));
    let mut board =
        Board::new(Area { left: left + 3.0, top: top + 3.0, right: right - 3.0, bottom: bottom - 3.0 });
    for spot in spots {
        let (x, y) = at(spot);
        board.take(Area::around((x, y), 2.6 * RADIUS, 2.6 * RADIUS));
        match spot.interval {
            Some((low, high)) => {
                let ends = (low / prefix.factor, high / prefix.factor);
                let (from, to) = interval(drawing, &up, x, ends);
                board.take_line(Area { left: x - 4.0, right: x + 4.0, top: to, bottom: from });
            }
            None => {
                arrow(drawing, (x, y + RADIUS + 12.0), 1.0);
                drawing.line((x, y), (x, y + RADIUS + 6.0), INK, 1.2);
                board.take(Area::around((x, y + 10.0), 10.0, 22.0));
            }
        }
    }
    for spot in spots {
        let fill = match (spot.interval, spot.layer.status) {
            (None, _) => Fill::Open,
            (_, Status::Estimated) => Fill::Light,
            _ => Fill::Solid,
        };
        KindStyle::of(&spot.layer.kind).draw(drawing, at(spot), RADIUS, fill);
    }
    labels(drawing, &mut board, spots, at, phases);
}

fn grid(drawing: &mut Drawing, area: Area, across: &Log, up: &Log, prefix: Prefix) {
    let Area { left, top, right, bottom } = area;
    for tick in across.ticks() {
        let x = tick.at;
        drawing.line((x, top), (x, bottom), GRID, 1.0);
        drawing.text((x, bottom + 13.0), Align::Middle, LABEL, QUIET, &tick.text);
    }
    for tick in up.ticks() {
        let y = tick.at;
        drawing.line((left, y), (right, y), GRID, 1.0);
        drawing.text((left - 7.0, y), Align::End, LABEL, QUIET, &tick.text);
    }
    drawing.frame((left, top), (right, bottom), AXIS, 1.0);
    let middle = ((left + right) / 2.0, bottom + 34.0);
    drawing.text(middle, Align::Middle, HEAD, INK, "arithmetic intensity [FLOP/byte]");
    let title = format!("energy per FLOP [{}J/FLOP]", prefix.symbol);
    drawing.turned_text((MARGIN + 8.0, (top + bottom) / 2.0), Align::Middle, HEAD, INK, &title);
}

/// Draws an interval and returns the heights of its ends, lower end first; an end off the axis is an arrow.
fn interval(drawing: &mut Drawing, up: &Log, x: f64, (low, high): (f64, f64)) -> (f64, f64) {
    let (from, to) = (up.at(low), up.at(high));
    // Ends that are no numbers give no whisker.
    let wide = low < high;
    if !wide {
        return (from, from);
    }
    drawing.line((x, from), (x, to), INK, 1.2);
    for (value, y, down) in [(low, from, 1.0), (high, to, -1.0)] {
        if up.holds(value) {
            drawing.line((x - 3.5, y), (x + 3.5, y), INK, 1.2);
        } else {
            arrow(drawing, (x, y + down * 6.0), down);
        }
    }
    (from, to)
}

/// An arrow head with its tip at the point; `down` is 1 or -1.
fn arrow(drawing: &mut Drawing, tip: Point, down: f64) {
    let base = tip.1 - down * 7.0;
    drawing.area(vec![tip, (tip.0 - 4.0, base), (tip.0 + 4.0, base)], INK);
}

/// Names the layers that cost most, as far as there is room.
fn labels(
    drawing: &mut Drawing,
    board: &mut Board,
    spots: &[Spot<'_>],
    at: impl Fn(&Spot<'_>) -> Point,
    phases: bool,
) {
    let total = |s: &Spot<'_>| s.layer.energy_j.map_or(0.0, |e| e.value.value()) * s.count as f64;
    let mut order: Vec<&Spot<'_>> = spots.iter().filter(|s| s.interval.is_some()).collect();
    order.sort_by(|a, b| total(b).total_cmp(&total(a)));
    for spot in order.into_iter().take(MAX_LABELS) {
        let mut text = LABEL.label(Some(spot.layer.index), &spot.layer.name, 190.0);
        if phases && spot.layer.phase != Phase::Forward {
            text = format!("{text}, {}", phase_text(spot.layer.phase));
        }
        if spot.count > 1 {
            text = format!("{text} (×{})", spot.count);
        }
        let (width, height) = (LABEL.width(&text) + 4.0, LABEL.size * 1.35);
        let Some(place) = board.place(at(spot), width, height) else { continue };
        if let Some([from, to]) = place.leader {
            drawing.line(from, to, AXIS, 0.8);
        }
        let centre = ((place.area.left + place.area.right) / 2.0, (place.area.top + place.area.bottom) / 2.0);
        drawing.text(centre, Align::Middle, LABEL, INK, &text);
    }
}

fn notes(report: &RunReport, spots: &[Spot<'_>], left_out: LeftOut) -> Vec<String> {
    let mut notes = vec![];
    if !spots.is_empty() {
        notes.push(
            "Error bars: 95 % interval; an arrow: it reaches beyond the axis, or to zero. One point for layers \
             that do the same work (×n)."
                .to_string(),
        );
        notes.push(
            "FLOP: 2 x multiply-accumulates plus element-wise operations; bytes: least traffic.".to_string(),
        );
        notes.push(format!("Named: up to {MAX_LABELS} points of the highest energy, where there is room; #n: position in the order of execution."));
    }
    if spots.iter().any(|s| s.interval.is_none()) {
        notes.push("Open mark with an arrow down: below detection, drawn at the upper bound.".to_string());
    }
    if spots.iter().any(|s| s.layer.status == Status::Estimated) {
        notes.push("Light mark: modelled, not measured.".to_string());
    }
    let LeftOut { no_flops, no_energy, not_positive } = left_out;
    for (count, why) in [
        (no_flops, "no FLOPs or no bytes (concat, pad, transpose and the like)"),
        (no_energy, "no reading"),
        (not_positive, "an energy that is not above zero"),
    ] {
        if count > 0 {
            notes.push(format!(
                "Left out: {count} {} with {why}.",
                if count == 1 { "layer" } else { "layers" }
            ));
        }
    }
    notes.extend(systematic_note(report));
    notes
}

#[cfg(test)]
mod tests {
    use crate::report::Method;
    use crate::stats::Estimate;
    use crate::units::Joules;

    use super::*;

    fn layer(signature: &str, flops: u64, elementwise: u64, bytes: u64, joules: f64) -> LayerRow {
        let energy = Estimate { value: joules, low: joules - 1e-3, high: joules + 1e-3 };
        let typed = |v: f64| Joules::new(v);
        LayerRow {
            index: 0,
            name: signature.to_string(),
            kind: "conv".to_string(),
            phase: Phase::Forward,
            covers: vec![],
            fused: vec![],
            signature: Some(signature.to_string()),
            algorithm: None,
            workspace_bytes: None,
            kernels: Vec::new(),
            executions: 1,
            replays: 1,
            windows: 3,
            method: Method::Replay,
            time_s: None,
            energy_j: Some(Estimate {
                value: typed(energy.value),
                low: typed(energy.low),
                high: typed(energy.high),
            }),
            energy_dynamic_j: None,
            power_w: None,
            uncertainty: None,
            flops,
            flops_elementwise: elementwise,
            bytes,
            share: None,
            also: vec![],
            status: Status::Measured,
            upper_j: None,
            reason: None,
            warnings: vec![],
        }
    }

    #[test]
    fn a_spot_is_energy_over_all_flops_at_flops_over_bytes() {
        // 8 mJ for 3 + 1 million operations over half a million bytes: 2 nJ/FLOP at 8 FLOP/byte.
        let rows = [
            layer("a", 3_000_000, 1_000_000, 500_000, 8e-3),
            layer("a", 3_000_000, 1_000_000, 500_000, 8e-3),
        ];
        let (spots, left_out) = spots(&rows);
        assert_eq!((spots.len(), left_out), (1, LeftOut::default()));
        assert_eq!(spots[0].count, 2);
        assert!((spots[0].cost - 2e-9).abs() < 1e-18 && (spots[0].intensity - 8.0).abs() < 1e-12);
        assert!((spots[0].interval.unwrap().1 - 2.25e-9).abs() < 1e-18);
    }

    #[test]
    fn rows_without_a_place_are_counted_by_their_reason() {
        let mut missing = layer("b", 5, 0, 5, 1.0);
        (missing.energy_j, missing.status) = (None, Status::Unavailable);
        let rows =
            [layer("a", 0, 0, 8, 1.0), missing, layer("c", 5, 0, 5, -1.0), layer("d", 5, 0, 5, f64::NAN)];
        let (spots, left_out) = spots(&rows);
        assert!(spots.is_empty());
        assert_eq!(left_out, LeftOut { no_flops: 1, no_energy: 1, not_positive: 2 });
    }
}
