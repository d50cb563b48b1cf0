//! The JSON Schemas of run file and truth: generated from the types, committed, and obeyed by every file written.

use std::fs;

use layerjoule::calibration::Calibration;
use layerjoule::report::RunReport;
use layerjoule::sim::Truth;
use serde_json::Value;

use crate::support::program::repository;

const RUN: &str = "docs/schema/run.v1.json";
const TRUTH: &str = "docs/schema/truth.v1.json";
const CALIBRATION: &str = "docs/schema/calibration.v1.json";

fn generated<T: schemars::JsonSchema>() -> Value {
    serde_json::to_value(schemars::schema_for!(T)).unwrap()
}

/// Fails with every violation of the schema by a run file.
pub(crate) fn assert_valid(run_file: &Value) {
    assert_obeys(RUN, run_file);
}

/// The same for the truth of a simulated run.
pub(crate) fn assert_valid_truth(truth: &Value) {
    assert_obeys(TRUTH, truth);
}

/// The same for what `calibrate` prints and keeps.
pub(crate) fn assert_valid_calibration(calibration: &Value) {
    assert_obeys(CALIBRATION, calibration);
}

fn assert_obeys(path: &str, file: &Value) {
    let schema = serde_json::from_str(&fs::read_to_string(repository(path)).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(file).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// `cargo xtask bless` writes the files anew.
#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let schemas = [
        (RUN, generated::<RunReport>()),
        (TRUTH, generated::<Truth>()),
        (CALIBRATION, generated::<Calibration>()),
    ];
    for (path, schema) in schemas {
        let path = repository(path);
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var("BLESS").as_deref() == Ok("1") {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "run `cargo xtask bless`");
    }
}

#[test]
fn the_schemas_refuse_what_no_file_may_hold() {
    let schemas = [
        (generated::<RunReport>(), "run"),
        (generated::<Truth>(), "truth"),
        (generated::<Calibration>(), "calibration"),
    ];
    for (schema, name) in schemas {
        let validator = jsonschema::validator_for(&schema).unwrap();
        let nothing = serde_json::json!({"schema": format!("layerjoule.{name}/1")});
        assert!(!validator.is_valid(&nothing), "{name}");
    }
}
