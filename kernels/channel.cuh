// Work that depends on a number's channel. A tensor is seen as outer x channels x inner, whatever its layout: for
// N x C x H x W inner is H * W, for N x H x W x C it is 1.

// Calls `each(channel, value)` for each number and stores the result. Packs of 16 bytes as in `activation.cu`.
template <class Each>
__device__ __forceinline__ void by_channel(const storage_t *x, storage_t *y, long long count, long long packs,
                                           long long channels, long long inner, Each each) {
    for (long long pack = first_thread(); pack < packs; pack += all_threads()) {
        float values[LANES];
        load_pack(x, pack, values);
        const long long place = pack * LANES;
        // Two divisions a pack; inside one the channel is counted on.
        long long line, channel, within;
        if (fits_32_bits(count)) {
            line = (unsigned int)place / (unsigned int)inner;
            channel = (unsigned int)line % (unsigned int)channels;
        } else {
            line = place / inner;
            channel = line % channels;
        }
        within = place - line * inner;
#pragma unroll
        for (int lane = 0; lane < LANES; lane++) {
            values[lane] = each(channel, values[lane]);
            if (++within == inner) {
                within = 0;
                if (++channel == channels) channel = 0;
            }
        }
        store_pack(y, pack, values);
    }
    for (long long place = packs * LANES + first_thread(); place < count; place += all_threads()) {
        store(y, place, each(place / inner % channels, load(x, place)));
    }
}
