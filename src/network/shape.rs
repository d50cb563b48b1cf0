//! Shape inference: what each kind makes of its inputs' shapes, or why it cannot.
//!
//! Shapes leave out the batch. A convolution of C x H x W gives out_channels x H' x W'.

use super::error::Problem;
use super::layer::{Conv, LayerKind, Padding, Pool, Size2};

/// A shape as people write it: `64x56x56`; `scalar` for no axes.
pub fn shape_text(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".to_string();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// The number of elements, or the problem that it does not fit a machine word.
pub(crate) fn volume(shape: &[usize]) -> Result<usize, Problem> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        // Byte counts and signed offsets must fit as well.
        .filter(|&n| n <= (isize::MAX as usize) / 8)
        .ok_or_else(|| {
            Problem::mismatch("size of a tensor", "a count of elements below 2^60", shape_text(shape))
        })
}

/// The output shape of a kind over its inputs' shapes.
///
/// # Errors
///
/// The count, rank or size of the inputs does not fit, with what was expected and what was found.
pub fn output_shape(kind: &LayerKind, inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
    check_input_count(kind, inputs.len())?;
    let first = inputs[0];
    match kind {
        LayerKind::Conv(conv) => conv_shape(conv, first),
        LayerKind::Linear(linear) => {
            if first.is_empty() {
                return Err(Problem::mismatch("input of linear", "at least one axis", "scalar"));
            }
            let mut out = first.to_vec();
            out[first.len() - 1] = positive("out_features", linear.out_features)?;
            Ok(out)
        }
        LayerKind::MaxPool(pool) | LayerKind::AvgPool(pool) => pool_shape(pool, first),
        LayerKind::GlobalAvgPool | LayerKind::GlobalMaxPool => {
            let [c, _, _] = chw(first)?;
            Ok(vec![c, 1, 1])
        }
        LayerKind::BatchNorm { .. } => {
            if first.is_empty() {
                return Err(Problem::mismatch("input of batch_norm", "a channel axis", "scalar"));
            }
            Ok(first.to_vec())
        }
        LayerKind::Lrn(lrn) => {
            chw(first)?;
            positive("size", lrn.size)?;
            Ok(first.to_vec())
        }
        LayerKind::Add { operand } | LayerKind::Mul { operand } => {
            let mut out = first.to_vec();
            for other in inputs[1..].iter().copied().chain(operand.as_deref()) {
                out = broadcast(&out, other)?;
            }
            Ok(out)
        }
        LayerKind::Concat { axis } => concat_shape(*axis, inputs),
        LayerKind::Flatten => Ok(vec![volume(first)?]),
        LayerKind::Reshape { shape } => {
            if volume(shape)? != volume(first)? {
                return Err(Problem::mismatch(
                    "reshape keeps the number of elements",
                    format!("{} elements ({})", volume(first)?, shape_text(first)),
                    format!("{} ({})", volume(shape)?, shape_text(shape)),
                ));
            }
            Ok(shape.clone())
        }
        LayerKind::Transpose { perm } => transpose_shape(perm, first),
        LayerKind::ChannelShuffle { groups } => {
            let [c, _, _] = chw(first)?;
            if *groups == 0 || c % groups != 0 {
                return Err(Problem::mismatch("groups", format!("a divisor of {c} channels"), groups));
            }
            Ok(first.to_vec())
        }
        LayerKind::Softmax { axis } => {
            if *axis >= first.len() {
                return Err(Problem::mismatch("axis", format!("below {}", first.len()), axis));
            }
            Ok(first.to_vec())
        }
        LayerKind::Pad { padding, .. } => {
            let [c, h, w] = chw(first)?;
            let grow = |size: usize, a: usize, b: usize| {
                size.checked_add(a).and_then(|s| s.checked_add(b)).ok_or_else(|| too_large("padding"))
            };
            Ok(vec![c, grow(h, padding[0], padding[2])?, grow(w, padding[1], padding[3])?])
        }
        LayerKind::Activation(_) | LayerKind::Dropout { .. } => Ok(first.to_vec()),
    }
}

fn check_input_count(kind: &LayerKind, found: usize) -> Result<(), Problem> {
    let (expected, fits) = match kind {
        LayerKind::Add { operand: None } | LayerKind::Mul { operand: None } => ("two or more", found >= 2),
        LayerKind::Concat { .. } => ("one or more", found >= 1),
        _ => ("one", found == 1),
    };
    if fits { Ok(()) } else { Err(Problem::mismatch(format!("inputs of {}", kind.name()), expected, found)) }
}

fn conv_shape(conv: &Conv, input: &[usize]) -> Result<Vec<usize>, Problem> {
    let [c, h, w] = chw(input)?;
    let k = positive("out_channels", conv.out_channels)?;
    let groups = positive("groups", conv.groups)?;
    if c % groups != 0 || k % groups != 0 {
        return Err(Problem::mismatch(
            "groups",
            format!("a divisor of {c} input channels and {k} output channels"),
            groups,
        ));
    }
    let [oh, ow] = window_output([h, w], conv.kernel, conv.stride, conv.padding, conv.dilation, false)?;
    Ok(vec![k, oh, ow])
}

fn pool_shape(pool: &Pool, input: &[usize]) -> Result<Vec<usize>, Problem> {
    let [c, h, w] = chw(input)?;
    let p = pool.padding;
    for (axis, before, after) in [(0, p[0], p[2]), (1, p[1], p[3])] {
        let reach = (pool.kernel[axis].saturating_sub(1)).saturating_mul(pool.dilation[axis]);
        if before.max(after) > reach {
            // A window inside the padding would have no element to take a maximum or mean of.
            return Err(Problem::mismatch(
                "padding of a pool",
                format!("at most {reach} (less than its kernel)"),
                before.max(after),
            ));
        }
    }
    let [oh, ow] = window_output([h, w], pool.kernel, pool.stride, p, pool.dilation, pool.ceil_mode)?;
    Ok(vec![c, oh, ow])
}

/// Output height and width of a moving window: floor((in + pad - extent) / stride) + 1.
fn window_output(
    input: Size2,
    kernel: Size2,
    stride: Size2,
    padding: Padding,
    dilation: Size2,
    ceil_mode: bool,
) -> Result<Size2, Problem> {
    let mut out = [0; 2];
    for axis in 0..2 {
        let name = ["height", "width"][axis];
        let k = positive("kernel", kernel[axis])?;
        let s = positive("stride", stride[axis])?;
        let d = positive("dilation", dilation[axis])?;
        let (before, after) = (padding[axis], padding[axis + 2]);
        let extent =
            (k - 1).checked_mul(d).and_then(|e| e.checked_add(1)).ok_or_else(|| too_large("kernel"))?;
        let padded = input[axis]
            .checked_add(before)
            .and_then(|n| n.checked_add(after))
            .ok_or_else(|| too_large("padding"))?;
        if extent > padded {
            return Err(Problem::mismatch(
                format!("kernel {name} (with dilation)"),
                format!("at most the padded input {name} {padded}"),
                extent,
            ));
        }
        let room = padded - extent;
        out[axis] = if ceil_mode { room.div_ceil(s) } else { room / s } + 1;
        if ceil_mode && (out[axis] - 1) * s >= input[axis] + before {
            out[axis] -= 1;
        }
    }
    Ok(out)
}

fn concat_shape(axis: usize, inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
    let mut out = inputs[0].to_vec();
    if axis >= out.len() {
        return Err(Problem::mismatch("axis", format!("below {}", out.len()), axis));
    }
    for (i, input) in inputs.iter().enumerate().skip(1) {
        let fits = input.len() == out.len() && (0..out.len()).all(|d| d == axis || input[d] == out[d]);
        if !fits {
            return Err(Problem::mismatch(
                format!("input {i} of concat"),
                format!("{} except along axis {axis}", shape_text(inputs[0])),
                shape_text(input),
            ));
        }
        out[axis] = out[axis].checked_add(input[axis]).ok_or_else(|| too_large("concat"))?;
    }
    Ok(out)
}

fn transpose_shape(perm: &[usize], input: &[usize]) -> Result<Vec<usize>, Problem> {
    let mut seen = vec![false; input.len()];
    let valid = perm.len() == input.len()
        && perm.iter().all(|&p| p < seen.len() && !std::mem::replace(&mut seen[p], true));
    if !valid {
        return Err(Problem::mismatch(
            "perm",
            format!("each of the {} axes of {} once", input.len(), shape_text(input)),
            format!("{perm:?}"),
        ));
    }
    Ok(perm.iter().map(|&p| input[p]).collect())
}

/// NumPy's rule: axes are aligned from the right, and an axis of 1 stretches.
fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Problem> {
    let rank = a.len().max(b.len());
    let axis = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank)
        .map(|i| match (axis(a, i), axis(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(Problem::mismatch("shape of an operand", shape_text(a), shape_text(b))),
        })
        .collect()
}

fn chw(shape: &[usize]) -> Result<[usize; 3], Problem> {
    <[usize; 3]>::try_from(shape)
        .map_err(|_| Problem::mismatch("input shape", "channels x height x width", shape_text(shape)))
}

fn positive(what: &str, value: usize) -> Result<usize, Problem> {
    if value > 0 { Ok(value) } else { Err(Problem::mismatch(what, "at least 1", 0)) }
}

fn too_large(what: &str) -> Problem {
    Problem::mismatch(what, "a size that fits a machine word", "an overflow")
}
