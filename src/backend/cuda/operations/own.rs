//! Own kernels: compiled and loaded once for each family and storage type, and operations made of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use crate::backend::cuda::driver::{Function, Gpu, Module, Stream};
use crate::backend::cuda::failure::{Failure, Severity};
use crate::backend::cuda::kernels::{CompileError, Family, FormError, Launch, compile};
use crate::backend::cuda::operation::{Operation, Places};
use crate::plan::Precision;

use super::tools::Tools;

/// The own kernels on a GPU, compiled when they are first asked for.
#[derive(Debug)]
pub(super) struct Kernels {
    gpu: Gpu,
    capability: (u32, u32),
    modules: RefCell<HashMap<(Family, Precision), Module>>,
    functions: RefCell<HashMap<(&'static str, Precision), Function>>,
}

impl Kernels {
    pub(super) fn open(gpu: &Gpu) -> Result<Self, Failure> {
        Ok(Self {
            gpu: gpu.clone(),
            capability: gpu.capability()?,
            modules: RefCell::default(),
            functions: RefCell::default(),
        })
    }

    /// The kernel of a launch, for numbers stored in this precision.
    fn function(&self, launch: &Launch, precision: Precision) -> Result<Function, Failure> {
        // Both store f32, which is all that the kernels see of them.
        let precision = if precision == Precision::Tf32 { Precision::F32 } else { precision };
        if let Some(function) = self.functions.borrow().get(&(launch.kernel, precision)) {
            return Ok(function.clone());
        }
        let function = self.module(launch.family, precision)?.function(launch.kernel)?;
        self.functions.borrow_mut().insert((launch.kernel, precision), function.clone());
        Ok(function)
    }

    fn module(&self, family: Family, precision: Precision) -> Result<Module, Failure> {
        if let Some(module) = self.modules.borrow().get(&(family, precision)) {
            return Ok(module.clone());
        }
        let code =
            compile(self.gpu.cuda().nvrtc(), family, precision, self.capability).map_err(uncompiled)?;
        let module = Module::load(&self.gpu, code.bytes())?;
        self.modules.borrow_mut().insert((family, precision), module.clone());
        Ok(module)
    }

    /// Makes sure that launches need no compilation any more.
    fn prepare(&self, launches: &[Launch], precision: Precision) -> Result<(), Failure> {
        launches.iter().try_for_each(|launch| self.function(launch, precision).map(drop))
    }

    /// Queues launches one after the other.
    pub(super) fn queue(
        &self,
        stream: &Stream,
        launches: &[Launch],
        precision: Precision,
    ) -> Result<(), Failure> {
        launches.iter().try_for_each(|launch| {
            let function = self.function(launch, precision)?;
            function.launch(stream, launch.grid, launch.block, &mut launch.values())
        })
    }
}

/// The family's text is ours and tested with real compilers: that it does not compile is no refusal.
fn uncompiled(error: CompileError) -> Failure {
    Failure {
        severity: Severity::Broken,
        function: "nvrtcCompileProgram",
        name: "own kernel".to_string(),
        text: error.to_string(),
    }
}

/// A tensor that no own kernel takes as it lies.
pub(super) fn unfit(error: FormError) -> Failure {
    Failure::refused("own kernel", error.to_string())
}

/// What an operation launches for given addresses.
pub(super) type Launches = Box<dyn Fn(&Places<'_>) -> Result<Vec<Launch>, FormError>>;

/// An operation of own kernels alone.
pub(super) struct Own {
    name: String,
    kernels: Rc<Kernels>,
    precision: Precision,
    launches: Launches,
}

/// An address like any that buffers have, to find out which kernels an operation needs.
const SOME_ADDRESS: u64 = 1 << 20;

impl Own {
    /// An operation named `own` and its kind.
    ///
    /// # Errors
    ///
    /// No kernel takes the tensors as they lie, or none can be compiled.
    pub(super) fn operation(
        tools: &Tools,
        kind: &str,
        precision: Precision,
        launches: impl Fn(&Places<'_>) -> Result<Vec<Launch>, FormError> + 'static,
    ) -> Result<Box<dyn Operation>, Failure> {
        let own = Self {
            name: format!("own {kind}"),
            kernels: Rc::clone(&tools.kernels),
            precision,
            launches: Box::new(launches),
        };
        // As many addresses as any layer has.
        let addresses = [SOME_ADDRESS; 256];
        let places = Places {
            inputs: &addresses,
            parameters: &addresses,
            output: SOME_ADDRESS,
            workspace: SOME_ADDRESS,
        };
        let first = (own.launches)(&places).map_err(unfit)?;
        own.kernels.prepare(&first, precision)?;
        Ok(Box::new(own))
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Operation for Own {
    fn name(&self) -> &str {
        &self.name
    }

    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure> {
        let launches = (self.launches)(places).map_err(unfit)?;
        self.kernels.queue(stream, &launches, self.precision)
    }
}
