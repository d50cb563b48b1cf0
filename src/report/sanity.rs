//! Results that cannot be true: energies that no device could do the work for, or that no work explains.
//!
//! The bounds are wide. A number within them may be wrong; one beyond them is, in the meter, in the clock or here.

use crate::attribution::Attribution;
use crate::stats::Estimate;
use crate::trace::Warning;
use crate::units::{Joules, Watts};

use super::run_file::{LayerRow, RunReport};
use super::si;

/// Picojoules.
const PICO: f64 = 1e-12;

/// What work costs, in picojoules, on any device of a kind.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Costs {
    /// A floating-point operation of conv or linear costs no less.
    least_flop: f64,
    /// What such an operation, an element-wise one, and a bit of the least traffic cost where the device is used badly.
    flop: f64,
    elementwise: f64,
    bit: f64,
    /// Time in seconds that a step takes whatever it computes: launching a kernel, waking threads.
    step: f64,
}

/// A bit of the least traffic costs no less: a tenth of the 1.39 pJ that SC25 (10.1145/3712285.3759815) found for the L2
/// cache of the MI300A, the least of all levels of its three devices.
const LEAST_BIT: f64 = 0.1;
/// How many times a plausible cost is implausible.
const FACTOR: f64 = 20.0;
/// How many times its limit no board draws, averaged over a window.
const MOST_LIMITS: f64 = 2.0;
/// Part of the idle power below which no work runs; idle windows may have had other programs in them.
const LEAST_IDLE: f64 = 0.8;
/// How far a share may leave the range of 0 to 1: rows that cannot be told from zero may be negative in the sum.
const SHARE_MARGIN: f64 = 0.05;

/// The costs by a GPU. Floors are about a fifth of the best data sheet's power over its rate, since algorithms may save
/// operations that the count has (Winograd: four times fewer; Lavin, Gray 2016, arXiv 1509.09308): f32 2.4 pJ (L4, 72 W,
/// 30.3e12/s), tf32 0.9 pJ and f16 0.44 pJ (B200, 1000 W, 1.1e15/s and 2.25e15/s). Measured f16 matrix operations: 0.46 to
/// 0.70 pJ (SC25). Plausible: f32 10 pJ at the H200's full rate and power, twice that at half the rate; the others likewise;
/// a bit twice the 14.7 pJ of the MI300A's HBM (SC25).
fn gpu(precision: &str) -> Costs {
    let [least_flop, flop] = match precision {
        "f16" | "bf16" => [0.1, 2.0],
        "tf32" => [0.2, 4.0],
        _ => [0.5, 20.0],
    };
    Costs { least_flop, flop, elementwise: 50.0, bit: 30.0, step: 20e-6 }
}

/// The costs by a processor, in f32. Floor: a fifth of 13.6 pJ (EPYC 9965, 500 W, 192 cores x 64 operations x 3 GHz).
/// Plausible: 70 pJ by a core of AVX2 at 10 W and 144e9/s; an exponential function of 10 ns at 10 W counts as one or a few
/// element-wise operations; one core that copies 10e9 bytes a second at 10 W spends 125 pJ on a bit.
const PROCESSOR: Costs =
    Costs { least_flop: 2.5, flop: 100.0, elementwise: 2000.0, bit: 125.0, step: 100e-6 };

/// The costs by the device of a report. A simulated one may be of either kind.
fn costs(report: &RunReport) -> Costs {
    let gpu = gpu(&report.device.precision);
    match report.device.kind.as_str() {
        "cpu" => PROCESSOR,
        "cuda" => gpu,
        _ => Costs { least_flop: gpu.least_flop.min(PROCESSOR.least_flop), ..PROCESSOR },
    }
}

/// Work of a row or of the whole pass.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Work {
    flops: f64,
    elementwise: f64,
    bits: f64,
    steps: f64,
}

impl Work {
    fn of(row: &LayerRow) -> Self {
        Self {
            flops: row.flops as f64,
            elementwise: row.flops_elementwise as f64,
            bits: row.bytes as f64 * 8.0,
            steps: 1.0,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            elementwise: self.elementwise + other.elementwise,
            bits: self.bits + other.bits,
            steps: self.steps + other.steps,
        }
    }

    /// Joules below which no device does it.
    fn floor(self, costs: Costs) -> f64 {
        (self.flops * costs.least_flop).max(self.bits * LEAST_BIT) * PICO
    }

    /// Joules above active idle beyond which nothing explains it; none for work that is mostly the fixed time of its steps.
    fn ceiling(self, costs: Costs, seconds: f64) -> Option<f64> {
        let plausible =
            self.flops * costs.flop + self.elementwise * costs.elementwise + self.bits * costs.bit;
        (seconds > FACTOR * costs.step * self.steps).then_some(FACTOR * plausible * PICO)
    }
}

/// What is known of a row or of the pass.
#[derive(Debug, Clone, Copy)]
struct Found {
    work: Work,
    energy: Estimate<Joules>,
    dynamic: Estimate<Joules>,
    seconds: f64,
}

/// What is impossible about a result.
#[derive(Debug, Clone, PartialEq)]
enum Finding {
    /// Less than it can be; in words, with both numbers.
    Low(String),
    /// More than it can be.
    High(String),
}

impl Finding {
    fn code(&self) -> &'static str {
        match self {
            Self::Low(_) => "implausible_low",
            Self::High(_) => "implausible_high",
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Low(text) | Self::High(text) => text,
        }
    }
}

/// Marks results of a report that cannot be true. Those of a meter that does not see all of the device that computes are
/// not judged: its joules are of something else.
pub(super) fn check_sanity(report: &mut RunReport, primary: &Attribution) {
    let is_part = report.primary_meter.contains(':');
    if is_part || report.warnings.iter().any(|warning| warning.code == "scope") {
        return;
    }
    let bounds = Bounds::of(report);
    let mut findings: Vec<(Option<usize>, Finding)> = Vec::new();
    for (index, row) in report.layers.iter().enumerate() {
        findings.extend(bounds.judge_row(row).into_iter().map(|finding| (Some(index), finding)));
    }
    let rows = report.layers.iter().filter(|row| row.signature.is_some()).map(Work::of);
    if let (Some(work), Some(pass)) = (rows.reduce(Work::plus), report.pass.first())
        && let Some((energy, time)) = pass.energy_j.zip(pass.time_s)
    {
        let dynamic = primary.pass.dynamic.map_or(energy, |dynamic| dynamic.estimate());
        let found = Found { work, energy, dynamic, seconds: time.value.value() };
        findings.extend(bounds.judge(&found).map(|finding| (None, finding)));
    }
    for (index, finding) in &findings {
        let code = finding.code().to_string();
        let warnings = match index {
            Some(index) => report.layers.get_mut(*index).map(|row| &mut row.warnings),
            None => report.pass.first_mut().map(|row| &mut row.warnings),
        };
        if let Some(warnings) = warnings.filter(|warnings| !warnings.contains(&code)) {
            warnings.push(code);
        }
    }
    report.warnings.extend(told(report, &findings));
}

/// One warning for each code: the first finding of it, and how many others there are.
fn told(report: &RunReport, findings: &[(Option<usize>, Finding)]) -> Vec<Warning> {
    let of_code = |code: &str| {
        let found: Vec<&(Option<usize>, Finding)> =
            findings.iter().filter(|(_, f)| f.code() == code).collect();
        let (index, first) = found.first()?;
        let name =
            index.and_then(|index| report.layers.get(index)).map_or("the pass", |row| row.name.as_str());
        let others = match found.len() - 1 {
            0 => String::new(),
            n => format!("; {n} more like it"),
        };
        Some(Warning::new(
            code,
            format!(
                "{name} {}{others}. Do not use these numbers: run `layerjoule doctor`, compare with another --meter or a \
                 wattmeter, and report it if they agree",
                first.text()
            ),
        ))
    };
    ["implausible_low", "implausible_high"].into_iter().filter_map(of_code).collect()
}

/// What the results of a run are held against.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    costs: Costs,
    /// Of the board; none where it is not known, or is that of one processor of several.
    limit: Option<Watts>,
    idle: Option<Estimate<Watts>>,
}

impl Bounds {
    fn of(report: &RunReport) -> Self {
        let of_board = report.device.kind != "cpu";
        Self {
            costs: costs(report),
            limit: report.environment.power_limit_w.filter(|_| of_board).map(Watts::new),
            idle: report.idle.power_w,
        }
    }

    fn judge_row(&self, row: &LayerRow) -> Vec<Finding> {
        let Some((energy, time)) = row.energy_j.zip(row.time_s) else { return Vec::new() };
        let dynamic = row.energy_dynamic_j.unwrap_or(energy);
        let found = Found { work: Work::of(row), energy, dynamic, seconds: time.value.value() };
        let share = row.share.and_then(|share| {
            let text =
                format!("has {} of the layers' energy, which has to be 0 to 100 %", si::percent_text(share));
            if share > 1.0 + SHARE_MARGIN {
                return Some(Finding::High(text));
            }
            (share < -SHARE_MARGIN).then_some(Finding::Low(text))
        });
        self.judge(&found).chain(share).collect()
    }

    fn judge(&self, found: &Found) -> impl Iterator<Item = Finding> {
        [self.too_little(found), self.too_much(found), self.power(found)].into_iter().flatten()
    }

    fn too_little(&self, found: &Found) -> Option<Finding> {
        let (floor, high) = (found.work.floor(self.costs), found.energy.high.value());
        (high < floor).then(|| {
            let each = found.energy.value.value() / PICO;
            Finding::Low(format!(
                "has {}, {:.2} pJ for a FLOP and {:.3} pJ for a bit of its least traffic: no device needs less than {} for \
                 that ({} pJ and {LEAST_BIT} pJ)",
                si::quantity(found.energy.value.value(), "J"),
                each / found.work.flops,
                each / found.work.bits,
                si::quantity(floor, "J"),
                self.costs.least_flop
            ))
        })
    }

    fn too_much(&self, found: &Found) -> Option<Finding> {
        let ceiling = found.work.ceiling(self.costs, found.seconds)?;
        (found.dynamic.low.value() > ceiling).then(|| {
            Finding::High(format!(
                "has {} above idle, {FACTOR} times and more of what its operations and bytes explain ({})",
                si::quantity(found.dynamic.value.value(), "J"),
                si::quantity(ceiling / FACTOR, "J")
            ))
        })
    }

    fn power(&self, found: &Found) -> Option<Finding> {
        if found.seconds <= 0.0 {
            return None;
        }
        let watts = |joules: Joules| joules.value() / found.seconds;
        let drawn = si::quantity(watts(found.energy.value), "W");
        if let Some(limit) = self.limit.filter(|limit| watts(found.energy.low) > MOST_LIMITS * limit.value())
        {
            let limit = si::quantity(limit.value(), "W");
            return Some(Finding::High(format!(
                "draws {drawn}, more than twice the device's limit of {limit}"
            )));
        }
        let idle = self.idle.filter(|idle| watts(found.energy.high) < LEAST_IDLE * idle.low.value())?;
        let idle = si::quantity(idle.value.value(), "W");
        Some(Finding::Low(format!("draws {drawn} at work, less than the {idle} of the device at rest")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exactly<T: Copy>(value: T) -> Estimate<T> {
        Estimate { value, low: value, high: value }
    }

    /// A row of 1e9 FLOP and 1e6 bytes that takes 1 ms.
    fn found(joules: f64, dynamic: f64) -> Found {
        let work = Work { flops: 1e9, elementwise: 0.0, bits: 8e6, steps: 1.0 };
        Found {
            work,
            energy: exactly(Joules::new(joules)),
            dynamic: exactly(Joules::new(dynamic)),
            seconds: 1e-3,
        }
    }

    fn bounds(precision: &str) -> Bounds {
        Bounds {
            costs: gpu(precision),
            limit: Some(Watts::new(700.0)),
            idle: Some(exactly(Watts::new(80.0))),
        }
    }

    fn codes(bounds: &Bounds, found: &Found) -> Vec<&'static str> {
        bounds.judge(found).map(|finding| finding.code()).collect()
    }

    #[test]
    fn less_than_the_best_device_needs_is_impossible_in_each_precision() {
        // 0.5, 0.2 and 0.1 pJ for each of 1e9 FLOP are 500, 200 and 100 uJ. Idle is left out: 80 W for 1 ms are 80 mJ.
        for (precision, floor) in [("f32", 500e-6), ("tf32", 200e-6), ("f16", 100e-6), ("bf16", 100e-6)] {
            let bounds = Bounds { idle: None, ..bounds(precision) };
            assert_eq!(codes(&bounds, &found(floor * 1.01, 0.0)), [""; 0], "{precision}");
            assert_eq!(codes(&bounds, &found(floor * 0.99, 0.0)), ["implausible_low"], "{precision}");
        }
        // A processor needs five times what a GPU does.
        let processor = Bounds { costs: PROCESSOR, limit: None, idle: None };
        assert_eq!(codes(&processor, &found(2.4e-3, 0.0)), ["implausible_low"]);
        assert_eq!(codes(&processor, &found(2.6e-3, 0.0)), [""; 0]);
    }

    #[test]
    fn traffic_alone_has_a_floor() {
        let bounds = Bounds { idle: None, ..bounds("f16") };
        let copy = |joules: f64| Found {
            work: Work { flops: 0.0, elementwise: 0.0, bits: 8e9, steps: 1.0 },
            ..found(joules, 0.0)
        };
        // 8e9 bits at 0.1 pJ: 0.8 mJ.
        assert_eq!(codes(&bounds, &copy(0.79e-3)), ["implausible_low"]);
        assert_eq!(codes(&bounds, &copy(0.81e-3)), [""; 0]);
    }

    #[test]
    fn more_than_twenty_times_what_work_explains_is_impossible() {
        // 1e9 FLOP at 20 pJ and 8e6 bits at 30 pJ: 20.24 mJ; twenty times that: 405 mJ above idle in 1 ms.
        let bounds = Bounds { limit: None, ..bounds("f32") };
        assert_eq!(codes(&bounds, &found(0.5, 0.404)), [""; 0]);
        assert_eq!(codes(&bounds, &found(0.5, 0.406)), ["implausible_high"]);
        // The same in less than twenty times the 20 us that a kernel takes anyway says nothing.
        assert_eq!(codes(&bounds, &Found { seconds: 399e-6, ..found(0.5, 0.406) }), [""; 0]);
    }

    #[test]
    fn no_board_draws_twice_its_limit_or_less_at_work_than_at_rest() {
        let bounds = bounds("f32");
        let texts =
            |found: &Found| -> Vec<String> { bounds.judge(found).map(|f| f.text().to_string()).collect() };
        // 1 ms at 1399 and 1401 W, at 65 and 63 W; the dynamic part is not in question.
        assert!(texts(&found(1.399, 0.1)).is_empty());
        assert_eq!(texts(&found(1.401, 0.1)), ["draws 1.4 kW, more than twice the device's limit of 700 W"]);
        assert!(texts(&found(0.065, 0.0)).is_empty());
        assert_eq!(
            texts(&found(0.063, 0.0)),
            ["draws 63 W at work, less than the 80 W of the device at rest"]
        );
    }

    #[test]
    fn an_interval_that_reaches_the_bound_is_no_finding() {
        let mut wide = found(1.5, 0.1);
        wide.energy.low = Joules::new(1.3);
        assert!(codes(&bounds("f32"), &wide).is_empty());
    }
}
