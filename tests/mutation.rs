//! Damaged files: a corpus for each reader, changed again and again by a seeded mutator.
//!
//! `cargo test` runs a few hundred changes of each corpus; `cargo xtask fuzz` runs them for a time. What must
//! hold for every file stands in `fuzz/src`, which the `cargo fuzz` targets use too.

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "the package of the cargo-fuzz targets has them public")]
mod checks;
mod corpus;
mod messages;
mod mutator;
mod trial;

use std::time::Duration;

use checks::Reader;
use trial::{Trials, run};

/// Changes of each corpus in an ordinary test run; a few seconds in all.
const FEW: u64 = 300;

/// Time for all readers, from the environment; without it a fixed number of changes.
fn trials() -> Trials {
    match std::env::var("FUZZ_SECONDS") {
        Ok(text) => {
            let seconds: f64 = text.parse().expect("FUZZ_SECONDS is a number of seconds");
            Trials::Until(Duration::from_secs_f64(seconds / Reader::ALL.len() as f64))
        }
        Err(_) => Trials::Number(FEW),
    }
}

fn seed() -> u64 {
    std::env::var("FUZZ_SEED").map_or(0, |text| text.parse().expect("FUZZ_SEED is a whole number"))
}

#[test]
fn no_change_of_a_toml_network_breaks_its_reader() {
    run(Reader::Toml, trials(), seed());
}

#[test]
fn no_change_of_an_onnx_network_breaks_its_reader() {
    run(Reader::Onnx, trials(), seed());
}

#[test]
fn no_change_of_a_trace_breaks_its_reader() {
    run(Reader::Trace, trials(), seed());
}

#[test]
fn no_change_of_a_run_file_breaks_its_reader() {
    run(Reader::Run, trials(), seed());
}

/// `FUZZ_REPLAY=FILE`: one file again, by the reader that its ending names.
#[test]
fn the_file_to_replay_breaks_no_reader() {
    let Ok(path) = std::env::var("FUZZ_REPLAY") else { return };
    let bytes = std::fs::read(&path).unwrap();
    let reader = Reader::ALL.into_iter().find(|reader| path.ends_with(trial::ending(*reader)));
    let accepted = reader.expect("the file ends in .toml, .onnx, .jsonl or .json").check(&bytes);
    println!("{path}: {}", if accepted { "accepted" } else { "refused" });
}

#[test]
fn a_seed_repeats_its_changes_and_another_does_not() {
    let corpus = corpus::load(Reader::Toml);
    let words = corpus::dictionary(Reader::Toml);
    let change = |seed| {
        let mut mutator = mutator::Mutator::new(&corpus, &words, seed);
        (0..20).map(|_| mutator.next()).collect::<Vec<_>>()
    };
    assert_eq!(change(7), change(7));
    assert_ne!(change(7), change(8));
}
