//! What a run of the conformance tests found, for people.

use std::collections::BTreeMap;

/// What became of one test.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Passed {
        /// The largest error as a part of the largest recorded number.
        error: f64,
        /// The largest error as a part of what is allowed there.
        allowed: f64,
        /// Whether it ran as it stands, and not as one item of a batch.
        as_is: bool,
    },
    /// Left out, with the reason.
    Ignored(String),
    Failed(String),
}

/// The tests of one folder, or the tensors of one network.
pub(super) struct Group {
    pub(super) name: String,
    /// Tests of operators that are no business of ours.
    pub(super) out_of_scope: usize,
    pub(super) tests: Vec<(String, Outcome)>,
}

impl Group {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_string(), out_of_scope: 0, tests: Vec::new() }
    }

    fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.tests.iter().filter(|(_, outcome)| is(outcome)).count()
    }

    /// A line for each failed test.
    pub(super) fn failures(&self) -> Vec<String> {
        let line = |(test, outcome): &(String, Outcome)| match outcome {
            Outcome::Failed(why) => Some(format!("  {}/{test}: {why}", self.name)),
            _ => None,
        };
        self.tests.iter().filter_map(line).collect()
    }

    /// The largest of what `of` takes from the passed tests, and the test.
    fn worst(&self, of: impl Fn(f64, f64) -> f64) -> Option<(f64, &str)> {
        let passed = self.tests.iter().filter_map(|(test, outcome)| match outcome {
            Outcome::Passed { error, allowed, .. } => Some((of(*error, *allowed), test.as_str())),
            _ => None,
        });
        passed.max_by(|a, b| a.0.total_cmp(&b.0))
    }

    fn row(&self) -> String {
        let (passed, ignored, failed) = (
            self.count(|o| matches!(o, Outcome::Passed { .. })),
            self.count(|o| matches!(o, Outcome::Ignored(_))),
            self.count(|o| matches!(o, Outcome::Failed(_))),
        );
        let error =
            self.worst(|error, _| error).map_or("-".to_string(), |(e, test)| format!("{e:.1e} {test}"));
        let part = self.worst(|_, allowed| allowed);
        let part = part.map_or("-".to_string(), |(part, test)| format!("{:.0} % {test}", 100.0 * part));
        format!(
            "{:<24}{:>7}{:>9}{:>7}{:>8}{:>9}{:>8}   {error:<36} {part}",
            self.name,
            self.tests.len() + self.out_of_scope,
            self.out_of_scope,
            passed + failed,
            passed,
            ignored,
            failed,
        )
    }

    /// How tests were run and the reasons for which others are left out, with their number.
    fn notes(&self) -> Vec<String> {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, outcome) in &self.tests {
            if let Outcome::Ignored(reason) = outcome {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        let mut lines: Vec<String> =
            reasons.iter().map(|(reason, count)| format!("  {count:>4} ignored: {reason}")).collect();
        let items = self.count(|outcome| matches!(outcome, Outcome::Passed { as_is: false, .. }));
        if items > 0 {
            lines.insert(0, format!("  {items:>4} passed as one item of a batch, the others as they stand"));
        }
        lines
    }
}

/// One row for each group, then why tests were left out. Foreign tests are those of operators that belong to no
/// kind of layer; the largest error is a part of the largest number that was recorded beside it.
pub(super) fn table(groups: &[Group]) -> String {
    let head = format!(
        "\n{:<24}{:>7}{:>9}{:>7}{:>8}{:>9}{:>8}   {:<36} {}",
        "conformance",
        "found",
        "foreign",
        "run",
        "passed",
        "ignored",
        "failed",
        "largest error",
        "nearest to its bound"
    );
    let rows = groups.iter().flat_map(|group| [vec![group.row()], group.notes()].concat());
    [head].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}
