// Tensors of up to six axes whose neighbours lie at given distances.

const int AXES = 6;

// Sizes of the axes, or distances between neighbours along them, the outermost axis first. Passed by value.
struct Axes {
    long long axis[AXES];
};

// Where element `index` lies, counted along the axes: its coordinate along each.
template <class Index>
__device__ __forceinline__ void coordinates(Index index, const Axes &sizes, long long at[AXES]) {
#pragma unroll
    for (int axis = AXES - 1; axis > 0; axis--) {
        const Index size = (Index)sizes.axis[axis];
        // Axes that a walk does not have have size 1; all threads go this way together and are spared a division.
        if (size == 1) {
            at[axis] = 0;
            continue;
        }
        const Index rest = index / size;
        at[axis] = index - rest * size;
        index = rest;
    }
    at[0] = index;
}

__device__ __forceinline__ long long place_at(const long long at[AXES], const Axes &strides) {
    long long place = 0;
#pragma unroll
    for (int axis = 0; axis < AXES; axis++) place += at[axis] * strides.axis[axis];
    return place;
}
