//! Developer commands: `cargo xtask help`.

mod accuracy;
mod bench;
mod conformance;
mod fetch;
mod fuzz;
mod gpu;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Instant;

use anyhow::{Context, Result};

const HELP: &str = "\
Developer commands of layerjoule.

Usage: cargo xtask COMMAND [ARGS]...

Commands:
  check    everything that CI checks, in CI's order: fmt --check, clippy, test, fuzz,
           conformance, doc
  fmt      format the workspace                          (fmt --check only looks)
  clippy   lint all targets; a warning is an error
  test     fetch the test data, then run all tests       (test NAME runs those whose name contains NAME)
  doc      build the documentation; a warning is an error
  fuzz     give the readers damaged files for 60 s     (fuzz --seconds N, --seed N; --replay FILE)
  conformance
           compare with ONNX's recorded tests and with onnxruntime, which is installed into
           target/conformance once; needs Python 3.11 or later and PyPI
           (--skip-without-python goes on, and says so, where they cannot be had)
  bench-peers
           time the CPU engine and onnxruntime in turns on two threads (--only TEXT, --seconds S,
           --rounds N); exit code 1 if a bound is missed
  accuracy
           methods of four tools and ours on simulated devices, judged by the truth, and each
           artefact alone; without options all of docs/accuracy.md, in some minutes, and with some
           what they say: --device NAME and --network NAME (each may be repeated),
           --random-device SEED (a device of random artefacts; saved to target/accuracy),
           --batch N, --seeds 20, --ours (not the four other methods), --artefacts, --json FILE;
           --check measures sim:ideal, and exit code 1 means that a bound is missed
  gpu pack build what a machine with a GPU and no Rust needs into target/gpu-bundle and
           target/gpu-bundle.tar.gz (--out DIR; --facts FILE for part 0): docs/gpu-runs.md
  gpu collect ARCHIVE...
           check what came back from there and file it under profiles/ and reports/
           (--force replaces what was filed before)
  bless    run all tests and accept what they now produce: snapshots and docs/schema
  fetch    fetch the ONNX test data into target/onnx-1.22.0 and two of NVIDIA's run-time compilers
           into target/nvrtc-13.5.37 and target/nvrtc-12.6.85; nothing to do when they are there
  help     show this text

ARGS go to cargo as they are: cargo xtask test --release -- --nocapture

Environment:
  REQUIRE_DATA=1     test data that cannot be fetched is an error, not a notice
  CARGO_TARGET_DIR   where cargo builds; the test data stays in target/ of the repository

The exit code is that of the command that failed: cargo's 101 for failed tests, 1 or 2 otherwise.
";

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let command = args.next().unwrap_or_else(|| "help".to_owned());
    let rest: Vec<String> = args.collect();
    match run(&command, &rest) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, args: &[String]) -> Result<ExitCode> {
    match command {
        "check" => check(),
        "fmt" => fmt(args),
        "clippy" => clippy(args),
        "test" => test(args),
        "conformance" => conformance(args),
        "accuracy" => accuracy::table(&mut cargo("bench"), args),
        "bench-peers" => bench::peers(&repository(), &mut cargo("bench"), args),
        "doc" => doc(args),
        "fuzz" => fuzz::mutations(args),
        "gpu" => gpu::run(&repository(), args),
        "bless" => bless(args),
        "fetch" => fetch::test_data(&repository()).map(|()| ExitCode::SUCCESS),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        unknown => {
            eprintln!("xtask: no command `{unknown}`\n\n{HELP}");
            Ok(ExitCode::from(2))
        }
    }
}

/// Runs every step up to the first that fails.
#[allow(clippy::disallowed_methods, reason = "src/clock.rs is the product's clock; this times a build")]
fn check() -> Result<ExitCode> {
    let steps: [(&str, &dyn Fn() -> Result<ExitCode>); 6] = [
        ("fmt --check", &|| fmt(&["--check".to_owned()])),
        ("clippy", &|| clippy(&[])),
        ("test", &|| test(&[])),
        ("fuzz", &|| fuzz::mutations(&["--seconds".to_owned(), "60".to_owned()])),
        ("conformance", &|| conformance(&[])),
        ("doc", &|| doc(&[])),
    ];
    for (name, step) in steps {
        eprintln!("\n=== {name}");
        let begin = Instant::now();
        let code = step()?;
        if code != ExitCode::SUCCESS {
            eprintln!("=== {name} failed");
            return Ok(code);
        }
        eprintln!("=== {name}: {:.0} s", begin.elapsed().as_secs_f64());
    }
    Ok(ExitCode::SUCCESS)
}

fn fmt(args: &[String]) -> Result<ExitCode> {
    status(cargo("fmt").arg("--all").args(args))
}

fn clippy(args: &[String]) -> Result<ExitCode> {
    let mut command = cargo("clippy");
    command.args(["--workspace", "--all-targets", "--locked"]).args(args).args(["--", "-D", "warnings"]);
    status(&mut command)
}

fn test(args: &[String]) -> Result<ExitCode> {
    fetch::test_data(&repository())?;
    status(cargo("test").args(["--workspace", "--locked"]).args(args))
}

fn conformance(args: &[String]) -> Result<ExitCode> {
    conformance::run(&repository(), &mut cargo("test"), args)
}

fn doc(args: &[String]) -> Result<ExitCode> {
    let mut command = cargo("doc");
    command.args(["--workspace", "--no-deps", "--locked"]).args(args);
    status(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn bless(args: &[String]) -> Result<ExitCode> {
    fetch::test_data(&repository())?;
    let mut command = cargo("test");
    command.args(["--workspace", "--locked"]).args(args);
    // insta writes its snapshots anew; our own tests write the files that they would compare.
    status(command.env("INSTA_UPDATE", "always").env("BLESS", "1"))
}

/// The cargo that runs this program, in the repository.
fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository()).arg(subcommand);
    command
}

fn status(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    Ok(exit_code(status))
}

/// The command's own code; 1 for one that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => ExitCode::FAILURE,
    }
}

fn repository() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}
