//! Elements moved as they are: joined, transposed, shuffled, laid out another way.

use super::launch::{Argument, FormError, Launch, Tensor, long};
use super::source::Family;
use super::strided::{Axis, Walk, joined, walks};

/// Places of x and y among the distances of an axis.
const X: usize = 0;
const Y: usize = 1;

/// Below this many rows or columns a square of 32 x 32 is mostly empty, and turning it no gain.
const WORTH_TURNING: usize = 16;

/// y = the inputs behind one another along an axis of the item.
///
/// # Errors
///
/// A tensor was flattened from channels-last order, or has no such axis.
pub(in crate::backend::cuda) fn concat(
    axis: usize,
    inputs: &[Tensor<'_>],
    y: Tensor<'_>,
) -> Result<Vec<Launch>, FormError> {
    let mut launches = Vec::new();
    let (_, step) = y.axis(axis, "concat")?;
    let mut before = 0;
    for x in inputs {
        let (size, _) = x.axis(axis, "concat")?;
        let axes = together(&x.form.shape, &x.strides("concat")?, &y.strides("concat")?);
        launches.extend(moves(axes, *x, y, before * step));
        before += size;
    }
    Ok(launches)
}

/// y = x with axis i of y's item being axis `perm[i]` of x's.
///
/// # Errors
///
/// A tensor was flattened from channels-last order.
pub(in crate::backend::cuda) fn transpose(
    perm: &[usize],
    x: Tensor<'_>,
    y: Tensor<'_>,
) -> Result<Vec<Launch>, FormError> {
    let from = perm
        .iter()
        .map(|&axis| Ok(x.axis(axis, "transpose")?.1))
        .collect::<Result<Vec<usize>, FormError>>()?;
    Ok(moves(together(&y.form.shape, &from, &y.strides("transpose")?), x, y, 0))
}

/// y = x with its channels, seen as groups x members, in the order members x groups (Zhang 2018, section 3.1).
///
/// # Errors
///
/// A tensor was flattened from channels-last order, or is not C x H x W.
pub(in crate::backend::cuda) fn channel_shuffle(
    groups: usize,
    x: Tensor<'_>,
    y: Tensor<'_>,
) -> Result<Vec<Launch>, FormError> {
    let kind = "channel_shuffle";
    let [channels, height, width] = x.form.planes().ok_or_else(|| x.wrong_axes(kind))?;
    let (from, to) = (x.strides(kind)?, y.strides(kind)?);
    let members = channels / groups;
    let axes = together(
        &[members, groups, height, width],
        &[from[0], members * from[0], from[1], from[2]],
        &[groups * to[0], to[0], to[1], to[2]],
    );
    Ok(moves(axes, x, y, 0))
}

/// y = x, element by element as they are counted row by row, each as it lies: NCHW to NHWC and back, flattened tensors too.
///
/// # Errors
///
/// Both lie in channels-last order, of different shapes.
pub(in crate::backend::cuda) fn reorder(x: Tensor<'_>, y: Tensor<'_>) -> Result<Vec<Launch>, FormError> {
    debug_assert_eq!((x.form.batch, x.form.item()), (y.form.batch, y.form.item()));
    let item = [x.form.item()];
    match (x.form.channels_last, y.form.channels_last) {
        (Some([c, h, w]), None) => Ok(turned(h * w, c, x, y)),
        (None, Some([c, h, w])) => Ok(turned(c, h * w, x, y)),
        (Some(from), Some(channels_last)) if from != channels_last => {
            Err(FormError::Flattened { operation: "reorder", shape: y.form.shape.clone(), channels_last })
        }
        _ => Ok(moves(together(&item, &[1], &[1]), x, y, 0)),
    }
}

/// x of rows x columns to y of columns x rows, item by item.
fn turned(rows: usize, columns: usize, x: Tensor<'_>, y: Tensor<'_>) -> Vec<Launch> {
    if rows.min(columns) < WORTH_TURNING {
        return moves(together(&[rows, columns], &[columns, 1], &[1, rows]), x, y, 0);
    }
    let kernel = if x.form.precision.bytes() == 2 { "copy_turned_2" } else { "copy_turned_4" };
    let squares = x.form.batch * rows.div_ceil(32) * columns.div_ceil(32);
    let arguments = vec![x.pointer(), y.pointer(), long(x.form.batch), long(rows), long(columns)];
    vec![Launch::blocks(Family::Copy, kernel, squares, [32, 8, 1], arguments)]
}

fn together(sizes: &[usize], from: &[usize], to: &[usize]) -> Vec<Axis> {
    let strides = from.iter().zip(to).map(|(&from, &to)| vec![from, to]);
    sizes.iter().zip(strides).map(|(&size, strides)| Axis { size, strides }).collect()
}

/// Copies along the axes of an item and the batch, beginning `skip` elements into y's items.
fn moves(mut axes: Vec<Axis>, x: Tensor<'_>, y: Tensor<'_>, skip: usize) -> Vec<Launch> {
    axes.insert(0, Axis { size: y.form.batch, strides: vec![x.form.item(), y.form.item()] });
    let axes = joined(axes, Y);
    let bytes = y.form.precision.bytes();
    let launch = |walk: &Walk| {
        let begin = |tensor: Tensor<'_>, start: usize| tensor.at + (start * bytes) as u64;
        let (from, to) = (begin(x, walk.starts[X]), begin(y, walk.starts[Y] + skip));
        let run = run(&walk.axes, bytes, [from, to]);
        let walk = in_runs(walk, run);
        let kernel = match run * bytes {
            2 => "copy_2",
            4 => "copy_4",
            8 => "copy_8",
            _ => "copy_16",
        };
        let arguments = vec![
            Argument::Pointer(from),
            Argument::Pointer(to),
            long(walk.count()),
            walk.sizes(),
            walk.strides(X),
            walk.strides(Y),
        ];
        Launch::threads(Family::Copy, kernel, walk.count(), arguments)
    };
    walks(&axes, 2).iter().map(launch).collect()
}

/// Elements that always stay together, at places aligned to their bytes, 16 bytes at most: what a thread moves at once.
fn run(axes: &[Axis], bytes: usize, places: [u64; 2]) -> usize {
    let Some((inner, outer)) = axes.split_last() else { return 1 };
    if inner.strides != [1, 1] {
        return 1;
    }
    let fits = |run: usize| {
        let whole = |count: usize| count.is_multiple_of(run);
        whole(inner.size)
            && outer.iter().all(|axis| axis.strides.iter().all(|&stride| whole(stride)))
            && places.iter().all(|place| place.is_multiple_of((run * bytes) as u64))
    };
    [16, 8, 4].into_iter().map(|wide| wide / bytes).find(|&run| run > 1 && fits(run)).unwrap_or(1)
}

/// The walk with a run of elements counted as one.
fn in_runs(walk: &Walk, run: usize) -> Walk {
    let mut axes = walk.axes.clone();
    if run > 1
        && let Some((inner, outer)) = axes.split_last_mut()
    {
        inner.size /= run;
        outer.iter_mut().for_each(|axis| axis.strides.iter_mut().for_each(|stride| *stride /= run));
    }
    Walk { axes, starts: walk.starts.clone() }
}
