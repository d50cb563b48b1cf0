//! Stand-ins for libraries of drivers, which the tests load or hand to the program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The stand-in for `libnvidia-ml.so`; see `nvml.rs`. A process that needs two devices loads two copies.
pub(crate) fn nvml_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        // TARGET/PROFILE/deps/all-0123456789abcdef
        let tests = std::env::current_exe().unwrap();
        let of_profile = tests.ancestors().nth(2).unwrap();
        let library = of_profile.join("examples/libfake_nvml.so");
        // Cargo builds it beside the tests, unless it was asked for these tests only.
        let written = |path: &Path| path.metadata().and_then(|data| data.modified());
        let old = match (written(&library), written(&tests)) {
            (Ok(library), Ok(tests)) => library < tests,
            _ => true,
        };
        if old {
            build(of_profile);
        }
        library
    })
}

fn build(of_profile: &Path) {
    let profile = match of_profile.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        other => other,
    };
    let built = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--example",
            "fake_nvml",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(of_profile.parent().unwrap())
        .status()
        .unwrap();
    assert!(built.success(), "the stand-in for libnvidia-ml.so does not build");
}
