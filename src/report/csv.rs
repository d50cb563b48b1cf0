//! `layers.csv` and `kinds.csv`: one row per layer or kind, one column per number, empty where there is none.

use std::io::Write;

use crate::stats::Estimate;

use super::run_file::RunReport;

/// Whether the numbers are those of a real device: in each row, because rows travel alone.
const ORIGIN: [&str; 2] = ["simulated", "emulated"];

fn origin(report: &RunReport) -> [String; 2] {
    [report.simulated, report.emulated].map(|is| is.to_string())
}

/// Writes a row per layer and phase.
///
/// # Errors
///
/// The destination cannot be written.
pub fn layers_csv(report: &RunReport, to: &mut impl Write) -> Result<(), ::csv::Error> {
    let mut csv = ::csv::Writer::from_writer(to);
    let mut head = ["index", "name", "kind", "phase", "status", "meter"].map(str::to_string).to_vec();
    for quantity in ["energy_j", "energy_dynamic_j", "time_s", "power_w"] {
        head.extend(["", "_low", "_high"].map(|end| format!("{quantity}{end}")));
    }
    head.extend(
        ["upper_j", "share", "flops", "flops_elementwise", "bytes", "executions", "replays", "windows"]
            .map(str::to_string),
    );
    head.extend(["algorithm", "signature", "reason", "warnings"].map(str::to_string));
    head.extend(ORIGIN.map(str::to_string));
    csv.write_record(&head)?;
    for layer in &report.layers {
        let mut row = vec![layer.index.to_string(), layer.name.clone(), layer.kind.clone()];
        row.extend([name_of(&layer.phase), name_of(&layer.status), report.primary_meter.clone()]);
        row.extend(three(&layer.energy_j));
        row.extend(three(&layer.energy_dynamic_j));
        row.extend(three(&layer.time_s));
        row.extend(three(&layer.power_w));
        row.push(layer.upper_j.map_or(String::new(), |u| u.value().to_string()));
        row.push(layer.share.map_or(String::new(), |s| s.to_string()));
        row.extend([layer.flops, layer.flops_elementwise, layer.bytes].map(|n| n.to_string()));
        row.extend([layer.executions, layer.replays, layer.windows as u64].map(|n| n.to_string()));
        row.push(layer.algorithm.clone().unwrap_or_default());
        row.push(layer.signature.clone().unwrap_or_default());
        row.push(layer.reason.clone().unwrap_or_default());
        row.push(layer.warnings.join(" "));
        row.extend(origin(report));
        csv.write_record(&row)?;
    }
    Ok(csv.flush()?)
}

/// Writes a row per kind and phase.
///
/// # Errors
///
/// The destination cannot be written.
pub fn kinds_csv(report: &RunReport, to: &mut impl Write) -> Result<(), ::csv::Error> {
    let mut csv = ::csv::Writer::from_writer(to);
    let mut head = ["kind", "phase", "layers", "meter"].map(str::to_string).to_vec();
    for quantity in ["energy_j", "energy_dynamic_j", "time_s"] {
        head.extend(["", "_low", "_high"].map(|end| format!("{quantity}{end}")));
    }
    head.push("share".to_string());
    head.extend(ORIGIN.map(str::to_string));
    csv.write_record(&head)?;
    for kind in &report.kinds {
        let mut row = vec![kind.kind.clone(), name_of(&kind.phase), kind.layers.to_string()];
        row.push(report.primary_meter.clone());
        row.extend(three(&kind.energy_j));
        row.extend(three(&kind.energy_dynamic_j));
        row.extend(three(&kind.time_s));
        row.push(kind.share.map_or(String::new(), |s| s.to_string()));
        row.extend(origin(report));
        csv.write_record(&row)?;
    }
    Ok(csv.flush()?)
}

/// Value, low and high end; empty where there is no estimate, never zero.
fn three<T: Copy + Into<f64>>(estimate: &Option<Estimate<T>>) -> [String; 3] {
    match estimate {
        Some(e) => [e.value, e.low, e.high].map(|x| x.into().to_string()),
        None => Default::default(),
    }
}

/// The name that the run file uses for a variant.
fn name_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => format!("{other:?}"),
    }
}
