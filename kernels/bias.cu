// A bias per channel, added in place: y[o, c, i] += bias[c]. The bias is f32, the sum is rounded once.

extern "C" __global__ void __launch_bounds__(256)
bias_add(storage_t *y, const float *bias, long long count, long long packs, long long channels, long long inner) {
    by_channel(y, y, count, packs, channels, inner, [=](long long c, float v) { return v + bias[c]; });
}
