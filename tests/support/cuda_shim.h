// CUDA C++ as plain C++, for one thread of the host: enough of it to run kernels/*.cu without a GPU.
//
// A launch runs its blocks one after another. The threads of a block run one after another too, unless the kernel waits
// for the others of its block (SHIM_FIBERS, set by the generator when a source says __syncthreads): then each thread is a
// fiber, and a barrier passes control round the block. Threads end at a barrier or together, as CUDA demands.
//
// It proves arithmetic, indices and bounds. It does not prove what only a device has: races, memory order, occupancy.

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if SHIM_FIBERS
#include <stdlib.h>
#include <ucontext.h>
#endif

#include <utility>

#define CUDA_SHIM 1
#define __global__ __attribute__((visibility("hidden")))
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local

namespace shim {

struct Index {
    unsigned int x, y, z;
};

static thread_local Index thread_index, block_index, block_size, grid_size;

}  // namespace shim

#define threadIdx (shim::thread_index)
#define blockIdx (shim::block_index)
#define blockDim (shim::block_size)
#define gridDim (shim::grid_size)

// As in CUDA, aligned to its size (CUDA C++ Programming Guide, "Built-in Vector Types").
struct alignas(16) uint4 {
    unsigned int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned int x, y;
};

static inline unsigned int __float_as_uint(float value) {
    unsigned int bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(unsigned int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// What `cvt.f32.f16` does (PTX ISA, "cvt"): every binary16 is a binary32; NaN stays NaN.
static inline float shim_f16_to_f32(unsigned short bits) {
    const int exponent = (bits >> 10) & 31;
    const int mantissa = bits & 1023;
    float magnitude;
    if (exponent == 31) {
        magnitude = mantissa ? NAN : INFINITY;
    } else if (exponent == 0) {
        magnitude = ldexpf((float)mantissa, -24);
    } else {
        magnitude = ldexpf((float)(1024 + mantissa), exponent - 25);
    }
    return (bits & 0x8000) ? -magnitude : magnitude;
}

// What `cvt.rn.f16.f32` does: to nearest, ties to even; too large becomes infinity; any NaN becomes 0x7fff.
static inline unsigned short shim_f32_to_f16(float value) {
    const unsigned short sign = (__float_as_uint(value) >> 16) & 0x8000;
    const float magnitude = fabsf(value);
    if (value != value) return 0x7fff;
    // 65520 lies half-way between the largest binary16 and what would follow it; the tie goes to the even one.
    if (magnitude >= 65520.0f) return sign | 0x7c00;
    // nearbyintf rounds ties to even; scaled so that one unit is the last place of the result.
    if (magnitude < ldexpf(1.0f, -14)) return sign | (unsigned short)nearbyintf(ldexpf(magnitude, 24));
    int exponent;
    frexpf(magnitude, &exponent);  // magnitude = f * 2^exponent, f in [0.5, 1)
    const int units = (int)nearbyintf(ldexpf(magnitude, 11 - exponent));  // 1024 to 2048, both included
    // 2048 carries into the exponent by itself.
    return sign | (unsigned short)(((exponent + 14) << 10) + (units - 1024));
}

#if SHIM_FIBERS

namespace shim {

const size_t STACK = 64 * 1024;

// A block whose threads take turns. Control goes to a thread and comes back at its next barrier or its end.
struct Block {
    ucontext_t scheduler;
    ucontext_t *threads;
    char *stacks;
    bool *ended;
    unsigned int count, current;
    void (*body)(void *);
    void *argument;
};

static thread_local Block *running;

static void enter() {
    Block *block = running;
    block->body(block->argument);
    block->ended[block->current] = true;
}

static void barrier() {
    Block *block = running;
    swapcontext(&block->threads[block->current], &block->scheduler);
}

static Index index_of(unsigned int thread) {
    Index index = {thread % block_size.x, thread / block_size.x % block_size.y,
                   thread / block_size.x / block_size.y};
    return index;
}

static void run_block(Block *block) {
    for (unsigned int thread = 0; thread < block->count; thread++) {
        getcontext(&block->threads[thread]);
        block->threads[thread].uc_stack.ss_sp = block->stacks + thread * STACK;
        block->threads[thread].uc_stack.ss_size = STACK;
        block->threads[thread].uc_link = &block->scheduler;
        makecontext(&block->threads[thread], enter, 0);
        block->ended[thread] = false;
    }
    for (;;) {
        unsigned int ended = 0;
        for (block->current = 0; block->current < block->count; block->current++) {
            thread_index = index_of(block->current);
            swapcontext(&block->scheduler, &block->threads[block->current]);
            ended += block->ended[block->current];
        }
        if (ended == block->count) return;
        // Some wait at a barrier that others will never reach: undefined on a device, an error here.
        if (ended != 0) abort();
    }
}

template <class Body>
static void for_each_thread(unsigned int count, Body &body) {
    Block block;
    block.count = count;
    block.threads = (ucontext_t *)malloc(count * sizeof(ucontext_t));
    block.stacks = (char *)malloc(count * STACK);
    block.ended = (bool *)malloc(count * sizeof(bool));
    block.body = [](void *argument) { (*(Body *)argument)(); };
    block.argument = &body;
    running = &block;
    for (block_index.z = 0; block_index.z < grid_size.z; block_index.z++)
        for (block_index.y = 0; block_index.y < grid_size.y; block_index.y++)
            for (block_index.x = 0; block_index.x < grid_size.x; block_index.x++) run_block(&block);
    free(block.threads);
    free(block.stacks);
    free(block.ended);
}

}  // namespace shim

#define __syncthreads() (shim::barrier())

#else

namespace shim {

template <class Body>
static void for_each_thread(unsigned int, Body &body) {
    Index &block = block_index, &thread = thread_index;
    for (block.z = 0; block.z < grid_size.z; block.z++)
        for (block.y = 0; block.y < grid_size.y; block.y++)
            for (block.x = 0; block.x < grid_size.x; block.x++)
                for (thread.z = 0; thread.z < block_size.z; thread.z++)
                    for (thread.y = 0; thread.y < block_size.y; thread.y++)
                        for (thread.x = 0; thread.x < block_size.x; thread.x++) body();
}

}  // namespace shim

#endif

namespace shim {

// Calls a kernel with arguments as cuLaunchKernel takes them: a pointer to each value.
template <class... Parameters, size_t... Places>
static void call(void (*kernel)(Parameters...), void **arguments, std::index_sequence<Places...>) {
    auto body = [=] { kernel(*static_cast<Parameters *>(arguments[Places])...); };
    for_each_thread(block_size.x * block_size.y * block_size.z, body);
}

template <class... Parameters>
static void launch(void (*kernel)(Parameters...), const unsigned int grid[3], const unsigned int block[3],
                   void **arguments) {
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {block[0], block[1], block[2]};
    call(kernel, arguments, std::index_sequence_for<Parameters...>());
}

}  // namespace shim
