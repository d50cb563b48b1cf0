//! Parameters as the text of a device file.

use serde::Serialize;
use serde_json::Value;

use crate::sim::parameters::DeviceParameters;

impl DeviceParameters {
    /// The text of a device file that [`parse`](Self::parse) reads as this device, exactly.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        entry(&mut text, "name", &json(&self.name));
        section(&mut text, "[speed]", &self.speed);
        section(&mut text, "[energy]", &self.energy);
        section(&mut text, "[power]", &self.power);
        section(&mut text, "[thermal]", &self.thermal);
        section(&mut text, "[clock]", &self.clock);
        for sensor in &self.sensor {
            section(&mut text, "[[sensor]]", sensor);
        }
        text
    }
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("parameters are numbers, words and tables of them with texts as keys")
}

fn section(text: &mut String, header: &str, content: &impl Serialize) {
    text.push_str(&format!("\n{header}\n"));
    if let Value::Object(entries) = json(content) {
        for (key, value) in &entries {
            entry(text, key, value);
        }
    }
}

fn entry(text: &mut String, key: &str, value: &Value) {
    // A key that is optional and not there.
    if !value.is_null() {
        text.push_str(&format!("{key} = {}\n", toml(value)));
    }
}

/// JSON's numbers, texts and lists are also TOML's; tables are written otherwise.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let inner: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", inner.join(", "))
        }
        other => other.to_string(),
    }
}
