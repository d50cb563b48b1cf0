// Convolution from its definition, one thread a number of y: for what cuDNN refuses. Groups, depthwise, dilation, any
// padding, both layouts. Sums in f32, in the order channel, row, column; the bias is f32 and may be absent (null).

// Distances between neighbours along the four axes of the weights, K x C / groups x R x S by name.
struct Weights {
    long long output, input, row, column;
};

extern "C" __global__ void __launch_bounds__(256)
conv_direct(const storage_t *x, const storage_t *weights, const float *bias, storage_t *y, long long count,
            Output out, Input in, Window window, Weights at_weight, long long inputs_per_group,
            long long outputs_per_group) {
    for (long long place = first_thread(); place < count; place += all_threads()) {
        const Position at = position(place, count, out);
        const long long group = at.channel / (int)outputs_per_group;
        const storage_t *item = x + at.item * in.item + group * inputs_per_group * in.channel;
        const storage_t *filter = weights + at.channel * at_weight.output;
        float sum = 0.0f;
        for (long long channel = 0; channel < inputs_per_group; channel++) {
            for (long long ky = 0; ky < window.height; ky++) {
                const long long row = at.row * window.stride_y + ky * window.dilation_y - window.top;
                if (!inside(row, in.height)) continue;
                for (long long kx = 0; kx < window.width; kx++) {
                    const long long column = at.column * window.stride_x + kx * window.dilation_x - window.left;
                    if (!inside(column, in.width)) continue;
                    sum += load(item, channel * in.channel + row * in.row + column * in.column) *
                           load(filter, channel * at_weight.input + ky * at_weight.row + kx * at_weight.column);
                }
            }
        }
        store(y, place, bias ? sum + bias[at.channel] : sum);
    }
}
