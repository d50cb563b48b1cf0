//! NVIDIA's management library and the GPUs that it knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nvml_wrapper::error::{NvmlError, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlFieldValue_t, nvmlValue_t, nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
};

use super::super::interface::ReadError;
use super::super::refusal::{Cause, Refusal};
use crate::units::Watts;

/// The file that NVIDIA's driver installs; found on the loader's search path.
pub const DEFAULT_LIBRARY: &str = "libnvidia-ml.so.1";

/// What a stand-in for the library has in its driver version, so that no reading of it passes for hardware's.
const STAND_IN: &str = "stand-in";

/// The opened library. It stays open as long as one of its GPUs is in use.
#[derive(Debug)]
pub struct NvmlLibrary {
    nvml: Nvml,
    driver: Option<String>,
}

impl NvmlLibrary {
    /// Opens a file, or the library that the driver installed.
    ///
    /// # Errors
    ///
    /// There is no such library, or it finds no driver, or this user may not use it.
    pub fn open(file: Option<&Path>) -> Result<Arc<Self>, Refusal> {
        let opened = match file {
            None => Nvml::init(),
            Some(file) => Nvml::builder().lib_path(checked(file)?.as_os_str()).init(),
        };
        let name = file.map_or_else(|| DEFAULT_LIBRARY.to_string(), |file| file.display().to_string());
        let nvml = opened.map_err(|error| match error {
            NvmlError::LibloadingError(error) => {
                let text = error.to_string();
                let text = if text.contains(&name) { text } else { format!("{name}: {text}") };
                Refusal::new(Cause::NoNvml, text)
            }
            NvmlError::FailedToLoadSymbol(_) => {
                Refusal::new(Cause::NoNvml, format!("{name}: has no function nvmlInit_v2, so it is not NVML"))
            }
            error => refusal(&name, &error),
        })?;
        let driver = nvml.sys_driver_version().ok();
        Ok(Arc::new(Self { nvml, driver }))
    }

    /// The version of the driver, where it tells.
    pub fn driver(&self) -> Option<&str> {
        self.driver.as_deref()
    }

    /// Whether the library says that it is a stand-in: its driver version contains "stand-in". A file named by
    /// `--nvml-lib` may well be the real one, so the place of the file decides nothing.
    pub fn is_stand_in(&self) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.contains(STAND_IN))
    }

    /// The GPUs in the order of their numbers; one that cannot be asked has the reason in its place.
    ///
    /// # Errors
    ///
    /// The library cannot list them, or there is none.
    pub fn gpus(self: &Arc<Self>) -> Result<Vec<Result<Gpu, Refusal>>, Refusal> {
        let count = self.nvml.device_count().map_err(|error| refusal("the list of GPUs", &error))?;
        if count == 0 {
            return Err(Refusal::new(Cause::NoGpu, "the driver works and knows no GPU"));
        }
        Ok((0..count).map(|index| Gpu::open(self, index)).collect())
    }
}

/// The absolute path of a library that is a file. A bare name would be searched for elsewhere, and a pipe would be
/// waited for.
fn checked(file: &Path) -> Result<PathBuf, Refusal> {
    let no = |reason: &str| Refusal::new(Cause::NoNvml, format!("{}: {reason}", file.display()));
    let path = std::fs::canonicalize(file).map_err(|error| no(&error.to_string()))?;
    if path.is_file() { Ok(path) } else { Err(no("expected a file")) }
}

/// A GPU.
#[derive(Debug, Clone)]
pub struct Gpu {
    library: Arc<NvmlLibrary>,
    handle: nvmlDevice_t,
    index: u32,
    name: String,
    uuid: String,
}

impl Gpu {
    fn open(library: &Arc<NvmlLibrary>, index: u32) -> Result<Self, Refusal> {
        let at = |error| refusal(&format!("GPU {index}"), &error);
        let device = library.nvml.device_by_index(index).map_err(at)?;
        let (name, uuid) = (device.name().map_err(at)?, device.uuid().map_err(at)?);
        // SAFETY: it is only handed back to the library that it is from, which `library` keeps open.
        let handle = unsafe { device.handle() };
        Ok(Self { library: Arc::clone(library), handle, index, name, uuid })
    }

    /// Its number, which counts from 0 in the order of the bus. CUDA may count otherwise: compare UUIDs.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The product's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its UUID, such as `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The library that knows it.
    pub fn library(&self) -> &NvmlLibrary {
        &self.library
    }

    /// The board in messages: `GPU 0 (NVIDIA H200)`.
    pub fn label(&self) -> String {
        format!("GPU {} ({})", self.index, self.name)
    }

    pub(super) fn device(&self) -> Device<'_> {
        // SAFETY: the handle is from this library, which is still open.
        unsafe { Device::new(self.handle, &self.library.nvml) }
    }

    /// The power that a field shows for a scope of the board. The wrapper always asks for the whole GPU and allocates,
    /// so this calls the library itself.
    pub(super) fn power(&self, field: u32, scope: u32) -> Result<Watts, NvmlError> {
        let call = self.library.nvml.lib().nvmlDeviceGetFieldValues.as_ref();
        let call = call.map_err(|error| NvmlError::FailedToLoadSymbol(error.to_string()))?;
        let mut answer = nvmlFieldValue_t {
            fieldId: field,
            scopeId: scope,
            timestamp: 0,
            latencyUsec: 0,
            valueType: 0,
            nvmlReturn: 0,
            value: nvmlValue_t { ullVal: 0 },
        };
        // SAFETY: the handle is from this library, which is still open, and there is room for the one answer.
        nvml_try(unsafe { call(self.handle, 1, &raw mut answer) })?;
        nvml_try(answer.nvmlReturn)?;
        let milliwatts = match answer.valueType {
            #[allow(non_upper_case_globals, reason = "the name is that of nvml.h")]
            nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT => {
                // SAFETY: the library says that this is the member it wrote; any bits are a number.
                f64::from(unsafe { answer.value.uiVal })
            }
            #[allow(non_upper_case_globals, reason = "the name is that of nvml.h")]
            nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG => {
                // SAFETY: as above.
                (unsafe { answer.value.ullVal }) as f64
            }
            other => return Err(NvmlError::UnexpectedVariant(other)),
        };
        Ok(Watts::new(milliwatts * 1e-3))
    }
}

/// What stands behind an error that a GPU gave before anything was measured.
pub(super) fn refusal(what: &str, error: &NvmlError) -> Refusal {
    let cause = match error {
        NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch | NvmlError::LibraryNotFound => {
            Cause::NvidiaDriver
        }
        NvmlError::NoPermission | NvmlError::OperatingSystem => Cause::NvmlDenied,
        NvmlError::NotFound | NvmlError::InvalidArg => Cause::NoGpu,
        NvmlError::GpuLost | NvmlError::ResetRequired => Cause::GpuLost,
        NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_) => {
            Cause::NotOnThisGpu
        }
        _ => Cause::Broken,
    };
    Refusal::new(cause, format!("{what}: {error}"))
}

/// What an error in the middle of a run means for its reader.
pub(super) fn read_error(meter: &str, error: &NvmlError) -> ReadError {
    let text = format!("{meter}: {error}");
    match error {
        // These pass by themselves; one that does not ends the run when nothing has been read for long.
        NvmlError::Timeout
        | NvmlError::NoData
        | NvmlError::InUse
        | NvmlError::InsufficientMemory
        | NvmlError::Unknown => ReadError::Retry(text),
        _ => ReadError::Gone(text),
    }
}
