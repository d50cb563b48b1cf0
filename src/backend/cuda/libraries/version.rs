//! Versions of CUDA and of its libraries.

use std::fmt;

/// A version; drivers and NVRTC say no third number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The number that interfaces break with.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: Option<u32>,
}

impl Version {
    /// The coding of `CUDA_VERSION` in cuda.h: 1000 · major + 10 · minor.
    pub const fn of_cuda(coded: u32) -> Self {
        Self { major: coded / 1000, minor: coded % 1000 / 10, patch: None }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}

/// The numbers after `.so` in the name of a library's file: `[9, 1]` in `libcudnn.so.9.1`, nothing in `libcudnn.so`.
/// None if it is another file's name.
pub(super) fn numbers(name: &str, stem: &str) -> Option<Vec<u32>> {
    let rest = name.strip_prefix(stem)?.strip_prefix(".so")?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    rest.strip_prefix('.')?.split('.').map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_versions_are_read_as_cuda_h_writes_them() {
        // CUDA_VERSION of CUDA 11.4 is 11040, of 12.8 it is 12080, of 13.0 it is 13000.
        let text = |coded| Version::of_cuda(coded).to_string();
        assert_eq!([text(11_040), text(12_080), text(13_000)], ["11.4", "12.8", "13.0"]);
    }

    #[test]
    fn names_of_other_libraries_are_not_taken() {
        assert_eq!(numbers("libcublas.so.12.8.4.1", "libcublas"), Some(vec![12, 8, 4, 1]));
        assert_eq!(numbers("libcudnn.so", "libcudnn"), Some(vec![]));
        for (name, stem) in [
            ("libcublasLt.so.13", "libcublas"),
            ("libcudnn_ops.so.9", "libcudnn"),
            ("libnvrtc-builtins.so.13.5", "libnvrtc"),
            ("libnvrtc.alt.so.13", "libnvrtc"),
            ("libcudnn.so.9.backup", "libcudnn"),
            ("libcudnn.so.", "libcudnn"),
            ("libcuda.so.1.old", "libcuda"),
        ] {
            assert_eq!(numbers(name, stem), None, "{name}");
        }
    }
}
