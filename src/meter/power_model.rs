//! What a processor without an energy counter draws, from published figures for its micro-architecture.

use std::sync::LazyLock;

use serde::Deserialize;

use super::cpu_identity::CpuIdentity;
use crate::units::{Joules, Seconds, Watts};

/// The published figures, with the source of each; see the comments in the file.
const TABLE: &str = include_str!("../../profiles/devices/cpu-power-models.toml");

static MODELS: LazyLock<ModelTable> =
    LazyLock::new(|| toml::from_str(TABLE).expect("the embedded table parses: a unit test reads it"));

/// A straight line between the idle and the full-load power of one logical CPU.
///
/// Its joules are modelled, never measured: they follow processor time and know nothing of what the
/// processor did in that time.
#[derive(Debug, Clone, PartialEq)]
pub struct CpuPowerModel {
    /// Micro-architecture, or for an unknown processor what stands in for it.
    pub name: String,
    /// What the watts cover.
    pub scope: String,
    /// Power of one logical CPU that does nothing.
    pub idle_per_cpu: Watts,
    /// Power of one logical CPU at full load.
    pub busy_per_cpu: Watts,
    /// Half-width of the error band, as a fraction of the power.
    pub systematic_relative: f64,
    /// Where the figures were published.
    pub source: String,
}

impl CpuPowerModel {
    /// The model of the processor with these CPUID numbers, or a stand-in whose name says that it is one.
    ///
    /// `vendor` is CPUID's text (`GenuineIntel`, `AuthenticAMD`) or the implementer of an ARM core (`0x41`).
    pub fn for_cpu(vendor: &str, family: u32, model: u32) -> Self {
        let is_this = |entry: &&Entry| {
            entry.vendor == vendor && entry.family == family && entry.models.contains(&model)
        };
        match MODELS.model.iter().find(is_this) {
            Some(entry) => MODELS.known(entry),
            None => MODELS.stand_in(Some(vendor), &format!("{vendor} family {family} model {model}")),
        }
    }

    /// The model of an identified processor; a processor that hides its numbers gets a stand-in.
    pub fn for_identity(cpu: &CpuIdentity) -> Self {
        match (&cpu.vendor, cpu.family, cpu.model) {
            (Some(vendor), Some(family), Some(model)) => Self::for_cpu(vendor, family, model),
            (vendor, ..) => MODELS.stand_in(vendor.as_deref(), "CPU that hides its model"),
        }
    }

    /// Energy of `cpus` logical CPUs over `elapsed`, during which they were busy for `busy` CPU seconds in all.
    pub fn energy(&self, cpus: usize, elapsed: Seconds, busy: Seconds) -> Joules {
        self.idle_per_cpu * cpus as f64 * elapsed + (self.busy_per_cpu - self.idle_per_cpu) * busy
    }
}

/// `profiles/devices/cpu-power-models.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelTable {
    #[serde(rename = "schema")]
    _schema: String,
    scope: String,
    systematic_relative: f64,
    model: Vec<Entry>,
    fallback: Vec<Fallback>,
}

/// A micro-architecture.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    vendor: String,
    family: u32,
    models: Vec<u32>,
    idle_w_per_cpu: Watts,
    busy_w_per_cpu: Watts,
    source: String,
}

/// What stands in for an unknown processor: of one vendor, or of any when there is none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fallback {
    name: String,
    vendor: Option<String>,
    idle_w_per_cpu: Watts,
    busy_w_per_cpu: Watts,
    systematic_relative: f64,
    source: String,
}

impl ModelTable {
    fn known(&self, entry: &Entry) -> CpuPowerModel {
        CpuPowerModel {
            name: entry.name.clone(),
            scope: self.scope.clone(),
            idle_per_cpu: entry.idle_w_per_cpu,
            busy_per_cpu: entry.busy_w_per_cpu,
            systematic_relative: self.systematic_relative,
            source: entry.source.clone(),
        }
    }

    fn stand_in(&self, vendor: Option<&str>, cpu: &str) -> CpuPowerModel {
        let of_vendor = self.fallback.iter().find(|f| f.vendor.is_some() && f.vendor.as_deref() == vendor);
        let fallback = of_vendor
            .or_else(|| self.fallback.iter().find(|f| f.vendor.is_none()))
            .expect("the embedded table has a fallback for every vendor: a unit test looks for it");
        CpuPowerModel {
            name: format!("{} for an unknown {cpu}", fallback.name),
            scope: self.scope.clone(),
            idle_per_cpu: fallback.idle_w_per_cpu,
            busy_per_cpu: fallback.busy_w_per_cpu,
            systematic_relative: fallback.systematic_relative,
            source: fallback.source.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use approx::assert_relative_eq;

    use super::*;

    #[test]
    fn the_embedded_table_parses_and_every_entry_is_physical_and_sourced() {
        let table: ModelTable = toml::from_str(TABLE).unwrap();
        let known = table.model.iter().map(|e| (&e.name, e.idle_w_per_cpu, e.busy_w_per_cpu, &e.source));
        let stand_ins =
            table.fallback.iter().map(|f| (&f.name, f.idle_w_per_cpu, f.busy_w_per_cpu, &f.source));
        let entries: Vec<_> = known.chain(stand_ins).collect();
        assert!(entries.len() > 15, "the table lost entries: {}", entries.len());
        for (name, idle, busy, source) in entries {
            assert!(
                Watts::ZERO < idle && idle < busy && busy < Watts::new(20.0),
                "{name}: {idle:?}, {busy:?}"
            );
            assert!(!source.is_empty(), "{name} has no source");
        }
        assert!(table.systematic_relative > 0.0);
        assert!(table.fallback.iter().all(|f| f.systematic_relative >= table.systematic_relative));
        assert_eq!(table.fallback.iter().filter(|f| f.vendor.is_none()).count(), 1);
    }

    #[test]
    fn no_processor_has_two_entries() {
        let mut seen = BTreeSet::new();
        for entry in &MODELS.model {
            for model in &entry.models {
                assert!(seen.insert((&entry.vendor, entry.family, model)), "{} repeats {model}", entry.name);
            }
        }
    }

    #[test]
    fn the_stand_in_of_a_vendor_is_the_mean_of_its_entries() {
        let amd: Vec<_> = MODELS.model.iter().filter(|e| e.vendor == "AuthenticAMD").collect();
        let mean =
            |of: fn(&Entry) -> Watts| amd.iter().map(|e| of(e)).sum::<Watts>().value() / amd.len() as f64;
        let stand_in = CpuPowerModel::for_cpu("AuthenticAMD", 0x1a, 0x99);
        assert_relative_eq!(stand_in.idle_per_cpu.value(), mean(|e| e.idle_w_per_cpu), epsilon = 1e-4);
        assert_relative_eq!(stand_in.busy_per_cpu.value(), mean(|e| e.busy_w_per_cpu), epsilon = 1e-4);
        assert_eq!(stand_in.name, "mean of AMD EPYC for an unknown AuthenticAMD family 26 model 153");
    }

    #[test]
    fn known_processors_are_found_by_their_cpuid_numbers() {
        let name = |vendor, family, model| CpuPowerModel::for_cpu(vendor, family, model).name;
        // Xeon Platinum 8375C, EPYC 7R13 and Ampere Altra as their /proc/cpuinfo shows them.
        assert_eq!(name("GenuineIntel", 6, 106), "Intel Ice Lake server");
        assert_eq!(name("AuthenticAMD", 25, 1), "AMD EPYC 3rd Gen");
        assert_eq!(name("0x41", 8, 0xd0c), "ARM Neoverse N1 (Ampere Altra)");
        let ice_lake = CpuPowerModel::for_cpu("GenuineIntel", 6, 106);
        assert_eq!((ice_lake.idle_per_cpu, ice_lake.busy_per_cpu), (Watts::new(0.7668), Watts::new(3.7582)));
        assert_relative_eq!(ice_lake.systematic_relative, 0.5);
    }

    #[test]
    fn an_unknown_processor_gets_the_average_a_wider_band_and_a_name_that_says_so() {
        let model = CpuPowerModel::for_cpu("GenuineIntel", 6, 167);
        assert_eq!(model.name, "average cloud CPU for an unknown GenuineIntel family 6 model 167");
        assert_eq!((model.idle_per_cpu, model.busy_per_cpu), (Watts::new(0.74), Watts::new(3.5)));
        assert_relative_eq!(model.systematic_relative, 1.0);
        let hidden = CpuPowerModel::for_identity(&CpuIdentity::default());
        assert_eq!(hidden.name, "average cloud CPU for an unknown CPU that hides its model");
    }

    #[test]
    fn energy_runs_from_idle_to_busy() {
        let model = CpuPowerModel {
            name: String::new(),
            scope: String::new(),
            idle_per_cpu: Watts::new(1.0),
            busy_per_cpu: Watts::new(4.0),
            systematic_relative: 0.5,
            source: String::new(),
        };
        let (second, two) = (Seconds::new(1.0), 2);
        // Two CPUs: idle 2 W, one busy 5 W, both busy 8 W.
        assert_eq!(model.energy(two, second, Seconds::ZERO), Joules::new(2.0));
        assert_eq!(model.energy(two, second, second), Joules::new(5.0));
        assert_eq!(model.energy(two, second, Seconds::new(2.0)), Joules::new(8.0));
        assert_eq!(model.energy(two, Seconds::new(10.0), Seconds::new(4.0)), Joules::new(32.0));
    }
}
