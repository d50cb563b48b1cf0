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
mod parameter;
mod place;

use std::collections::{BTreeMap, HashMap};

use super::{Definition, LayerDefinition, NetworkError, Origin, Problem};
use document::Document;
use expand::FlatLayer;
use expression::Scope;
use fields::Fields;
pub(crate) use hint::unknown;
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
        let mut origins = Origins { lines: &lines, known: HashMap::new() };
        let layers = expand::layers(&document, &scope, &lines)?
            .into_iter()
            .map(|layer| LayerDefinition {
                origin: origins.of(&layer),
                name: layer.name,
                kind: layer.kind,
                inputs: layer.inputs,
                values: BTreeMap::new(),
                same_padding: layer.same_padding,
            })
            .collect();
        let (name, file, sha256) = (document.name.to_string(), file.to_string(), sha256.to_string());
        Ok(Definition { name, file, sha256, input, set, layers })
    };
    read().map_err(|error| error.at(file, &lines))
}

/// The origins of layers; all repetitions of one share the lines of its keys.
struct Origins<'a> {
    lines: &'a Lines,
    known: HashMap<usize, Origin>,
}

impl Origins<'_> {
    fn of(&mut self, layer: &FlatLayer<'_>) -> Origin {
        let lines = self.lines;
        let new = || Origin::Table {
            line: lines.line(layer.offset),
            keys: layer
                .table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), lines.line(value.span().start)))
                .collect(),
        };
        self.known.entry(layer.offset).or_insert_with(new).clone()
    }
}

/// The file's parameters with the values in force; of a name set twice the last value.
fn parameters(document: &Document<'_>, set: &[(String, i64)]) -> Result<BTreeMap<String, i64>, Misplaced> {
    let mut values: BTreeMap<String, i64> =
        document.parameters.iter().map(|(name, parameter)| (name.to_string(), parameter.default)).collect();
    for (name, value) in set {
        let Some(parameter) = document.parameters.get(name.as_str()) else {
            let problem = if values.is_empty() {
                Problem::mismatch("--set", "none, as the file declares no [parameters]", format!("{name:?}"))
            } else {
                unknown("--set", document.parameters.keys().copied(), name)
            };
            return Err(Misplaced::in_file(problem));
        };
        values.insert(name.clone(), parameter.check(&format!("--set {name}"), *value)?);
    }
    Ok(values)
}
