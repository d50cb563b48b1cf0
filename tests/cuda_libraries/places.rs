//! Which files are tried, and in which order; nothing is loaded.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use layerjoule::backend::cuda::Search;
use layerjoule::backend::cuda::libraries::{LibraryKind, Rule};
use tempfile::TempDir;

use LibraryKind::{Cublas, CublasLt, Cudnn, Driver, Nvrtc};

/// A folder with empty files.
fn tree(files: &[&str]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    dir
}

/// The candidates below a given folder, with paths in it.
fn given(dir: &Path, folder: &str, kind: LibraryKind) -> Vec<String> {
    let nothing = TempDir::new().unwrap();
    let search = Search::new(Some(&dir.join(folder)), &|_| None, nothing.path()).unwrap();
    let relative = |file: &Path| file.strip_prefix(dir).unwrap().to_str().unwrap().to_string();
    search.candidates(kind).iter().map(|candidate| relative(&candidate.file)).collect()
}

#[test]
fn both_layouts_of_wheels_are_known_from_every_folder_above_them() {
    let cuda_12 = tree(&[
        "lib/python3.12/site-packages/nvidia/cublas/lib/libcublas.so.12",
        "lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.12",
        "lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        "lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.9",
        "lib/python3.12/site-packages/nvidia/cudnn/lib/libcudnn.so.9",
        "lib/python3.12/site-packages/nvidia/cudnn/lib/libcudnn_ops.so.9",
    ]);
    let cuda_13 = tree(&[
        "lib/python3.12/site-packages/nvidia/cu13/lib/libcublas.so.13",
        "lib/python3.12/site-packages/nvidia/cu13/lib/libcublasLt.so.13",
        "lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13",
        "lib/python3.12/site-packages/nvidia/cudnn/lib/libcudnn.so.9",
    ]);
    let site = "lib/python3.12/site-packages";
    for folder in ["", site, &format!("{site}/nvidia")] {
        let of = |dir: &TempDir, kind| given(dir.path(), folder, kind);
        assert_eq!(of(&cuda_12, Cublas), [format!("{site}/nvidia/cublas/lib/libcublas.so.12")]);
        assert_eq!(of(&cuda_12, CublasLt), [format!("{site}/nvidia/cublas/lib/libcublasLt.so.12")]);
        assert_eq!(of(&cuda_12, Nvrtc), [format!("{site}/nvidia/cuda_nvrtc/lib/libnvrtc.so.12")]);
        assert_eq!(of(&cuda_12, Cudnn), [format!("{site}/nvidia/cudnn/lib/libcudnn.so.9")]);
        assert_eq!(of(&cuda_13, Cublas), [format!("{site}/nvidia/cu13/lib/libcublas.so.13")]);
        assert_eq!(of(&cuda_13, Nvrtc), [format!("{site}/nvidia/cu13/lib/libnvrtc.so.13")]);
        assert_eq!(of(&cuda_13, Cudnn), [format!("{site}/nvidia/cudnn/lib/libcudnn.so.9")]);
        assert_eq!(of(&cuda_13, Driver), [""; 0]);
    }
    // One package's folder of libraries alone.
    let cudnn = format!("{site}/nvidia/cudnn/lib");
    assert_eq!(given(cuda_13.path(), &cudnn, Cudnn), [format!("{cudnn}/libcudnn.so.9")]);
    assert_eq!(given(cuda_13.path(), &cudnn, Nvrtc), [""; 0]);
}

#[test]
fn a_toolkit_gives_its_libraries_once_though_links_multiply_them() {
    let toolkit = tree(&["targets/x86_64-linux/lib/libcublas.so.12.8.4.1", "lib64/stubs/libcuda.so"]);
    let lib = toolkit.path().join("targets/x86_64-linux/lib");
    symlink("libcublas.so.12.8.4.1", lib.join("libcublas.so.12")).unwrap();
    symlink("libcublas.so.12", lib.join("libcublas.so")).unwrap();
    symlink(&lib, toolkit.path().join("lib")).unwrap();
    assert_eq!(given(toolkit.path(), "", Cublas), ["lib/libcublas.so.12.8.4.1"]);
    // Stubs are for linkers.
    assert_eq!(given(toolkit.path(), "", Driver), [""; 0]);
}

#[test]
fn the_newest_of_several_toolkits_comes_first() {
    let root = tree(&[
        "usr/local/cuda-12.4/lib64/libnvrtc.so.12.4.127",
        "usr/local/cuda-12.10/lib64/libnvrtc.so.12.10.2",
        "usr/local/cuda-13.0/lib64/libnvrtc.so.13.0.48",
        "usr/local/cuda-9.2/lib64/libnvrtc.so.9.2.88",
    ]);
    symlink("cuda-12.4", root.path().join("usr/local/cuda")).unwrap();
    let search = Search::new(None, &|_| None, root.path()).unwrap();
    let numbers: Vec<Vec<u32>> = search.candidates(Nvrtc).into_iter().map(|found| found.numbers).collect();
    assert_eq!(numbers, [vec![13, 0, 48], vec![12, 10, 2], vec![12, 4, 127], vec![9, 2, 88]]);
}

#[test]
fn rules_come_in_their_order_and_what_is_given_stands_alone() {
    let files = [
        "usr/local/cuda/lib64/libcudnn.so.9",
        "opt/venv/lib/python3.11/site-packages/nvidia/cudnn/lib/libcudnn.so.9",
    ];
    let root = tree(&files);
    let toolkit = tree(&["lib64/libcudnn.so.9", "lib64/libnvrtc.so.12"]);
    let mine = tree(&["libcudnn.so.9"]);
    let variable = |name: &str| -> Option<OsString> {
        match name {
            "CUDA_HOME" => Some(toolkit.path().into()),
            // Set to nothing is not set.
            "CUDA_PATH" => Some(OsString::new()),
            "VIRTUAL_ENV" => Some(root.path().join("opt/venv").into()),
            _ => None,
        }
    };
    let rules = |search: &Search, kind| -> Vec<Rule> {
        search.candidates(kind).into_iter().map(|candidate| candidate.rule).collect()
    };
    let search = Search::new(None, &variable, root.path()).unwrap();
    assert_eq!(rules(&search, Cudnn), [Rule::Variable("CUDA_HOME"), Rule::Common, Rule::Python]);

    let search = Search::new(Some(mine.path()), &variable, root.path()).unwrap();
    assert_eq!(rules(&search, Cudnn), [Rule::Option]);
    // It has no NVRTC: that comes from elsewhere, and says so.
    assert_eq!(rules(&search, Nvrtc), [Rule::Variable("CUDA_HOME")]);

    let with_path = |name: &str| match name {
        "LAYERJOULE_CUDA_PATH" => Some(mine.path().into()),
        name => variable(name),
    };
    let search = Search::new(None, &with_path, root.path()).unwrap();
    assert_eq!(rules(&search, Cudnn), [Rule::Variable("LAYERJOULE_CUDA_PATH")]);
    // The option counts more than the variable.
    let search = Search::new(Some(toolkit.path()), &with_path, root.path()).unwrap();
    assert_eq!(rules(&search, Cudnn), [Rule::Option]);
}

#[test]
fn the_python_on_the_path_and_conda_are_searched_without_starting_them() {
    let python = tree(&["bin/python3", "lib/python3.13/site-packages/nvidia/cu13/lib/libnvrtc.so.13"]);
    let conda = tree(&["lib/libnvrtc.so.12"]);
    let nothing = TempDir::new().unwrap();
    let variable = |name: &str| -> Option<OsString> {
        match name {
            "PATH" => Some(format!("/nowhere:{}", python.path().join("bin").display()).into()),
            "CONDA_PREFIX" => Some(conda.path().into()),
            _ => None,
        }
    };
    let search = Search::new(None, &variable, nothing.path()).unwrap();
    let found = search.candidates(Nvrtc);
    assert_eq!(found.iter().map(|c| c.numbers[0]).collect::<Vec<_>>(), [13, 12], "{found:?}");
    assert!(found.iter().all(|candidate| candidate.rule == Rule::Python));
}
