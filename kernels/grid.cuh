// A grid of any size does any amount of work: threads go on by the grid's size until it is done.

__device__ __forceinline__ long long first_thread() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ long long all_threads() { return (long long)gridDim.x * blockDim.x; }

// Whether places up to `count` may be divided in 32 bits, which a device does several times faster than in 64.
__device__ __forceinline__ bool fits_32_bits(long long count) { return count <= 0x7fffffff; }
