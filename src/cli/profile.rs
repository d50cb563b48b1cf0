//! `layerjoule profile`

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::backend::CacheUse;
use crate::meter::MeterChoice;
use crate::plan::{Layout, Precision};
use crate::profile::{DeviceChoice, Hooks, Outcome, ProfileOptions, QUICK, Timing, profile};
use crate::report::{LayerRow, Status, layers_csv, table};
use crate::run::RecordError;
use crate::sim::{DeviceParameters, PRESETS};
use crate::units::Seconds;

use super::calibrate::CalibrationDirectory;
use super::cuda::CudaPath;
use super::exit::{Exit, WrongInput};
use super::progress::Progress;
use super::{Format, NvmlLibrary, SysfsRoot, key_value};

/// Arguments of `profile`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: layerjoule profile networks/alexnet.toml --batch 4 --set size=160 --out run1"
)]
pub(super) struct ProfileArguments {
    /// Network definition, *.toml or *.onnx
    network: PathBuf,
    /// Where the network runs: auto (the CPU), cpu, cuda or cuda:N for an NVIDIA GPU, or a simulated device, sim:MODEL
    /// or sim:FILE
    #[arg(long, default_value = "auto")]
    device: String,
    /// What is run
    #[arg(long, value_enum, default_value = "forward")]
    phase: Phase,
    /// Images in one pass
    #[arg(long, default_value_t = 1, value_name = "N", allow_negative_numbers = true)]
    batch: usize,
    /// Number format: f32, tf32, f16 or bf16; sums are kept in f32. The CPU has f32
    #[arg(long, default_value = "f32", value_name = "FORMAT", value_parser = precision)]
    precision: Precision,
    /// Order of axes in memory: nchw or nhwc. The CPU has nchw
    #[arg(long, default_value = "nchw", value_name = "ORDER", value_parser = layout)]
    layout: Layout,
    /// Whether replays of a layer find their data in the GPU's cache: cold (its buffers rotate) or hot [default: cold]
    #[arg(long, value_name = "cold|hot", value_parser = cache)]
    cache: Option<CacheUse>,
    /// The algorithm of all convolutions on a GPU: a name as in the run file's `algorithm`, or fastest
    #[arg(long, default_value = "fastest", value_name = "NAME|fastest")]
    conv_algo: String,
    /// Overrides a parameter of the network file; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, i64)>,
    /// Computes batch norms, sums and activations together with the convolution before them, as inference engines
    /// do; their energy then stands in the convolution's row
    #[arg(long)]
    fuse: bool,
    /// Worker threads [default: one for each logical processor]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<usize>,
    /// What reads the energy: auto, or ids separated by commas, the first as primary (see `doctor`)
    #[arg(long, default_value = "auto", value_name = "ID[,ID]")]
    meter: String,
    /// Every layer to 5 % and with less warm-up; a first look
    #[arg(long, conflicts_with_all = ["precise", "target", "rounds"])]
    quick: bool,
    /// Every layer to 1 %
    #[arg(long, conflicts_with_all = ["target", "rounds"])]
    precise: bool,
    /// Half width of the 95 % interval of every layer, such as 2%; small layers to a tenth of that of the pass [default: 2%]
    #[arg(long, value_name = "PERCENT", value_parser = percent, allow_hyphen_values = true)]
    target: Option<f64>,
    /// A fixed number of rounds of windows of each layer alone [default: planned; 3 where the meter is a model]
    #[arg(long, value_name = "N", conflicts_with = "target", allow_negative_numbers = true)]
    rounds: Option<usize>,
    /// Least length of a window, such as 500ms [default: 5 counter updates or 250ms; modelled 200ms]
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    window: Option<Duration>,
    /// Load before each window [default: 300ms]
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    settle: Option<Duration>,
    /// Load before the first window [default: until the temperature settles; modelled 3s]
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    warm_up: Option<Duration>,
    /// Starts no window after this time, such as 10m
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    budget: Option<Duration>,
    /// Seed of schedule, weights and input, and of a simulated device's noise
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = seed, allow_negative_numbers = true)]
    seed: u64,
    /// Output directory [default: layerjoule-out/NETWORK-DEVICE]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replaces a finished run in the output directory
    #[arg(long)]
    force: bool,
    /// What is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Layers in the table: a number or all
    #[arg(long, default_value = "25", value_name = "N|all", value_parser = top, allow_negative_numbers = true)]
    top: usize,
    #[command(flatten)]
    sysfs: SysfsRoot,
    #[command(flatten)]
    nvml: NvmlLibrary,
    #[command(flatten)]
    cuda: CudaPath,
    #[command(flatten)]
    calibrations: CalibrationDirectory,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Phase {
    /// Inference
    Forward,
}

/// Reads a time such as `500ms` or `10m`.
fn duration(text: &str) -> Result<Duration, String> {
    if text.trim_start().starts_with('-') {
        return Err(format!("expected more than zero, found \"{text}\"; write it as 500ms, 2s or 10m"));
    }
    let time = humantime::parse_duration(text).map_err(|e| format!("{e}; write it as 500ms, 2s or 10m"))?;
    // A window beyond a day is a mistake, and would overflow clocks further on.
    if time.is_zero() || time > Duration::from_secs(24 * 3600) {
        return Err("expected more than zero and at most 24h".to_string());
    }
    Ok(time)
}

/// Reads a part such as `2%`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let expected = || format!("expected 0.1% to 50%, found \"{text}\"");
    number
        .filter(|percent| (0.1..=50.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(expected)
}

fn precision(text: &str) -> Result<Precision, String> {
    let found = Precision::ALL.into_iter().find(|precision| precision.name() == text);
    found.ok_or_else(|| format!("expected f32, tf32, f16 or bf16, found \"{text}\""))
}

fn layout(text: &str) -> Result<Layout, String> {
    let found = [Layout::Nchw, Layout::Nhwc].into_iter().find(|layout| layout.name() == text);
    found.ok_or_else(|| format!("expected nchw or nhwc, found \"{text}\""))
}

fn cache(text: &str) -> Result<CacheUse, String> {
    let found = [CacheUse::Cold, CacheUse::Hot].into_iter().find(|cache| cache.name() == text);
    found.ok_or_else(|| format!("expected cold or hot, found \"{text}\""))
}

pub(super) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}, found \"{text}\"", u64::MAX))
}

pub(super) fn top(text: &str) -> Result<usize, String> {
    if text == "all" {
        return Ok(usize::MAX);
    }
    text.parse().map_err(|_| format!("expected a whole number from 0 on, or all, found \"{text}\""))
}

pub(super) fn run(arguments: &ProfileArguments) -> anyhow::Result<Exit> {
    let options = options(arguments)?;
    let interrupts = count_interrupts()?;
    let progress = RefCell::new(Progress::new());
    let outcome = profile(
        &options,
        Hooks {
            say: &mut |text| progress.borrow().say(text),
            progress: &mut |done, total, next| progress.borrow_mut().update(done, total, next),
            stop: &|| interrupts.load(Ordering::Relaxed) > 0,
        },
    )?;
    match arguments.format {
        Format::Table => super::print(&table(&outcome.report, arguments.top))?,
        Format::Json => super::print(&format!("{}\n", serde_json::to_string_pretty(&outcome.report)?))?,
        Format::Csv => {
            let mut csv = Vec::new();
            layers_csv(&outcome.report, &mut csv)?;
            super::print(&String::from_utf8(csv)?)?;
        }
    }
    Ok(ending(&outcome))
}

fn ending(outcome: &Outcome) -> Exit {
    let dir = outcome.dir.display();
    let written = match &outcome.unwritten {
        None => {
            super::complain(&format!("written to {dir}"));
            Exit::Done
        }
        Some(error) => {
            super::complain(&format!(
                "error: {error}\nthe recording is kept; when that is mended, `layerjoule report {dir} --out DIR` \
                 writes the rest"
            ));
            Exit::Environment
        }
    };
    let is_lacking = |layer: &&LayerRow| layer.status == Status::Unavailable && layer.signature.is_some();
    let lacking = outcome.report.layers.iter().filter(is_lacking).count();
    match &outcome.ended_early {
        None if lacking > 0 => {
            super::complain(&format!(
                "error: {lacking} of {} layers have no energy; the warnings say why",
                outcome.report.layers.len()
            ));
            Exit::Environment
        }
        None => written,
        Some(RecordError::Budget) => {
            super::complain(
                "the time budget ran out; the finished windows are kept, the same command goes on",
            );
            if lacking > 0 { Exit::Environment } else { written }
        }
        Some(RecordError::Stopped) => {
            super::complain("interrupted; the finished windows are kept, the same command goes on");
            Exit::Interrupted
        }
        Some(error) => {
            super::complain(&format!(
                "error: {error}\nthe finished windows are kept; when that is mended, the same command goes on"
            ));
            Exit::Environment
        }
    }
}

fn options(arguments: &ProfileArguments) -> anyhow::Result<ProfileOptions> {
    let Phase::Forward = arguments.phase;
    let seconds = |time: Option<Duration>| time.map(|t| Seconds::new(t.as_secs_f64()));
    Ok(ProfileOptions {
        network: arguments.network.clone(),
        set: arguments.set.clone(),
        batch: arguments.batch,
        fuse: arguments.fuse,
        device: device(&arguments.device, arguments.threads, &arguments.cuda)?,
        precision: arguments.precision,
        layout: arguments.layout,
        cache: arguments.cache,
        conv_algorithm: Some(arguments.conv_algo.clone()).filter(|name| name != "fastest"),
        meter: MeterChoice::parse(&arguments.meter),
        sysfs_root: arguments.sysfs.sysfs_root.clone(),
        nvml_lib: arguments.nvml.nvml_lib.clone(),
        timing: Timing {
            rounds: arguments.rounds,
            target: arguments
                .target
                .or(arguments.precise.then_some(0.01))
                .or(arguments.quick.then_some(QUICK)),
            window: seconds(arguments.window),
            settle: seconds(arguments.settle),
            warm_up: seconds(arguments.warm_up),
            budget: seconds(arguments.budget),
        },
        seed: arguments.seed,
        out: arguments.out.clone(),
        force: arguments.force,
        calibrations: arguments.calibrations.directory(),
    })
}

/// The device that `--device` names.
pub(super) fn device(
    text: &str,
    threads: Option<usize>,
    libraries: &CudaPath,
) -> anyhow::Result<DeviceChoice> {
    match text.split_once(':') {
        None if matches!(text, "auto" | "cpu") => Ok(DeviceChoice::Cpu { threads }),
        Some(("sim", name)) => {
            if threads.is_some() {
                return Err(WrongInput(format!(
                    "--threads: a simulated device has none; found --device {text}"
                ))
                .into());
            }
            let device = DeviceParameters::open(name)
                .map_err(|error| WrongInput(format!("--device {text}: {error}")))?;
            Ok(DeviceChoice::Sim { name: name.to_string(), device: Box::new(device) })
        }
        None if text == "cuda" => cuda(text, threads, libraries, 0),
        Some(("cuda", number)) => match number.parse() {
            Ok(ordinal) => cuda(text, threads, libraries, ordinal),
            Err(_) => Err(WrongInput(format!(
                "--device: expected cuda:N with a number from 0 on, found \"{text}\""
            ))
            .into()),
        },
        _ => {
            let expected =
                format!("auto, cpu, cuda, cuda:N, sim:FILE or sim:MODEL with one of {}", PRESETS.join(", "));
            Err(WrongInput(format!("--device: expected {expected}; found \"{text}\"")).into())
        }
    }
}

/// A GPU, if its libraries are there.
fn cuda(
    text: &str,
    threads: Option<usize>,
    libraries: &CudaPath,
    ordinal: usize,
) -> anyhow::Result<DeviceChoice> {
    if threads.is_some() {
        return Err(WrongInput("--threads: a GPU has none; leave it out".to_string()).into());
    }
    let cuda = libraries.require().with_context(|| {
        format!(
            "--device {text}: the libraries of CUDA cannot be used; use --device cpu or --device sim:h200"
        )
    })?;
    Ok(DeviceChoice::Cuda { ordinal, cuda })
}

/// Counts Ctrl-C and termination requests: the first ends the run in order, the second at once.
pub(super) fn count_interrupts() -> anyhow::Result<Arc<AtomicUsize>> {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    ctrlc::set_handler(move || {
        if seen.fetch_add(1, Ordering::Relaxed) > 0 {
            std::process::exit(130);
        }
        super::complain("stopping; once more ends at once");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(count)
}
