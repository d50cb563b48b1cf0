//! Numbers as people read them: SI prefixes, and as many digits as the interval supports.

use crate::stats::Estimate;

/// Magnitudes beyond this are no measurement; they are named, not drawn.
const ABSURD: f64 = 1e100;

/// A power of a thousand with its SI symbol.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prefix {
    /// What one such unit is of the base unit.
    pub(crate) factor: f64,
    /// The symbol before the unit's.
    pub(crate) symbol: &'static str,
}

/// SI Brochure, 9th edition, table 7.
const PREFIXES: [Prefix; 10] = [
    Prefix { factor: 1e12, symbol: "T" },
    Prefix { factor: 1e9, symbol: "G" },
    Prefix { factor: 1e6, symbol: "M" },
    Prefix { factor: 1e3, symbol: "k" },
    Prefix { factor: 1.0, symbol: "" },
    Prefix { factor: 1e-3, symbol: "m" },
    Prefix { factor: 1e-6, symbol: "µ" },
    Prefix { factor: 1e-9, symbol: "n" },
    Prefix { factor: 1e-12, symbol: "p" },
    Prefix { factor: 1e-15, symbol: "f" },
];

impl Prefix {
    /// The prefix that leaves one to three digits before the point.
    pub(crate) fn of(magnitude: f64) -> Self {
        let [.., smallest] = PREFIXES;
        if magnitude == 0.0 || !plottable(magnitude) {
            return Self { factor: 1.0, symbol: "" };
        }
        PREFIXES.into_iter().find(|p| magnitude.abs() >= p.factor * 0.9999).unwrap_or(smallest)
    }

    /// This prefix, or the value's own where this one would leave nothing but zeros.
    pub(crate) fn or_own(self, value: f64) -> Self {
        if value.abs() >= self.factor * 1e-3 || value == 0.0 { self } else { Self::of(value) }
    }
}

/// `12.3 mJ`, in the value's own prefix.
pub fn quantity(value: f64, unit: &str) -> String {
    value_text(value, Prefix::of(value), unit)
}

/// `12.3 ± 0.4 mJ`, in the value's own prefix.
pub fn estimate<T: Copy + Into<f64>>(estimate: &Estimate<T>, unit: &str) -> String {
    let of = |x: T| -> f64 { x.into() };
    let plain = Estimate { value: of(estimate.value), low: of(estimate.low), high: of(estimate.high) };
    estimate_text(plain, Prefix::of(plain.value), unit)
}

/// Whether a number is one that a scale can hold.
pub(crate) fn plottable(value: f64) -> bool {
    value.abs() < ABSURD
}

/// `1.23 ± 0.04 mJ`: the half width has two digits if it begins with 1 or 2 and one otherwise (at most two by
/// GUM 7.2.6), and the value has as many decimals.
///
/// An interval that is not symmetric is written as `1.23 (1.10 to 1.50) mJ`.
pub(crate) fn estimate_text(estimate: Estimate<f64>, prefix: Prefix, unit: &str) -> String {
    let Estimate { value, low, high } = estimate;
    if !plottable(value) {
        return format!("{value:e} {unit}");
    }
    let prefix = prefix.or_own(value);
    let half = (high - low) / 2.0;
    let unit = format!("{}{unit}", prefix.symbol);
    let scaled = |x: f64| x / prefix.factor;
    if !plottable(half) {
        return format!("{} {unit}, no interval", plain(scaled(value)));
    }
    if half == 0.0 {
        return format!("{} {unit}", plain(scaled(value)));
    }
    let decimals = decimals_of_half_width(scaled(half));
    let number = |x: f64| minus(format!("{:.*}", decimals, scaled(x)));
    let lopsided = ((high - value) - (value - low)).abs() > 0.02 * half.abs();
    if lopsided {
        return format!("{} ({} to {}) {unit}", number(value), number(low), number(high));
    }
    format!("{} ± {} {unit}", number(value), number(half))
}

/// `1.23 mJ`, three significant digits.
pub(crate) fn value_text(value: f64, prefix: Prefix, unit: &str) -> String {
    if !plottable(value) {
        return format!("{value:e} {unit}");
    }
    let prefix = prefix.or_own(value);
    format!("{} {}{unit}", plain(value / prefix.factor), prefix.symbol)
}

/// `12.3 %`.
pub(crate) fn percent_text(share: f64) -> String {
    if !plottable(share) {
        return "no share".to_string();
    }
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.05 {
        return "< 0.1 %".to_string();
    }
    let decimals = if percent.abs() >= 99.95 { 0 } else { 1 };
    format!("{} %", minus(format!("{percent:.decimals$}")))
}

/// A fraction as a percentage without needless digits: `50 %`, `2.5 %`.
pub(crate) fn short_percent(fraction: f64) -> String {
    format!("{} %", plain(fraction * 100.0))
}

/// Three significant digits, without trailing zeros behind the point.
pub(crate) fn plain(value: f64) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    if !(1e-6..1e7).contains(&value.abs()) {
        let text = format!("{value:.2e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return minus(format!("{}e{power}", without_zeros(digits)));
    }
    let text = format!("{:.*}", decimals_for(value, 3), value);
    minus(without_zeros(&text).to_string())
}

/// The number without zeros behind the point that say nothing.
fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Decimals that show two digits of a half width beginning with 1 or 2, or one digit of another.
fn decimals_of_half_width(half: f64) -> usize {
    let two_digits = format!("{half:.1e}");
    let digits = if two_digits.starts_with(['1', '2']) { 2 } else { 1 };
    decimals_for(half, digits)
}

/// Decimals that show so many significant digits of a number.
fn decimals_for(value: f64, digits: i32) -> usize {
    // Rounded first, so that 0.0999 shown with two digits counts as 0.10.
    let exponent = format!("{:.*e}", (digits - 1).max(0) as usize, value.abs())
        .split_once('e')
        .and_then(|(_, e)| e.parse::<i32>().ok())
        .unwrap_or(0);
    (digits - 1 - exponent).clamp(0, 9) as usize
}

/// The minus sign of print instead of a hyphen.
pub(crate) fn minus(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64, half: f64) -> String {
        let e = Estimate { value, low: value - half, high: value + half };
        estimate_text(e, Prefix::of(value), "J")
    }

    #[test]
    fn the_digits_of_the_interval_decide_those_of_the_value() {
        assert_eq!(text(1.2345e-3, 0.0412e-3), "1.23 ± 0.04 mJ");
        assert_eq!(text(1.2345e-3, 0.0152e-3), "1.234 ± 0.015 mJ");
        assert_eq!(text(1.2345e-3, 0.9e-3), "1.2 ± 0.9 mJ");
        assert_eq!(text(431.7e-9, 36.2e-9), "432 ± 36 nJ");
        assert_eq!(text(2.0, 0.0999), "2.00 ± 0.10 J");
        assert_eq!(text(-0.2, 0.05), "−200 ± 50 mJ");
    }

    #[test]
    fn a_lopsided_interval_is_written_out() {
        let e = Estimate { value: 2.0, low: 1.0, high: 6.0 };
        assert_eq!(estimate_text(e, Prefix::of(2.0), "W"), "2.0 (1.0 to 6.0) W");
    }

    #[test]
    fn numbers_that_are_none_are_named() {
        assert_eq!(text(f64::NAN, 1.0), "NaN J");
        assert_eq!(text(1.0, f64::INFINITY), "1 J, no interval");
        assert_eq!(text(1e300, 0.0), "1e300 J");
    }

    #[test]
    fn prefixes_are_powers_of_a_thousand() {
        for (value, symbol) in
            [(1.0, ""), (0.999, "m"), (2.5e-6, "µ"), (1e-12, "p"), (-3e4, "k"), (0.0, ""), (1e-30, "f")]
        {
            assert_eq!(Prefix::of(value).symbol, symbol, "{value}");
        }
    }

    #[test]
    fn a_value_far_below_the_axis_has_its_own_prefix() {
        let milli = Prefix::of(1e-3);
        assert_eq!(value_text(0.4e-6, milli, "J"), "400 nJ");
        assert_eq!(value_text(4e-6, milli, "J"), "0.004 mJ");
    }

    #[test]
    fn plain_numbers_have_three_digits() {
        for (value, text) in
            [(0.25, "0.25"), (1234.0, "1234"), (2.0, "2"), (-0.5, "−0.5"), (1e-9, "1e-9"), (1.25e8, "1.25e8")]
        {
            assert_eq!(plain(value), text);
        }
    }

    #[test]
    fn percentages_have_one_decimal() {
        assert_eq!(percent_text(0.1234), "12.3 %");
        assert_eq!(percent_text(1.0), "100 %");
        assert_eq!(percent_text(1e-5), "< 0.1 %");
        assert_eq!(percent_text(0.0), "0.0 %");
        assert_eq!(short_percent(0.5), "50 %");
        assert_eq!(short_percent(0.025), "2.5 %");
    }
}
