//! Integer expressions over the parameters of a file and of a block.
//!
//! ```text
//! or         := and ("or" and)*
//! and        := not ("and" not)*
//! not        := "not" not | comparison
//! comparison := sum (("==" | "!=" | "<" | "<=" | ">" | ">=") sum)?
//! sum        := product (("+" | "-") product)*
//! product    := unary (("*" | "/" | "%") unary)*
//! unary      := "-" unary | integer | name | function "(" or ("," or)* ")" | "(" or ")"
//! ```
//!
//! Arithmetic is that of 64-bit integers and checked. Both sides of `and`, `or` and all of `if` are evaluated.

use std::collections::{BTreeMap, BTreeSet};

use super::hint::nearest;

/// The variable that counts the repetitions of a layer from 0.
pub(super) const INDEX: &str = "index";
/// Longest expression in bytes; bounds the work that one value can cost.
const LONGEST: usize = 256;
/// Deepest nesting of brackets, functions and signs; bounds the stack.
const DEEPEST: usize = 32;
/// Words that cannot be names of parameters.
const RESERVED: [&str; 10] =
    ["and", "or", "not", "if", "min", "max", "pow", "make_divisible", super::fields::SAME, INDEX];

/// Whether a word can name a parameter: letters, digits and `_`, no digit first, no word of the language.
pub(super) fn is_name(word: &str) -> bool {
    let letters = word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    letters && word.bytes().next().is_some_and(|b| !b.is_ascii_digit()) && !RESERVED.contains(&word)
}

/// The variables that an expression can name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    file: &'a BTreeMap<String, i64>,
    block: Option<&'a BTreeMap<String, i64>>,
    index: Option<i64>,
}

impl<'a> Scope<'a> {
    /// The parameters of the file.
    pub(super) fn of_file(file: &'a BTreeMap<String, i64>) -> Self {
        Self { file, block: None, index: None }
    }

    /// The parameters of a block, which hide those of the file.
    pub(super) fn in_block(self, block: &'a BTreeMap<String, i64>) -> Self {
        Self { file: self.file, block: Some(block), index: None }
    }

    /// The parameters of the file alone.
    pub(super) fn outside_blocks(self) -> Self {
        Self::of_file(self.file)
    }

    /// The same in one repetition of a layer.
    pub(super) fn at_index(self, index: i64) -> Self {
        Self { index: Some(index), ..self }
    }

    fn get(&self, name: &str) -> Option<i64> {
        if name == INDEX {
            return self.index;
        }
        self.block.and_then(|block| block.get(name)).or_else(|| self.file.get(name)).copied()
    }

    fn names(&self) -> BTreeSet<&'a str> {
        let block = self.block.into_iter().flat_map(|block| block.keys());
        let index = self.index.map(|_| INDEX);
        block.chain(self.file.keys()).map(String::as_str).chain(index).collect()
    }

    /// The value of an expression.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a sentence.
    pub(super) fn evaluate(&self, text: &str) -> Result<i64, String> {
        if text.len() > LONGEST {
            return Err(format!(
                "the expression has {} bytes, at most {LONGEST} are allowed; split it into parameters",
                text.len()
            ));
        }
        let mut parser = Parser { scope: self, rest: text.trim_start(), depth: 0 };
        let value = parser.or()?;
        if parser.rest.is_empty() {
            Ok(value)
        } else {
            Err(parser.expected("an operator or the end of the expression"))
        }
    }
}

/// A comparison of two integers.
type Relation = fn(&i64, &i64) -> bool;

/// Reads and evaluates in one pass; `rest` never begins with a space.
struct Parser<'a> {
    scope: &'a Scope<'a>,
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn expected(&self, what: &str) -> String {
        let found: String = self.rest.chars().take(20).collect();
        let found = if found.is_empty() { "the end".to_string() } else { format!("{found:?}") };
        format!("expected {what}, found {found}")
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default().trim_start();
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.rest.starts_with(symbol);
        if found {
            self.skip(symbol.len());
        }
        found
    }

    /// The name, word or number that comes next; empty where there is none.
    fn peek_word(&self) -> &'a str {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        &self.rest[..end]
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == word;
        if found {
            self.skip(word.len());
        }
        found
    }

    /// Runs a rule one level deeper.
    fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth == DEEPEST {
            return Err(format!("the expression nests more than {DEEPEST} deep; simplify it"));
        }
        self.depth += 1;
        let value = rule(self);
        self.depth -= 1;
        value
    }

    fn or(&mut self) -> Result<i64, String> {
        let mut value = self.and()?;
        while self.word("or") {
            let right = self.and()?;
            value = i64::from(value != 0 || right != 0);
        }
        Ok(value)
    }

    fn and(&mut self) -> Result<i64, String> {
        let mut value = self.not()?;
        while self.word("and") {
            let right = self.not()?;
            value = i64::from(value != 0 && right != 0);
        }
        Ok(value)
    }

    fn not(&mut self) -> Result<i64, String> {
        if self.word("not") {
            return self.nested(Self::not).map(|value| i64::from(value == 0));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<i64, String> {
        let left = self.sum()?;
        // Longer symbols first: "<" is a prefix of "<=".
        let relations: [(&str, Relation); 6] = [
            ("==", i64::eq),
            ("!=", i64::ne),
            ("<=", i64::le),
            (">=", i64::ge),
            ("<", i64::lt),
            (">", i64::gt),
        ];
        for (symbol, holds) in relations {
            if self.symbol(symbol) {
                return Ok(i64::from(holds(&left, &self.sum()?)));
            }
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<i64, String> {
        let mut value = self.product()?;
        loop {
            value = if self.symbol("+") {
                fits(value.checked_add(self.product()?))?
            } else if self.symbol("-") {
                fits(value.checked_sub(self.product()?))?
            } else {
                return Ok(value);
            };
        }
    }

    fn product(&mut self) -> Result<i64, String> {
        let mut value = self.unary()?;
        loop {
            value = if self.symbol("*") {
                fits(value.checked_mul(self.unary()?))?
            } else if self.symbol("/") {
                floor_division(value, self.unary()?)?.0
            } else if self.symbol("%") {
                floor_division(value, self.unary()?)?.1
            } else {
                return Ok(value);
            };
        }
    }

    fn unary(&mut self) -> Result<i64, String> {
        if self.symbol("-") {
            return fits(self.nested(Self::unary)?.checked_neg());
        }
        if self.symbol("(") {
            let value = self.nested(Self::or)?;
            return if self.symbol(")") { Ok(value) } else { Err(self.expected("\")\"")) };
        }
        let word = self.peek_word();
        if word.is_empty() {
            return Err(self.expected("a number, a parameter or \"(\""));
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            let value = word.replace('_', "").parse().map_err(|_| self.expected("an integer below 2^63"))?;
            self.skip(word.len());
            return Ok(value);
        }
        let start = self.rest;
        self.skip(word.len());
        if self.symbol("(") {
            let arguments = self.nested(Self::arguments)?;
            return call(word, &arguments);
        }
        self.scope.get(word).ok_or_else(|| {
            self.rest = start;
            unknown_name(word, &self.scope.names())
        })
    }

    fn arguments(&mut self) -> Result<Vec<i64>, String> {
        let mut arguments = vec![self.or()?];
        while self.symbol(",") {
            arguments.push(self.or()?);
        }
        if self.symbol(")") { Ok(arguments) } else { Err(self.expected("\",\" or \")\"")) }
    }
}

fn unknown_name(word: &str, names: &BTreeSet<&str>) -> String {
    if word == INDEX {
        return format!(
            "{INDEX:?} counts the repetitions of a layer and is only known where one has `repeat`"
        );
    }
    match nearest(names.iter().copied(), word) {
        Some(name) => format!("there is no parameter {word:?}; did you mean {name:?}?"),
        None if names.is_empty() => format!("there is no parameter {word:?}; none is declared here"),
        None => format!(
            "there is no parameter {word:?}; there are {}",
            names.iter().copied().collect::<Vec<_>>().join(", ")
        ),
    }
}

fn fits(value: Option<i64>) -> Result<i64, String> {
    value.ok_or_else(|| "a value does not fit 64 bits".to_string())
}

/// Quotient rounded down, and the remainder that has the divisor's sign.
fn floor_division(a: i64, b: i64) -> Result<(i64, i64), String> {
    if b == 0 {
        return Err("division by zero".to_string());
    }
    let (quotient, remainder) = (fits(a.checked_div(b))?, fits(a.checked_rem(b))?);
    Ok(if remainder != 0 && (remainder < 0) != (b < 0) {
        (quotient - 1, remainder + b)
    } else {
        (quotient, remainder)
    })
}

fn call(function: &str, arguments: &[i64]) -> Result<i64, String> {
    match (function, arguments) {
        ("min", [first, rest @ ..]) => Ok(rest.iter().fold(*first, |a, &b| a.min(b))),
        ("max", [first, rest @ ..]) => Ok(rest.iter().fold(*first, |a, &b| a.max(b))),
        ("if", &[condition, then, otherwise]) => Ok(if condition != 0 { then } else { otherwise }),
        ("pow", &[base, exponent]) => pow(base, exponent),
        ("make_divisible", &[value, divisor]) => make_divisible(value, divisor, 1),
        ("make_divisible", &[value, divisor, unit]) => make_divisible(value, divisor, unit),
        ("if", _) => Err(format!("if takes 3 arguments, found {}", arguments.len())),
        ("pow", _) => Err(format!("pow takes 2 arguments, found {}", arguments.len())),
        ("make_divisible", _) => {
            Err(format!("make_divisible takes 2 or 3 arguments, found {}", arguments.len()))
        }
        _ => {
            let functions = ["min", "max", "if", "pow", "make_divisible"];
            let hint = nearest(functions, function).map(|f| format!("; did you mean {f:?}?"));
            let hint = hint.unwrap_or_else(|| format!("; there are {}", functions.join(", ")));
            Err(format!("there is no function {function:?}{hint}"))
        }
    }
}

fn pow(base: i64, exponent: i64) -> Result<i64, String> {
    if exponent < 0 {
        return Err(format!("pow needs an exponent of at least 0, found {exponent}"));
    }
    fits(u32::try_from(exponent).ok().and_then(|exponent| base.checked_pow(exponent)))
}

/// The multiple of `divisor` nearest to `value / unit`, at least one divisor and not below 90 % of it.
///
/// The rounding of channel counts in the MobileNet reference code: `_make_divisible` in
/// `tensorflow/models`, `research/slim/nets/mobilenet/mobilenet.py`, and in torchvision's `_utils.py`.
/// The quotient is kept exact, as a fraction.
fn make_divisible(value: i64, divisor: i64, unit: i64) -> Result<i64, String> {
    if divisor < 1 || unit < 1 {
        return Err("make_divisible needs a divisor and a unit of at least 1".to_string());
    }
    // Products of three 64-bit numbers may exceed 128 bits; every step is checked.
    let exact = || -> Option<i128> {
        let (value, divisor, unit) = (i128::from(value), i128::from(divisor), i128::from(unit));
        let step = unit.checked_mul(divisor)?;
        let halves = value.checked_mul(2)?.checked_add(step)?.div_euclid(step.checked_mul(2)?);
        let nearest = halves.checked_mul(divisor)?.max(divisor);
        let too_low = nearest.checked_mul(unit)?.checked_mul(10)? < value.checked_mul(9)?;
        Some(if too_low { nearest + divisor } else { nearest })
    };
    fits(exact().and_then(|value| i64::try_from(value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(text: &str) -> Result<i64, String> {
        let file = BTreeMap::from([("width".to_string(), 7), ("hidden".to_string(), 100)]);
        let block = BTreeMap::from([("hidden".to_string(), -3)]);
        Scope::of_file(&file).in_block(&block).at_index(2).evaluate(text)
    }

    #[test]
    fn operators_bind_as_in_mathematics() {
        for (text, value) in [
            ("1 + 2 * 3", 7),
            ("(1 + 2) * 3", 9),
            ("10 - 3 - 2", 5),
            ("100 / 7 / 2", 7),
            ("-2 * -3", 6),
            ("--5", 5),
            ("1_000", 1000),
            ("width*2", 14),
            ("1 + 1 == 2", 1),
            ("3 < 2 or 2 <= 2 and not 0", 1),
            ("not 1 == 2", 1),
            ("2 != 2", 0),
            ("min(3, width, 5)", 3),
            ("max(1, -2)", 1),
            ("if(index == 2, 10, 20)", 10),
            ("pow(3, index + 1) * 2", 54),
            ("pow(-2, 3)", -8),
            ("pow(0, 0)", 1),
        ] {
            assert_eq!(evaluate(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn division_rounds_down_and_the_remainder_has_the_sign_of_the_divisor() {
        for (text, value) in [
            ("7 / 2", 3),
            ("-7 / 2", -4),
            ("7 / -2", -4),
            ("-7 / -2", 3),
            ("-7 % 2", 1),
            ("7 % -2", -1),
            ("6 % 3", 0),
        ] {
            assert_eq!(evaluate(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn a_blocks_parameter_hides_the_files() {
        assert_eq!(evaluate("hidden"), Ok(-3));
    }

    #[test]
    fn make_divisible_agrees_with_the_reference_code() {
        // Values of torchvision's _make_divisible(v, 8), computed with v = 32 * 0.75, 24 * 0.5, 16 * 0.56 …
        for (text, value) in [
            ("make_divisible(32, 8)", 32),
            ("make_divisible(32 * 75, 8, 100)", 24),
            ("make_divisible(12, 8)", 16),
            ("make_divisible(3, 8)", 8),
            ("make_divisible(11, 8)", 16),
            ("make_divisible(33, 8)", 32),
            // 8.96 rounds to 8, which is below 90 % of it; 8 alone would stay 8.
            ("make_divisible(16 * 56, 8, 100)", 16),
            ("make_divisible(8, 8)", 8),
        ] {
            assert_eq!(evaluate(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("", "expected a number, a parameter or \"(\", found the end"),
            ("1 +", "expected a number, a parameter or \"(\", found the end"),
            ("1 2", "expected an operator or the end of the expression, found \"2\""),
            ("1 < 2 < 3", "expected an operator or the end of the expression, found \"< 3\""),
            ("(1", "expected \")\", found the end"),
            ("2 ^ 3", "expected an operator or the end of the expression, found \"^ 3\""),
            ("1 / (width - 7)", "division by zero"),
            ("5 % 0", "division by zero"),
            ("9223372036854775807 + 1", "a value does not fit 64 bits"),
            ("-9223372036854775807 - 1 - 1", "a value does not fit 64 bits"),
            ("(-9223372036854775807 - 1) / -1", "a value does not fit 64 bits"),
            ("4611686018427387904 * 2", "a value does not fit 64 bits"),
            ("make_divisible(9223372036854775807, 8)", "a value does not fit 64 bits"),
            ("99999999999999999999", "expected an integer below 2^63, found \"99999999999999999999\""),
            ("widht", "there is no parameter \"widht\"; did you mean \"width\"?"),
            ("momentum", "there is no parameter \"momentum\"; there are hidden, index, width"),
            ("mni(1, 2)", "there is no function \"mni\"; did you mean \"min\"?"),
            ("if(1, 2)", "if takes 3 arguments, found 2"),
            ("make_divisible(1, 0)", "make_divisible needs a divisor and a unit of at least 1"),
            ("1ö", "expected an operator or the end of the expression, found \"ö\""),
        ] {
            assert_eq!(evaluate(text), Err(message.to_string()), "{text}");
        }
    }

    #[test]
    fn depth_and_length_are_limited() {
        for bomb in ["(".repeat(200), "-".repeat(200), "not ".repeat(60), "min(".repeat(60)] {
            let message = evaluate(&bomb).unwrap_err();
            assert_eq!(message, "the expression nests more than 32 deep; simplify it");
        }
        let message = evaluate(&"(".repeat(100_000)).unwrap_err();
        assert!(message.starts_with("the expression has 100000 bytes, at most 256"), "{message}");
    }

    #[test]
    fn index_needs_a_repetition() {
        let file = BTreeMap::new();
        let message = Scope::of_file(&file).evaluate("index").unwrap_err();
        assert!(message.contains("only known where one has `repeat`"), "{message}");
    }

    #[test]
    fn words_of_the_language_name_no_parameter() {
        assert!(is_name("width_2") && is_name("_w"));
        for word in ["", "2x", "a-b", "größe", "and", "min", "index"] {
            assert!(!is_name(word), "{word}");
        }
    }
}
