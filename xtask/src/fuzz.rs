//! Damaged files for the readers, with the ordinary toolchain: the tests of `tests/mutation.rs` for a time.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

/// Time for all readers together, in seconds.
const SECONDS: &str = "60";

/// Runs the mutation tests for `--seconds` with `--seed`, or gives a reader one file again with `--replay`.
pub(crate) fn mutations(args: &[String]) -> Result<ExitCode> {
    let (mut seconds, mut seed, mut replay) = (SECONDS.to_owned(), "0".to_owned(), None);
    let mut args = args.iter();
    while let Some(option) = args.next() {
        let value = args.next().with_context(|| format!("{option} needs a value"))?.clone();
        match option.as_str() {
            "--seconds" => seconds = number::<f64>(option, value)?,
            "--seed" => seed = number::<u64>(option, value)?,
            "--replay" => replay = Some(value),
            _ => bail!("fuzz knows --seconds, --seed and --replay, not {option}"),
        }
    }
    let mut command = super::cargo("test");
    command.args(["--locked", "--test", "all", "--"]);
    // One reader after another, so that each has its share of the time.
    command.args(["--nocapture", "--test-threads=1"]);
    match replay {
        Some(file) => {
            let file = std::fs::canonicalize(&file).with_context(|| format!("cannot find {file}"))?;
            command.arg("mutation::the_file_to_replay").env("FUZZ_REPLAY", file);
        }
        None => {
            command.arg("mutation::no_change").env("FUZZ_SECONDS", seconds).env("FUZZ_SEED", seed);
        }
    }
    let code = super::status(&mut command)?;
    if code != ExitCode::SUCCESS {
        // A stack overflow or a kill leaves no message of the test's own.
        eprintln!("xtask: the last file that each reader was given lies in the target directory's tmp/fuzz");
    }
    Ok(code)
}

/// The text again, if it is a number of this type.
fn number<T: std::str::FromStr>(option: &str, text: String) -> Result<String> {
    match text.parse::<T>() {
        Ok(_) => Ok(text),
        Err(_) => bail!("{option}: expected a number, found \"{text}\""),
    }
}
