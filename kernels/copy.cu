// Elements moved, bit by bit as they are: concatenation, transposition, channel shuffle, another layout, a piece.
//
// The kernel's name has the bytes of an element; where runs of elements stay together, a run of 4, 8 or 16 bytes counts as
// one. Both sides lie along the same axes, each at its own distances; threads follow the order of `sizes`, which the
// launch makes that of y. x and y must not overlap.

template <class Element, class Index>
__device__ __forceinline__ void move(const Element *x, Element *y, long long count, const Axes &sizes,
                                     const Axes &from, const Axes &to) {
    for (long long index = first_thread(); index < count; index += all_threads()) {
        long long at[AXES];
        coordinates((Index)index, sizes, at);
        y[place_at(at, to)] = x[place_at(at, from)];
    }
}

template <class Element>
__device__ __forceinline__ void move_any(const Element *x, Element *y, long long count, const Axes &sizes,
                                         const Axes &from, const Axes &to) {
    if (fits_32_bits(count)) {
        move<Element, unsigned int>(x, y, count, sizes, from, to);
    } else {
        move<Element, long long>(x, y, count, sizes, from, to);
    }
}

extern "C" __global__ void __launch_bounds__(256)
copy_2(const unsigned short *x, unsigned short *y, long long count, Axes sizes, Axes from, Axes to) {
    move_any(x, y, count, sizes, from, to);
}

extern "C" __global__ void __launch_bounds__(256)
copy_4(const unsigned int *x, unsigned int *y, long long count, Axes sizes, Axes from, Axes to) {
    move_any(x, y, count, sizes, from, to);
}

extern "C" __global__ void __launch_bounds__(256)
copy_8(const uint2 *x, uint2 *y, long long count, Axes sizes, Axes from, Axes to) {
    move_any(x, y, count, sizes, from, to);
}

extern "C" __global__ void __launch_bounds__(256)
copy_16(const uint4 *x, uint4 *y, long long count, Axes sizes, Axes from, Axes to) {
    move_any(x, y, count, sizes, from, to);
}

// Squares of 32 x 32 elements, turned in shared memory so that both sides are accessed in runs (Ruetsch and Micikevicius
// 2009, "Optimizing Matrix Transpose in CUDA"): x is batch x rows x columns, y is batch x columns x rows. Blocks of 32 x 8.
template <class Element>
__device__ __forceinline__ void turn(const Element *x, Element *y, long long batch, long long rows,
                                     long long columns) {
    // One column more than needed: a column of the square then lies in 32 banks rather than in one.
    __shared__ Element square[32][33];
    const long long across = (columns + 31) / 32, down = (rows + 31) / 32;
    for (long long tile = blockIdx.x; tile < batch * down * across; tile += gridDim.x) {
        const long long left = tile % across * 32, top = tile / across % down * 32;
        const long long item = tile / across / down * rows * columns;
        for (int line = threadIdx.y; line < 32; line += 8) {
            const long long row = top + line, column = left + threadIdx.x;
            if (row < rows && column < columns) square[line][threadIdx.x] = x[item + row * columns + column];
        }
        __syncthreads();
        for (int line = threadIdx.y; line < 32; line += 8) {
            const long long column = left + line, row = top + threadIdx.x;
            if (row < rows && column < columns) y[item + column * rows + row] = square[threadIdx.x][line];
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(256)
copy_turned_2(const unsigned short *x, unsigned short *y, long long batch, long long rows, long long columns) {
    turn(x, y, batch, rows, columns);
}

extern "C" __global__ void __launch_bounds__(256)
copy_turned_4(const unsigned int *x, unsigned int *y, long long batch, long long rows, long long columns) {
    turn(x, y, batch, rows, columns);
}
