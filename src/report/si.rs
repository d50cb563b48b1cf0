//! Numbers for people: SI prefixes and as many digits as the interval supports.

use crate::stats::Estimate;

/// Prefixes from tera to pico with their factors.
const PREFIXES: [(f64, &str); 9] = [
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
];

/// The factor and prefix with which a magnitude reads as 1 to 999.
pub fn prefix(magnitude: f64) -> (f64, &'static str) {
    let size = magnitude.abs();
    if size <= 0.0 || !size.is_finite() {
        return (1.0, "");
    }
    PREFIXES.into_iter().find(|(factor, _)| size >= factor * 0.9995).unwrap_or((1e-12, "p"))
}

/// A value with prefix and unit: `12.3 mJ`.
pub fn quantity(value: f64, unit: &str) -> String {
    let (factor, prefix) = prefix(value);
    format!("{} {prefix}{unit}", digits(value / factor, 3))
}

/// A value with its half width in one prefix: `12.3 ± 0.4 mJ`. The last digit shown is the second of the
/// half width (GUM 7.2.6).
pub fn estimate<T: Copy + Into<f64>>(estimate: &Estimate<T>, unit: &str) -> String {
    let (value, half) = (estimate.value.into(), estimate.half_width());
    let (factor, prefix) = prefix(value.abs().max(half));
    let (value, half) = (value / factor, half / factor);
    let decimals = if half > 0.0 { (1 - half.log10().floor() as i32).clamp(0, 3) as usize } else { 3 };
    format!("{value:.decimals$} ± {half:.decimals$} {prefix}{unit}")
}

/// A number with this many significant digits.
pub fn digits(value: f64, significant: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let decimals = (significant - 1 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_get_the_prefix_people_expect() {
        assert_eq!(quantity(0.0123, "J"), "12.3 mJ");
        assert_eq!(quantity(1.5e-7, "J"), "150 nJ");
        assert_eq!(quantity(4.1e9, "FLOP"), "4.10 GFLOP");
        assert_eq!(quantity(0.0, "J"), "0 J");
    }

    #[test]
    fn an_interval_sets_the_digits() {
        let e = Estimate { value: 0.012_345, low: 0.011_945, high: 0.012_745 };
        assert_eq!(estimate(&e, "J"), "12.35 ± 0.40 mJ");
        let wide = Estimate { value: 0.012, low: -0.1, high: 0.124 };
        assert_eq!(estimate(&wide, "J"), "12 ± 112 mJ");
    }
}
