//! Constants: initializers, and what constant folding makes of them.

use std::sync::Arc;

use rten_onnx::onnx::{DataLocation, DataType, TensorProto};

use crate::network::shape::volume;
use crate::network::{LayerKind, Problem, Values, output_shape, shape_text};

/// Elements that one number may be spread over. Integer constants hold shapes and indices, never weights.
const MAX_SPREAD: usize = 1 << 16;

/// An integer of a shape computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integer {
    /// A number.
    Known(i64),
    /// The batch size, which the file does not decide.
    Batch,
}

/// The numbers of a constant, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Floats(Arc<[f32]>),
    /// One number everywhere; made by ConstantOfShape and never spread out.
    Fill(f32),
    Integers(Arc<[Integer]>),
}

/// A tensor that is known before the network runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

impl Constant {
    pub(super) fn floats(shape: Vec<usize>, floats: impl Into<Arc<[f32]>>) -> Self {
        Self { shape, data: Data::Floats(floats.into()) }
    }

    pub(super) fn integers(shape: Vec<usize>, integers: impl Into<Arc<[Integer]>>) -> Self {
        Self { shape, data: Data::Integers(integers.into()) }
    }

    pub(super) fn known(shape: Vec<usize>, integers: impl IntoIterator<Item = i64>) -> Self {
        Self::integers(shape, integers.into_iter().map(Integer::Known).collect::<Vec<_>>())
    }

    /// One float everywhere.
    pub(super) fn fill(shape: Vec<usize>, value: f32) -> Self {
        Self { shape, data: Data::Fill(value) }
    }

    /// One integer everywhere.
    pub(super) fn fill_integer(shape: Vec<usize>, value: i64) -> Result<Self, Problem> {
        let count = spreadable(&shape)?;
        Ok(Self::integers(shape, vec![Integer::Known(value); count]))
    }

    /// The same numbers under another shape of as many elements.
    pub(super) fn with_shape(&self, shape: Vec<usize>) -> Self {
        Self { shape, data: self.data.clone() }
    }

    /// Elements held in memory.
    pub(super) fn stored(&self) -> usize {
        match &self.data {
            Data::Floats(floats) => floats.len(),
            Data::Fill(_) => 1,
            Data::Integers(integers) => integers.len(),
        }
    }

    /// The numbers as values of a layer.
    pub(super) fn values(&self, what: &str) -> Result<Values, Problem> {
        match &self.data {
            Data::Floats(floats) => Ok(Values::Stored(Arc::clone(floats))),
            Data::Fill(value) => Ok(Values::Fill(*value)),
            Data::Integers(_) => Err(Problem::mismatch(what, "floating-point numbers", "integers")),
        }
    }

    /// The numbers as integers, of which one may be the batch.
    pub(super) fn as_integers(&self, what: &str) -> Result<&[Integer], Problem> {
        match &self.data {
            Data::Integers(integers) => Ok(integers),
            _ => Err(Problem::mismatch(what, "integers", "floating-point numbers")),
        }
    }

    /// The numbers as integers, none of which may be the batch.
    pub(super) fn as_known(&self, what: &str) -> Result<Vec<i64>, Problem> {
        let known = |integer: &Integer| match integer {
            Integer::Known(value) => Ok(*value),
            Integer::Batch => Err(Problem::mismatch(what, "numbers of the file", "the batch size")),
        };
        self.as_integers(what)?.iter().map(known).collect()
    }

    /// The floats, a fill spread out.
    pub(super) fn as_floats(&self, what: &str) -> Result<Arc<[f32]>, Problem> {
        match &self.data {
            Data::Floats(floats) => Ok(Arc::clone(floats)),
            Data::Fill(value) => Ok(vec![*value; spreadable(&self.shape)?].into()),
            Data::Integers(_) => Err(Problem::mismatch(what, "floating-point numbers", "integers")),
        }
    }

    /// The only number of a float constant.
    pub(super) fn as_float(&self, what: &str) -> Result<f32, Problem> {
        let one = volume(&self.shape)? == 1;
        match &self.data {
            Data::Fill(value) if one => Ok(*value),
            Data::Floats(floats) if one => floats.first().copied().ok_or_else(|| not_one(what, &self.shape)),
            Data::Integers(_) => Err(Problem::mismatch(what, "a floating-point number", "an integer")),
            _ => Err(not_one(what, &self.shape)),
        }
    }

    /// The axes in another order.
    pub(super) fn permuted(&self, perm: &[usize]) -> Result<Self, Problem> {
        let shape = output_shape(&LayerKind::Transpose { perm: perm.to_vec() }, &[&self.shape])?;
        let strides = strides(&self.shape);
        let steps: Vec<usize> = perm.iter().map(|&p| strides[p]).collect();
        let data = match &self.data {
            Data::Floats(floats) => Data::Floats(gather(floats, &shape, &steps)?),
            Data::Integers(integers) => Data::Integers(gather(integers, &shape, &steps)?),
            Data::Fill(value) => Data::Fill(*value),
        };
        Ok(Self { shape, data })
    }
}

fn not_one(what: &str, shape: &[usize]) -> Problem {
    Problem::mismatch(what, "one number", format!("shape {}", shape_text(shape)))
}

fn spreadable(shape: &[usize]) -> Result<usize, Problem> {
    let count = volume(shape)?;
    if count > MAX_SPREAD {
        return Err(Problem::mismatch(
            "elements of a constant that is computed with",
            format!("at most {MAX_SPREAD}"),
            format!("{count} ({})", shape_text(shape)),
        ));
    }
    Ok(count)
}

/// Distance in memory between neighbours along each axis.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        // Saturates only beside an axis of 0, where nothing is read.
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// The elements of `from` in row-major order of `shape`, where a step along axis i moves `steps[i]`.
fn gather<T: Copy>(from: &[T], shape: &[usize], steps: &[usize]) -> Result<Arc<[T]>, Problem> {
    let count = volume(shape)?;
    let mut to = Vec::with_capacity(count);
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    while to.len() < count {
        to.push(from[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= steps[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    Ok(to.into())
}

/// `f` of the elements of two arrays, broadcast by NumPy's rule; the result may be larger than both only up
/// to [`MAX_SPREAD`] elements.
pub(super) fn zip<T: Copy, U>(
    (a, a_shape): (&[T], &[usize]),
    (b, b_shape): (&[T], &[usize]),
    f: impl Fn(T, T) -> Result<U, Problem>,
) -> Result<(Vec<usize>, Vec<U>), Problem> {
    let shape = broadcast_shape(a_shape, b_shape)?;
    if volume(&shape)? > a.len().max(b.len()) {
        spreadable(&shape)?;
    }
    let steps = |of: &[usize]| -> Vec<usize> {
        let strides = strides(of);
        let missing = shape.len() - of.len();
        (0..shape.len())
            .map(|i| i.checked_sub(missing).map_or(0, |j| if of[j] == 1 { 0 } else { strides[j] }))
            .collect()
    };
    let a = gather(a, &shape, &steps(a_shape))?;
    let b = gather(b, &shape, &steps(b_shape))?;
    let out = a.iter().zip(b.iter()).map(|(&x, &y)| f(x, y)).collect::<Result<_, _>>()?;
    Ok((shape, out))
}

/// The shape that two shapes broadcast to.
pub(super) fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Problem> {
    output_shape(&LayerKind::Add { operand: None }, &[a, b])
}

/// A size that the file states: not negative, and fit for this machine.
pub(super) fn size(what: &str, value: i64) -> Result<usize, Problem> {
    usize::try_from(value).map_err(|_| Problem::mismatch(what, "at least 0", value))
}

/// The numbers of a tensor of the file.
///
/// # Errors
///
/// Numbers outside the file, a type that is not numeric, or a count that does not agree with the shape.
pub(super) fn decode(tensor: &TensorProto) -> Result<Constant, Problem> {
    let name = tensor.name.as_deref().unwrap_or_default();
    let what = format!("tensor \"{name}\"");
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
    use super::*;

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

    #[test]
    fn a_permuted_constant_is_the_transposed_matrix() {
        let matrix = Constant::floats(vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let expected = Constant::floats(vec![3, 2], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(matrix.permuted(&[1, 0]).unwrap(), expected);
    }

    #[test]
    fn zip_broadcasts_as_numpy_does() {
        let sum = |a: i64, b: i64| Ok(a + b);
        let (shape, out) = zip((&[10, 20], &[2, 1]), (&[1, 2, 3], &[3]), sum).unwrap();
        assert_eq!((shape, out), (vec![2, 3], vec![11, 12, 13, 21, 22, 23]));
    }
}
