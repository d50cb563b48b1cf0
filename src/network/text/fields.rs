//! The values of a table by key, with their types and ranges checked and expressions evaluated.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expression::Scope;
use super::place::Misplaced;
use crate::network::{Border, Padding, Problem, Size2};

/// Most axes that a shape may have.
const MOST_AXES: usize = 8;

/// The word for padding that follows from the input's size.
pub(super) const SAME: &str = "same";

/// A value of the file with its place.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// A table and the variables that its expressions can name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    table: &'a DeTable<'a>,
    offset: Option<usize>,
    scope: &'a Scope<'a>,
}

impl<'a> Fields<'a> {
    /// The table that begins at `offset`; none for the file itself.
    pub(super) fn new(table: &'a DeTable<'a>, offset: Option<usize>, scope: &'a Scope<'a>) -> Self {
        Self { table, offset, scope }
    }

    /// An integer of at least `least`, or the default; without one the key must be there.
    pub(super) fn size(&self, key: &str, least: usize, default: Option<usize>) -> Result<usize, Misplaced> {
        match self.table.get(key) {
            Some(value) => self.size_of(key, value, least),
            None => default.ok_or_else(|| self.missing(key, &format!("an integer of at least {least}"))),
        }
    }

    /// Two sizes for height and width; one integer stands for both.
    pub(super) fn size2(&self, key: &str, least: usize, default: Option<Size2>) -> Result<Size2, Misplaced> {
        let expected = format!("an integer of at least {least}, or two in brackets");
        let Some(value) = self.table.get(key) else {
            return default.ok_or_else(|| self.missing(key, &expected));
        };
        match self.sizes_of(key, value, least)?[..] {
            [both] => Ok([both; 2]),
            [height, width] if value.get_ref().is_array() => Ok([height, width]),
            _ => Err(mismatch(value, key, &expected)),
        }
    }

    /// Padding of a window as one integer, `[height, width]` or `[top, left, bottom, right]`; 0 where there is
    /// none yet, because it is [`SAME`].
    pub(super) fn padding(&self, key: &str) -> Result<Padding, Misplaced> {
        let expected = "an integer of at least 0, [height, width], [top, left, bottom, right] or \"same\"";
        match self.table.get(key) {
            Some(value) if !self.says(key, SAME) => {
                sides(&self.sizes_of(key, value, 0)?).ok_or_else(|| mismatch(value, key, expected))
            }
            _ => Ok([0; 4]),
        }
    }

    /// A border as one integer, `[height, width]` or `[top, left, bottom, right]`.
    pub(super) fn border(&self, key: &str) -> Result<Border, Misplaced> {
        let expected = "an integer, [height, width] or [top, left, bottom, right]";
        let value = self.table.get(key).ok_or_else(|| self.missing(key, expected))?;
        let side = |value| {
            let side = integer(key, value, self.scope)?;
            isize::try_from(side).map_err(|_| mismatch(value, key, expected))
        };
        let given = match value.get_ref() {
            DeValue::Array(items) if items.len() <= MOST_AXES => {
                items.iter().map(side).collect::<Result<Vec<_>, _>>()?
            }
            DeValue::Array(_) => Vec::new(),
            _ => vec![side(value)?],
        };
        sides(&given).ok_or_else(|| mismatch(value, key, expected))
    }

    /// Whether the value of a key is this word.
    pub(super) fn says(&self, key: &str, word: &str) -> bool {
        self.table.get(key).and_then(|value| value.get_ref().as_str()) == Some(word)
    }

    /// A shape: a list of sizes of at least 1.
    pub(super) fn sizes(&self, key: &str) -> Result<Vec<usize>, Misplaced> {
        self.list(key, 1, "a list of sizes such as [3, 224, 224]")
    }

    /// A shape where the key is there.
    pub(super) fn optional_sizes(&self, key: &str) -> Result<Option<Vec<usize>>, Misplaced> {
        self.table.contains_key(key).then(|| self.sizes(key)).transpose()
    }

    /// A list of axes, counted from 0.
    pub(super) fn axes(&self, key: &str) -> Result<Vec<usize>, Misplaced> {
        self.list(key, 0, "a list of axes such as [1, 0, 2]")
    }

    fn list(&self, key: &str, least: usize, expected: &str) -> Result<Vec<usize>, Misplaced> {
        let value = self.table.get(key).ok_or_else(|| self.missing(key, expected))?;
        match value.get_ref() {
            DeValue::Array(items) if (1..=MOST_AXES).contains(&items.len()) => {
                self.sizes_of(key, value, least)
            }
            DeValue::Array(items) => {
                let problem = Problem::mismatch(key, format!("1 to {MOST_AXES} axes"), items.len());
                Err(Misplaced::at_offset(value.span().start, problem))
            }
            _ => Err(mismatch(value, key, expected)),
        }
    }

    /// A finite number, or the default; without one the key must be there.
    pub(super) fn number(&self, key: &str, default: Option<f32>) -> Result<f32, Misplaced> {
        let Some(value) = self.table.get(key) else {
            return default.ok_or_else(|| self.missing(key, "a number"));
        };
        let number = match value.get_ref() {
            DeValue::Integer(_) => Some(integer(key, value, self.scope)? as f32),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => None,
        };
        number.filter(|n| n.is_finite()).ok_or_else(|| mismatch(value, key, "a finite number"))
    }

    /// A number within a range, or the default.
    pub(super) fn number_in(
        &self,
        key: &str,
        range: std::ops::Range<f32>,
        default: f32,
    ) -> Result<f32, Misplaced> {
        let number = self.number(key, Some(default))?;
        match self.table.get(key) {
            Some(value) if !range.contains(&number) => {
                let expected = if range.end.is_finite() {
                    format!("a number from {} to below {}", range.start, range.end)
                } else {
                    format!("a number of at least {}", range.start)
                };
                Err(mismatch(value, key, &expected))
            }
            _ => Ok(number),
        }
    }

    /// `true`, `false` or an expression that is not zero, or the default.
    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, Misplaced> {
        self.table.get(key).map_or(Ok(default), |value| truth(key, value, self.scope))
    }

    /// A problem with the value of a key.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> Misplaced {
        self.table
            .get(key)
            .map_or_else(|| self.missing(key, expected), |value| mismatch(value, key, expected))
    }

    fn missing(&self, key: &str, expected: &str) -> Misplaced {
        missing(self.offset, key, expected)
    }

    fn sizes_of(&self, key: &str, value: &Value<'_>, least: usize) -> Result<Vec<usize>, Misplaced> {
        match value.get_ref() {
            DeValue::Array(items) if items.len() <= MOST_AXES => {
                items.iter().map(|item| self.size_of(key, item, least)).collect()
            }
            DeValue::Array(_) => Ok(Vec::new()),
            _ => Ok(vec![self.size_of(key, value, least)?]),
        }
    }

    fn size_of(&self, key: &str, value: &Value<'_>, least: usize) -> Result<usize, Misplaced> {
        size(key, value, least, self.scope)
    }
}

/// Top, left, bottom and right of what is given for all, for both axes or for each side.
fn sides<T: Copy>(given: &[T]) -> Option<[T; 4]> {
    match *given {
        [all] => Some([all; 4]),
        [height, width] => Some([height, width, height, width]),
        [top, left, bottom, right] => Some([top, left, bottom, right]),
        _ => None,
    }
}

/// An integer of at least `least`.
pub(super) fn size(
    key: &str,
    value: &Value<'_>,
    least: usize,
    scope: &Scope<'_>,
) -> Result<usize, Misplaced> {
    let found = integer(key, value, scope)?;
    usize::try_from(found).ok().filter(|&size| size >= least).ok_or_else(|| {
        let expected = format!("an integer of at least {least}");
        let from = value.get_ref().as_str().map(|text| format!(" (from {text:?})")).unwrap_or_default();
        Misplaced::at_offset(value.span().start, Problem::mismatch(key, expected, format!("{found}{from}")))
    })
}

/// An integer, written as one or as an expression.
pub(super) fn integer(key: &str, value: &Value<'_>, scope: &Scope<'_>) -> Result<i64, Misplaced> {
    match value.get_ref() {
        DeValue::Integer(_) => literal(key, value),
        DeValue::String(text) => scope.evaluate(text).map_err(|problem| {
            let shown: String = text.chars().take(60).collect();
            let problem = Problem::invalid(format!("{key} = {shown:?}: {problem}"));
            Misplaced::at_offset(value.span().start, problem)
        }),
        _ => Err(mismatch(value, key, "an integer or an expression in quotes")),
    }
}

/// An integer, written as one.
pub(super) fn literal(key: &str, value: &Value<'_>) -> Result<i64, Misplaced> {
    match value.get_ref() {
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_err(|_| mismatch(value, key, "an integer that fits 64 bits")),
        _ => Err(mismatch(value, key, "an integer")),
    }
}

/// Whether a value is `true` or an expression that is not zero.
pub(super) fn truth(key: &str, value: &Value<'_>, scope: &Scope<'_>) -> Result<bool, Misplaced> {
    match value.get_ref() {
        DeValue::Boolean(flag) => Ok(*flag),
        DeValue::Integer(_) | DeValue::String(_) => Ok(integer(key, value, scope)? != 0),
        _ => Err(mismatch(value, key, "true, false or an expression in quotes")),
    }
}

/// The problem that a key is not there; `offset` is that of its table, none for the file.
pub(super) fn missing(offset: Option<usize>, key: &str, expected: &str) -> Misplaced {
    let problem = Problem::mismatch(key, expected, "nothing");
    offset.map_or_else(|| Misplaced::in_file(problem.clone()), |at| Misplaced::at_offset(at, problem.clone()))
}

/// The problem that a value is not of the kind that its key takes.
pub(super) fn mismatch(value: &Value<'_>, key: &str, expected: &str) -> Misplaced {
    Misplaced::at_offset(value.span().start, Problem::mismatch(key, expected, described(value)))
}

/// A value as a message shows it.
fn described(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        DeValue::Integer(digits) => digits.to_string(),
        DeValue::Float(float) => format!("{} (a float)", float.as_str()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_string(),
        DeValue::Array(items) => format!("a list of {}", items.len()),
        DeValue::Table(_) => "a table".to_string(),
    }
}
