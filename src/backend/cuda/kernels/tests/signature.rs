//! What a launch passes against what the kernel's text declares: a device takes any bytes for any parameter.

use super::super::{Argument, Launch};

/// The kind of argument that a parameter takes; a struct by its number of `long long`.
#[derive(Debug, PartialEq, Eq)]
enum Parameter {
    Pointer,
    I32,
    I64,
    F32,
    Words(usize),
}

/// The text between `after` and the first `end` that follows it.
fn between<'a>(text: &'a str, after: &str, end: char) -> &'a str {
    let start = text.find(after).unwrap_or_else(|| panic!("no `{after}`")) + after.len();
    text[start..].split(end).next().unwrap()
}

fn parameter(text: &str, declared: &str) -> Parameter {
    let words: Vec<&str> = declared.split_whitespace().collect();
    match words.as_slice() {
        _ if declared.contains('*') => Parameter::Pointer,
        ["long", "long", ..] => Parameter::I64,
        ["int", ..] => Parameter::I32,
        ["float", ..] => Parameter::F32,
        [name, ..] => Parameter::Words(words_of(text, name)),
        [] => panic!("a parameter without a type"),
    }
}

/// How many numbers a struct has; all are `long long`.
fn words_of(text: &str, name: &str) -> usize {
    let fields = between(text, &format!("struct {name} {{"), '}').trim();
    let fields = fields.strip_prefix("long long ").unwrap().strip_suffix(';').unwrap();
    assert!(!fields.contains(';'), "{name} has fields of several types");
    if fields == "axis[AXES]" {
        return between(text, "const int AXES = ", ';').parse().unwrap();
    }
    fields.split(',').count()
}

fn parameters(text: &str, kernel: &str) -> Vec<Parameter> {
    // The name stands after a space or at the start of a line, and nothing else is called so there.
    let start = format!("{kernel}(");
    let at = text.match_indices(&start).map(|(at, _)| at);
    let at = at
        .filter(|&at| text[..at].rfind("__global__").is_some_and(|global| !text[global..at].contains(';')))
        .find(|&at| text[..at].ends_with([' ', '\n']))
        .unwrap_or_else(|| panic!("no {kernel}"));
    between(&text[at..], "(", ')').split(',').map(|declared| parameter(text, declared)).collect()
}

/// Panics where a launch passes other arguments than the kernel takes.
pub(super) fn assert_fits(launch: &Launch, text: &str) {
    let passed = launch.arguments.iter().map(|argument| match argument {
        Argument::Pointer(_) => Parameter::Pointer,
        Argument::I32(_) => Parameter::I32,
        Argument::I64(_) => Parameter::I64,
        Argument::F32(_) => Parameter::F32,
        Argument::Words(words) => Parameter::Words(words.len()),
    });
    assert_eq!(passed.collect::<Vec<_>>(), parameters(text, launch.kernel), "{}", launch.kernel);
}

#[test]
fn parameters_of_every_type_are_read_from_the_text() {
    let text = "struct Pair {\n long long a, b;\n};\nstatic void k(int);\nextern \"C\" __global__ void \
                __launch_bounds__(256)\nk(const float *x, int n, long long m,\n float, Pair p) {}";
    use Parameter::{F32, I32, I64, Pointer, Words};
    assert_eq!(parameters(text, "k"), [Pointer, I32, I64, F32, Words(2)]);
}
