//! Layers of networks, each alone as a network of one layer, prepared on a device.

use std::collections::BTreeMap;

use anyhow::Context;
use layerjoule::backend::{Backend, Executor, Task, Tensors, WeightOptions};
use layerjoule::clock::Clock;
use layerjoule::network::{Definition, INPUT, LayerDefinition, LayerKind, Network, Origin, shape_text};
use layerjoule::plan::{Layout, Plan, PlanOptions, Precision};
use serde_json::{Value, json};

/// A conv or linear layer that stands in one or several networks, once or more often.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DistinctLayer {
    /// The first layer of its sort, as `NETWORK/LAYER`.
    pub(crate) name: String,
    /// What it computes.
    pub(crate) kind: LayerKind,
    /// Shape of what it reads, the batch left out.
    pub(crate) input: Vec<usize>,
    /// Shape of what it writes, likewise.
    pub(crate) output: Vec<usize>,
    /// How often it stands in each network.
    pub(crate) count: BTreeMap<String, usize>,
}

/// The conv and linear layers of networks, those that do the same work as one.
pub(crate) fn distinct(networks: &[Network]) -> Vec<DistinctLayer> {
    let mut found: Vec<DistinctLayer> = Vec::new();
    for network in networks {
        for layer in &network.layers {
            let (LayerKind::Conv(_) | LayerKind::Linear(_)) = layer.kind else { continue };
            let input = network.shape(layer.inputs[0]);
            let at = found.iter().position(|other| other.kind == layer.kind && other.input == input);
            let at = at.unwrap_or_else(|| {
                found.push(DistinctLayer {
                    name: format!("{}/{}", network.name, layer.name),
                    kind: layer.kind.clone(),
                    input: input.to_vec(),
                    output: layer.output.clone(),
                    count: BTreeMap::new(),
                });
                found.len() - 1
            });
            *found[at].count.entry(network.name.clone()).or_default() += 1;
        }
    }
    found
}

impl DistinctLayer {
    /// What another program needs to do the same work.
    pub(crate) fn description(&self) -> Value {
        let mut text = json!({
            "name": self.name, "input": self.input, "output": self.output, "count": self.count,
            "signature": format!("{} {} -> {}", shape_text(&self.input), self.kind, shape_text(&self.output)),
        });
        match &self.kind {
            LayerKind::Conv(conv) => {
                text["kind"] = json!("conv");
                text["out_channels"] = json!(conv.out_channels);
                text["kernel"] = json!(conv.kernel);
                text["stride"] = json!(conv.stride);
                // Top, left, bottom, right.
                text["padding"] = json!(conv.padding);
                text["dilation"] = json!(conv.dilation);
                text["groups"] = json!(conv.groups);
                text["bias"] = json!(conv.bias);
            }
            LayerKind::Linear(linear) => {
                text["kind"] = json!("linear");
                text["out_features"] = json!(linear.out_features);
                text["bias"] = json!(linear.bias);
            }
            other => text["kind"] = json!(other.name()),
        }
        text
    }

    /// Prepares it alone, with random weights and input. Its marks will be instants of `clock`.
    ///
    /// # Errors
    ///
    /// The device cannot run it so.
    pub(crate) fn prepare(
        &self,
        backend: &dyn Backend,
        batch: usize,
        precision: Precision,
        layout: Layout,
        clock: &dyn Clock,
    ) -> anyhow::Result<Running> {
        let network = self.network()?;
        let plan = Plan::new(&network, &PlanOptions { batch, precision, layout, ..PlanOptions::default() })?;
        let tensors = Tensors::new(&network, &WeightOptions { seed: 1, batch })?;
        let executor = backend.prepare(&network, &plan, &tensors)?;
        Running::new(executor, clock)
    }

    fn network(&self) -> anyhow::Result<Network> {
        let layer = LayerDefinition {
            name: "alone".to_string(),
            kind: self.kind.clone(),
            inputs: vec![INPUT.to_string()],
            origin: Origin::File,
            values: BTreeMap::new(),
            same_padding: false,
        };
        Network::new(Definition {
            name: self.name.clone(),
            file: self.name.clone(),
            sha256: String::new(),
            input: self.input.clone(),
            set: BTreeMap::new(),
            layers: vec![layer],
        })
        .with_context(|| format!("{}: cannot stand alone", self.name))
    }
}

/// A prepared layer that is repeated.
pub(crate) struct Running {
    executor: Box<dyn Executor>,
    at_once: u64,
}

/// What a prepared layer's executor has: one step.
const STEP: usize = 0;

impl Running {
    fn new(mut executor: Box<dyn Executor>, clock: &dyn Clock) -> anyhow::Result<Self> {
        let at_once = executor.ready(Task::Step(STEP), clock)?;
        Ok(Self { executor, at_once })
    }

    /// The algorithm, the kernels, and how many executions the device takes at once.
    pub(crate) fn description(&self) -> Value {
        json!({
            "algorithm": self.executor.algorithm(STEP), "workspace_bytes": self.executor.workspace(STEP),
            "kernels": self.executor.kernels(STEP), "at_once": self.at_once,
        })
    }

    /// Starts as many executions as the device takes at once; gives their number.
    pub(crate) fn start(&mut self) -> anyhow::Result<u64> {
        self.executor.repeat(Task::Step(STEP), self.at_once)?;
        Ok(self.at_once)
    }

    /// The executor, for its marks.
    pub(crate) fn executor(&mut self) -> &mut dyn Executor {
        self.executor.as_mut()
    }
}
