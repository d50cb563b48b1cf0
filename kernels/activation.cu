// Element-wise activations, formulas as in `network::Activation` and the ONNX operators of the same names.
//
// x and y hold `count` numbers in the same order and may be the same. `packs` 16-byte packs go first, as wide as a device
// loads; it is 0 where x or y is not aligned to 16 bytes. NaN comes out as NaN. `a` and `b` are the activation's two
// numbers, or unused.

// The activation at each number.
template <class Function>
__device__ __forceinline__ void map(const storage_t *x, storage_t *y, long long count, long long packs,
                                    Function function) {
    for (long long pack = first_thread(); pack < packs; pack += all_threads()) {
        float values[LANES];
        load_pack(x, pack, values);
#pragma unroll
        for (int lane = 0; lane < LANES; lane++) values[lane] = function(values[lane]);
        store_pack(y, pack, values);
    }
    for (long long place = packs * LANES + first_thread(); place < count; place += all_threads()) {
        store(y, place, function(load(x, place)));
    }
}

// fminf and fmaxf would take the number rather than the NaN.
__device__ __forceinline__ float clip(float x, float low, float high) {
    return x < low ? low : x > high ? high : x;
}

// Below about -88 exp(-x) is infinite in f32, and the quotient the 0 that it should be.
__device__ __forceinline__ float logistic(float x) { return 1.0f / (1.0f + expf(-x)); }

extern "C" __global__ void __launch_bounds__(256)
activation_relu(const storage_t *x, storage_t *y, long long count, long long packs, float, float) {
    map(x, y, count, packs, [](float v) { return v < 0.0f ? 0.0f : v; });
}

extern "C" __global__ void __launch_bounds__(256)
activation_relu6(const storage_t *x, storage_t *y, long long count, long long packs, float, float) {
    map(x, y, count, packs, [](float v) { return clip(v, 0.0f, 6.0f); });
}

extern "C" __global__ void __launch_bounds__(256)
activation_leaky_relu(const storage_t *x, storage_t *y, long long count, long long packs, float a, float) {
    map(x, y, count, packs, [=](float v) { return v < 0.0f ? a * v : v; });
}

extern "C" __global__ void __launch_bounds__(256)
activation_sigmoid(const storage_t *x, storage_t *y, long long count, long long packs, float, float) {
    map(x, y, count, packs, [](float v) { return logistic(v); });
}

extern "C" __global__ void __launch_bounds__(256)
activation_tanh(const storage_t *x, storage_t *y, long long count, long long packs, float, float) {
    map(x, y, count, packs, [](float v) { return tanhf(v); });
}

extern "C" __global__ void __launch_bounds__(256)
activation_silu(const storage_t *x, storage_t *y, long long count, long long packs, float, float) {
    map(x, y, count, packs, [](float v) { return v / (1.0f + expf(-v)); });
}

extern "C" __global__ void __launch_bounds__(256)
activation_hard_swish(const storage_t *x, storage_t *y, long long count, long long packs, float, float) {
    map(x, y, count, packs, [](float v) { return v * clip(v * (1.0f / 6.0f) + 0.5f, 0.0f, 1.0f); });
}

extern "C" __global__ void __launch_bounds__(256)
activation_hard_sigmoid(const storage_t *x, storage_t *y, long long count, long long packs, float a, float b) {
    map(x, y, count, packs, [=](float v) { return clip(a * v + b, 0.0f, 1.0f); });
}

extern "C" __global__ void __launch_bounds__(256)
activation_clip(const storage_t *x, storage_t *y, long long count, long long packs, float a, float b) {
    // Where the bounds cross, the upper one holds, as in ONNX's Clip.
    map(x, y, count, packs, [=](float v) { return v != v ? v : fminf(fmaxf(v, a), b); });
}
