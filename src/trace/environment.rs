//! The machine around a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What surrounded the run and may explain its numbers. `null` where the machine does not say.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// The processor's model name.
    pub host_cpu: Option<String>,
    /// Logical processors that the process may use.
    pub host_threads: usize,
    /// Kernel name and release.
    pub kernel: Option<String>,
    /// Clock of the first processor, or of a simulated device, when the run began and ended; of a GPU the lowest and the
    /// highest of its multiprocessors while it worked. In megahertz.
    pub clocks_mhz: Vec<f64>,
    /// Power limit of the device, in watts.
    pub power_limit_w: Option<f64>,
    /// Lowest and highest temperature seen, in degrees Celsius.
    pub temperature_c: Option<[f64; 2]>,
    /// Reasons for which the device was throttled.
    pub throttle_reasons: Vec<String>,
    /// Processor time that other processes used during the run, as a share of the machine.
    pub other_processes: Option<f64>,
    /// Processes of others that computed on the device when the run began or ended, where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_processes: Option<usize>,
    /// The container or virtual machine that the program saw itself in.
    pub container: Option<String>,
    /// How weights and input were made.
    pub weights_and_input: WeightsAndInput,
}

/// How weights and input were made: energy depends on the data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct WeightsAndInput {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Distributions, in words.
    pub distribution: String,
}
