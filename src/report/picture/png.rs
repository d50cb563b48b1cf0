//! PNG from SVG, with the embedded fonts only.

use std::sync::Arc;

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::PictureError;
use super::type_setting::{BOLD, REGULAR};

/// Pixels of the PNG for each pixel of the SVG, so that print and dense screens stay sharp.
const SCALE: f32 = 2.0;

/// Most pixels of a PNG: 4 bytes each, so 1 GiB of memory.
const MAX_PIXELS: u64 = 1 << 28;

/// Renders an SVG document at twice its size, on white.
///
/// Fonts of the machine are not used and files that the document refers to are not opened.
///
/// # Errors
///
/// The text is no SVG, or its raster would be larger than a gibibyte.
pub fn png(svg: &str) -> Result<Vec<u8>, PictureError> {
    let tree = Tree::from_str(svg, &options()).map_err(|e| PictureError::Svg(e.to_string()))?;
    let size = tree.size();
    // Casts of floats saturate, and the limit below refuses what is absurd.
    let width = (size.width() * SCALE).round() as u32;
    let height = (size.height() * SCALE).round() as u32;
    let too_large = || PictureError::TooLarge { width, height, limit: MAX_PIXELS };
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(too_large());
    }
    let mut raster = Pixmap::new(width, height).ok_or_else(too_large)?;
    raster.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut raster.as_mut());
    raster.encode_png().map_err(|e| PictureError::Encode(e.to_string()))
}

/// Options of a renderer that knows the embedded fonts and nothing of the machine.
fn options() -> Options<'static> {
    let mut options = Options { font_family: "DejaVu Sans".to_string(), ..Options::default() };
    options.image_href_resolver.resolve_string = Box::new(|_, _| None);
    let fonts = options.fontdb_mut();
    for font in [REGULAR, BOLD] {
        fonts.load_font_source(fontdb::Source::Binary(Arc::new(font)));
    }
    fonts.set_sans_serif_family("DejaVu Sans");
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_svg_is_an_error() {
        assert!(matches!(png("not svg"), Err(PictureError::Svg(_))));
    }

    #[test]
    fn a_document_of_absurd_size_is_refused() {
        let svg = r#"<svg xmlns="http://www.w3.org/2000/svg" width="90000" height="90000"/>"#;
        assert!(matches!(png(svg), Err(PictureError::TooLarge { width: 180_000, .. })));
    }

    #[test]
    fn files_that_a_document_names_are_not_opened() {
        let svg = r#"<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4">
            <image href="/etc/hostname" width="4" height="4"/></svg>"#;
        assert!(png(svg).is_ok());
    }
}
