// Batch normalisation at inference (Ioffe 2015, algorithm 2, line 11):
// y = scale * (x - mean) / sqrt(variance + epsilon) + shift, per channel. The four vectors are f32.

extern "C" __global__ void __launch_bounds__(256)
batch_norm(const storage_t *x, storage_t *y, const float *scale, const float *shift, const float *mean,
           const float *variance, float epsilon, long long count, long long packs, long long channels,
           long long inner) {
    by_channel(x, y, count, packs, channels, inner, [=](long long c, float v) {
        return scale[c] * (v - mean[c]) / sqrtf(variance[c] + epsilon) + shift[c];
    });
}
