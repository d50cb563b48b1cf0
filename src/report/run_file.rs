//! The run file `run.json`, schema `layerjoule.run/1`: what other programs read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::Estimate;
use crate::trace::{DeviceRecord, Environment, MeterRecord, NetworkRecord, Tool, Warning};
use crate::units::{Joules, Seconds, Watts};

/// Format and version of the run file.
pub const RUN_SCHEMA: &str = "layerjoule.run/1";

/// The result of a run. Energies are for one pass of the whole batch, read by `primary_meter`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// The file format and its version.
    pub schema: String,
    /// The program.
    pub tool: Tool,
    /// When the run was recorded, as RFC 3339 UTC.
    pub created: String,
    /// Whether a simulated device gave the numbers.
    pub simulated: bool,
    /// Whether a stand-in library gave the numbers.
    pub emulated: bool,
    /// The network.
    pub network: NetworkRecord,
    /// The device.
    pub device: DeviceRecord,
    /// All meters looked at.
    pub meters: Vec<MeterRecord>,
    /// The meter whose joules stand in `energy_j`.
    pub primary_meter: String,
    /// The surroundings.
    pub environment: Environment,
    /// One row per layer and phase, no-ops included, in order of execution.
    pub layers: Vec<LayerRow>,
    /// Sums by kind and phase.
    pub kinds: Vec<KindRow>,
    /// The whole network measured as one.
    pub pass: Vec<PassRow>,
    /// Power with nothing running.
    pub idle: IdleRow,
    /// Layers + gaps + residual = measured pass.
    pub closure: Vec<ClosureRow>,
    /// Parts of the pass by another estimator; files of versions that had none lack the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_situ: Vec<InSituRow>,
    /// What reading the meters cost; files of versions that did not count it lack the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<SamplingRow>,
    /// What a reader must know.
    pub warnings: Vec<Warning>,
}

impl RunReport {
    /// Whether a layer is computed together with another one, whose row names it and holds its energy.
    pub fn is_fused(&self, row: &LayerRow) -> bool {
        row.signature.is_none() && self.layers.iter().any(|layer| layer.fused.contains(&row.name))
    }
}

/// Part of a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Inference or the forward part of training.
    Forward,
    /// Gradient of the input.
    BackwardData,
    /// Gradient of the weights.
    BackwardWeights,
    /// Optimiser step.
    Update,
    /// All of them.
    Training,
}

/// How far a row's energy can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// From a sensor.
    Measured,
    /// From a model.
    Estimated,
    /// Too small to tell from nothing; `upper_j` is its bound.
    BelowDetection,
    /// No reading; `reason` says why.
    Unavailable,
}

/// How a row's energy was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The layer alone, again and again.
    Replay,
    /// The network with and without the layer repeated.
    Differential,
    /// A fit over many windows.
    Regression,
    /// A formula.
    Modelled,
}

/// A layer in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LayerRow {
    /// Position in order of execution.
    pub index: usize,
    /// Unique name.
    pub name: String,
    /// Kind, as in network files.
    pub kind: String,
    /// Phase.
    pub phase: Phase,
    /// Phases that the same kernel also computes.
    pub covers: Vec<Phase>,
    /// Layers that the same kernel also computes.
    pub fused: Vec<String>,
    /// Rows of equal signature share one measurement, so their errors are fully correlated. `null` for a no-op.
    pub signature: Option<String>,
    /// The algorithm that computed it.
    pub algorithm: Option<String>,
    /// Bytes that the algorithm needed beside its tensors, where it needed any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_bytes: Option<u64>,
    /// The device's kernels that it ran, in order, where the device tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<String>,
    /// Executions in one pass.
    pub executions: u64,
    /// Executions inside all windows of its signature.
    pub replays: u64,
    /// Windows of its signature.
    pub windows: usize,
    /// How the energy was found.
    pub method: Method,
    /// Time of one execution.
    pub time_s: Option<Estimate<Seconds>>,
    /// Energy of one execution, with the static share of its time.
    pub energy_j: Option<Estimate<Joules>>,
    /// Energy above active idle.
    pub energy_dynamic_j: Option<Estimate<Joules>>,
    /// Mean power while it runs.
    pub power_w: Option<Estimate<Watts>>,
    /// What the uncertainty of its energy is made of, where that was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertainty: Option<BudgetRow>,
    /// 2 x multiply-accumulates of conv and linear.
    pub flops: u64,
    /// All other operations.
    pub flops_elementwise: u64,
    /// Least traffic, in the precision of the run.
    pub bytes: u64,
    /// Share of the phase's layer sum.
    pub share: Option<f64>,
    /// The same by other meters; never to be added.
    pub also: Vec<AlsoRow>,
    /// How far the energy can be believed.
    pub status: Status,
    /// Upper bound of an energy below detection.
    pub upper_j: Option<Joules>,
    /// Why there is no energy.
    pub reason: Option<String>,
    /// Codes of warnings about this row.
    pub warnings: Vec<String>,
}

/// Standard uncertainties of an energy by cause. Independent of each other: the square root of the sum of their squares is
/// that of the energy. What the meter itself is wrong by is its `systematic_relative` and not in here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetRow {
    /// Windows of equal work differ.
    pub counting_j: Joules,
    /// A window's edges lie somewhat beside the meter's changes.
    pub alignment_j: Joules,
    /// The temperature that the network leads to, and what a kelvin costs.
    pub temperature_j: Joules,
    /// The clock of the windows is not quite that of the network, which itself swings.
    pub clock_j: Joules,
    /// The layer found other data in the cache than within the network.
    pub cache_j: Joules,
    /// Other work in its windows was taken off.
    pub filler_j: Joules,
}

/// What another meter read for a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlsoRow {
    /// The meter.
    pub meter: String,
    /// Energy of one execution in that meter's scope.
    pub energy_j: Option<Estimate<Joules>>,
    /// Energy above active idle in that meter's scope.
    pub energy_dynamic_j: Option<Estimate<Joules>>,
}

/// All layers of one kind in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KindRow {
    /// Kind.
    pub kind: String,
    /// Phase.
    pub phase: Phase,
    /// Layers of the kind that have an energy.
    pub layers: usize,
    /// Sum of their times.
    pub time_s: Option<Estimate<Seconds>>,
    /// Sum of their energies.
    pub energy_j: Option<Estimate<Joules>>,
    /// Sum of their energies above active idle.
    pub energy_dynamic_j: Option<Estimate<Joules>>,
    /// Share of the phase's layer sum.
    pub share: Option<f64>,
}

/// The whole network measured as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PassRow {
    /// Phase.
    pub phase: Phase,
    /// Time of one pass.
    pub time_s: Option<Estimate<Seconds>>,
    /// Energy of one pass.
    pub energy_j: Option<Estimate<Joules>>,
    /// Energy of one pass for each item of the batch.
    pub energy_per_image_j: Option<Estimate<Joules>>,
    /// Codes of warnings about this row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Power with nothing running.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IdleRow {
    /// Before the first and after the last round.
    pub power_w: Option<Estimate<Watts>>,
    /// Between rounds, on the warm device.
    pub active_power_w: Option<Estimate<Watts>>,
}

/// What reading the meters cost the run. Readings count from the opening edge of a window to its closing one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SamplingRow {
    /// Readings of all meters inside windows.
    pub reads: u64,
    /// Time that they took.
    pub time_s: Seconds,
    /// Their share of the windows' time.
    pub share: Option<f64>,
    /// Processor time that they took.
    pub cpu_s: Option<Seconds>,
    /// Processor time that they took, as a share of one logical processor.
    pub cpu_share: Option<f64>,
    /// How many times as long a pass takes when the meter is read as often as in a layer's window as when it is
    /// read at the edges only.
    pub slow_down: Option<Estimate<f64>>,
    /// Why there is no `slow_down`.
    pub reason: Option<String>,
}

/// A part of the pass, and the sum of its layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InSituRow {
    /// Phase.
    pub phase: Phase,
    /// Its first layer.
    pub first: String,
    /// Its last layer.
    pub last: String,
    /// Energy above active idle, by regression on passes that end early.
    pub energy_dynamic_j: Estimate<Joules>,
    /// The same as the sum of the rows of `layers`.
    pub sum_of_layers_dynamic_j: Estimate<Joules>,
    /// Whether the two differ by more than their errors allow.
    pub disagrees: bool,
}

/// The balance: layers + gaps + residual = measured pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClosureRow {
    /// Phase.
    pub phase: Phase,
    /// Sum over layers.
    pub sum_of_layers_j: Option<Estimate<Joules>>,
    /// Active-idle power times the time of a pass that no layer accounts for; negative when layers alone are
    /// slower than in the network.
    pub gaps_j: Option<Estimate<Joules>>,
    /// The measured pass.
    pub pass_j: Option<Estimate<Joules>>,
    /// Pass less layers and gaps.
    pub residual_j: Option<Estimate<Joules>>,
    /// Residual over pass.
    pub residual_ratio: Option<f64>,
    /// Energies of the rows of `layers`, in order, moved within their uncertainty so that the balance holds.
    pub reconciled_j: Vec<Option<Joules>>,
    /// Codes of warnings about this row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
