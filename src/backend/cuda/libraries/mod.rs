//! The libraries of CUDA: found, checked and loaded before the first call.
//!
//! [`Search`] says where files may lie, [`Libraries::load`] takes for each library the first that works, and
//! [`Libraries::cuda`] gives the [`Cuda`] without which nothing of CUDA may be called. Where cudarc finds no library
//! or no function it panics; whoever holds a [`Cuda`] has all libraries, with all functions of
//! [`LibraryKind::symbols`], under the names that cudarc asks for. `docs/cuda.md` is the user's page.

mod error;
mod kind;
mod loading;
mod search;
mod symbols;
mod version;

use std::path::PathBuf;

pub use error::{CudaError, Fault, LibraryError, Refused, Remedy};
pub use kind::LibraryKind;
pub use search::{Candidate, PATH_VARIABLE, Rule, Search, SearchError};
pub use version::Version;

use loading::{Loaded, Needs, NotTaken, take};

/// A library that is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its file.
    pub path: PathBuf,
    /// What led to it.
    pub rule: Rule,
    /// Its version.
    pub version: Version,
    /// The version of CUDA that it is for.
    pub cuda: Version,
}

/// What became of one library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Which it is.
    pub kind: LibraryKind,
    /// The file taken, or why none was.
    pub found: Result<Found, LibraryError>,
    /// Files that were tried before the one taken.
    pub passed_over: Vec<Refused>,
}

/// What became of all libraries.
#[derive(Debug, Clone)]
pub struct Libraries {
    /// One of each kind, in the order of [`LibraryKind::ALL`].
    pub all: Vec<Library>,
    /// The places that were looked at.
    pub places: Vec<String>,
    driver: Option<Loaded>,
}

/// Leave to call CUDA: every library is loaded for good and has every function that the backend calls.
#[derive(Debug, Clone)]
pub struct Cuda {
    libraries: Vec<Library>,
    driver: Loaded,
}

/// Leave to call NVRTC, which needs no device and no driver.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code)] // The backend comes on top.
pub(super) struct Nvrtc(());

impl Libraries {
    /// Finds, checks and loads each library. What is loaded stays loaded until the process ends.
    pub fn load(search: &Search) -> Self {
        let mut needs = Needs::default();
        let mut driver = None;
        let mut all = Vec::new();
        for kind in LibraryKind::ALL {
            let (library, loaded) = first_that_works(kind, search, needs);
            let version = library.found.as_ref().ok().map(|found| found.version);
            match kind {
                LibraryKind::Driver => (driver, needs.driver) = (loaded, version),
                LibraryKind::CublasLt => needs.cublas_lt = version,
                _ => {}
            }
            all.push(library);
        }
        Self { all, places: search.places(), driver }
    }

    /// Leave to call CUDA.
    ///
    /// # Errors
    ///
    /// A library is missing or unfit; the message names each, and what to install.
    pub fn cuda(&self) -> Result<Cuda, CudaError> {
        match self.driver {
            Some(driver) if self.all.iter().all(|library| library.found.is_ok()) => {
                Ok(Cuda { libraries: self.all.clone(), driver })
            }
            _ => Err(CudaError { text: self.complaint() }),
        }
    }

    /// Leave to call NVRTC alone, where it was found.
    #[cfg(test)]
    pub(super) fn nvrtc(&self) -> Option<Nvrtc> {
        let nvrtc = self.all.iter().find(|library| library.kind == LibraryKind::Nvrtc)?;
        nvrtc.found.is_ok().then_some(Nvrtc(()))
    }

    /// The libraries that were found nowhere.
    pub fn missing(&self) -> Vec<LibraryKind> {
        self.failing().filter(|(_, error)| **error == LibraryError::Missing).map(|(kind, _)| kind).collect()
    }

    /// What installs these libraries here.
    pub fn remedies(&self, kinds: &[LibraryKind]) -> Vec<Remedy> {
        let driver = self.all.iter().find(|library| library.kind == LibraryKind::Driver);
        error::remedies(kinds, driver.and_then(|library| Some(library.found.as_ref().ok()?.version)))
    }

    fn failing(&self) -> impl Iterator<Item = (LibraryKind, &LibraryError)> {
        self.all.iter().filter_map(|library| Some((library.kind, library.found.as_ref().err()?)))
    }

    fn complaint(&self) -> String {
        let mut texts = Vec::new();
        let missing = self.missing();
        if !missing.is_empty() {
            texts.push(format!("not found: {} (looked at: {})", list(&missing), self.places.join("; ")));
        }
        for (kind, error) in self.failing().filter(|(_, error)| **error != LibraryError::Missing) {
            texts.push(format!("{kind}: {error}"));
        }
        let kinds: Vec<LibraryKind> = self.failing().map(|(kind, _)| kind).collect();
        for remedy in self.remedies(&kinds) {
            let command = remedy.command.map(|command| format!("`{command}` ")).unwrap_or_default();
            texts.push(format!("{command}{}", remedy.effect));
        }
        texts.join("\n  ")
    }
}

/// Names for a sentence: `cuBLAS, NVRTC and cuDNN`.
pub fn list(kinds: &[LibraryKind]) -> String {
    let names: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    match names.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

impl Cuda {
    /// The loaded libraries.
    pub fn libraries(&self) -> &[Library] {
        &self.libraries
    }

    /// Whether the driver has a function beyond [`LibraryKind::symbols`]: one that came after CUDA 12.0.
    pub fn driver_has(&self, function: &str) -> bool {
        self.driver.has(function)
    }

    /// A function of the driver that cudarc does not bind; `F` is the pointer type of its declaration in cuda.h.
    pub(super) fn driver_function<F: Copy>(&self, name: &'static str) -> Result<F, String> {
        self.driver.function(name)
    }

    /// The version of a library.
    pub fn version(&self, kind: LibraryKind) -> Option<Version> {
        let library = self.libraries.iter().find(|library| library.kind == kind)?;
        library.found.as_ref().ok().map(|found| found.version)
    }

    /// The version of CUDA that a library is for.
    pub fn built_for(&self, kind: LibraryKind) -> Option<Version> {
        let library = self.libraries.iter().find(|library| library.kind == kind)?;
        library.found.as_ref().ok().map(|found| found.cuda)
    }

    /// Leave to call NVRTC.
    pub(super) fn nvrtc(&self) -> Nvrtc {
        Nvrtc(())
    }

    /// The names of the GPUs that the driver shows.
    ///
    /// # Errors
    ///
    /// The driver's own words: there is none, or it does not work.
    pub fn gpus(&self) -> Result<Vec<String>, String> {
        self.driver.gpus()
    }
}

/// Equal if the same files are loaded.
impl PartialEq for Cuda {
    fn eq(&self, other: &Self) -> bool {
        self.libraries == other.libraries
    }
}

fn first_that_works(kind: LibraryKind, search: &Search, needs: Needs) -> (Library, Option<Loaded>) {
    let mut passed_over: Vec<Refused> = Vec::new();
    for candidate in search.candidates(kind) {
        let rule = candidate.rule;
        match take(kind, &candidate, needs) {
            Ok(opened) => {
                let found = Found { path: opened.path, rule, version: opened.version, cuda: opened.cuda };
                return (Library { kind, found: Ok(found), passed_over }, Some(opened.loaded));
            }
            Err(NotTaken::NotThere) => {}
            // Several names may lead to one file.
            Err(NotTaken::Faulty(path, _)) if passed_over.iter().any(|earlier| earlier.path == path) => {}
            Err(NotTaken::Faulty(path, fault)) => passed_over.push(Refused { path, rule, fault }),
        }
    }
    let mut refused = passed_over.into_iter();
    let found = Err(refused.next().map_or(LibraryError::Missing, LibraryError::Refused));
    (Library { kind, found, passed_over: refused.collect() }, None)
}
