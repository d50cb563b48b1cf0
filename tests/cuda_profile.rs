//! `profile --device cuda` from end to end, on an emulated GPU whose sensors are a stand-in for NVML: the backend's own
//! code with the host's arithmetic. Nothing here says anything about a real GPU's speed or energy.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use nvml_wrapper::Nvml;
use serde_json::Value;
use tempfile::TempDir;

use crate::stand_ins::cuda::emulated_cuda;
use crate::stand_ins::nvml_library;
use crate::support::program::{layerjoule, shared};

/// The board's power while everything runs, in watts.
const POWER: f64 = 300.0;

/// A convolution, an activation and a fully connected layer.
const NETWORK: &str = r#"
name = "small"
input = [3, 12, 12]
[[layer]]
name = "conv"
kind = "conv"
out_channels = 8
kernel = 3
padding = 1
[[layer]]
name = "relu"
kind = "relu"
[[layer]]
kind = "flatten"
[[layer]]
name = "linear"
kind = "linear"
out_features = 10
"#;

/// Libraries and a network in a folder of their own.
struct Machine {
    dir: TempDir,
    uuid: String,
}

impl Machine {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let libraries = dir.path().join("cuda");
        fs::create_dir(&libraries).unwrap();
        emulated_cuda(&libraries);
        fs::write(dir.path().join("small.toml"), NETWORK).unwrap();
        let nvml = Nvml::builder().lib_path(nvml_library().as_os_str()).init().unwrap();
        let uuid = nvml.device_by_index(0).unwrap().uuid().unwrap();
        Self { dir, uuid }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// The program on the emulated GPU, with short windows.
    fn profile(&self) -> Command {
        self.profile_on("cuda")
    }

    fn profile_on(&self, device: &str) -> Command {
        let mut command = layerjoule();
        command.current_dir(self.dir.path());
        for name in ["CUDA_PATH", "CUDA_HOME", "LAYERJOULE_CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"] {
            command.env_remove(name);
        }
        command.env("LAYERJOULE_EMULATED_UUID", &self.uuid);
        command.env("LAYERJOULE_STAND_IN_POWER", format!("{POWER},40"));
        command.args(["profile", "small.toml", "--device", device, "--cuda-path", "cuda", "--out", "out"]);
        command.arg("--nvml-lib").arg(nvml_library());
        command.args(["--rounds", "2", "--window", "300ms", "--settle", "100ms", "--warm-up", "100ms"]);
        command
    }

    fn run_file(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.out().join("run.json")).unwrap()).unwrap()
    }
}

/// The standard error of a run that ends with a code.
fn error(command: &mut Command, code: i32) -> String {
    let assert = command.assert().code(code);
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

#[test]
fn energies_are_the_boards_power_times_the_time_that_the_gpu_says() {
    let _machine = shared();
    let machine = Machine::new();
    machine.profile().args(["--precision", "bf16", "--layout", "nhwc", "--batch", "4"]).assert().success();
    let run = machine.run_file();
    let device = &run["device"];
    assert_eq!((&device["kind"], &device["uuid"]), (&"cuda".into(), &machine.uuid.as_str().into()));
    assert_eq!(
        (&device["precision"], &device["layout"], &device["cache"]),
        (&"bf16".into(), &"nhwc".into(), &"cold".into())
    );
    assert!(device["driver"].as_str().unwrap().contains("stand-in"), "{device}");
    assert_eq!((&run["emulated"], &run["simulated"]), (&true.into(), &false.into()));
    assert_eq!(run["meters"][run["primary_meter"].as_u64().unwrap_or(0) as usize]["id"], "nvml");
    let layers = run["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 4);
    for layer in layers.iter().filter(|layer| layer["name"] != "flatten1") {
        let value = |key: &str| layer[key]["value"].as_f64().unwrap_or_else(|| panic!("{key}: {layer:#}"));
        // The load never changes the power, so that a layer's energy is known from its time. Two windows of 0.3 s
        // with edges found within a millisecond.
        let (found, expected) = (value("energy_j"), value("time_s") * POWER);
        assert!((found / expected - 1.0).abs() < 0.02, "{found} J, expected {expected} J: {layer:#}");
        assert!(!layer["algorithm"].as_str().unwrap().is_empty(), "{layer:#}");
        assert!(!layer["kernels"].as_array().unwrap().is_empty(), "{layer:#}");
    }
    assert_eq!(run["layers"][1]["kind"], "relu");
    // Two bytes a number: 4 items of 8 x 12 x 12, read and written.
    assert_eq!(run["layers"][1]["bytes"], 4 * 8 * 144 * 2 * 2);
}

#[test]
fn a_network_that_does_not_fit_names_the_batch_that_would() {
    let machine = Machine::new();
    let mut command = machine.profile();
    // Parameters and six caches of 256 KiB are needed for every batch, and at most (3 + 8 + 8) x 144 + 10 numbers of 4
    // bytes for an item: some hundred items fit 8 MiB, never 4096.
    command.env("LAYERJOULE_EMULATED_MEMORY", (8 << 20).to_string()).args(["--batch", "4096"]);
    let text = error(&mut command, 3);
    assert!(text.contains("MiB are available; --batch "), "{text}");
    let fitting = text.split("--batch ").nth(1).unwrap().split(' ').next().unwrap().to_string();
    assert!((1..4096).contains(&fitting.parse::<usize>().unwrap()), "{text}");
    assert!(!machine.out().exists(), "nothing was measured, so nothing is left");
}

#[test]
fn a_gpu_that_is_lost_leaves_finished_windows_and_the_same_command_goes_on() {
    let _machine = shared();
    let machine = Machine::new();
    // Lost in the middle of the measurement: after so many pieces of work.
    let text = error(machine.profile().env("LAYERJOULE_EMULATED_LOST", "40000"), 3);
    assert!(text.contains("uncorrectable ECC error") && text.contains("the GPU is lost"), "{text}");
    assert!(text.contains("the finished windows are kept"), "{text}");
    let kept = spans(&machine.out());
    machine.profile().assert().success();
    let complete = spans(&machine.out());
    assert!(kept > 0 && kept < complete, "{kept} of {complete} windows");
}

/// Windows in the trace of a run.
fn spans(out: &Path) -> usize {
    let trace = fs::read_to_string(out.join("trace.jsonl")).unwrap();
    trace.lines().filter(|line| line.contains("\"executions\"")).count()
}

#[test]
fn what_this_gpu_cannot_do_is_said_before_anything_runs() {
    let machine = Machine::new();
    for (arguments, code, expected) in [
        (&["--threads", "2"][..], 2, "--threads: a GPU has none"),
        (&["--fuse"], 2, "--fuse: a GPU computes layers one by one"),
        (&["--precision", "f64"], 2, "expected f32, tf32, f16 or bf16, found \"f64\""),
        (&["--layout", "chwn"], 2, "expected nchw or nhwc, found \"chwn\""),
        (&["--cache", "warm"], 2, "expected cold or hot, found \"warm\""),
        (&["--conv-algo", "magic"], 3, "magic"),
    ] {
        let text = error(machine.profile().args(arguments), code);
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    let text = error(&mut machine.profile_on("cuda:x"), 2);
    assert!(text.contains("expected cuda:N with a number from 0 on"), "{text}");
    let text = error(&mut machine.profile_on("cuda:7"), 3);
    assert!(text.contains("expected a GPU from cuda:0 to cuda:0"), "{text}");
    let mut old = machine.profile();
    let text = error(old.env("LAYERJOULE_EMULATED_CAPABILITY", "7.5").args(["--precision", "bf16"]), 3);
    assert!(text.contains("--precision bf16 needs compute capability 8.0, this GPU has 7.5"), "{text}");
    let text = error(machine.profile().env("LAYERJOULE_EMULATED_ERRORS", "cuInit=100"), 3);
    assert!(text.contains("no CUDA-capable device"), "{text}");
    let text = error(machine.profile_on("cpu").args(["--precision", "f16"]), 2);
    assert!(text.contains("--precision: the CPU computes in f32, found f16"), "{text}");
    let text = error(machine.profile_on("sim:h200").args(["--layout", "nhwc"]), 2);
    assert!(text.contains("--layout: a simulated device computes in nchw, found nhwc"), "{text}");
    assert!(!machine.out().exists());
}

#[test]
fn a_slice_of_a_gpu_has_no_power_of_its_own() {
    let machine = Machine::new();
    let mut command = machine.profile();
    command.env("LAYERJOULE_EMULATED_NAME", "Emulated H200 MIG 1g.18gb");
    let text = error(&mut command, 3);
    assert!(
        text.contains("no meter that sees the device works here: nvml:") && text.contains("MIG"),
        "{text}"
    );
}

#[test]
fn another_process_on_the_gpu_is_a_warning_of_the_run() {
    let _machine = shared();
    let machine = Machine::new();
    let mut command = machine.profile();
    // Numbers of the host, as in a container: one of the two is the program itself.
    command.env("LAYERJOULE_STAND_IN_PROCESSES", "1,2").assert().success();
    let run = machine.run_file();
    assert_eq!(run["environment"]["device_processes"], 1);
    let codes: Vec<&str> =
        run["warnings"].as_array().unwrap().iter().filter_map(|w| w["code"].as_str()).collect();
    assert!(codes.contains(&"shared_device"), "{codes:?}");
}
