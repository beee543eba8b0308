// What every kernel source may use. No CUDA header is included: NVRTC's package brings none.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifdef ONSA_CUDA

#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) u8 name[]

// Two floats to two bfloat16, rounded to nearest even: `low` in the low half.
__device__ __forceinline__ u32 pack_bf16(float low, float high) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

__device__ __forceinline__ u32 shared_address(const void *p) { return u32(__cvta_generic_to_shared(p)); }

// Copies BYTES (4, 8 or 16) from global to shared memory behind the thread's back; zeros where not `valid`.
template <int BYTES> __device__ __forceinline__ void copy_async(void *to, const void *from, bool valid) {
    u32 address = shared_address(to);
    int bytes = valid ? BYTES : 0;
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes));
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(address), "l"(from), "r"(bytes), "n"(BYTES));
}
__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;"); }
template <int LEFT> __device__ __forceinline__ void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT)); }

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrices(u32 (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}
// The same, each transposed.
__device__ __forceinline__ void load_matrices_transposed(u32 (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

// d += a b, of 16x16 and 16x8 bfloat16.
__device__ __forceinline__ void multiply_add(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same of 16x8 and 8x8 float32, rounded to TF32 (nearest, ties away from zero): in the registers as bfloat16's, a word a number.
__device__ __forceinline__ u32 to_tf32(u32 x) {
    u32 r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(__uint_as_float(x)));
    return r;
}
__device__ __forceinline__ void multiply_add_tf32(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#else
#include "emulate.h"
#endif

// bfloat16, as its 16 bits.
struct bf16 {
    u16 bits;
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }

template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return bf16{u16(pack_bf16(x, 0.f) & 0xffffu)}; }

// V elements of T, loaded and stored at once.
template <typename T, int V> struct alignas(sizeof(T) * V) Pack {
    T at[V];
};

template <typename T, int V> __device__ __forceinline__ void load(const T *from, float (&to)[V]) {
    Pack<T, V> pack = *reinterpret_cast<const Pack<T, V> *>(from);
#pragma unroll
    for (int i = 0; i < V; i++) to[i] = to_float(pack.at[i]);
}

// As `load`, not yet converted.
template <typename T, int V> __device__ __forceinline__ Pack<T, V> fetch(const T *from) {
    return *reinterpret_cast<const Pack<T, V> *>(from);
}

template <typename T, int V> __device__ __forceinline__ void store(T *to, const float (&from)[V]) {
    Pack<T, V> pack;
    if constexpr (sizeof(T) == 2 && V % 2 == 0) {
        u32 *words = reinterpret_cast<u32 *>(&pack);
#pragma unroll
        for (int i = 0; i < V / 2; i++) words[i] = pack_bf16(from[2 * i], from[2 * i + 1]);
    } else {
#pragma unroll
        for (int i = 0; i < V; i++) pack.at[i] = from_float<T>(from[i]);
    }
    *reinterpret_cast<Pack<T, V> *>(to) = pack;
}

// The order of `graph::Activation`.
enum Activation { IDENTITY, SILU, RELU, RELU6, HARDSWISH, HARDSIGMOID, SIGMOID };

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.f, 1.f + __expf(-x)); }

__device__ __forceinline__ float activate(int activation, float x) {
    switch (activation) {
    case SILU: return x * sigmoid(x);
    case RELU: return fmaxf(x, 0.f);
    case RELU6: return fminf(fmaxf(x, 0.f), 6.f);
    case HARDSWISH: return x * fminf(fmaxf(x + 3.f, 0.f), 6.f) * (1.f / 6.f);
    case HARDSIGMOID: return fminf(fmaxf(x + 3.f, 0.f), 6.f) * (1.f / 6.f);
    case SIGMOID: return sigmoid(x);
    default: return x;
    }
}

// Its derivative at x.
__device__ __forceinline__ float slope(int activation, float x) {
    switch (activation) {
    case SILU: {
        float s = sigmoid(x);
        return s * (1.f + x * (1.f - s));
    }
    case RELU: return x > 0.f ? 1.f : 0.f;
    case RELU6: return x > 0.f && x < 6.f ? 1.f : 0.f;
    case HARDSWISH: return x <= -3.f ? 0.f : x < 3.f ? x * (1.f / 3.f) + .5f : 1.f;
    case HARDSIGMOID: return x > -3.f && x < 3.f ? 1.f / 6.f : 0.f;
    case SIGMOID: {
        float s = sigmoid(x);
        return s * (1.f - s);
    }
    default: return 1.f;
    }
}

// Byte offset of a 16-byte chunk in a tile of rows of CHUNKS chunks, such that 8 rows' equal chunks lie in 8 banks.
template <int CHUNKS> __device__ __forceinline__ int swizzled(int row, int chunk) {
    if constexpr (CHUNKS == 2) return (row * 2 + (chunk ^ ((row >> 2) & 1))) * 16;
    if constexpr (CHUNKS == 4) return (row * 4 + (chunk ^ ((row >> 1) & 3))) * 16;
    return (row * CHUNKS + (chunk ^ (row & 7))) * 16;
}

// Whether this block is the last of `count` that come here; the counter is zero again then.
__device__ __forceinline__ bool last_of(u32 *counter, int count) {
    __shared__ u32 ticket;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        ticket = atomicAdd(counter, 1u);
        if (ticket == u32(count - 1)) *counter = 0;
    }
    __syncthreads();
    bool last = ticket == u32(count - 1);
    if (last) __threadfence();
    return last;
}

const int SUM_GROUP = 16, SUM_GROUPS = 64; // blocks of a group, groups at most

// Adds the blocks' pairs of sums, partials[gridDim.x][2][channels], in an order that never changes: the last block of each
// group of blocks its group's (behind the blocks', as rows more), the last of the groups the groups'. For `columns` channels
// from `first` on; the block has at least 2 * columns threads, `shared` room for as many numbers. `finish(channel, a, b)`.
template <typename Finish>
__device__ void finish_sums(float *partials, u32 *tickets, int channels, int first, int columns, double *shared, Finish finish) {
    const int tid = threadIdx.x, which = tid / columns, c = first + tid % columns;
    const bool mine = which < 2 && c < channels;
    const int blocks = gridDim.x, group = blockIdx.x / SUM_GROUP, groups = (blocks + SUM_GROUP - 1) / SUM_GROUP;
    const int members = min(SUM_GROUP, blocks - group * SUM_GROUP);
    u32 *counters = tickets + blockIdx.y * (SUM_GROUPS + 1);
    auto row = [&](int r) { return partials + (i64(r) * 2 + which) * channels + c; };
    auto add = [&](int start, int count) {
        float v[SUM_GROUP];
        double sum = 0;
#pragma unroll
        for (int i = 0; i < SUM_GROUP; i++) v[i] = i < count ? __ldcg(row(start + i)) : 0.f;
#pragma unroll
        for (int i = 0; i < SUM_GROUP; i++) sum += v[i];
        return sum;
    };
    if (!last_of(counters + 1 + group, members)) return;
    double sum = mine ? add(group * SUM_GROUP, members) : 0;
    if (groups > 1) {
        if (mine) *row(blocks + group) = float(sum);
        if (!last_of(counters, groups)) return;
        sum = 0;
        for (int g = 0; mine && g < groups; g += SUM_GROUP) sum += add(blocks + g, min(SUM_GROUP, groups - g));
    }
    if (which < 2) shared[tid] = sum;
    __syncthreads();
    if (which == 0 && mine) finish(c, shared[tid], shared[tid + columns]);
}

// What the tensor cores' kernels are compiled for: bfloat16, or with TF32 defined float32 whose products are rounded to TF32. A
// row of a stage has 64 bytes of either, and 16 of them hold CHUNK elements.
#ifdef TF32
typedef float element;
#define MATRIX_NAME(kind, a, b, c) kind##_tf32_##a##_##b##_##c
#define MATRIX_NAME2(kind, a, b, c, d) kind##_tf32_##a##_##b##_##c##_##d
#else
typedef bf16 element;
#define MATRIX_NAME(kind, a, b, c) kind##_##a##_##b##_##c
#define MATRIX_NAME2(kind, a, b, c, d) kind##_##a##_##b##_##c##_##d
#endif
const int SIZE = sizeof(element), CHUNK = 16 / SIZE;

#ifdef ONSA_CUDA
// Rounds what was loaded from shared memory for `product`, where it needs that.
template <int N> __device__ __forceinline__ void rounded(u32 (&r)[N]) {
    if constexpr (SIZE == 4)
#pragma unroll
        for (int i = 0; i < N; i++) r[i] = to_tf32(r[i]);
}
__device__ __forceinline__ void product(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    if constexpr (SIZE == 4)
        multiply_add_tf32(d, a, b0, b1);
    else
        multiply_add(d, a, b0, b1);
}
#endif

// Makes `name_bf16_8`, `name_bf16_1`, `name_float_4`, `name_float_1`: DEFINE(name, T, V) gives each.
#define FOR_TYPES(DEFINE) DEFINE(bf16, 8) DEFINE(bf16, 1) DEFINE(float, 4) DEFINE(float, 1)
