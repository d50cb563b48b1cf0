//! What the libraries' kernels compute, naively: sums in binary32 as they come, results rounded once.

use cudarc::driver::sys::CUresult as R;

use crate::memory::Memory;
use crate::numbers::{Number, to_tf32};

/// A tensor in device memory. Its elements are counted row by row, however they lie.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) address: usize,
    pub(crate) number: Number,
    pub(crate) dims: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

impl View {
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Bytes from the first element to the end of the last.
    pub(crate) fn span(&self) -> usize {
        let last: usize = self.dims.iter().zip(&self.strides).map(|(size, stride)| (size - 1) * stride).sum();
        (last + 1) * self.number.bytes()
    }

    pub(crate) fn bytes(&self) -> f64 {
        (self.elements() * self.number.bytes()) as f64
    }

    /// Where each element lies, counted from the first.
    fn places(&self) -> Vec<usize> {
        let mut places = vec![0];
        for (size, stride) in self.dims.iter().zip(&self.strides) {
            places = places.iter().flat_map(|place| (0..*size).map(move |at| place + at * stride)).collect();
        }
        places
    }

    fn is_row_major(&self) -> bool {
        self.strides == row_major(&self.dims)
    }

    fn aligned(&self) -> Result<(), R> {
        let even = self.address.is_multiple_of(self.number.bytes());
        if even { Ok(()) } else { Err(R::CUDA_ERROR_MISALIGNED_ADDRESS) }
    }

    pub(crate) fn read(&self, memory: &Memory) -> Result<Vec<f32>, R> {
        self.aligned()?;
        let stored = self.number.decode(memory.read(self.address, self.span())?);
        if self.is_row_major() {
            return Ok(stored);
        }
        Ok(self.places().into_iter().map(|place| stored[place]).collect())
    }

    pub(crate) fn write(&self, memory: &mut Memory, values: &[f32]) -> Result<(), R> {
        self.aligned()?;
        let size = self.number.bytes();
        let mut bytes = memory.read(self.address, self.span())?.to_vec();
        let places = if self.is_row_major() { None } else { Some(self.places()) };
        for (index, value) in values.iter().enumerate() {
            let place = places.as_ref().map_or(index, |places| places[index]) * size;
            self.number.encode(*value, &mut bytes[place..place + size]);
        }
        memory.write(self.address, &bytes)
    }

    /// Writes alpha · values + beta · what is there; with beta 0 that is not read ("Scaling Parameters").
    pub(crate) fn blend(&self, memory: &mut Memory, values: &[f32], scale: Scale) -> Result<(), R> {
        if scale.beta == 0.0 {
            let scaled: Vec<f32> = values.iter().map(|value| scale.alpha * value).collect();
            return self.write(memory, &scaled);
        }
        let old = self.read(memory)?;
        let mixed: Vec<f32> =
            values.iter().zip(old).map(|(value, old)| scale.alpha * value + scale.beta * old).collect();
        self.write(memory, &mixed)
    }

    /// The place of an element of `dims` in this tensor, whose axes of 1 stretch.
    fn stretched(&self, dims: &[usize]) -> Vec<usize> {
        let own = row_major(&self.dims);
        let mut places = vec![0];
        for (axis, size) in dims.iter().enumerate() {
            let stride = if self.dims[axis] == 1 { 0 } else { own[axis] };
            places = places.iter().flat_map(|place| (0..*size).map(move |at| place + at * stride)).collect();
        }
        places
    }

    /// Its elements as if it had these dimensions.
    pub(crate) fn read_stretched(&self, memory: &Memory, dims: &[usize]) -> Result<Vec<f32>, R> {
        let values = self.read(memory)?;
        Ok(self.stretched(dims).into_iter().map(|place| values[place]).collect())
    }
}

/// Factors of a result and of what was there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
}

pub(crate) fn row_major(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// A convolution of N x C x H x W with K x C/G x R x S.
#[derive(Debug, Clone)]
pub(crate) struct Convolution {
    pub(crate) x: View,
    pub(crate) w: View,
    pub(crate) y: View,
    /// Padding before each axis.
    pub(crate) before: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) groups: usize,
    /// True convolution turns the filter; cross-correlation does not.
    pub(crate) turned: bool,
    /// Whether tensor cores see the numbers as TF32.
    pub(crate) tf32: bool,
}

impl Convolution {
    pub(crate) fn flops(&self) -> f64 {
        2.0 * (self.y.elements() * self.w.dims[1] * self.w.dims[2] * self.w.dims[3]) as f64
    }

    pub(crate) fn bytes(&self) -> f64 {
        self.x.bytes() + self.w.bytes() + self.y.bytes()
    }

    pub(crate) fn compute(&self, memory: &Memory) -> Result<Vec<f32>, R> {
        let (mut x, mut w) = (self.x.read(memory)?, self.w.read(memory)?);
        if self.tf32 {
            x.iter_mut().for_each(|value| *value = to_tf32(*value));
            w.iter_mut().for_each(|value| *value = to_tf32(*value));
        }
        let [channels, height, width] = [1, 2, 3].map(|axis| self.x.dims[axis]);
        let [per_group, rows, columns] = [1, 2, 3].map(|axis| self.w.dims[axis]);
        let [items, filters, out_height, out_width] = [0, 1, 2, 3].map(|axis| self.y.dims[axis]);
        let filters_per_group = filters / self.groups;
        let mut y = vec![0.0_f32; self.y.elements()];
        for (plane, sums) in y.chunks_mut(out_height * out_width).enumerate().take(items * filters) {
            let (item, filter) = (plane / filters, plane % filters);
            let first = filter / filters_per_group * per_group;
            for tap in 0..per_group * rows * columns {
                let (channel, row, column) = (tap / (rows * columns), tap / columns % rows, tap % columns);
                let weight_at = if self.turned {
                    (channel * rows + rows - 1 - row) * columns + columns - 1 - column
                } else {
                    tap
                };
                let weight = w[filter * per_group * rows * columns + weight_at];
                let source = &x[(item * channels + first + channel) * height * width..][..height * width];
                let inside_x =
                    inside(width, out_width, self.stride[1], column * self.dilation[1], self.before[1]);
                for out_y in
                    inside(height, out_height, self.stride[0], row * self.dilation[0], self.before[0])
                {
                    let in_y = out_y * self.stride[0] + row * self.dilation[0] - self.before[0];
                    let line = &source[in_y * width..][..width];
                    let sums = &mut sums[out_y * out_width..][..out_width];
                    for out_x in inside_x.clone() {
                        sums[out_x] += weight
                            * line[out_x * self.stride[1] + column * self.dilation[1] - self.before[1]];
                    }
                }
            }
        }
        Ok(y)
    }
}

/// The outputs whose tap at an offset reads inside of the input.
fn inside(size: usize, out: usize, stride: usize, offset: usize, before: usize) -> std::ops::Range<usize> {
    let first = before.saturating_sub(offset).div_ceil(stride);
    let end = (size + before).saturating_sub(offset).div_ceil(stride).min(out);
    first.min(end)..end
}

/// How a window is summed up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pooling {
    Max { nan: bool },
    AveragePadded,
    AverageInside,
}

/// Pooling of N x C x H x W.
pub(crate) fn pool(
    x: &[f32],
    from: &[usize],
    to: &[usize],
    window: [usize; 2],
    padding: [usize; 2],
    stride: [usize; 2],
    how: Pooling,
) -> Vec<f32> {
    let (height, width) = (from[2], from[3]);
    let mut y = Vec::with_capacity(to.iter().product());
    for plane in x.chunks(height * width) {
        for out in 0..to[2] * to[3] {
            let (out_y, out_x) = (out / to[3], out % to[3]);
            let (mut sum, mut largest, mut count) = (0.0_f32, f32::NEG_INFINITY, 0);
            for tap in 0..window[0] * window[1] {
                let in_y = (out_y * stride[0] + tap / window[1]).wrapping_sub(padding[0]);
                let in_x = (out_x * stride[1] + tap % window[1]).wrapping_sub(padding[1]);
                if in_y < height && in_x < width {
                    let value = plane[in_y * width + in_x];
                    sum += value;
                    count += 1;
                    let keeps_nan = matches!(how, Pooling::Max { nan: true });
                    largest = if keeps_nan && (value.is_nan() || largest.is_nan()) {
                        f32::NAN
                    } else {
                        largest.max(value)
                    };
                }
            }
            y.push(match how {
                Pooling::Max { .. } => largest,
                Pooling::AveragePadded => sum / (window[0] * window[1]) as f32,
                Pooling::AverageInside => sum / count as f32,
            });
        }
    }
    y
}

/// Local response normalisation across channels ("cudnnSetLRNDescriptor"): from (n - 1) / 2 before to n / 2 behind.
pub(crate) fn lrn(x: &[f32], dims: &[usize], size: usize, alpha: f64, beta: f64, k: f64) -> Vec<f32> {
    let (channels, plane) = (dims[1], dims[2..].iter().product::<usize>());
    let value = |index: usize| {
        let (item, channel, place) = (index / (channels * plane), index / plane % channels, index % plane);
        let first = channel.saturating_sub((size - 1) / 2);
        let last = (channel + size / 2).min(channels - 1);
        let at = |c: usize| f64::from(x[(item * channels + c) * plane + place]);
        let squares: f64 = (first..=last).map(|c| at(c) * at(c)).sum();
        (at(channel) / (k + alpha / size as f64 * squares).powf(beta)) as f32
    };
    (0..x.len()).map(value).collect()
}

/// Softmax along the middle of outer x size x inner; its logarithm if asked; shifted by the largest unless `fast`.
pub(crate) fn softmax(x: &[f32], size: usize, inner: usize, fast: bool, logarithm: bool) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    for line in 0..x.len() / size {
        let start = line / inner * size * inner + line % inner;
        let at = |i: usize| start + i * inner;
        let largest = (0..size).map(|i| x[at(i)]).fold(f32::NEG_INFINITY, f32::max);
        let shift = if fast { 0.0 } else { largest };
        let sum: f32 = (0..size).map(|i| (x[at(i)] - shift).exp()).sum();
        for i in 0..size {
            let shifted = x[at(i)] - shift;
            y[at(i)] = if logarithm { shifted - sum.ln() } else { shifted.exp() / sum };
        }
    }
    y
}

/// A matrix in device memory, column by column as cuBLAS has them.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) address: usize,
    pub(crate) number: Number,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Elements from a column to the next.
    pub(crate) leading: usize,
}

impl Matrix {
    /// As a tensor of columns x rows, so that its elements are counted column by column.
    pub(crate) fn view(&self) -> View {
        View {
            address: self.address,
            number: self.number,
            dims: vec![self.columns, self.rows],
            strides: vec![self.leading, 1],
        }
    }

    pub(crate) fn at(&self, batch: usize, stride: i64) -> Self {
        let offset = batch as i64 * stride * self.number.bytes() as i64;
        Self { address: self.address.wrapping_add_signed(offset as isize), ..self.clone() }
    }
}

/// op(A) · op(B), column by column.
pub(crate) fn product(
    memory: &Memory,
    (a, turn_a): (&Matrix, bool),
    (b, turn_b): (&Matrix, bool),
    tf32: bool,
) -> Result<Vec<f32>, R> {
    let (mut av, mut bv) = (a.view().read(memory)?, b.view().read(memory)?);
    if tf32 {
        av.iter_mut().chain(bv.iter_mut()).for_each(|value| *value = to_tf32(*value));
    }
    let (rows, inner) = if turn_a { (a.columns, a.rows) } else { (a.rows, a.columns) };
    let columns = if turn_b { b.rows } else { b.columns };
    let mut d = vec![0.0_f32; rows * columns];
    for column in 0..columns {
        for row in 0..rows {
            let mut sum = 0.0_f32;
            for k in 0..inner {
                let left = if turn_a { av[row * a.rows + k] } else { av[k * a.rows + row] };
                let right = if turn_b { bv[k * b.rows + column] } else { bv[column * b.rows + k] };
                sum += left * right;
            }
            d[column * rows + row] = sum;
        }
    }
    Ok(d)
}
