//! A powercap tree whose counter moves at a known, varying power.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `class/powercap/intel-rapl:0` with name, range and counter.
#[derive(Clone)]
pub(crate) struct Tree {
    zone: PathBuf,
    range: u64,
}

impl Tree {
    pub(crate) fn new(root: &Path, range: u64) -> Self {
        let zone = root.join("class/powercap/intel-rapl:0");
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("name"), "package-0\n").unwrap();
        fs::write(zone.join("max_energy_range_uj"), format!("{range}\n")).unwrap();
        let tree = Self { zone, range };
        tree.set(0);
        tree
    }

    pub(crate) fn energy(&self) -> PathBuf {
        self.zone.join("energy_uj")
    }

    /// Replaces the file whole, so that no reader sees a part of a number.
    pub(crate) fn set(&self, microjoules: u64) {
        let next = self.zone.join("next");
        fs::write(&next, format!("{microjoules}\n")).unwrap();
        fs::rename(next, self.energy()).unwrap();
    }
}

/// Advances a tree's counter from a thread of the test, which to the program is another process.
///
/// Power is 50 W + 20 W sin(2 pi t / 0.37 s), so that windows of half a second see different means; its
/// integral is exact.
pub(crate) struct Injector {
    stop: Arc<AtomicBool>,
    vanish_ms: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    begin: f64,
}

const MEAN: f64 = 50.0;
const SWING: f64 = 20.0;
const PERIOD: f64 = 0.37;

fn unix() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn energy_since(t: f64) -> f64 {
    let omega = std::f64::consts::TAU / PERIOD;
    MEAN * t + SWING / omega * (1.0 - (omega * t).cos())
}

impl Injector {
    pub(crate) fn start(root: &Path, range: u64) -> Self {
        let tree = Tree::new(root, range);
        let (stop, vanish_ms) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(u64::MAX)));
        let begin = unix();
        let (stopped, vanish) = (Arc::clone(&stop), Arc::clone(&vanish_ms));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let t = unix() - begin;
                if t * 1e3 > vanish.load(Ordering::Relaxed) as f64 {
                    fs::remove_file(tree.energy()).unwrap();
                    return;
                }
                tree.set((energy_since(t) * 1e6) as u64 % tree.range);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, vanish_ms, thread: Some(thread), begin }
    }

    /// Joules injected until a UTC time in seconds since 1970.
    pub(crate) fn energy(&self, unix: f64) -> f64 {
        energy_since(unix - self.begin)
    }

    /// Removes the counter's file after some time.
    pub(crate) fn vanish_after(&self, time: Duration) {
        self.vanish_ms.store(time.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has already failed the program under test.
            let _ = thread.join();
        }
    }
}
