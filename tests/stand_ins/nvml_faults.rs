//! What can be wrong with the stand-in's GPU, on demand.

use std::collections::BTreeMap;

/// Functions that fail, by name; `*` stands for everything that is asked of a GPU, as when it fell off the bus.
pub(super) const ALL_OF_DEVICE: &str = "*";

/// What the tests ask to be wrong.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Faults {
    /// Return codes by function, or by field as `field 186`, and since when in seconds.
    errors: BTreeMap<String, (u32, f64)>,
    /// Whether MIG splits the GPU.
    pub(super) mig: bool,
    /// Numbers of the processes that compute.
    pub(super) processes: Vec<u32>,
    /// Joules that the counter has gone backwards.
    pub(super) gone_back_j: f64,
}

impl Faults {
    /// Reads the variables `ERRORS`, `MIG` and `PROCESSES`.
    pub(super) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut faults = Self { mig: variable("MIG").is_some_and(|text| text == "1"), ..Self::default() };
        for part in variable("ERRORS").unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
            let parsed = part.split_once('=').and_then(|(name, rest)| {
                let (code, since) = rest.split_once('@').unwrap_or((rest, "0"));
                Some((name.trim().to_string(), (code.parse().ok()?, since.parse().ok()?)))
            });
            faults
                .errors
                .extend([parsed.ok_or_else(|| format!("expected FUNCTION=CODE@SECONDS, found {part}"))?]);
        }
        for part in variable("PROCESSES").unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
            let pid = part.trim().parse();
            faults
                .processes
                .push(pid.map_err(|_| format!("expected the number of a process, found {part}"))?);
        }
        Ok(faults)
    }

    /// From now on a function fails with a code; not any more with the code of success.
    pub(super) fn fail(&mut self, function: &str, code: u32) {
        if code == 0 {
            self.errors.remove(function);
        } else {
            self.errors.insert(function.to_string(), (code, 0.0));
        }
    }

    /// The code with which a function fails at a time.
    pub(super) fn of(&self, function: &str, now: f64) -> Option<u32> {
        let own = self.errors.get(function);
        let all = if function.starts_with("nvmlDevice") { self.errors.get(ALL_OF_DEVICE) } else { None };
        own.or(all).filter(|(_, since)| now >= *since).map(|(code, _)| *code)
    }
}
