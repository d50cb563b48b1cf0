//! What can be wrong with a network, said so that a person can mend it.

use std::fmt;

/// Where in a file something stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// The file as a whole.
    #[default]
    File,
    /// A line of a text file, counted from 1.
    Line(usize),
    /// A node of an ONNX graph, counted from 0, with its operator.
    Node(usize, String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line) => write!(f, ":{line}"),
            Self::Node(index, operator) => write!(f, ": node {index} ({operator})"),
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Something has another value, shape or count than it must have.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// What was looked at.
        what: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Anything else, in one sentence that says what to do.
    #[error("{0}")]
    Invalid(String),
}

impl Problem {
    /// A value, shape or count that is not what it must be.
    pub fn mismatch(what: impl Into<String>, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::Mismatch { what: what.into(), expected: expected.to_string(), found: found.to_string() }
    }

    /// A sentence.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// The problem at its place.
    pub fn at(self, file: &str, origin: &Origin, layer: Option<&str>) -> NetworkError {
        NetworkError {
            file: file.to_string(),
            origin: origin.clone(),
            layer: layer.map(str::to_string),
            problem: Box::new(self),
        }
    }
}

/// A problem with its file, its line or node, and its layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkError {
    /// The file, as the user named it.
    pub file: String,
    /// The place in the file.
    pub origin: Origin,
    /// The layer, where there is one.
    pub layer: Option<String>,
    /// What is wrong.
    pub problem: Box<Problem>,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: ", self.file, self.origin)?;
        if let Some(layer) = &self.layer {
            write!(f, "layer \"{layer}\": ")?;
        }
        write!(f, "{}", self.problem)
    }
}

impl std::error::Error for NetworkError {}
