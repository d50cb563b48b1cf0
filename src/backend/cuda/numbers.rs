//! Numbers and their order between the host, where they are row-major f32, and the device.

use half::{bf16, f16};
use rayon::prelude::*;

use crate::plan::Precision;

use super::tensor::TensorForm;

/// Numbers as the device stores them, rounded to nearest even.
pub(super) fn encode(values: &[f32], precision: Precision) -> Vec<u8> {
    match precision {
        Precision::F32 | Precision::Tf32 => bytemuck::cast_slice(values).to_vec(),
        Precision::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        Precision::Bf16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
    }
}

/// The numbers behind stored bytes; a last incomplete one is left out.
pub(super) fn decode(bytes: &[u8], precision: Precision) -> Vec<f32> {
    let pairs = || bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match precision {
        Precision::F32 | Precision::Tf32 => bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect(),
        Precision::F16 => pairs().map(|pair| f16::from_le_bytes(pair).to_f32()).collect(),
        Precision::Bf16 => pairs().map(|pair| bf16::from_le_bytes(pair).to_f32()).collect(),
    }
}

/// A row-major tensor of the whole batch as the device holds it.
pub(super) fn to_device(values: &[f32], form: &TensorForm) -> Vec<u8> {
    let item = form.item().max(1);
    let mut placed = vec![0.0; values.len()];
    placed.par_chunks_mut(item).zip(values.par_chunks(item)).for_each(|(placed, values)| {
        values.iter().enumerate().for_each(|(index, &value)| placed[form.place(index)] = value);
    });
    encode(&placed, form.precision)
}

/// A tensor of the device as a row-major one.
pub(super) fn from_device(bytes: &[u8], form: &TensorForm) -> Vec<f32> {
    let item = form.item().max(1);
    let stored = decode(bytes, form.precision);
    let mut values = vec![0.0; stored.len()];
    values.par_chunks_mut(item).zip(stored.par_chunks(item)).for_each(|(values, stored)| {
        values.iter_mut().enumerate().for_each(|(index, value)| *value = stored[form.place(index)]);
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Layout;

    #[test]
    fn numbers_are_stored_as_the_standards_write_them() {
        // 1.0 is 0x3C00 in binary16 and 0x3F80 as the upper half of an f32; -2.5 is 0xC100 and 0xC020.
        assert_eq!(encode(&[1.0, -2.5], Precision::F16), [0x00, 0x3c, 0x00, 0xc1]);
        assert_eq!(encode(&[1.0, -2.5], Precision::Bf16), [0x80, 0x3f, 0x20, 0xc0]);
        // Halfway between 1 and the next bf16, 1 + 2^-7: the even one.
        assert_eq!(encode(&[1.0 + 1.0 / 256.0], Precision::Bf16), [0x80, 0x3f]);
        assert_eq!(encode(&[1.0], Precision::Tf32), [0, 0, 0x80, 0x3f]);
        for precision in Precision::ALL {
            assert_eq!(
                decode(&encode(&[0.5, -3.0, f32::INFINITY], precision), precision),
                [0.5, -3.0, f32::INFINITY]
            );
        }
    }

    #[test]
    fn a_tensor_lies_with_its_channels_last_and_comes_back() {
        let form = TensorForm::new(2, &[2, 1, 3], Precision::F32, Layout::Nhwc);
        let values: Vec<f32> = (0..12).map(|x| x as f32).collect();
        let stored = to_device(&values, &form);
        // The first item is [[0 1 2], [3 4 5]] by channel; by place it is 0 3, 1 4, 2 5.
        assert_eq!(decode(&stored, Precision::F32)[..6], [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(from_device(&stored, &form), values);
    }
}
