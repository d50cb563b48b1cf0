//! The pictures of a run: SVG drawn with `plotters`, and PNG made from that same SVG.
//!
//! Pure: the same report and trace give the same bytes. Fonts are embedded; nothing of the machine is read.
//! Every picture names its network, batch, phase, device and meter, and carries a banner when its energies
//! are estimated, simulated or emulated.

mod bars;
mod drawing;
mod energy;
mod flop;
mod frame;
mod palette;
mod place;
mod png;
mod power;
mod scale;
mod timeline;
mod type_setting;

pub use palette::OKABE_ITO;
pub use png::png;

/// File names of all pictures, without their endings.
pub const PICTURE_NAMES: [&str; 4] =
    ["energy_by_kind", "energy_per_layer", "energy_per_flop", "power_over_time"];

use crate::trace::Trace;

use super::RunReport;

/// A picture of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// What it shows, fit for a file name: `energy_by_kind`, say.
    pub name: &'static str,
    /// The whole SVG document.
    pub svg: String,
}

/// Why a picture cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// An embedded font is damaged: the program was built from a broken source tree.
    #[error("embedded font {0} is unreadable; build layerjoule from an intact source tree")]
    Font(&'static str),
    /// The SVG back end refused a shape.
    #[error("drawing {picture}: {reason}")]
    Draw {
        /// The picture.
        picture: &'static str,
        /// What the back end says.
        reason: String,
    },
    /// The text is no SVG document.
    #[error("PNG: expected an SVG document, found one that does not parse: {0}")]
    Svg(String),
    /// The raster does not fit the memory set aside for it.
    #[error("PNG: {width} x {height} pixels are more than {limit}; use the SVG instead")]
    TooLarge {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Most pixels allowed.
        limit: u64,
    },
    /// The raster cannot be encoded.
    #[error("PNG: cannot encode: {0}")]
    Encode(String),
}

/// Draws the pictures of a run: energy by kind, energy per layer and energy per FLOP, and with a trace also
/// power over time.
///
/// Nothing to show gives a picture that says so.
///
/// # Errors
///
/// Only when the program itself is damaged: an unreadable embedded font, or a shape the back end refuses.
pub fn pictures(report: &RunReport, trace: Option<&Trace>) -> Result<Vec<Picture>, PictureError> {
    type_setting::register_fonts()?;
    let mut drawings = vec![
        ("energy_by_kind", energy::by_kind(report)),
        ("energy_per_layer", energy::per_layer(report)),
        ("energy_per_flop", flop::energy_per_flop(report)),
    ];
    if let Some(trace) = trace {
        drawings.push(("power_over_time", timeline::power_over_time(report, trace)));
    }
    let picture = |(name, drawing): (&'static str, drawing::Drawing)| {
        let svg = drawing.svg().map_err(|reason| PictureError::Draw { picture: name, reason })?;
        Ok(Picture { name, svg })
    };
    drawings.into_iter().map(picture).collect()
}
