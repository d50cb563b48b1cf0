//! Operators that move a window over height and width, or border them: Conv, the pools, ReduceMean, Pad.

use super::constant::{Constant, size};
use super::node::{Node, Outcome, Step, Tensor};
use crate::network::{Conv, LayerKind, Padding, Pool, Problem, Role, Size2, shape_text};
use crate::network::{Values, same};

/// How a window moves.
struct Window {
    stride: Size2,
    padding: Padding,
    dilation: Size2,
}

/// Height and width of N x C x H x W; other ranks are refused.
fn height_and_width(node: &Node, input: &Tensor) -> Result<Size2, Problem> {
    match *input.shape {
        [_, height, width] => Ok([height, width]),
        _ => Err(Problem::mismatch(
            format!("axes of height, width and so on that {} works on", node.op),
            "2 (N x C x H x W); 1-D and 3-D are not supported",
            format!("{} (N x {})", input.shape.len().saturating_sub(1), shape_text(&input.shape)),
        )),
    }
}

fn window(node: &Node, input: Size2, kernel: Size2) -> Result<Window, Problem> {
    let stride = node.pair("strides")?.unwrap_or([1, 1]);
    let dilation = node.pair("dilations")?.unwrap_or([1, 1]);
    let padding = match node.text("auto_pad", "NOTSET")? {
        "NOTSET" | "" => match node.ints("pads")? {
            Some(pads) => padding(node, pads)?,
            None => [0; 4],
        },
        "VALID" => [0; 4],
        same @ ("SAME_UPPER" | "SAME_LOWER") => {
            let mut padding = [0; 4];
            for axis in 0..2 {
                let total = same::total(input[axis], kernel[axis], stride[axis], dilation[axis])?;
                let (small, large) = (total / 2, total.div_ceil(2));
                let (before, after) = if same == "SAME_UPPER" { (small, large) } else { (large, small) };
                (padding[axis], padding[axis + 2]) = (before, after);
            }
            padding
        }
        other => {
            let expected = "NOTSET, SAME_UPPER, SAME_LOWER or VALID";
            return Err(Problem::mismatch("attribute \"auto_pad\"", expected, format!("\"{other}\"")));
        }
    };
    Ok(Window { stride, padding, dilation })
}

/// Top, left, bottom and right, the order of ONNX and of [`Padding`].
fn padding(node: &Node, pads: &[i64]) -> Result<Padding, Problem> {
    let wrong = || {
        Problem::mismatch(
            format!("pads of {}", node.op),
            "four numbers of at least 0 (top, left, bottom, right)",
            format!("{pads:?}"),
        )
    };
    let mut padding = [0; 4];
    for (to, from) in padding.iter_mut().zip(<[i64; 4]>::try_from(pads).map_err(|_| wrong())?) {
        *to = usize::try_from(from).map_err(|_| wrong())?;
    }
    Ok(padding)
}

pub(super) fn conv(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    let [height, width] = height_and_width(node, input)?;
    let weights = node.required_constant(1)?;
    let [out_channels, of_group, kh, kw] = *weights.shape else {
        return Err(Problem::mismatch("weights of Conv", "four axes", shape_text(&weights.shape)));
    };
    let kernel = [kh, kw];
    if let Some(stated) = node.pair("kernel_shape")?
        && stated != kernel
    {
        return Err(Problem::mismatch(
            "attribute \"kernel_shape\"",
            shape_text(&kernel),
            shape_text(&stated),
        ));
    }
    if out_channels == 0 || kh == 0 || kw == 0 {
        return Err(Problem::mismatch("weights of Conv", "sizes of at least 1", shape_text(&weights.shape)));
    }
    let groups = size("group", node.int("group")?.unwrap_or(1))?;
    if of_group.checked_mul(groups) != Some(input.shape[0]) {
        return Err(Problem::mismatch(
            "input channels",
            format!("{of_group} x {groups} groups, as in the weights ({})", shape_text(&weights.shape)),
            input.shape[0],
        ));
    }
    let bias = node.constant(2)?;
    let Window { stride, padding, dilation } = window(node, [height, width], kernel)?;
    let conv = Conv { out_channels, kernel, stride, padding, dilation, groups, bias: bias.is_some() };
    let mut step = Step::new(LayerKind::Conv(conv), &[input]).with(Role::Weight, weight_values(weights)?);
    if let Some(bias) = bias {
        step = step.with(Role::Bias, vector(bias, "bias of Conv", out_channels)?);
    }
    Ok(step.into())
}

/// The values of weights. One number everywhere, from ConstantOfShape, is a placeholder in a file stripped of
/// its weights; energy depends on the data (equal operands toggle no wires), so the numbers are drawn instead.
pub(super) fn weight_values(weights: &Constant) -> Result<Values, Problem> {
    Ok(match weights.values("weights")? {
        Values::Fill(_) => Values::Random,
        values => values,
    })
}

/// The values of a constant with one axis of this length.
pub(super) fn vector(constant: &Constant, what: &str, length: usize) -> Result<Values, Problem> {
    if constant.shape != [length] {
        return Err(Problem::mismatch(what, format!("shape {length}"), shape_text(&constant.shape)));
    }
    constant.values(what)
}

pub(super) fn pool(node: &Node, kind: fn(Pool) -> LayerKind) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    let spatial = height_and_width(node, input)?;
    let kernel = node.pair("kernel_shape")?.ok_or_else(|| {
        Problem::mismatch("attribute \"kernel_shape\"", "two numbers (height, width)", "nothing")
    })?;
    let Window { stride, padding, dilation } = window(node, spatial, kernel)?;
    let pool = Pool {
        kernel,
        stride,
        padding,
        dilation,
        ceil_mode: node.flag("ceil_mode", false)?,
        count_include_pad: node.flag("count_include_pad", false)?,
    };
    Ok(Step::new(kind(pool), &[input]).into())
}

pub(super) fn global_pool(node: &Node, kind: LayerKind) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    height_and_width(node, input)?;
    Ok(Step::new(kind, &[input]).into())
}

/// ReduceMean over height and width, which is how some exporters write a global average pool.
pub(super) fn reduce_mean(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    height_and_width(node, input)?;
    let axes = node.ints_or_input("axes", 1)?.unwrap_or_default();
    let mut sorted: Vec<usize> = axes.iter().map(|&a| node.axis(a, 4)).collect::<Result<_, _>>()?;
    sorted.sort_unstable();
    if sorted != [2, 3] {
        let expected = "2, 3 (height and width): other means are not supported";
        return Err(Problem::mismatch("axes of ReduceMean", expected, format!("{axes:?}")));
    }
    let mut steps = vec![Step::new(LayerKind::GlobalAvgPool, &[input])];
    if !node.flag("keepdims", true)? {
        steps.push(Step::then(LayerKind::Flatten));
    }
    Ok(Outcome::Layers(steps))
}

pub(super) fn pad(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    height_and_width(node, input)?;
    let mode = node.text("mode", "constant")?;
    if mode != "constant" {
        return Err(Problem::mismatch("mode of Pad", "constant", mode));
    }
    let missing = || Problem::mismatch("pads of Pad", "numbers", "nothing");
    let pads = node.ints_or_input("pads", 1)?.ok_or_else(missing)?;
    let value = match node.constant(2)? {
        Some(value) => value.as_float("value of Pad")?,
        None => node.float("value", 0.0)?,
    };
    let axes: Vec<usize> = match node.constant(3)? {
        Some(axes) => {
            axes.as_known("axes of Pad")?.iter().map(|&a| node.axis(a, 4)).collect::<Result<_, _>>()?
        }
        None => (0..4).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Problem::mismatch("pads of Pad", format!("{} numbers", 2 * axes.len()), pads.len()));
    }
    let (before, after) = pads.split_at(axes.len());
    let mut spatial = [0; 4];
    for ((&axis, &before), &after) in axes.iter().zip(before).zip(after) {
        match axis {
            2 | 3 => (spatial[axis - 2], spatial[axis]) = (before, after),
            _ if before == 0 && after == 0 => {}
            _ => {
                let expected = "0 on the axes of batch and channels";
                return Err(Problem::mismatch("pads of Pad", expected, format!("{pads:?}")));
            }
        }
    }
    let padding = padding(node, &spatial)?.map(usize::cast_signed);
    Ok(Step::new(LayerKind::Pad { padding, value }, &[input]).into())
}
