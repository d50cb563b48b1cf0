//! Where libraries may lie. Nothing is loaded here.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::kind::LibraryKind;
use super::version::numbers;

/// The variable that stands for `--cuda-path`.
pub const PATH_VARIABLE: &str = "LAYERJOULE_CUDA_PATH";

/// Which rule of the search led to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The option `--cuda-path`.
    Option,
    /// This variable of the environment.
    Variable(&'static str),
    /// The system's loader by the library's name: `LD_LIBRARY_PATH` and the folders of `ld.so.conf`.
    Loader,
    /// Where toolkits and distributions install.
    Common,
    /// Packages of Python.
    Python,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Option => "--cuda-path",
            Self::Variable(name) => name,
            Self::Loader => "the system's loader",
            Self::Common => "common places",
            Self::Python => "Python packages",
        })
    }
}

/// A file that may be the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file; for [`Rule::Loader`] a mere name.
    pub file: PathBuf,
    /// What led to it.
    pub rule: Rule,
    /// The numbers of the file's name, links followed; empty if it has none.
    pub numbers: Vec<u32>,
}

/// The folders of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    rule: Rule,
    folders: Vec<PathBuf>,
}

/// Why a folder given by the user cannot be searched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// It is no folder.
    #[error("{rule}: expected a folder, found {}, which is none", folder.display())]
    NoFolder {
        /// What gave it.
        rule: Rule,
        /// What was given.
        folder: PathBuf,
    },
    /// It has none of the libraries.
    #[error(
        "{rule}: no library of CUDA or cuDNN lies in {}; expected the root of a CUDA toolkit, a folder with \
         libraries such as libcudnn.so.9, a Python environment or its site-packages",
        folder.display()
    )]
    NothingInIt {
        /// What gave it.
        rule: Rule,
        /// What was given.
        folder: PathBuf,
    },
}

/// Where to look, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// What the user named: a library that lies there comes from there or not at all.
    given: Option<Place>,
    /// The system's loader is asked by name before the other places.
    loader: bool,
    others: Vec<Place>,
}

impl Search {
    /// The search of this machine; `given` is what `--cuda-path` says.
    ///
    /// # Errors
    ///
    /// What the user gave is no folder, or has no library in it.
    pub fn here(given: Option<&Path>) -> Result<Self, SearchError> {
        let search = Self::new(given, &|name| std::env::var_os(name), Path::new("/"))?;
        Ok(Self { loader: true, ..search })
    }

    /// A search in folders only, below another root and with other variables.
    ///
    /// # Errors
    ///
    /// As for [`here`](Self::here).
    pub fn new(
        given: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<OsString>,
        root: &Path,
    ) -> Result<Self, SearchError> {
        let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let given = given
            .map(|path| (Rule::Option, path.to_path_buf()))
            .or_else(|| Some((Rule::Variable(PATH_VARIABLE), folder(PATH_VARIABLE)?)))
            .map(|(rule, path)| given_place(rule, path))
            .transpose()?;
        let mut others = Vec::new();
        for name in ["CUDA_PATH", "CUDA_HOME"] {
            if let Some(path) = folder(name) {
                others.push(Place { rule: Rule::Variable(name), folders: folders_of(&path) });
            }
        }
        others.push(Place { rule: Rule::Common, folders: common(root) });
        others.push(Place { rule: Rule::Python, folders: python(&folder, root) });
        Ok(Self { given, loader: false, others })
    }

    /// The files that may be a library, in the order in which they are tried: rules in their order, and by each the
    /// newest first.
    pub fn candidates(&self, kind: LibraryKind) -> Vec<Candidate> {
        let given = self.given.as_ref().map(|place| place.candidates(kind)).unwrap_or_default();
        if !given.is_empty() {
            return given;
        }
        // What such a name leads to is seen only when it is opened.
        let by_name =
            |name: String| Candidate { file: PathBuf::from(name), rule: Rule::Loader, numbers: Vec::new() };
        let loader = self.loader.then(|| kind.names_for_cudarc().map(by_name));
        let others = self.others.iter().flat_map(|place| place.candidates(kind));
        loader.into_iter().flatten().chain(others).collect()
    }

    /// What is looked at, for messages.
    pub fn places(&self) -> Vec<String> {
        let describe = |place: &Place| {
            let folders: Vec<String> = place.folders.iter().map(|f| f.display().to_string()).collect();
            match place.rule {
                Rule::Common if !folders.is_empty() => folders.join(", "),
                rule => rule.to_string(),
            }
        };
        let given = self.given.iter().map(describe);
        let loader = self.loader.then(|| Rule::Loader.to_string());
        given.chain(loader).chain(self.others.iter().map(describe)).collect()
    }
}

impl Place {
    fn candidates(&self, kind: LibraryKind) -> Vec<Candidate> {
        let mut found: Vec<(PathBuf, Candidate)> = Vec::new();
        // In a folder the name with the most numbers comes first, so that messages show it and not a link to it.
        for file in self.folders.iter().flat_map(|folder| entries(folder).into_iter().rev()) {
            let Some(of_name) = name_of(&file).and_then(|name| numbers(name, kind.stem())) else { continue };
            let real = file.canonicalize().unwrap_or_else(|_| file.clone());
            // The name of what a link leads to says more: libcublas.so.12 is libcublas.so.12.8.4.1.
            let numbers = name_of(&real)
                .and_then(|name| numbers(name, kind.stem()))
                .filter(|numbers| numbers.len() > of_name.len())
                .unwrap_or(of_name);
            if found.iter().all(|(earlier, _)| *earlier != real) {
                found.push((real, Candidate { file, rule: self.rule, numbers }));
            }
        }
        let mut candidates: Vec<Candidate> = found.into_iter().map(|(_, candidate)| candidate).collect();
        // Stable: equal names stay in the order of their folders.
        candidates.sort_by(|a, b| b.numbers.cmp(&a.numbers));
        candidates
    }
}

fn name_of(file: &Path) -> Option<&str> {
    file.file_name()?.to_str()
}

fn given_place(rule: Rule, folder: PathBuf) -> Result<Place, SearchError> {
    // The system's loader searches names without a slash elsewhere, so that paths are made absolute.
    let Some(whole) = folder.is_dir().then(|| std::path::absolute(&folder).ok()).flatten() else {
        return Err(SearchError::NoFolder { rule, folder });
    };
    let place = Place { rule, folders: folders_of(&whole) };
    if LibraryKind::ALL.iter().all(|kind| place.candidates(*kind).is_empty()) {
        return Err(SearchError::NothingInIt { rule, folder });
    }
    Ok(place)
}

/// What lies in a folder, in order of names; nothing if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    found
}

/// The entries of `folder` whose names begin so, later versions first.
fn beginning(folder: &Path, start: &str) -> Vec<PathBuf> {
    let begins = |path: &PathBuf| name_of(path).is_some_and(|name| name.starts_with(start));
    entries(folder).into_iter().rev().filter(begins).collect()
}

/// The folders below `path` that may have libraries: of a toolkit, of an environment, of site-packages, or itself.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    let mut folders = vec![path.to_path_buf(), path.join("lib64"), path.join("lib")];
    folders.push(path.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)));
    folders.extend(entries(&path.join("targets")).into_iter().map(|target| target.join("lib")));
    folders.extend(wheels(path));
    folders.extend(site_packages(path).iter().flat_map(|site| wheels(site)));
    if name_of(path) == Some("nvidia") {
        folders.extend(entries(path).into_iter().map(|package| package.join("lib")));
    }
    existing(folders)
}

/// The folders with libraries in NVIDIA's packages: `nvidia/cudnn/lib`, `nvidia/cublas/lib` and `nvidia/cuda_nvrtc/lib`
/// for CUDA 12, `nvidia/cudnn/lib` and `nvidia/cu13/lib` for CUDA 13.
fn wheels(site_packages: &Path) -> Vec<PathBuf> {
    entries(&site_packages.join("nvidia")).into_iter().map(|package| package.join("lib")).collect()
}

/// Where a Python below `prefix` keeps its packages.
fn site_packages(prefix: &Path) -> Vec<PathBuf> {
    let of_python = |python: &PathBuf| ["site-packages", "dist-packages"].map(|name| python.join(name));
    ["lib", "lib64"]
        .iter()
        .flat_map(|lib| beginning(&prefix.join(lib), "python3"))
        .flat_map(|python| of_python(&python))
        .collect()
}

/// Those that exist, each once.
fn existing(folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = Vec::new();
    folders
        .into_iter()
        .filter(|folder| {
            let Ok(real) = folder.canonicalize() else { return false };
            let new = real.is_dir() && !seen.contains(&real);
            if new {
                seen.push(real);
            }
            new
        })
        .collect()
}

/// Where NVIDIA's installers and distributions put libraries.
fn common(root: &Path) -> Vec<PathBuf> {
    let arch = std::env::consts::ARCH;
    let toolkits = beginning(&root.join("usr/local"), "cuda").into_iter().chain([root.join("opt/cuda")]);
    let mut folders: Vec<PathBuf> =
        toolkits.flat_map(|toolkit| [toolkit.join("lib64"), toolkit.join("lib")]).collect();
    folders.extend(
        [&format!("usr/lib/{arch}-linux-gnu"), "usr/lib64", "usr/lib", "usr/lib/wsl/lib", "usr/local/lib"]
            .iter()
            .map(|place| root.join(place)),
    );
    existing(folders)
}

/// The folders of the Pythons that a user most likely means: the active environment, that of the first `python3` on
/// `PATH`, the user's own packages, pyenv's versions, the system. No Python is started.
fn python(folder: &dyn Fn(&str) -> Option<PathBuf>, root: &Path) -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(folder).collect();
    // Packages of conda put their libraries straight into the environment.
    let mut folders: Vec<PathBuf> =
        folder("CONDA_PREFIX").map(|prefix| prefix.join("lib")).into_iter().collect();
    let path = folder("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let first = path.into_iter().flatten().find(|bin| bin.join("python3").is_file());
    prefixes.extend(first.as_deref().and_then(Path::parent).map(Path::to_path_buf));
    let home = folder("HOME");
    prefixes.extend(home.as_ref().map(|home| home.join(".local")));
    let pyenv = folder("PYENV_ROOT").or_else(|| Some(home?.join(".pyenv")));
    prefixes.extend(pyenv.into_iter().flat_map(|pyenv| entries(&pyenv.join("versions")).into_iter().rev()));
    prefixes.extend(["usr/local", "usr"].map(|prefix| root.join(prefix)));
    folders.extend(prefixes.iter().flat_map(|prefix| site_packages(prefix)).flat_map(|site| wheels(&site)));
    existing(folders)
}
