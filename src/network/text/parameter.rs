//! Parameters of a file, which expressions can name and `--set` overrides.

use super::document::check_keys;
use super::fields::{Value, literal, missing};
use super::place::Misplaced;
use crate::network::Problem;

const KEYS: [&str; 2] = ["default", "least"];

/// A parameter of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    /// Its value where none is set.
    pub(super) default: i64,
    /// The least value that it may have.
    pub(super) least: Option<i64>,
    /// Where it is declared.
    pub(super) offset: usize,
}

impl Parameter {
    /// The parameter that a value of the table of parameters declares: an integer, or a table of its keys.
    pub(super) fn new(key: &str, value: &Value<'_>) -> Result<Self, Misplaced> {
        let offset = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            return Ok(Self { default: literal(key, value)?, least: None, offset });
        };
        check_keys(&format!("key of parameter {key:?}"), table, &KEYS)?;
        let default = table.get("default").ok_or_else(|| missing(Some(offset), "default", "an integer"))?;
        let default = literal("default", default)?;
        let least = table.get("least").map(|value| literal("least", value)).transpose()?;
        let parameter = Self { default, least, offset };
        parameter.check("default", default)?;
        Ok(parameter)
    }

    /// The value, if the parameter may have it; `what` names it in a message.
    pub(super) fn check(self, what: &str, value: i64) -> Result<i64, Misplaced> {
        match self.least {
            Some(least) if value < least => {
                let problem = Problem::mismatch(what, format!("an integer of at least {least}"), value);
                Err(Misplaced::at_offset(self.offset, problem))
            }
            _ => Ok(value),
        }
    }
}
