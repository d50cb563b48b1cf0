// A border of a constant around height and width. A border below 0 is cut off: then `top` or `left` is below 0.

extern "C" __global__ void __launch_bounds__(256)
pad_constant(const storage_t *x, storage_t *y, long long count, Output out, Input in, long long top,
             long long left, float value) {
    for (long long place = first_thread(); place < count; place += all_threads()) {
        const Position at = position(place, count, out);
        const long long row = at.row - top, column = at.column - left;
        if (inside(row, in.height) && inside(column, in.width)) {
            y[place] = x[at.item * in.item + at.channel * in.channel + row * in.row + column * in.column];
        } else {
            store(y, place, value);
        }
    }
}
