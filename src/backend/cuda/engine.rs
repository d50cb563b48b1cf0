//! A GPU as a backend.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;

use crate::backend::{Backend, BackendError, BackendInfo, CacheUse, Executor, Mix, Tensors};
use crate::network::Network;
use crate::plan::{Plan, Precision};

use super::driver::{Gpu, Stream};
use super::executor::CudaExecutor;
use super::failure::Failure;
use super::libraries::{Cuda, LibraryKind};
use super::mixed::{Mixed, mixed};
use super::nvtx;
use super::operations::{ToolOptions, Tools};
use super::prepare::{Wishes, prepare};
use super::ways::{Way, ways};

/// What a stand-in for the driver has in the names of its devices, so that none of its runs passes for hardware's.
const STAND_IN: &str = "Emulated";

/// Which GPU computes, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CudaOptions {
    /// Its number among those that the driver shows.
    pub ordinal: usize,
    /// What replays find in the caches.
    pub cache: CacheUse,
    /// The only algorithm that convolutions may use; none for the fastest.
    pub conv_algorithm: Option<String>,
    /// Algorithms that an earlier part of the run used, by the plan's signatures: what it measured is measured on.
    pub algorithms: BTreeMap<String, String>,
}

/// A GPU of NVIDIA's, computing with cuDNN, cuBLASLt and own kernels.
#[derive(Debug)]
pub struct CudaBackend {
    /// Released unless the GPU hangs.
    tools: ManuallyDrop<Tools>,
    uuid: [u8; 16],
    capability: (u32, u32),
    options: CudaOptions,
}

impl CudaBackend {
    /// Opens a GPU on this thread; everything of it stays there.
    ///
    /// # Errors
    ///
    /// There is no such GPU, or driver and libraries cannot work with it.
    pub fn open(cuda: &Cuda, options: &CudaOptions) -> Result<Self, BackendError> {
        let on = |failure: Failure| failure.on(&format!("cuda:{}", options.ordinal));
        let count = Gpu::count(cuda).map_err(on)?;
        if options.ordinal >= count {
            let reason = match count {
                0 => "the driver shows no GPU; `nvidia-smi` says what it sees, and CUDA_VISIBLE_DEVICES hides some"
                    .to_string(),
                _ => format!("expected a GPU from cuda:0 to cuda:{}", count - 1),
            };
            return Err(BackendError::Device { device: format!("cuda:{}", options.ordinal), reason });
        }
        let gpu = Gpu::open(cuda, options.ordinal).map_err(on)?;
        let (uuid, capability) = (gpu.uuid().map_err(on)?, gpu.capability().map_err(on)?);
        let stream = Stream::new(&gpu).map_err(on)?;
        let chosen = ToolOptions { conv_algorithm: options.conv_algorithm.clone() };
        let tools = Tools::open(&gpu, &stream, chosen).map_err(on)?;
        Ok(Self { tools: ManuallyDrop::new(tools), uuid, capability, options: options.clone() })
    }

    /// The unique identifier that NVML knows it by.
    pub fn uuid(&self) -> String {
        uuid_text(self.uuid, self.gpu().name())
    }

    /// Every way of computing a step of a plan, each computed once over `inputs`: the whole batch of each tensor that it
    /// reads, row-major. For tests: profiles use the fastest way alone.
    ///
    /// # Errors
    ///
    /// The device failed, or cannot compute the step at all.
    pub fn ways(
        &self,
        network: &Network,
        plan: &Plan,
        tensors: &Tensors,
        step: usize,
        inputs: &[Vec<f32>],
    ) -> Result<Vec<Way>, BackendError> {
        supports(self.gpu().name(), self.capability, plan.precision)?;
        ways(&self.tools, network, plan, tensors, step, inputs)
    }

    /// What mixes of a plan's steps leave in each copy of their memory, run as windows run them. For tests.
    ///
    /// # Errors
    ///
    /// The device failed, or the plan cannot be prepared.
    pub fn mixed(
        &self,
        network: &Network,
        plan: &Plan,
        tensors: &Tensors,
        mixes: &[Mix],
    ) -> Result<Vec<Mixed>, BackendError> {
        mixed(&mut self.executor(network, plan, tensors)?, mixes)
    }

    fn executor(
        &self,
        network: &Network,
        plan: &Plan,
        tensors: &Tensors,
    ) -> Result<CudaExecutor, BackendError> {
        supports(self.gpu().name(), self.capability, plan.precision)?;
        let CudaOptions { cache, algorithms, .. } = &self.options;
        let wishes = Wishes { cache: *cache, algorithms, ranges: nvtx::ranges() };
        prepare(&self.tools, network, plan, tensors, wishes)
    }

    fn gpu(&self) -> &Gpu {
        self.tools.gpu()
    }
}

impl Backend for CudaBackend {
    fn info(&self) -> BackendInfo {
        let version = |kind| self.gpu().cuda().version(kind).map(|version| version.to_string());
        let of = |name: &str, kind| format!("{name} {}", version(kind).unwrap_or_default());
        BackendInfo {
            kind: "cuda",
            name: self.gpu().name().to_string(),
            uuid: Some(self.uuid()),
            engine: [of("cuDNN", LibraryKind::Cudnn), of("cuBLASLt", LibraryKind::CublasLt)].join(", "),
            threads: 1,
            cache: Some(self.options.cache),
            emulated: self.gpu().name().contains(STAND_IN),
            driver: None,
            cuda: self.gpu().cuda().built_for(LibraryKind::CublasLt).map(|version| version.to_string()),
            cudnn: version(LibraryKind::Cudnn),
        }
    }

    fn prepare(
        &self,
        network: &Network,
        plan: &Plan,
        tensors: &Tensors,
    ) -> Result<Box<dyn Executor>, BackendError> {
        Ok(Box::new(self.executor(network, plan, tensors)?))
    }
}

impl Drop for CudaBackend {
    fn drop(&mut self) {
        if !self.gpu().is_abandoned() {
            // SAFETY: dropped once, here, and not used after.
            unsafe { ManuallyDrop::drop(&mut self.tools) };
        }
    }
}

/// TF32 and bf16 came with compute capability 8.0 (CUDA Programming Guide, table of arithmetic by capability).
fn supports(device: &str, (major, minor): (u32, u32), precision: Precision) -> Result<(), BackendError> {
    let needed = match precision {
        Precision::F32 | Precision::F16 => return Ok(()),
        Precision::Tf32 | Precision::Bf16 => 8,
    };
    if major >= needed {
        return Ok(());
    }
    let reason = format!(
        "--precision {precision} needs compute capability {needed}.0, this GPU has {major}.{minor}; take f32 or f16"
    );
    Err(BackendError::Device { device: device.to_string(), reason })
}

/// The identifier as NVML and `nvidia-smi` write it. CUDA shows a slice of a GPU as a device of its own, which only its
/// name tells: "NVIDIA A100-SXM4-40GB MIG 1g.5gb".
fn uuid_text(bytes: [u8; 16], name: &str) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let [a, b, c, d, e] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    let kind = if name.split(' ').any(|word| word == "MIG") { "MIG" } else { "GPU" };
    format!("{kind}-{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_that_came_later_is_refused() {
        assert!(supports("T4", (7, 5), Precision::F16).is_ok());
        assert!(supports("A100", (8, 0), Precision::Bf16).is_ok());
        let error = supports("T4", (7, 5), Precision::Tf32).unwrap_err().to_string();
        assert_eq!(
            error,
            "T4: --precision tf32 needs compute capability 8.0, this GPU has 7.5; take f32 or f16"
        );
    }

    #[test]
    fn the_identifier_is_written_as_nvidia_smi_writes_it() {
        let bytes =
            [0x89, 0x32, 0xf9, 0x37, 0xd7, 0x2c, 0x41, 0x06, 0xc1, 0x2f, 0x20, 0xbd, 0x9f, 0xae, 0xd9, 0xf6];
        let text = |name| uuid_text(bytes, name);
        assert_eq!(text("NVIDIA H200"), "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6");
        assert_eq!(text("NVIDIA A100-SXM4-40GB MIG 1g.5gb"), "MIG-8932f937-d72c-4106-c12f-20bd9faed9f6");
    }
}
