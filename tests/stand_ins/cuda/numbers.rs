//! How numbers lie in memory: binary32, binary16, bfloat16, and what TensorFloat-32 keeps of a binary32.

use cudarc::cudnn::sys::cudnnDataType_t as D;

/// A type of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    F32,
    F16,
    Bf16,
}

impl Number {
    /// Of cuDNN's types those that are emulated.
    pub(crate) fn of_cudnn(code: u32) -> Option<Self> {
        match code {
            c if c == D::CUDNN_DATA_FLOAT as u32 => Some(Self::F32),
            c if c == D::CUDNN_DATA_HALF as u32 => Some(Self::F16),
            c if c == D::CUDNN_DATA_BFLOAT16 as u32 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Of `cudaDataType` (library_types.h): CUDA_R_32F 0, CUDA_R_16F 2, CUDA_R_16BF 14.
    pub(crate) fn of_cuda(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::F32),
            2 => Some(Self::F16),
            14 => Some(Self::Bf16),
            _ => None,
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// All numbers in these bytes.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let halves = bytes.as_chunks::<2>().0.iter().map(|half| u16::from_le_bytes(*half));
        match self {
            Self::F32 => bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            Self::F16 => halves.map(from_f16).collect(),
            Self::Bf16 => halves.map(|half| f32::from_bits(u32::from(half) << 16)).collect(),
        }
    }

    /// The bytes of a number, rounded to nearest, ties to even.
    pub(crate) fn encode(self, value: f32, to: &mut [u8]) {
        match self {
            Self::F32 => to.copy_from_slice(&value.to_le_bytes()),
            Self::F16 => to.copy_from_slice(&to_f16(value).to_le_bytes()),
            Self::Bf16 => to.copy_from_slice(&to_bf16(value).to_le_bytes()),
        }
    }
}

fn from_f16(half: u16) -> f32 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(half >> 10 & 31), f32::from(half & 1023));
    sign * match exponent {
        0 => fraction * 2.0_f32.powi(-24),
        31 if fraction > 0.0 => f32::NAN,
        31 => f32::INFINITY,
        _ => (1024.0 + fraction) * 2.0_f32.powi(exponent - 25),
    }
}

fn to_f16(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = value.abs();
    if value.is_nan() {
        return 0x7fff;
    }
    // Half-way between the largest binary16, 65504, and the next that there would be; the tie is even there.
    if magnitude >= 65_520.0 {
        return sign | 0x7c00;
    }
    let exponent = (magnitude.to_bits() >> 23) as i32 - 127;
    let unit = 2.0_f32.powi(exponent.max(-14) - 10);
    let units = (magnitude / unit).round_ties_even() as u16;
    // Below 2^-14 units are the bits; above, the leading one adds to the exponent, and a carry goes there by itself.
    if exponent < -14 { sign | units } else { sign | (((exponent + 14) << 10) as u16 + units) }
}

fn to_bf16(value: f32) -> u16 {
    if value.is_nan() {
        return 0x7fff;
    }
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// What a tensor core sees of a binary32 in TF32: ten bits of its fraction (NVIDIA A100 whitepaper), rounded to nearest.
pub(crate) fn to_tf32(value: f32) -> f32 {
    if !value.is_finite() {
        return value;
    }
    let bits = value.to_bits();
    f32::from_bits(bits.wrapping_add(0xfff + (bits >> 13 & 1)) & !0x1fff)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "these sums and roundings are exact")]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_to_nearest_with_ties_to_even() {
        // Spacing of binary16 at 1 is 2^-10; of bfloat16 2^-7; of TF32 2^-10.
        let half = |value| from_f16(to_f16(value));
        assert_eq!(
            [half(1.0), half(1.0 + 2.0_f32.powi(-11)), half(1.0 + 3.0 * 2.0_f32.powi(-11))],
            [1.0, 1.0, 1.0 + 2.0_f32.powi(-9)]
        );
        assert_eq!(
            [half(65_504.0), half(65_519.0), half(2.0_f32.powi(-24))],
            [65_504.0, 65_504.0, 2.0_f32.powi(-24)]
        );
        assert!(half(65_520.0).is_infinite());
        assert_eq!(to_bf16(1.0 + 2.0_f32.powi(-8)), 0x3f80);
        assert_eq!(to_bf16(1.0 + 3.0 * 2.0_f32.powi(-8)), 0x3f82);
        assert_eq!(to_tf32(1.0 + 2.0_f32.powi(-11)), 1.0);
    }
}
