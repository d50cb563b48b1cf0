//! The emulated GPU for tests: the stand-in of `lib.rs` under the names of NVIDIA's libraries.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Each library with those that it is found through: the folder is that of CUDA 13 with cuDNN 9.
const LIBRARIES: [&str; 12] = [
    "libcuda.so.1",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libnvrtc.so.13",
    "libnvrtc-builtins.so.13.0",
    "libcudnn.so.9",
    "libcudnn_graph.so.9",
    "libcudnn_ops.so.9",
    "libcudnn_cnn.so.9",
    "libcudnn_engines_precompiled.so.9",
    "libcudnn_engines_runtime_compiled.so.9",
    "libcudnn_heuristic.so.9",
];

/// Puts the emulated libraries into a folder, for `--cuda-path` or [`layerjoule::backend::cuda::Search`]. How the GPU
/// is set up follows from the environment of the process that loads them; `lib.rs` has the table of variables.
pub(crate) fn emulated_cuda(folder: &Path) -> PathBuf {
    folder_of(&super::example("fake_cuda"), folder)
}

/// Puts libraries into a folder that lead to this copy of the stand-in.
pub(crate) fn folder_of(stand_in: &Path, folder: &Path) -> PathBuf {
    let empty = folder.join("empty.c");
    std::fs::write(&empty, "").unwrap();
    for name in LIBRARIES {
        // An empty library that needs the stand-in: whoever looks for a function in it finds the stand-in's.
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-nostdlib", "-Wl,--no-as-needed", "-o"])
            .arg(folder.join(name))
            .arg(format!("-Wl,-soname,{name}"))
            .arg(&empty)
            .arg(stand_in)
            .status()
            .unwrap();
        assert!(built.success(), "{name} does not build");
    }
    std::fs::remove_file(empty).unwrap();
    folder.to_path_buf()
}
