//! Own kernels before and after another operation: inputs brought into the order or size that it takes, and the bias
//! that it leaves out.

use std::fmt;
use std::rc::Rc;

use crate::backend::cuda::driver::Stream;
use crate::backend::cuda::failure::Failure;
use crate::backend::cuda::kernels::{FormError, Launch, Tensor, bias, reorder};
use crate::backend::cuda::operation::{Operation, Places};
use crate::backend::cuda::tensor::TensorForm;

use super::own::{Kernels, unfit};
use super::tools::Tools;

/// What begins at multiples of this many bytes is as well aligned as a buffer.
const ALIGNMENT: usize = 256;

/// What brings an input, from one address to another.
type Bringing = Rc<dyn Fn(u64, u64) -> Result<Vec<Launch>, FormError>>;

/// An input that is brought into scratch memory.
#[derive(Clone)]
pub(super) struct Stage {
    input: usize,
    bytes: usize,
    /// What is done, for the name.
    word: &'static str,
    form: TensorForm,
    bring: Bringing,
}

impl Stage {
    /// Input number `input`, brought into `form` by `bring`.
    pub(super) fn new(
        input: usize,
        word: &'static str,
        form: TensorForm,
        bring: impl Fn(u64, u64) -> Result<Vec<Launch>, FormError> + 'static,
    ) -> Self {
        let bytes = form.bytes().next_multiple_of(ALIGNMENT);
        Self { input, bytes, word, form, bring: Rc::new(bring) }
    }

    /// An input put into another order.
    pub(super) fn reorder(input: usize, from: &TensorForm, to: &TensorForm) -> Self {
        let (from, form) = (from.clone(), to.clone());
        let to = to.clone();
        Self::new(input, "reorder", form, move |x, y| {
            reorder(Tensor { form: &from, at: x }, Tensor { form: &to, at: y })
        })
    }
}

/// An operation whose inputs are brought into scratch memory first.
struct Staged {
    name: String,
    kernels: Rc<Kernels>,
    stages: Vec<Stage>,
    inner: Box<dyn Operation>,
}

/// The operation with its inputs brought first; itself where there is nothing to bring.
pub(super) fn staged(tools: &Tools, stages: &[Stage], inner: Box<dyn Operation>) -> Box<dyn Operation> {
    let Some(first) = stages.first() else { return inner };
    let name = format!("own {} + {}", first.word, inner.name());
    Box::new(Staged { name, kernels: Rc::clone(&tools.kernels), stages: stages.to_vec(), inner })
}

impl Staged {
    fn own_bytes(&self) -> usize {
        self.stages.iter().map(|stage| stage.bytes).sum()
    }
}

impl Operation for Staged {
    fn name(&self) -> &str {
        &self.name
    }

    fn workspace(&self) -> usize {
        self.own_bytes() + self.inner.workspace()
    }

    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure> {
        let mut inputs = places.inputs.to_vec();
        let mut to = places.workspace;
        for stage in &self.stages {
            let launches = (stage.bring)(inputs[stage.input], to).map_err(unfit)?;
            self.kernels.queue(stream, &launches, stage.form.precision)?;
            inputs[stage.input] = to;
            to += stage.bytes as u64;
        }
        self.inner.queue(stream, &Places { inputs: &inputs, workspace: to, ..*places })
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("name", &self.name).field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// An operation that leaves out the bias, and a kernel that adds it.
#[derive(Debug)]
struct Biased {
    name: String,
    kernels: Rc<Kernels>,
    axis: usize,
    output: TensorForm,
    parameter: usize,
    inner: Box<dyn Operation>,
}

/// The operation with its bias, the parameter of this number, added along an axis of the output's items.
pub(super) fn biased(
    tools: &Tools,
    axis: usize,
    output: &TensorForm,
    parameter: usize,
    inner: Box<dyn Operation>,
) -> Box<dyn Operation> {
    Box::new(Biased {
        name: format!("{} + own bias", inner.name()),
        kernels: Rc::clone(&tools.kernels),
        axis,
        output: output.clone(),
        parameter,
        inner,
    })
}

impl Operation for Biased {
    fn name(&self) -> &str {
        &self.name
    }

    fn workspace(&self) -> usize {
        self.inner.workspace()
    }

    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure> {
        self.inner.queue(stream, places)?;
        let y = Tensor { form: &self.output, at: places.output };
        let launch = bias(self.axis, places.parameters[self.parameter], y).map_err(unfit)?;
        self.kernels.queue(stream, &[launch], self.output.precision)
    }
}
