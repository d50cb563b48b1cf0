//! `layerjoule report`

use std::path::PathBuf;

use clap::Args;

use crate::profile::{disagreement, load_run, may_render, write_report};
use crate::report::{layers_csv, table};

use super::Format;
use super::exit::Exit;
use super::profile::top;

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Example: layerjoule report layerjoule-out/alexnet-cpu --out pictures"
)]
pub(super) struct ReportArguments {
    /// A directory that `profile` wrote, or its run.json
    run: PathBuf,
    /// Writes run file, tables and pictures to DIR
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Layers in the table: a number or all
    #[arg(long, default_value = "25", value_name = "N|all", value_parser = top, allow_negative_numbers = true)]
    top: usize,
}

pub(super) fn run(arguments: &ReportArguments) -> anyhow::Result<Exit> {
    let (report, trace) = load_run(&arguments.run)?;
    if trace.is_some()
        && let Some(note) = disagreement(&arguments.run, &report)
    {
        super::complain(&format!("note: {note}"));
    }
    if let Some(out) = &arguments.out {
        may_render(&arguments.run, &report, out)?;
        write_report(out, &report, trace.as_ref())?;
        super::complain(&format!("written to {}", out.display()));
    }
    match arguments.format {
        Format::Table => super::print(&table(&report, arguments.top))?,
        Format::Json => super::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
        Format::Csv => {
            let mut csv = Vec::new();
            layers_csv(&report, &mut csv)?;
            super::print(&String::from_utf8(csv)?)?;
        }
    }
    Ok(Exit::Done)
}
