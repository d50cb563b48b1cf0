//! The innermost loops of convolutions: small blocks of sums that stay in vector registers.
//!
//! Both read their input through a table of offsets, one for each (channel, tap), so that no im2col matrix is
//! written: the indirect convolution of Dukhan 2019 (arXiv 1907.02129). `positions` holds several output
//! positions in a vector, `channels` several output channels. Which wastes less depends on the shapes.

use pulp::Simd;

use super::panels::Panel;

/// Vectors of neighbouring output positions in a tile of [`positions`].
pub(super) const POSITION_VECTORS: usize = 3;
/// Vectors of output channels in a tile of [`channels`].
pub(super) const CHANNEL_VECTORS: usize = 2;
/// Most output positions in a tile of [`channels`].
pub(super) const MOST_POSITIONS: usize = 14;
/// Most elements of any tile: vectors of 16 elements are the longest there are.
pub(super) const LARGEST: usize = 512;

/// Runs `work` in a function of its own that uses the vector unit: in one large function the optimiser stops
/// inlining iterators and keeps sums in memory.
#[inline(never)]
pub(super) fn apart<S: Simd, R>(simd: S, work: impl FnOnce() -> R) -> R {
    simd.vectorize(work)
}

/// Sums for `ROWS` output channels x `width` neighbouring positions of the grid: out\[row]\[position].
///
/// `source` begins at the first position; the panel has `ROWS` rows. Returns the width of a row of `out`: `width`
/// rounded up to whole vectors, at most [`POSITION_VECTORS`] of them.
#[inline(always)]
pub(super) fn positions<S: Simd, const ROWS: usize>(
    simd: S,
    source: &[f32],
    offsets: &[u32],
    panel: &Panel<'_>,
    width: usize,
    out: &mut [f32; LARGEST],
) -> usize {
    match width.div_ceil(S::F32_LANES) {
        1 => apart(
            simd,
            #[inline(always)]
            || positions_of::<S, ROWS, 1>(simd, source, offsets, panel, out),
        ),
        2 => apart(
            simd,
            #[inline(always)]
            || positions_of::<S, ROWS, 2>(simd, source, offsets, panel, out),
        ),
        _ => apart(
            simd,
            #[inline(always)]
            || positions_of::<S, ROWS, POSITION_VECTORS>(simd, source, offsets, panel, out),
        ),
    }
}

#[allow(
    clippy::needless_range_loop,
    clippy::manual_memcpy,
    reason = "iterators and copies of whole arrays keep the sums in memory instead of registers"
)]
#[inline(always)]
fn positions_of<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    source: &[f32],
    offsets: &[u32],
    panel: &Panel<'_>,
    out: &mut [f32; LARGEST],
) -> usize {
    let width = VECTORS * S::F32_LANES;
    let (weights, _) = pulp::as_arrays::<ROWS, _>(panel.values);
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for row in 0..ROWS {
        sums[row] = [simd.splat_f32s(panel.bias[row]); VECTORS];
    }
    for (&offset, weights) in offsets.iter().zip(weights) {
        let offset = offset as usize;
        let (vectors, _) = S::as_simd_f32s(&source[offset..offset + width]);
        let (vectors, _) = pulp::as_arrays::<VECTORS, _>(vectors);
        let vectors = vectors[0];
        // Indices, not iterators: these loops must be unrolled for the sums to stay in registers.
        for row in 0..ROWS {
            let weight = simd.splat_f32s(weights[row]);
            for place in 0..VECTORS {
                sums[row][place] = simd.mul_add_e_f32s(weight, vectors[place], sums[row][place]);
            }
        }
    }
    let (out, _) = S::as_mut_simd_f32s(out);
    let (out, _) = pulp::as_arrays_mut::<VECTORS, _>(out);
    // One by one: a copy of the whole array would keep it in memory all the time.
    for row in 0..ROWS {
        out[row] = sums[row];
    }
    width
}

/// Sums over few taps for one channel: out\[position], as many as `out` has, a whole number of vectors.
#[inline(always)]
pub(super) fn plane<S: Simd>(
    simd: S,
    source: &[f32],
    offsets: &[u32],
    weights: &[f32],
    bias: f32,
    out: &mut [f32],
) {
    /// Vectors at a time: independent sums, so that the multipliers need not wait for each other.
    const VECTORS: usize = 4;
    let (out, _) = S::as_mut_simd_f32s(out);
    let (blocks, rest) = pulp::as_arrays_mut::<VECTORS, _>(out);
    let done = blocks.len() * VECTORS * S::F32_LANES;
    for (block, out) in blocks.iter_mut().enumerate() {
        let source = &source[block * VECTORS * S::F32_LANES..];
        *out = vectors_of_plane(simd, source, offsets, weights, bias);
    }
    for (vector, out) in rest.iter_mut().enumerate() {
        let source = &source[done + vector * S::F32_LANES..];
        [*out] = vectors_of_plane(simd, source, offsets, weights, bias);
    }
}

#[inline(always)]
fn vectors_of_plane<S: Simd, const VECTORS: usize>(
    simd: S,
    source: &[f32],
    offsets: &[u32],
    weights: &[f32],
    bias: f32,
) -> [S::f32s; VECTORS] {
    let mut sums = [simd.splat_f32s(bias); VECTORS];
    for (&offset, &weight) in offsets.iter().zip(weights) {
        let offset = offset as usize;
        let (vectors, _) = S::as_simd_f32s(&source[offset..offset + VECTORS * S::F32_LANES]);
        let (vectors, _) = pulp::as_arrays::<VECTORS, _>(vectors);
        let (weight, vectors) = (simd.splat_f32s(weight), vectors[0]);
        for place in 0..VECTORS {
            sums[place] = simd.mul_add_e_f32s(weight, vectors[place], sums[place]);
        }
    }
    sums
}

/// Sums for `count` neighbouring positions x some vectors of output channels: out\[position]\[channel].
///
/// `source` begins at the first position; the panel is a whole number of vectors wide, at most
/// [`CHANNEL_VECTORS`].
#[inline(always)]
pub(super) fn channels<S: Simd>(
    simd: S,
    source: &[f32],
    offsets: &[u32],
    panel: &Panel<'_>,
    count: usize,
    out: &mut [f32; LARGEST],
) {
    if panel.width == S::F32_LANES {
        count_channels::<S, 1>(simd, source, offsets, panel, count, out);
    } else {
        count_channels::<S, CHANNEL_VECTORS>(simd, source, offsets, panel, count, out);
    }
}

#[inline(always)]
fn count_channels<S: Simd, const VECTORS: usize>(
    simd: S,
    source: &[f32],
    offsets: &[u32],
    panel: &Panel<'_>,
    count: usize,
    out: &mut [f32; LARGEST],
) {
    macro_rules! by_count {
        ($($n:literal)*) => {
            match count {
                $($n => {
                    apart(simd, #[inline(always)] || channels_of::<S, $n, VECTORS>(simd, source, offsets, panel, out));
                })*
                _ => unreachable!("a tile has 1 to {MOST_POSITIONS} positions, found {count}"),
            }
        };
    }
    by_count!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

#[allow(
    clippy::needless_range_loop,
    clippy::manual_memcpy,
    reason = "iterators and copies of whole arrays keep the sums in memory instead of registers"
)]
#[inline(always)]
fn channels_of<S: Simd, const COUNT: usize, const VECTORS: usize>(
    simd: S,
    source: &[f32],
    offsets: &[u32],
    panel: &Panel<'_>,
    out: &mut [f32; LARGEST],
) {
    let (weights, _) = S::as_simd_f32s(panel.values);
    let (weights, _) = pulp::as_arrays::<VECTORS, _>(weights);
    let (bias, _) = S::as_simd_f32s(panel.bias);
    let (bias, _) = pulp::as_arrays::<VECTORS, _>(bias);
    let mut sums = [bias[0]; COUNT];
    for (&offset, weights) in offsets.iter().zip(weights) {
        let offset = offset as usize;
        let values = &source[offset..offset + COUNT];
        for position in 0..COUNT {
            let value = simd.splat_f32s(values[position]);
            for place in 0..VECTORS {
                sums[position][place] = simd.mul_add_e_f32s(value, weights[place], sums[position][place]);
            }
        }
    }
    let (out, _) = S::as_mut_simd_f32s(out);
    let (out, _) = pulp::as_arrays_mut::<VECTORS, _>(out);
    for position in 0..COUNT {
        out[position] = sums[position];
    }
}
