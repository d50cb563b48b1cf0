// Windows over N x C x H x W tensors in either layout. Threads follow the order of y in memory.

// y: its sizes without the batch, and whether channels come last.
struct Output {
    long long channels, height, width, channels_last;
};

// x: distances between neighbours along the four axes, its height and its width.
struct Input {
    long long item, channel, row, column, height, width;
};

// A window over height and width; `top` and `left` rows and columns of padding come before x.
struct Window {
    long long height, width, stride_y, stride_x, dilation_y, dilation_x, top, left;
};

struct Position {
    long long item;
    int channel, row, column;
};

template <class Index>
__device__ __forceinline__ Position split(Index place, const Output &y) {
    const Index channels = (Index)y.channels, height = (Index)y.height, width = (Index)y.width;
    Position at;
    if (y.channels_last) {
        at.channel = (int)(place % channels);
        place /= channels;
    }
    at.column = (int)(place % width);
    place /= width;
    at.row = (int)(place % height);
    place /= height;
    if (!y.channels_last) {
        at.channel = (int)(place % channels);
        place /= channels;
    }
    at.item = place;
    return at;
}

// Where place `place` of y lies; `count` numbers has y.
__device__ __forceinline__ Position position(long long place, long long count, const Output &y) {
    return fits_32_bits(count) ? split((unsigned int)place, y) : split(place, y);
}

__device__ __forceinline__ bool inside(long long at, long long size) { return at >= 0 && at < size; }
