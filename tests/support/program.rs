//! The built program, and what it is fed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use assert_cmd::Command;

/// The program, with nothing of the caller's surroundings that changes what it prints.
pub(crate) fn layerjoule() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("layerjoule"));
    // Nothing is known of any device but what a test says.
    command.env("XDG_CACHE_HOME", std::env::temp_dir().join("layerjoule-tests-keep-nothing"));
    command.env_remove("RUST_BACKTRACE").timeout(std::time::Duration::from_secs(240));
    command
}

static MACHINE: RwLock<()> = RwLock::new(());

/// The machine shared with other runs of the program.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// The machine for one run alone: its counter is a thread that must get its turns.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A small network in `dir`.
pub(crate) fn lenet(dir: &Path) -> PathBuf {
    let path = dir.join("lenet5.toml");
    fs::copy(repository("networks/lenet5.toml"), &path).unwrap();
    path
}

/// A file or folder of the real data beside the repository; without it the test says that it skips, and under
/// `REQUIRE_DATA=1` it fails.
pub(crate) fn shared_data(path: &str) -> Option<PathBuf> {
    let path = repository("../shared/data").join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var("REQUIRE_DATA").as_deref() != Ok("1"), "{} is missing", path.display());
    println!("skipped: {} is not there", path.display());
    None
}

/// A copy of a folder with all that is in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        if from.is_dir() {
            copy_tree(&from, &to.join(name));
        } else {
            fs::copy(&from, to.join(name)).unwrap();
        }
    }
}

/// Puts a folder in place of a file: reading it fails, for root too.
pub(crate) fn make_unreadable(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}
