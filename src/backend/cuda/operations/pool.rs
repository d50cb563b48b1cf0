//! Pooling: over windows and over whole planes.

use crate::backend::cuda::cudnn::{Cudnn, Placed, PoolingDescriptor, PoolingMode, TensorDescriptor, View};
use crate::backend::cuda::driver::Stream;
use crate::backend::cuda::failure::Failure;
use crate::backend::cuda::kernels::{self, Tensor};
use crate::backend::cuda::operation::{Job, Operation, Places};
use crate::backend::cuda::tensor::TensorForm;
use crate::network::Pool;

use super::choice::Candidates;
use super::own::Own;
use super::tools::Tools;

pub(super) fn maximum(tools: &Tools, job: &Job<'_>, pool: &Pool) -> Result<Candidates, Failure> {
    let mut candidates = Candidates::default();
    candidates.offer(Pooling::operation(tools, job, pool, PoolingMode::Maximum))?;
    let (own, forms) = (pool.clone(), (job.inputs[0].clone(), job.output.clone()));
    let launches = move |places: &Places<'_>| {
        let (x, y) = placed(&forms, places);
        Ok(vec![kernels::max_pool(&own, x, y)?])
    };
    candidates.offer(Own::operation(tools, "max_pool", job.precision, launches))?;
    Ok(candidates)
}

pub(super) fn mean(tools: &Tools, job: &Job<'_>, pool: &Pool) -> Result<Candidates, Failure> {
    let mode = match pool.count_include_pad {
        true => PoolingMode::MeanWithPadding,
        false => PoolingMode::MeanWithoutPadding,
    };
    let mut candidates = Candidates::default();
    candidates.offer(Pooling::operation(tools, job, pool, mode))?;
    let (own, forms) = (pool.clone(), (job.inputs[0].clone(), job.output.clone()));
    let launches = move |places: &Places<'_>| {
        let (x, y) = placed(&forms, places);
        Ok(vec![kernels::average_pool(&own, x, y)?])
    };
    candidates.offer(Own::operation(tools, "avg_pool", job.precision, launches))?;
    Ok(candidates)
}

/// What becomes of a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    Mean,
    Maximum,
}

pub(super) fn global(tools: &Tools, job: &Job<'_>, of: Global) -> Result<Candidates, Failure> {
    let (mode, name) = match of {
        Global::Mean => (PoolingMode::MeanWithoutPadding, "global_avg_pool"),
        Global::Maximum => (PoolingMode::Maximum, "global_max_pool"),
    };
    let mut candidates = Candidates::default();
    let forms = (job.inputs[0].clone(), job.output.clone());
    if let Some([_, height, width]) = forms.0.planes() {
        let whole = Pool {
            kernel: [height, width],
            stride: [height, width],
            padding: [0; 4],
            dilation: [1; 2],
            ceil_mode: false,
            count_include_pad: false,
        };
        candidates.offer(Pooling::operation(tools, job, &whole, mode))?;
    }
    let launches = move |places: &Places<'_>| {
        let (x, y) = placed(&forms, places);
        Ok(vec![match of {
            Global::Mean => kernels::global_average_pool(x, y)?,
            Global::Maximum => kernels::global_max_pool(x, y)?,
        }])
    };
    candidates.offer(Own::operation(tools, name, job.precision, launches))?;
    Ok(candidates)
}

fn placed<'a>(forms: &'a (TensorForm, TensorForm), places: &Places<'_>) -> (Tensor<'a>, Tensor<'a>) {
    (Tensor { form: &forms.0, at: places.inputs[0] }, Tensor { form: &forms.1, at: places.output })
}

/// Pooling by cuDNN.
#[derive(Debug)]
struct Pooling {
    cudnn: Cudnn,
    pooling: PoolingDescriptor,
    x: TensorDescriptor,
    y: TensorDescriptor,
}

impl Pooling {
    fn operation(
        tools: &Tools,
        job: &Job<'_>,
        pool: &Pool,
        mode: PoolingMode,
    ) -> Result<Box<dyn Operation>, Failure> {
        let refused = |text: &str| Failure::refused("cudnnPoolingForward", text);
        let view = |form| View::planes(form, job.layout).ok_or_else(|| refused("no planes in this layout"));
        let (x, y) = (view(&job.inputs[0])?, view(&job.output)?);
        if !same_windows(pool, &x, &y) {
            return Err(refused("its windows differ: padding on one side, ceil mode, or dilation"));
        }
        Ok(Box::new(Self {
            cudnn: tools.cudnn.clone(),
            pooling: PoolingDescriptor::new(mode, pool)?,
            x: TensorDescriptor::new(x, job.precision)?,
            y: TensorDescriptor::new(y, job.precision)?,
        }))
    }
}

/// Whether cuDNN's windows are the layer's: it pads both sides alike, knows no dilation, and gives
/// 1 + (size + 2 padding - window) / stride, rounded down, places (cudnn_ops Library,
/// `cudnnGetPooling2dForwardOutputDim`). A window must not lie in the padding alone.
fn same_windows(pool: &Pool, x: &View, y: &View) -> bool {
    let [top, left, bottom, right] = pool.padding;
    let axis = |axis: usize, before: usize, after: usize| {
        let (size, window, stride) = (x.sizes[axis + 2], pool.kernel[axis], pool.stride[axis]);
        let places = (size + before + after).checked_sub(window).map(|room| 1 + room / stride);
        before == after && before < window && pool.dilation[axis] == 1 && places == Some(y.sizes[axis + 2])
    };
    axis(0, top, bottom) && axis(1, left, right)
}

impl Operation for Pooling {
    fn name(&self) -> &str {
        "cudnn pooling"
    }

    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure> {
        let (x, y) = (Placed(&self.x, places.inputs[0]), Placed(&self.y, places.output));
        self.cudnn.pool(stream, &self.pooling, x, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Layout;

    fn same(padding: [usize; 4], dilation: usize, rows: usize) -> bool {
        let pool = Pool {
            kernel: [3; 2],
            stride: [2; 2],
            padding,
            dilation: [dilation; 2],
            ceil_mode: false,
            count_include_pad: true,
        };
        let view = |size| View::packed([1, 4, size, size], Layout::Nchw);
        same_windows(&pool, &view(12), &view(rows))
    }

    #[test]
    fn windows_that_cudnn_cannot_say_are_left_to_the_own_kernel() {
        // 12 rows and padding 1: (12 + 2 - 3) / 2 + 1 is 6.5, so 6, or 7 in ceil mode.
        assert!(same([1; 4], 1, 6));
        assert!(!same([1; 4], 1, 7));
        // Padding below alone gives 6 places as well, of other windows.
        assert!(!same([0, 0, 1, 1], 1, 6));
        assert!(!same([1; 4], 2, 5));
        assert!(!same([3; 4], 1, 8));
    }
}
