// Runs this folder's kernels on the processor, so that tests need no GPU: the threads of a block are fibers, which
// give way to each other at barriers and shuffles; blocks run one after the other. For tests alone.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <cstdlib>
#include <tuple>
#include <utility>

#define __device__ static
#define __global__
#define __shared__ static
#define __forceinline__ inline

struct Dim { unsigned x, y, z; };
extern Dim threadIdx, blockIdx, blockDim, gridDim;
struct alignas(16) float4 { float x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

void barrier();
void warp_barrier();
extern uint64_t lanes[1024];

inline void __syncthreads() { barrier(); }

template <class T> T exchange(T value, unsigned from) {
    unsigned self = threadIdx.x;
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    lanes[self] = bits;
    warp_barrier();
    bits = lanes[(self & ~31u) + (from & 31u)];
    warp_barrier();
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}
template <class T> T __shfl_sync(unsigned, T value, int from) { return exchange(value, (unsigned)from); }
template <class T> T __shfl_xor_sync(unsigned, T value, int with) { return exchange(value, (threadIdx.x & 31u) ^ (unsigned)with); }

template <class A, class B> A bits_as(B v) { A a; static_assert(sizeof(A) == sizeof(B)); std::memcpy(&a, &v, sizeof(A)); return a; }
inline float __uint_as_float(unsigned v) { return bits_as<float>(v); }
inline unsigned __float_as_uint(float v) { return bits_as<unsigned>(v); }
inline int __float_as_int(float v) { return bits_as<int>(v); }
template <class T> T atomicAdd(T* at, T v) { T old = *at; *at += v; return old; }
template <class T> T atomicOr(T* at, T v) { T old = *at; *at |= v; return old; }
template <class T> T atomicMax(T* at, T v) { T old = *at; if (v > old) *at = v; return old; }
template <class T> T atomicMin(T* at, T v) { T old = *at; if (v < old) *at = v; return old; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

struct Entry {
    const char* name;
    void (*call)(void**);
};
template <auto F> struct Caller;
template <class... A, void (*F)(A...)> struct Caller<F> {
    template <std::size_t... I> static void spread(void** args, std::index_sequence<I...>) { F(*(A*)args[I]...); }
    static void call(void** args) { spread(args, std::index_sequence_for<A...>{}); }
};
#define KERNEL(name) {#name, Caller<name>::call}
extern const Entry augment_kernels[], crops_kernels[], loss_kernels[], optimiser_kernels[];
