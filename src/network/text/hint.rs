//! "Did you mean": messages about names that do not exist.

use crate::network::Problem;

/// Longer names are not compared, so that no input costs quadratic time.
const LONGEST: usize = 64;
/// More names than this are not listed in a message.
const MOST_LISTED: usize = 40;

/// The problem that a name is none of those that exist, with the nearest of them.
pub(crate) fn unknown<'a>(what: &str, names: impl IntoIterator<Item = &'a str>, found: &str) -> Problem {
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return Problem::mismatch(what, "none, as the file declares none", format!("{found:?}"));
    }
    let listed = names.iter().take(MOST_LISTED).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > MOST_LISTED { ", …" } else { "" };
    let hint = nearest(names, found).map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default();
    Problem::mismatch(what, format!("one of {listed}{more}"), format!("{found:?}{hint}"))
}

/// The name that a person probably meant: the nearest, when at most a third of its bytes differ.
pub(super) fn nearest<'a>(names: impl IntoIterator<Item = &'a str>, found: &str) -> Option<&'a str> {
    let furthest = |name: &str| name.len().max(3) / 3;
    names
        .into_iter()
        .filter(|name| name.len().max(found.len()) <= LONGEST)
        .filter(|name| name.len().abs_diff(found.len()) <= furthest(name))
        .map(|name| (edit_distance(name.as_bytes(), found.as_bytes()), name))
        .filter(|&(distance, name)| distance <= furthest(name))
        .min()
        .map(|(_, name)| name)
}

/// Fewest insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`
/// (optimal string alignment; Damerau 1964, 10.1145/363958.363994).
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances_agree_with_hand_counts() {
        assert_eq!(edit_distance(b"kernel", b"kernel"), 0);
        assert_eq!(edit_distance(b"kernel", b"kernal"), 1);
        assert_eq!(edit_distance(b"size", b"siez"), 1);
        assert_eq!(edit_distance(b"kitten", b"sitting"), 3);
        assert_eq!(edit_distance(b"", b"abc"), 3);
    }

    #[test]
    fn a_name_that_is_far_from_all_has_no_hint() {
        assert_eq!(nearest(["width", "size"], "widht"), Some("width"));
        assert_eq!(nearest(["width", "size"], "momentum"), None);
        assert_eq!(nearest(["p"], "q"), Some("p"));
        assert_eq!(nearest(["a"], &"a".repeat(1000)), None);
    }
}
