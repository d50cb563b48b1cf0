//! The power domains of RAPL, by whatever way they are read.
//!
//! Domains nest: cores and graphics are parts of their package, and psys contains all. So each is a meter of its
//! own, and only equal domains of different packages are added up
//! (Linux, Documentation/power/powercap/powercap.rst).

/// A power domain that Linux names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Domain {
    Package,
    Dram,
    Core,
    Uncore,
    Psys,
}

impl Domain {
    /// By the `name` of a powercap zone.
    pub(super) fn of_zone(name: &str) -> Option<Self> {
        match name {
            "dram" => Some(Self::Dram),
            "core" => Some(Self::Core),
            "uncore" => Some(Self::Uncore),
            "psys" => Some(Self::Psys),
            _ if name.starts_with("package-") => Some(Self::Package),
            _ => None,
        }
    }

    /// By the name of a perf event (Linux, arch/x86/events/rapl.c).
    pub(super) fn of_event(name: &str) -> Option<Self> {
        match name {
            "energy-pkg" => Some(Self::Package),
            "energy-ram" => Some(Self::Dram),
            "energy-cores" | "energy-core" => Some(Self::Core),
            "energy-gpu" => Some(Self::Uncore),
            "energy-psys" => Some(Self::Psys),
            _ => None,
        }
    }

    /// The meter's name on the command line: the family's for the package, `FAMILY:dram` and so on for others.
    pub(super) fn id(self, family: &str) -> String {
        match self {
            Self::Package => family.to_string(),
            Self::Dram => format!("{family}:dram"),
            Self::Core => format!("{family}:core"),
            Self::Uncore => format!("{family}:uncore"),
            Self::Psys => format!("{family}:psys"),
        }
    }

    /// What its joules include, added up over `parts` counters.
    pub(super) fn scope(self, parts: usize) -> String {
        let what = match self {
            Self::Package => "CPU package",
            Self::Dram => "memory of the CPU package",
            Self::Core => "CPU cores (part of the package)",
            Self::Uncore => "integrated graphics (part of the package)",
            Self::Psys => "whole platform (contains the packages)",
        };
        if parts <= 1 { what.to_string() } else { format!("{what}, sum of {parts}") }
    }
}
