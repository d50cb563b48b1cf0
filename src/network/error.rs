//! What can be wrong with a network, said so that a person can mend it.

use std::fmt;
use std::sync::Arc;

/// Where in a file something stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// The file as a whole.
    #[default]
    File,
    /// A line of a text file, counted from 1.
    Line(usize),
    /// A table of a text file.
    Table {
        /// The line where it begins, counted from 1.
        line: usize,
        /// The lines of its values by key.
        keys: Arc<[(String, usize)]>,
    },
    /// A node of an ONNX graph, counted from 0, with its operator.
    Node(usize, String),
}

impl Origin {
    /// The line, where there is one.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Line(line) | Self::Table { line, .. } => Some(*line),
            Self::File | Self::Node(..) => None,
        }
    }

    /// The place of a key, if it is there.
    fn of_key(&self, key: &str) -> Self {
        let Self::Table { keys, .. } = self else { return self.clone() };
        let line = keys.iter().find(|(name, _)| name == key).map(|&(_, line)| line);
        line.map_or_else(|| self.clone(), Self::Line)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line) | Self::Table { line, .. } => write!(f, ":{line}"),
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
        /// The key of a layer that says so, where one does.
        key: Option<&'static str>,
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
        let (what, expected, found) = (what.into(), expected.to_string(), found.to_string());
        Self::Mismatch { key: None, what, expected, found }
    }

    /// The problem with the key that a person will have to look at.
    pub(super) fn in_key(mut self, name: &'static str) -> Self {
        if let Self::Mismatch { key, .. } = &mut self {
            *key = Some(name);
        }
        self
    }

    /// A sentence.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// The problem at its place.
    pub fn at(self, file: &str, origin: &Origin, layer: Option<&str>) -> NetworkError {
        let origin = match &self {
            Self::Mismatch { key: Some(key), .. } => origin.of_key(key),
            _ => origin.clone(),
        };
        NetworkError {
            file: file.to_string(),
            origin,
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
