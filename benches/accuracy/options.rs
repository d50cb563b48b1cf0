//! What to run.

use std::path::PathBuf;
use std::str::FromStr;

use layerjoule::sim::PRESETS;

/// The networks of the table.
const NETWORKS: [&str; 3] = ["resnet50", "vgg16", "mobilenet_v2"];
const SEEDS: u64 = 20;

/// Which tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    Methods,
    Artefacts,
}

/// The command line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) seeds: u64,
    pub(crate) devices: Vec<String>,
    pub(crate) networks: Vec<String>,
    pub(crate) random_devices: Vec<u64>,
    pub(crate) batch: Option<usize>,
    pub(crate) part: Part,
    pub(crate) check: bool,
    /// Whether other tools' methods are left out.
    pub(crate) ours: bool,
    /// Whether the tables are whole, so that they may replace those of the documentation.
    pub(crate) store: bool,
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// An unknown option or a wrong value.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            seeds: SEEDS,
            devices: Vec::new(),
            networks: Vec::new(),
            random_devices: Vec::new(),
            batch: None,
            part: Part::All,
            check: false,
            ours: false,
            store: false,
            json: None,
        };
        let mut arguments = arguments.iter();
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{option}: expected a value"));
            match option.as_str() {
                "--seeds" => options.seeds = positive(option, value()?)?,
                "--device" => options.devices.push(value()?.trim_start_matches("sim:").to_string()),
                "--network" => options.networks.push(value()?.clone()),
                "--random-device" => options.random_devices.push(number(option, value()?)?),
                "--batch" => options.batch = Some(positive(option, value()?)?),
                "--artefacts" => options.part = Part::Artefacts,
                "--check" => options.check = true,
                "--ours" => options.ours = true,
                "--json" => options.json = Some(value()?.into()),
                other => return Err(format!("no option `{other}`; `cargo xtask help` lists them")),
            }
        }
        let chosen = !(options.devices.is_empty() && options.random_devices.is_empty());
        let partly = chosen || options.ours || !options.networks.is_empty() || options.batch.is_some();
        options.store = !partly && options.seeds == SEEDS && options.part == Part::All && !options.check;
        if (partly || options.check) && options.part == Part::All {
            options.part = Part::Methods;
        }
        if !chosen {
            let presets = if options.check { &["ideal"][..] } else { PRESETS };
            options.devices = presets.iter().map(|name| name.to_string()).collect();
        }
        if options.networks.is_empty() {
            options.networks = NETWORKS.map(str::to_string).to_vec();
        }
        Ok(options)
    }
}

fn number<T: FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option}: expected a whole number, found `{text}`"))
}

fn positive<T: FromStr + PartialOrd + Default>(option: &str, text: &str) -> Result<T, String> {
    let n = number(option, text)?;
    if n > T::default() { Ok(n) } else { Err(format!("{option}: expected at least 1, found {text}")) }
}
