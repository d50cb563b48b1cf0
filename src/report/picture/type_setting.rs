//! Widths of texts in the embedded fonts, and texts cut or wrapped to a width.

use plotters::style::{FontStyle, IntoFont, register_font};

use super::PictureError;

/// DejaVu Sans 2.37, licence beside it.
pub(super) const REGULAR: &[u8] = include_bytes!("../fonts/DejaVuSans.ttf");

/// DejaVu Sans Bold 2.37, licence beside it.
pub(super) const BOLD: &[u8] = include_bytes!("../fonts/DejaVuSans-Bold.ttf");

/// Families in the SVG. A viewer without DejaVu uses Verdana, whose widths are nearly the same.
pub(super) const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// Ascender less descender of both fonts over the em, 1901 + 483 of 2048 units: the measure that `ab_glyph`
/// scales by, where SVG scales by the em.
const HEIGHT_OVER_EM: f64 = (1901.0 + 483.0) / 2048.0;

/// Height of a line of text over its size.
pub(super) const LINE: f64 = 1.3;

/// A size of text in pixels and its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Face {
    /// The em, in pixels.
    pub(super) size: f64,
    /// Whether it is bold.
    pub(super) bold: bool,
}

impl Face {
    /// The regular face of this size.
    pub(super) const fn regular(size: f64) -> Self {
        Self { size, bold: false }
    }

    /// The bold face of this size.
    pub(super) const fn bold(size: f64) -> Self {
        Self { size, bold: true }
    }

    /// The name of the weight in `plotters`.
    pub(super) fn style(self) -> FontStyle {
        if self.bold { FontStyle::Bold } else { FontStyle::Normal }
    }

    /// The width of a text in pixels.
    pub(super) fn width(self, text: &str) -> f64 {
        // plotters rounds down to whole pixels, so the text is measured large.
        const EM: f64 = 1000.0;
        let font = (FAMILY, EM * HEIGHT_OVER_EM, self.style()).into_font();
        // Without fonts (impossible after `register_fonts`) a wide guess keeps texts apart.
        let width = font.box_size(&clean(text)).map_or(EM * text.chars().count() as f64, |(w, _)| w.into());
        width * self.size / EM
    }

    /// The text, or its beginning and end around an ellipsis, no wider than `width` pixels.
    ///
    /// Layer names differ at both ends (`stage3.5.expand_conv_bn`), so the middle goes.
    pub(super) fn shorten(self, text: &str, width: f64) -> String {
        // More characters than pixels never fit; cutting first bounds the work on absurd names.
        let most = (width.max(0.0) as usize).max(2);
        let chars: Vec<char> = text.chars().collect();
        if chars.len() <= most && self.width(text) <= width {
            return text.to_string();
        }
        let mut kept = chars.len().saturating_sub(1).min(most);
        loop {
            let head = kept.div_ceil(2);
            let cut: String = chars
                .iter()
                .take(head)
                .chain(&['…'])
                .chain(chars.iter().skip(chars.len() - (kept - head)))
                .collect();
            if kept == 0 || self.width(&cut) <= width {
                return cut;
            }
            kept -= 1;
        }
    }

    /// The name of a layer; one too long is shortened and begins with its position in the order of execution,
    /// because names that differ in the middle would look alike.
    pub(super) fn label(self, number: Option<usize>, name: &str, width: f64) -> String {
        let plain = self.shorten(name, width);
        match number {
            Some(number) if plain != name => {
                let number = format!("#{number} ");
                format!("{number}{}", self.shorten(name, width - self.width(&number)))
            }
            _ => plain,
        }
    }

    /// The text in lines no wider than `width` pixels, broken at spaces; a longer word is shortened.
    pub(super) fn wrap(self, text: &str, width: f64) -> Vec<String> {
        let mut lines = vec![];
        let mut line = String::new();
        for word in text.split_whitespace() {
            let word = self.shorten(word, width);
            let longer = if line.is_empty() { word.clone() } else { format!("{line} {word}") };
            if line.is_empty() || self.width(&longer) <= width {
                line = longer;
            } else {
                lines.push(std::mem::replace(&mut line, word));
            }
        }
        if !line.is_empty() {
            lines.push(line);
        }
        lines
    }
}

/// Makes the embedded fonts known to `plotters`, under [`FAMILY`].
pub(super) fn register_fonts() -> Result<(), PictureError> {
    for (style, bytes, name) in
        [(FontStyle::Normal, REGULAR, "DejaVuSans.ttf"), (FontStyle::Bold, BOLD, "DejaVuSans-Bold.ttf")]
    {
        register_font(FAMILY, style, bytes).map_err(|_| PictureError::Font(name))?;
    }
    Ok(())
}

/// The text with every character replaced that XML forbids or that would reorder or hide its neighbours.
///
/// XML 1.0 section 2.2 forbids most control characters and U+FFFE and U+FFFF even when escaped. Direction
/// marks could make a name read as another one.
pub(super) fn clean(text: &str) -> String {
    let forbidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}')
            || matches!(c, '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}')
    };
    text.chars().map(|c| if forbidden(c) { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_font() {
        register_fonts().unwrap();
        // DejaVu Sans 2.37, table hmtx: "m" advances 1995 and "i" 569 of 2048 units.
        let face = Face::regular(20.48);
        assert!((face.width("m") - 19.95).abs() < 0.05);
        assert!((face.width("mi") - 25.64).abs() < 0.05);
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        register_fonts().unwrap();
        let face = Face::regular(12.0);
        let name = "/features/features.17/conv/conv.2/BatchNormalization_output_0";
        let short = face.shorten(name, 150.0);
        assert!(face.width(&short) <= 150.0 && short.contains('…'));
        assert!(short.starts_with("/features") && short.ends_with("output_0"));
        assert_eq!(face.shorten("conv1", 150.0), "conv1");
    }

    #[test]
    fn names_that_differ_in_the_middle_stay_apart() {
        register_fonts().unwrap();
        let face = Face::regular(12.0);
        let name =
            |block: usize| format!("/features/features.{block}/conv/conv.0/depthwise/BatchNormalization");
        let (a, b) = (face.label(Some(3), &name(1), 120.0), face.label(Some(9), &name(2), 120.0));
        assert!(a.starts_with("#3 /") && b.starts_with("#9 /") && face.width(&a) <= 120.0);
        assert_eq!(face.label(Some(3), "conv1", 120.0), "conv1");
    }

    #[test]
    fn no_width_and_no_text_end_too() {
        register_fonts().unwrap();
        let face = Face::regular(12.0);
        assert_eq!(face.shorten("conv1", 0.0), "…");
        assert_eq!(face.shorten("", 0.0), "");
        assert_eq!(face.shorten(&"x".repeat(1_000_000), 50.0).chars().last(), Some('x'));
        assert!(face.wrap("   ", 10.0).is_empty());
    }

    #[test]
    fn wrapped_lines_fit_and_lose_no_word() {
        register_fonts().unwrap();
        let face = Face::bold(12.0);
        let text = "energies are for one pass of the whole batch and include the static share";
        let lines = face.wrap(text, 120.0);
        assert!(lines.len() > 3 && lines.iter().all(|l| face.width(l) <= 120.0));
        assert_eq!(lines.join(" "), text);
    }

    #[test]
    fn characters_that_xml_forbids_are_replaced() {
        assert_eq!(clean("a\u{0}b\u{1b}\u{202e}\u{ffff}é"), "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}é");
    }
}
