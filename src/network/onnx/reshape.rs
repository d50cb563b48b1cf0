//! Operators that move or rename axes: Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Concat, Shape.

use super::constant::{Integer, size};
use super::fold;
use super::node::{Node, Outcome, Step, Tensor, Value};
use crate::network::shape::volume;
use crate::network::{LayerKind, Problem, shape_text};

/// Reshape of a tensor: the first entry must be the batch, the others one item of it.
pub(super) fn reshape(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    let target = node.required_constant(1)?.as_integers("target of Reshape")?;
    let allow_zero = node.flag("allowzero", false)?;
    let text = || {
        let entry = |integer: &Integer| match integer {
            Integer::Known(value) => value.to_string(),
            Integer::Batch => "N".to_string(),
        };
        target.iter().map(entry).collect::<Vec<_>>().join("x")
    };
    let mixes = || node.mixes_items(&format!("to {} moves data across axis 0", text()), &input.shape);
    let (first, rest) = target.split_first().ok_or_else(mixes)?;
    let keeps_batch = match first {
        Integer::Batch | Integer::Known(-1) => true,
        Integer::Known(0) => !allow_zero,
        Integer::Known(value) => node.graph.batch.is_some_and(|batch| batch as i64 == *value),
    };
    let known = |integer: &Integer| match integer {
        Integer::Known(value) => Ok(*value),
        Integer::Batch => Err(mixes()),
    };
    let rest: Vec<i64> = rest.iter().map(known).collect::<Result<_, _>>()?;
    if !keeps_batch || (*first == Integer::Known(-1) && rest.contains(&-1)) {
        return Err(mixes());
    }
    let shape = target_shape(&rest, &input.shape, allow_zero)?;
    if volume(&shape)? != volume(&input.shape)? {
        return Err(mixes());
    }
    Ok(Step::new(LayerKind::Reshape { shape }, &[input]).into())
}

/// The shape that a Reshape target means: 0 copies the input's size, one -1 takes what is left.
pub(super) fn target_shape(target: &[i64], input: &[usize], allow_zero: bool) -> Result<Vec<usize>, Problem> {
    let wrong = || {
        let found = target.iter().map(i64::to_string).collect::<Vec<_>>().join("x");
        let expected =
            format!("a shape of {} elements ({})", input.iter().product::<usize>(), shape_text(input));
        Problem::mismatch("target of Reshape", expected, found)
    };
    let mut shape = Vec::with_capacity(target.len());
    let mut rest = None;
    for (axis, &entry) in target.iter().enumerate() {
        shape.push(match entry {
            0 if !allow_zero => *input.get(axis).ok_or_else(wrong)?,
            -1 if rest.is_none() => {
                rest = Some(axis);
                1
            }
            _ => usize::try_from(entry).map_err(|_| wrong())?,
        });
    }
    if let Some(axis) = rest {
        let (known, all) = (volume(&shape)?, volume(input)?);
        if known == 0 || all % known != 0 {
            return Err(wrong());
        }
        shape[axis] = all / known;
    }
    // Over a tensor the caller says more about a count that differs: items that would mix.
    Ok(shape)
}

pub(super) fn flatten(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    let axis = node.int("axis")?.unwrap_or(1);
    let rank = input.shape.len() + 1;
    let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    if from_start != 1 {
        return Err(node.mixes_items(&format!("with axis {axis} joins axis 0 with others"), &input.shape));
    }
    Ok(Step::new(LayerKind::Flatten, &[input]).into())
}

/// Squeeze and Unsqueeze of a tensor: a Reshape.
pub(super) fn resize(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    // The batch stands for itself as a size that is never removed.
    let mut full = vec![usize::MAX];
    full.extend(&input.shape);
    if node.op == "Squeeze" && axes(node)?.is_none() && node.graph.batch == Some(1) {
        return Err(node.mixes_items("without axes would remove axis 0", &input.shape));
    }
    let resized = resized(node, &full)?;
    match resized.split_first() {
        Some((&usize::MAX, item)) => {
            Ok(Step::new(LayerKind::Reshape { shape: item.to_vec() }, &[input]).into())
        }
        _ => Err(node.mixes_items("works on axis 0", &input.shape)),
    }
}

fn axes(node: &Node) -> Result<Option<Vec<i64>>, Problem> {
    node.ints_or_input("axes", 1)
}

/// The shape after Squeeze or Unsqueeze.
pub(super) fn resized(node: &Node, shape: &[usize]) -> Result<Vec<usize>, Problem> {
    let axes = axes(node)?;
    if node.op == "Squeeze" {
        let Some(axes) = axes else {
            return Ok(shape.iter().copied().filter(|&d| d != 1).collect());
        };
        let axes = axes.into_iter().map(|a| node.axis(a, shape.len())).collect::<Result<Vec<_>, _>>()?;
        if let Some(&axis) = axes.iter().find(|&&axis| shape[axis] != 1) {
            let found =
                if shape[axis] == usize::MAX { "the batch".to_string() } else { shape[axis].to_string() };
            return Err(Problem::mismatch(format!("size of axis {axis} that Squeeze removes"), 1, found));
        }
        return Ok((0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect());
    }
    let axes = axes.ok_or_else(|| Problem::mismatch("axes of Unsqueeze", "at least one", "none"))?;
    let rank = shape.len() + axes.len();
    let mut new = vec![None; rank];
    for axis in axes {
        if new[node.axis(axis, rank)?].replace(1).is_some() {
            return Err(Problem::invalid(format!("axes of Unsqueeze name axis {axis} twice")));
        }
    }
    let mut old = shape.iter().copied();
    Ok(new.into_iter().filter_map(|size| size.or_else(|| old.next())).collect())
}

pub(super) fn transpose(node: &Node) -> Result<Outcome, Problem> {
    let input = node.tensor(0)?;
    let perm = permutation(node, input.shape.len() + 1)?;
    match perm.split_first() {
        Some((0, item)) if item.iter().all(|&axis| axis > 0) => {
            let perm = item.iter().map(|&axis| axis - 1).collect();
            Ok(Step::new(LayerKind::Transpose { perm }, &[input]).into())
        }
        _ => Err(node.mixes_items(&format!("by {perm:?} moves axis 0"), &input.shape)),
    }
}

/// The attribute `perm`; without it the axes are reversed.
pub(super) fn permutation(node: &Node, rank: usize) -> Result<Vec<usize>, Problem> {
    match node.ints("perm")? {
        Some(perm) => perm.iter().map(|&axis| size("perm of Transpose", axis)).collect(),
        None => Ok((0..rank).rev().collect()),
    }
}

pub(super) fn concat(node: &Node) -> Result<Outcome, Problem> {
    let count = node.inputs().count();
    let inputs: Vec<&Tensor> = (0..count).map(|i| node.tensor(i)).collect::<Result<_, _>>()?;
    let axis = node.int("axis")?.ok_or_else(|| Problem::mismatch("axis of Concat", "a number", "nothing"))?;
    let axis = node.item_axis(axis, node.tensor(0)?)?;
    Ok(Step::new(LayerKind::Concat { axis }, &inputs).into())
}

/// Shape of a tensor: the batch, then the sizes of an item.
pub(super) fn shape(node: &Node) -> Result<Outcome, Problem> {
    let mut dims = vec![Integer::Batch];
    dims.extend(node.tensor(0)?.shape.iter().map(|&d| Integer::Known(d as i64)));
    Ok(Outcome::Value(Value::Constant(fold::shape(node, dims)?)))
}
