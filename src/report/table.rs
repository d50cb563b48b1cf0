//! The table on the terminal.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use crate::trace::MeterStatus;

use super::run_file::{KindRow, LayerRow, RunReport, Status};
use super::si;

/// One line under the head and nothing else: rows stay together, and text can be copied.
pub const TABLE_STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// The report as text: head, layers sorted by energy, kinds, pass and balance, warnings.
///
/// `most` limits the layers shown; the rest is summed up in one line.
pub fn table(report: &RunReport, most: usize) -> String {
    let mut text = head(report);
    text.push_str(&layers(report, most));
    text.push('\n');
    text.push_str(&kinds(report));
    text.push('\n');
    text.push_str(&balance(report));
    text.push_str(&sampling(report));
    for warning in &report.warnings {
        text.push_str(&format!("warning ({}): {}\n", warning.code, warning.text));
    }
    // Names come from files: none may steer the terminal.
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

fn head(report: &RunReport) -> String {
    let network = &report.network;
    let meter = report.meters.iter().find(|m| m.id == report.primary_meter);
    // Only the CPU's engine has threads.
    let threads = match report.device.kind.as_str() {
        "cpu" => format!("{} threads, ", report.device.threads),
        _ => String::new(),
    };
    let mut text = format!(
        "{}, batch {}, forward, {} {} on {} ({threads}{})\n",
        network.name,
        network.batch,
        report.device.precision,
        report.device.layout,
        report.device.name,
        report.device.engine,
    );
    if let Some(meter) = meter {
        let status = match meter.status {
            MeterStatus::Estimated => "ESTIMATED",
            _ if report.simulated => "SIMULATED",
            _ => "measured",
        };
        let band = meter.systematic_relative.map_or(String::new(), |s| {
            format!("; ±{:.0} % common to all rows, not in the intervals", s * 100.0)
        });
        text.push_str(&format!("{status} by {}: {}{band}\n", meter.id, meter.scope));
    }
    if report.simulated {
        text.push_str("The device is simulated: no hardware was measured\n");
    }
    if report.emulated {
        text.push_str("EMULATED meter library: no hardware was measured\n");
    }
    text.push_str("Energies are for one pass of the batch; ± is half of the 95 % interval.\n\n");
    text
}

fn layers(report: &RunReport, most: usize) -> String {
    let mut rows: Vec<&LayerRow> = report.layers.iter().collect();
    let energy = |row: &LayerRow| row.energy_j.map_or(f64::NEG_INFINITY, |e| e.value.value());
    // Stable: rows without an energy keep the network's order, at the end.
    rows.sort_by(|a, b| energy(b).total_cmp(&energy(a)));
    let mut table = new_table(
        ["layer", "kind", "energy", "share", "above idle", "time", "power", "pJ/FLOP"],
        &[2, 3, 4, 5, 6, 7],
    );
    for row in rows.iter().take(most) {
        table.add_row(layer_cells(report, row));
    }
    let mut text = format!("{table}\n");
    if rows.len() > most {
        let rest = &rows[most..];
        let share: f64 = rest.iter().filter_map(|row| row.share).sum();
        text.push_str(&format!(
            "… and {} more layers with {:.1} % of the layers' energy (--top all, or layers.csv)\n",
            rest.len(),
            share * 100.0
        ));
    }
    text
}

fn layer_cells(report: &RunReport, row: &LayerRow) -> [String; 8] {
    let flops = row.flops as f64 + row.flops_elementwise as f64;
    let per_flop = row.energy_j.filter(|_| flops > 0.0).map(|e| si::plain(e.value.value() / flops * 1e12));
    [
        shorten(&row.name, 36),
        row.kind.clone(),
        match (row.status, row.upper_j) {
            (Status::BelowDetection, _) if row.signature.is_none() => "no-op".to_string(),
            _ if report.is_fused(row) => "fused".to_string(),
            (Status::BelowDetection, Some(upper)) => format!("< {}", si::quantity(upper.value(), "J")),
            _ => row.energy_j.map_or("no reading".to_string(), |e| si::estimate(&e, "J")),
        },
        row.share.map_or(String::new(), si::percent_text),
        row.energy_dynamic_j.map_or(String::new(), |e| {
            match row.warnings.iter().any(|w| w == "not_above_idle") {
                true => format!("< {}", si::quantity(e.high.value(), "J")),
                false => si::quantity(e.value.value(), "J"),
            }
        }),
        row.time_s.map_or(String::new(), |t| si::quantity(t.value.value(), "s")),
        row.power_w.map_or(String::new(), |p| si::quantity(p.value.value(), "W")),
        per_flop.unwrap_or_default(),
    ]
}

fn kinds(report: &RunReport) -> String {
    let mut table = new_table(["kind", "layers", "energy", "share", "above idle", "time"], &[1, 2, 3, 4, 5]);
    for row in &report.kinds {
        table.add_row(kind_cells(row));
    }
    format!("{table}\n")
}

fn kind_cells(row: &KindRow) -> [String; 6] {
    [
        row.kind.clone(),
        row.layers.to_string(),
        row.energy_j.map_or("no reading".to_string(), |e| si::estimate(&e, "J")),
        row.share.map_or(String::new(), si::percent_text),
        row.energy_dynamic_j.map_or(String::new(), |e| si::quantity(e.value.value(), "J")),
        row.time_s.map_or(String::new(), |t| si::quantity(t.value.value(), "s")),
    ]
}

fn balance(report: &RunReport) -> String {
    let joules = |e: &Option<crate::stats::Estimate<crate::units::Joules>>| {
        e.map_or("no reading".to_string(), |e| si::estimate(&e, "J"))
    };
    let mut text = String::new();
    for (pass, closure) in report.pass.iter().zip(&report.closure) {
        text.push_str(&format!("  layers    {}\n", joules(&closure.sum_of_layers_j)));
        text.push_str(&format!("+ gaps      {}\n", joules(&closure.gaps_j)));
        let ratio = closure.residual_ratio.map_or(String::new(), |r| format!("  ({:+.2} %)", r * 100.0));
        text.push_str(&format!("+ residual  {}{ratio}\n", joules(&closure.residual_j)));
        let time = pass.time_s.map_or(String::new(), |t| format!(" in {}", si::estimate(&t, "s")));
        text.push_str(&format!("= pass      {}{time}\n", joules(&closure.pass_j)));
        if report.network.batch > 1 {
            text.push_str(&format!("  per image {}\n", joules(&pass.energy_per_image_j)));
        }
    }
    let watts = |e: &Option<crate::stats::Estimate<crate::units::Watts>>| {
        e.map_or("no reading".to_string(), |e| si::estimate(&e, "W"))
    };
    text.push_str(&format!(
        "  idle      {} before and after, {} between rounds\n",
        watts(&report.idle.power_w),
        watts(&report.idle.active_power_w)
    ));
    text
}

fn sampling(report: &RunReport) -> String {
    let Some(row) = &report.sampling else { return String::new() };
    let percent = |share: Option<f64>| share.map_or("?".to_string(), |s| format!("{:.3} %", s * 100.0));
    let slow_down = match (&row.slow_down, &row.reason) {
        (Some(ratio), _) => format!(
            "passes take {:+.2} ± {:.2} % longer for it",
            (ratio.value - 1.0) * 100.0,
            ratio.half_width() * 100.0
        ),
        (None, reason) => format!("slow-down unknown: {}", reason.as_deref().unwrap_or("no reason given")),
    };
    let cpu = row.cpu_share.map_or(String::new(), |_| format!(", {} of one CPU", percent(row.cpu_share)));
    format!(
        "  sampling  {} readings in {} of the windows' time{cpu}; {slow_down}\n",
        row.reads,
        percent(row.share)
    )
}

fn new_table<const N: usize>(head: [&str; N], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(TABLE_STYLE).set_header(head);
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The name with its middle left out where it is longer than `most` characters.
pub(super) fn shorten(name: &str, most: usize) -> String {
    let characters: Vec<char> = name.chars().collect();
    if characters.len() <= most {
        return name.to_string();
    }
    let head = most.saturating_sub(1) / 2;
    let tail = most.saturating_sub(1) - head;
    let start: String = characters[..head].iter().collect();
    let end: String = characters[characters.len() - tail..].iter().collect();
    format!("{start}…{end}")
}
