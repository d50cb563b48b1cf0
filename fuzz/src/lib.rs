//! What must hold for every file that a reader is given, whole or damaged.
//!
//! One place for two users: the `cargo fuzz` targets beside it, and the mutations that the ordinary tests and
//! CI run (`tests/mutation.rs` includes this file).

mod network;
mod recorded;

/// A reader of files from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Network definitions in TOML.
    Toml,
    /// Networks in ONNX.
    Onnx,
    /// Traces.
    Trace,
    /// Run files.
    Run,
}

/// Most memory that reading and using one file may hold at a time, beside a multiple of its size. The largest
/// network that a small file may ask for, 100,000 layers, needs most of it.
const MOST_BYTES: u64 = 512 << 20;
/// Memory for each byte of the file: a JSON number of one digit becomes a value of 32 bytes, several times.
const BYTES_PER_BYTE: u64 = 256;
/// Longest message in bytes.
const LONGEST_MESSAGE: usize = 2_000;

impl Reader {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Toml, Self::Onnx, Self::Trace, Self::Run];

    /// The name of its target and of its folder in the corpus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Toml => "toml",
            Self::Onnx => "onnx",
            Self::Trace => "trace",
            Self::Run => "run",
        }
    }

    /// The name under which it is given files.
    pub fn file(self) -> &'static str {
        match self {
            Self::Toml => "net.toml",
            Self::Onnx => "net.onnx",
            Self::Trace => "trace.jsonl",
            Self::Run => "run.json",
        }
    }

    /// Reads the bytes and uses what they say; whether they were accepted.
    ///
    /// # Panics
    ///
    /// Something does not hold that must hold for every file.
    pub fn check(self, bytes: &[u8]) -> bool {
        let mut accepted = false;
        let info = allocation_counter::measure(|| {
            accepted = match self {
                Self::Toml => network::check_toml(self.file(), bytes),
                Self::Onnx => network::check_onnx(self.file(), bytes),
                Self::Trace => recorded::check_trace(self.file(), bytes),
                Self::Run => recorded::check_run(self.file(), bytes),
            }
        });
        let most = MOST_BYTES + BYTES_PER_BYTE * bytes.len() as u64;
        assert!(info.bytes_max <= most, "{} bytes were held for a file of {}", info.bytes_max, bytes.len());
        accepted
    }
}

/// A message names its file and fits a terminal. (What could steer one is taken out where it is printed.)
fn check_message(file: &str, error: &impl std::fmt::Display) {
    let text = error.to_string();
    assert!(text.starts_with(&format!("{file}:")), "the message does not name its file: {text}");
    assert!(text.len() <= LONGEST_MESSAGE, "a message of {} bytes: {:.300}", text.len(), text);
}
