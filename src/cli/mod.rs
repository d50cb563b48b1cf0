//! The command line: argument structs, library calls, printing, exit codes.

mod calibrate;
mod cuda;
mod doctor;
mod exit;
mod inspect;
mod page;
mod profile;
mod progress;
mod report;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

pub use exit::Exit;

/// Joules per layer of convolutional networks, with error bars.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXIT_CODES, args_override_self = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 2 wrong usage or input; 3 the environment cannot do what was \
asked; 130 interrupted, what is finished is kept.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a network and says how many joules each layer costs
    Profile(Box<profile::ProfileArguments>),
    /// Lists layers, shapes, parameters, FLOPs, bytes and memory; runs nothing
    Inspect(inspect::InspectArguments),
    /// Renders a recorded run again
    Report(report::ReportArguments),
    /// Says what a device's power sensors can and cannot see
    Calibrate(calibrate::CalibrateArguments),
    /// Says which meters and devices work here, why not, and what mends it
    Doctor(doctor::DoctorArguments),
}

/// How results are printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// The run file
    Json,
    /// A row per layer
    Csv,
}

/// Reads the arguments, runs the command and gives its exit code.
pub fn main() -> ExitCode {
    // clap prints usage errors itself and exits with 2, help and version with 0.
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Calibrate(arguments) => calibrate::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = exit::of_error(&error);
            complain(&format!("error: {}", exit::text_of(&error)));
            exit.into()
        }
    }
}

/// Prints to standard error; that it is closed is no reason to fail.
fn complain(text: &str) {
    // Messages quote files: none may steer the terminal.
    let text = text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}");
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints data to standard output. A reader that has seen enough closes the pipe: that is success.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(e).context("cannot write to standard output"))
        }
        _ => Ok(()),
    }
}

/// Reads `KEY=VALUE` with a whole number.
fn key_value(text: &str) -> Result<(String, i64), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, as in size=128")?;
    let value = value.trim();
    let number = value.parse().map_err(|_| {
        let ratio = value.parse::<f64>().is_ok_and(|ratio| ratio.fract() != 0.0);
        let hint = if ratio { "; ratios are in percent, as in width=50" } else { "" };
        format!("expected a whole number after {key}=, found \"{value}\"{hint}")
    })?;
    Ok((key.trim().to_string(), number))
}

/// The root of the sysfs tree, for machines and for tests.
#[derive(Debug, clap::Args)]
struct SysfsRoot {
    /// Reads meters from the files under DIR instead of /sys
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    sysfs_root: PathBuf,
}

/// The place of NVIDIA's management library, for other installations and for stand-ins.
#[derive(Debug, clap::Args)]
struct NvmlLibrary {
    /// Reads GPUs through FILE instead of the driver's libnvidia-ml.so.1
    #[arg(long, value_name = "FILE")]
    nvml_lib: Option<PathBuf>,
}
