//! GPU runs without Rust on the GPU's machine: `pack` makes a bundle to carry there, `collect` files what comes back.
//! docs/gpu-runs.md tells the whole way.

mod collect;
mod manifest;
mod pack;
mod part;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

/// Runs `gpu pack` or `gpu collect`.
///
/// # Errors
///
/// Wrong arguments, a build that fails, a bundle that is too large, an archive that cannot be believed.
pub(crate) fn run(repository: &Path, args: &[String]) -> Result<ExitCode> {
    match args.split_first() {
        Some((command, rest)) if command == "pack" => {
            let (mut out, mut facts) = (repository.join("target").join("gpu-bundle"), None);
            let mut rest = rest.iter();
            while let Some(option) = rest.next() {
                let value = PathBuf::from(rest.next().with_context(|| format!("{option} needs a value"))?);
                match option.as_str() {
                    "--out" => out = value,
                    "--facts" => facts = Some(value),
                    _ => bail!("gpu pack knows --out and --facts, not {option}"),
                }
            }
            pack::pack(repository, &out, facts.as_deref())?;
        }
        Some((command, rest)) if command == "collect" => {
            let (options, archives): (Vec<&String>, Vec<&String>) =
                rest.iter().partition(|word| word.starts_with("--"));
            ensure!(options.iter().all(|option| *option == "--force"), "gpu collect knows --force only");
            ensure!(!archives.is_empty(), "gpu collect: expected one or more archives part-NAME.tar.gz");
            for archive in archives {
                collect::collect(repository, Path::new(archive), !options.is_empty())?;
            }
        }
        _ => bail!(
            "expected `gpu pack [--out DIR] [--facts FILE]` or `gpu collect [--force] ARCHIVE...`, found `gpu {}`",
            args.join(" ")
        ),
    }
    Ok(ExitCode::SUCCESS)
}
