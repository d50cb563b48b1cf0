//! Every family compiled by real NVRTCs, which need no GPU: `cargo xtask fetch` puts two into `target/`.
//!
//! A process can load one NVRTC, so each test starts this program again for [`compile_all`].

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::backend::cuda::libraries::{Libraries, Search};
use crate::plan::Precision;

use super::super::compile::{Target, build, name};
use super::super::{Code, CompileError, Family, compile, source};
use super::cuda_shim::kernel_names;
use super::host;

/// Names the folder of the NVRTC for [`compile_all`].
const FOLDER: &str = "LAYERJOULE_TEST_NVRTC";

/// Names the compute capabilities for [`compile_all`], separated by commas.
const FOR: &str = "LAYERJOULE_TEST_CAPABILITIES";

/// The precisions that give different code: [`Family::Copy`] moves numbers as they are.
fn stored(family: Family) -> &'static [Precision] {
    match family {
        Family::Copy => &[Precision::F32],
        _ => &[Precision::F32, Precision::F16, Precision::Bf16],
    }
}

/// What became of one family for one device.
type Found = BTreeMap<(u32, u32), String>;

/// Compiles with the NVRTC in a folder of `target/`, in a process of its own; what it printed. None where it was not
/// fetched: then the test says that it skips, and under `REQUIRE_DATA=1` it fails.
fn compiled_by(name: &str, capabilities: &[&str]) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
    if !folder.is_dir() {
        let why = format!("no {name}: `cargo xtask fetch` fetches it");
        assert!(env::var("REQUIRE_DATA").as_deref() != Ok("1"), "{why}");
        println!("skipped: {why}");
        return None;
    }
    let known = remembered(name, capabilities);
    if let Ok(printed) = fs::read_to_string(&known) {
        return Some(printed);
    }
    let mut command = Command::new(env::current_exe().unwrap());
    let test = "backend::cuda::kernels::tests::nvrtc::compile_all";
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(FOLDER, folder);
    command.env(FOR, capabilities.join(","));
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    fs::create_dir_all(known.parent().unwrap()).unwrap();
    fs::write(known, &printed).unwrap();
    Some(printed)
}

/// Where it is written what came of compiling these very texts by this very code, which takes a minute: beside the test
/// program, so in cargo's folder. Only success is written down.
fn remembered(name: &str, capabilities: &[&str]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (name, capabilities, include_str!("nvrtc.rs"), include_str!("../compile.rs")).hash(&mut hasher);
    for family in Family::ALL {
        stored(family).iter().for_each(|&precision| source(family, precision).hash(&mut hasher));
    }
    host::folder().join(format!("nvrtc-{:016x}.txt", hasher.finish()))
}

/// How each device's code came out, from the line that [`compile_all`] prints for it.
fn devices(printed: &str) -> BTreeMap<&str, &str> {
    printed.lines().filter_map(|line| line.strip_prefix("compiled ")?.split_once(": ")).collect()
}

#[test]
fn nvrtc_of_cuda_13_makes_machine_code_of_every_kernel_for_every_gpu() {
    // Turing, Ampere (A100, RTX 30), Ada, Hopper, Blackwell (B200, RTX 50).
    let names = ["7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0"];
    let Some(printed) = compiled_by("nvrtc-13.5.37", &names) else { return };
    let expected: BTreeMap<&str, &str> = names.into_iter().map(|name| (name, "cubin")).collect();
    assert_eq!(devices(&printed), expected, "{printed}");
}

#[test]
fn nvrtc_of_cuda_12_makes_ptx_of_the_newest_it_knows_for_newer_gpus() {
    // Volta, which CUDA 13 no longer knows; CUDA 12.6 ends with Hopper.
    let expected = BTreeMap::from([("7.0", "cubin"), ("9.0", "cubin"), ("10.0", "ptx of sm_90")]);
    let names: Vec<&str> = expected.keys().copied().collect();
    let Some(printed) = compiled_by("nvrtc-12.6.85", &names) else { return };
    assert_eq!(devices(&printed), expected, "{printed}");
}

/// Not a test of its own: what the tests above run in a process that knows one NVRTC.
#[test]
#[ignore = "run by the tests above"]
fn compile_all() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let libraries = Libraries::load(&Search::new(Some(&folder), &|_| None, Path::new("/nowhere")).unwrap());
    let nvrtc = libraries.nvrtc().unwrap_or_else(|| panic!("{:#?}", libraries.all));
    let number = |text: &str| text.parse::<u32>().unwrap();
    let capabilities = env::var(FOR).unwrap();
    let capabilities = capabilities.split(',').map(|name| name.split_once('.').unwrap());
    let jobs = capabilities
        .flat_map(|(major, minor)| Family::ALL.map(|family| ((number(major), number(minor)), family)))
        .collect::<Vec<_>>();
    let (jobs, found) = (Mutex::new(jobs), Mutex::new(Found::new()));
    let work = || {
        while let Some((capability, family)) = { jobs.lock().unwrap().pop() } {
            for &precision in stored(family) {
                let code = compile(nvrtc, family, precision, capability)
                    .unwrap_or_else(|error| panic!("{capability:?}: {error}"));
                let kind = checked(family, precision, capability, &code);
                let mut found = found.lock().unwrap();
                let earlier = found.entry(capability).or_insert_with(|| kind.clone());
                assert_eq!(*earlier, kind, "{family} {precision} {capability:?}");
            }
        }
    };
    std::thread::scope(|scope| {
        (0..std::thread::available_parallelism().unwrap().get()).for_each(|_| {
            scope.spawn(work);
        });
    });
    for ((major, minor), kind) in found.into_inner().unwrap() {
        println!("compiled {major}.{minor}: {kind}");
    }

    let refused = compile(nvrtc, Family::Activation, Precision::F32, (3, 0)).unwrap_err();
    assert!(matches!(refused, CompileError::TooOld { .. }), "{refused}");
    assert!(refused.to_string().contains("the GPU has 3.0"), "{refused}");
    let text = "extern \"C\" __global__ void k() { nonsense; }";
    let failure = build(nvrtc, "wrong.cu", text, Target::Machine(90)).unwrap_err();
    assert_eq!(name(failure.status), "NVRTC_ERROR_COMPILATION");
    assert!(failure.log.contains("wrong.cu(1)") && failure.log.contains("nonsense"), "{}", failure.log);
}

/// What kind of code it is, if it has every kernel of the family.
fn checked(family: Family, precision: Precision, capability: (u32, u32), code: &Code) -> String {
    let what = format!("{family} {precision} {capability:?}");
    let bytes = code.bytes();
    for name in kernel_names(&source(family, precision)) {
        let has = bytes.windows(name.len()).any(|window| window == name.as_bytes());
        assert!(has, "{what}: no {name}");
    }
    match code {
        Code::Cubin(bytes) => {
            assert_eq!(bytes[..4], *b"\x7fELF", "{what}");
            "cubin".to_owned()
        }
        Code::Ptx(bytes) => {
            assert_eq!(bytes.last(), Some(&0), "{what}: the driver reads up to a NUL");
            let text = String::from_utf8_lossy(bytes);
            if family == Family::Activation {
                // 16 bytes at a time: nine kernels, each a load and a store.
                let wide = |access: &str| text.matches(access).count();
                assert_eq!((wide("ld.global.v4"), wide("st.global.v4")), (9, 9), "{what}");
            }
            let target = text.lines().find_map(|line| line.strip_prefix(".target ")).unwrap_or("nothing");
            format!("ptx of {target}")
        }
    }
}
