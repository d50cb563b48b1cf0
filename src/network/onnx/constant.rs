//! Constants: initializers, and what constant folding makes of them.

use std::sync::Arc;

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

/// Real networks have at most six axes; a bound keeps the work for a node in proportion to the file.
pub(super) fn check_rank(rank: usize) -> Result<(), Problem> {
    const MAX: usize = 32;
    if rank > MAX {
        Err(Problem::mismatch("axes of a tensor", format!("at most {MAX}"), rank))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
