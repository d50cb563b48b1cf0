//! Networks: layers, how they are joined, their shapes and what they cost.
//!
//! A reader ([`read()`]) turns a file into a [`Definition`]; [`Network::new`] checks it, orders it, infers
//! every shape and counts operations, bytes and parameters. Nothing here runs anything.

mod build;
mod cost;
mod error;
mod layer;
mod onnx;
mod read;
mod same;
mod shape;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use cost::{Cost, Role};
pub use error::{NetworkError, Origin, Problem};
pub use layer::{Activation, Border, Conv, LayerKind, Linear, Lrn, Padding, Pool, Size2};
pub use onnx::definition as onnx_definition;
pub use read::{ReadError, parse, read};
pub use shape::{output_shape, shape_text};
pub(crate) use text::unknown;

/// The name by which layers refer to the network's input.
pub const INPUT: &str = "input";

/// The numbers of a stored tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Drawn from the seed when the network is prepared.
    Random,
    /// One number everywhere.
    Fill(f32),
    /// The numbers of the file, row-major.
    Stored(Arc<[f32]>),
}

/// A network as a file states it, before anything is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The network's name.
    pub name: String,
    /// The file, as the user named it.
    pub file: String,
    /// SHA-256 of the file's bytes, in hexadecimal.
    pub sha256: String,
    /// Shape of one input item, usually channels, height, width.
    pub input: Vec<usize>,
    /// Parameters of the file with the values in force.
    pub set: BTreeMap<String, i64>,
    /// Layers in file order.
    pub layers: Vec<LayerDefinition>,
}

/// A layer as a file states it.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerDefinition {
    /// Unique name.
    pub name: String,
    /// What it computes.
    pub kind: LayerKind,
    /// Names of the layers it reads, or [`INPUT`].
    pub inputs: Vec<String>,
    /// Where it stands in the file.
    pub origin: Origin,
    /// Stored tensors that the file has numbers for; the others are random.
    pub values: BTreeMap<Role, Values>,
    /// The padding of the window follows from the size of what the layer reads: as many windows as strides fit
    /// into it, rounded up. The padding in `kind` says nothing then.
    pub same_padding: bool,
}

/// Where a layer reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorRef {
    /// The network's input.
    Input,
    /// The output of the layer with this index.
    Layer(usize),
}

/// A stored tensor of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// What it is for.
    pub role: Role,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub values: Values,
}

impl Parameter {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A checked layer: inputs resolved, shapes and cost known.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Unique name.
    pub name: String,
    /// What it computes.
    pub kind: LayerKind,
    /// What it reads.
    pub inputs: Vec<TensorRef>,
    /// Shape of its output, the batch left out.
    pub output: Vec<usize>,
    /// Its stored tensors.
    pub parameters: Vec<Parameter>,
    /// Its cost for one item of the batch.
    pub cost: Cost,
}

impl Layer {
    /// Elements that training changes.
    pub fn trainable(&self) -> u64 {
        self.parameters.iter().filter(|p| p.role.trains()).map(|p| p.len() as u64).sum()
    }

    /// Elements that it keeps but training by gradient does not change.
    pub fn buffers(&self) -> u64 {
        self.parameters.iter().filter(|p| !p.role.trains()).map(|p| p.len() as u64).sum()
    }

    /// Least number of elements that one pass of `batch` items moves: inputs read, output written, parameters read
    /// once.
    pub fn elements(&self, batch: usize) -> u64 {
        let stored: u64 = self.parameters.iter().map(|p| p.len() as u64).sum();
        self.cost.activations.saturating_mul(batch as u64).saturating_add(stored)
    }
}

/// A checked network; layers stand in an order in which each reads only earlier ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The network's name.
    pub name: String,
    /// The file, as the user named it.
    pub file: String,
    /// SHA-256 of the file's bytes, in hexadecimal.
    pub sha256: String,
    /// Parameters of the file with the values in force.
    pub set: BTreeMap<String, i64>,
    /// Shape of one input item.
    pub input: Vec<usize>,
    /// Layers in order of execution.
    pub layers: Vec<Layer>,
}

impl Network {
    /// Elements that training changes.
    pub fn trainable(&self) -> u64 {
        self.layers.iter().map(Layer::trainable).sum()
    }

    /// Elements of moving statistics.
    pub fn buffers(&self) -> u64 {
        self.layers.iter().map(Layer::buffers).sum()
    }

    /// Shape of what a layer reads.
    pub fn shape(&self, tensor: TensorRef) -> &[usize] {
        match tensor {
            TensorRef::Input => &self.input,
            TensorRef::Layer(index) => &self.layers[index].output,
        }
    }
}
