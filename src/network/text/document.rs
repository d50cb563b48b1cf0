//! The parts of a file before any value is evaluated: parameters, blocks, layers.
//!
//! Keys, kinds and blocks are checked here, so that a mistake is found even where nothing uses it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use toml::Spanned;
use toml::de::DeTable;

use super::expression::is_name;
use super::fields::{Value, mismatch, missing};
use super::hint::unknown;
use super::kinds::{self, KINDS};
use super::parameter::Parameter;
use super::place::Misplaced;
use crate::network::{INPUT, Problem};

/// Keys of every layer, beside those of its kind or block.
const LAYER_KEYS: [&str; 6] = ["name", "kind", "block", "inputs", "when", "repeat"];
const FILE_KEYS: [&str; 5] = ["name", "input", "parameters", "block", "layer"];
const BLOCK_KEYS: [&str; 3] = ["parameters", "inputs", "layer"];
/// Deepest nesting of blocks in blocks; bounds the stack and the length of names.
const DEEPEST_BLOCK: usize = 8;
/// Longest name in bytes; with the limit on layers it bounds the memory that a file can ask for.
const LONGEST_NAME: usize = 100;

/// A file whose keys, kinds and blocks exist.
#[derive(Debug)]
pub(super) struct Document<'a> {
    /// The network's name.
    pub(super) name: &'a str,
    /// The file's parameters.
    pub(super) parameters: BTreeMap<&'a str, Parameter>,
    /// Blocks by name.
    pub(super) blocks: BTreeMap<&'a str, Block<'a>>,
    /// The network's layers.
    pub(super) layers: Vec<Item<'a>>,
}

/// Layers that are used as one.
#[derive(Debug)]
pub(super) struct Block<'a> {
    offset: usize,
    table: &'a DeTable<'a>,
    /// Parameters with their defaults.
    pub(super) parameters: BTreeMap<&'a str, &'a Value<'a>>,
    /// What its layers call the things that it reads.
    pub(super) inputs: Vec<&'a str>,
    /// The block's layers.
    pub(super) layers: Vec<Item<'a>>,
}

/// What an item of a list of layers stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum What<'a> {
    /// A layer of this kind.
    Kind(&'a str),
    /// The layers of this block.
    Block(&'a str),
}

/// One `[[layer]]`.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// Its name, unique among its neighbours.
    pub(super) name: String,
    /// Its kind or block.
    pub(super) what: What<'a>,
    /// The names it reads, where it gives them.
    pub(super) inputs: Option<Vec<&'a str>>,
    /// Whether it is there.
    pub(super) when: Option<&'a Value<'a>>,
    /// How often.
    pub(super) repeat: Option<&'a Value<'a>>,
    /// All its keys.
    pub(super) table: &'a DeTable<'a>,
    /// Where it begins.
    pub(super) offset: usize,
}

/// The text as TOML.
pub(super) fn parse(text: &str) -> Result<DeTable<'_>, Misplaced> {
    let table = DeTable::parse(text).map_err(|error| {
        let problem = Problem::invalid(format!("not valid TOML: {}", error.message().replace('\n', ", ")));
        match error.span() {
            Some(span) => Misplaced::at_offset(span.start, problem),
            None => Misplaced::in_file(problem),
        }
    })?;
    Ok(table.into_inner())
}

impl<'a> Document<'a> {
    /// The parts of a file.
    pub(super) fn new(table: &'a DeTable<'a>) -> Result<Self, Misplaced> {
        if table.is_empty() {
            return Err(Misplaced::in_file(Problem::mismatch(
                "network definition",
                "name, input and at least one [[layer]]",
                "an empty file",
            )));
        }
        check_keys("key of the file", table, &FILE_KEYS)?;
        let name = table.get("name").ok_or_else(|| missing(None, "name", "the network's name"))?;
        let name = valid_name("name", name)?;
        let mut parameters = BTreeMap::new();
        if let Some(declared) = table.get("parameters") {
            for declaration in declarations(declared)? {
                let (key, value) = declaration?;
                parameters.insert(key, Parameter::new(key, value)?);
            }
        }
        let mut blocks = block_headers(table)?;
        let mut bodies = Vec::new();
        for (&name, block) in &blocks {
            let body = items(block.table.get("layer"), Some((name, block.offset)), &blocks)?;
            if let Some(item) = body.iter().find(|item| block.inputs.contains(&item.name.as_str())) {
                let problem = format!("{:?} is what the block reads; choose another name", item.name);
                return Err(Misplaced::at_offset(item.offset, Problem::Invalid(problem)));
            }
            bodies.push((name, body));
        }
        for (name, body) in bodies {
            blocks.entry(name).and_modify(|block| block.layers = body);
        }
        check_nesting(&blocks)?;
        let layers = items(table.get("layer"), None, &blocks)?;
        Ok(Self { name, parameters, blocks, layers })
    }
}

/// The blocks of a file, their layers still to be read: those may name any block.
fn block_headers<'a>(table: &'a DeTable<'a>) -> Result<BTreeMap<&'a str, Block<'a>>, Misplaced> {
    let Some(value) = table.get("block") else { return Ok(BTreeMap::new()) };
    let expected = "tables such as [block.basic]";
    let tables = value.get_ref().as_table().ok_or_else(|| mismatch(value, "block", expected))?;
    let mut blocks = BTreeMap::new();
    for (key, value) in tables {
        let name = key.get_ref().as_ref();
        check_name("name of a block", name, key.span().start)?;
        let table = value.get_ref().as_table().ok_or_else(|| mismatch(value, "block", expected))?;
        check_keys(&format!("key of block {name:?}"), table, &BLOCK_KEYS)?;
        let mut parameters = BTreeMap::new();
        if let Some(declared) = table.get("parameters") {
            parameters = declarations(declared)?.collect::<Result<_, _>>()?;
            for (parameter, value) in &parameters {
                if LAYER_KEYS.contains(parameter) {
                    let problem = Problem::invalid(format!(
                        "{parameter:?} is a key of every layer and cannot name a parameter of a block"
                    ));
                    return Err(Misplaced::at_offset(value.span().start, problem));
                }
            }
        }
        let inputs = table.get("inputs").map_or_else(|| Ok(vec![INPUT]), block_inputs)?;
        blocks
            .insert(name, Block { offset: key.span().start, table, parameters, inputs, layers: Vec::new() });
    }
    Ok(blocks)
}

/// The names of what a block reads: `"input"` and others.
fn block_inputs<'a>(value: &'a Value<'a>) -> Result<Vec<&'a str>, Misplaced> {
    let names = input_names(value)?;
    let expected = "a list of different names that begins with \"input\"";
    let again = |(at, name): (usize, &&str)| names[..at].contains(name);
    if names[0] != INPUT || names.iter().enumerate().any(again) {
        let problem = Problem::mismatch("inputs", expected, format!("{names:?}"));
        return Err(Misplaced::at_offset(value.span().start, problem));
    }
    for name in &names[1..] {
        check_name("inputs", name, value.span().start)?;
    }
    Ok(names)
}

/// Names and values of a table of parameters.
fn declarations<'a>(
    value: &'a Value<'a>,
) -> Result<impl Iterator<Item = Result<(&'a str, &'a Value<'a>), Misplaced>>, Misplaced> {
    let expected = "a table of integers";
    let table = value.get_ref().as_table().ok_or_else(|| mismatch(value, "parameters", expected))?;
    Ok(table.iter().map(|(key, value)| {
        let name = key.get_ref().as_ref();
        if is_name(name) {
            return Ok((name, value));
        }
        let expected = "letters, digits and _, and no word of the expression language";
        let problem = Problem::mismatch("name of a parameter", expected, format!("{name:?}"));
        Err(Misplaced::at_offset(key.span().start, problem))
    }))
}

/// The list of layers of the file, or of a block with its name and offset.
fn items<'a>(
    value: Option<&'a Value<'a>>,
    block: Option<(&str, usize)>,
    blocks: &BTreeMap<&'a str, Block<'a>>,
) -> Result<Vec<Item<'a>>, Misplaced> {
    let expected = "at least one [[layer]]";
    let what = block.map_or("layer".to_string(), |(name, _)| format!("layer of block {name:?}"));
    let value = value.ok_or_else(|| missing(block.map(|(_, offset)| offset), &what, expected))?;
    let list = value.get_ref().as_array().ok_or_else(|| mismatch(value, &what, expected))?;
    if list.is_empty() {
        return Err(mismatch(value, &what, expected));
    }
    let mut numbers = HashMap::new();
    list.iter()
        .map(|value| {
            let table = value.get_ref().as_table().ok_or_else(|| mismatch(value, &what, "a table"))?;
            item(table, value.span().start, blocks, &mut numbers)
        })
        .collect()
}

fn item<'a>(
    table: &'a DeTable<'a>,
    offset: usize,
    blocks: &BTreeMap<&'a str, Block<'a>>,
    numbers: &mut HashMap<&'a str, usize>,
) -> Result<Item<'a>, Misplaced> {
    let given = table.get("name").map(|value| valid_name("name", value)).transpose()?;
    let stem = table.get("kind").or(table.get("block")).and_then(|value| value.get_ref().as_str());
    let number = numbers.entry(stem.unwrap_or_default()).or_insert(0);
    *number += 1;
    let name = given.map_or_else(|| format!("{}{number}", stem.unwrap_or("layer")), str::to_string);
    let in_layer = |error: Misplaced| error.in_layer(&name);
    let what = what(table, offset, blocks).map_err(in_layer)?;
    let inputs = table.get("inputs").map(input_names).transpose().map_err(in_layer)?;
    let (when, repeat) = (table.get("when"), table.get("repeat"));
    Ok(Item { name, what, inputs, when, repeat, table, offset })
}

/// The kind or block of a layer, and whether its keys are those that the kind or block has.
fn what<'a>(
    table: &'a DeTable<'a>,
    offset: usize,
    blocks: &BTreeMap<&'a str, Block<'a>>,
) -> Result<What<'a>, Misplaced> {
    let text = |key: &str, value: &'a Value<'a>| {
        value.get_ref().as_str().ok_or_else(|| mismatch(value, key, "a name in quotes"))
    };
    match (table.get("kind"), table.get("block")) {
        (Some(value), None) => {
            let kind = text("kind", value)?;
            let Some(keys) = kinds::keys(kind) else {
                let problem = unknown("kind", KINDS.iter().map(|(name, _)| *name), kind);
                return Err(Misplaced::at_offset(value.span().start, problem));
            };
            let common = LAYER_KEYS.iter().filter(|key| **key != "block");
            check_keys(&format!("key of {kind}"), table, &common.chain(keys).copied().collect::<Vec<_>>())?;
            Ok(What::Kind(kind))
        }
        (None, Some(value)) => {
            let name = text("block", value)?;
            let Some(block) = blocks.get(name) else {
                let problem = unknown("block", blocks.keys().copied(), name);
                return Err(Misplaced::at_offset(value.span().start, problem));
            };
            let common = LAYER_KEYS.iter().filter(|key| **key != "kind").copied();
            let keys: Vec<&str> = common.chain(block.parameters.keys().copied()).collect();
            check_keys(&format!("key of block {name:?}"), table, &keys)?;
            Ok(What::Block(name))
        }
        (None, None) => Err(missing(Some(offset), "kind", "the name of a kind, or block = \"…\"")),
        (Some(_), Some(_)) => Err(Misplaced::at_offset(
            offset,
            Problem::invalid("a layer has a kind or a block, not both; remove one of them"),
        )),
    }
}

fn input_names<'a>(value: &'a Value<'a>) -> Result<Vec<&'a str>, Misplaced> {
    let expected = "a list of names such as [\"conv1\"]";
    let list = value.get_ref().as_array().ok_or_else(|| mismatch(value, "inputs", expected))?;
    if list.is_empty() {
        return Err(mismatch(value, "inputs", expected));
    }
    list.iter()
        .map(|item| item.get_ref().as_str().ok_or_else(|| mismatch(item, "inputs", "a name in quotes")))
        .collect()
}

/// Refuses a key that is none of those allowed.
pub(super) fn check_keys(what: &str, table: &DeTable<'_>, allowed: &[&str]) -> Result<(), Misplaced> {
    let found = |key: &Spanned<Cow<'_, str>>| !allowed.contains(&key.get_ref().as_ref());
    // Keys are sorted by name; the first in the file is the one to report.
    match table.keys().filter(|key| found(key)).min_by_key(|key| key.span().start) {
        Some(key) => {
            let problem = unknown(what, allowed.iter().copied(), key.get_ref());
            Err(Misplaced::at_offset(key.span().start, problem))
        }
        None => Ok(()),
    }
}

fn valid_name<'a>(key: &str, value: &'a Value<'a>) -> Result<&'a str, Misplaced> {
    let name = value.get_ref().as_str().ok_or_else(|| mismatch(value, key, "a name in quotes"))?;
    check_name(key, name, value.span().start)?;
    Ok(name)
}

fn check_name(key: &str, name: &str, offset: usize) -> Result<(), Misplaced> {
    let wrong = |expected: String, found: String| {
        Err(Misplaced::at_offset(offset, Problem::mismatch(key, expected, found)))
    };
    if name.is_empty() || name.trim() != name || name.chars().any(char::is_control) {
        return wrong("visible characters without a space at either end".to_string(), format!("{name:?}"));
    }
    if name.len() > LONGEST_NAME {
        return wrong(format!("at most {LONGEST_NAME} bytes"), format!("{}", name.len()));
    }
    if name == INPUT {
        let problem = Problem::invalid("\"input\" is what the network or block reads; choose another name");
        return Err(Misplaced::at_offset(offset, problem));
    }
    Ok(())
}

/// Refuses blocks that contain themselves, and those that nest too deep.
fn check_nesting(blocks: &BTreeMap<&str, Block<'_>>) -> Result<(), Misplaced> {
    let mut heights = HashMap::new();
    for name in blocks.keys() {
        height(name, blocks, &mut vec![name], &mut heights)?;
    }
    Ok(())
}

/// How many blocks deep a block is, itself included; `path` leads to it.
fn height<'d>(
    name: &'d str,
    blocks: &'d BTreeMap<&str, Block<'_>>,
    path: &mut Vec<&'d str>,
    heights: &mut HashMap<&'d str, usize>,
) -> Result<usize, Misplaced> {
    if let Some(&known) = heights.get(name) {
        return Ok(known);
    }
    let mut highest = 0;
    for item in blocks.get(name).map_or(&[][..], |block| &block.layers) {
        let What::Block(inner) = item.what else { continue };
        let invalid = |text| Misplaced::at_offset(item.offset, Problem::Invalid(text)).in_layer(&item.name);
        if let Some(start) = path.iter().position(|&outer| outer == inner) {
            let cycle = [&path[start..], &[inner]].concat().join(" -> ");
            return Err(invalid(format!("the blocks contain each other in a cycle: {cycle}; break it")));
        }
        path.push(inner);
        let too_deep = path.len() > DEEPEST_BLOCK;
        let below = if too_deep { 0 } else { height(inner, blocks, path, heights)? };
        path.pop();
        if too_deep || path.len() + below > DEEPEST_BLOCK {
            return Err(invalid(format!("blocks nest more than {DEEPEST_BLOCK} deep; flatten them")));
        }
        highest = highest.max(below);
    }
    heights.insert(name, highest + 1);
    Ok(highest + 1)
}
