//! What people and programs see: the run file, tables and pictures.

mod build;
mod csv;
mod kinds;
mod run_file;
pub mod si;
mod table;

pub use build::{run_report, unmeasured_rows};
pub use csv::{kinds_csv, layers_csv};
pub use run_file::{
    AlsoRow, ClosureRow, IdleRow, KindRow, LayerRow, Method, PassRow, Phase, RUN_SCHEMA, RunReport, Status,
};
pub use table::table;
/// p
pub struct Picture {
    /// n
    pub name: &'static str,
    /// s
    pub svg: String,
}
/// e
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct PictureError;
/// n
pub const PICTURE_NAMES: &[&str] = &[];
/// p
pub fn pictures(_: &RunReport, _: Option<&crate::trace::Trace>) -> Result<Vec<Picture>, PictureError> {
    Ok(vec![])
}
/// p
pub fn png(_: &str) -> Result<Vec<u8>, PictureError> {
    Ok(vec![])
}
