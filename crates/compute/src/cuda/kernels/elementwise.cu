#include "common.cuh"

// y = x, or y += x: pixels of `channels` channels, V at a time.
template <typename T, int V>
__device__ void copy(const T *x, i64 xs, T *y, i64 ys, int pixels, int groups, int add) {
    i64 total = i64(pixels) * groups;
    for (i64 i = blockIdx.x * i64(blockDim.x) + threadIdx.x; i < total; i += i64(gridDim.x) * blockDim.x) {
        i64 p = i / groups;
        int c = int(i - p * groups) * V;
        float a[V];
        load<T, V>(x + p * xs + c, a);
        if (add) {
            float b[V];
            load<T, V>(y + p * ys + c, b);
#pragma unroll
            for (int j = 0; j < V; j++) a[j] += b[j];
        }
        store<T, V>(y + p * ys + c, a);
    }
}

#define COPY(T, V)                                                                                                     \
    extern "C" __global__ void copy_##T##_##V(const T *x, i64 xs, T *y, i64 ys, int pixels, int groups, int add) {     \
        copy<T, V>(x, xs, y, ys, pixels, groups, add);                                                                 \
    }
COPY(bf16, 8)
COPY(bf16, 1)
COPY(float, 4)
COPY(float, 1)
