//! What goes to a machine with a GPU: `run.sh` with stand-ins for the product and nvidia-smi, Python's scripts without
//! torch, and the programs on the processor.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use layerjoule::clock::{Clock, MonotonicClock};
use layerjoule::units::Seconds;
use serde_json::Value;

use crate::stand_ins::nvml_library;
use crate::support::program::{copy_tree, repository, shared};

/// Beginning of every stand-in for the product: it answers to `--version` and says that everything works.
const PRODUCT: &str = r#"#!/bin/bash
if [[ $1 == --version ]]; then echo "layerjoule 0"; exit; fi
if [[ $1 == doctor ]]; then
    echo '{"devices": [{"kind": "cuda", "works": true}], "meters": [{"id": "nvml", "status": "measured"}]}'
    exit
fi
while (($#)); do [[ $1 == --out ]] && out="$2"; shift; done
"#;

/// Writes the run file of a run on a GPU.
const FINISH: &str = r#"
mkdir -p "$out"
cat >"$out/run.json" <<JSON
{"device": {"kind": "cuda"}, "simulated": false, "emulated": false, "primary_meter": "nvml", "kinds": [],
 "layers": [{"name": "conv1", "signature": "s", "status": "below_detection", "energy_j": null}],
 "closure": [{"phase": "forward", "residual_ratio": 0.01}], "warnings": []}
JSON
echo run >>"$COUNT"
"#;

/// A bundle with stand-ins, and a machine around it.
struct Bundle {
    dir: tempfile::TempDir,
}

impl Bundle {
    /// `product` is what the stand-in for the product does with `profile`, in bash.
    fn new(product: &str) -> Self {
        let bundle = Self { dir: tempfile::tempdir().unwrap() };
        let root = bundle.path("bundle");
        copy_tree(&repository("xtask/gpu/python"), &root.join("python"));
        fs::create_dir_all(root.join("networks")).unwrap();
        fs::copy(repository("xtask/gpu/run.sh"), root.join("run.sh")).unwrap();
        fs::write(root.join("MANIFEST.json"), "{\"glibc\": \"2.34\"}\n").unwrap();
        bundle.script("bundle/bin/layerjoule", &format!("{PRODUCT}{product}"));
        bundle.seal();
        let smi =
            "#!/bin/bash\n[[ $1 != -L ]] || echo 'GPU 0: Test'\n[[ $1 != --query* ]] || echo 'Test, 580'\n";
        bundle.script("machine/nvidia-smi", smi);
        bundle
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Writes the checksums anew.
    fn seal(&self) {
        let all = "find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS";
        let sealed = Command::new("bash").args(["-c", all]).current_dir(self.path("bundle")).status();
        assert!(sealed.unwrap().success());
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(self.path("bundle/run.sh"));
        let machine = self.path("machine");
        let search = format!("{}:{}", machine.display(), std::env::var("PATH").unwrap());
        command.args(arguments).env("PATH", search).env("COUNT", self.path("count"));
        command.env("LAYERJOULE_GPU_WORK", self.path("work")).env("LAYERJOULE_CUDA_PATH", "/nowhere");
        command.envs(variables.iter().copied());
        command
    }

    /// Runs a part into `out`; exit code and what it said.
    fn run_with(&self, part: &str, variables: &[(&str, &str)]) -> (i32, String) {
        let out = self.path("out");
        let output = self.command(&[part, out.to_str().unwrap()], variables).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn run(&self, part: &str) -> (i32, String) {
        self.run_with(part, &[])
    }

    /// How often the product finished a run.
    fn finished(&self) -> usize {
        fs::read_to_string(self.path("count")).map_or(0, |text| text.lines().count())
    }

    /// What a part's archive holds, unpacked.
    fn unpacked(&self, part: &str) -> PathBuf {
        let to = self.path("unpacked");
        fs::create_dir_all(&to).unwrap();
        let archive = self.path("out").join(format!("part-{part}.tar.gz"));
        let tar = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&to).status();
        assert!(tar.unwrap().success());
        to
    }

    /// The rows of a part's steps: name, status, reason.
    fn steps(&self, part: &str) -> Vec<[String; 3]> {
        let text = fs::read_to_string(self.unpacked(part).join("steps.tsv")).unwrap();
        let row = |line: &str| {
            let columns: Vec<&str> = line.split('\t').collect();
            assert_eq!(columns.len(), 6, "{line}");
            [columns[0], columns[1], columns[5]].map(str::to_string)
        };
        text.lines().skip(1).map(row).collect()
    }
}

#[test]
fn each_part_is_listed_with_its_time_and_what_it_proves() {
    let output = Command::new(repository("xtask/gpu/run.sh")).arg("list").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let seconds: Vec<u32> =
        text.lines().map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(seconds.len(), 11, "{text}");
    // Eight minutes are all that a part may take.
    assert!(seconds.iter().all(|&seconds| seconds <= 480), "{text}");
    let documented = fs::read_to_string(repository("docs/gpu-runs.md")).unwrap();
    for part in text.lines().map(|line| line.split_whitespace().next().unwrap()) {
        assert!(documented.contains(&format!("| `{part}` |")), "{part} is not in docs/gpu-runs.md");
    }
}

#[test]
fn wrong_arguments_end_with_2() {
    let bundle = Bundle::new(FINISH);
    let (code, said) = bundle.run("nonsense");
    assert_eq!((code, said.as_str()), (2, "run.sh: no part \"nonsense\"; `run.sh list` names them\n"));
    let (code, said) = bundle.run_with("vgg16", &[("PART_S", "8m")]);
    assert_eq!((code, said.as_str()), (2, "run.sh: PART_S: expected a whole number above 0, found \"8m\"\n"));
    assert_eq!(bundle.command(&[], &[]).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_part_leaves_one_archive_with_results_logs_environment_and_checksums() {
    let bundle = Bundle::new(FINISH);
    let (code, said) = bundle.run("vgg16");
    assert_eq!(code, 0, "{said}");
    assert_eq!(fs::read_dir(bundle.path("out")).unwrap().count(), 1);
    let unpacked = bundle.unpacked("vgg16");
    let run = "vgg16-bf16-nhwc-b64";
    for file in [
        "MANIFEST.json",
        "part.tsv",
        "environment/nvidia-smi-q.txt",
        "environment/python.json",
        &format!("logs/{run}.err"),
        &format!("results/runs/{run}/run.json"),
    ] {
        assert!(unpacked.join(file).is_file(), "{file}");
    }
    let checks = fs::read_to_string(unpacked.join(format!("results/runs/{run}-checks.txt"))).unwrap();
    assert!(checks.contains("layers: 1 below_detection"), "{checks}");
    assert_eq!(fs::read_to_string(unpacked.join("environment/gpus.csv")).unwrap(), "Test, 580\n");
    let part = fs::read_to_string(unpacked.join("part.tsv")).unwrap();
    assert!(part.starts_with("schema\tlayerjoule.gpu-part/1\npart\tvgg16\nstatus\tok\n"), "{part}");
    let checked =
        Command::new("sha256sum").args(["--quiet", "-c", "SHA256SUMS"]).current_dir(&unpacked).status();
    assert!(checked.unwrap().success());
    // Folders of the machine are nobody's business.
    let steps = fs::read_to_string(unpacked.join("steps.tsv")).unwrap();
    assert!(steps.contains("\t./bin/layerjoule profile ./networks/vgg16.toml --device cuda "), "{steps}");
    assert!(!steps.contains(bundle.dir.path().to_str().unwrap()), "{steps}");
}

#[test]
fn a_missing_gpu_is_a_failure_and_never_a_skip() {
    let bundle = Bundle::new(FINISH);
    bundle.script("machine/nvidia-smi", "#!/bin/bash\necho 'No devices were found'\n");
    let (code, said) = bundle.run("vgg16");
    assert_eq!(code, 1);
    assert_eq!(said, "run.sh: nvidia-smi -L shows no GPU, and REQUIRE_GPU=1\n");
}

#[test]
fn a_damaged_bundle_does_not_run() {
    let bundle = Bundle::new(FINISH);
    fs::write(bundle.path("bundle/python/checks.py"), "").unwrap();
    let (code, said) = bundle.run("vgg16");
    assert_eq!(code, 1);
    assert!(said.ends_with("run.sh: the bundle is damaged; unpack it again\n"), "{said}");
}

#[test]
fn a_step_that_fails_fails_its_part_and_says_why() {
    let bundle = Bundle::new("echo 'error: the GPU is lost' >&2; exit 3");
    let (code, said) = bundle.run("vgg16");
    assert_eq!(code, 1, "{said}");
    let reason = "exit code 3 instead of 0; logs/vgg16-bf16-nhwc-b64.err ends with: error: the GPU is lost";
    assert!(said.contains("FAILED vgg16-bf16-nhwc-b64"), "{said}");
    assert_eq!(
        bundle.steps("vgg16"),
        [["vgg16-bf16-nhwc-b64".to_string(), "FAILED".to_string(), reason.to_string()]]
    );
    let part = fs::read_to_string(bundle.unpacked("vgg16").join("part.tsv")).unwrap();
    assert!(part.contains("status\tFAILED\n"), "{part}");
}

#[test]
fn a_panic_is_a_failure_whatever_the_exit_code() {
    let bundle = Bundle::new(&format!("{FINISH}\necho \"thread 'main' panicked at src\" >&2"));
    assert_eq!(bundle.run("vgg16").0, 1);
    assert!(bundle.steps("vgg16")[0][2].starts_with("it panicked;"));
}

#[test]
fn a_part_that_runs_out_of_time_is_unfinished_and_the_same_command_goes_on() {
    // The first run is told to stop and keeps what it has; the second finds that and finishes.
    let product = format!(
        "mkdir -p \"$out\"\nif [[ ! -e \"$out/begun\" ]]; then\n    trap 'touch \"$out/begun\"; exit 130' TERM\n    \
         sleep 60 & wait\nfi\n{FINISH}"
    );
    let bundle = Bundle::new(&product);
    // Ten seconds are enough to come to the run, however busy the machine.
    let (code, said) = bundle.run_with("vgg16", &[("PART_S", "11"), ("RESERVE_S", "1")]);
    assert_eq!(code, 4, "{said}");
    assert!(bundle.steps("vgg16")[0][2].contains("the same command goes on"));
    let unpacked = bundle.unpacked("vgg16");
    assert!(unpacked.join("results/runs/vgg16-bf16-nhwc-b64/begun").exists());
    let part = fs::read_to_string(unpacked.join("part.tsv")).unwrap();
    assert!(part.contains("status\tunfinished\n"), "{part}");
    let (code, said) = bundle.run("vgg16");
    assert_eq!((code, bundle.finished()), (0, 1), "{said}");
    // The line of the first call has given way.
    assert_eq!(bundle.steps("vgg16").len(), 2);
}

#[test]
fn what_is_done_is_not_done_again_even_where_only_the_archive_is_left() {
    let bundle = Bundle::new(FINISH);
    assert_eq!(bundle.run("vgg16").0, 0);
    let (code, said) = bundle.run("vgg16");
    assert_eq!((code, bundle.finished()), (0, 1), "{said}");
    fs::remove_dir_all(bundle.path("work")).unwrap();
    let (code, said) = bundle.run("vgg16");
    assert_eq!((code, bundle.finished()), (0, 1), "{said}");
    assert!(said.contains("ok vgg16-bf16-nhwc-b64 (done before)"), "{said}");
}

#[test]
fn the_archive_of_another_bundle_is_neither_gone_on_with_nor_replaced() {
    let bundle = Bundle::new(FINISH);
    assert_eq!(bundle.run("vgg16").0, 0);
    fs::write(bundle.path("bundle/MANIFEST.json"), "{\"glibc\": \"2.35\"}\n").unwrap();
    bundle.seal();
    let (code, said) = bundle.run("vgg16");
    assert_eq!((code, bundle.finished()), (2, 1), "{said}");
    assert!(said.contains("is of another bundle; move it away or give another OUT"), "{said}");
}

#[test]
fn an_interrupted_part_leaves_the_archive_of_what_is_finished() {
    let bundle = Bundle::new("mkdir -p \"$out\"; touch \"$out/begun\"; sleep 60 & wait");
    let out = bundle.path("out");
    let mut child =
        bundle.command(&["vgg16", out.to_str().unwrap()], &[]).stderr(Stdio::null()).spawn().unwrap();
    let begun = || {
        let found = Command::new("find").arg(bundle.path("work")).args(["-name", "begun"]).output().unwrap();
        !found.stdout.is_empty()
    };
    let clock = MonotonicClock::start();
    while !begun() {
        assert!(clock.now().since_origin() < Seconds::new(120.0), "the product was never started");
        clock.sleep_until(clock.now() + Seconds::new(0.05));
    }
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let unpacked = bundle.unpacked("vgg16");
    let part = fs::read_to_string(unpacked.join("part.tsv")).unwrap();
    assert!(part.contains("status\tunfinished\n"), "{part}");
    assert!(unpacked.join("results/runs/vgg16-bf16-nhwc-b64/begun").exists());
}

#[test]
fn all_runs_what_fits_its_budget_and_names_the_rest() {
    let bundle = Bundle::new(FINISH);
    // Only the doctor takes less than a minute.
    let (code, said) = bundle.run_with("all", &[("BUDGET_S", "59")]);
    assert_eq!(code, 0, "{said}");
    let summary = said.split("=== summary\n").nth(1).unwrap();
    assert_eq!(summary.lines().filter(|line| *line == "ok doctor").count(), 1, "{said}");
    assert_eq!(summary.lines().filter(|line| line.starts_with("skipped ")).count(), 10, "{said}");
    assert!(bundle.path("out/part-doctor.tar.gz").exists());
}

#[test]
fn a_run_that_disagrees_in_its_checks_fails_its_part() {
    let bundle = Bundle::new(&FINISH.replace("\"emulated\": false", "\"emulated\": true"));
    let (code, said) = bundle.run("vgg16");
    assert_eq!(code, 1, "{said}");
    assert!(bundle.steps("vgg16")[1][2].contains("not a run of a real GPU"), "{said}");
}

#[test]
fn the_second_run_needs_the_archive_of_the_first() {
    let bundle = Bundle::new(FINISH);
    bundle
        .script("bundle/bin/gpu_agreement", "#!/bin/bash\nls \"$1/run.json\" \"$2/run.json\" && echo '{}'\n");
    bundle.seal();
    let (code, said) = bundle.run("resnet50-bf16-again");
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("part-resnet50-bf16.tar.gz is not in OUT"), "{said}");
    assert_eq!(bundle.run("resnet50-bf16").0, 0);
    let (code, said) = bundle.run("resnet50-bf16-again");
    assert_eq!((code, bundle.finished()), (0, 2), "{said}");
}

#[test]
fn refusals_are_held_to_their_exit_codes_and_words() {
    let bundle = Bundle::new("echo 'error: out of memory; a batch of 64 would fit' >&2; exit 3");
    let (code, said) = bundle.run("faults");
    assert_eq!(code, 1, "{said}");
    let steps = bundle.steps("faults");
    let row = |name: &str| steps.iter().find(|step| step[0] == name).unwrap();
    assert_eq!(row("out-of-memory")[1], "ok");
    assert!(row("wrong-precision")[2].starts_with("exit code 3 instead of 2"));
    assert!(row("no-such-gpu")[2].starts_with("its message does not say /cuda:99|GPU/"));
    assert!(row("interrupted")[2].starts_with("exit code 3 instead of 130"));
    assert_eq!(row("goes-on")[1], "skipped");
}

/// Runs Python; the test says that it skips where there is none.
fn python(arguments: &[&str]) -> Option<Output> {
    match Command::new("python3").args(arguments).env("PYTHONDONTWRITEBYTECODE", "1").output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: python3 does not start: {error}");
            None
        }
    }
}

#[test]
fn scripts_are_python_and_their_arithmetic_holds() {
    let scripts = repository("xtask/gpu/python");
    for script in ["checks", "energy_window", "torch_layers", "versions"] {
        let file = scripts.join(format!("{script}.py"));
        let compile = "import sys; compile(open(sys.argv[1]).read(), sys.argv[1], 'exec')";
        let Some(compiled) = python(&["-c", compile, file.to_str().unwrap()]) else { return };
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        if script == "versions" {
            continue;
        }
        let tested = python(&[file.to_str().unwrap(), "--self-test"]).unwrap();
        let said = String::from_utf8_lossy(&tested.stdout);
        assert_eq!(said, "self-test: ok\n", "{script}: {}", String::from_utf8_lossy(&tested.stderr));
    }
}

/// Runs a script of `xtask/gpu/python` with stand-ins for torch and pynvml.
fn script(name: &str, arguments: &[&str]) -> Option<Output> {
    let file = repository("xtask/gpu/python").join(name);
    let mut command = Command::new("python3");
    command.arg(file).args(arguments).env("PYTHONPATH", repository("tests/stand_ins/python"));
    match command.env("PYTHONDONTWRITEBYTECODE", "1").output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: python3 does not start: {error}");
            None
        }
    }
}

#[test]
fn layers_are_timed_in_turns_with_a_peer_of_known_time() {
    let _machine = shared();
    let (program, network) = (program("gpu_layer_times"), repository("networks/lenet5.toml"));
    let arguments = [program.to_str().unwrap(), network.to_str().unwrap(), "--device", "cpu", "--batch", "2"];
    let few = ["--turns", "2", "--samples", "2", "--precision", "f32", "--layout", "nchw", "--bound", "1000"];
    let Some(output) = script("torch_layers.py", &[&arguments[..], &few[..]].concat()) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((found["layers"].as_u64(), found["failed"].as_u64()), (Some(5), Some(0)), "{found}");
    let number = |value: &Value| value.as_f64().unwrap();
    let mut logarithms = 0.0;
    for row in found["rows"].as_array().unwrap() {
        // The stand-in's layers take a millisecond, so that the ratio is our time in milliseconds.
        assert!((number(&row["torch_seconds"]) - 1e-3).abs() < 1e-9, "{row}");
        assert!((number(&row["ratio"]) / (number(&row["seconds"]) * 1e3) - 1.0).abs() < 1e-6, "{row}");
        logarithms += number(&row["ratio"]).ln();
    }
    assert!((number(&found["geometric_mean"]).ln() - logarithms / 5.0).abs() < 1e-9, "{found}");
    // conv1 moves 11,126 numbers of 4 bytes, more than twice the stand-in's cache of 10,000 bytes.
    assert_eq!(found["rows"][0]["torch_copies"], 2);
}

#[test]
fn a_window_of_other_joules_than_the_counters_is_found() {
    let dir = tempfile::tempdir().unwrap();
    // Two seconds between two instants at which the stand-in's counter has just moved, at 300 W.
    let window = |joules: f64, uuid: &str| {
        let path = dir.path().join("window");
        let text = format!(
            "#!/usr/bin/env python3\nimport json, math, time\ntime.sleep(0.3)\nbegin = math.ceil(time.time() * 2) / 2\n\
             time.sleep(begin + 2.2 - time.time())\nprint(json.dumps({{'emulated': False, 'joules': {joules}, 'uuid': '{uuid}', \
             'begin_unix_s': begin + 0.001, 'end_unix_s': begin + 2.001}}))\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        script("energy_window.py", &[path.to_str().unwrap(), "--"])
    };
    let Some(right) = window(600.0, "GPU-stand-in") else { return };
    let said = String::from_utf8_lossy(&right.stderr).into_owned();
    assert!(right.status.success(), "{said}");
    let found: Value = serde_json::from_slice(&right.stdout).unwrap();
    assert_eq!(found["python_joules"].as_f64(), Some(600.0), "{found}");
    let wrong = window(604.0, "GPU-stand-in").unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        !wrong.status.success() && said.contains("604.00 J by our meter and 600.00 J by Python"),
        "{said}"
    );
    let elsewhere = window(600.0, "GPU-other").unwrap();
    let said = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert!(said.contains("the program ran on GPU-other, Python read GPU-stand-in"), "{said}");
}

/// A program of `examples/`; built where these tests alone were asked for.
fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    // TARGET/PROFILE/deps/all-0123456789abcdef
    let tests = std::env::current_exe().unwrap();
    let of_profile = tests.ancestors().nth(2).unwrap();
    BUILT.get_or_init(|| {
        // Nothing to do for cargo when they are as new as the library.
        let mut build = Command::new(env!("CARGO"));
        build.current_dir(repository("")).args(["build", "--quiet", "--locked", "--package", "layerjoule"]);
        build.args(["--example", "gpu_layer_times", "--example", "gpu_window"]);
        if !of_profile.ends_with("debug") {
            build.arg("--release");
        }
        build.arg("--target-dir").arg(of_profile.parent().unwrap());
        assert!(build.status().unwrap().success());
    });
    of_profile.join("examples").join(name)
}

/// Asks `gpu_layer_times` on the processor; a line of JSON for each command.
fn layer_times(arguments: &[&str], networks: &[&str], commands: &str) -> Vec<Value> {
    let mut child = Command::new(program("gpu_layer_times"))
        .args(["--device", "cpu"])
        .args(arguments)
        .args(networks.iter().map(|name| repository(&format!("networks/{name}.toml"))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_layers_to_time_are_those_of_the_papers_each_once() {
    let [answer] = &layer_times(&[], &["resnet50", "vgg16"], "list\n")[..] else { panic!("one answer") };
    let layers = answer["layers"].as_array().unwrap();
    // He 2015, table 1: 53 convolutions, one linear layer. Simonyan 2014, table 1, D: 13 and 3.
    let uses = |network: &str, kind: &str| -> u64 {
        let of_kind = layers.iter().filter(|layer| layer["kind"] == kind);
        of_kind.filter_map(|layer| layer["count"][network].as_u64()).sum()
    };
    assert_eq!((uses("resnet50", "conv"), uses("resnet50", "linear")), (53, 1));
    assert_eq!((uses("vgg16", "conv"), uses("vgg16", "linear")), (13, 3));
    // Counted by hand: 23 shapes of ResNet-50, 9 of VGG-16 (which have a bias), 4 linear ones.
    assert_eq!(layers.len(), 23 + 9 + 4);
    assert_eq!(layers[0]["input"], serde_json::json!([3, 224, 224]));
    assert_eq!(layers[0]["kernel"], serde_json::json!([7, 7]));
    assert_eq!(layers[0]["padding"], serde_json::json!([3, 3, 3, 3]));
}

#[test]
fn a_layer_is_prepared_timed_and_forgotten_and_mistakes_do_not_end_the_program() {
    let _machine = shared();
    let commands =
        "prepare 0 f32 nchw\ntime 3\nprepare 99 f32 nchw\ntime 3\nprepare 1 f33 nchw\nforget\nlist\n";
    let answers = layer_times(&["--batch", "2"], &["lenet5"], commands);
    assert!(answers[0]["algorithm"].as_str().is_some_and(|name| !name.is_empty()), "{}", answers[0]);
    let times: Vec<f64> = answers[1].as_array().unwrap().iter().map(|time| time.as_f64().unwrap()).collect();
    // 2 x 28 x 28 x 6 x 25 multiply-accumulates: no processor does them in 10 ns, and each does in a second.
    assert!(times.len() == 3 && times.iter().all(|time| (1e-8..1.0).contains(time)), "{times:?}");
    let error = |answer: &Value| answer["error"].as_str().unwrap().to_string();
    assert_eq!(error(&answers[2]), "prepare: expected a layer from 0 to 4, found 99");
    assert_eq!(error(&answers[3]), "time: nothing is prepared; `prepare` first");
    assert_eq!(error(&answers[4]), "precision: expected one of f32, tf32, f16, bf16, found \"f33\"");
    assert_eq!((&answers[5], answers[6]["batch"].as_u64()), (&Value::Null, Some(2)));
}

#[test]
fn the_joules_of_a_window_are_those_of_the_board() {
    let _machine = shared();
    let output = Command::new(program("gpu_window"))
        .args([
            "--device",
            "cpu",
            "--layer",
            "conv2",
            "--batch",
            "2",
            "--precision",
            "f32",
            "--layout",
            "nchw",
        ])
        .args(["--seconds", "2", "--settle", "0.2", "--network"])
        .arg(repository("networks/lenet5.toml"))
        .arg("--nvml-lib")
        .arg(nvml_library())
        .env("LAYERJOULE_STAND_IN_POWER", "300,40")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |key: &str| found[key].as_f64().unwrap();
    let seconds = number("seconds");
    assert!(seconds >= 2.0 && found["emulated"] == true, "{found}");
    // Half a percent is what the window is for; each edge lies anywhere between two looks, which a busy machine
    // holds up.
    let edges: f64 = found["edges_s"].as_array().unwrap().iter().map(|edge| edge.as_f64().unwrap()).sum();
    let allowed = 0.005 + edges / seconds;
    assert!((number("joules") / (300.0 * seconds) - 1.0).abs() < allowed, "{found}");
    assert!((number("end_unix_s") - number("begin_unix_s") - seconds).abs() < 1e-5, "{found}");
    assert!(number("executions") > 0.0, "{found}");
}

#[test]
fn a_program_without_a_gpu_says_what_is_missing() {
    let output = Command::new(program("gpu_layer_times"))
        .args(["--device", "cuda:x"])
        .arg(repository("networks/lenet5.toml"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("--device cuda:N: expected a number, found \"x\""),
        "{said}"
    );
}

#[test]
fn the_script_is_executable_as_it_lies_in_the_repository() {
    let mode = fs::metadata(Path::new(&repository("xtask/gpu/run.sh"))).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
}
