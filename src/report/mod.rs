//! What people and programs see: the run file, tables and pictures.

mod picture;
mod run_file;

pub use picture::{OKABE_ITO, Picture, PictureError, pictures, png};
pub use run_file::{
    AlsoRow, ClosureRow, IdleRow, KindRow, LayerRow, Method, PassRow, Phase, RUN_SCHEMA, RunReport, Status,
};
