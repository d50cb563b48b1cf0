//! Which meter's joules are reported.

use crate::trace::{MeterKind, MeterRecord, MeterStatus, Warning};
use crate::units::Seconds;

use super::interface::{Meter, MeterCandidate, Part};

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeterChoice {
    /// The best that works.
    Auto,
    /// These, the first as primary.
    Named(Vec<String>),
}

impl MeterChoice {
    /// Reads `auto` or a list of ids separated by commas.
    pub fn parse(text: &str) -> Self {
        let ids: Vec<String> =
            text.split(',').map(|id| id.trim().to_string()).filter(|id| !id.is_empty()).collect();
        if ids.is_empty() || ids == ["auto"] { Self::Auto } else { Self::Named(ids) }
    }

    /// The ids asked for; none of them with `auto`.
    pub fn ids(&self) -> &[String] {
        match self {
            Self::Auto => &[],
            Self::Named(ids) => ids,
        }
    }
}

/// Why no meter could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeterError {
    /// No meter has this name.
    #[error("meter \"{id}\": expected auto or one of {known}; `layerjoule doctor` explains each")]
    Unknown {
        /// The name asked for.
        id: String,
        /// The names there are.
        known: String,
    },
    /// The meter is known but does not work here.
    #[error("meter \"{id}\" does not work here: {reason}")]
    Unavailable {
        /// The name asked for.
        id: String,
        /// Why, and what mends it.
        reason: String,
    },
    /// Nothing works that sees the device.
    #[error("no meter that sees the device works here{first}; `layerjoule doctor` explains each")]
    None {
        /// Why the best of them does not.
        first: String,
    },
}

/// The meters of a run.
pub struct Chosen {
    /// All meters looked at, in order; the choice and the reasons against others are in `reason`.
    pub records: Vec<MeterRecord>,
    /// Meters to read, with their index in `records`; the first is the primary one.
    pub meters: Vec<(usize, Box<dyn Meter>)>,
    /// What a reader of the results must know about the choice.
    pub warnings: Vec<Warning>,
    /// How long a load has to run before the primary meter shows nothing but it.
    pub lag: Seconds,
    /// Whether one of the meters read is a stand-in.
    pub emulated: bool,
}

impl Chosen {
    /// The record of the primary meter.
    pub fn primary(&self) -> &MeterRecord {
        &self.records[self.meters[0].0]
    }
}

/// Chooses the primary meter and those read beside it, for a network that runs on `device`.
///
/// With [`MeterChoice::Auto`] the first candidate that works and sees the device is primary, and further counters of
/// the same family are read beside it. Power sensors are not: each costs a transfer over a slow bus at every reading.
/// A named meter need not see the device; it is used, with a warning.
///
/// # Errors
///
/// A name that does not exist, a named meter that does not work, or nothing that works.
pub fn choose(
    candidates: Vec<MeterCandidate>,
    choice: &MeterChoice,
    device: &Part,
) -> Result<Chosen, MeterError> {
    let wanted = match choice {
        MeterChoice::Auto => automatic(&candidates, device)?,
        MeterChoice::Named(ids) => {
            ids.iter().map(|id| named(&candidates, id)).collect::<Result<Vec<_>, _>>()?
        }
    };
    let Some(&primary) = wanted.first() else { return Err(nothing(&candidates, device)) };
    let mut chosen = Chosen {
        records: Vec::new(),
        meters: Vec::new(),
        warnings: Vec::new(),
        lag: candidates[primary].lag(),
        emulated: wanted.iter().any(|&index| candidates[index].emulated),
    };
    let about_primary = warnings(&candidates[primary], device);
    let mut meters: Vec<(usize, Box<dyn Meter>)> = Vec::new();
    for (index, candidate) in candidates.into_iter().enumerate() {
        let MeterCandidate { record, meter, notes, .. } = candidate;
        if let Some(meter) = meter.filter(|_| wanted.contains(&index)) {
            meters.push((index, meter));
            chosen.warnings.extend(notes);
        }
        chosen.records.push(record);
    }
    // In the order asked for, so that the first is the primary one.
    meters.sort_by_key(|(index, _)| wanted.iter().position(|w| w == index));
    chosen.meters = meters;
    chosen.warnings.extend(about_primary);
    Ok(chosen)
}

/// The position of the meter that `auto` takes: the first that works and sees the device. A domain such as `x:dram` is
/// no stand-in for the whole.
pub fn automatic_primary(candidates: &[MeterCandidate], device: &Part) -> Option<usize> {
    let whole = |c: &MeterCandidate| !c.record.id.contains(':') && c.part.contains(device);
    candidates.iter().position(|c| c.record.status != MeterStatus::Unavailable && whole(c))
}

/// That nothing works, with what is wrong with the meter that would have been taken.
fn nothing(candidates: &[MeterCandidate], device: &Part) -> MeterError {
    let refused = |c: &&MeterCandidate| c.meter.is_none() && c.part.contains(device);
    let first = candidates.iter().find(refused);
    let text =
        |c: &MeterCandidate| format!(": {}: {}", c.record.id, c.record.reason.as_deref().unwrap_or("?"));
    MeterError::None { first: first.map_or(String::new(), text) }
}

fn automatic(candidates: &[MeterCandidate], device: &Part) -> Result<Vec<usize>, MeterError> {
    let works = |c: &MeterCandidate| c.meter.is_some();
    let primary = automatic_primary(candidates, device).ok_or_else(|| nothing(candidates, device))?;
    let family = &candidates[primary].record.id;
    let sibling = |c: &MeterCandidate| {
        c.record.kind == MeterKind::Counter && c.record.id.split(':').next() == Some(family)
    };
    let mut wanted = vec![primary];
    wanted.extend(
        candidates
            .iter()
            .enumerate()
            .filter(|(i, c)| *i != primary && works(c) && sibling(c))
            .map(|(i, _)| i),
    );
    Ok(wanted)
}

fn named(candidates: &[MeterCandidate], id: &str) -> Result<usize, MeterError> {
    let Some(index) = candidates.iter().position(|c| c.record.id == id) else {
        let known: Vec<&str> = candidates.iter().map(|c| c.record.id.as_str()).collect();
        return Err(MeterError::Unknown { id: id.to_string(), known: known.join(", ") });
    };
    let candidate = &candidates[index];
    if candidate.meter.is_none() {
        let reason = candidate.record.reason.clone().unwrap_or_default();
        return Err(MeterError::Unavailable { id: id.to_string(), reason });
    }
    Ok(index)
}

fn warnings(candidate: &MeterCandidate, device: &Part) -> Vec<Warning> {
    let primary = &candidate.record;
    let mut warnings = Vec::new();
    if !candidate.part.contains(device) {
        let text = format!(
            "{} reads {}, which the layers do not run on: they run on {device}. Every energy is what the one spent \
             while the other worked",
            primary.id, primary.scope
        );
        warnings.push(Warning::new("scope", text));
    }
    if primary.status == MeterStatus::Estimated {
        let band = primary.systematic_relative.map_or(String::new(), |s| format!(", ±{:.0} %", s * 100.0));
        warnings.push(Warning::new(
            "estimated",
            format!("every energy is estimated by a model{band}, not measured; see `layerjoule doctor`"),
        ));
    }
    let is_part = matches!(primary.kind, MeterKind::Counter | MeterKind::Power) && primary.id.contains(':');
    if is_part && candidate.part.contains(device) {
        warnings.push(Warning::new(
            "scope",
            format!("{} reads {}, which is not all that the layers use", primary.id, primary.scope),
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Instant;
    use crate::meter::interface::{ReadError, record};
    use crate::units::Joules;

    struct Still;

    impl Meter for Still {
        fn read(&mut self, _now: Instant) -> Result<Joules, ReadError> {
            Ok(Joules::ZERO)
        }
    }

    fn candidates() -> Vec<MeterCandidate> {
        let gpu = |uuid: &str| Part::Gpu(uuid.to_string());
        let of = [
            ("rapl-perf", MeterKind::Counter, Part::Cpu),
            ("nvml", MeterKind::Counter, gpu("a")),
            ("nvml-instant", MeterKind::Power, gpu("a")),
            ("nvml@1", MeterKind::Counter, gpu("b")),
            ("hwmon", MeterKind::Power, Part::Machine),
        ];
        let candidate = |(id, kind, part)| {
            let mut candidate = MeterCandidate::working(record(id, "scope", kind), Box::new(Still));
            candidate.part = part;
            candidate
        };
        of.map(candidate).into()
    }

    fn auto(without: &[&str], device: &Part) -> Vec<String> {
        let mut candidates = candidates();
        candidates.retain(|c| !without.contains(&c.record.id.as_str()));
        let chosen = choose(candidates, &MeterChoice::Auto, device).unwrap();
        assert!(chosen.warnings.is_empty(), "{:?}", chosen.warnings);
        chosen.meters.iter().map(|(index, _)| chosen.records[*index].id.clone()).collect()
    }

    #[test]
    fn auto_takes_what_sees_the_device_and_no_other_gpu_beside_it() {
        assert_eq!(auto(&[], &Part::Cpu), ["rapl-perf"]);
        assert_eq!(auto(&["rapl-perf"], &Part::Cpu), ["hwmon"]);
        assert_eq!(auto(&[], &Part::Gpu("a".to_string())), ["nvml"]);
        assert_eq!(auto(&[], &Part::Gpu("b".to_string())), ["nvml@1"]);
        assert_eq!(auto(&["nvml", "nvml-instant"], &Part::Gpu("a".to_string())), ["hwmon"]);
        let nothing = choose(candidates(), &MeterChoice::Auto, &Part::Gpu("c".to_string())).unwrap();
        assert_eq!(nothing.primary().id, "hwmon");
    }

    #[test]
    fn where_nothing_works_the_best_meter_says_why() {
        use crate::meter::refusal::{Cause, Refusal};
        let mut candidates = candidates();
        for candidate in &mut candidates {
            candidate.refuse(Refusal::new(Cause::Broken, format!("{} is broken", candidate.record.id)));
        }
        let error = choose(candidates, &MeterChoice::Auto, &Part::Gpu("a".to_string())).err().unwrap();
        let expected = "no meter that sees the device works here: nvml: nvml is broken; `layerjoule doctor` explains each";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_named_meter_that_does_not_see_the_device_is_used_with_a_warning() {
        let chosen = choose(candidates(), &MeterChoice::parse("nvml"), &Part::Cpu).unwrap();
        assert_eq!(chosen.primary().id, "nvml");
        let [warning] = &chosen.warnings[..] else { panic!("{:?}", chosen.warnings) };
        assert!(warning.code == "scope" && warning.text.contains("they run on the CPU"), "{warning:?}");
    }
}
