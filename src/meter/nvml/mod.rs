//! NVIDIA GPUs through the driver's management library, NVML.
//!
//! Three readings of the whole board, as far as it has them: `nvml`, an energy counter; `nvml-instant`, the latest
//! reading of the power sensor (field 186 of nvml.h); `nvml-average`, the mean of the last second (field 185); and
//! `nvml-average:memory`, that of the memory alone. Periods and windows of the sensors are those of Yang, Adámek,
//! Armour: Part-time power measurements, SC24, 10.1109/SC41406.2024.00028.
//!
//! NVML sees boards, never slices of one: a GPU that is split by MIG is refused.

mod condition;
mod health;
mod library;
mod meters;

use std::path::Path;

pub use condition::{GpuCondition, GpuSettings, GpuWatch, PowerSample};
pub use library::{DEFAULT_LIBRARY, Gpu, NvmlLibrary};

use crate::clock::Clock;
use crate::trace::{Coverage, MeterKind, Warning};
use crate::units::{Joules, Seconds, Watts};

use super::interface::{Meter, MeterCandidate, Part, record};
use super::refusal::{Cause, Refusal};
use health::{Health, ReadRate, examine};
use meters::{EnergyMeter, PowerField, PowerMeter};

/// Command-line name of the energy counter.
pub const NVML_ID: &str = "nvml";
/// Command-line name of the latest power.
pub const NVML_INSTANT_ID: &str = "nvml-instant";
/// Command-line name of the power averaged over a second; that of the memory alone is `nvml-average:memory`.
pub const NVML_AVERAGE_ID: &str = "nvml-average";

/// Boards differ by this from an external meter, each by a factor of its own that stays (SC24: 0.87 to 1.05, most
/// within 5 %).
const BOARD_ERROR: f64 = 0.05;
/// The average is that of a second, and shows it half a second late (SC24, H100).
const AVERAGE_LAG: Seconds = Seconds::new(1.5);
/// After a step of the load the sensor needs about a tenth of a second (SC24), and the counter follows it.
const LAG: Seconds = Seconds::new(0.5);

/// The GPU whose meters have the plain ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuSelector {
    /// The one with this number, in the order of the bus.
    Index(u32),
    /// The one with this UUID. CUDA counts as `CUDA_VISIBLE_DEVICES` says and NVML does not, so that only the UUID tells
    /// a device of the one from a device of the other.
    Uuid(String),
}

impl GpuSelector {
    fn is(&self, gpu: &Gpu) -> bool {
        match self {
            Self::Index(index) => gpu.index() == *index,
            Self::Uuid(uuid) => gpu.uuid() == uuid,
        }
    }
}

/// Which GPUs are looked at; each that works is watched for three seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// The selected one only.
    Selected,
    /// All: the others' ids end with `@` and their numbers, as in `nvml@1`.
    All,
}

/// The meters of GPUs, tried: opened, and the counters watched until their periods are known and their readings have
/// proved not to depend on how often they are read.
///
/// The selected GPU's come first. Without a library or a GPU, each id is there with the reason.
pub fn nvml_meters(
    library: Option<&Path>,
    selected: &GpuSelector,
    among: Among,
    clock: &dyn Clock,
) -> Vec<MeterCandidate> {
    let found = NvmlLibrary::open(library).and_then(|library| Ok((library.gpus()?, library.is_stand_in())));
    let (gpus, stand_in) = match found {
        Ok(found) => found,
        Err(refusal) => return refused("", "GPU: whole board", &refusal),
    };
    let is_selected = |gpu: &Result<Gpu, Refusal>| gpu.as_ref().is_ok_and(|gpu| selected.is(gpu));
    let mut candidates: Vec<MeterCandidate> = match gpus.iter().position(is_selected) {
        Some(at) => gpus[at].iter().flat_map(|gpu| meters_of(gpu, "", clock)).collect(),
        None => refused("", "GPU: whole board", &not_there(selected, &gpus)),
    };
    if among == Among::All {
        for (index, gpu) in gpus.iter().enumerate().filter(|(_, gpu)| !is_selected(gpu)) {
            let suffix = format!("@{index}");
            candidates.extend(match gpu {
                Ok(gpu) => meters_of(gpu, &suffix, clock),
                Err(refusal) => refused(&suffix, &format!("GPU {index}: whole board"), refusal),
            });
        }
    }
    for candidate in &mut candidates {
        candidate.emulated = stand_in;
    }
    candidates
}

/// The reason why the selected GPU cannot be used.
fn not_there(selected: &GpuSelector, gpus: &[Result<Gpu, Refusal>]) -> Refusal {
    let wanted = match selected {
        GpuSelector::Uuid(uuid) if uuid.starts_with("MIG-") => return sliced(uuid),
        GpuSelector::Uuid(uuid) => uuid.clone(),
        GpuSelector::Index(index) => {
            if let Some(Err(refusal)) = gpus.get(*index as usize) {
                return refusal.clone();
            }
            format!("GPU {index}")
        }
    };
    let known: Vec<String> =
        gpus.iter().flatten().map(|gpu| format!("{} {}", gpu.label(), gpu.uuid())).collect();
    Refusal::new(Cause::NoGpu, format!("{wanted} is not among the GPUs here: {}", known.join(", ")))
}

/// All whole-board meters, with one reason against them.
fn refused(suffix: &str, scope: &str, refusal: &Refusal) -> Vec<MeterCandidate> {
    let kinds = [
        (NVML_ID, MeterKind::Counter),
        (NVML_INSTANT_ID, MeterKind::Power),
        (NVML_AVERAGE_ID, MeterKind::Power),
    ];
    kinds
        .map(|(id, kind)| MeterCandidate::unavailable(&format!("{id}{suffix}"), scope, kind, refusal.clone()))
        .into()
}

fn sliced(gpu: &str) -> Refusal {
    let text = format!("{gpu}: split by MIG, while power and energy are those of the whole board");
    Refusal::new(Cause::Mig, text)
}

/// The meters of one GPU.
fn meters_of(gpu: &Gpu, suffix: &str, clock: &dyn Clock) -> Vec<MeterCandidate> {
    let scope = format!("{}: whole board", gpu.label());
    let settings = gpu.settings();
    let mut candidates = if settings.mig == Some(true) {
        refused(suffix, &scope, &sliced(&gpu.label()))
    } else {
        let mut candidates = vec![
            energy(gpu, suffix, &scope, clock),
            instant(gpu, suffix, &scope),
            average(gpu, &format!("{NVML_AVERAGE_ID}{suffix}"), &scope, PowerField::AVERAGE),
        ];
        // Boards that cannot tell show nothing or no watts at all (Zeus, zeus.device.gpu).
        if PowerField::MEMORY_AVERAGE.of(gpu).is_ok_and(|power| power > Watts::ZERO) {
            let (id, scope) =
                (format!("{NVML_AVERAGE_ID}{suffix}:memory"), format!("{}: memory", gpu.label()));
            candidates.push(average(gpu, &id, &scope, PowerField::MEMORY_AVERAGE));
        }
        candidates
    };
    for candidate in &mut candidates {
        candidate.part = Part::Gpu(gpu.uuid().to_string());
    }
    candidates
}

fn energy(gpu: &Gpu, suffix: &str, scope: &str, clock: &dyn Clock) -> MeterCandidate {
    let id = format!("{NVML_ID}{suffix}");
    let mut record = record(&id, scope, MeterKind::Counter);
    let (health, meter) = match examined(gpu, &id, clock) {
        Ok(examined) => examined,
        Err(refusal) => return MeterCandidate::unavailable(&id, scope, MeterKind::Counter, refusal),
    };
    record.update_period_s = Some(health.period);
    record.systematic_relative = Some(BOARD_ERROR);
    record.reason = Some(format!(
        "the driver's energy counter (driver {}, {})",
        gpu.library().driver().unwrap_or("unknown"),
        gpu.uuid()
    ));
    let mut candidate = MeterCandidate::working(record, meter);
    candidate.resolution = Some(Joules::from_microjoules(1e3));
    candidate.record.lag_s = Some(LAG);
    if health.rate == ReadRate::Unclear {
        candidate.notes.push(Warning::new(
            "read_rate_unknown",
            format!(
                "{id}: the power changed too much to tell whether the counter depends on how often it is read; idle \
                 the GPU, or compare with --meter {NVML_INSTANT_ID}{suffix}"
            ),
        ));
    }
    if let Some((counted, shown)) = health.sensor_differs {
        candidate.notes.push(Warning::new(
            "counters_disagree",
            format!(
                "{id} counted {:.1} W before the run while {NVML_INSTANT_ID}{suffix} showed {:.1} W. One of them is \
                 wrong: compare with a wattmeter, and use --meter to choose",
                counted.value(),
                shown.value()
            ),
        ));
    }
    candidate
}

/// A counter that can be believed.
fn examined(gpu: &Gpu, id: &str, clock: &dyn Clock) -> Result<(Health, Box<dyn Meter>), Refusal> {
    let mut meter = EnergyMeter::open(gpu, id)?;
    let health = examine(&mut meter, &mut || PowerField::INSTANT.of(gpu).ok(), clock)
        .map_err(|error| Refusal::new(Cause::Broken, error.to_string()))?;
    if let ReadRate::Matters { often, seldom } = health.rate {
        let text = format!(
            "the counter of {} depends on how often it is read: {:.1} W when read every 2 ms, {:.1} W when read twice \
             a second",
            gpu.label(),
            often.value(),
            seldom.value()
        );
        return Err(Refusal::new(Cause::ReadRate, text));
    }
    Ok((health, Box::new(meter)))
}

fn instant(gpu: &Gpu, suffix: &str, scope: &str) -> MeterCandidate {
    let id = format!("{NVML_INSTANT_ID}{suffix}");
    let sensor = Sensor::of(gpu.compute_capability());
    let mut how =
        format!("power readings every {:.3} s (field 186), added up by trapezoids", sensor.period.value());
    match sensor.window {
        Some(window) if window < sensor.period => how.push_str(&format!(
            "; each is the mean of {:.0} ms, the sensor does not look at the rest (SC24)",
            window.value() * 1e3
        )),
        Some(_) => how.push_str("; each is the mean of all of that time (SC24)"),
        None => how.push_str("; what each is the mean of is not known for this GPU"),
    }
    if let Some(samples) = gpu.power_samples(None).filter(|samples| !samples.is_empty()) {
        how.push_str(&format!("; the driver keeps the last {} with their times", samples.len()));
    }
    let mut candidate = power(gpu, &id, scope, PowerField::INSTANT, sensor.period, how);
    candidate.record.coverage =
        sensor.window.map(|window| if window < sensor.period { Coverage::PartTime } else { Coverage::Full });
    candidate.record.lag_s = Some(LAG);
    candidate
}

fn average(gpu: &Gpu, id: &str, scope: &str, field: PowerField) -> MeterCandidate {
    let period = Sensor::of(gpu.compute_capability()).period;
    let how = format!(
        "means of a second, half a second late, read every {:.3} s (field 185), added up by trapezoids",
        period.value()
    );
    let mut candidate = power(gpu, id, scope, field, period, how);
    candidate.record.lag_s = Some(AVERAGE_LAG);
    candidate
}

fn power(
    gpu: &Gpu,
    id: &str,
    scope: &str,
    field: PowerField,
    period: Seconds,
    how: String,
) -> MeterCandidate {
    let mut record = record(id, scope, MeterKind::Power);
    match PowerMeter::open(gpu, id, field, period) {
        Ok(meter) => {
            record.update_period_s = Some(period);
            record.systematic_relative = Some(BOARD_ERROR);
            record.reason = Some(how);
            MeterCandidate::working(record, Box::new(meter))
        }
        Err(refusal) => MeterCandidate::unavailable(id, scope, MeterKind::Power, refusal),
    }
}

/// How a generation of boards measures its power.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sensor {
    /// Time between two readings.
    period: Seconds,
    /// What each is the mean of, where it is known.
    window: Option<Seconds>,
}

impl Sensor {
    /// By compute capability (SC24, table of update periods and windows): Pascal and Volta 10 ms of every 20; GA100 and
    /// Hopper 25 of every 100; Turing, the other Ampere boards and Ada all of every 100.
    fn of(capability: Option<(i32, i32)>) -> Self {
        let milliseconds = |period: f64, window: Option<f64>| Self {
            period: Seconds::new(period * 1e-3),
            window: window.map(|window| Seconds::new(window * 1e-3)),
        };
        match capability {
            Some((6, _) | (7, 0 | 2)) => milliseconds(20.0, Some(10.0)),
            Some((8, 0) | (9, 0)) => milliseconds(100.0, Some(25.0)),
            Some((7, 5) | (8, 6 | 9)) => milliseconds(100.0, Some(100.0)),
            _ => milliseconds(100.0, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensors_look_as_long_as_was_measured() {
        let of = |capability| {
            let Sensor { period, window } = Sensor::of(capability);
            (period.value(), window.map(|window| window.value() / period.value()))
        };
        assert_eq!(of(Some((7, 0))), (0.02, Some(0.5)), "V100");
        assert_eq!(of(Some((8, 0))), (0.1, Some(0.25)), "A100");
        assert_eq!(of(Some((8, 6))), (0.1, Some(1.0)), "RTX 3090");
        assert_eq!(of(Some((9, 0))), (0.1, Some(0.25)), "H100");
        assert_eq!(of(Some((10, 0))), (0.1, None), "not measured by anyone");
        assert_eq!(of(None), (0.1, None));
    }
}
