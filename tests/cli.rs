//! The program as people and scripts meet it: what it writes, what it says, how it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use assert_cmd::assert::Assert;
use serde_json::Value;

use crate::schema::assert_valid;
use crate::support::program::{layerjoule, lenet, repository, shared};

/// Options that make a run as short as it can be and still be one.
const SHORT: [&str; 10] =
    ["--meter", "modelled", "--rounds", "2", "--window", "10ms", "--settle", "5ms", "--warm-up", "20ms"];

fn profile(network: &Path, out: &Path, more: &[&str]) -> Assert {
    let _machine = shared();
    layerjoule().arg("profile").arg(network).args(SHORT).arg("--out").arg(out).args(more).assert()
}

fn run_file(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("run.json")).unwrap()).unwrap()
}

fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

#[test]
fn a_fused_profile_gives_the_energy_of_a_step_to_its_first_layer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("block.toml");
    let text = "
        name = \"block\"
        input = [8, 12, 12]
        [[layer]]
        name = \"conv1\"
        kind = \"conv\"
        out_channels = 8
        kernel = 3
        padding = 1
        [[layer]]
        kind = \"batch_norm\"
        [[layer]]
        kind = \"add\"
        inputs = [\"batch_norm1\", \"input\"]
        [[layer]]
        kind = \"relu\"
        [[layer]]
        kind = \"global_avg_pool\"
        [[layer]]
        kind = \"flatten\"
        [[layer]]
        name = \"fc\"
        kind = \"linear\"
        out_features = 10
    ";
    fs::write(&file, text).unwrap();
    let out = dir.path().join("out");
    let assert = profile(&file, &out, &["--fuse", "--top", "all"]).success();
    assert_eq!(stdout(&assert).lines().filter(|line| line.contains(" fused ")).count(), 3);
    let run = run_file(&out);
    assert_valid(&run);
    let layers = run["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 7);
    assert_eq!(layers[0]["fused"], serde_json::json!(["batch_norm1", "add1", "relu1"]));
    assert!(layers[0]["signature"].as_str().unwrap().contains("then"));
    for row in &layers[1..4] {
        assert_eq!((row["status"].as_str(), row["executions"].as_u64()), (Some("unavailable"), Some(0)));
        assert!(row["energy_j"].is_null() && row["upper_j"].is_null(), "{row}");
        assert!(row["reason"].as_str().unwrap().contains("together with conv1"), "{row}");
    }
    let picture = fs::read_to_string(out.join("energy_per_layer.svg")).unwrap();
    assert!(picture.contains("\nfused\n") && picture.contains("Fused: computed together"), "{picture}");
    assert!(!picture.contains("\nno reading\n"), "{picture}");
    // Nothing is lost and nothing counted twice.
    for key in ["flops", "flops_elementwise"] {
        let sum: u64 = layers.iter().map(|row| row[key].as_u64().unwrap()).sum();
        assert_eq!(sum, run["network"][key].as_u64().unwrap(), "{key}");
    }
    // Two 8x12x12 tensors in, one out, the weights, and four numbers for each channel of the batch norm.
    let bytes = 4 * (3 * 8 * 144 + (8 * 8 * 9 + 8) + 4 * 8);
    assert_eq!(layers[0]["bytes"].as_u64(), Some(bytes));
}

#[test]
fn a_profile_writes_every_output_and_calls_the_model_an_estimate() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let assert = profile(&lenet(dir.path()), &out, &["--batch", "2"]).success();
    let mut files: Vec<String> =
        fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let mut expected = vec!["kinds.csv", "layers.csv", "run.json", "trace.jsonl"]
        .into_iter()
        .map(String::from)
        .chain(
            layerjoule::report::PICTURE_NAMES.iter().flat_map(|n| [format!("{n}.png"), format!("{n}.svg")]),
        )
        .collect::<Vec<_>>();
    expected.sort();
    assert_eq!(files, expected);
    let run = run_file(&out);
    assert_valid(&run);
    // The machine's clock knows what its readings cost: some time, and less than all of it.
    let sampling = &run["sampling"];
    assert!(sampling["reads"].as_u64().unwrap() > 0, "{sampling}");
    for share in ["share", "cpu_share"] {
        let share = sampling[share].as_f64().unwrap();
        assert!(share > 0.0 && share < 1.0, "{sampling}");
    }
    assert!(sampling["slow_down"].is_object() != sampling["reason"].is_string(), "{sampling}");
    assert_eq!(run["primary_meter"], "modelled");
    assert_eq!(run["network"]["batch"], 2);
    for layer in run["layers"].as_array().unwrap() {
        let no_op = layer["signature"].is_null();
        let status = layer["status"].as_str().unwrap();
        assert!(matches!(
            (no_op, status),
            (true, "below_detection") | (false, "estimated" | "below_detection")
        ));
        assert_eq!(layer["energy_j"].is_null(), status == "below_detection", "{layer}");
    }
    assert!(stdout(&assert).contains("ESTIMATED by modelled"));
    // The balance of the file is that of its own numbers.
    let value = |key: &str| run["closure"][0][key]["value"].as_f64().unwrap();
    let sum = value("sum_of_layers_j") + value("gaps_j") + value("residual_j");
    assert!((sum / value("pass_j") - 1.0).abs() < 1e-9);
    let per_image = run["pass"][0]["energy_per_image_j"]["value"].as_f64().unwrap();
    assert!((per_image * 2.0 / value("pass_j") - 1.0).abs() < 1e-9);
}

#[test]
fn a_finished_directory_is_refused_without_force() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    profile(&network, &out, &[]).success();
    let assert = profile(&network, &out, &[]).code(2);
    assert!(stderr(&assert).contains("holds a finished run; choose another --out, or --force"));
    profile(&network, &out, &["--force"]).success();
}

#[test]
fn files_of_others_are_never_touched() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.txt"), "mine").unwrap();
    let assert = profile(&lenet(dir.path()), &out, &[]).code(2);
    assert!(stderr(&assert).contains("files that layerjoule did not write (\"thesis.txt\")"));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    let file = out.join("thesis.txt");
    let assert = profile(&lenet(dir.path()), &file, &[]).code(2);
    assert!(stderr(&assert).contains("expected a directory, found a file"));
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
}

/// The limit on file sizes stands for a full disk: writes fail in the middle of a file in both.
#[test]
fn a_full_disk_ends_the_run_with_what_was_written_intact() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    let program = assert_cmd::cargo::cargo_bin!("layerjoule");
    let machine = shared();
    let output = Process::new("sh")
        // 8 blocks of 512 bytes; the signal is ignored, so that the write itself fails.
        .args(["-c", "trap '' XFSZ; ulimit -f 24; exec \"$0\" \"$@\""])
        .arg(program)
        .arg("profile")
        .arg(&network)
        .args(SHORT)
        .args(["--rounds", "40", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    drop(machine);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("trace.jsonl: cannot write the trace"), "{error}");
    let kept = layerjoule::trace::read_trace(&out.join("trace.jsonl")).unwrap();
    assert!(!kept.spans.is_empty() && !kept.complete);
    let leftovers = fs::read_dir(&out)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".layerjoule-"));
    assert_eq!(leftovers.count(), 0);
    // With room again the same command goes on.
    let spans = kept.spans.len();
    profile(&network, &out, &["--rounds", "40"]).success();
    let whole = layerjoule::trace::read_trace(&out.join("trace.jsonl")).unwrap();
    assert!(whole.complete && whole.spans[..spans] == kept.spans[..]);
}

#[test]
fn ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    let machine = shared();
    let mut child = Process::new(assert_cmd::cargo::cargo_bin!("layerjoule"))
        .arg("profile")
        .arg(&network)
        .args(SHORT)
        .args(["--rounds", "200", "--out"])
        .arg(&out)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_lines(&out.join("trace.jsonl"), 40);
    let killed = Process::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(machine);
    let run = run_file(&out);
    assert_valid(&run);
    assert!(run["layers"][0]["windows"].as_u64().unwrap() >= 2);
    assert!(run["warnings"].as_array().unwrap().iter().any(|w| w["code"] == "incomplete"));
    let other = profile(&network, &out, &["--rounds", "200", "--seed", "9"]).code(2);
    assert!(stderr(&other).contains("an unfinished run with another seed"), "{}", stderr(&other));
    let before = layerjoule::trace::read_trace(&out.join("trace.jsonl")).unwrap().spans.len();
    profile(&network, &out, &["--rounds", "200", "--budget", "1s"]).success();
    assert!(layerjoule::trace::read_trace(&out.join("trace.jsonl")).unwrap().spans.len() > before);
}

#[test]
fn a_run_whose_budget_ran_out_says_so_and_is_no_finished_run() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    let assert = profile(&network, &out, &["--rounds", "500", "--budget", "1ms"]).code(3);
    assert!(stderr(&assert).contains("the time budget ran out"), "{}", stderr(&assert));
    let run = run_file(&out);
    assert_valid(&run);
    assert!(
        run["warnings"].as_array().unwrap().iter().any(|w| w["text"].as_str().unwrap().contains("budget"))
    );
    assert!(run["layers"][0]["energy_j"].is_null());
}

#[test]
fn a_stand_in_and_the_real_machine_are_never_mixed_in_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    profile(&network, &out, &["--rounds", "500", "--budget", "1ms"]).code(3);
    let path = out.join("trace.jsonl");
    let text = fs::read_to_string(&path).unwrap().replacen("\"emulated\":false", "\"emulated\":true", 1);
    fs::write(&path, text).unwrap();
    let assert = profile(&network, &out, &["--rounds", "500"]).code(2);
    assert!(stderr(&assert).contains("another kind of device or meter"), "{}", stderr(&assert));
}

#[test]
fn a_report_never_lands_in_another_runs_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (network, one, two) = (lenet(dir.path()), dir.path().join("one"), dir.path().join("two"));
    profile(&network, &one, &[]).success();
    profile(&network, &two, &[]).success();
    let report = |out: &Path| layerjoule().arg("report").arg(&one).arg("--out").arg(out).assert();
    assert!(stderr(&report(&two).code(2)).contains("holds another run"));
    let pictures = dir.path().join("pictures");
    report(&pictures).success();
    report(&pictures).success();
    fs::write(pictures.join("notes.txt"), "mine").unwrap();
    assert!(stderr(&report(&pictures).code(2)).contains("did not write (\"notes.txt\")"));
    report(&one).success();
}

#[test]
fn pipes_and_devices_are_refused_instead_of_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.toml");
    assert!(Process::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), Path::new("/dev/zero")] {
        let assert = layerjoule().arg("inspect").arg(path).assert().code(2);
        assert!(stderr(&assert).contains("found a pipe or device"), "{}", stderr(&assert));
        layerjoule().arg("report").arg(path).assert().code(2);
    }
}

#[test]
fn a_damaged_trace_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    profile(&network, &out, &["--budget", "1ms"]).code(3);
    let path = out.join("trace.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    // How many meters come before the modelled one depends on the machine.
    let primary = layerjoule::trace::read_trace(&path).unwrap().header.primary_meter;
    let primary = format!("\"primary_meter\":{primary}");
    for (from, to) in [(primary.as_str(), "\"primary_meter\":999"), ("\"signature\":0", "\"signature\":99")] {
        assert!(text.contains(from));
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let assert = layerjoule().arg("report").arg(&out).assert().code(2);
        assert!(stderr(&assert).contains("trace.jsonl:1: "), "{}", stderr(&assert));
    }
}

#[test]
fn two_runs_never_write_one_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (network, out) = (lenet(dir.path()), dir.path().join("out"));
    profile(&network, &out, &["--budget", "1ms"]).code(3);
    let held = fs::OpenOptions::new().write(true).open(out.join("trace.jsonl")).unwrap();
    held.lock().unwrap();
    let assert = profile(&network, &out, &[]).code(3);
    assert!(stderr(&assert).contains("another layerjoule is recording"), "{}", stderr(&assert));
    drop(held);
    profile(&network, &out, &[]).success();
}

#[allow(clippy::disallowed_methods, reason = "the test waits for another process")]
fn wait_for_lines(path: &Path, lines: usize) {
    for _ in 0..2000 {
        if fs::read_to_string(path).is_ok_and(|text| text.lines().count() >= lines) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{} never had {lines} lines", path.display());
}

#[test]
fn a_recorded_run_is_rendered_again_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (out, again) = (dir.path().join("out"), dir.path().join("again"));
    profile(&lenet(dir.path()), &out, &[]).success();
    layerjoule().arg("report").arg(&out).arg("--out").arg(&again).assert().success();
    for name in ["run.json", "layers.csv", "kinds.csv", "energy_per_layer.svg", "power_over_time.png"] {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(again.join(name)).unwrap(), "{name}");
    }
    // Without its trace a run file can still be shown.
    let assert = layerjoule().arg("report").arg(again.join("run.json")).args(["--format", "json"]).assert();
    let shown: Value = serde_json::from_str(&stdout(&assert.success())).unwrap();
    assert_eq!(shown, run_file(&out));
}

#[test]
fn a_run_file_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.json");
    fs::write(&path, r#"{"schema": "layerjoule.run/2"}"#).unwrap();
    let assert = layerjoule().arg("report").arg(&path).assert().code(2);
    assert!(stderr(&assert).contains("expected layerjoule.run/1, found layerjoule.run/2"));
    let nothing = layerjoule().arg("report").arg(dir.path().join("nowhere")).assert().code(2);
    assert!(stderr(&nothing).contains("nowhere"));
}

#[test]
fn inspect_prints_the_published_parameter_counts() {
    let published = [
        ("alexnet", 61_100_840u64),
        ("vgg16", 138_357_544),
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("mobilenet_v2", 3_504_872),
    ];
    for (name, parameters) in published {
        let path = repository(&format!("networks/{name}.toml"));
        let assert = layerjoule().arg("inspect").arg(path).args(["--format", "json"]).assert().success();
        let value: Value = serde_json::from_str(&stdout(&assert)).unwrap();
        assert_eq!(value["network"]["parameters"], parameters, "{name}");
        let rows = value["layers"].as_array().unwrap();
        let flops: u64 = rows.iter().map(|row| row["flops"].as_u64().unwrap()).sum();
        assert_eq!(value["network"]["flops"], flops);
    }
}

#[test]
fn every_shipped_network_is_inspected_at_its_own_size_and_at_another() {
    let mut inspected = 0;
    for entry in fs::read_dir(repository("networks")).unwrap() {
        let path = entry.unwrap().path();
        for options in [&[][..], &["--set", "size=128"][..]] {
            let assert = layerjoule().arg("inspect").arg(&path).args(options).assert().success();
            let text = stdout(&assert);
            assert!(text.contains("parameters  ") && stderr(&assert).is_empty(), "{text}");
            let found = options.is_empty() || text.contains("x128x128, batch 1");
            assert!(found, "{text}");
            inspected += 1;
        }
    }
    assert_eq!(inspected, 2 * 16);
}

#[test]
fn inspect_stops_at_the_layer_asked_for() {
    let path = repository("networks/lenet5.toml");
    let assert = layerjoule().arg("inspect").arg(&path).args(["--until", "pool1"]).assert().success();
    assert!(stdout(&assert).contains("pool1") && !stdout(&assert).contains("conv2"));
    let assert = layerjoule().arg("inspect").arg(&path).args(["--until", "pool9"]).assert().code(2);
    assert!(stderr(&assert).contains("no layer \"pool9\""));
}

#[test]
fn doctor_gives_the_reason_against_each_meter() {
    let dir = tempfile::tempdir().unwrap();
    let assert = layerjoule().args(["doctor", "--sysfs-root"]).arg(dir.path()).assert().success();
    let text = stdout(&assert);
    assert!(
        text.contains("rapl-powercap: does not work") && text.contains("class/powercap: No such file"),
        "{text}"
    );
    assert!(text.contains("modelled: works, ESTIMATES only"));
    assert!(text.contains("`--meter auto` takes modelled"));
}

/// What is wrong, and the words that must be in the message; all end with exit code 2.
#[test]
fn wrong_input_is_named_with_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let network = lenet(dir.path());
    let onnx = file("cut.onnx", &[0x08, 0x07, 0x3a, 0xff, 0x10]);
    let cnn = repository("networks/simple_cnn.toml");
    let views = file("views.toml", b"name = \"v\"\ninput = [3, 8, 8]\n[[layer]]\nkind = \"flatten\"\n");
    let cases: Vec<(PathBuf, Vec<&str>, Vec<&str>)> = vec![
        (dir.path().join("nowhere.toml"), vec![], vec!["nowhere.toml", "No such file"]),
        (dir.path().to_path_buf(), vec![], vec!["found a directory"]),
        (file("empty.toml", b""), vec![], vec!["empty.toml", "name"]),
        (file("bad.toml", b"name = \"x\"\ninput = ["), vec![], vec!["bad.toml:2"]),
        (onnx, vec![], vec!["cut.onnx"]),
        (file("empty.onnx", b""), vec![], vec!["empty.onnx"]),
        (network.clone(), vec!["--batch", "0"], vec!["batch: expected at least 1, found 0"]),
        (network.clone(), vec!["--batch", "-3"], vec!["--batch"]),
        (network.clone(), vec!["--batch", "18446744073709551615"], vec!["do not fit", "lower --batch"]),
        (network.clone(), vec!["--set", "depth=3"], vec!["depth"]),
        (network.clone(), vec!["--set", "size"], vec!["KEY=VALUE"]),
        (network.clone(), vec!["--set", "size=big"], vec!["whole number"]),
        (network.clone(), vec!["--set", "size=0.5"], vec!["whole number", "in percent"]),
        (cnn.clone(), vec!["--set", "conv=0"], vec!["simple_cnn.toml:", "--set conv", "least 1, found 0"]),
        (
            cnn.clone(),
            vec!["--set", "conv=9"],
            vec!["simple_cnn.toml:", "features.4.pool", "height 1, found 2"],
        ),
        (
            cnn.clone(),
            vec!["--set", "linear=0"],
            vec!["simple_cnn.toml:", "--set linear", "least 1, found 0"],
        ),
        (cnn, vec!["--set", "linear=-2"], vec!["simple_cnn.toml:", "--set linear", "least 1, found -2"]),
        (network.clone(), vec!["--threads", "0"], vec!["--threads: expected 1 to", "found 0"]),
        (network.clone(), vec!["--threads", "100000"], vec!["--threads: expected 1 to"]),
        (views, vec![], vec!["views.toml", "no layer executes anything"]),
        (network.clone(), vec!["--rounds", "1"], vec!["--rounds: expected at least 2"]),
        (network.clone(), vec!["--rounds", "18446744073709551615"], vec!["at most 10000"]),
        (
            network.clone(),
            vec!["--device", "cpu:7"],
            vec!["--device: expected auto, cpu, cuda, cuda:N, sim:FILE or sim:MODEL with one of"],
        ),
        (network.clone(), vec!["--meter", "wattmeter"], vec!["meter \"wattmeter\"", "modelled"]),
        (
            network.clone(),
            vec!["--device", "tpu"],
            vec!["--device: expected auto, cpu, cuda, cuda:N, sim:FILE or sim:MODEL with one of"],
        ),
        (network.clone(), vec!["--window", "0s"], vec!["more than zero"]),
        (network, vec!["--window", "1000000000y"], vec!["--window"]),
    ];
    for (path, options, words) in cases {
        let out = dir.path().join("out");
        let mut command = layerjoule();
        command.arg("profile").arg(&path).arg("--out").arg(&out);
        // Those given here come last and win; clap refuses a repeated option otherwise.
        if !options.contains(&"--meter") {
            command.args(["--meter", "modelled"]);
        }
        let assert = command.args(&options).assert().code(2);
        for word in words {
            assert!(stderr(&assert).contains(word), "{path:?} {options:?}: {}", stderr(&assert));
        }
        assert!(!stderr(&assert).contains("panicked"));
        assert!(!out.exists(), "{options:?} left something behind");
    }
}

#[test]
fn what_the_environment_cannot_do_ends_with_three() {
    let dir = tempfile::tempdir().unwrap();
    let network = lenet(dir.path());
    let out = dir.path().join("out");
    let run = |options: &[&str]| {
        layerjoule().arg("profile").arg(&network).arg("--out").arg(&out).args(options).assert()
    };
    let assert = run(&["--device", "cuda"]).code(3);
    assert!(stderr(&assert).contains("use --device cpu"));
    let root = dir.path().to_str().unwrap();
    let assert = run(&["--meter", "rapl-powercap", "--sysfs-root", root]).code(3);
    assert!(stderr(&assert).contains("does not work here"), "{}", stderr(&assert));
    let assert = run(&["--batch", "100000000"]).code(3);
    assert!(stderr(&assert).contains("lower --batch"), "{}", stderr(&assert));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = Process::new(assert_cmd::cargo::cargo_bin!("layerjoule"))
        .arg("inspect")
        .arg(repository("networks/resnet50.toml"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Nobody reads: closed long before the network is parsed and printed.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}

#[test]
fn every_command_shows_an_example_in_its_help() {
    for command in ["profile", "inspect", "report", "doctor"] {
        let assert = layerjoule().args([command, "--help"]).assert().success();
        assert!(stdout(&assert).contains(&format!("Example: layerjoule {command}")), "{command}");
    }
}
