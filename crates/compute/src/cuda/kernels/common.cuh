// What every kernel source may use. No CUDA header is included: NVRTC's package brings none.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// bfloat16, as its 16 bits.
struct bf16 {
    u16 bits;
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }

// Two floats to two bfloat16, rounded to nearest even: `low` in the low half.
__device__ __forceinline__ u32 pack_bf16(float low, float high) {
#ifdef ONSA_CUDA
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
#else
    return emulate_pack_bf16(low, high);
#endif
}

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

// Some of the channels of a dense [pixels, stride] buffer.
template <typename T> struct View {
    T *data;
    i64 stride;
};
