// Maximum and mean over windows; padding is minus infinity and 0. Any kernel, stride, dilation and padding; a window may
// reach beyond the padding (ceil mode). The maximum of a window with a NaN is NaN.

// Coordinates that count in the divisor of a mean: rows `top` to `bottom`, columns `left` to `right`, the ends not included.
struct Counted {
    long long top, bottom, left, right;
};

extern "C" __global__ void __launch_bounds__(256)
pool_max(const storage_t *x, storage_t *y, long long count, Output out, Input in, Window window) {
    for (long long place = first_thread(); place < count; place += all_threads()) {
        const Position at = position(place, count, out);
        const storage_t *plane = x + at.item * in.item + at.channel * in.channel;
        float largest = __uint_as_float(0xff800000);  // minus infinity
        for (long long ky = 0; ky < window.height; ky++) {
            const long long row = at.row * window.stride_y + ky * window.dilation_y - window.top;
            if (!inside(row, in.height)) continue;
            for (long long kx = 0; kx < window.width; kx++) {
                const long long column = at.column * window.stride_x + kx * window.dilation_x - window.left;
                if (!inside(column, in.width)) continue;
                const float value = load(plane, row * in.row + column * in.column);
                // Takes a NaN, and nothing in its place.
                if (value > largest || value != value) largest = value;
            }
        }
        store(y, place, largest);
    }
}

extern "C" __global__ void __launch_bounds__(256)
pool_average(const storage_t *x, storage_t *y, long long count, Output out, Input in, Window window,
             Counted counted) {
    for (long long place = first_thread(); place < count; place += all_threads()) {
        const Position at = position(place, count, out);
        const storage_t *plane = x + at.item * in.item + at.channel * in.channel;
        float sum = 0.0f;
        int rows = 0, columns = 0;
        for (long long kx = 0; kx < window.width; kx++) {
            const long long column = at.column * window.stride_x + kx * window.dilation_x - window.left;
            columns += column >= counted.left && column < counted.right;
        }
        for (long long ky = 0; ky < window.height; ky++) {
            const long long row = at.row * window.stride_y + ky * window.dilation_y - window.top;
            rows += row >= counted.top && row < counted.bottom;
            if (!inside(row, in.height)) continue;
            for (long long kx = 0; kx < window.width; kx++) {
                const long long column = at.column * window.stride_x + kx * window.dilation_x - window.left;
                if (inside(column, in.width)) sum += load(plane, row * in.row + column * in.column);
            }
        }
        store(y, place, sum / ((float)rows * (float)columns));
    }
}
