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
            for other in &inputs[1..] {
                out = broadcast(&out, other).map_err(|problem| problem.in_key("inputs"))?;
            }
            if let Some(operand) = operand {
                out = broadcast(&out, operand).map_err(|problem| problem.in_key("operand"))?;
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
                )
                .in_key("shape"));
            }
            Ok(shape.clone())
        }
        LayerKind::Transpose { perm } => transpose_shape(perm, first),
        LayerKind::ChannelShuffle { groups } => {
            let [c, _, _] = chw(first)?;
            if *groups == 0 || c % groups != 0 {
                let expected = format!("a divisor of {c} channels");
                return Err(Problem::mismatch("groups", expected, groups).in_key("groups"));
            }
            Ok(first.to_vec())
        }
        LayerKind::Softmax { axis } => {
            if *axis >= first.len() {
                return Err(Problem::mismatch("axis", format!("below {}", first.len()), axis).in_key("axis"));
            }
            Ok(first.to_vec())
        }
        LayerKind::Pad { padding, .. } => {
            let [c, h, w] = chw(first)?;
            Ok(vec![
                c,
                bordered("height", h, padding[0], padding[2])?,
                bordered("width", w, padding[1], padding[3])?,
            ])
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
    let what = || format!("inputs of {}", kind.name());
    if fits { Ok(()) } else { Err(Problem::mismatch(what(), expected, found).in_key("inputs")) }
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
        )
        .in_key("groups"));
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
            )
            .in_key("padding"));
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
            )
            .in_key("kernel"));
        }
        let room = padded - extent;
        out[axis] = if ceil_mode { room.div_ceil(s) } else { room / s } + 1;
        if ceil_mode && (out[axis] - 1) * s >= input[axis] + before {
            out[axis] -= 1;
        }
    }
    Ok(out)
}

/// A size with a border added at both ends, or cut off where the border is below 0.
fn bordered(name: &str, size: usize, before: isize, after: isize) -> Result<usize, Problem> {
    let sides = [before, after];
    let cut = sides.iter().map(|side| side.min(&0).unsigned_abs()).fold(0, usize::saturating_add);
    if cut >= size {
        let expected = format!("less than the {size} of the input's {name} cut off");
        return Err(Problem::mismatch("padding", expected, cut).in_key("padding"));
    }
    let mut added = sides.iter().map(|side| side.max(&0).unsigned_abs());
    added.try_fold(size - cut, usize::checked_add).ok_or_else(|| too_large("padding"))
}

fn concat_shape(axis: usize, inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
    let mut out = inputs[0].to_vec();
    if axis >= out.len() {
        return Err(Problem::mismatch("axis", format!("below {}", out.len()), axis).in_key("axis"));
    }
    for (i, input) in inputs.iter().enumerate().skip(1) {
        let fits = input.len() == out.len() && (0..out.len()).all(|d| d == axis || input[d] == out[d]);
        if !fits {
            return Err(Problem::mismatch(
                format!("input {i} of concat"),
                format!("{} except along axis {axis}", shape_text(inputs[0])),
                shape_text(input),
            )
            .in_key("inputs"));
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
        )
        .in_key("perm"));
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

pub(super) fn chw(shape: &[usize]) -> Result<[usize; 3], Problem> {
    <[usize; 3]>::try_from(shape)
        .map_err(|_| Problem::mismatch("input shape", "channels x height x width", shape_text(shape)))
        .map_err(|problem| problem.in_key("inputs"))
}

fn positive(key: &'static str, value: usize) -> Result<usize, Problem> {
    if value > 0 { Ok(value) } else { Err(Problem::mismatch(key, "at least 1", 0).in_key(key)) }
}

pub(super) fn too_large(key: &'static str) -> Problem {
    Problem::mismatch(key, "a size that fits a machine word", "an overflow").in_key(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Activation, Linear, Lrn};

    fn conv(out_channels: usize, kernel: usize) -> Conv {
        Conv {
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [0; 4],
            dilation: [1; 2],
            groups: 1,
            bias: true,
        }
    }

    fn pool(kernel: usize, stride: usize) -> Pool {
        Pool {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [0; 4],
            dilation: [1; 2],
            ceil_mode: false,
            count_include_pad: true,
        }
    }

    fn shape(kind: LayerKind, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        output_shape(&kind, inputs).map_err(|problem| problem.to_string())
    }

    #[test]
    fn convolutions_follow_the_window_formula() {
        // floor((in + pad - dilation * (kernel - 1) - 1) / stride) + 1
        let stem = Conv { stride: [2; 2], padding: [3; 4], ..conv(64, 7) };
        assert_eq!(shape(LayerKind::Conv(stem), &[&[3, 224, 224]]), Ok(vec![64, 112, 112]));
        let alexnet = Conv { stride: [4; 2], padding: [2; 4], ..conv(64, 11) };
        assert_eq!(shape(LayerKind::Conv(alexnet), &[&[3, 224, 224]]), Ok(vec![64, 55, 55]));
        let uneven = Conv { kernel: [1, 7], stride: [1, 3], padding: [0, 1, 0, 2], ..conv(8, 1) };
        assert_eq!(shape(LayerKind::Conv(uneven), &[&[4, 5, 10]]), Ok(vec![8, 5, 3]));
        let dilated = Conv { dilation: [2; 2], padding: [2; 4], ..conv(8, 3) };
        assert_eq!(shape(LayerKind::Conv(dilated), &[&[4, 9, 9]]), Ok(vec![8, 9, 9]));
        assert_eq!(shape(LayerKind::Conv(conv(8, 9)), &[&[4, 9, 9]]), Ok(vec![8, 1, 1]));
    }

    #[test]
    fn pools_round_down_or_up() {
        // 112 + 2 - 3 = 111: 55 strides of 2 and a half.
        let resnet = Pool { padding: [1; 4], ..pool(3, 2) };
        assert_eq!(shape(LayerKind::MaxPool(resnet), &[&[64, 112, 112]]), Ok(vec![64, 56, 56]));
        assert_eq!(shape(LayerKind::MaxPool(pool(3, 2)), &[&[4, 6, 6]]), Ok(vec![4, 2, 2]));
        let ceil = |p| LayerKind::MaxPool(Pool { ceil_mode: true, ..p });
        assert_eq!(shape(ceil(pool(3, 2)), &[&[4, 6, 6]]), Ok(vec![4, 3, 3]));
        // A third window would start at 4, in the bottom padding of a 3-high input that starts at 1: dropped.
        let padded = Pool { padding: [1; 4], ..pool(2, 2) };
        assert_eq!(shape(ceil(padded), &[&[4, 3, 3]]), Ok(vec![4, 2, 2]));
        assert_eq!(shape(LayerKind::GlobalAvgPool, &[&[512, 7, 5]]), Ok(vec![512, 1, 1]));
        assert_eq!(shape(LayerKind::GlobalMaxPool, &[&[512, 7, 5]]), Ok(vec![512, 1, 1]));
    }

    #[test]
    fn linear_changes_the_last_axis() {
        let linear = |n| LayerKind::Linear(Linear { out_features: n, bias: true });
        assert_eq!(shape(linear(10), &[&[84]]), Ok(vec![10]));
        assert_eq!(shape(linear(10), &[&[3, 84]]), Ok(vec![3, 10]));
        assert!(shape(linear(10), &[&[]]).is_err());
        assert!(shape(linear(0), &[&[84]]).is_err());
    }

    #[test]
    fn sums_and_products_broadcast_from_the_right() {
        let add = || LayerKind::Add { operand: None };
        assert_eq!(shape(add(), &[&[4, 8, 8], &[4, 8, 8], &[4, 8, 8]]), Ok(vec![4, 8, 8]));
        let mul = LayerKind::Mul { operand: None };
        assert_eq!(shape(mul, &[&[4, 8, 8], &[4, 1, 1]]), Ok(vec![4, 8, 8]));
        let stored = LayerKind::Add { operand: Some(vec![8]) };
        assert_eq!(shape(stored, &[&[4, 8, 8]]), Ok(vec![4, 8, 8]));
        assert_eq!(
            shape(add(), &[&[4, 8, 8], &[4, 4, 4]]),
            Err("shape of an operand: expected 4x8x8, found 4x4x4".to_string())
        );
        assert!(shape(add(), &[&[4, 8, 8]]).is_err());
        assert!(shape(LayerKind::Add { operand: Some(vec![1]) }, &[&[1], &[1]]).is_err());
    }

    #[test]
    fn concat_adds_up_one_axis_and_needs_the_others_equal() {
        let concat = |axis| LayerKind::Concat { axis };
        assert_eq!(shape(concat(0), &[&[64, 28, 28], &[32, 28, 28]]), Ok(vec![96, 28, 28]));
        assert_eq!(shape(concat(2), &[&[4, 3, 2], &[4, 3, 5]]), Ok(vec![4, 3, 7]));
        assert_eq!(
            shape(concat(0), &[&[64, 28, 28], &[32, 14, 28]]),
            Err("input 1 of concat: expected 64x28x28 except along axis 0, found 32x14x28".to_string())
        );
        assert!(shape(concat(0), &[&[4, 2, 2], &[4, 2]]).is_err());
        assert!(shape(concat(3), &[&[4, 2, 2]]).is_err());
    }

    #[test]
    fn views_and_moves_keep_the_number_of_elements() {
        assert_eq!(shape(LayerKind::Flatten, &[&[16, 5, 5]]), Ok(vec![400]));
        assert_eq!(shape(LayerKind::Reshape { shape: vec![2, 200] }, &[&[16, 5, 5]]), Ok(vec![2, 200]));
        assert!(shape(LayerKind::Reshape { shape: vec![2, 2] }, &[&[16, 5, 5]]).is_err());
        let transpose = |perm: &[usize]| LayerKind::Transpose { perm: perm.to_vec() };
        assert_eq!(shape(transpose(&[2, 0, 1]), &[&[3, 5, 7]]), Ok(vec![7, 3, 5]));
        for perm in [&[0, 0, 1][..], &[0, 1], &[0, 1, 3]] {
            assert!(shape(transpose(perm), &[&[3, 5, 7]]).is_err(), "{perm:?}");
        }
        assert_eq!(shape(LayerKind::ChannelShuffle { groups: 3 }, &[&[6, 2, 2]]), Ok(vec![6, 2, 2]));
        assert!(shape(LayerKind::ChannelShuffle { groups: 4 }, &[&[6, 2, 2]]).is_err());
        assert_eq!(shape(LayerKind::Dropout { p: 0.5 }, &[&[6]]), Ok(vec![6]));
    }

    #[test]
    fn other_kinds_keep_the_shape() {
        let lrn = Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 };
        for kind in [
            LayerKind::Lrn(lrn),
            LayerKind::BatchNorm { epsilon: 1e-5 },
            LayerKind::Softmax { axis: 2 },
            LayerKind::Activation(Activation::Relu),
        ] {
            assert_eq!(shape(kind, &[&[6, 2, 3]]), Ok(vec![6, 2, 3]));
        }
        assert!(shape(LayerKind::Softmax { axis: 1 }, &[&[6]]).is_err());
        assert!(shape(LayerKind::Lrn(Lrn { size: 0, ..lrn }), &[&[6, 2, 3]]).is_err());
        // top, left, bottom, right
        let pad = LayerKind::Pad { padding: [1, 2, 3, 4], value: 0.0 };
        assert_eq!(shape(pad, &[&[6, 10, 20]]), Ok(vec![6, 14, 26]));
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        assert_eq!(
            shape(LayerKind::Conv(conv(8, 5)), &[&[4, 9, 4]]),
            Err("kernel width (with dilation): expected at most the padded input width 4, found 5"
                .to_string())
        );
        assert!(shape(LayerKind::Conv(conv(8, 0)), &[&[4, 9, 9]]).is_err());
        assert!(shape(LayerKind::Conv(Conv { stride: [0, 1], ..conv(8, 3) }), &[&[4, 9, 9]]).is_err());
        assert!(shape(LayerKind::Conv(Conv { groups: 3, ..conv(8, 3) }), &[&[4, 9, 9]]).is_err());
        assert!(shape(LayerKind::Conv(conv(8, 3)), &[&[36]]).is_err());
        let all_padding = Pool { padding: [2, 0, 0, 0], ..pool(2, 2) };
        assert!(shape(LayerKind::MaxPool(all_padding), &[&[4, 9, 9]]).is_err());
    }

    #[test]
    fn sizes_beyond_a_machine_word_are_refused() {
        let huge = usize::MAX;
        let reaches = Conv { dilation: [huge; 2], ..conv(8, 3) };
        assert!(shape(LayerKind::Conv(reaches), &[&[4, 9, 9]]).is_err());
        let padded = Conv { padding: [huge; 4], ..conv(8, 3) };
        assert!(shape(LayerKind::Conv(padded), &[&[4, 9, 9]]).is_err());
        let strided =
            Pool { padding: [huge / 4; 4], stride: [huge - 1; 2], ceil_mode: true, ..pool(huge / 2, 1) };
        assert!(shape(LayerKind::MaxPool(strided), &[&[4, huge / 4, huge / 4]]).is_ok());
        assert!(volume(&[huge, 2]).is_err());
        assert!(volume(&[1 << 60]).is_err());
        assert_eq!(volume(&[1 << 30, (1 << 30) - 1]), Ok((1 << 60) - (1 << 30)));
        assert_eq!(volume(&[]), Ok(1));
    }
}
