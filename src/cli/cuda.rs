//! What `doctor` and `profile` say of CUDA.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::backend::cuda::libraries::{CudaError, Library, LibraryError, LibraryKind, Remedy, list};
use crate::backend::cuda::{Cuda, Libraries, Search};

use super::exit::WrongInput;
use super::page::Page;

/// Where NVIDIA's libraries are looked for first.
#[derive(Debug, clap::Args)]
pub(super) struct CudaPath {
    /// Takes the libraries of CUDA and cuDNN from DIR where it has them: a toolkit, a folder of libraries, a Python
    /// environment [default: LAYERJOULE_CUDA_PATH, then the usual places]
    #[arg(long, value_name = "DIR")]
    cuda_path: Option<PathBuf>,
}

impl CudaPath {
    fn load(&self) -> Result<Libraries, WrongInput> {
        let search =
            Search::here(self.cuda_path.as_deref()).map_err(|error| WrongInput(error.to_string()))?;
        Ok(Libraries::load(&search))
    }

    /// Loads the libraries, all or none.
    ///
    /// # Errors
    ///
    /// `--cuda-path` is wrong ([`WrongInput`]), or a library is missing or unfit ([`CudaError`]).
    pub(super) fn require(&self) -> anyhow::Result<Cuda> {
        for (name, value, effect) in CHANGING {
            if std::env::var(name).is_ok_and(|found| found == *value) {
                let text = format!("{name}={value} {effect}; unset it");
                return Err(WrongInput(text).into());
            }
        }
        Ok(self.load()?.cuda()?)
    }
}

/// Variables that change what CUDA does so that the numbers would mean something else, with the value that does.
const CHANGING: &[(&str, &str, &str)] = &[
    (
        "CUDA_LAUNCH_BLOCKING",
        "1",
        "makes the GPU wait for the host between launches, and its idling would be measured",
    ),
    ("NVIDIA_TF32_OVERRIDE", "0", "turns tf32 into f32 without a word"),
    ("CUBLAS_EMULATE_SINGLE_PRECISION", "1", "makes f32 products of bf16 ones without a word"),
];

/// What was found of CUDA.
pub(super) struct CudaDiagnosis {
    libraries: Libraries,
    /// The GPUs that the driver shows, or what it says; or why it was not asked.
    gpus: Result<Result<Vec<String>, String>, CudaError>,
    /// Whether a GPU of NVIDIA's is on the PCI bus; none if that cannot be seen.
    on_pci: Option<bool>,
}

impl CudaDiagnosis {
    pub(super) fn of(path: &CudaPath, sysfs_root: &Path) -> Result<Self, WrongInput> {
        let libraries = path.load()?;
        let gpus = libraries.cuda().map(|cuda| cuda.gpus());
        Ok(Self { libraries, gpus, on_pci: on_pci(sysfs_root) })
    }

    fn nothing_found(&self) -> bool {
        self.libraries.missing().len() == LibraryKind::ALL.len()
    }

    fn unfit(&self) -> Vec<LibraryKind> {
        let unfit = |library: &&Library| matches!(library.found, Err(LibraryError::Refused(_)));
        self.libraries.all.iter().filter(unfit).map(|library| library.kind).collect()
    }

    /// The GPUs, if there are any to compute with.
    fn working(&self) -> Option<&[String]> {
        let gpus = self.gpus.as_ref().ok()?.as_ref().ok()?;
        (!gpus.is_empty()).then_some(gpus.as_slice())
    }

    /// Why it does not work, in one sentence.
    fn reason(&self) -> String {
        match &self.gpus {
            Ok(Ok(_)) => "libraries and driver are there, but the driver shows no GPU; `nvidia-smi` says what it sees, \
                          and CUDA_VISIBLE_DEVICES hides some"
                .to_string(),
            Ok(Err(why)) => why.clone(),
            Err(_) => {
                let mut texts = Vec::new();
                let missing = self.libraries.missing();
                if !missing.is_empty() {
                    texts.push(format!("{} not found", list(&missing)));
                }
                let unfit = self.unfit();
                if !unfit.is_empty() {
                    texts.push(format!("{} found but unfit", list(&unfit)));
                }
                if self.on_pci == Some(false) {
                    texts.push("no NVIDIA GPU on the PCI bus".to_string());
                }
                texts.join("; ")
            }
        }
    }

    /// The lines below `Devices`.
    pub(super) fn device(&self, page: &mut Page) {
        if let Some(gpus) = self.working() {
            page.line("  cuda: works");
            for (ordinal, name) in gpus.iter().enumerate() {
                page.entry(&format!("cuda:{ordinal}"), name);
            }
            return;
        }
        page.line("  cuda: does not work");
        page.entry("why", &self.reason());
        let missing = self.libraries.missing();
        if !missing.is_empty() {
            page.entry("looked", &self.libraries.places.join("; "));
            show(page, self.libraries.remedies(&missing));
        }
    }

    /// The section of the libraries; nothing where none was found, which is said already.
    pub(super) fn libraries(&self, page: &mut Page) {
        if self.nothing_found() {
            return;
        }
        page.line("\nLibraries of CUDA");
        for library in &self.libraries.all {
            let kind = library.kind;
            match &library.found {
                Ok(found) => {
                    let coded = [LibraryKind::Cudnn, LibraryKind::Cublas, LibraryKind::CublasLt];
                    let cuda = if coded.contains(&kind) {
                        format!(", for CUDA {}", found.cuda)
                    } else {
                        String::new()
                    };
                    page.line(&format!("  {kind}: {}{cuda}", found.version));
                    page.path("file", &found.path);
                    page.entry("found by", &found.rule.to_string());
                }
                Err(LibraryError::Missing) => page.line(&format!("  {kind}: not found")),
                Err(LibraryError::Refused(refused)) => {
                    page.line(&format!("  {kind}: does not work"));
                    page.path("file", &refused.path);
                    page.entry("found by", &refused.rule.to_string());
                    page.entry("why", &refused.fault.to_string());
                    show(page, self.libraries.remedies(&[kind]));
                }
            }
            for refused in &library.passed_over {
                page.entry("not", &refused.to_string());
            }
        }
    }

    pub(super) fn device_json(&self) -> Value {
        let gpus = self.gpus.as_ref().ok().and_then(|gpus| gpus.as_ref().ok());
        let reason = self.working().is_none().then(|| self.reason());
        json!({"kind": "cuda", "works": reason.is_none(), "reason": reason, "gpus": gpus})
    }

    pub(super) fn libraries_json(&self) -> Value {
        let of = |library: &Library| {
            let mends = |failed: bool| -> Vec<Value> {
                let remedies = if failed { self.libraries.remedies(&[library.kind]) } else { Vec::new() };
                remedies.iter().map(|r| json!({"command": r.command, "effect": r.effect})).collect()
            };
            let passed_over: Vec<String> = library.passed_over.iter().map(ToString::to_string).collect();
            let mut value = match &library.found {
                Ok(found) => json!({
                    "version": found.version.to_string(), "cuda": found.cuda.to_string(), "path": found.path,
                    "found_by": found.rule.to_string(), "status": "loaded", "reason": null,
                }),
                Err(LibraryError::Missing) => json!({
                    "version": null, "cuda": null, "path": null, "found_by": null, "status": "missing",
                    "reason": format!("not found; looked at: {}", self.libraries.places.join("; ")),
                }),
                Err(LibraryError::Refused(refused)) => json!({
                    "version": null, "cuda": null, "path": refused.path, "found_by": refused.rule.to_string(),
                    "status": "unfit", "reason": refused.fault.to_string(),
                }),
            };
            value["name"] = json!(library.kind.to_string());
            value["passed_over"] = json!(passed_over);
            value["mends"] = json!(mends(library.found.is_err()));
            value
        };
        self.libraries.all.iter().map(of).collect()
    }

    #[cfg(test)]
    pub(super) fn nothing() -> Self {
        let search = Search::new(None, &|_| None, Path::new("/nowhere")).expect("nothing is given");
        let libraries = Libraries::load(&search);
        let gpus = libraries.cuda().map(|cuda| cuda.gpus());
        Self { libraries, gpus, on_pci: None }
    }
}

fn show(page: &mut Page, remedies: Vec<Remedy>) {
    for remedy in remedies {
        page.mend("mend", remedy.command.as_deref(), &remedy.effect);
    }
}

/// Whether a display controller (class 03 of the PCI code assignment) of vendor 10de is on the bus.
fn on_pci(sysfs_root: &Path) -> Option<bool> {
    let devices = fs::read_dir(sysfs_root.join("bus/pci/devices")).ok()?;
    let is_gpu = |device: &Path| {
        let begins = |file: &str, start: &str| {
            fs::read_to_string(device.join(file)).is_ok_and(|text| text.starts_with(start))
        };
        begins("vendor", "0x10de") && begins("class", "0x03")
    };
    Some(devices.flatten().any(|entry| is_gpu(&entry.path())))
}
