//! No bytes make the readers panic.

use proptest::prelude::*;

use super::{SHIPPED, read_bytes, shipped_path};

/// Words that the format gives a meaning to, to put where they do not belong.
const WORDS: [&str; 16] = [
    "0",
    "-1",
    "9223372036854775807",
    "1e400",
    "nan",
    "\"\"",
    "\"index\"",
    "\"1 / 0\"",
    "[]",
    "[0]",
    "{}",
    "true",
    "\"input\"",
    "[[layer]]\n",
    "repeat = 3\n",
    "when = 0\n",
];

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for name in ["net.toml", "net.onnx", "net"] {
            let _ = read_bytes(name, &bytes, &[]);
        }
    }

    #[test]
    fn arbitrary_text_is_read_or_refused(text in "[ -~\n\"=\\[\\]äπ]{0,200}") {
        let _ = read_bytes("net.toml", text.as_bytes(), &[]);
    }

    #[test]
    fn arbitrary_expressions_are_evaluated_or_refused(
        text in "(size|index|min|max|if|and|or|not|make_divisible|[0-9]{1,19}|[-+*/%(),<>=! ]){0,30}",
    ) {
        let file = format!(
            "name = 'n'\ninput = [1]\nparameters = {{ size = 3 }}\n[[layer]]\nkind = 'relu'\nrepeat = 2\nwhen = '{text}'"
        );
        let _ = read_bytes("net.toml", file.as_bytes(), &[]);
    }

    #[test]
    fn mutated_networks_are_read_or_refused(
        which in 0..SHIPPED.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..20, 0..WORDS.len(), any::<u8>()), 1..6),
    ) {
        let mut bytes = std::fs::read(shipped_path(SHIPPED[which])).unwrap();
        for (at, removed, word, byte) in edits {
            let start = at.index(bytes.len());
            let end = (start + removed).min(bytes.len());
            let inserted = if byte < 128 { WORDS[word].as_bytes().to_vec() } else { vec![byte & 0x7f] };
            bytes.splice(start..end, inserted);
        }
        let _ = read_bytes("net.toml", &bytes, &[]);
    }

    #[test]
    fn networks_with_other_values_are_read_or_refused(
        which in 0..SHIPPED.len(),
        line in any::<prop::sample::Index>(),
        word in 0..WORDS.len(),
        size in prop_oneof![-3i64..400, any::<i64>()],
    ) {
        let text = std::fs::read_to_string(shipped_path(SHIPPED[which])).unwrap();
        let assignments: Vec<usize> = text.match_indices(" = ").map(|(at, _)| at + 3).collect();
        let start = assignments[line.index(assignments.len())];
        let end = start + text[start..].find('\n').unwrap();
        let changed = format!("{}{}{}", &text[..start], WORDS[word], &text[end..]);
        let _ = read_bytes("net.toml", changed.as_bytes(), &[("size", size)]);
    }
}
