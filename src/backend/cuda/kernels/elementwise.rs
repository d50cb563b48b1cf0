//! Sums and products of tensors, stretched where an axis is 1.

use super::channel::threads;
use super::launch::{Argument, FormError, Launch, Tensor, long, packs};
use super::source::Family;
use super::strided::{Axis, Walk, joined, walks};

/// Inputs that a kernel takes.
const INPUTS: usize = 4;

/// The kernels of an operation: for tensors that lie the same way, and for any others.
struct Kernels {
    same: &'static str,
    stretched: &'static str,
}

/// y = the sum of the inputs; see [`mul`].
///
/// # Errors
///
/// As [`mul`].
pub(in crate::backend::cuda) fn add(inputs: &[Tensor<'_>], y: Tensor<'_>) -> Result<Vec<Launch>, FormError> {
    let kernels = Kernels { same: "elementwise_add", stretched: "elementwise_add_stretched" };
    launches(&kernels, inputs, y, "add")
}

/// y = the product of the inputs, aligned from the last axis, each axis of 1 stretched; a batch of 1, which is what a stored
/// operand has, serves all items. Up to four inputs take one launch and are rounded once, each further three another launch
/// that goes on from y. y may be the first input where that is not stretched, and no other.
///
/// # Errors
///
/// The tensors do not all lie the same way, and one was flattened from channels-last order.
pub(in crate::backend::cuda) fn mul(inputs: &[Tensor<'_>], y: Tensor<'_>) -> Result<Vec<Launch>, FormError> {
    let kernels = Kernels { same: "elementwise_mul", stretched: "elementwise_mul_stretched" };
    launches(&kernels, inputs, y, "mul")
}

fn launches(
    kernels: &Kernels,
    inputs: &[Tensor<'_>],
    y: Tensor<'_>,
    operation: &'static str,
) -> Result<Vec<Launch>, FormError> {
    let mut launches = Vec::new();
    let (mut group, mut rest) = (Vec::new(), inputs);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(INPUTS - group.len()));
        group.extend_from_slice(now);
        if group.iter().all(|input| input.form == y.form) {
            launches.push(same(kernels.same, &group, y));
        } else {
            launches.extend(stretched(kernels.stretched, &group, y, operation)?);
        }
        (group, rest) = (vec![y], later);
    }
    Ok(launches)
}

fn same(kernel: &'static str, inputs: &[Tensor<'_>], y: Tensor<'_>) -> Launch {
    let places: Vec<u64> = inputs.iter().chain([&y]).map(|tensor| tensor.at).collect();
    let (count, packs) = (y.form.elements(), packs(y.form, &places));
    let mut arguments = pointers(&places[..inputs.len()]);
    arguments.extend([y.pointer(), long(count), long(packs)]);
    Launch::threads(Family::Elementwise, kernel, threads(count, packs), arguments)
}

/// The pointers of a kernel's inputs, null where there is none, and how many there are.
fn pointers(places: &[u64]) -> Vec<Argument> {
    let mut arguments: Vec<Argument> = places.iter().map(|&place| Argument::Pointer(place)).collect();
    arguments.resize(INPUTS, Argument::Pointer(0));
    arguments.push(Argument::I32(i32::try_from(places.len()).expect("at most four")));
    arguments
}

fn stretched(
    kernel: &'static str,
    inputs: &[Tensor<'_>],
    y: Tensor<'_>,
    operation: &'static str,
) -> Result<Vec<Launch>, FormError> {
    let by_input =
        inputs.iter().map(|x| steps(*x, y, operation)).collect::<Result<Vec<Vec<usize>>, FormError>>()?;
    let own = steps(y, y, operation)?;
    let sizes = [&[y.form.batch], y.form.shape.as_slice()].concat();
    let axes = sizes.iter().enumerate().map(|(at, &size)| {
        let strides = by_input.iter().map(|steps| steps[at]).chain([own[at]]).collect();
        Axis { size, strides }
    });
    let axes = joined(axes.collect(), inputs.len());
    let walks = walks(&axes, inputs.len() + 1);
    Ok(walks.iter().map(|walk| launch(kernel, inputs, y, walk)).collect())
}

/// A step of x along the batch and each axis of y's item; 0 where x is stretched.
fn steps(x: Tensor<'_>, y: Tensor<'_>, operation: &'static str) -> Result<Vec<usize>, FormError> {
    let strides = x.strides(operation)?;
    let missing = y.form.shape.len().checked_sub(strides.len()).ok_or_else(|| x.wrong_axes(operation))?;
    let mut steps = vec![if x.form.batch == 1 { 0 } else { x.form.item() }];
    steps.resize(1 + missing, 0);
    let own = x.form.shape.iter().zip(strides);
    steps.extend(own.map(|(&size, stride)| if size == 1 { 0 } else { stride }));
    Ok(steps)
}

fn launch(kernel: &'static str, inputs: &[Tensor<'_>], y: Tensor<'_>, walk: &Walk) -> Launch {
    let bytes = y.form.precision.bytes();
    let begin = |tensor: Tensor<'_>, at: usize| tensor.at + (walk.starts[at] * bytes) as u64;
    let places: Vec<u64> = inputs.iter().enumerate().map(|(at, &x)| begin(x, at)).collect();
    let mut arguments = pointers(&places);
    arguments.extend([Argument::Pointer(begin(y, inputs.len())), long(walk.count()), walk.sizes()]);
    // What is not there has the first one's distances, and is not read.
    arguments.extend((0..INPUTS).map(|at| walk.strides(if at < inputs.len() { at } else { 0 })));
    Launch::threads(Family::Elementwise, kernel, walk.count(), arguments)
}
