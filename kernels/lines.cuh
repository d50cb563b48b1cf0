// Reductions over lines. A tensor is seen as outer x length x inner; a line has `length` numbers, `inner` apart. Lines of
// neighbouring numbers (inner is 1) have a block each, others a thread each, so that neighbouring threads always read
// neighbouring numbers.

// Threads of a block, a power of two.
const int BLOCK = 256;

// Where line `line` begins.
__device__ __forceinline__ long long line_start(long long line, long long length, long long inner) {
    return line / inner * length * inner + line % inner;
}

__device__ __forceinline__ float sum_of(float a, float b) { return a + b; }

// Takes a NaN, and nothing in its place.
__device__ __forceinline__ float larger_of(float a, float b) { return b > a || b != b ? b : a; }

// A value of each thread of the block made one, in f32 and pairwise; every thread gets it.
template <class Combine>
__device__ __forceinline__ float across_block(float value, Combine combine) {
    __shared__ float values[BLOCK];
    values[threadIdx.x] = value;
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) {
            values[threadIdx.x] = combine(values[threadIdx.x], values[threadIdx.x + half]);
        }
        __syncthreads();
    }
    const float result = values[0];
    // The next use must not overwrite it before all have read it.
    __syncthreads();
    return result;
}

const unsigned int MINUS_INFINITY = 0xff800000;
