//! A device without artefacts and a network from text, for the tests of this module.

use crate::network::{self, Network};
use crate::plan::{Plan, PlanOptions};

use super::DeviceParameters;

pub(super) fn device() -> DeviceParameters {
    DeviceParameters::preset("ideal").unwrap()
}

pub(super) fn network(text: &str) -> Network {
    network::parse(std::path::Path::new("test.toml"), text.as_bytes(), &[]).unwrap()
}

pub(super) fn plan(network: &Network, batch: usize) -> Plan {
    Plan::new(network, &PlanOptions { batch, ..PlanOptions::default() }).unwrap()
}
