// What every kernel of this folder uses. Compiled by NVRTC without headers and without contraction of multiplications
// and additions, so that the arithmetic is the processor's, operation by operation.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// bfloat16 to float32.
__device__ __forceinline__ float widen(u16 v) { return __uint_as_float((u32)v << 16); }

// float32 to the nearest bfloat16, ties to even; a NaN stays one.
__device__ __forceinline__ u16 narrow(float v) {
    u32 bits = __float_as_uint(v);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)((bits >> 16) | 0x40u);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Element `at` of an array of float32 or, where `half` says so, bfloat16.
__device__ __forceinline__ float load(const void* base, u64 at, int half) {
    return half ? widen(((const u16*)base)[at]) : ((const float*)base)[at];
}

__device__ __forceinline__ void store(void* base, u64 at, float v, int half) {
    if (half) ((u16*)base)[at] = narrow(v);
    else ((float*)base)[at] = v;
}

// Sum over the block in a fixed order; all threads get it. `room` holds one value a thread; the block's size is a
// power of two.
__device__ inline double block_sum(double v, double* room) {
    __syncthreads();
    room[threadIdx.x] = v;
    __syncthreads();
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
        __syncthreads();
    }
    return room[0];
}
