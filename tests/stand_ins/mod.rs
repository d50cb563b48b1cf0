//! Stand-ins for libraries of drivers, which the tests load or hand to the program.

pub(crate) mod cuda;

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int, c_uint};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use layerjoule::sim::DeviceParameters;
use libloading::{Library, Symbol};
use tempfile::TempDir;

/// A copy of the stand-in for `libnvidia-ml.so`, which is a machine of its own.
pub(crate) struct StandIn {
    pub(crate) path: PathBuf,
    pub(crate) library: Library,
    _files: TempDir,
}

impl StandIn {
    /// Starts a machine with this device; with `latency` its queries take their time.
    pub(crate) fn start(device: &DeviceParameters, latency: bool) -> Self {
        let files = TempDir::new().unwrap();
        let [path, device_file] = ["libnvidia-ml.so", "device.toml"].map(|name| files.path().join(name));
        std::fs::copy(nvml_library(), &path).unwrap();
        std::fs::write(&device_file, device.to_toml()).unwrap();
        let device_file = CString::new(device_file.to_str().unwrap()).unwrap();
        // SAFETY: the stand-in does nothing when it is loaded.
        let library = unsafe { Library::new(&path) }.unwrap();
        type Start = unsafe extern "C" fn(*const c_char, u64, c_int) -> c_uint;
        // SAFETY: the type is that of its documentation.
        let start = unsafe { function::<Start>(&library, "stand_in_start") };
        // SAFETY: the text ends with a zero.
        let started = unsafe { start(device_file.as_ptr(), 1, c_int::from(latency)) };
        assert_eq!(started, 0, "{}", device.to_toml());
        Self { path, library, _files: files }
    }

    /// Sets the true power of board and memory.
    pub(crate) fn draw(&self, board_w: f64, memory_w: f64) {
        type Set = extern "C" fn(f64, f64) -> c_uint;
        // SAFETY: the type is that of its documentation.
        let set = unsafe { function::<Set>(&self.library, "stand_in_set_power") };
        assert_eq!(set(board_w, memory_w), 0);
    }

    /// From now on a function fails with a code.
    pub(crate) fn fail(&self, name: &str, code: u32) {
        type Fail = unsafe extern "C" fn(*const c_char, c_uint) -> c_uint;
        let name = CString::new(name).unwrap();
        // SAFETY: the type is that of its documentation.
        let fail = unsafe { function::<Fail>(&self.library, "stand_in_fail") };
        // SAFETY: the text ends with a zero.
        assert_eq!(unsafe { fail(name.as_ptr(), code) }, 0);
    }

    /// Lets the energy counter go backwards.
    pub(crate) fn go_back(&self, joules: f64) {
        // SAFETY: the type is that of its documentation.
        let back = unsafe { function::<extern "C" fn(f64) -> c_uint>(&self.library, "stand_in_go_back") };
        assert_eq!(back(joules), 0);
    }
}

/// A function of a library.
///
/// # Safety
///
/// `F` is its type.
pub(crate) unsafe fn function<'a, F>(library: &'a Library, name: &str) -> Symbol<'a, F> {
    // SAFETY: as the caller promises.
    unsafe { library.get(name.as_bytes()) }.unwrap()
}

/// A preset whose sensors neither err by chance nor miss updates.
pub(crate) fn exact(preset: &str) -> DeviceParameters {
    let mut device = DeviceParameters::preset(preset).unwrap();
    for sensor in &mut device.sensor {
        (sensor.noise, sensor.missed) = (0.0, 0.0);
    }
    device
}

/// The stand-in for `libnvidia-ml.so`; see `nvml.rs`. A process that needs two devices loads two copies.
pub(crate) fn nvml_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| example("fake_nvml"))
}

/// The file of a stand-in, which is an example in `Cargo.toml`.
pub(crate) fn example(name: &str) -> PathBuf {
    static KNOWN: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    // Held while it is built, so that nobody builds it twice.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = known.get(name) {
        return library.clone();
    }
    // TARGET/PROFILE/deps/all-0123456789abcdef
    let tests = std::env::current_exe().unwrap();
    let of_profile = tests.ancestors().nth(2).unwrap();
    let library = of_profile.join(format!("examples/lib{name}.so"));
    // Cargo builds it beside the tests, unless it was asked for these tests only.
    let written = |path: &Path| path.metadata().and_then(|data| data.modified());
    let old = match (written(&library), written(&tests)) {
        (Ok(library), Ok(tests)) => library < tests,
        _ => true,
    };
    if old {
        build(of_profile, name);
    }
    known.insert(name.to_string(), library.clone());
    library
}

fn build(of_profile: &Path, name: &str) {
    let profile = match of_profile.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        other => other,
    };
    let built = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--locked", "--example", name, "--profile", profile, "--target-dir"])
        .arg(of_profile.parent().unwrap())
        .status()
        .unwrap();
    assert!(built.success(), "the stand-in {name} does not build");
}
