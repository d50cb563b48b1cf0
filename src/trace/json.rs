//! What is wrong with a JSON text, said for people; and whether it says only what was understood of it.

use serde::Serialize;
use serde_json::Value;

/// Longest part of a parser's message that is shown: it may quote a whole file.
const LONGEST_REASON: usize = 300;

/// The parser's message without its place, which the caller gives in the file's own terms.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    match text.char_indices().nth(LONGEST_REASON) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

/// The first place where a text and what was understood of it differ: a key that is not known, or one that is
/// not there. Parsers pass over the first and take the second for `null`; both can hide a damaged number.
///
/// # Errors
///
/// What was understood cannot be written as JSON.
pub(crate) fn difference(
    text: &Value,
    understood: &impl Serialize,
) -> Result<Option<String>, serde_json::Error> {
    Ok(differ(text, &serde_json::to_value(understood)?).map(|(place, what)| {
        let place = place.strip_prefix('.').unwrap_or(&place);
        format!("{place}: {what}")
    }))
}

/// Place and difference; the place is put together on the way out, where there is one.
fn differ(found: &Value, understood: &Value) -> Option<(String, String)> {
    let here = |what: String| Some((String::new(), what));
    match (found, understood) {
        (Value::Object(found), Value::Object(understood)) => {
            for (key, value) in found {
                let below = match understood.get(key) {
                    Some(known) => differ(value, known),
                    None => {
                        here("expected no such key, found it; a newer layerjoule may know it".to_string())
                    }
                };
                if let Some((place, what)) = below {
                    return Some((format!(".{key:.40}{place}"), what));
                }
            }
            let missing = understood.keys().find(|key| !found.contains_key(*key))?;
            Some((format!(".{missing:.40}"), "expected this key, found none".to_string()))
        }
        (Value::Array(found), Value::Array(understood)) if found.len() == understood.len() => {
            found.iter().zip(understood).enumerate().find_map(|(index, (found, understood))| {
                let (place, what) = differ(found, understood)?;
                Some((format!("[{index}]{place}"), what))
            })
        }
        // The same number may be written as 1 and as 1.0.
        (Value::Number(a), Value::Number(b)) if a == b || a.as_f64() == b.as_f64() => None,
        _ if found == understood => None,
        _ => here(format!("expected {understood:.60}, found {found:.60}")),
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Row {
        name: String,
        energy: Option<f64>,
    }

    fn of(text: &str) -> Option<String> {
        let rows: Vec<Row> = serde_json::from_str(text).unwrap();
        difference(&serde_json::from_str(text).unwrap(), &rows).unwrap()
    }

    #[test]
    fn a_whole_text_says_what_is_understood() {
        assert_eq!(of(r#"[{"name": "a", "energy": 1}, {"energy": null, "name": "b"}]"#), None);
    }

    #[test]
    fn unknown_and_missing_keys_are_named_with_their_place() {
        let unknown = of(r#"[{"name": "a", "energy": 1}, {"name": "b", "energi": 2}]"#).unwrap();
        assert!(unknown.starts_with("[1].energi: expected no such key"), "{unknown}");
        assert_eq!(of(r#"[{"name": "a"}]"#).unwrap(), "[0].energy: expected this key, found none");
    }
}
