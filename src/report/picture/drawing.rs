//! A list of shapes in pixels, written as SVG by `plotters`.
//!
//! A picture's height is known only when everything is placed, so shapes are collected first. `plotters` has
//! whole-number coordinates, so it draws on a canvas ten times as fine, shown through the SVG's view box.

use plotters::prelude::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, IntoFont, RGBAColor, ShapeStyle};

use super::type_setting::{FAMILY, Face, clean};

/// Units of the canvas for each pixel.
const FINE: f64 = 10.0;

/// No shape lies farther out than this, in pixels; keeps the arithmetic of `plotters` from overflowing.
const FAR: f64 = 100_000.0;

/// Where a text's anchor lies along its reading direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Start,
    Middle,
    End,
}

/// A point in pixels, y downward.
pub(super) type Point = (f64, f64);

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Text { at: Point, align: Align, face: Face, ink: RGBAColor, turned: bool, text: String },
    Path { points: Vec<Point>, ink: RGBAColor, width: f64 },
    Area { points: Vec<Point>, ink: RGBAColor },
    Disc { centre: Point, radius: f64, ink: RGBAColor },
    Ring { centre: Point, radius: f64, ink: RGBAColor, width: f64 },
}

/// Shapes in the order of drawing, on a white ground.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drawing {
    /// Pixels across.
    pub(super) width: f64,
    /// Pixels down.
    pub(super) height: f64,
    shapes: Vec<Shape>,
}

impl Drawing {
    /// An empty drawing; its height is set when everything is placed.
    pub(super) fn new(width: f64) -> Self {
        Self { width, height: 0.0, shapes: Vec::new() }
    }

    /// A text whose middle line is at the point's height.
    pub(super) fn text(&mut self, at: Point, align: Align, face: Face, ink: RGBAColor, text: &str) {
        self.shapes.push(Shape::Text { at, align, face, ink, turned: false, text: clean(text) });
    }

    /// A text that reads upward.
    pub(super) fn turned_text(&mut self, at: Point, align: Align, face: Face, ink: RGBAColor, text: &str) {
        self.shapes.push(Shape::Text { at, align, face, ink, turned: true, text: clean(text) });
    }

    /// A polyline.
    pub(super) fn path(&mut self, points: Vec<Point>, ink: RGBAColor, width: f64) {
        self.shapes.push(Shape::Path { points, ink, width });
    }

    /// A straight line.
    pub(super) fn line(&mut self, from: Point, to: Point, ink: RGBAColor, width: f64) {
        self.path(vec![from, to], ink, width);
    }

    /// A horizontal line of dashes.
    pub(super) fn dashes(&mut self, from: Point, to_x: f64, ink: RGBAColor, width: f64) {
        const DASH: f64 = 6.0;
        const PERIOD: f64 = 10.0;
        let count = ((to_x - from.0) / PERIOD).clamp(0.0, FAR).ceil() as usize;
        for k in 0..count {
            let x = from.0 + k as f64 * PERIOD;
            self.line((x, from.1), ((x + DASH).min(to_x), from.1), ink, width);
        }
    }

    /// A filled polygon.
    pub(super) fn area(&mut self, points: Vec<Point>, ink: RGBAColor) {
        self.shapes.push(Shape::Area { points, ink });
    }

    /// A filled rectangle between two corners.
    pub(super) fn block(&mut self, a: Point, b: Point, ink: RGBAColor) {
        self.area(vec![a, (b.0, a.1), b, (a.0, b.1)], ink);
    }

    /// The outline of a rectangle between two corners.
    pub(super) fn frame(&mut self, a: Point, b: Point, ink: RGBAColor, width: f64) {
        self.path(vec![a, (b.0, a.1), b, (a.0, b.1), a, (b.0, a.1)], ink, width);
    }

    /// A filled circle.
    pub(super) fn disc(&mut self, centre: Point, radius: f64, ink: RGBAColor) {
        self.shapes.push(Shape::Disc { centre, radius, ink });
    }

    /// The outline of a circle.
    pub(super) fn ring(&mut self, centre: Point, radius: f64, ink: RGBAColor, width: f64) {
        self.shapes.push(Shape::Ring { centre, radius, ink, width });
    }

    /// The SVG document.
    ///
    /// # Errors
    ///
    /// What `plotters` says; writing to a string cannot fail otherwise.
    pub(super) fn svg(&self) -> Result<String, String> {
        let (width, height) = (self.width.clamp(1.0, FAR).ceil(), self.height.clamp(1.0, FAR).ceil());
        let fine = ((width * FINE) as u32, (height * FINE) as u32);
        let mut svg = String::new();
        let mut canvas = SVGBackend::with_string(&mut svg, fine);
        let ground = vec![(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)];
        let ground = Shape::Area { points: ground, ink: super::palette::WHITE };
        for shape in std::iter::once(&ground).chain(&self.shapes) {
            shape.draw(&mut canvas)?;
        }
        canvas.present().map_err(|e| e.to_string())?;
        drop(canvas);
        let (fine_size, size) = (
            format!("width=\"{}\" height=\"{}\"", fine.0, fine.1),
            format!("width=\"{width}\" height=\"{height}\""),
        );
        Ok(svg.replacen(&fine_size, &size, 1))
    }
}

impl Shape {
    fn draw(&self, canvas: &mut SVGBackend<'_>) -> Result<(), String> {
        let drawn = match self {
            Self::Text { at, align, face, ink, turned, text } => {
                // plotters divides the size by 1.24 on its way to the em of the SVG.
                let mut font = (FAMILY, face.size * FINE * 1.24, face.style()).into_font();
                if *turned {
                    font = font.transform(FontTransform::Rotate270);
                }
                let along = match align {
                    Align::Start => HPos::Left,
                    Align::Middle => HPos::Center,
                    Align::End => HPos::Right,
                };
                let style = font.color(ink).pos(Pos::new(along, VPos::Center));
                canvas.draw_text(text, &style, fine(*at))
            }
            Self::Path { points, ink, width } => {
                canvas.draw_path(points.iter().map(|p| fine(*p)), &stroke(*ink, *width))
            }
            Self::Area { points, ink } => canvas.fill_polygon(points.iter().map(|p| fine(*p)), &ink.filled()),
            Self::Disc { centre, radius, ink } => {
                canvas.draw_circle(fine(*centre), (radius * FINE) as u32, &ink.filled(), true)
            }
            Self::Ring { centre, radius, ink, width } => {
                canvas.draw_circle(fine(*centre), (radius * FINE) as u32, &stroke(*ink, *width), false)
            }
        };
        drawn.map_err(|e| e.to_string())
    }
}

fn stroke(ink: RGBAColor, width: f64) -> ShapeStyle {
    ink.stroke_width((width * FINE).round() as u32)
}

/// Canvas units; a coordinate that is no number lands at the origin instead of overflowing.
fn fine(point: Point) -> (i32, i32) {
    let unit = |v: f64| (v.clamp(-FAR, FAR) * FINE).round() as i32;
    (unit(point.0), unit(point.1))
}
