// Mean and maximum over whole planes: outer x length x inner to outer x inner. The maximum of a plane with a NaN is NaN.

template <class Combine>
__device__ __forceinline__ void reduce_lines(const storage_t *x, storage_t *y, long long lines, long long length,
                                             long long inner, float start, float scale, bool by_block,
                                             Combine combine) {
    if (by_block) {
        for (long long line = blockIdx.x; line < lines; line += gridDim.x) {
            float value = start;
            for (long long i = threadIdx.x; i < length; i += BLOCK) {
                value = combine(value, load(x, line * length + i));
            }
            value = across_block(value, combine);
            if (threadIdx.x == 0) store(y, line, value / scale);
        }
    } else {
        for (long long line = first_thread(); line < lines; line += all_threads()) {
            const storage_t *first = x + line_start(line, length, inner);
            float value = start;
            for (long long i = 0; i < length; i++) value = combine(value, load(first, i * inner));
            store(y, line, value / scale);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
global_pool_average(const storage_t *x, storage_t *y, long long lines, long long length, long long inner) {
    const auto add = [](float a, float b) { return sum_of(a, b); };
    reduce_lines(x, y, lines, length, inner, 0.0f, (float)length, inner == 1, add);
}

extern "C" __global__ void __launch_bounds__(256)
global_pool_max(const storage_t *x, storage_t *y, long long lines, long long length, long long inner) {
    const auto larger = [](float a, float b) { return larger_of(a, b); };
    reduce_lines(x, y, lines, length, inner, __uint_as_float(MINUS_INFINITY), 1.0f, inner == 1, larger);
}
