//! What a bundle is made of and from.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Format and version of [`Manifest`].
pub(super) const BUNDLE_SCHEMA: &str = "layerjoule.gpu-bundle/1";
/// The manifest's name in a bundle, and in every archive of results.
pub(super) const MANIFEST: &str = "MANIFEST.json";
/// The checksums of all files beside it, as `sha256sum` writes and checks them.
pub(super) const CHECKSUMS: &str = "SHA256SUMS";

/// A bundle's contents and origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// [`BUNDLE_SCHEMA`].
    pub(super) schema: String,
    /// From what it was built.
    #[serde(flatten)]
    pub(super) origin: Origin,
    /// The newest version of glibc that a program asks for; none if none does.
    pub(super) glibc: Option<String>,
    /// Programs and scripts that `run.sh` knows and that are not there.
    pub(super) missing: Vec<String>,
    /// All files but manifest and checksums, sorted by path.
    pub(super) files: Vec<FileRecord>,
}

/// From what a bundle was built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// Git's name of the commit.
    pub(super) commit: String,
    /// Whether tracked files differed from the commit.
    pub(super) dirty: bool,
    /// Version of layerjoule.
    pub(super) version: String,
    /// The compiler, as it names itself.
    pub(super) rustc: String,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    /// Path in the bundle.
    pub(super) path: String,
    /// Its length.
    pub(super) bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub(super) sha256: String,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// It is malformed or of another schema.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).with_context(|| format!("{MANIFEST} is no JSON"))?;
        let schema = value["schema"].as_str().unwrap_or("none");
        ensure!(schema == BUNDLE_SCHEMA, "{MANIFEST}: expected schema {BUNDLE_SCHEMA}, found {schema}");
        serde_json::from_value(value).with_context(|| format!("{MANIFEST} is not one of a bundle"))
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes any text");
        text
    })
}

/// Paths and checksums of a file that `sha256sum` wrote.
///
/// # Errors
///
/// A line is not `CHECKSUM  PATH`.
pub(super) fn checksums(text: &str) -> Result<Vec<(String, String)>> {
    let line = |line: &str| match line.split_once("  ") {
        Some((sum, path)) if sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok((path.to_string(), sum.to_ascii_lowercase()))
        }
        _ => bail!("{CHECKSUMS}: expected a checksum, two spaces and a path, found \"{line}\""),
    };
    text.lines().map(line).collect()
}

/// The newest version `2.N` of glibc's symbols in programs; none if they ask for none.
pub(super) fn glibc<'a>(programs: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    const NAME: &[u8] = b"GLIBC_2.";
    let minor = |rest: &[u8]| -> Option<u32> {
        let digits: Vec<u8> = rest.iter().copied().take(3).take_while(u8::is_ascii_digit).collect();
        std::str::from_utf8(&digits).ok()?.parse().ok()
    };
    let newest = programs.into_iter().flat_map(|program| {
        program
            .windows(NAME.len() + 3)
            .filter(|at| at.starts_with(NAME))
            .filter_map(|at| minor(&at[NAME.len()..]))
    });
    newest.max().map(|minor| format!("2.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_abc_is_that_of_the_standard() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), expected);
    }

    #[test]
    fn the_newest_symbol_decides_which_glibc_is_needed() {
        let programs: [&[u8]; 3] = [b"\0GLIBC_2.2.5\0GLIBC_2.34\0", b"xGLIBC_2.9\0 ", b"nothing"];
        assert_eq!(glibc(programs), Some("2.34".to_string()));
        assert_eq!(glibc([b"static".as_slice()]), None);
    }

    #[test]
    fn a_line_that_is_no_checksum_is_refused() {
        let sum = "a".repeat(64);
        assert_eq!(checksums(&format!("{sum}  a b\n")).unwrap(), [("a b".to_string(), sum.clone())]);
        assert!(checksums(&format!("{sum} a")).is_err() && checksums("abc  a").is_err());
    }

    #[test]
    fn a_manifest_of_a_newer_schema_is_refused() {
        let error = Manifest::parse(br#"{"schema": "layerjoule.gpu-bundle/2"}"#).unwrap_err().to_string();
        assert_eq!(
            error,
            "MANIFEST.json: expected schema layerjoule.gpu-bundle/1, found layerjoule.gpu-bundle/2"
        );
    }
}
