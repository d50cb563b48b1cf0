//! Where two reports of one run differ in their numbers.

use serde_json::Value;

use super::run_file::RunReport;

/// Relative difference that another machine's arithmetic may make.
const ROUNDING: f64 = 1e-6;

/// The first number, status or name in which `other` differs from `report`; what the recording was made with
/// and texts for people do not count.
pub fn first_difference(other: &RunReport, report: &RunReport) -> Option<String> {
    let [other, report] = [other, report].map(|report| {
        serde_json::json!({
            "layers": report.layers,
            "kinds": report.kinds,
            "pass": report.pass,
            "idle": report.idle,
            "closure": report.closure,
        })
    });
    let (place, what) = differ(&other, &report)?;
    Some(format!("{}: {what}", place.strip_prefix('.').unwrap_or(&place)))
}

/// Place and content in `a` of the first difference.
fn differ(a: &Value, b: &Value) -> Option<(String, String)> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => a
            .iter()
            // Sentences may be said better by another version.
            .filter(|(key, _)| !["reason", "warnings"].contains(&key.as_str()))
            .find_map(|(key, a)| {
                let (place, what) = differ(a, b.get(key).unwrap_or(&Value::Null))?;
                Some((format!(".{key}{place}"), what))
            }),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(index, (a, b))| {
                let (place, what) = differ(a, b)?;
                Some((format!("[{index}]{place}"), what))
            })
        }
        (Value::Array(a), Value::Array(_)) => Some((String::new(), format!("{} rows", a.len()))),
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64()?, y.as_f64()?);
            ((x - y).abs() > ROUNDING * x.abs().max(y.abs())).then(|| (String::new(), format!("{x}")))
        }
        _ => (a != b).then(|| (String::new(), format!("{a:.60}"))),
    }
}
