//! What the methods are tried on: a network on a simulated device, and what each layer truly costs there.

use std::path::{Path, PathBuf};

use layerjoule::network::{self, Network};
use layerjoule::plan::{Plan, PlanOptions};
use layerjoule::sim::{DeviceParameters, Domain, SensorKind, SensorParameters, Truth};

/// Layers below this share of the pass are not judged.
const LEAST_SHARE: f64 = 0.01;

/// A network on a device.
pub(crate) struct Subject {
    pub(crate) device_name: String,
    pub(crate) device: DeviceParameters,
    pub(crate) file: PathBuf,
    pub(crate) network: Network,
    pub(crate) plan: Plan,
    pub(crate) truth: Truth,
}

impl Subject {
    /// A network file at a batch size, every layer a step of its own as in `layerjoule profile`.
    pub(crate) fn new(
        device_name: &str,
        device: &DeviceParameters,
        file: &Path,
        batch: usize,
    ) -> Result<Self, String> {
        let network = network::read(file, &[]).map_err(|error| error.to_string())?;
        let options = PlanOptions { batch, ..PlanOptions::default() };
        let plan = Plan::new(&network, &options).map_err(|error| error.to_string())?;
        let meter = device.sensor.first().map_or("", |sensor| &sensor.id);
        let truth = Truth::of(&network, &plan, device, meter);
        Ok(Self {
            device_name: device_name.to_string(),
            device: device.clone(),
            file: file.to_path_buf(),
            network,
            plan,
            truth,
        })
    }

    /// Joules of one execution of a step as a sensor without noise, lag or gaps would give them: a board's gain and
    /// offset are systematic, are quoted beside every interval and never inside it.
    pub(crate) fn layer_joules(&self, sensor: usize, step: usize) -> f64 {
        let layer = &self.truth.layers[step];
        seen(&self.device.sensor[sensor], layer.energy_j.value(), layer.time_s.value())
    }

    /// The same of a whole pass.
    pub(crate) fn pass_joules(&self, sensor: usize) -> f64 {
        let pass = &self.truth.pass[0];
        seen(&self.device.sensor[sensor], pass.energy_j.value(), pass.time_s.value())
    }

    /// The steps that are judged.
    pub(crate) fn large_layers(&self) -> Vec<usize> {
        let least = self.truth.pass[0].energy_j.value() * LEAST_SHARE;
        (0..self.truth.layers.len())
            .filter(|&step| self.truth.layers[step].energy_j.value() >= least)
            .collect()
    }

    /// The part of the device that its primary meter reads.
    fn domain(&self) -> Domain {
        self.device.sensor.first().map_or(Domain::Board, |sensor| sensor.domain)
    }

    /// The sensors of a kind that read what the primary meter reads.
    pub(crate) fn sensors(&self, kind: SensorKind) -> impl Iterator<Item = (usize, &SensorParameters)> {
        let domain = self.domain();
        self.device.sensor.iter().enumerate().filter(move |(_, s)| s.kind == kind && s.domain == domain)
    }
}

fn seen(sensor: &SensorParameters, joules: f64, seconds: f64) -> f64 {
    sensor.gain * joules + sensor.offset_w * seconds
}
