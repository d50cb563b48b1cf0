//! The JSON Schema of the run file: generated from the types, committed, and obeyed by every file written.

use std::fs;

use layerjoule::report::RunReport;

use crate::support::program::repository;

const PATH: &str = "docs/schema/run.v1.json";

fn generated() -> serde_json::Value {
    serde_json::to_value(schemars::schema_for!(RunReport)).unwrap()
}

/// Fails with every violation of the schema by a run file.
pub(crate) fn assert_valid(run_file: &serde_json::Value) {
    let schema = serde_json::from_str(&fs::read_to_string(repository(PATH)).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(run_file).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// `cargo xtask bless` writes the file anew.
#[test]
fn the_committed_schema_is_that_of_the_types() {
    let path = repository(PATH);
    let text = format!("{}\n", serde_json::to_string_pretty(&generated()).unwrap());
    if std::env::var("BLESS").as_deref() == Ok("1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "run `cargo xtask bless`");
}

#[test]
fn the_schema_refuses_what_no_run_file_may_hold() {
    let schema = generated();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let nothing = serde_json::json!({"schema": "layerjoule.run/1"});
    assert!(!validator.is_valid(&nothing));
}
