//! Where in the text a problem stands: byte offsets while reading, lines for people.

use crate::network::{NetworkError, Origin, Problem};

/// A problem with its place in the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Misplaced {
    offset: Option<usize>,
    layer: Option<String>,
    problem: Box<Problem>,
}

impl Misplaced {
    /// A problem of the file as a whole.
    pub(super) fn in_file(problem: Problem) -> Self {
        Self { offset: None, layer: None, problem: Box::new(problem) }
    }

    /// A problem at a byte of the text.
    pub(super) fn at_offset(offset: usize, problem: Problem) -> Self {
        Self { offset: Some(offset), layer: None, problem: Box::new(problem) }
    }

    /// The problem with the layer it belongs to, unless one is named already.
    pub(super) fn in_layer(mut self, layer: &str) -> Self {
        self.layer.get_or_insert_with(|| layer.to_string());
        self
    }

    /// The problem with its file and line.
    pub(super) fn at(self, file: &str, lines: &Lines) -> NetworkError {
        let origin = self.offset.map_or(Origin::File, |offset| Origin::Line(lines.line(offset)));
        self.problem.at(file, &origin, self.layer.as_deref())
    }
}

/// Where the lines of a text begin.
#[derive(Debug)]
pub(super) struct Lines {
    ends: Vec<usize>,
}

impl Lines {
    /// The lines of a text.
    pub(super) fn new(text: &str) -> Self {
        Self { ends: text.bytes().enumerate().filter(|&(_, b)| b == b'\n').map(|(at, _)| at).collect() }
    }

    /// The line, counted from 1, in which the byte with this offset stands.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.ends.partition_point(|&end| end < offset) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn a_line_break_belongs_to_the_line_it_ends() {
        let lines = Lines::new("ab\nc\n\nd");
        let found: Vec<usize> = (0..8).map(|offset| lines.line(offset)).collect();
        assert_eq!(found, [1, 1, 1, 2, 2, 3, 4, 4]);
    }
}
