//! From a path to a network: chooses the reader, takes the file's fingerprint.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Definition, Network, NetworkError, Origin, Problem, text};

/// Largest file in bytes. ONNX files are protobuf messages, which are limited to 2 GiB
/// (<https://protobuf.dev/programming-guides/proto-limits/>).
const LARGEST: u64 = 1 << 31;
/// Largest TOML file in bytes, far above any that a person would write.
const LARGEST_TEXT: usize = 64 << 20;

/// Why a network file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is missing or not readable.
    #[error("{}: cannot read the network file: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The path is a directory.
    #[error("{}: expected a network file (.toml or .onnx), found a pipe or device; save it to a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// It is a directory.
    #[error("{}: expected a network file (.toml or .onnx), found a directory", path.display())]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// The file is larger than any network file can be.
    #[error("{}: expected a network file of at most {limit} bytes, found a larger one", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Neither the name nor the content tells the format.
    #[error(
        "{}: expected TOML text or an ONNX model, found neither; name the file *.toml or *.onnx",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file's content is wrong.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// The languages that networks are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Toml,
    Onnx,
}

/// Reads a network file; `set` overrides parameters that a TOML file declares, the last value of a name wins.
///
/// The format follows from the extension `.toml` or `.onnx`, else from the content.
///
/// # Errors
///
/// The file cannot be read, is of no known format, or its content is wrong: see [`ReadError`].
pub fn read(path: &Path, set: &[(String, i64)]) -> Result<Network, ReadError> {
    parse(path, &read_bytes(path)?, set)
}

/// Reads the bytes of a network file as [`read`] does; `path` names the file and is not opened.
///
/// # Errors
///
/// The bytes are of no known format or their content is wrong: see [`ReadError`].
pub fn parse(path: &Path, bytes: &[u8], set: &[(String, i64)]) -> Result<Network, ReadError> {
    let format =
        format_of(path, bytes).ok_or_else(|| ReadError::UnknownFormat { path: path.to_path_buf() })?;
    let file = path.display().to_string();
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let definition = match format {
        Format::Toml if bytes.len() > LARGEST_TEXT => {
            return Err(ReadError::TooLarge { path: path.to_path_buf(), limit: LARGEST_TEXT as u64 });
        }
        Format::Toml => text::definition(&file, utf8(&file, bytes)?, &sha256, set)?,
        Format::Onnx => onnx_definition(&file, bytes, &sha256, set)?,
    };
    Ok(Network::new(definition)?)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ReadError> {
    let io = |source| ReadError::Io { path: path.to_path_buf(), source };
    // Looked at before it is opened: a pipe would be waited for, and a device may never end.
    let kind = std::fs::metadata(path).map_err(io)?;
    if kind.is_dir() {
        return Err(ReadError::Directory { path: path.to_path_buf() });
    }
    if !kind.is_file() {
        return Err(ReadError::NotAFile { path: path.to_path_buf() });
    }
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large, even one that grows.
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > LARGEST {
        return Err(ReadError::TooLarge { path: path.to_path_buf(), limit: LARGEST });
    }
    Ok(bytes)
}

fn format_of(path: &Path, bytes: &[u8]) -> Option<Format> {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    match extension.as_deref() {
        Some("toml") => Some(Format::Toml),
        Some("onnx") => Some(Format::Onnx),
        // Field 1 of ONNX's ModelProto is ir_version, a varint: its tag is the byte 0x08 (onnx.proto).
        _ if bytes.first() == Some(&0x08) => Some(Format::Onnx),
        _ if std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')) => Some(Format::Toml),
        _ => None,
    }
}

fn utf8<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, NetworkError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let line = bytes.iter().take(at).filter(|&&byte| byte == b'\n').count() + 1;
        let found = bytes.get(at).map_or_else(|| "nothing".to_string(), |byte| format!("byte {byte:#04x}"));
        Problem::mismatch("encoding", "UTF-8", found).at(file, &Origin::Line(line), None)
    })
}

fn onnx_definition(
    file: &str,
    bytes: &[u8],
    sha256: &str,
    set: &[(String, i64)],
) -> Result<Definition, NetworkError> {
    if let Some((name, _)) = set.first() {
        let expected = "none, as ONNX files declare no parameters";
        return Err(Problem::mismatch("--set", expected, format!("{name:?}")).at(file, &Origin::File, None));
    }
    super::onnx::definition(file, bytes, sha256)
}
