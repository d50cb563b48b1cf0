//! meter

mod cpu_identity;
mod power_model;

pub use cpu_identity::CpuIdentity;
pub use power_model::CpuPowerModel;
