//! A table of a device file, read key by key.
//!
//! Reading goes on after a mistake, with a value that is not used, so that a table's list of keys is complete
//! when it is closed: only then is it known which of its keys mean nothing. What follows from a mistake is found
//! after it, and only the first finding is reported.

use std::ops::{Bound, RangeBounds};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::network::{Problem, unknown};

/// Longest name in bytes that a report can show.
const LONGEST_NAME: usize = 100;
/// Longest piece of the file that a message repeats.
const LONGEST_QUOTE: usize = 60;

/// Something wrong, with the byte of the text where it stands.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) offset: Option<usize>,
    pub(super) problem: Problem,
    unknown_key: bool,
}

impl Finding {
    pub(super) fn new(offset: Option<usize>, problem: Problem) -> Self {
        Self { offset, problem, unknown_key: false }
    }
}

/// A table whose keys are being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    text: &'a str,
    table: &'a DeTable<'a>,
    /// What stands before a key in messages, the point included.
    prefix: String,
    offset: Option<usize>,
    known: Vec<&'static str>,
    findings: Vec<Finding>,
}

impl<'a> Section<'a> {
    /// The file's outermost table.
    pub(super) fn of_file(text: &'a str, table: &'a DeTable<'a>) -> Self {
        Self::new(text, table, String::new(), None)
    }

    fn new(text: &'a str, table: &'a DeTable<'a>, prefix: String, offset: Option<usize>) -> Self {
        Self { text, table, prefix, offset, known: Vec::new(), findings: Vec::new() }
    }

    /// Closes the table: an unknown key, or else the first problem.
    pub(super) fn first_finding(self) -> Option<Finding> {
        self.close().into_iter().min_by_key(|finding| !finding.unknown_key)
    }

    fn close(mut self) -> Vec<Finding> {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if !self.known.contains(&name) {
                let what = format!("{}{}", self.prefix, shortened(name));
                let problem = match unknown("", self.known.iter().copied(), name) {
                    Problem::Mismatch { expected, found, .. } => {
                        Problem::mismatch(what, expected, format!("the unknown key {found}"))
                    }
                    other => other,
                };
                let offset = Some(key.span().start);
                self.findings.push(Finding { offset, problem, unknown_key: true });
            }
        }
        self.findings
    }

    /// A finite number within a range.
    pub(super) fn number(&mut self, key: &'static str, range: impl RangeBounds<f64>) -> f64 {
        let expected = described(&range);
        let value = self.value(key, &expected);
        value.and_then(|value| self.number_of(key, value, &range, &expected)).unwrap_or(f64::NAN)
    }

    /// A finite number within a range where the key is there.
    pub(super) fn optional_number(&mut self, key: &'static str, range: impl RangeBounds<f64>) -> Option<f64> {
        self.has(key).then(|| self.number(key, range))
    }

    /// True or false where the key is there.
    pub(super) fn optional_flag(&mut self, key: &'static str) -> Option<bool> {
        const EXPECTED: &str = "true or false";
        if !self.has(key) {
            return None;
        }
        let flag = self.value(key, EXPECTED)?.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(key, EXPECTED);
        }
        flag
    }

    /// Two numbers within a range, the smaller one first.
    pub(super) fn pair(&mut self, key: &'static str, range: impl RangeBounds<f64>) -> [f64; 2] {
        let each = described(&range);
        let expected = format!("[least, most], each {each}");
        let items = self.value(key, &expected).and_then(|value| match value.get_ref() {
            DeValue::Array(items) if items.len() == 2 => Some([&items[0], &items[1]]),
            _ => {
                self.wrong(key, &expected);
                None
            }
        });
        let pair = items.map_or([f64::NAN; 2], |items| {
            items.map(|item| self.number_of(key, item, &range, &each).unwrap_or(f64::NAN))
        });
        self.require(key, pair[0] <= pair[1], "the smaller number first");
        pair
    }

    /// A text that a report can show in a line.
    pub(super) fn name(&mut self, key: &'static str) -> String {
        let expected = format!("a text of 1 to {LONGEST_NAME} bytes in one line");
        let fits = |text: &str| {
            (1..=LONGEST_NAME).contains(&text.len())
                && !text.contains(char::is_control)
                && !text.trim().is_empty()
        };
        match self.value(key, &expected).map(|value| value.get_ref().as_str()) {
            Some(Some(text)) if fits(text) => text.to_string(),
            Some(_) => {
                self.wrong(key, &expected);
                String::new()
            }
            None => String::new(),
        }
    }

    /// What one of some words stands for.
    pub(super) fn word<T: Copy, const N: usize>(
        &mut self,
        key: &'static str,
        words: [(&'static str, T); N],
    ) -> Option<T> {
        let expected = words.map(|(word, _)| format!("{word:?}")).join(" or ");
        let value = self.value(key, &expected)?;
        let Some(found) = value.get_ref().as_str() else {
            self.wrong(key, &expected);
            return None;
        };
        let meaning = words.iter().find(|(word, _)| *word == found).map(|&(_, meaning)| meaning);
        if meaning.is_none() {
            let problem = unknown(&self.path(key), words.iter().map(|(word, _)| *word), &shortened(found));
            self.findings.push(Finding::new(Some(value.span().start), problem));
        }
        meaning
    }

    /// A table by its key.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let expected = format!("a table [{}]", self.path(key));
        let value = self.value(key, &expected);
        if let Some(value) = value
            && let Some(table) = value.get_ref().as_table()
        {
            return self.inner(table, self.path(key), value.span().start, read);
        }
        if value.is_some() {
            self.wrong(key, &expected);
        }
        // Its keys are not missing one by one: the table is, and that has been found.
        read(&mut Section::new(self.text, &DeTable::new(), String::new(), None))
    }

    /// A table by its key where the key is there.
    pub(super) fn optional_section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<T> {
        self.has(key).then(|| self.section(key, read))
    }

    /// The tables of a list with at least one of them; each is read with those before it.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Section<'_>, &[T]) -> T,
    ) -> Vec<T> {
        let expected = format!("at least one [[{}]]", self.path(key));
        let mut list = Vec::new();
        let Some(value) = self.value(key, &expected) else { return list };
        let tables: Option<Vec<_>> =
            value.get_ref().as_array().filter(|items| !items.is_empty()).and_then(|items| {
                items.iter().map(|item| Some((item.get_ref().as_table()?, item.span()))).collect()
            });
        let Some(tables) = tables else {
            self.wrong(key, &expected);
            return list;
        };
        for (index, (table, span)) in tables.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.path(key));
            let next = self.inner(table, path, span.start, |section| read(section, &list));
            list.push(next);
        }
        list
    }

    /// Says that the value of a key is wrong unless something holds. A key that is not there has been found missing.
    pub(super) fn require(&mut self, key: &'static str, holds: bool, expected: &str) {
        if !holds && self.table.contains_key(key) {
            self.wrong(key, expected);
        }
    }

    /// Says that a key is not there.
    pub(super) fn missing(&mut self, key: &str, expected: &str) {
        let problem = Problem::mismatch(self.path(key), expected, "nothing");
        self.findings.push(Finding::new(self.offset, problem));
    }

    /// Whether a key is there.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.known.push(key);
        self.table.contains_key(key)
    }

    fn inner<T>(
        &mut self,
        table: &DeTable<'_>,
        path: String,
        offset: usize,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let mut section = Section::new(self.text, table, format!("{path}."), Some(offset));
        let content = read(&mut section);
        self.findings.extend(section.close());
        content
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The value of a key that must be there.
    fn value(&mut self, key: &'static str, expected: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        let value = self.table.get(key);
        if value.is_none() {
            self.missing(key, expected);
        }
        value
    }

    fn number_of(
        &mut self,
        key: &'static str,
        value: &Spanned<DeValue<'_>>,
        range: &impl RangeBounds<f64>,
        expected: &str,
    ) -> Option<f64> {
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(digits) => {
                i64::from_str_radix(digits.as_str(), digits.radix()).ok().map(|integer| integer as f64)
            }
            _ => None,
        };
        let number = number.filter(|number: &f64| number.is_finite() && range.contains(number));
        if number.is_none() {
            self.wrong(key, expected);
        }
        number
    }

    /// Says that the value of a key, as it stands in the file, is not what it must be.
    fn wrong(&mut self, key: &'static str, expected: &str) {
        let Some(value) = self.table.get(key) else { return };
        let found = match value.get_ref() {
            DeValue::Table(_) => "a table".to_string(),
            _ => self.text.get(value.span()).map(shortened).unwrap_or_default(),
        };
        let problem = Problem::mismatch(self.path(key), expected, found);
        self.findings.push(Finding::new(Some(value.span().start), problem));
    }
}

/// A piece of the file as a message repeats it: one line, and not all of a long one.
fn shortened(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(LONGEST_QUOTE).map(shown).collect();
    if text.chars().nth(LONGEST_QUOTE).is_some() {
        short.push('…');
    }
    short
}

/// What a number must be to lie in a range.
fn described(range: &impl RangeBounds<f64>) -> String {
    let upper = match range.end_bound() {
        Bound::Included(&most) => format!(" to {}", short(most)),
        Bound::Excluded(&most) => format!(" to below {}", short(most)),
        Bound::Unbounded => String::new(),
    };
    match range.start_bound() {
        Bound::Included(&least) => format!("a number from {}{upper}", short(least)),
        Bound::Excluded(&least) => format!("a number above {}{upper}", short(least)),
        Bound::Unbounded => format!("a finite number{upper}"),
    }
}

/// A number without long rows of zeros.
fn short(number: f64) -> String {
    let plain = number == 0.0 || (1e-3..1e6).contains(&number.abs());
    if plain { number.to_string() } else { format!("{number:e}") }
}
