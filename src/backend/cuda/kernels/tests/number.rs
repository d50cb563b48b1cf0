//! The stored formats from their definitions (IEEE 754-2019, 3.4, and 4.3.1 for rounding), independent of the kernels.

use crate::plan::Precision;

/// A binary floating-point format of 16 bits: bits of its exponent and of its mantissa.
struct Format {
    exponent: i32,
    mantissa: i32,
}

fn format(precision: Precision) -> Option<Format> {
    match precision {
        Precision::F32 | Precision::Tf32 => None,
        Precision::F16 => Some(Format { exponent: 5, mantissa: 10 }),
        Precision::Bf16 => Some(Format { exponent: 8, mantissa: 7 }),
    }
}

impl Format {
    fn bias(&self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    /// The distance between neighbours at a magnitude.
    fn spacing(&self, magnitude: f64) -> f64 {
        let exponent = magnitude.log2().floor() as i32;
        2.0_f64.powi(exponent.max(1 - self.bias()) - self.mantissa)
    }

    fn largest(&self) -> f64 {
        (2.0 - 2.0_f64.powi(-self.mantissa)) * 2.0_f64.powi(self.bias())
    }

    fn value(&self, bits: u16) -> f64 {
        let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
        let mantissa = f64::from(bits & ((1 << self.mantissa) - 1)) / 2.0_f64.powi(self.mantissa);
        let exponent = i32::from(bits >> self.mantissa) & ((1 << self.exponent) - 1);
        sign * match exponent {
            0 => mantissa * 2.0_f64.powi(1 - self.bias()),
            e if e == (1 << self.exponent) - 1 => {
                if mantissa == 0.0 {
                    f64::INFINITY
                } else {
                    f64::NAN
                }
            }
            e => (1.0 + mantissa) * 2.0_f64.powi(e - self.bias()),
        }
    }

    fn rounded(&self, value: f64) -> f64 {
        if value == 0.0 || !value.is_finite() {
            return value;
        }
        let spacing = self.spacing(value.abs());
        let rounded = (value / spacing).round_ties_even() * spacing;
        if rounded.abs() > self.largest() { f64::INFINITY.copysign(value) } else { rounded }
    }

    fn bits(&self, value: f64) -> u16 {
        let sign = u16::from(value.is_sign_negative()) << 15;
        let top = ((1_u16 << self.exponent) - 1) << self.mantissa;
        let value = self.rounded(value).abs();
        if value.is_nan() {
            return top | 1;
        }
        if value.is_infinite() {
            return sign | top;
        }
        if value == 0.0 {
            return sign;
        }
        let exponent = (value.log2().floor() as i32).max(1 - self.bias());
        // Units of the last place, with the leading 1 of a normal number; that 1 is what makes its exponent field.
        let units = (value / 2.0_f64.powi(exponent - self.mantissa)) as u16;
        let field = u16::try_from(exponent + self.bias() - 1).unwrap();
        sign | ((field << self.mantissa) + units)
    }
}

/// A number's bytes in a precision, rounded to nearest, ties to even.
pub(super) fn encoded(precision: Precision, value: f32) -> Vec<u8> {
    match format(precision) {
        None => value.to_ne_bytes().to_vec(),
        Some(format) => format.bits(f64::from(value)).to_ne_bytes().to_vec(),
    }
}

/// The numbers that bytes stand for.
pub(super) fn decoded(precision: Precision, bytes: &[u8]) -> Vec<f32> {
    let size = precision.bytes();
    let number = |bytes: &[u8]| match format(precision) {
        None => f32::from_ne_bytes(bytes.try_into().unwrap()),
        Some(format) => format.value(u16::from_ne_bytes(bytes.try_into().unwrap())) as f32,
    };
    bytes.chunks_exact(size).map(number).collect()
}

/// The nearest number that the precision stores.
pub(super) fn rounded(precision: Precision, value: f32) -> f32 {
    decoded(precision, &encoded(precision, value))[0]
}

/// What storing a result may change it by: half of the distance to its neighbour.
pub(super) fn storing(precision: Precision, value: f64) -> f64 {
    if !value.is_finite() {
        return 0.0;
    }
    match format(precision) {
        None => value.abs() / f64::from(1 << 24) + f64::from(f32::MIN_POSITIVE) / f64::from(1 << 24),
        // The result in f32 may lie beyond a power of two, where neighbours are twice as far apart.
        Some(format) => format.spacing(value.abs() * 1.001 + f64::MIN_POSITIVE) / 2.0,
    }
}

#[test]
fn known_numbers_have_their_known_bits() {
    let bits = |precision, value| u16::from_ne_bytes(encoded(precision, value).try_into().unwrap());
    // IEEE 754 binary16: 1, the largest, the least normal, the least of all, a tie to even both ways.
    for (value, expected) in [
        (1.0, 0x3c00),
        (65504.0, 0x7bff),
        (65519.9, 0x7bff),
        (65520.0, 0x7c00),
        (6.103_515_6e-5, 0x0400),
        (5.960_464_5e-8, 0x0001),
        (1.000_488_3, 0x3c00),
        (1.001_464_8, 0x3c02),
        (-2.0, 0xc000),
    ] {
        assert_eq!(bits(Precision::F16, value), expected, "{value}");
    }
    // bfloat16 is the upper half of binary32.
    assert_eq!(bits(Precision::Bf16, 1.0), 0x3f80);
    assert_eq!(bits(Precision::Bf16, f32::from_bits(0x3f80_8000)), 0x3f80);
    assert_eq!(bits(Precision::Bf16, f32::from_bits(0x3f81_8000)), 0x3f82);
    assert_eq!(bits(Precision::Bf16, f32::from_bits(0x3f80_8001)), 0x3f81);
}

#[test]
fn every_16_bit_number_survives_decoding_and_encoding() {
    for precision in [Precision::F16, Precision::Bf16] {
        for bits in 0..=u16::MAX {
            let value = decoded(precision, &bits.to_ne_bytes())[0];
            if !value.is_nan() {
                assert_eq!(encoded(precision, value), bits.to_ne_bytes(), "{precision} {bits:#06x}");
            }
        }
    }
}
