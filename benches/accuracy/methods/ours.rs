//! Ours: what `layerjoule profile` does by default, up to the rows of the run file.

use std::path::Path;

use layerjoule::meter::MeterChoice;
use layerjoule::profile::{self, DeviceChoice, ProfileOptions, Timing};
use layerjoule::report::run_report;

use super::super::board::{Answer, Value};
use super::super::subject::Subject;

/// Profiles and reads the report as any other program would.
pub(crate) fn measure(subject: &Subject, seed: u64) -> Result<Answer, String> {
    let options = ProfileOptions {
        network: subject.file.clone(),
        set: Vec::new(),
        batch: subject.plan.batch,
        fuse: false,
        device: DeviceChoice::Sim {
            name: subject.device_name.clone(),
            device: Box::new(subject.device.clone()),
        },
        precision: Default::default(),
        layout: Default::default(),
        cache: None,
        conv_algorithm: None,
        meter: MeterChoice::Auto,
        sysfs_root: Path::new("/sys").to_path_buf(),
        nvml_lib: None,
        timing: Timing::default(),
        seed,
        out: None,
        force: false,
        calibrations: None,
    };
    let measured = profile::measure(&options, &|| false).map_err(|error| error.to_string())?;
    if let Some(error) = measured.recording.error {
        return Err(error.to_string());
    }
    let trace = &measured.recording.trace;
    let report = run_report(trace);
    let of_step = |step: &layerjoule::plan::Step| {
        let name = &subject.network.layers[*step.layers.first()?].name;
        let row = report.layers.iter().find(|row| row.name == *name)?;
        row.energy_j.map(Value::from)
    };
    let closure = report.closure.first();
    let meter = &report.primary_meter;
    Ok(Answer {
        layers: subject.plan.steps.iter().map(of_step).collect(),
        pass: report.pass.first().and_then(|pass| pass.energy_j).map(Value::from),
        gaps: closure.and_then(|closure| closure.gaps_j).map_or(0.0, |gaps| gaps.value.value()),
        seconds: trace.spans.last().map_or(0.0, |span| span.end.since_origin().value()),
        sensor: subject
            .device
            .sensor
            .iter()
            .position(|sensor| sensor.id == *meter)
            .ok_or_else(|| format!("the primary meter {meter} is no sensor of the device"))?,
    })
}
