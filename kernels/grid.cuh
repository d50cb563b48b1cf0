// A grid of any size does any amount of work: threads go on by the grid's size until it is done.

// Threads of a block, in every launch.
const int BLOCK = 256;

__device__ __forceinline__ long long first_thread() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ long long all_threads() { return (long long)gridDim.x * blockDim.x; }

// Counts that fit are divided in 32 bits, which a device does several times faster than in 64.
const long long NARROW = 0x7fffffff;
