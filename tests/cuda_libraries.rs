//! The loader of NVIDIA's libraries: where it looks, what it takes, and what it says of the rest.

mod places;
mod stand_in;

use std::fs;
use std::path::Path;

use layerjoule::backend::cuda::Libraries;
use layerjoule::backend::cuda::Search;
use layerjoule::backend::cuda::libraries::LibraryKind;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::program::layerjoule;
use stand_in::{StandIn, cuda_13, empty_library, parts};

/// The program with nothing of this machine's CUDA: what lies in `folder` comes first, under every name.
fn program(folder: &Path) -> assert_cmd::Command {
    let mut command = layerjoule();
    for name in
        ["CUDA_PATH", "CUDA_HOME", "LAYERJOULE_CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PYENV_ROOT"]
    {
        command.env_remove(name);
    }
    command.env("HOME", folder).env("PATH", "").env("LD_LIBRARY_PATH", folder);
    command
}

fn doctor(folder: &Path, format: &str) -> String {
    let empty = TempDir::new().unwrap();
    let mut command = program(folder);
    let command = command.args(["doctor", "--format", format, "--sysfs-root"]).arg(empty.path());
    let assert = command.arg("--cuda-path").arg(folder).assert().success();
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

fn library(folder: &Path, name: &str) -> Value {
    let value: Value = serde_json::from_str(&doctor(folder, "json")).unwrap();
    let all = value["libraries"].as_array().unwrap();
    assert_eq!(all.len(), 5, "{value:#}");
    all.iter().find(|library| library["name"] == name).unwrap_or_else(|| panic!("{name} {value:#}")).clone()
}

/// The reason why a library is unfit.
fn unfit(folder: &Path, name: &str) -> String {
    let library = library(folder, name);
    assert_eq!(library["status"], "unfit", "{library:#}");
    assert!(!library["mends"].as_array().unwrap().is_empty(), "{library:#}");
    library["reason"].as_str().unwrap().to_string()
}

#[test]
fn a_whole_installation_is_listed_with_its_gpus() {
    let dir = TempDir::new().unwrap();
    cuda_13(dir.path());
    let value: Value = serde_json::from_str(&doctor(dir.path(), "json")).unwrap();
    let of = |key: &str| -> Vec<String> {
        let all = value["libraries"].as_array().unwrap();
        all.iter().map(|library| library[key].as_str().unwrap_or_default().to_string()).collect()
    };
    assert_eq!(of("status"), ["loaded"; 5], "{value:#}");
    assert_eq!(of("name"), ["NVIDIA driver", "cuBLASLt", "cuBLAS", "NVRTC", "cuDNN"]);
    assert_eq!(of("version"), ["13.0", "13.1.2", "13.1.2", "13.0", "9.12.1"]);
    assert_eq!(of("found_by"), ["--cuda-path"; 5]);
    assert!(of("path").iter().all(|path| Path::new(path).starts_with(dir.path())), "{value:#}");
    let cuda = &value["devices"][1];
    assert_eq!((&cuda["kind"], &cuda["gpus"][0]), (&"cuda".into(), &"G".into()), "{cuda}");
    assert_eq!((&cuda["works"], &cuda["reason"]), (&true.into(), &Value::Null), "{cuda}");
    let text = doctor(dir.path(), "table");
    assert!(text.contains("  cuda: works\n      cuda:0   G\n"), "{text}");
}

#[test]
fn files_that_are_no_library_are_refused_in_the_loaders_words() {
    for (content, words) in [("", "file too short"), (&*"no ELF file ".repeat(20), "invalid ELF header")] {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("libcudnn.so.9"), content).unwrap();
        let why = unfit(dir.path(), "cuDNN");
        assert!(why.contains(words), "{why}");
        // The path is said once, and not in the reason.
        assert!(!why.contains("libcudnn.so.9"), "{why}");
    }
}

#[test]
fn a_library_of_another_name_and_a_partial_one_lack_functions() {
    let dir = TempDir::new().unwrap();
    empty_library(dir.path(), "libother.so.1");
    fs::rename(dir.path().join("libother.so.1"), dir.path().join("libcudnn.so.9")).unwrap();
    let all = LibraryKind::Cudnn.symbols().len();
    let why = unfit(dir.path(), "cuDNN");
    assert!(why.contains(&format!("lacks {all} of {all} functions: cudnnCreate, ")), "{why}");

    let dir = TempDir::new().unwrap();
    cuda_13(dir.path());
    StandIn::new(LibraryKind::Cudnn, [9, 12, 1], 13_000).without("cudnnPoolingForward").build(dir.path());
    let why = unfit(dir.path(), "cuDNN");
    assert_eq!(why, format!("it lacks 1 of {all} functions: cudnnPoolingForward"));
}

/// Asked for its version without its graph part, the real cuDNN aborts the process.
#[test]
fn a_cudnn_without_its_parts_is_never_called() {
    let dir = TempDir::new().unwrap();
    cuda_13(dir.path());
    fs::remove_file(dir.path().join("libcudnn_graph.so.9")).unwrap();
    assert_eq!(unfit(dir.path(), "cuDNN"), "libcudnn_graph.so.9 does not lie beside it");
    fs::write(dir.path().join("libcudnn_graph.so.9"), "").unwrap();
    assert_eq!(unfit(dir.path(), "cuDNN"), "it does not load: libcudnn_graph.so.9: file too short");
    fs::remove_file(dir.path().join("libnvrtc-builtins.so.13.0")).unwrap();
    assert_eq!(unfit(dir.path(), "NVRTC"), "libnvrtc-builtins.so.* does not lie beside it");
}

#[test]
fn versions_that_do_not_go_together_are_refused_with_expected_and_found() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path();
    cuda_13(folder);
    StandIn::driver(12_080).build(folder);
    assert_eq!(unfit(folder, "NVRTC"), "it is for CUDA 13, the driver can run CUDA 12.8 at most");
    assert_eq!(unfit(folder, "cuDNN"), "it is for CUDA 13, the driver can run CUDA 12.8 at most");
    let mend = library(folder, "cuDNN")["mends"][0]["command"].clone();
    assert_eq!(mend, "pip install nvidia-cudnn-cu12");

    StandIn::driver(11_080).build(folder);
    let why = unfit(folder, "NVIDIA driver");
    assert_eq!(why, "expected a driver of CUDA 12.0 or newer, 525.60 on, found one of CUDA 11.8");
    // CUDA_ERROR_STUB_LIBRARY.
    StandIn::driver(0).returning(34).build(folder);
    assert_eq!(unfit(folder, "NVIDIA driver"), "it is the stub for linkers and not the driver");

    StandIn::driver(13_000).build(folder);
    StandIn::new(LibraryKind::Cublas, [13, 0, 9], 13_000).build(folder);
    assert_eq!(unfit(folder, "cuBLAS"), "expected 13.1.2, as of cuBLASLt, found 13.0.9");
    StandIn::new(LibraryKind::Cudnn, [8, 9, 7], 12_000).build_as(folder, "libcudnn.so.9");
    assert_eq!(unfit(folder, "cuDNN"), "expected cuDNN 9, found cuDNN 8");
}

#[test]
fn of_two_versions_the_newest_that_the_driver_can_run_is_taken() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path();
    parts(folder);
    StandIn::driver(12_040).build(folder);
    StandIn::new(LibraryKind::Nvrtc, [12, 8, 0], 12_080).build(folder);
    StandIn::new(LibraryKind::Nvrtc, [13, 0, 0], 13_000).build_as(folder, "libnvrtc.so.13");
    // cudarc would ask for libnvrtc.so.13 first; it is out of the reach of names here.
    let by_name = TempDir::new().unwrap();
    for name in ["libnvrtc.so", "libcuda.so"] {
        let target = fs::canonicalize(folder.join(name)).unwrap();
        std::os::unix::fs::symlink(target, by_name.path().join(name)).unwrap();
    }
    let run = || {
        let empty = TempDir::new().unwrap();
        let mut command = program(by_name.path());
        command.args(["doctor", "--format", "json", "--cuda-path"]).arg(folder);
        let assert = command.arg("--sysfs-root").arg(empty.path()).assert().success();
        let value: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
        value["libraries"][3].clone()
    };
    let nvrtc = run();
    assert_eq!((&nvrtc["version"], &nvrtc["status"]), (&"12.8".into(), &"loaded".into()), "{nvrtc:#}");
    let passed = nvrtc["passed_over"][0].as_str().unwrap();
    assert!(passed.contains("libnvrtc.so.13") && passed.contains("is for CUDA 13"), "{passed}");

    StandIn::driver(13_000).build(folder);
    fs::remove_file(by_name.path().join("libnvrtc.so")).unwrap();
    std::os::unix::fs::symlink(folder.join("libnvrtc.so.13"), by_name.path().join("libnvrtc.so")).unwrap();
    assert_eq!(run()["version"], "13.0");
}

#[test]
fn a_library_that_its_name_does_not_lead_to_is_refused() {
    let dir = TempDir::new().unwrap();
    cuda_13(dir.path());
    let other = TempDir::new().unwrap();
    parts(other.path());
    StandIn::new(LibraryKind::Nvrtc, [12, 9, 0], 12_090).build(other.path());
    let mut command = program(other.path());
    let empty = TempDir::new().unwrap();
    command.args(["doctor", "--format", "json", "--sysfs-root"]).arg(empty.path());
    let assert = command.arg("--cuda-path").arg(dir.path()).assert().success();
    let value: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    let why = value["libraries"][3]["reason"].as_str().unwrap_or_else(|| panic!("{value:#}"));
    let file = fs::canonicalize(other.path().join("libnvrtc.so.12")).unwrap();
    assert!(why.contains("puts") && why.contains(file.to_str().unwrap()), "{why}");

    // A file that is renamed keeps its SONAME.
    let dir = TempDir::new().unwrap();
    parts(dir.path());
    StandIn::new(LibraryKind::Nvrtc, [13, 0, 0], 13_000)
        .called("libmine.so")
        .build_as(dir.path(), "libnvrtc.so.13.0.1");
    fs::remove_file(dir.path().join("libnvrtc.so")).unwrap();
    let mut command = program(empty.path());
    command.args(["doctor", "--format", "json", "--sysfs-root"]).arg(empty.path());
    let assert = command.arg("--cuda-path").arg(dir.path()).assert().success();
    let value: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!(value["libraries"][3]["status"], "unfit", "{value:#}");
}

#[test]
fn the_systems_loader_is_asked_by_name() {
    let dir = TempDir::new().unwrap();
    cuda_13(dir.path());
    let empty = TempDir::new().unwrap();
    let mut command = program(dir.path());
    command.args(["doctor", "--format", "json", "--sysfs-root"]).arg(empty.path());
    let value: Value = serde_json::from_slice(&command.assert().success().get_output().stdout).unwrap();
    for library in value["libraries"].as_array().unwrap() {
        assert_eq!(library["found_by"], "the system's loader", "{library:#}");
        let path = Path::new(library["path"].as_str().unwrap());
        assert!(path.starts_with(dir.path().canonicalize().unwrap()), "{library:#}");
    }
}

#[test]
fn a_wrong_cuda_path_is_wrong_usage() {
    let dir = TempDir::new().unwrap();
    for (path, words) in
        [(dir.path().join("nowhere"), "expected a folder"), (dir.path().into(), "no library")]
    {
        let assert = program(dir.path()).args(["doctor", "--cuda-path"]).arg(&path).assert().code(2);
        let text = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(text.contains("--cuda-path") && text.contains(words), "{text}");
    }
    let mut command = program(dir.path());
    let assert =
        command.env("LAYERJOULE_CUDA_PATH", dir.path().join("nowhere")).arg("doctor").assert().code(2);
    let text = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(text.contains("LAYERJOULE_CUDA_PATH: expected a folder"), "{text}");
}

#[test]
fn where_nothing_is_there_all_is_said_once_with_what_to_install() {
    let empty = TempDir::new().unwrap();
    let search = Search::new(None, &|_| None, empty.path()).unwrap();
    let libraries = Libraries::load(&search);
    assert_eq!(libraries.missing(), LibraryKind::ALL);
    let text = libraries.cuda().unwrap_err().to_string();
    for (words, times) in [
        ("NVIDIA driver, cuBLASLt, cuBLAS, NVRTC and cuDNN", 1),
        ("not found", 1),
        ("driver, 525.60 or newer", 1),
        ("`pip install 'nvidia-cublas==13.*' 'nvidia-cuda-nvrtc==13.*' nvidia-cudnn-cu13`", 1),
    ] {
        assert_eq!(text.matches(words).count(), times, "{words}\n{text}");
    }
}

#[test]
fn the_screen_stays_within_eighty_columns() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("libcudnn.so.9"), "").unwrap();
    let text = doctor(dir.path(), "table");
    assert!(text.contains("  cuda: does not work\n"), "{text}");
    assert!(text.contains("  cuDNN: does not work\n"), "{text}");
    let wide =
        |line: &&str| line.chars().count() > 80 && !line.contains(" $ ") && !line.contains("      file ");
    assert_eq!(text.lines().find(wide), None, "{text}");
}
