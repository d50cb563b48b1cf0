//! Colours that colour-blind readers can tell apart, and the mark of each kind of layer.

use plotters::style::{Color, RGBAColor, RGBColor};

use super::drawing::{Drawing, Point};

/// The eight colours of Okabe and Ito, "Color Universal Design", 2002 (jfly.uni-koeln.de/color); also Wong,
/// Nature Methods 8:441, 2011: black, orange, sky blue, bluish green, yellow, blue, vermillion, reddish purple.
pub const OKABE_ITO: [[u8; 3]; 8] = [
    [0, 0, 0],
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [204, 121, 167],
];

const fn hue(index: usize) -> RGBColor {
    let [r, g, b] = OKABE_ITO[index];
    RGBColor(r, g, b)
}

const BLACK: RGBColor = hue(0);
const ORANGE: RGBColor = hue(1);
const SKY: RGBColor = hue(2);
const GREEN: RGBColor = hue(3);
const YELLOW: RGBColor = hue(4);
const BLUE: RGBColor = hue(5);
const VERMILLION: RGBColor = hue(6);
const PURPLE: RGBColor = hue(7);

/// The ground.
pub(super) const WHITE: RGBAColor = RGBAColor(255, 255, 255, 1.0);
/// Text and data lines.
pub(super) const INK: RGBAColor = RGBAColor(0x1F, 0x26, 0x2E, 1.0);
/// Secondary text; contrast with white is 5.9 : 1.
pub(super) const QUIET: RGBAColor = RGBAColor(0x5A, 0x64, 0x70, 1.0);
/// Rows without work; contrast with white is 4.6 : 1.
pub(super) const FAINT: RGBAColor = RGBAColor(0x70, 0x77, 0x80, 1.0);
/// Axes.
pub(super) const AXIS: RGBAColor = RGBAColor(0x8A, 0x93, 0x9D, 1.0);
/// Grid lines.
pub(super) const GRID: RGBAColor = RGBAColor(0xE1, 0xE5, 0xEA, 1.0);
/// Every other row.
pub(super) const BAND: RGBAColor = RGBAColor(0xF5, 0xF7, 0xF9, 1.0);
/// Bars that are no layers.
pub(super) const NEUTRAL: RGBAColor = RGBAColor(0xB4, 0xBB, 0xC4, 1.0);
/// The ground of a banner.
pub(super) const BANNER: RGBAColor = RGBAColor(0xFF, 0xF1, 0xD6, 1.0);
/// The border of a banner.
pub(super) const BANNER_EDGE: RGBAColor = RGBAColor(213, 94, 0, 1.0);

/// Share of the colour in what is modelled.
pub(super) const LIGHT: f64 = 0.3;

/// The outline of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Circle,
    Square,
    Up,
    Down,
    Diamond,
    Hexagon,
    Plus,
    Cross,
    Star,
}

/// How a mark or bar is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// Measured.
    Solid,
    /// Modelled.
    Light,
    /// A bound.
    Open,
}

/// Colour and mark of a kind; no two known kinds have both in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct KindStyle {
    /// Its colour, one of [`OKABE_ITO`].
    pub(super) color: RGBColor,
    /// Its mark.
    pub(super) mark: Mark,
}

impl KindStyle {
    /// The style of a kind: a colour for the family, a mark for the kind.
    pub(super) fn of(kind: &str) -> Self {
        let (color, mark) = match kind {
            "conv" => (BLUE, Mark::Circle),
            "linear" => (VERMILLION, Mark::Square),
            "relu" => (GREEN, Mark::Up),
            "relu6" => (GREEN, Mark::Diamond),
            "leaky_relu" => (GREEN, Mark::Down),
            "sigmoid" => (GREEN, Mark::Square),
            "tanh" => (GREEN, Mark::Circle),
            "silu" => (GREEN, Mark::Star),
            "hard_swish" => (GREEN, Mark::Plus),
            "hard_sigmoid" => (GREEN, Mark::Cross),
            "clip" => (GREEN, Mark::Hexagon),
            "max_pool" => (SKY, Mark::Down),
            "avg_pool" => (SKY, Mark::Up),
            "global_avg_pool" => (SKY, Mark::Square),
            "global_max_pool" => (SKY, Mark::Diamond),
            "batch_norm" => (ORANGE, Mark::Diamond),
            "lrn" => (ORANGE, Mark::Hexagon),
            "add" => (PURPLE, Mark::Plus),
            "mul" => (PURPLE, Mark::Cross),
            "grad_add" => (PURPLE, Mark::Star),
            "concat" => (YELLOW, Mark::Square),
            "pad" => (YELLOW, Mark::Circle),
            "transpose" => (YELLOW, Mark::Diamond),
            "channel_shuffle" => (YELLOW, Mark::Hexagon),
            "softmax" => (BLACK, Mark::Star),
            "loss" => (BLACK, Mark::Diamond),
            "flatten" => (BLACK, Mark::Plus),
            "reshape" => (BLACK, Mark::Cross),
            "dropout" => (BLACK, Mark::Down),
            _ => (BLACK, Mark::Circle),
        };
        Self { color, mark }
    }

    /// Draws the mark.
    pub(super) fn draw(&self, drawing: &mut Drawing, at: Point, radius: f64, fill: Fill) {
        let (edge, width) = if fill == Fill::Solid { (INK, 0.7) } else { (self.color.mix(1.0), 1.6) };
        let fill = match fill {
            Fill::Solid => self.color.mix(1.0),
            Fill::Light => self.color.mix(LIGHT),
            Fill::Open => WHITE,
        };
        if self.mark == Mark::Circle {
            drawing.disc(at, radius, fill);
            drawing.ring(at, radius, edge, width);
            return;
        }
        let points: Vec<Point> =
            self.mark.corners().into_iter().map(|(x, y)| (at.0 + x * radius, at.1 + y * radius)).collect();
        drawing.area(points.clone(), fill);
        let closed = points.iter().chain(points.iter().take(2)).copied().collect();
        drawing.path(closed, edge, width);
    }
}

impl Mark {
    /// Corners around the origin, about as large to the eye as a circle of radius 1.
    fn corners(self) -> Vec<Point> {
        let polar = |count: usize, start: f64, radii: [f64; 2]| -> Vec<Point> {
            let corner = |k: usize| {
                let angle = start + k as f64 * std::f64::consts::TAU / count as f64;
                (radii[k % 2] * angle.cos(), radii[k % 2] * angle.sin())
            };
            (0..count).map(corner).collect()
        };
        let quarter = std::f64::consts::FRAC_PI_4;
        let plus = || {
            let (a, b) = (0.4, 1.15);
            let arm = [(a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b)];
            arm.into_iter().chain(arm.map(|(x, y)| (-x, -y))).collect::<Vec<Point>>()
        };
        match self {
            // Drawn as a circle; many corners look like one.
            Self::Circle => polar(32, 0.0, [1.0, 1.0]),
            Self::Square => polar(4, quarter, [1.25, 1.25]),
            Self::Up => polar(3, -2.0 * quarter, [1.25, 1.25]),
            Self::Down => polar(3, 2.0 * quarter, [1.25, 1.25]),
            Self::Diamond => polar(4, 0.0, [1.3, 1.3]),
            Self::Hexagon => polar(6, 0.0, [1.15, 1.15]),
            Self::Plus => plus(),
            Self::Cross => {
                let r = quarter.cos();
                plus().into_iter().map(|(x, y)| ((x - y) * r, (x + y) * r)).collect()
            }
            Self::Star => polar(10, -2.0 * quarter, [1.45, 0.62]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [&str; 29] = [
        "conv",
        "linear",
        "relu",
        "relu6",
        "leaky_relu",
        "sigmoid",
        "tanh",
        "silu",
        "hard_swish",
        "hard_sigmoid",
        "clip",
        "max_pool",
        "avg_pool",
        "global_avg_pool",
        "global_max_pool",
        "batch_norm",
        "lrn",
        "add",
        "mul",
        "grad_add",
        "concat",
        "pad",
        "transpose",
        "channel_shuffle",
        "softmax",
        "loss",
        "flatten",
        "reshape",
        "dropout",
    ];

    #[test]
    fn every_kind_has_a_colour_and_mark_of_its_own() {
        for (i, a) in KINDS.iter().enumerate() {
            for b in &KINDS[i + 1..] {
                assert_ne!(KindStyle::of(a), KindStyle::of(b), "{a} and {b}");
            }
        }
    }

    #[test]
    fn every_colour_is_one_of_okabe_and_ito() {
        for kind in KINDS {
            let RGBColor(r, g, b) = KindStyle::of(kind).color;
            assert!(OKABE_ITO.contains(&[r, g, b]), "{kind}");
        }
    }

    #[test]
    fn the_palette_is_the_published_one() {
        let hex = OKABE_ITO.map(|[r, g, b]| format!("{r:02X}{g:02X}{b:02X}"));
        let published = ["000000", "E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7"];
        assert_eq!(hex, published);
    }
}
