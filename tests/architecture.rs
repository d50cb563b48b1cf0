//! Who may import whom, how long a file may be, and where unsafe code and the clock may stand.
//!
//! A new edge between modules is a design decision: it changes [`MAY_IMPORT`] in the same commit. Test
//! modules are exempt from the import table: the table keeps what ships in one direction, and a test may
//! compare a stage's answer with what any other stage knows (an estimator with the truth of a simulation).

mod scanner;

use std::fs;
use std::path::{Path, PathBuf};

use scanner::{code_only, has_word, imports, lines_without_tests, paths_from};

/// What a module may import besides itself.
enum Allowed {
    Only(&'static [&'static str]),
    AllAbove,
    AllAboveBut(&'static [&'static str]),
}
use Allowed::{AllAbove, AllAboveBut, Only};

/// The modules in the order of the data's way. A module not written yet may already stand here.
const MAY_IMPORT: &[(&str, Allowed)] = &[
    ("units", Only(&[])),
    ("stats", Only(&[])),
    ("clock", Only(&["units"])),
    ("network", Only(&["units"])),
    ("trace", Only(&["units", "clock", "network"])),
    ("plan", Only(&["units", "network"])),
    ("backend", Only(&["units", "clock", "network", "plan"])),
    ("meter", Only(&["units", "clock", "trace"])),
    ("sim", Only(&["units", "stats", "clock", "network", "plan", "trace", "backend", "meter"])),
    ("run", Only(&["units", "stats", "clock", "network", "plan", "backend", "meter", "trace"])),
    ("attribution", Only(&["units", "stats", "network", "trace"])),
    // The clock's reading of dates in foreign logs.
    ("calibration", Only(&["units", "stats", "clock", "trace"])),
    // The power picture lays out the instants of a trace's spans.
    ("report", Only(&["units", "stats", "clock", "network", "trace", "attribution"])),
    ("gate", Only(&["units", "stats", "report"])),
    ("profile", AllAbove),
    ("train", AllAboveBut(&["gate"])),
    ("search", AllAbove),
    ("study", AllAbove),
    ("import", Only(&["units", "trace", "report"])),
    ("cli", AllAbove),
];

/// The crate's roots see everything.
const ROOTS: [&str; 2] = ["lib", "main"];

/// A file that needs more lines than this holds more than one subject.
const MOST_LINES: usize = 600;

fn may_import(module: &str, imported: &str) -> bool {
    let row = |name: &str| MAY_IMPORT.iter().position(|(module, _)| *module == name);
    let (Some(at), Some(target)) = (row(module), row(imported)) else { return false };
    match &MAY_IMPORT[at].1 {
        Only(names) => names.contains(&imported),
        AllAbove => target < at,
        AllAboveBut(names) => target < at && !names.contains(&imported),
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder with their paths in it, in order.
fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let (root, mut found) = (repository().join(folder), Vec::new());
    walk(&root, &mut found);
    found.sort();
    let named = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_owned(), text)
    };
    found.into_iter().map(named).collect()
}

/// The top-level module of a file: `network` for `network/toml.rs` and `network.rs`.
fn module_of(path_in_src: &Path) -> String {
    let first = path_in_src.iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules besides its own that a file imports. Files of tests are exempt like test modules.
fn imported_by(path_in_src: &Path, text: &str) -> Vec<String> {
    if path_in_src.ends_with("tests.rs") {
        return Vec::new();
    }
    let own = module_of(path_in_src);
    imports(path_in_src, text).into_iter().filter(|imported| *imported != own).collect()
}

/// What a file imports against the table. Names of the crate root that are no modules (macros) do not count.
fn forbidden_imports(path_in_src: &Path, text: &str) -> Vec<String> {
    let own = module_of(path_in_src);
    if ROOTS.contains(&own.as_str()) {
        return Vec::new();
    }
    let is_module = |name: &String| MAY_IMPORT.iter().any(|(module, _)| module == name);
    imported_by(path_in_src, text)
        .iter()
        .filter(|imported| is_module(imported) && !may_import(&own, imported))
        .map(|imported| format!("src/{}: {own} may not import {imported}", path_in_src.display()))
        .collect()
}

fn assert_none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let files = rust_files("src");
    let edges: usize = files.iter().map(|(path, text)| imported_by(path, text).len()).sum();
    assert!(edges > 10, "the scanner found {edges} imports; it is broken");
    let broken: Vec<_> = files.iter().flat_map(|(path, text)| forbidden_imports(path, text)).collect();
    assert_none(&broken, "MAY_IMPORT in tests/architecture.rs forbids");
}

#[test]
fn a_forbidden_import_is_found_and_named() {
    let broken = |file: &str, text: &str| forbidden_imports(Path::new(file), text);
    let nested = "use crate::{trace::{Span, Trace}, sim::Board, units::Joules};";
    assert_eq!(
        broken("attribution/energy.rs", nested),
        ["src/attribution/energy.rs: attribution may not import sim"]
    );
    assert_eq!(
        broken("study.rs", "fn f() { crate::cli::run() }"),
        ["src/study.rs: study may not import cli"]
    );
    assert_eq!(broken("train/loop.rs", "use crate::gate::Policy;").len(), 1);
    assert_eq!(broken("stats/rng.rs", "use super::super::clock::Clock;").len(), 1);
    let tests_only = "#[cfg(test)]\nmod tests {\n    use crate::sim::Board;\n}";
    assert_eq!(broken("attribution/energy.rs", tests_only), [""; 0]);
    assert_eq!(broken("cli/profile.rs", "use crate::{profile, sim, report};"), [""; 0]);
    assert_eq!(broken("lib.rs", "use crate::cli;"), [""; 0]);
}

#[test]
fn every_module_stands_in_the_table() {
    let known =
        |module: &String| ROOTS.contains(&module.as_str()) || MAY_IMPORT.iter().any(|(row, _)| row == module);
    let unknown: Vec<_> =
        rust_files("src").iter().map(|(path, _)| module_of(path)).filter(|module| !known(module)).collect();
    assert_none(&unknown, "modules without a row in MAY_IMPORT");
}

#[test]
fn the_table_has_no_cycle_because_every_row_points_upward() {
    for (at, (module, allowed)) in MAY_IMPORT.iter().enumerate() {
        let above = |name: &&str| MAY_IMPORT[..at].iter().any(|(row, _)| row == name);
        let (Only(names) | AllAboveBut(names)) = allowed else { continue };
        let wrong: Vec<_> = names.iter().filter(|name| !above(name)).collect();
        assert!(wrong.is_empty(), "{module} names modules that do not stand above it: {wrong:?}");
    }
}

#[test]
fn attribution_cannot_see_how_the_truth_was_made() {
    for origin in ["sim", "run", "backend", "meter", "profile"] {
        assert!(!may_import("attribution", origin), "the table lets attribution import {origin}");
    }
    assert!(may_import("attribution", "trace"));
}

#[test]
fn nothing_imports_the_command_line() {
    for (module, _) in MAY_IMPORT {
        assert!(!may_import(module, "cli"), "the table lets {module} import cli");
    }
    assert!(may_import("cli", "profile"));
}

#[test]
fn no_file_is_longer_than_six_hundred_lines_without_its_tests() {
    let mut long = Vec::new();
    for folder in ["src", "xtask/src", "tests"] {
        for (path, text) in rust_files(folder) {
            let lines = lines_without_tests(&text);
            if lines > MOST_LINES && !path.ends_with("tests.rs") {
                long.push(format!("{folder}/{}: {lines} lines, {MOST_LINES} allowed", path.display()));
            }
        }
    }
    assert_none(&long, "files with more than one subject");
}

/// What threads share in the CPU engine: an output cut into tiles whose rows lie apart, and the borrowed work of a
/// job. The vector code is safe, through `pulp`.
const SHARED_BETWEEN_THREADS: [&str; 2] = ["backend/cpu/output.rs", "backend/cpu/team.rs"];

#[test]
fn unsafe_code_stands_only_at_the_drivers_and_where_threads_share_memory() {
    let allowed = |path: &Path| {
        let at_a_driver = ["backend/cuda", "meter/nvml"]
            .iter()
            .any(|place| path.starts_with(place) || path == Path::new(&format!("{place}.rs")));
        at_a_driver || SHARED_BETWEEN_THREADS.iter().any(|file| path == Path::new(file))
    };
    let uses_unsafe = |text: &str| has_word(&code_only(text), "unsafe");
    let broken: Vec<String> = rust_files("src")
        .into_iter()
        .filter(|(path, text)| uses_unsafe(text) && !allowed(path))
        .map(|(path, _)| format!("src/{}", path.display()))
        .collect();
    assert_none(&broken, "unsafe is for backend/cuda, meter/nvml and the files listed above this test");
}

/// Whether code reads a clock or sleeps. A `Duration` is a length of time and does neither.
fn touches_time(code: &str) -> bool {
    let of_std = ["std", "core"].iter().flat_map(|root| paths_from(code, root));
    let time = |path: String| {
        (path == "time" || path.starts_with("time::")) && path != "time::Duration"
            || path.starts_with("thread::sleep")
    };
    let called = ["thread::sleep", "Instant::now", "SystemTime"];
    of_std.into_iter().any(time) || called.iter().any(|call| has_word(code, call))
}

#[test]
fn reading_the_time_and_sleeping_are_seen_and_durations_are_not() {
    for code in [
        "use std::time::Instant;",
        "use std::{fmt, time::{Duration, SystemTime}};",
        "use std::time;",
        "use std::time::*;",
        "fn f() { std::thread::sleep(d) }",
        "use std::thread; fn f() { thread::sleep(d) }",
        "fn f() { Instant::now() }",
    ] {
        assert!(touches_time(code), "{code}");
    }
    for code in
        ["use std::time::Duration;", "use std::thread;", "use crate::clock::Instant;", "let time = 1;"]
    {
        assert!(!touches_time(code), "{code}");
    }
}

#[test]
fn only_the_clock_reads_the_time_or_sleeps() {
    let files = rust_files("src");
    let timed: Vec<_> = files.iter().filter(|(_, text)| touches_time(&code_only(text))).collect();
    assert!(timed.iter().any(|(path, _)| path == Path::new("clock.rs")), "the scanner missed src/clock.rs");
    let broken: Vec<_> = timed
        .iter()
        .filter(|(path, _)| path != Path::new("clock.rs"))
        .map(|(path, _)| format!("src/{}", path.display()))
        .collect();
    assert_none(&broken, "only src/clock.rs reads the time or sleeps");
}
