//! Large inputs against their bounds: `cargo bench --bench scale [CASE]`.
//!
//! Each case runs in a process of its own, so that the peak of resident memory (`VmHWM` of proc_pid_status(5))
//! is its own. Times are the median of several runs by the monotonic clock. A case over its bound makes the
//! exit code 1. Results stand in docs/performance.md.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is its result")]

#[path = "scale/long_trace.rs"]
mod long_trace;
#[path = "scale/networks.rs"]
mod networks;

use std::process::{Command, ExitCode};

use layerjoule::clock::{Clock, MonotonicClock};

/// A case: its name, what it measures, and its bounds.
struct Case {
    name: &'static str,
    what: &'static str,
    most_seconds: f64,
    most_megabytes: f64,
    repeats: usize,
    /// Prepares once and gives what is timed.
    prepare: fn() -> Box<dyn FnMut()>,
}

const DEFINITION: f64 = 1.0;
const ATTRIBUTION: f64 = 2.0;
const MEMORY: f64 = 300.0;

const CASES: [Case; 7] = [
    definition("chain", "10,000 layers in a chain: read, plan, cost", networks::chain),
    definition("residual", "10,000 layers with residual connections: read, plan, cost", networks::residual),
    definition("distinct", "10,000 layers, no two alike: read, plan, cost", networks::distinct),
    definition("repeated", "10,000 layers from one repeated block: read, plan, cost", networks::repeated),
    definition("fan-out", "10,000 layers in 100 branches: read, plan, cost", networks::branches),
    trace("attribute", "10 million samples in memory: attribute and report", long_trace::attributed, 3),
    // Once, as the program reads a trace: a second read finds the allocator's memory in pieces.
    trace("read", "10 million samples in a file: read, attribute and report", long_trace::read, 1),
];

const fn definition(name: &'static str, what: &'static str, prepare: fn() -> Box<dyn FnMut()>) -> Case {
    Case { name, what, most_seconds: DEFINITION, most_megabytes: MEMORY, repeats: 9, prepare }
}

const fn trace(
    name: &'static str,
    what: &'static str,
    prepare: fn() -> Box<dyn FnMut()>,
    repeats: usize,
) -> Case {
    Case { name, what, most_seconds: ATTRIBUTION, most_megabytes: MEMORY, repeats, prepare }
}

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [flag, name] = arguments.as_slice()
        && flag == "--in-this-process"
    {
        return CASES.iter().find(|case| case.name == name).map_or(ExitCode::from(2), measure);
    }
    let asked = |case: &&Case| arguments.is_empty() || arguments.iter().any(|a| a == case.name);
    let cases: Vec<&Case> = CASES.iter().filter(asked).collect();
    if cases.is_empty() {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        eprintln!("expected any of {}, found {arguments:?}", names.join(", "));
        return ExitCode::from(2);
    }
    let within: Vec<bool> = cases.into_iter().map(in_own_process).collect();
    if within.contains(&false) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn in_own_process(case: &Case) -> bool {
    let this = std::env::current_exe().expect("the system knows the path of a running program");
    let status = Command::new(this).args(["--in-this-process", case.name]).status();
    status.expect("a running program can be started again").success()
}

fn measure(case: &Case) -> ExitCode {
    let clock = MonotonicClock::start();
    let mut work = (case.prepare)();
    let mut seconds: Vec<f64> = (0..case.repeats)
        .map(|_| {
            let begin = clock.now();
            work();
            (clock.now() - begin).value()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let (median, megabytes) = (seconds[seconds.len() / 2], peak_megabytes());
    let within = median <= case.most_seconds && megabytes <= case.most_megabytes;
    println!(
        "{:9} {}\n          {median:.3} s ({:.3} to {:.3}; bound {} s), {megabytes:.0} MB at most (bound {} MB): {}",
        case.name,
        case.what,
        seconds[0],
        seconds[seconds.len() - 1],
        case.most_seconds,
        case.most_megabytes,
        if within { "within" } else { "OVER" }
    );
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The peak of this process's resident memory in megabytes.
fn peak_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("every process has a peak");
    let kibibytes: f64 =
        line.trim().trim_end_matches(" kB").parse().expect("VmHWM is a number of kB (proc_pid_status(5))");
    kibibytes * 1024.0 / 1e6
}
