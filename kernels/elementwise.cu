// Sums and products of two to four tensors in f32, rounded once; an axis of distance 0 stretches (NumPy,
// "Broadcasting"). More inputs go in several launches.

__device__ __forceinline__ float combine(bool product, float a, float b) { return product ? a * b : a + b; }

// Inputs and output in the same order: packs of 16 bytes as in `activation.cu`. y may be an input.
template <bool PRODUCT>
__device__ __forceinline__ void same(const storage_t *const x[4], int inputs, storage_t *y, long long count,
                                     long long packs) {
    for (long long pack = first_thread(); pack < packs; pack += all_threads()) {
        float sum[LANES], next[LANES];
        load_pack(x[0], pack, sum);
#pragma unroll
        for (int input = 1; input < 4; input++) {
            if (input >= inputs) break;
            load_pack(x[input], pack, next);
#pragma unroll
            for (int lane = 0; lane < LANES; lane++) sum[lane] = combine(PRODUCT, sum[lane], next[lane]);
        }
        store_pack(y, pack, sum);
    }
    for (long long place = packs * LANES + first_thread(); place < count; place += all_threads()) {
        float sum = load(x[0], place);
#pragma unroll
        for (int input = 1; input < 4; input++) {
            if (input >= inputs) break;
            sum = combine(PRODUCT, sum, load(x[input], place));
        }
        store(y, place, sum);
    }
}

// y is contiguous along `sizes`; each input has its own distances.
template <bool PRODUCT, class Index>
__device__ __forceinline__ void stretched(const storage_t *const x[4], const Axes *const strides[4], int inputs,
                                          storage_t *y, long long count, const Axes &sizes) {
    for (long long place = first_thread(); place < count; place += all_threads()) {
        long long at[AXES];
        coordinates((Index)place, sizes, at);
        float sum = load(x[0], place_at(at, *strides[0]));
#pragma unroll
        for (int input = 1; input < 4; input++) {
            if (input >= inputs) break;
            sum = combine(PRODUCT, sum, load(x[input], place_at(at, *strides[input])));
        }
        store(y, place, sum);
    }
}

template <bool PRODUCT>
__device__ __forceinline__ void stretched_any(const storage_t *const x[4], const Axes *const strides[4],
                                              int inputs, storage_t *y, long long count, const Axes &sizes) {
    if (fits_32_bits(count)) {
        stretched<PRODUCT, unsigned int>(x, strides, inputs, y, count, sizes);
    } else {
        stretched<PRODUCT, long long>(x, strides, inputs, y, count, sizes);
    }
}

extern "C" __global__ void __launch_bounds__(256)
elementwise_add(const storage_t *a, const storage_t *b, const storage_t *c, const storage_t *d, int inputs,
                storage_t *y, long long count, long long packs) {
    const storage_t *const x[4] = {a, b, c, d};
    same<false>(x, inputs, y, count, packs);
}

extern "C" __global__ void __launch_bounds__(256)
elementwise_mul(const storage_t *a, const storage_t *b, const storage_t *c, const storage_t *d, int inputs,
                storage_t *y, long long count, long long packs) {
    const storage_t *const x[4] = {a, b, c, d};
    same<true>(x, inputs, y, count, packs);
}

extern "C" __global__ void __launch_bounds__(256)
elementwise_add_stretched(const storage_t *a, const storage_t *b, const storage_t *c, const storage_t *d,
                          int inputs, storage_t *y, long long count, Axes sizes, Axes a_strides,
                          Axes b_strides, Axes c_strides, Axes d_strides) {
    const storage_t *const x[4] = {a, b, c, d};
    const Axes *const strides[4] = {&a_strides, &b_strides, &c_strides, &d_strides};
    stretched_any<false>(x, strides, inputs, y, count, sizes);
}

extern "C" __global__ void __launch_bounds__(256)
elementwise_mul_stretched(const storage_t *a, const storage_t *b, const storage_t *c, const storage_t *d,
                          int inputs, storage_t *y, long long count, Axes sizes, Axes a_strides,
                          Axes b_strides, Axes c_strides, Axes d_strides) {
    const storage_t *const x[4] = {a, b, c, d};
    const Axes *const strides[4] = {&a_strides, &b_strides, &c_strides, &d_strides};
    stretched_any<true>(x, strides, inputs, y, count, sizes);
}
