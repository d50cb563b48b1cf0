//! stub
use super::driver::{Gpu, Stream};
use super::failure::Failure;
use super::operation::{Job, Operation};
use super::tensor::TensorForm;
use crate::backend::BackendError;
use crate::network::Layer;
use crate::plan::Layout;
#[derive(Debug)]
pub(super) struct ToolOptions {
    pub(super) conv_algorithm: Option<String>,
}
#[derive(Debug)]
pub(super) struct Tools {
    gpu: Gpu,
    stream: Stream,
}
impl Tools {
    pub(super) fn open(gpu: &Gpu, stream: &Stream, _options: ToolOptions) -> Result<Self, Failure> {
        Ok(Self { gpu: gpu.clone(), stream: stream.clone() })
    }
    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }
}
pub(super) fn candidates(_t: &Tools, _j: &Job<'_>) -> Result<Vec<Box<dyn Operation>>, BackendError> {
    Ok(vec![])
}
pub(super) fn output_form(layer: &Layer, inputs: &[TensorForm], layout: Layout) -> TensorForm {
    TensorForm::new(inputs[0].batch, &layer.output, inputs[0].precision, layout)
}
