//! `cargo xtask accuracy`: every method on every simulated device, judged by the truth; and each artefact alone.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the tables go to the terminal")]

mod artefacts;
mod board;
mod judge;
mod methods;
mod options;
mod run;
mod subject;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use layerjoule::sim::DeviceParameters;

use options::{Options, Part};

/// Where the tables are kept, in the repository.
const DOCUMENT: &str = "docs/accuracy.md";

fn main() -> ExitCode {
    // `cargo bench` runs every benchmark; this one takes ten minutes and belongs to its own command.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some((first, rest)) = arguments.split_first().filter(|(first, _)| *first == "run") else {
        println!("run `cargo xtask accuracy`");
        return ExitCode::SUCCESS;
    };
    debug_assert_eq!(first, "run");
    match Options::parse(rest).and_then(|options| accuracy(&options)) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("accuracy: {why}");
            ExitCode::from(2)
        }
    }
}

fn accuracy(options: &Options) -> Result<ExitCode, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut devices = Vec::new();
    for name in &options.devices {
        devices.push((name.clone(), DeviceParameters::open(name).map_err(|error| error.to_string())?));
    }
    for &seed in &options.random_devices {
        devices.push((format!("random-{seed}"), DeviceParameters::random(seed)));
        save(&random_device_file(root, seed)?, &DeviceParameters::random(seed).to_toml())?;
    }
    let rows = match options.part {
        Part::Artefacts => Vec::new(),
        Part::All | Part::Methods => {
            run::methods(&run::subjects(root, &devices, options)?, options.seeds, options.ours)
        }
    };
    let artefacts = match options.part {
        Part::Methods => Vec::new(),
        Part::All | Part::Artefacts => artefacts::table(options.seeds),
    };
    let (first, second) = (table::methods(&rows), table::artefacts(&artefacts));
    println!("{first}{second}");
    if let Some(file) = &options.json {
        let json = serde_json::json!({ "seeds": options.seeds, "methods": rows, "artefacts": artefacts });
        save(file, &format!("{json:#}\n"))?;
    }
    if options.store {
        let file = root.join(DOCUMENT);
        let document = std::fs::read_to_string(&file).map_err(|error| format!("{DOCUMENT}: {error}"))?;
        let document = table::replace_part(&document, "methods", &first)?;
        save(&file, &table::replace_part(&document, "artefacts", &second)?)?;
    }
    if !options.check {
        return Ok(ExitCode::SUCCESS);
    }
    let missed = run::missed_bounds(&rows);
    missed.iter().for_each(|bound| eprintln!("accuracy: {bound}"));
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a random device is written, so that it can be run as `sim:FILE`.
fn random_device_file(root: &Path, seed: u64) -> Result<PathBuf, String> {
    let folder = root.join("target").join("accuracy");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder.join(format!("random-{seed}.toml")))
}

fn save(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}
