//! Which nodes of a graph run, and in which order.

use std::collections::{BTreeSet, HashMap};

use rten_onnx::onnx::{GraphProto, NodeProto};

use crate::network::{NetworkError, Origin, Problem};

/// What defines a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The graph's input, or an initializer.
    Given,
    /// Output number `.1` of node `.0`.
    Node(usize, usize),
}

/// The place of a node, for errors.
pub(super) fn origin(index: usize, node: &NodeProto) -> Origin {
    Origin::Node(index, node.op_type.clone().unwrap_or_default())
}

/// The name by which a person finds a node: its own, or that of its first output.
pub(super) fn label(node: &NodeProto) -> Option<&str> {
    let own = node.name.as_deref().filter(|name| !name.is_empty());
    own.or_else(|| node.output.first().map(String::as_str)).filter(|name| !name.is_empty())
}

/// The indices of the nodes that some output of the graph depends on, each after those it reads, in file
/// order where that allows (Kahn 1962, 10.1145/368996.369025). `given` names the input and the initializers.
///
/// # Errors
///
/// A name that is defined twice or never, a node that needs an output other than the first of another, no
/// output, or a cycle.
pub(super) fn execution_order<'a>(
    file: &str,
    graph: &'a GraphProto,
    given: impl Iterator<Item = &'a str>,
) -> Result<Vec<usize>, NetworkError> {
    let sources = sources(file, graph, given)?;
    let live = live_nodes(file, graph, &sources)?;
    let producers = |node: usize| {
        let named = graph.node[node].input.iter().filter(|name| !name.is_empty());
        named.filter_map(|name| match sources.get(name.as_str()) {
            Some(Source::Node(producer, _)) => Some(*producer),
            _ => None,
        })
    };
    let mut waiting_for: HashMap<usize, usize> = HashMap::new();
    let mut readers: HashMap<usize, Vec<usize>> = HashMap::new();
    for &node in &live {
        waiting_for.insert(node, producers(node).count());
        for producer in producers(node) {
            readers.entry(producer).or_default().push(node);
        }
    }
    let mut ready: BTreeSet<usize> = live.iter().copied().filter(|node| waiting_for[node] == 0).collect();
    let mut order = Vec::with_capacity(live.len());
    while let Some(node) = ready.pop_first() {
        order.push(node);
        for reader in readers.get(&node).into_iter().flatten() {
            let waiting = waiting_for.entry(*reader).or_default();
            *waiting -= 1;
            if *waiting == 0 {
                ready.insert(*reader);
            }
        }
    }
    if order.len() == live.len() {
        return Ok(order);
    }
    let waits = |node: &usize| waiting_for.get(node).is_some_and(|&n| n > 0);
    Err(cycle(file, graph, live.into_iter().find(waits), |node| producers(node).find(waits)))
}

/// Every name of the graph with what defines it.
fn sources<'a>(
    file: &str,
    graph: &'a GraphProto,
    given: impl Iterator<Item = &'a str>,
) -> Result<HashMap<&'a str, Source>, NetworkError> {
    let twice = |name: &str| Problem::invalid(format!("\"{name}\" is defined twice; names must be unique"));
    let mut sources = HashMap::new();
    for name in given {
        if sources.insert(name, Source::Given).is_some() {
            return Err(twice(name).at(file, &Origin::File, None));
        }
    }
    for (index, node) in graph.node.iter().enumerate() {
        for (output, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            if sources.insert(name, Source::Node(index, output)).is_some() {
                return Err(twice(name).at(file, &origin(index, node), label(node)));
            }
        }
    }
    Ok(sources)
}

/// The nodes that the graph's outputs depend on; the others never run and are left out.
fn live_nodes(
    file: &str,
    graph: &GraphProto,
    sources: &HashMap<&str, Source>,
) -> Result<BTreeSet<usize>, NetworkError> {
    let mut live = BTreeSet::new();
    let mut unvisited = Vec::new();
    for output in &graph.output {
        let name = output.name.as_deref().unwrap_or_default();
        let at = |problem: Problem| problem.at(file, &Origin::File, None);
        unvisited.extend(producer("output of the graph", name, graph, sources).map_err(at)?);
    }
    if graph.output.is_empty() {
        let problem = Problem::mismatch("outputs of the graph", "at least one", "none");
        return Err(problem.at(file, &Origin::File, None));
    }
    while let Some(index) = unvisited.pop() {
        if !live.insert(index) {
            continue;
        }
        let node = &graph.node[index];
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            let at = |problem: Problem| problem.at(file, &origin(index, node), label(node));
            unvisited.extend(producer("input", name, graph, sources).map_err(at)?);
        }
    }
    Ok(live)
}

/// The node that makes `name`, if one does.
fn producer(
    what: &str,
    name: &str,
    graph: &GraphProto,
    sources: &HashMap<&str, Source>,
) -> Result<Option<usize>, Problem> {
    match sources.get(name) {
        Some(Source::Given) => Ok(None),
        Some(Source::Node(index, 0)) => Ok(Some(*index)),
        Some(Source::Node(index, output)) => Err(Problem::invalid(format!(
            "\"{name}\" is output {output} of node {index} ({}); only the first output of a node is supported",
            graph.node[*index].op_type.as_deref().unwrap_or_default()
        ))),
        None => Err(Problem::mismatch(
            what,
            "the output of a node, an initializer or the graph's input",
            format!("\"{name}\""),
        )),
    }
}

/// The error that names the nodes of a cycle, in the direction of the data.
fn cycle(
    file: &str,
    graph: &GraphProto,
    start: Option<usize>,
    source: impl Fn(usize) -> Option<usize>,
) -> NetworkError {
    let mut path: Vec<usize> = Vec::new();
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut next = start;
    while let Some(node) = next.filter(|node| !seen.contains_key(node)) {
        seen.insert(node, path.len());
        path.push(node);
        next = source(node);
    }
    // Every node still waiting reads one that waits, so the walk came round to `next`.
    let first = next.and_then(|node| seen.get(&node).copied()).unwrap_or(0);
    let mut nodes = path.split_off(first);
    nodes.reverse();
    let smallest = (0..nodes.len()).min_by_key(|&at| nodes[at]).unwrap_or(0);
    nodes.rotate_left(smallest);
    let name = |index: usize| label(&graph.node[index]).unwrap_or("?");
    let names: Vec<&str> = nodes.iter().chain(nodes.first()).map(|&index| name(index)).collect();
    let problem =
        Problem::invalid(format!("the nodes read each other in a cycle: {}; break it", names.join(" -> ")));
    let index = nodes.first().copied().unwrap_or(0);
    problem.at(file, &origin(index, &graph.node[index]), Some(name(index)))
}
