//! Tensors of the file: their numbers, in whatever type and field they are kept.

use rten_onnx::onnx::{DataLocation, DataType, TensorProto};

use super::constant::{Constant, check_rank, size};
use crate::network::shape::volume;
use crate::network::{Problem, shape_text};

/// The numbers of a tensor of the file.
///
/// # Errors
///
/// Numbers outside the file, a type that is not numeric, or a count that does not agree with the shape.
pub(super) fn decode(tensor: &TensorProto) -> Result<Constant, Problem> {
    let name = tensor.name.as_deref().unwrap_or_default();
    let what = format!("tensor \"{name}\"");
    check_rank(tensor.dims.len())?;
    if tensor.data_location == Some(DataLocation::EXTERNAL) {
        let file = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some("location"));
        let file = file.and_then(|entry| entry.value.as_deref()).unwrap_or("another file");
        return Err(Problem::invalid(format!(
            "{what}: its numbers lie outside the model, in \"{file}\"; write one file with \
             onnx.save(onnx.load(model), model, save_as_external_data=False)"
        )));
    }
    let shape: Vec<usize> =
        tensor.dims.iter().map(|&d| size(&format!("a size of {what}"), d)).collect::<Result<_, _>>()?;
    let reader = Reader { count: volume(&shape)?, shape: &shape, what: &what, tensor };
    let data_type = tensor.data_type.unwrap_or(DataType(0));
    let signed = |value: i32| i64::from(value);
    Ok(match data_type {
        DataType::FLOAT => {
            Constant::floats(shape.clone(), reader.numbers(f32::from_le_bytes, &tensor.float_data, |x| x)?)
        }
        DataType::DOUBLE => Constant::floats(
            shape.clone(),
            reader.numbers(|b| f64::from_le_bytes(b) as f32, &tensor.double_data, |x| x as f32)?,
        ),
        DataType::FLOAT16 => Constant::floats(
            shape.clone(),
            reader.numbers(|b| half(u16::from_le_bytes(b)), &tensor.int32_data, |x| half(x as u16))?,
        ),
        DataType::BFLOAT16 => Constant::floats(
            shape.clone(),
            reader.numbers(
                |b| brain_float(u16::from_le_bytes(b)),
                &tensor.int32_data,
                |x| brain_float(x as u16),
            )?,
        ),
        DataType::INT64 => {
            Constant::known(shape.clone(), reader.numbers(i64::from_le_bytes, &tensor.int64_data, |x| x)?)
        }
        DataType::INT32 => Constant::known(
            shape.clone(),
            reader.numbers(|b| i32::from_le_bytes(b).into(), &tensor.int32_data, signed)?,
        ),
        DataType::INT8 => Constant::known(
            shape.clone(),
            reader.numbers(|b: [u8; 1]| (b[0] as i8).into(), &tensor.int32_data, signed)?,
        ),
        DataType::UINT8 | DataType::BOOL => Constant::known(
            shape.clone(),
            reader.numbers(|b: [u8; 1]| b[0].into(), &tensor.int32_data, signed)?,
        ),
        other => {
            return Err(Problem::mismatch(
                what,
                "FLOAT, DOUBLE, FLOAT16, BFLOAT16, INT64, INT32, INT8, UINT8 or BOOL",
                format!("type {other}"),
            ));
        }
    })
}

/// Reads the numbers of one tensor, wherever in the message they stand.
struct Reader<'a> {
    count: usize,
    shape: &'a [usize],
    what: &'a str,
    tensor: &'a TensorProto,
}

impl Reader<'_> {
    fn numbers<const N: usize, T, U: Copy>(
        &self,
        from_bytes: impl Fn([u8; N]) -> T,
        typed: &[U],
        from_typed: impl Fn(U) -> T,
    ) -> Result<Vec<T>, Problem> {
        let Some(raw) = &self.tensor.raw_data else {
            self.check(typed.len(), 0)?;
            return Ok(typed.iter().map(|&x| from_typed(x)).collect());
        };
        let raw = raw.borrow();
        let (numbers, rest) = raw.as_chunks::<N>();
        self.check(numbers.len(), rest.len())?;
        Ok(numbers.iter().map(|&bytes| from_bytes(bytes)).collect())
    }

    fn check(&self, found: usize, rest: usize) -> Result<(), Problem> {
        if found == self.count && rest == 0 {
            return Ok(());
        }
        let rest = if rest > 0 { format!(" and {rest} bytes") } else { String::new() };
        Err(Problem::mismatch(
            format!("data of {}", self.what),
            format!("{} elements ({})", self.count, shape_text(self.shape)),
            format!("{found}{rest}"),
        ))
    }
}

/// IEEE 754 binary16: 1 sign, 5 exponent (bias 15) and 10 fraction bits.
fn half(bits: u16) -> f32 {
    let fraction = f32::from(bits & 0x3ff);
    let magnitude = match (bits >> 10) & 0x1f {
        0 => fraction * 2f32.powi(-24),
        31 if fraction > 0.0 => f32::NAN,
        31 => f32::INFINITY,
        exponent => (1.0 + fraction / 1024.0) * 2f32.powi(i32::from(exponent) - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// The upper half of an f32.
fn brain_float(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::half;

    #[test]
    fn half_precision_numbers_are_read_exactly() {
        // From the table of binary16 examples in IEEE 754 and its Wikipedia article.
        for (bits, value) in [
            (0x0000, 0.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(half(bits).to_bits(), f32::to_bits(value), "{bits:#06x}");
        }
        assert!(half(0x7e00).is_nan());
    }
}
