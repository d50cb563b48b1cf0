// How numbers are stored: f32, f16 or bf16, chosen by STORAGE_F32, STORAGE_F16 or STORAGE_BF16. Arithmetic is always f32.
//
// Stands before every family, as text: there are no headers on a user's machine, so f16 goes through PTX and bf16 through
// its bits. Rounding is to nearest, ties to even; NaN stays NaN (IEEE 754-2019, 4.3.1 and 6.2; PTX ISA, "cvt").

#if defined(STORAGE_F32)

typedef float storage_t;

__device__ __forceinline__ float widen(storage_t value) { return value; }
__device__ __forceinline__ storage_t narrow(float value) { return value; }

#elif defined(STORAGE_F16)

typedef unsigned short storage_t;

#if defined(CUDA_SHIM)
__device__ __forceinline__ float widen(storage_t bits) { return shim_f16_to_f32(bits); }
__device__ __forceinline__ storage_t narrow(float value) { return shim_f32_to_f16(value); }
#else
__device__ __forceinline__ float widen(storage_t bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
__device__ __forceinline__ storage_t narrow(float value) {
    storage_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

#elif defined(STORAGE_BF16)

typedef unsigned short storage_t;

__device__ __forceinline__ float widen(storage_t bits) { return __uint_as_float((unsigned int)bits << 16); }

#if !defined(CUDA_SHIM) && __CUDA_ARCH__ >= 800
// One instruction where there is one; the bits below take five.
__device__ __forceinline__ storage_t narrow(float value) {
    storage_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#else
__device__ __forceinline__ storage_t narrow(float value) {
    const unsigned int bits = __float_as_uint(value);
    // The rounding below could carry a NaN into infinity.
    if (value != value) return 0x7fff;
    // Half of the last place kept, and a hair more where that place is odd.
    return (storage_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#endif

#else
#error "no storage type: define STORAGE_F32, STORAGE_F16 or STORAGE_BF16"
#endif

// Numbers in 16 bytes, the widest access of a thread.
const int LANES = 16 / sizeof(storage_t);

// The numbers of one 16-byte pack; `x` is aligned to 16 bytes.
__device__ __forceinline__ void load_pack(const storage_t *x, long long pack, float values[LANES]) {
    const uint4 raw = reinterpret_cast<const uint4 *>(x)[pack];
    const unsigned int words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int lane = 0; lane < LANES; lane++) {
#if defined(STORAGE_F32)
        values[lane] = __uint_as_float(words[lane]);
#else
        values[lane] = widen((storage_t)(words[lane / 2] >> (16 * (lane % 2))));
#endif
    }
}

__device__ __forceinline__ void store_pack(storage_t *y, long long pack, const float values[LANES]) {
    unsigned int words[4];
#pragma unroll
    for (int word = 0; word < 4; word++) {
#if defined(STORAGE_F32)
        words[word] = __float_as_uint(values[word]);
#else
        words[word] = narrow(values[2 * word]) | ((unsigned int)narrow(values[2 * word + 1]) << 16);
#endif
    }
    uint4 raw;
    raw.x = words[0];
    raw.y = words[1];
    raw.z = words[2];
    raw.w = words[3];
    reinterpret_cast<uint4 *>(y)[pack] = raw;
}

__device__ __forceinline__ float load(const storage_t *x, long long place) { return widen(x[place]); }
__device__ __forceinline__ void store(storage_t *y, long long place, float value) { y[place] = narrow(value); }
