// A fully connected layer from its definition, one thread a number of y: for what cuBLASLt refuses.
// y[row, o] = sum over f of x[row, f] * weights[o, f], plus bias[o] where there is one (f32; null where absent).

extern "C" __global__ void __launch_bounds__(256)
linear_direct(const storage_t *x, const storage_t *weights, const float *bias, storage_t *y, long long count,
              long long features, long long outputs) {
    for (long long place = first_thread(); place < count; place += all_threads()) {
        const long long row = place / outputs, output = place - row * outputs;
        const storage_t *line = x + row * features, *weight = weights + output * features;
        float sum = 0.0f;
        for (long long feature = 0; feature < features; feature++) {
            sum += load(line, feature) * load(weight, feature);
        }
        store(y, place, bias ? sum + bias[output] : sum);
    }
}
