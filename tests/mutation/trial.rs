//! Runs a reader on one changed file after another, and keeps the file that breaks it.

// Here time is a bound on the test, not a measurement.
#![allow(clippy::disallowed_methods, clippy::print_stderr)]

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::checks::Reader;
use super::corpus;
use super::mutator::Mutator;

/// Longest that one file may take. The slowest seen, a run drawn as PNG, takes a third of a second; on a machine
/// that gives the test one turn in a hundred it took 37 s.
const HANGS: Duration = Duration::from_secs(120);

/// How many changed files.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trials {
    /// This many, the same on every machine.
    Number(u64),
    /// As many as the time allows.
    Until(Duration),
}

/// How the files of a reader end.
pub(super) fn ending(reader: Reader) -> &'static str {
    reader.file().rsplit_once('.').map_or("", |(stem, _)| &reader.file()[stem.len()..])
}

/// Gives a reader its corpus, then changes of it.
pub(super) fn run(reader: Reader, trials: Trials, seed: u64) {
    let corpus = corpus::load(reader);
    let words = corpus::dictionary(reader);
    let mut bench = Bench::new(reader);
    for bytes in &corpus {
        bench.check(bytes);
    }
    let mut mutator = Mutator::new(&corpus, &words, seed);
    let begin = Instant::now();
    let more = |done: u64| match trials {
        Trials::Number(number) => done < number,
        Trials::Until(time) => begin.elapsed() < time,
    };
    let (mut done, mut accepted) = (0, 0);
    while more(done) {
        accepted += u64::from(bench.check(&mutator.next()));
        done += 1;
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{}: {} files of the corpus, {done} changes in {seconds:.1} s ({:.0}/s), {accepted} of them accepted, seed {seed}",
        reader.name(),
        corpus.len(),
        done as f64 / seconds
    );
    assert!(
        accepted > 0,
        "no change was accepted: the mutator only breaks files, so nothing behind the reader ran"
    );
}

/// A reader on trial.
struct Bench {
    reader: Reader,
    place: PathBuf,
    current: File,
    watch: std::sync::Arc<Watch>,
}

impl Bench {
    fn new(reader: Reader) -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
        fs::create_dir_all(&place).unwrap();
        // Written before each trial: the file is still there where the whole process dies.
        let path = place.join(format!("{}-last{}", reader.name(), ending(reader)));
        let current = File::create(&path).unwrap();
        Self { reader, place, current, watch: Watch::start(path) }
    }

    fn check(&mut self, bytes: &[u8]) -> bool {
        self.current.rewind().unwrap();
        self.current.write_all(bytes).unwrap();
        self.current.set_len(bytes.len() as u64).unwrap();
        self.watch.begin();
        let result = catch_unwind(AssertUnwindSafe(|| self.reader.check(bytes)));
        self.watch.end();
        result.unwrap_or_else(|_| panic!("{}", self.keep(bytes)))
    }

    /// Keeps a file that broke the reader; how to look at it again.
    fn keep(&self, bytes: &[u8]) -> String {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let path = self.place.join(format!("{}-{hash:016x}{}", self.reader.name(), ending(self.reader)));
        fs::write(&path, bytes).unwrap();
        replay(&path)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.watch.stop.store(true, Ordering::Relaxed);
    }
}

fn replay(path: &Path) -> String {
    let path = path.display();
    format!("the reader broke on {path}; again: cargo xtask fuzz --replay {path}")
}

/// Ends the process when a trial does not end.
struct Watch {
    begin: Instant,
    /// Milliseconds from `begin` to the start of the trial, and 0 between trials.
    started: AtomicU64,
    stop: AtomicBool,
}

impl Watch {
    fn start(path: PathBuf) -> std::sync::Arc<Self> {
        let watch = std::sync::Arc::new(Self {
            begin: Instant::now(),
            started: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let seen = std::sync::Arc::clone(&watch);
        std::thread::spawn(move || {
            while !seen.stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(200));
                let started = seen.started.load(Ordering::Relaxed);
                if started > 0 && seen.now().saturating_sub(started) > HANGS.as_millis() as u64 {
                    eprintln!("no end after {} s: {}", HANGS.as_secs(), replay(&path));
                    std::process::exit(101);
                }
            }
        });
        watch
    }

    fn now(&self) -> u64 {
        self.begin.elapsed().as_millis() as u64 + 1
    }

    fn begin(&self) {
        self.started.store(self.now(), Ordering::Relaxed);
    }

    fn end(&self) {
        self.started.store(0, Ordering::Relaxed);
    }
}
