//! Reads Rust source far enough to say which modules it names: comments and literals are blanked, test
//! modules cut, `use` trees unfolded. Positions and line numbers survive every step.

use std::path::Path;

/// The same text with comments, strings and character literals blanked; every line keeps its number.
pub(crate) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at).unwrap_or(at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&c| if c == '\n' { c } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment or literal that begins at `at` ends; `None` when none begins there.
fn literal_or_comment_end(chars: &[char], at: usize) -> Option<usize> {
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let within_word = at > 0 && is_word(chars[at - 1]);
    match (get(at), get(at + 1)) {
        ('/', '/') => Some((at..chars.len()).find(|&i| chars[i] == '\n').unwrap_or(chars.len())),
        ('/', '*') => Some(block_comment_end(chars, at)),
        ('"', _) => Some(string_end(chars, at + 1)),
        ('\'', _) => char_end(chars, at),
        ('b' | 'c', '"') if !within_word => Some(string_end(chars, at + 2)),
        ('b', '\'') if !within_word => char_end(chars, at + 1),
        ('r', '"' | '#') if !within_word => raw_string_end(chars, at + 1),
        ('b' | 'c', 'r') if !within_word => raw_string_end(chars, at + 2),
        _ => None,
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

/// The end of a string whose first character is at `at`.
fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of a raw string whose hashes or quote begin at `at`; `None` for a raw identifier such as `r#type`.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    let body = at + hashes + 1;
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let closes = |i: usize| {
        chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    Some((body..chars.len()).find(|&i| closes(i)).map_or(chars.len(), |i| i + 1 + hashes))
}

/// The end of a character literal whose quote is at `at`; `None` for a lifetime.
fn char_end(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        return (at + 3..chars.len()).find(|&i| chars[i] == '\'').map(|i| i + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `code` (from [`code_only`]) with every item under `#[cfg(test)]` blanked.
pub(crate) fn without_tests(code: &str) -> String {
    let mut kept = code.to_owned();
    while let Some((start, end)) = test_item(&kept) {
        let blank: String = kept[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        kept.replace_range(start..end, &blank);
    }
    kept
}

/// The first item under `#[cfg(test)]`, from the attribute to its closing brace or semicolon.
fn test_item(code: &str) -> Option<(usize, usize)> {
    let start = code.find("#[cfg(test)]")?;
    let mut depth = 0_i32;
    for (i, c) in code[start..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (c == '}' || c == ';') {
            return Some((start, start + i + 1));
        }
    }
    Some((start, code.len()))
}

/// Lines of a file without its trailing test module.
pub(crate) fn lines_without_tests(text: &str) -> usize {
    let code = code_only(text);
    let all = text.lines().count();
    match test_item(&code) {
        Some((start, end)) if code[end..].trim().is_empty() => code[..start].lines().count(),
        _ => all,
    }
}

/// Whether `code` has `word` as a word of its own.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    word_positions(code, word).next().is_some()
}

/// Where `word` begins in `code`, not as a part of a longer word.
pub(crate) fn word_positions<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let (before, after) = (code[..at].chars().next_back(), code[at + word.len()..].chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Every path in `code` that begins with `root`, without it; `root::{a, b::{c, d}}` gives `a`, `b::c`, `b::d`.
pub(crate) fn paths_from(code: &str, root: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for at in word_positions(code, root) {
        let is_root = !code[..at].trim_end().ends_with("::");
        if let Some(rest) = code[at + root.len()..].trim_start().strip_prefix("::").filter(|_| is_root) {
            unfold(rest.trim_start(), "", &mut paths);
        }
    }
    paths
}

/// Adds the paths of the `use` tree or expression path at the start of `tree`; returns what follows it.
fn unfold<'a>(tree: &'a str, prefix: &str, paths: &mut Vec<String>) -> &'a str {
    if let Some(mut rest) = tree.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            match rest.chars().next() {
                Some(',') => rest = &rest[1..],
                Some('}') => return &rest[1..],
                Some(c) if is_word(c) || c == '*' || c == '{' => {
                    rest = skip_alias(unfold(rest, prefix, paths));
                }
                _ => return rest,
            }
        }
    }
    let tree = tree.strip_prefix("r#").unwrap_or(tree);
    let length = tree.find(|c| !is_word(c)).unwrap_or(tree.len());
    let (name, rest) = if tree.starts_with('*') { tree.split_at(1) } else { tree.split_at(length) };
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    match rest.trim_start().strip_prefix("::").map(str::trim_start) {
        Some(next) if next.starts_with(|c| is_word(c) || "{*".contains(c)) => unfold(next, &path, paths),
        _ => {
            paths.push(path);
            rest
        }
    }
}

/// What follows `as name`, if the text begins with it.
fn skip_alias(rest: &str) -> &str {
    match rest.trim_start().strip_prefix("as ") {
        Some(alias) => alias.trim_start().trim_start_matches(is_word),
        None => rest,
    }
}

/// The top-level modules that a file of `src/` names outside its tests, by `crate::` or by climbing `super::`.
pub(crate) fn imports(path_in_src: &Path, text: &str) -> Vec<String> {
    let code = without_tests(&code_only(text));
    let absolute = paths_from(&code, "crate");
    let climbing = paths_from(&code, "super").into_iter().filter_map(|path| {
        let ups = 1 + path.split("::").take_while(|&step| step == "super").count();
        let climbed_out = ups >= module_depth(path_in_src);
        climbed_out.then(|| path.trim_start_matches("super::").to_owned())
    });
    let top = |path: String| path.split("::").next().unwrap_or_default().to_owned();
    let mut modules: Vec<_> = absolute.into_iter().chain(climbing).map(top).collect();
    modules.sort();
    modules.dedup();
    modules
}

/// How many modules deep a file's own module lies: 1 for `units.rs` and `plan/mod.rs`, 2 for `plan/lower.rs`.
fn module_depth(path_in_src: &Path) -> usize {
    let parts = path_in_src.components().count();
    if path_in_src.ends_with("mod.rs") { parts - 1 } else { parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports_of(file: &str, text: &str) -> Vec<String> {
        imports(Path::new(file), text)
    }

    #[test]
    fn a_use_tree_gives_every_leaf() {
        let code = "use crate::{\n    a,\n    b::{c, d as e, f::*},\n    g::{self},\n};";
        assert_eq!(paths_from(code, "crate"), ["a", "b::c", "b::d", "b::f::*", "g::self"]);
    }

    #[test]
    fn paths_in_expressions_macros_and_odd_spacing_count() {
        let code =
            "fn f() -> crate::a::B { crate :: c :: d::<u8>(&$crate::e!{ x }) } pub(in crate::g) fn h() {}";
        assert_eq!(paths_from(code, "crate"), ["a::B", "c::d", "e", "g"]);
    }

    #[test]
    fn what_only_looks_like_a_path_does_not_count() {
        let code = "pub(crate) fn f() { my_crate::x(); other::crate::y(); crate_::z(); }";
        assert_eq!(paths_from(code, "crate"), [""; 0]);
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        let text = r####"
            // crate::a
            /* crate::b /* crate::c */ crate::d */
            const S: &str = "crate::e \" crate::f";
            const R: &str = r#"crate::g " crate::h"#;
            const B: &[u8] = b"crate::i"; const C: char = '"'; const Q: char = '\''; const BQ: u8 = b'"';
            fn life<'a>(x: &'a str) -> &'a str { crate::found::y(x) }
            fn r#type() { r#crate_like(); }
        "####;
        assert_eq!(imports_of("x.rs", text), ["found"]);
        assert_eq!(code_only(text).lines().count(), text.lines().count());
    }

    #[test]
    fn test_modules_are_cut_and_what_follows_them_is_not() {
        let text = "use crate::a;\n#[cfg(test)]\nconst B: [u8; crate::b::N] = [];\n#[cfg(test)]\nmod tests { use crate::c; fn f() {} }\n\
                    use crate::d;\n#[cfg(not(test))]\nuse crate::e;";
        assert_eq!(imports_of("x.rs", text), ["a", "d", "e"]);
    }

    #[test]
    fn climbing_out_with_super_is_an_import_and_climbing_within_is_not() {
        assert_eq!(imports_of("plan/lower.rs", "use super::super::network::Layer;"), ["network"]);
        assert_eq!(imports_of("plan/lower.rs", "use super::Plan;"), [""; 0]);
        assert_eq!(imports_of("plan/mod.rs", "use super::network::Layer;"), ["network"]);
        assert_eq!(imports_of("backend/cpu/conv.rs", "use super::super::{Backend, weights};"), [""; 0]);
        assert_eq!(imports_of("backend/cpu/conv.rs", "use super::super::super::sim::Board;"), ["sim"]);
    }

    #[test]
    fn only_a_trailing_test_module_is_not_counted() {
        assert_eq!(lines_without_tests("a\nb\n#[cfg(test)]\nmod tests {\n    x\n}\n"), 2);
        assert_eq!(lines_without_tests("a\n#[cfg(test)]\nmod tests {\n}\nb\n"), 5);
        assert_eq!(lines_without_tests("a\nconst S: &str = \"#[cfg(test)]\";\nb\n"), 3);
    }

    #[test]
    fn words_are_whole_words() {
        assert!(has_word("x = unsafe { y }", "unsafe"));
        assert!(!has_word("#![deny(unsafe_code)] fn not_unsafe() {}", "unsafe"));
    }
}
