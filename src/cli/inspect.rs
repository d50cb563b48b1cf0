//! `layerjoule inspect`

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use comfy_table::{CellAlignment, Table};

use crate::network::{self, Network, shape_text};
use crate::plan::{Plan, PlanOptions};
use crate::profile::{Computed, layer_records, network_record};
use crate::report::{TABLE_STYLE, si, unmeasured_rows};

use super::exit::{Exit, WrongInput};
use super::key_value;

/// Arguments of `inspect`.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Example: layerjoule inspect networks/resnet50.toml --set size=128"
)]
pub(super) struct InspectArguments {
    /// Network definition, *.toml or *.onnx
    network: PathBuf,
    /// Images in one pass
    #[arg(long, default_value_t = 1, value_name = "N", allow_negative_numbers = true)]
    batch: usize,
    /// Overrides a parameter of the network file; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, i64)>,
    /// Leaves out the layers after LAYER
    #[arg(long, value_name = "LAYER")]
    until: Option<String>,
    /// What is printed
    #[arg(long, value_enum, default_value = "table")]
    format: InspectFormat,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum InspectFormat {
    /// For people
    Table,
    /// The `network` and `layers` blocks of the run file
    Json,
}

pub(super) fn run(arguments: &InspectArguments) -> anyhow::Result<Exit> {
    let mut network = network::read(&arguments.network, &arguments.set)?;
    if let Some(last) = &arguments.until {
        let at = network.layers.iter().position(|layer| layer.name == *last).ok_or_else(|| {
            WrongInput(format!("--until: {} has no layer \"{last}\"", arguments.network.display()))
        })?;
        network.layers.truncate(at + 1);
    }
    let plan = Plan::new(&network, &PlanOptions { batch: arguments.batch, ..PlanOptions::default() })
        .with_context(|| arguments.network.display().to_string())?;
    let text = match arguments.format {
        InspectFormat::Table => table(&network, &plan),
        InspectFormat::Json => json(&network, &plan)?,
    };
    super::print(&text)?;
    Ok(Exit::Done)
}

fn json(network: &Network, plan: &Plan) -> anyhow::Result<String> {
    let records = layer_records(network, plan, |_| Computed::default());
    let signatures: Vec<String> = plan.signatures.iter().map(|s| s.text.clone()).collect();
    let value = serde_json::json!({
        "network": network_record(network, plan.batch),
        "layers": unmeasured_rows(&records, &signatures),
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
}

fn table(network: &Network, plan: &Plan) -> String {
    let mut table = Table::new();
    table.load_style(TABLE_STYLE).set_header([
        "layer",
        "kind",
        "output",
        "parameters",
        "FLOPs",
        "other ops",
        "bytes",
    ]);
    for column in 2..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let batch = plan.batch as u64;
    for (layer, step) in network.layers.iter().zip(&plan.step_of_layer) {
        let bytes = if step.is_some() {
            layer.elements(plan.batch).saturating_mul(plan.precision.bytes() as u64)
        } else {
            0
        };
        table.add_row([
            layer.name.clone(),
            layer.kind.name().to_string(),
            shape_text(&layer.output),
            grouped(layer.trainable()),
            si::quantity(layer.cost.flops.saturating_mul(batch) as f64, ""),
            si::quantity(layer.cost.flops_elementwise.saturating_mul(batch) as f64, ""),
            si::quantity(bytes as f64, "B"),
        ]);
    }
    format!("{table}\n{}", totals(network, plan))
}

fn totals(network: &Network, plan: &Plan) -> String {
    let record = network_record(network, plan.batch);
    let stored = (record.parameters + record.buffers).saturating_mul(4);
    format!(
        "{}: {} layers, input {}, batch {}\n\
         parameters  {} trainable, {} in moving statistics\n\
         FLOPs       {} in conv and linear (2 x multiply-accumulate), {} other operations\n\
         memory      {} weights, {} activations as planned\n\
         signatures  {} kinds of work to measure\n",
        record.name,
        network.layers.len(),
        shape_text(&network.input),
        plan.batch,
        grouped(record.parameters),
        grouped(record.buffers),
        si::quantity(record.flops as f64, ""),
        si::quantity(record.flops_elementwise as f64, ""),
        si::quantity(stored as f64, "B"),
        si::quantity(plan.buffer_bytes() as f64, "B"),
        plan.signatures.len(),
    )
}

/// A whole number with its thousands apart: `25,557,032`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
