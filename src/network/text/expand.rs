//! Blocks and repetitions written out: from the document to a flat list of layers.
//!
//! Every item of a list keeps its name as an alias: a repetition or a block stands for its last layer, and a
//! layer left out by `when` or repeated no times stands for its first input. So whoever reads such an item
//! needs not know what became of it.

use std::collections::{BTreeMap, HashMap};

use toml::de::DeTable;

use super::document::{Document, Item, What};
use super::expression::Scope;
use super::fields::{Fields, integer, size, truth};
use super::hint::nearest;
use super::kinds::{layer_kind, same_padding};
use super::place::{Lines, Misplaced};
use crate::network::{INPUT, LayerKind, Problem};

/// Most layers, blocks and repetitions that a file may ask for, so that no small file fills the memory.
const MOST_LAYERS: usize = 100_000;
/// Most names that the `inputs` of all layers may give, for the same reason.
const MOST_INPUTS: usize = 400_000;

/// A layer with its full name.
#[derive(Debug)]
pub(super) struct FlatLayer<'d> {
    /// The name with those of its blocks before it.
    pub(super) name: String,
    /// What it computes.
    pub(super) kind: LayerKind,
    /// The full names of the layers it reads.
    pub(super) inputs: Vec<String>,
    /// Whether its padding follows from the size of what it reads.
    pub(super) same_padding: bool,
    /// Its keys in the file.
    pub(super) table: &'d DeTable<'d>,
    /// Where it stands.
    pub(super) offset: usize,
}

/// The layers of a document, blocks and repetitions written out.
///
/// # Errors
///
/// A value that is wrong, a name used twice or not there, layers left out that read each other, or more
/// layers than the limit.
pub(super) fn layers<'d>(
    document: &'d Document<'d>,
    scope: &Scope<'_>,
    lines: &'d Lines,
) -> Result<Vec<FlatLayer<'d>>, Misplaced> {
    let (aliases, names) = (Aliases::default(), HashMap::new());
    let mut expansion =
        Expansion { document, lines, layers: Vec::new(), aliases, names, references: Vec::new(), inputs: 0 };
    expansion.list(&document.layers, scope, "", &[(INPUT, INPUT.to_string())])?;
    expansion.check_references()?;
    let Expansion { mut layers, mut aliases, .. } = expansion;
    for layer in &mut layers {
        for input in &mut layer.inputs {
            *input = aliases.resolve(input)?;
        }
    }
    Ok(layers)
}

/// A name in the `inputs` of a layer.
#[derive(Debug)]
struct Reference {
    name: String,
    reader: String,
    prefix: usize,
    offset: usize,
}

#[derive(Debug)]
struct Expansion<'d> {
    document: &'d Document<'d>,
    lines: &'d Lines,
    layers: Vec<FlatLayer<'d>>,
    aliases: Aliases,
    /// Every full name and where it was given.
    names: HashMap<String, usize>,
    references: Vec<Reference>,
    /// How many inputs all layers have so far.
    inputs: usize,
}

impl<'d> Expansion<'d> {
    /// Writes out a list of layers that reads `outside`, full names by those that the list has for them;
    /// returns the name of its last item.
    fn list(
        &mut self,
        items: &'d [Item<'d>],
        scope: &Scope<'_>,
        prefix: &str,
        outside: &[(&str, String)],
    ) -> Result<String, Misplaced> {
        let mut before = outside.first().map_or_else(|| INPUT.to_string(), |(_, input)| input.clone());
        for item in items {
            let name = format!("{prefix}{}", item.name);
            let inputs = match &item.inputs {
                None => vec![before],
                Some(names) => self.references(item, names, &name, prefix, outside),
            };
            self.item(item, scope, &name, inputs).map_err(|error| error.in_layer(&name))?;
            before = name;
        }
        Ok(before)
    }

    /// The full names of an item's inputs, noted to be looked up when all names are known.
    fn references(
        &mut self,
        item: &Item<'_>,
        names: &[&str],
        reader: &str,
        prefix: &str,
        outside: &[(&str, String)],
    ) -> Vec<String> {
        let mut inputs = Vec::with_capacity(names.len());
        for &name in names {
            if let Some((_, full)) = outside.iter().find(|(inner, _)| *inner == name) {
                inputs.push(full.clone());
                continue;
            }
            let offset = item.table.get("inputs").map_or(item.offset, |value| value.span().start);
            let (name, reader) = (format!("{prefix}{name}"), reader.to_string());
            inputs.push(name.clone());
            self.references.push(Reference { name, reader, prefix: prefix.len(), offset });
        }
        inputs
    }

    /// Writes out one item, as often as it is repeated.
    fn item(
        &mut self,
        item: &'d Item<'d>,
        scope: &Scope<'_>,
        name: &str,
        mut inputs: Vec<String>,
    ) -> Result<(), Misplaced> {
        let Some(repeat) = item.repeat else { return self.instance(item, scope, name, inputs) };
        self.claim(item, name, inputs.len())?;
        let repetitions = size("repeat", repeat, 0, scope)?;
        for index in 0..repetitions {
            let repetition = format!("{name}.{index}");
            // The first input of a later repetition is the one before it; the others stay.
            let next = inputs.iter().skip(1).cloned();
            let next = std::iter::once(repetition.clone()).chain(next).collect();
            let scope = scope.at_index(i64::try_from(index).unwrap_or(i64::MAX));
            self.instance(item, &scope, &repetition, inputs).map_err(|error| error.in_layer(&repetition))?;
            inputs = next;
        }
        self.aliases.insert(name, inputs, item.offset);
        Ok(())
    }

    /// Writes out one repetition of an item.
    fn instance(
        &mut self,
        item: &'d Item<'d>,
        scope: &Scope<'_>,
        name: &str,
        inputs: Vec<String>,
    ) -> Result<(), Misplaced> {
        self.claim(item, name, inputs.len())?;
        if let Some(when) = item.when
            && !truth("when", when, scope)?
        {
            self.aliases.insert(name, inputs, item.offset);
            return Ok(());
        }
        match item.what {
            What::Kind(kind) => {
                let fields = Fields::new(item.table, Some(item.offset), scope);
                let kind = layer_kind(kind, &fields)?;
                let same_padding = same_padding(&kind, &fields);
                let (name, table, offset) = (name.to_string(), item.table, item.offset);
                self.layers.push(FlatLayer { name, kind, inputs, same_padding, table, offset });
            }
            What::Block(block) => {
                let output = self.block(item, block, scope, name, inputs)?;
                self.aliases.insert(name, vec![output], item.offset);
            }
        }
        Ok(())
    }

    /// Writes out a block; returns the name of its last item.
    fn block(
        &mut self,
        item: &'d Item<'d>,
        block: &str,
        scope: &Scope<'_>,
        name: &str,
        inputs: Vec<String>,
    ) -> Result<String, Misplaced> {
        let document = self.document;
        let Some(block) = document.blocks.get(block) else { return Ok(name.to_string()) };
        if inputs.len() != block.inputs.len() {
            let expected = match block.inputs[..] {
                [_] => "one".to_string(),
                ref names => format!("{} ({})", names.len(), names.join(", ")),
            };
            let offset = item.table.get("inputs").map_or(item.offset, |value| value.span().start);
            let problem = Problem::mismatch("inputs of a block", expected, inputs.len());
            return Err(Misplaced::at_offset(offset, problem));
        }
        let mut parameters = BTreeMap::new();
        for (&parameter, default) in &block.parameters {
            let value = match item.table.get(parameter) {
                Some(argument) => integer(parameter, argument, scope)?,
                None => integer(parameter, default, &scope.outside_blocks())?,
            };
            parameters.insert(parameter.to_string(), value);
        }
        let outside: Vec<(&str, String)> = block.inputs.iter().copied().zip(inputs).collect();
        self.list(&block.layers, &scope.in_block(&parameters), &format!("{name}."), &outside)
    }

    /// Takes a full name, which must be free.
    fn claim(&mut self, item: &Item<'_>, name: &str, inputs: usize) -> Result<(), Misplaced> {
        if self.names.len() == MOST_LAYERS {
            return Err(too_many("layers, blocks and repetitions", MOST_LAYERS, item));
        }
        self.inputs += inputs;
        if self.inputs > MOST_INPUTS {
            return Err(too_many("inputs of all layers", MOST_INPUTS, item));
        }
        let Some(first) = self.names.insert(name.to_string(), item.offset) else { return Ok(()) };
        let line = self.lines.line(first);
        let problem = format!("the name is already used in line {line}; names must be unique");
        Err(Misplaced::at_offset(item.offset, Problem::Invalid(problem)))
    }

    /// Refuses an input that no layer has the name of.
    fn check_references(&self) -> Result<(), Misplaced> {
        let Some(dangling) = self.references.iter().find(|r| !self.names.contains_key(&r.name)) else {
            return Ok(());
        };
        let (prefix, found) = dangling.name.split_at(dangling.prefix);
        let neighbours = self.names.keys().filter_map(|name| name.strip_prefix(prefix));
        let hint = nearest(neighbours, found).map(|name| format!(" (did you mean {name:?}?)"));
        let found = format!("{found:?}{}", hint.unwrap_or_default());
        let problem = Problem::mismatch("inputs", "the name of a layer, or \"input\"", found);
        Err(Misplaced::at_offset(dangling.offset, problem).in_layer(&dangling.reader))
    }
}

fn too_many(what: &str, most: usize, item: &Item<'_>) -> Misplaced {
    Misplaced::at_offset(item.offset, Problem::mismatch(what, format!("at most {most}"), "more"))
}

/// What stands for items that are no layers themselves.
#[derive(Debug, Default)]
struct Aliases {
    targets: HashMap<String, (String, usize)>,
}

impl Aliases {
    /// Lets the first of `inputs` stand for `name`.
    fn insert(&mut self, name: &str, inputs: Vec<String>, offset: usize) {
        if let Some(first) = inputs.into_iter().next() {
            self.targets.insert(name.to_string(), (first, offset));
        }
    }

    /// The layer, or the network's input, that a name comes down to.
    fn resolve(&mut self, name: &str) -> Result<String, Misplaced> {
        let mut path: Vec<String> = Vec::new();
        let mut at = name.to_string();
        while let Some((target, offset)) = self.targets.get(&at) {
            if path.len() > self.targets.len() {
                let problem =
                    "the layers left out by `when` or `repeat` read each other in a cycle; break it";
                return Err(Misplaced::at_offset(*offset, Problem::invalid(problem)).in_layer(&at));
            }
            path.push(std::mem::replace(&mut at, target.clone()));
        }
        // Shortened paths keep the whole resolution linear.
        for passed in path {
            self.targets.entry(passed).and_modify(|(target, _)| target.clone_from(&at));
        }
        Ok(at)
    }
}
