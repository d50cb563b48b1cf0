//! One engine of the graph interface with its settings, ready to run.

use std::ffi::c_void;

use cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendDescriptorType_t as Kind,
    cudnnBackendNumericalNote_t as Numerical,
};

use crate::backend::cuda::driver::Stream;
use crate::backend::cuda::failure::Failure;
use crate::plan::Precision;

use super::backend::{Descriptor, Knob, Note};
use super::call::done;
use super::forward::at;
use super::handle::Cudnn;

/// What all engines of a graph share.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    /// Its tensors, in the order of their addresses.
    pub(super) ids: Vec<i64>,
    /// How it may compute.
    pub(super) precision: Precision,
}

/// An engine that computes a graph.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Engine {
    plan: Descriptor,
    ids: Vec<i64>,
    workspace: usize,
    name: String,
    // Dropped last: the plan was made with its handle.
    cudnn: Cudnn,
}

/// Addresses of a graph's tensors: input, filters, output, and the bias where the graph adds it.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend::cuda) struct Sources {
    pub(in crate::backend::cuda) x: u64,
    pub(in crate::backend::cuda) filter: u64,
    pub(in crate::backend::cuda) y: u64,
    pub(in crate::backend::cuda) bias: Option<u64>,
    pub(in crate::backend::cuda) workspace: u64,
}

/// More notes and knobs than any version of the library has.
const MOST: usize = 64;

impl Engine {
    /// The engine of a configuration, by its place in the list of proposals; none where it computes otherwise than asked
    /// for.
    pub(super) fn new(
        cudnn: &Cudnn,
        configuration: Descriptor,
        place: usize,
        parts: &Parts,
    ) -> Result<Option<Self>, Failure> {
        let kind = Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR;
        let engines = configuration.get_descriptors(Name::CUDNN_ATTR_ENGINECFG_ENGINE, kind, 1)?;
        let missing = || Failure::refused("cudnnBackendGetAttribute", "a configuration without an engine");
        let engine = engines.first().ok_or_else(missing)?;
        let notes = engine.get::<Note>(Name::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, MOST)?;
        if !notes.iter().all(|note| allows(parts.precision, note.0)) {
            return Ok(None);
        }
        let index = engine.get_one::<i64>(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)?;
        // A name without settings is better than no engine, as long as it is no other's.
        let name = match knobs(&configuration) {
            Ok(knobs) => name(index, &knobs),
            Err(_) => format!("{} (proposal {place})", name(index, &[])),
        };
        let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
        plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, &[cudnn.raw()])?;
        plan.set_descriptors(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[&configuration])?;
        let plan = plan.finalize()?;
        let workspace = plan.get_one::<i64>(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
        Ok(Some(Self {
            cudnn: cudnn.clone(),
            plan,
            ids: parts.ids.clone(),
            workspace: usize::try_from(workspace).unwrap_or(usize::MAX),
            name,
        }))
    }

    /// The engine's number and its settings, as cuDNN counts both.
    pub(in crate::backend::cuda) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of scratch memory.
    pub(in crate::backend::cuda) fn workspace(&self) -> usize {
        self.workspace
    }

    /// Queues one execution.
    pub(in crate::backend::cuda) fn queue(&self, stream: &Stream, sources: &Sources) -> Result<(), Failure> {
        let handle = self.cudnn.on(stream)?;
        let addresses: Vec<*mut c_void> =
            [sources.x, sources.filter, sources.y].into_iter().chain(sources.bias).map(at).collect();
        if addresses.len() != self.ids.len() {
            let text = format!("expected {} addresses, found {}", self.ids.len(), addresses.len());
            return Err(Failure::refused("cudnnBackendExecute", text));
        }
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &self.ids)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, &addresses)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[at(sources.workspace)])?;
        let pack = pack.finalize()?;
        // SAFETY: handle, plan and pack live; whoever queues holds memory of the tensors' sizes at the addresses.
        let status = unsafe { sys::cudnnBackendExecute(handle, self.plan.raw(), pack.raw()) };
        done("cudnnBackendExecute", status)
    }
}

/// Whether an engine with a note may compute in a precision.
///
/// Compute type f32 alone does not forbid TF32: an engine for f32 tensors that runs on tensor cores rounds products to
/// TF32, or to less, and says so by the notes TENSOR_CORE and DOWN_CONVERT_INPUTS. So f32 takes neither, and no precision
/// takes inputs rounded to less than they are stored as, nor sums in less than f32. The transforms of Winograd and
/// Fourier are exact enough in f32 only, and those of tiles of 13 x 13 nowhere (cudnn_graph Library,
/// `cudnnBackendNumericalNote_t`).
fn allows(precision: Precision, note: u32) -> bool {
    let is = |numerical: Numerical| note == numerical as u32;
    let less = [
        Numerical::CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS,
        Numerical::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
        Numerical::CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13,
    ];
    let transforms = [
        Numerical::CUDNN_NUMERICAL_NOTE_FFT,
        Numerical::CUDNN_NUMERICAL_NOTE_WINOGRAD,
        Numerical::CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4,
        Numerical::CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6,
    ];
    let tensor_core = is(Numerical::CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
    !(less.into_iter().any(is)
        || precision == Precision::F32 && tensor_core
        || precision.bytes() == 2 && transforms.into_iter().any(is))
}

/// The settings of a configuration: kind and value.
fn knobs(configuration: &Descriptor) -> Result<Vec<(u32, i64)>, Failure> {
    let kind = Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR;
    let choices = configuration.get_descriptors(Name::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, kind, MOST)?;
    let read = |choice: &Descriptor| {
        let Knob(kind) = choice.get_one(Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE)?;
        Ok((kind, choice.get_one(Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE)?))
    };
    choices.iter().map(read).collect()
}

/// `cudnn engine 57 (k2=10 k3=0)`: the engine's number, and each setting by the number of its kind, which stay the same
/// from version to version while their names do not.
fn name(index: i64, knobs: &[(u32, i64)]) -> String {
    let mut sorted = knobs.to_vec();
    sorted.sort_unstable();
    let settings: Vec<String> = sorted.iter().map(|(kind, value)| format!("k{kind}={value}")).collect();
    match settings.as_slice() {
        [] => format!("cudnn engine {index}"),
        settings => format!("cudnn engine {index} ({})", settings.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENSOR_CORE: u32 = 0;
    const DOWN_CONVERT: u32 = 1;
    const REDUCED_REDUCTION: u32 = 2;
    const WINOGRAD: u32 = 5;
    const WINOGRAD_13X13: u32 = 8;

    #[test]
    fn f32_takes_no_tensor_cores_and_the_others_do() {
        assert!(!allows(Precision::F32, TENSOR_CORE));
        for precision in [Precision::Tf32, Precision::F16, Precision::Bf16] {
            assert!(allows(precision, TENSOR_CORE), "{precision}");
        }
    }

    #[test]
    fn no_precision_takes_less_than_it_asks_for() {
        for precision in Precision::ALL {
            for note in [DOWN_CONVERT, REDUCED_REDUCTION, WINOGRAD_13X13] {
                assert!(!allows(precision, note), "{precision} {note}");
            }
        }
        assert!(allows(Precision::F32, WINOGRAD) && !allows(Precision::Bf16, WINOGRAD));
    }

    #[test]
    fn a_note_of_a_later_version_is_no_obstacle() {
        assert!(allows(Precision::F16, 40));
    }

    #[test]
    fn an_engine_is_named_by_its_number_and_settings() {
        assert_eq!(name(57, &[(3, 0), (2, 10)]), "cudnn engine 57 (k2=10 k3=0)");
        assert_eq!(name(0, &[]), "cudnn engine 0");
    }
}
