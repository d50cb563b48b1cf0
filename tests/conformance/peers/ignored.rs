//! The tests that are left out, each with its reason: `tests/conformance/ignored.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What `ignored.toml` says of the tests of one group.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    /// Why a test is left out.
    pub(super) reasons: BTreeMap<String, String>,
    /// How far an output may be off because recorded numbers were written with few digits.
    pub(super) rounded: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    ignored: Vec<Entry>,
    rounded: Vec<Rounded>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    group: String,
    reason: String,
    tests: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rounded {
    group: String,
    test: String,
    allowed: f64,
}

impl Ignored {
    pub(super) fn read(group: &str) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/ignored.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut ignored = Self::default();
        for entry in file.ignored.into_iter().filter(|entry| entry.group == group) {
            for test in entry.tests {
                let earlier = ignored.reasons.insert(test.clone(), entry.reason.clone());
                assert_eq!(earlier, None, "{path}: {test} is named twice");
            }
        }
        for entry in file.rounded.into_iter().filter(|entry| entry.group == group) {
            ignored.rounded.insert(entry.test, entry.allowed);
        }
        ignored
    }

    /// The tests that are named, whatever for.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.reasons.keys().chain(self.rounded.keys())
    }
}
