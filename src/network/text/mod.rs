//! Network definitions in TOML: the format of `docs/network-format.md`.
//!
//! ```text
//! text ─► Document ─► expand ─► Definition
//!         keys and    parameters, blocks,
//!         kinds known repetitions resolved
//! ```

mod document;
mod expand;
mod expression;
mod fields;
mod hint;
mod kinds;
mod place;

use std::collections::BTreeMap;

use super::{Definition, LayerDefinition, NetworkError, Origin, Problem};
use document::Document;
use expression::Scope;
use fields::Fields;
use hint::unknown;
use place::{Lines, Misplaced};

/// The definition in the text of a TOML file, with the parameters in `set` overriding the file's.
///
/// # Errors
///
/// Anything that [`document`] or [`expand`] refuses, with its line.
pub(super) fn definition(
    file: &str,
    text: &str,
    sha256: &str,
    set: &[(String, i64)],
) -> Result<Definition, NetworkError> {
    let lines = Lines::new(text);
    let read = || -> Result<Definition, Misplaced> {
        let table = document::parse(text)?;
        let document = Document::new(&table)?;
        let set = parameters(&document, set)?;
        let scope = Scope::of_file(&set);
        let input = Fields::new(&table, None, &scope).sizes("input")?;
        let layers = expand::layers(&document, &scope, &lines)?
            .into_iter()
            .map(|layer| LayerDefinition {
                name: layer.name,
                kind: layer.kind,
                inputs: layer.inputs,
                origin: Origin::Line(lines.line(layer.offset)),
                values: BTreeMap::new(),
            })
            .collect();
        let (name, file, sha256) = (document.name.to_string(), file.to_string(), sha256.to_string());
        Ok(Definition { name, file, sha256, input, set, layers })
    };
    read().map_err(|error| error.at(file, &lines))
}

/// The file's parameters with the values in force; of a name set twice the last value.
fn parameters(document: &Document<'_>, set: &[(String, i64)]) -> Result<BTreeMap<String, i64>, Misplaced> {
    let mut parameters = document.parameters.clone();
    for (name, value) in set {
        let Some(slot) = parameters.get_mut(name) else {
            let problem = if parameters.is_empty() {
                Problem::mismatch("--set", "none, as the file declares no [parameters]", format!("{name:?}"))
            } else {
                unknown("--set", document.parameters.keys().map(String::as_str), name)
            };
            return Err(Misplaced::in_file(problem));
        };
        *slot = *value;
    }
    Ok(parameters)
}
