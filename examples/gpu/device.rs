//! The devices of the GPU programs. `cpu` is there so that the programs can be tried without a GPU.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use layerjoule::backend::Backend;
use layerjoule::backend::cpu::CpuBackend;
use layerjoule::backend::cuda::{CudaBackend, CudaOptions, Libraries, Search};
use layerjoule::plan::{Layout, Precision};

/// Which device runs the layers.
#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArguments {
    /// cuda, cuda:N or cpu
    #[arg(long, default_value = "cuda")]
    device: String,
    /// Where NVIDIA's libraries are looked for first
    #[arg(long, value_name = "DIR")]
    cuda_path: Option<PathBuf>,
}

impl DeviceArguments {
    /// Opens the device.
    ///
    /// # Errors
    ///
    /// The name is none of a device, or the device cannot work here.
    pub(crate) fn open(&self) -> anyhow::Result<Box<dyn Backend>> {
        match self.device.split_once(':').unwrap_or((&self.device, "0")) {
            ("cpu", "0") => {
                let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                Ok(Box::new(CpuBackend::new(threads)?))
            }
            ("cuda", ordinal) => {
                let ordinal = ordinal
                    .parse()
                    .with_context(|| format!("--device cuda:N: expected a number, found \"{ordinal}\""))?;
                cuda(ordinal, self.cuda_path.as_deref())
            }
            _ => bail!("--device: expected cuda, cuda:N or cpu, found \"{}\"", self.device),
        }
    }
}

/// The one place where these programs open a GPU.
fn cuda(ordinal: usize, path: Option<&Path>) -> anyhow::Result<Box<dyn Backend>> {
    let cuda = Libraries::load(&Search::here(path)?).cuda()?;
    Ok(Box::new(CudaBackend::open(&cuda, &CudaOptions { ordinal, ..CudaOptions::default() })?))
}

/// Reads the name of a precision.
pub(crate) fn precision(text: &str) -> anyhow::Result<Precision> {
    let found = Precision::ALL.into_iter().find(|precision| precision.name() == text);
    found.with_context(|| {
        format!(
            "precision: expected one of {}, found \"{text}\"",
            Precision::ALL.map(Precision::name).join(", ")
        )
    })
}

/// Reads the name of a layout.
pub(crate) fn layout(text: &str) -> anyhow::Result<Layout> {
    let found = [Layout::Nchw, Layout::Nhwc].into_iter().find(|layout| layout.name() == text);
    found.with_context(|| format!("layout: expected nchw or nhwc, found \"{text}\""))
}
