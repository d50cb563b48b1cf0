// Local response normalisation across channels (Krizhevsky 2012, section 3.3, in the form of the ONNX operator LRN):
// y = x / (k + alpha / size * sum)^beta, the sum over x^2 of channels c - (size - 1) / 2 (rounded down) to
// c + (size - 1) / 2 (rounded up) that exist. powf is right to 2 units in the last place (CUDA C++ Programming Guide,
// "Mathematical Functions").

extern "C" __global__ void __launch_bounds__(256)
lrn(const storage_t *x, storage_t *y, long long count, Output out, Input in, long long size, float alpha,
    float beta, float k) {
    for (long long place = first_thread(); place < count; place += all_threads()) {
        const Position at = position(place, count, out);
        const storage_t *line = x + at.item * in.item + at.row * in.row + at.column * in.column;
        long long channel = at.channel - (size - 1) / 2;
        const long long end = at.channel + size / 2 + 1;
        float squares = 0.0f;
        for (channel = channel < 0 ? 0 : channel; channel < end && channel < out.channels; channel++) {
            const float value = load(line, channel * in.channel);
            squares += value * value;
        }
        const float base = k + alpha / (float)size * squares;
        store(y, place, load(line, at.channel * in.channel) / powf(base, beta));
    }
}
