//! A check of the file's bytes before `rten-onnx` reads them.
//!
//! `rten-onnx` 0.27 believes what the bytes say: it allocates a length before looking for the data, follows
//! nested messages without end, seeks backwards for a length above 2^63 and never leaves a variable-length
//! integer of more than ten bytes. So every length, integer and nesting is held to the file here first; what
//! passes can only be read or be refused. The encoding: <https://protobuf.dev/programming-guides/encoding/>;
//! the field numbers: `onnx.proto` of ONNX.

use crate::network::Problem;

/// Messages inside messages: a subgraph takes three levels, and no operator here has one.
const MAX_DEPTH: usize = 64;

/// The messages of `onnx.proto` that `rten-onnx` follows.
#[derive(Debug, Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    SequenceType,
    Shape,
    Leaf,
}

/// What a length-delimited field holds.
enum Content {
    Message(Message),
    Varints,
    Fixed(usize),
    Bytes,
}

impl Message {
    fn content(self, field: u64) -> Content {
        use Message as M;
        let message = match (self, field) {
            (M::Model, 7) | (M::Attribute, 6) => M::Graph,
            (M::Model, 8 | 14) | (M::Tensor, 13) | (M::Shape, 1) => M::Leaf,
            (M::Graph, 1) => M::Node,
            (M::Graph, 5) | (M::Attribute, 5) => M::Tensor,
            (M::Graph, 11..=13) => M::ValueInfo,
            (M::Node, 5) => M::Attribute,
            (M::ValueInfo, 2) | (M::SequenceType, 1) => M::Type,
            (M::Type, 1) => M::TensorType,
            (M::Type, 4) => M::SequenceType,
            (M::TensorType, 2) => M::Shape,
            (M::Tensor, 4) => return Content::Fixed(4),
            (M::Tensor, 10) => return Content::Fixed(8),
            (M::Tensor, 5 | 7) => return Content::Varints,
            _ => return Content::Bytes,
        };
        Content::Message(message)
    }
}

/// Whether the bytes are a well-formed ONNX message, every length inside the one around it.
///
/// # Errors
///
/// The place of the first byte that is not, and what was expected there.
pub(super) fn check(bytes: &[u8]) -> Result<(), Problem> {
    if bytes.is_empty() {
        return Err(Problem::mismatch("file", "an ONNX model", "0 bytes"));
    }
    Cursor { bytes, at: 0, end: bytes.len() }.message(Message::Model, 0)
}

/// A part of the file, with the position of the next byte.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl Cursor<'_> {
    fn message(&mut self, message: Message, depth: usize) -> Result<(), Problem> {
        if depth > MAX_DEPTH {
            return Err(self.broken(format!("at most {MAX_DEPTH} nested messages"), "more"));
        }
        while self.at < self.end {
            let tag = self.varint()?;
            match tag & 7 {
                0 => {
                    self.varint()?;
                }
                1 => self.skip(8)?,
                2 => self.delimited(message.content(tag >> 3), depth)?,
                5 => self.skip(4)?,
                other => return Err(self.broken("wire type 0, 1, 2 or 5", other)),
            }
        }
        Ok(())
    }

    fn delimited(&mut self, content: Content, depth: usize) -> Result<(), Problem> {
        let length = self.varint()?;
        let start = self.at;
        self.skip(length)?;
        let mut inner = Cursor { bytes: self.bytes, at: start, end: self.at };
        match content {
            Content::Message(message) => inner.message(message, depth + 1),
            Content::Varints => {
                while inner.at < inner.end {
                    inner.varint()?;
                }
                Ok(())
            }
            Content::Fixed(size) if !(inner.end - inner.at).is_multiple_of(size) => {
                Err(inner.broken(format!("numbers of {size} bytes"), format!("{length} bytes")))
            }
            Content::Fixed(_) | Content::Bytes => Ok(()),
        }
    }

    fn skip(&mut self, length: u64) -> Result<(), Problem> {
        let left = self.end - self.at;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                self.at += length;
                Ok(())
            }
            _ => Err(self.broken(format!("{length} bytes"), format!("{left}, where the message ends"))),
        }
    }

    /// A base-128 integer of at most 64 bits.
    fn varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes[..self.end].get(self.at) else {
                return Err(self.broken("an integer", "the end of the message"));
            };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // The tenth byte has room for one bit.
                if shift == 63 && byte > 1 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(self.broken("an integer of at most 64 bits", "a longer one"))
    }

    fn broken(&self, expected: impl std::fmt::Display, found: impl std::fmt::Display) -> Problem {
        Problem::mismatch(
            format!("byte {} (the file is cut short, damaged or not an ONNX model)", self.at),
            expected,
            found,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_length_beyond_the_file_is_refused() {
        // Field 2 (producer name), length 2^40, no data.
        let bytes = [0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20];
        let text = check(&bytes).unwrap_err().to_string();
        assert!(text.contains("expected 1099511627776 bytes, found 0"), "{text}");
    }

    #[test]
    fn an_integer_of_more_than_ten_bytes_is_refused() {
        assert!(check(&[[0x08].as_slice(), &[0xff; 40]].concat()).is_err());
        // -1 takes ten bytes and is allowed.
        assert!(check(&[[0x08].as_slice(), &[0xff; 9], &[0x01]].concat()).is_ok());
    }

    #[test]
    fn a_child_longer_than_its_parent_is_refused() {
        // graph of 2 bytes whose node claims 5, though the file goes on.
        assert!(check(&[0x3a, 2, 0x0a, 5, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn nesting_without_end_is_refused_before_the_stack_ends() {
        // graph { node { attribute { graph { ... } } } }, innermost first.
        let mut bytes: Vec<u8> = Vec::new();
        for level in 0..999 {
            let tag = [0x32, 0x2a, 0x0a][level % 3];
            let mut outer = vec![tag];
            let mut length = bytes.len();
            while length >= 0x80 {
                outer.push(0x80 | (length & 0x7f) as u8);
                length >>= 7;
            }
            outer.push(length as u8);
            outer.extend(&bytes);
            bytes = outer;
        }
        let mut model = vec![0x3a, 0x80 | (bytes.len() & 0x7f) as u8, (bytes.len() >> 7) as u8];
        model.extend(&bytes);
        let text = check(&model).unwrap_err().to_string();
        assert!(text.contains("nested"), "{text}");
    }

    #[test]
    fn packed_numbers_fill_their_field() {
        // graph { initializer { float_data: 3 bytes } }
        assert!(check(&[0x3a, 7, 0x2a, 5, 0x22, 3, 0, 0, 0]).is_err());
        assert!(check(&[0x3a, 8, 0x2a, 6, 0x22, 4, 0, 0, 0, 0]).is_ok());
    }
}
