//! `layerjoule doctor`

use clap::Args;

use crate::clock::MonotonicClock;
use crate::meter::{automatic_primary, host_meters};
use crate::trace::{MeterRecord, MeterStatus};

use super::SysfsRoot;
use super::exit::Exit;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = "Example: layerjoule doctor")]
pub(super) struct DoctorArguments {
    /// What is printed
    #[arg(long, value_enum, default_value = "table")]
    format: DoctorFormat,
    #[command(flatten)]
    sysfs: SysfsRoot,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum DoctorFormat {
    /// For people
    Table,
    /// The `meters` block of the run file
    Json,
}

pub(super) fn run(arguments: &DoctorArguments) -> anyhow::Result<Exit> {
    let clock = MonotonicClock::start();
    let meters: Vec<MeterRecord> =
        host_meters(&arguments.sysfs.sysfs_root, &clock).into_iter().map(|c| c.record).collect();
    match arguments.format {
        DoctorFormat::Json => {
            let value = serde_json::json!({ "devices": [{"kind": "cpu", "works": true}], "meters": meters });
            super::print(&format!("{}\n", serde_json::to_string_pretty(&value)?))?;
        }
        DoctorFormat::Table => super::print(&text(&meters))?,
    }
    Ok(Exit::Done)
}

fn text(meters: &[MeterRecord]) -> String {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut text = format!("Devices\n  cpu        works, {threads} threads\n\nMeters, best first\n");
    for meter in meters {
        let state = match meter.status {
            MeterStatus::Measured => "works",
            MeterStatus::Estimated => "works, ESTIMATES only",
            MeterStatus::Unavailable => "does not work",
        };
        text.push_str(&format!("  {}: {state}\n      scope: {}\n", meter.id, meter.scope));
        if let Some(period) = meter.update_period_s {
            text.push_str(&format!(
                "      updates every {}\n",
                crate::report::si::quantity(period.value(), "s")
            ));
        }
        if let Some(systematic) = meter.systematic_relative {
            text.push_str(&format!("      ±{:.0} % common to all readings\n", systematic * 100.0));
        }
        if let Some(reason) = &meter.reason {
            text.push_str(&format!("      {reason}\n"));
        }
    }
    match automatic_primary(meters.iter()).map(|best| &meters[best]) {
        Some(best) => text.push_str(&format!("\n`--meter auto` takes {}\n", best.id)),
        None => text.push_str("\nNo meter works here\n"),
    }
    text
}
