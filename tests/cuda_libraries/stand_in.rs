//! Stand-ins for NVIDIA's libraries, compiled when a test wants one: each test needs another set of functions,
//! versions and SONAMEs, which one compiled file could not have.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use layerjoule::backend::cuda::libraries::LibraryKind;

/// What a stand-in says of itself. It has every function that the loader asks for, but for those in `without`.
pub(crate) struct StandIn {
    kind: LibraryKind,
    version: [u32; 3],
    /// As `CUDA_VERSION` codes it.
    cuda: u32,
    soname: String,
    without: Vec<&'static str>,
    /// What `cuDriverGetVersion` returns.
    code: u32,
}

impl StandIn {
    pub(crate) fn new(kind: LibraryKind, version: [u32; 3], cuda: u32) -> Self {
        let number = if kind == LibraryKind::Driver { 1 } else { version[0] };
        let soname = format!("{}.so.{number}", kind.stem());
        Self { kind, version, cuda, soname, without: Vec::new(), code: 0 }
    }

    pub(crate) fn driver(cuda: u32) -> Self {
        Self::new(LibraryKind::Driver, [0; 3], cuda)
    }

    pub(crate) fn without(self, symbol: &'static str) -> Self {
        Self { without: vec![symbol], ..self }
    }

    pub(crate) fn called(self, soname: &str) -> Self {
        Self { soname: soname.to_string(), ..self }
    }

    pub(crate) fn returning(self, code: u32) -> Self {
        Self { code, ..self }
    }

    /// Puts it into a folder, under its SONAME.
    pub(crate) fn build(self, folder: &Path) {
        let soname = self.soname.clone();
        self.build_as(folder, &soname);
    }

    /// Puts it into a folder as `file`, with a link `libX.so` to it, as packages for developers have: it comes first
    /// among the names, so that real libraries of this machine stay out of the test.
    pub(crate) fn build_as(&self, folder: &Path, file: &str) {
        compile(&self.source(), &self.soname, &folder.join(file));
        let _ = symlink(file, folder.join(format!("{}.so", self.kind.stem())));
    }

    fn source(&self) -> String {
        let mut source = String::from(HEAD);
        let [major, minor, patch] = self.version;
        for name in self.kind.symbols().iter().filter(|name| !self.without.contains(name)) {
            let text = match *name {
                "cuDriverGetVersion" => {
                    let (cuda, code) = (self.cuda, self.code);
                    format!("(v: *mut i32) -> u32 {{ unsafe {{ *v = {cuda} }}; {code} }}")
                }
                "cuDeviceGetCount" => "(v: *mut i32) -> u32 { unsafe { *v = 1 }; 0 }".to_string(),
                "cuDeviceGetName" => {
                    "(v: *mut u8, _: i32, _: i32) -> u32 { unsafe { *v = b'G'; *v.add(1) = 0 }; 0 }"
                        .to_string()
                }
                "nvrtcVersion" => {
                    format!(
                        "(a: *mut i32, b: *mut i32) -> u32 {{ unsafe {{ *a = {major}; *b = {minor} }}; 0 }}"
                    )
                }
                name if name.ends_with("GetProperty") => format!(
                    "(p: i32, v: *mut i32) -> u32 {{
                        unsafe {{ *v = match p {{ 0 => {major}, 1 => {minor}, _ => {patch} }} }}; 0 }}"
                ),
                name if name.ends_with("GetCudartVersion") => format!("() -> usize {{ {} }}", self.cuda),
                _ => "() -> usize { 0 }".to_string(),
            };
            writeln!(source, "#[unsafe(no_mangle)] pub extern \"C\" fn {name}{text}").unwrap();
        }
        source
    }
}

const HEAD: &str = "#![no_std]\n#![allow(non_snake_case)]\n\
    #[panic_handler] fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }\n";

fn compile(source: &str, soname: &str, to: &Path) {
    let rust = to.with_extension("rs");
    fs::write(&rust, source).unwrap();
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let built = Command::new(rustc)
        .args(["--edition", "2024", "--crate-name", "stand_in", "--crate-type", "cdylib"])
        .args(["-C", "panic=abort", "-C", "opt-level=1", "-C"])
        .arg(format!("link-arg=-Wl,-soname,{soname}"))
        .arg("-o")
        .args([to, &rust])
        .status()
        .unwrap();
    assert!(built.success(), "the stand-in {soname} does not build");
    fs::remove_file(rust).unwrap();
}

/// A library without functions.
pub(crate) fn empty_library(folder: &Path, soname: &str) {
    compile(HEAD, soname, &folder.join(soname));
}

/// The parts of cuDNN and NVRTC that lie beside them.
pub(crate) fn parts(folder: &Path) {
    for part in ["graph", "ops", "cnn"] {
        empty_library(folder, &format!("libcudnn_{part}.so.9"));
    }
    for file in [
        "libcudnn_engines_precompiled.so.9",
        "libcudnn_engines_runtime_compiled.so.9",
        "libcudnn_heuristic.so.9",
        "libnvrtc-builtins.so.13.0",
    ] {
        fs::write(folder.join(file), "").unwrap();
    }
}

/// A whole installation of CUDA 13.
pub(crate) fn cuda_13(folder: &Path) {
    parts(folder);
    StandIn::driver(13_000).build(folder);
    StandIn::new(LibraryKind::CublasLt, [13, 1, 2], 13_000).build(folder);
    StandIn::new(LibraryKind::Cublas, [13, 1, 2], 13_000).build(folder);
    StandIn::new(LibraryKind::Nvrtc, [13, 0, 0], 13_000).build(folder);
    StandIn::new(LibraryKind::Cudnn, [9, 12, 1], 13_000).build(folder);
}
