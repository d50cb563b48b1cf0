//! What people and programs see: the run file, tables and pictures.

mod build;
mod consistent;
mod csv;
mod disagree;
mod doubts;
mod kinds;
mod picture;
mod read_run;
mod run_file;
mod sampling;
mod sanity;
pub mod si;
mod table;

pub use build::{run_report, unmeasured_rows};
pub use csv::{kinds_csv, layers_csv};
pub use disagree::first_difference;
pub use picture::{OKABE_ITO, PICTURE_NAMES, Picture, PictureError, pictures, png};
pub use read_run::{RunFileError, parse_run};
pub use run_file::{
    AlsoRow, ClosureRow, IdleRow, InSituRow, KindRow, LayerRow, Method, PassRow, Phase, RUN_SCHEMA,
    RunReport, SamplingRow, Status,
};
pub use table::{TABLE_STYLE, table};
