//! From a definition to a checked network: names, order, shapes, parameters, cost.

use std::collections::{BTreeMap, HashMap};

use super::cost::{cost, parameter_shapes};
use super::same;
use super::shape::{output_shape, shape_text, volume};
use super::{Definition, INPUT, Layer, LayerDefinition, Network, NetworkError, Origin, Parameter};
use super::{Problem, TensorRef, Values};

impl Network {
    /// Checks a definition, orders its layers and infers shapes and costs.
    ///
    /// # Errors
    ///
    /// No layers, a zero or overflowing size, a name used twice or never defined, a cycle, or shapes that do
    /// not fit: each with file, line or node, layer, expected and found.
    pub fn new(definition: Definition) -> Result<Self, NetworkError> {
        let Definition { name, file, sha256, input, set, layers } = definition;
        let whole = |problem: Problem| problem.at(&file, &Origin::File, None);
        if layers.is_empty() {
            return Err(whole(Problem::mismatch("layers", "at least one", "none")));
        }
        if input.is_empty() || input.contains(&0) {
            return Err(whole(Problem::mismatch("input", "sizes of at least 1", shape_text(&input))));
        }
        volume(&input).map_err(whole)?;
        let order = execution_order(&file, &layers)?;
        let position: HashMap<usize, usize> = order.iter().enumerate().map(|(at, &i)| (i, at)).collect();
        let index: HashMap<&str, usize> =
            layers.iter().enumerate().map(|(i, l)| (l.name.as_str(), position[&i])).collect();
        let mut network = Self { name, file: file.clone(), sha256, set, input, layers: Vec::new() };
        for &i in &order {
            let layer = network
                .checked_layer(&layers[i], &index)
                .map_err(|problem| problem.at(&file, &layers[i].origin, Some(&layers[i].name)))?;
            network.layers.push(layer);
        }
        network.check_totals().map_err(whole)?;
        Ok(network)
    }

    /// Refuses a network whose sums over all layers do not fit 64 bits, so that no sum of them can overflow.
    fn check_totals(&self) -> Result<(), Problem> {
        type Count = fn(&Layer) -> u64;
        let counts: [(&str, Count); 4] = [
            ("parameters", |layer| layer.trainable().saturating_add(layer.buffers())),
            ("flops", |layer| layer.cost.flops),
            ("flops_elementwise", |layer| layer.cost.flops_elementwise),
            ("activations", |layer| layer.cost.activations),
        ];
        for (name, count) in counts {
            let total = self.layers.iter().map(count).try_fold(0u64, u64::checked_add);
            total.ok_or_else(|| {
                Problem::mismatch(format!("{name} of all layers"), "a count below 2^64", "an overflow")
            })?;
        }
        Ok(())
    }

    fn checked_layer(
        &self,
        definition: &LayerDefinition,
        index: &HashMap<&str, usize>,
    ) -> Result<Layer, Problem> {
        let inputs: Vec<TensorRef> = definition
            .inputs
            .iter()
            .map(|n| if n == INPUT { TensorRef::Input } else { TensorRef::Layer(index[n.as_str()]) })
            .collect();
        let shapes: Vec<&[usize]> = inputs.iter().map(|&t| self.shape(t)).collect();
        let kind = match shapes.first() {
            Some(input) if definition.same_padding => same::padded(&definition.kind, input)?,
            _ => definition.kind.clone(),
        };
        let output = output_shape(&kind, &shapes)?;
        volume(&output)?;
        if output.contains(&0) {
            return Err(Problem::mismatch("output", "sizes of at least 1", shape_text(&output)));
        }
        let mut values: BTreeMap<_, _> = definition.values.clone();
        let mut parameters = Vec::new();
        for (role, shape) in parameter_shapes(&kind, &shapes)? {
            let values = values.remove(&role).unwrap_or(Values::Random);
            if let Values::Stored(stored) = &values
                && stored.len() != volume(&shape)?
            {
                return Err(Problem::mismatch(
                    format!("{role:?} of {}", kind.name()).to_lowercase(),
                    format!("{} elements ({})", volume(&shape)?, shape_text(&shape)),
                    stored.len(),
                ));
            }
            parameters.push(Parameter { role, shape, values });
        }
        let cost = cost(&kind, &shapes, &output)?;
        Ok(Layer { name: definition.name.clone(), kind, inputs, output, parameters, cost })
    }
}

/// Most layers of a cycle that a message names.
const MOST_NAMED: usize = 10;

/// Indices of the layers such that each comes after those it reads; file order where that allows
/// (Kahn 1962, 10.1145/368996.369025).
fn execution_order(file: &str, layers: &[LayerDefinition]) -> Result<Vec<usize>, NetworkError> {
    let mut index: HashMap<&str, usize> = HashMap::new();
    for (i, layer) in layers.iter().enumerate() {
        let at = |p: Problem| p.at(file, &layer.origin, Some(&layer.name));
        if layer.name == INPUT {
            return Err(at(Problem::invalid(
                "\"input\" is the network's input; give the layer another name",
            )));
        }
        // A name is printed and drawn wherever the layer is.
        if layer.name.is_empty() || layer.name.chars().any(char::is_control) {
            let found = format!("{:?}", layer.name);
            return Err(at(Problem::mismatch("name of the layer", "visible characters", found)));
        }
        if let Some(first) = index.insert(&layer.name, i) {
            let origin = &layers[first].origin;
            return Err(at(Problem::invalid(format!(
                "the name is already used{}; names must be unique",
                origin.line().map(|line| format!(" in line {line}")).unwrap_or_default()
            ))));
        }
    }
    let mut waiting_for = vec![0usize; layers.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); layers.len()];
    for (i, layer) in layers.iter().enumerate() {
        for name in layer.inputs.iter().filter(|n| n.as_str() != INPUT) {
            let Some(&source) = index.get(name.as_str()) else {
                return Err(Problem::mismatch(
                    "input",
                    "the name of a layer, or \"input\"",
                    format!("\"{name}\""),
                )
                .at(file, &layer.origin, Some(&layer.name)));
            };
            waiting_for[i] += 1;
            readers[source].push(i);
        }
    }
    let mut ready: std::collections::BTreeSet<usize> =
        (0..layers.len()).filter(|&i| waiting_for[i] == 0).collect();
    let mut order = Vec::with_capacity(layers.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for &reader in &readers[i] {
            waiting_for[reader] -= 1;
            if waiting_for[reader] == 0 {
                ready.insert(reader);
            }
        }
    }
    if order.len() == layers.len() {
        return Ok(order);
    }
    let on_cycle = find_cycle(layers, &index, &waiting_for);
    let mut names: Vec<&str> = on_cycle.iter().map(|&i| layers[i].name.as_str()).take(MOST_NAMED).collect();
    if on_cycle.len() > MOST_NAMED {
        names.push("…");
    }
    let first = &layers[on_cycle[0]];
    names.push(&first.name);
    Err(Problem::invalid(format!("the layers read each other in a cycle: {}; break it", names.join(" -> ")))
        .at(file, &first.origin, Some(&first.name)))
}

/// The layers of one cycle, in the direction of the data, smallest index first.
fn find_cycle(layers: &[LayerDefinition], index: &HashMap<&str, usize>, waiting: &[usize]) -> Vec<usize> {
    // Every layer still waiting has a source that still waits: walking the sources must come round.
    let source = |i: usize| {
        layers[i].inputs.iter().filter_map(|n| index.get(n.as_str())).copied().find(|&s| waiting[s] > 0)
    };
    let mut at = waiting.iter().position(|&n| n > 0).unwrap_or(0);
    let mut seen = vec![usize::MAX; layers.len()];
    let mut path = Vec::new();
    while seen[at] == usize::MAX {
        seen[at] = path.len();
        path.push(at);
        match source(at) {
            Some(next) => at = next,
            None => break,
        }
    }
    let mut cycle = path.split_off(seen[at]);
    cycle.reverse();
    let smallest = (0..cycle.len()).min_by_key(|&i| cycle[i]).unwrap_or(0);
    cycle.rotate_left(smallest);
    cycle
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::network::{Activation, LayerKind, Linear, Role};

    fn relu(name: &str, inputs: &[&str]) -> LayerDefinition {
        LayerDefinition {
            name: name.to_string(),
            kind: LayerKind::Activation(Activation::Relu),
            inputs: inputs.iter().map(|input| input.to_string()).collect(),
            origin: Origin::Line(7),
            values: BTreeMap::new(),
            same_padding: false,
        }
    }

    fn definition(layers: Vec<LayerDefinition>) -> Definition {
        Definition {
            name: "n".to_string(),
            file: "n.toml".to_string(),
            sha256: String::new(),
            input: vec![4],
            set: BTreeMap::new(),
            layers,
        }
    }

    fn names(layers: Vec<LayerDefinition>) -> Vec<String> {
        Network::new(definition(layers)).unwrap().layers.into_iter().map(|layer| layer.name).collect()
    }

    fn message(layers: Vec<LayerDefinition>) -> String {
        Network::new(definition(layers)).unwrap_err().to_string()
    }

    #[test]
    fn file_order_is_kept_where_it_can_be() {
        let sum = LayerDefinition { kind: LayerKind::Add { operand: None }, ..relu("sum", &["b", "a"]) };
        let layers = vec![sum, relu("b", &["a"]), relu("z", &["input"]), relu("a", &["input"])];
        assert_eq!(names(layers), ["z", "a", "b", "sum"]);
    }

    #[test]
    fn inputs_point_at_earlier_layers() {
        let network = Network::new(definition(vec![relu("b", &["a"]), relu("a", &["input"])])).unwrap();
        assert_eq!(network.layers[0].inputs, [TensorRef::Input]);
        assert_eq!(network.layers[1].inputs, [TensorRef::Layer(0)]);
    }

    #[test]
    fn a_cycle_is_named_in_the_direction_of_the_data() {
        let layers = vec![relu("a", &["c"]), relu("b", &["a"]), relu("c", &["b"]), relu("d", &["c"])];
        assert_eq!(
            message(layers),
            "n.toml:7: layer \"a\": the layers read each other in a cycle: a -> b -> c -> a; break it"
        );
    }

    #[test]
    fn a_long_cycle_is_named_in_part() {
        let layers =
            (0..1000).map(|i| relu(&format!("l{i}"), &[&format!("l{}", (i + 999) % 1000)])).collect();
        assert!(message(layers).ends_with(
            "cycle: l0 -> l1 -> l2 -> l3 -> l4 -> l5 -> l6 -> l7 -> l8 -> l9 -> … -> l0; break it"
        ));
    }

    #[test]
    fn wrong_names_are_refused() {
        assert_eq!(
            message(vec![relu("a", &["b"])]),
            "n.toml:7: layer \"a\": input: expected the name of a layer, or \"input\", found \"b\""
        );
        assert_eq!(
            message(vec![relu("a", &["input"]), relu("a", &["input"])]),
            "n.toml:7: layer \"a\": the name is already used in line 7; names must be unique"
        );
        assert!(message(vec![relu("input", &["input"])]).contains("give the layer another name"));
        assert!(
            message(vec![relu("a\tb", &["input"])]).ends_with("expected visible characters, found \"a\\tb\"")
        );
        assert_eq!(message(vec![]), "n.toml: layers: expected at least one, found none");
    }

    #[test]
    fn inputs_without_elements_are_refused() {
        for input in [vec![], vec![4, 0]] {
            let wrong = Definition { input, ..definition(vec![relu("a", &["input"])]) };
            assert!(Network::new(wrong).unwrap_err().to_string().contains("sizes of at least 1"));
        }
    }

    #[test]
    fn stored_values_must_have_the_parameters_size() {
        let linear = |stored: usize| LayerDefinition {
            kind: LayerKind::Linear(Linear { out_features: 3, bias: false }),
            values: BTreeMap::from([(Role::Weight, Values::Stored(Arc::from(vec![0.0; stored])))]),
            ..relu("fc", &["input"])
        };
        assert_eq!(names(vec![linear(12)]), ["fc"]);
        assert_eq!(
            message(vec![linear(11)]),
            "n.toml:7: layer \"fc\": weight of linear: expected 12 elements (3x4), found 11"
        );
    }
}
