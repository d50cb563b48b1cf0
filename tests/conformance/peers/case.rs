//! One recorded test: a model with its inputs and outputs.

use std::path::Path;

use rten_onnx::onnx::{DataType, ModelProto, TensorProto};
use rten_onnx::protobuf::{DecodeMessage, ValueReader};

/// A model with what goes in and what must come out.
pub(super) struct Case {
    pub(super) model: Vec<u8>,
    /// In the order of the graph's inputs, under their names.
    pub(super) inputs: Vec<TensorProto>,
    /// The graph's first output.
    pub(super) output: Numbers,
}

/// A tensor of f32, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

impl Case {
    /// Reads a folder with `model.onnx` and `test_data_set_0`.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join("model.onnx");
        let parsed = model(&path)?;
        let graph = parsed.graph.as_ref().ok_or("the model has no graph")?;
        let set = folder.join("test_data_set_0");
        let stored = |name: &Option<String>| graph.initializer.iter().any(|tensor| tensor.name == *name);
        let names = graph.input.iter().filter(|info| !stored(&info.name));
        let inputs = names.enumerate().map(|(index, info)| {
            let mut tensor = tensor(&set.join(format!("input_{index}.pb")))?;
            tensor.name = info.name.clone();
            Ok::<_, String>(tensor)
        });
        let inputs = inputs.collect::<Result<_, _>>()?;
        let output = Numbers::read(&set.join("output_0.pb"))?;
        let model = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { model, inputs, output })
    }
}

pub(super) fn model(path: &Path) -> Result<ModelProto, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    ModelProto::parse_buf(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn tensor(path: &Path) -> Result<TensorProto, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    TensorProto::decode(ValueReader::from_buf(&bytes)).map_err(|error| format!("{}: {error}", path.display()))
}

impl Numbers {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        Self::of(&tensor(path)?)
    }

    /// The numbers of a tensor of f32; other types are no concern of the engine.
    pub(super) fn of(tensor: &TensorProto) -> Result<Self, String> {
        let data_type = tensor.data_type.unwrap_or(DataType(0));
        if data_type != DataType::FLOAT {
            return Err(format!("a tensor of type {data_type}, not FLOAT"));
        }
        let shape: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d).unwrap()).collect();
        let values: Vec<f32> = match &tensor.raw_data {
            Some(raw) => raw.borrow().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            None => tensor.float_data.clone(),
        };
        if values.len() != shape.iter().product::<usize>() {
            return Err(format!("{} numbers for shape {shape:?}", values.len()));
        }
        Ok(Self { name: tensor.name.clone().unwrap_or_default(), shape, values })
    }
}
