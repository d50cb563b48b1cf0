// exp(x - m) / sum of exp(x - m) along lines, m the largest of a line, so that nothing overflows. x and y lie the same way
// and may be the same. A line with a NaN comes out as NaN, as does one without a finite largest number.

extern "C" __global__ void __launch_bounds__(256)
softmax_block(const storage_t *x, storage_t *y, long long lines, long long length) {
    for (long long line = blockIdx.x; line < lines; line += gridDim.x) {
        const storage_t *from = x + line * length;
        float largest = __uint_as_float(MINUS_INFINITY);
        for (long long i = threadIdx.x; i < length; i += BLOCK) largest = larger_of(largest, load(from, i));
        largest = across_block(largest, [](float a, float b) { return larger_of(a, b); });
        float sum = 0.0f;
        for (long long i = threadIdx.x; i < length; i += BLOCK) sum += expf(load(from, i) - largest);
        sum = across_block(sum, [](float a, float b) { return sum_of(a, b); });
        for (long long i = threadIdx.x; i < length; i += BLOCK) {
            store(y, line * length + i, expf(load(from, i) - largest) / sum);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
softmax_thread(const storage_t *x, storage_t *y, long long lines, long long length, long long inner) {
    for (long long line = first_thread(); line < lines; line += all_threads()) {
        const long long start = line_start(line, length, inner);
        float largest = __uint_as_float(MINUS_INFINITY);
        for (long long i = 0; i < length; i++) largest = larger_of(largest, load(x, start + i * inner));
        float sum = 0.0f;
        for (long long i = 0; i < length; i++) sum += expf(load(x, start + i * inner) - largest);
        for (long long i = 0; i < length; i++) {
            store(y, start + i * inner, expf(load(x, start + i * inner) - largest) / sum);
        }
    }
}
