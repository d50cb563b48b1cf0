//! Why a library cannot be used, and what mends that.

use std::fmt;
use std::path::PathBuf;

use super::kind::LibraryKind;
use super::search::Rule;
use super::version::Version;

/// The driver that CUDA 12.0 came with, and that of CUDA 13.0 (NVIDIA, "CUDA Toolkit Release Notes", table of minimum
/// driver versions).
pub(super) const OLDEST_DRIVER: (u32, &str) = (12, "525.60");
const DRIVER_FOR_13: &str = "580";

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The system's loader refuses it, with these words.
    DoesNotLoad(String),
    /// It has not these functions, of so many that are needed.
    Lacks {
        /// Those that it lacks.
        symbols: Vec<&'static str>,
        /// All that are needed.
        of: usize,
    },
    /// A file that it opens later does not lie beside it.
    Incomplete(String),
    /// It is of a CUDA that the driver cannot run.
    TooNew {
        /// The major version of CUDA that it is for.
        cuda: u32,
        /// What the driver can.
        driver: Version,
    },
    /// Another version than one that works here.
    WrongVersion {
        /// What works.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The linker's stub of the driver, which computes nothing.
    Stub,
    /// Asked for its version it returned this code.
    Refuses {
        /// The function that was called.
        function: &'static str,
        /// What it returned.
        code: usize,
    },
    /// The system's loader gives another file for its name.
    Shadowed(PathBuf),
    /// It is not called as its file is, so that nothing finds it by name.
    Nameless,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DoesNotLoad(why) => write!(f, "it does not load: {why}"),
            Self::Lacks { symbols, of } => {
                let named = symbols.iter().take(3).copied().collect::<Vec<_>>().join(", ");
                let more = if symbols.len() > 3 { ", ..." } else { "" };
                write!(f, "it lacks {} of {of} functions: {named}{more}", symbols.len())
            }
            Self::Incomplete(file) => write!(f, "{file} does not lie beside it"),
            Self::TooNew { cuda, driver } => {
                write!(f, "it is for CUDA {cuda}, the driver can run CUDA {driver} at most")
            }
            Self::WrongVersion { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::Stub => f.write_str("it is the stub for linkers and not the driver"),
            Self::Refuses { function, code } => write!(f, "{function} returned the error {code}"),
            Self::Shadowed(other) => write!(
                f,
                "the system's loader puts {} in its place; take that one's folder out of LD_LIBRARY_PATH or \
                 ld.so.conf, or use it",
                other.display()
            ),
            Self::Nameless => {
                f.write_str("its SONAME is another library's, so that it is not found by its name")
            }
        }
    }
}

/// A file that was tried and not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The file.
    pub path: PathBuf,
    /// What led to it.
    pub rule: Rule,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (found by {}): {}", self.path.display(), self.rule, self.fault)
    }
}

/// Why a library cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LibraryError {
    /// It is nowhere.
    Missing,
    /// Files of its name were found, and this is what is wrong with the first.
    Refused(Refused),
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it was not found"),
            Self::Refused(refused) => refused.fmt(f),
        }
    }
}

/// Something that may mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// The exact command, if there is one.
    pub command: Option<String>,
    /// What it does, or what to do.
    pub effect: String,
}

/// What installs these libraries for a driver, simplest first.
pub(super) fn remedies(kinds: &[LibraryKind], driver: Option<Version>) -> Vec<Remedy> {
    let mut remedies = Vec::new();
    if kinds.contains(&LibraryKind::Driver) {
        let effect = format!(
            "install NVIDIA's driver, {} or newer (under WSL: the one for Windows, and nothing in here)",
            OLDEST_DRIVER.1
        );
        remedies.push(Remedy { command: None, effect });
    }
    let pip = |cuda: u32| {
        let mut packages: Vec<&str> = kinds.iter().filter_map(|kind| kind.package(cuda)).collect();
        packages.dedup();
        (!packages.is_empty()).then(|| format!("pip install {}", packages.join(" ")))
    };
    // A driver of CUDA 14 or later runs libraries of CUDA 13 as well.
    let cuda = driver.map_or(13, |driver| driver.major.clamp(12, 13));
    let effect = format!(
        "installs {} into a Python environment; if that is not the active one, name it with --cuda-path",
        if kinds.len() == 1 { "it" } else { "the libraries" }
    );
    remedies.extend(pip(cuda).map(|command| Remedy { command: Some(command), effect }));
    if driver.is_none() {
        let effect = format!("the same for drivers older than {DRIVER_FOR_13}");
        remedies.extend(pip(12).map(|command| Remedy { command: Some(command), effect }));
    }
    remedies
}

/// The libraries that CUDA lacks here, in one message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CudaError {
    /// What is wrong and what mends it.
    pub(super) text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(kinds: &[LibraryKind], driver: Option<u32>) -> Vec<String> {
        let driver = driver.map(Version::of_cuda);
        remedies(kinds, driver).into_iter().filter_map(|remedy| remedy.command).collect()
    }

    #[test]
    fn what_to_install_fits_the_driver() {
        assert_eq!(commands(&[LibraryKind::Cudnn], Some(12_080)), ["pip install nvidia-cudnn-cu12"]);
        assert_eq!(commands(&[LibraryKind::Cudnn], Some(13_000)), ["pip install nvidia-cudnn-cu13"]);
        // cuBLAS and cuBLASLt come in one package.
        assert_eq!(
            commands(&[LibraryKind::CublasLt, LibraryKind::Cublas, LibraryKind::Nvrtc], Some(13_010)),
            ["pip install 'nvidia-cublas==13.*' 'nvidia-cuda-nvrtc==13.*'"]
        );
        assert_eq!(commands(&[LibraryKind::Driver], None), [""; 0]);
    }

    #[test]
    fn without_a_driver_both_generations_are_named() {
        let all = remedies(&LibraryKind::ALL, None);
        assert!(all[0].effect.contains("driver, 525.60 or newer"), "{all:?}");
        assert!(all[1].command.as_ref().unwrap().ends_with("nvidia-cudnn-cu13"), "{all:?}");
        assert!(all[2].command.as_ref().unwrap().ends_with("nvidia-cudnn-cu12"), "{all:?}");
    }
}
