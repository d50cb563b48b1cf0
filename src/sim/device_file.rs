//! stub
use super::parameters::DeviceParameters;
/// stub
pub const PRESETS: &[&str] = &[];
impl DeviceParameters {
    /// stub
    pub fn open(spec: &str) -> Result<Self, String> {
        toml::from_str(&std::fs::read_to_string(spec).map_err(|e| e.to_string())?).map_err(|e| e.to_string())
    }
}
