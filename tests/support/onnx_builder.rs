//! Builds small ONNX files with rten-onnx's writer.

use std::cell::RefCell;

use rten_onnx::onnx::{
    AttributeProto, AttributeType, DataType, Dimension, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
};

/// A size of the input: a number or a symbol.
#[derive(Clone, Copy)]
pub(crate) enum Dim {
    Known(i64),
    Symbol(&'static str),
}

/// A model with one float input `x`.
pub(crate) struct Model {
    pub(crate) proto: ModelProto,
}

impl Model {
    /// Input `x` of shape N x `item`, output `y`.
    pub(crate) fn new(opset: i64, item: &[i64]) -> Self {
        let dims: Vec<Dim> =
            [Dim::Symbol("N")].into_iter().chain(item.iter().map(|&d| Dim::Known(d))).collect();
        Self::with_input(opset, &dims)
    }

    pub(crate) fn with_input(opset: i64, dims: &[Dim]) -> Self {
        let graph = GraphProto {
            input: vec![info("x", DataType::FLOAT, dims)],
            output: vec![info("y", DataType::FLOAT, &[])],
            ..Default::default()
        };
        let version = OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) };
        let proto = ModelProto {
            ir_version: Some(8),
            graph: Some(graph),
            opset_import: vec![version],
            ..Default::default()
        };
        Self { proto }
    }

    pub(crate) fn graph(&mut self) -> &mut GraphProto {
        self.proto.graph.as_mut().unwrap()
    }

    /// An initializer in the typed field.
    pub(crate) fn floats(mut self, name: &str, dims: &[i64], data: &[f32]) -> Self {
        self.graph().initializer.push(floats(name, dims, data));
        self
    }

    pub(crate) fn ints(mut self, name: &str, data: &[i64]) -> Self {
        self.graph().initializer.push(ints(name, &[data.len() as i64], data));
        self
    }

    pub(crate) fn scalar(mut self, name: &str, value: i64) -> Self {
        self.graph().initializer.push(ints(name, &[], &[value]));
        self
    }

    /// An initializer in raw bytes.
    pub(crate) fn raw(mut self, name: &str, data_type: DataType, dims: &[i64], bytes: &[u8]) -> Self {
        self.graph().initializer.push(TensorProto {
            name: Some(name.to_string()),
            dims: dims.to_vec(),
            data_type: Some(data_type),
            raw_data: Some(RefCell::new(bytes.to_vec())),
            ..Default::default()
        });
        self
    }

    /// A node `op inputs -> outputs`, space-separated; `_` stands for an input that is not given.
    pub(crate) fn node(self, text: &str) -> Self {
        self.node_with(text, vec![])
    }

    pub(crate) fn node_with(mut self, text: &str, attribute: Vec<AttributeProto>) -> Self {
        let (left, right) = text.split_once("->").unwrap();
        let mut left = left.split_whitespace();
        let op = left.next().unwrap();
        let node = NodeProto {
            op_type: Some(op.to_string()),
            input: left.map(|name| if name == "_" { String::new() } else { name.to_string() }).collect(),
            output: right.split_whitespace().map(str::to_string).collect(),
            attribute,
            ..Default::default()
        };
        self.graph().node.push(node);
        self
    }

    /// Names the last node.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.graph().node.last_mut().unwrap().name = Some(name.to_string());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.proto.write_buf().unwrap()
    }
}

pub(crate) fn info(name: &str, data_type: DataType, dims: &[Dim]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|dim| match dim {
            Dim::Known(value) => Dimension { dim_value: Some(*value), dim_param: None },
            Dim::Symbol(name) => Dimension { dim_value: None, dim_param: Some(name.to_string()) },
        })
        .collect();
    ValueInfoProto {
        name: Some(name.to_string()),
        r#type: Some(TypeProto {
            tensor_type: Some(TypeProtoTensor {
                elem_type: Some(data_type),
                shape: Some(TensorShapeProto { dim }),
            }),
            ..Default::default()
        }),
    }
}

pub(crate) fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_string()),
        dims: dims.to_vec(),
        data_type: Some(DataType::FLOAT),
        float_data: data.to_vec(),
        ..Default::default()
    }
}

pub(crate) fn ints(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_string()),
        dims: dims.to_vec(),
        data_type: Some(DataType::INT64),
        int64_data: data.to_vec(),
        ..Default::default()
    }
}

fn attribute(name: &str, r#type: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_string()), r#type: Some(r#type), ..Default::default() }
}

pub(crate) fn int_attr(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::INT) }
}

pub(crate) fn ints_attr(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::INTS) }
}

pub(crate) fn float_attr(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::FLOAT) }
}

pub(crate) fn text_attr(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.to_string()), ..attribute(name, AttributeType::STRING) }
}

pub(crate) fn tensor_attr(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(value), ..attribute(name, AttributeType::TENSOR) }
}
