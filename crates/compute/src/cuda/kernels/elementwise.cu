// Copies, sums, activations, pooling, enlargement: V channels of a pixel a thread.
#include "common.cuh"

#define LOOP(i, total) for (i64 i = blockIdx.x * i64(blockDim.x) + threadIdx.x; i < total; i += i64(gridDim.x) * blockDim.x)

struct Image {
    int n, h, w, oh, ow, groups; // groups of V channels
    int kernel, stride, pad, add;
    i64 xs, ys;                  // of the larger (or the input), of the smaller (or the output)
};

// y = x (+ z) (+ y).
template <typename T, int V>
__device__ void sum(const T *x, i64 xs, const T *z, i64 zs, T *y, i64 ys, int pixels, int groups, int add) {
    LOOP(i, i64(pixels) * groups) {
        i64 p = i / groups;
        int c = int(i - p * groups) * V;
        float a[V], b[V];
        load<T, V>(x + p * xs + c, a);
        if (z) {
            load<T, V>(z + p * zs + c, b);
#pragma unroll
            for (int j = 0; j < V; j++) a[j] += b[j];
        }
        if (add) {
            load<T, V>(y + p * ys + c, b);
#pragma unroll
            for (int j = 0; j < V; j++) a[j] += b[j];
        }
        store<T, V>(y + p * ys + c, a);
    }
}

template <typename T, int V> __device__ void zero(T *y, i64 ys, int pixels, int groups) {
    float none[V];
#pragma unroll
    for (int j = 0; j < V; j++) none[j] = 0.f;
    LOOP(i, i64(pixels) * groups) {
        i64 p = i / groups;
        store<T, V>(y + p * ys + int(i - p * groups) * V, none);
    }
}

// y = act(x), or where dy is given y (+)= dy * act'(x).
template <typename T, int V>
__device__ void activation(const T *x, i64 xs, const T *dy, i64 ds, T *y, i64 ys, int pixels, int groups, int kind, int add) {
    LOOP(i, i64(pixels) * groups) {
        i64 p = i / groups;
        int c = int(i - p * groups) * V;
        float v[V], d[V];
        load<T, V>(x + p * xs + c, v);
        if (dy) {
            load<T, V>(dy + p * ds + c, d);
#pragma unroll
            for (int j = 0; j < V; j++) v[j] = d[j] * slope(kind, v[j]);
        } else {
#pragma unroll
            for (int j = 0; j < V; j++) v[j] = activate(kind, v[j]);
        }
        if (add) {
            load<T, V>(y + p * ys + c, d);
#pragma unroll
            for (int j = 0; j < V; j++) v[j] += d[j];
        }
        store<T, V>(y + p * ys + c, v);
    }
}

// y (+)= x * scale, a factor a channel.
template <typename T, int V>
__device__ void scale_channels(const T *x, i64 xs, const float *scale, T *y, i64 ys, int pixels, int groups, int add) {
    LOOP(i, i64(pixels) * groups) {
        i64 p = i / groups;
        int c = int(i - p * groups) * V;
        float v[V], d[V];
        load<T, V>(x + p * xs + c, v);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] *= scale[c + j];
        if (add) {
            load<T, V>(y + p * ys + c, d);
#pragma unroll
            for (int j = 0; j < V; j++) v[j] += d[j];
        }
        store<T, V>(y + p * ys + c, v);
    }
}

// y (+)= x * factors, one an image (`per_image` pixels) and channel.
template <typename T, int V>
__device__ void gate(const T *x, i64 xs, const T *factors, i64 fs, T *y, i64 ys, int pixels, int per_image, int groups, int add) {
    LOOP(i, i64(pixels) * groups) {
        i64 p = i / groups;
        int c = int(i - p * groups) * V;
        float v[V], d[V];
        load<T, V>(x + p * xs + c, v);
        load<T, V>(factors + p / per_image * fs + c, d);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] *= d[j];
        if (add) {
            load<T, V>(y + p * ys + c, d);
#pragma unroll
            for (int j = 0; j < V; j++) v[j] += d[j];
        }
        store<T, V>(y + p * ys + c, v);
    }
}

// d_factors (+)= the sums of x * dy over an image's pixels: a block has 8 groups of V channels of an image (blockIdx.y).
template <typename T, int V>
__device__ void gate_factors_grad(const T *x, i64 xs, const T *dy, i64 ds, T *to, i64 fs, int per_image, int groups, int add) {
    __shared__ float table[256 * V];
    const int lane = threadIdx.x % 8, row = threadIdx.x / 8, group = blockIdx.x * 8 + lane, c = group * V;
    const i64 first = i64(blockIdx.y) * per_image;
    float acc[V], v[V], d[V];
#pragma unroll
    for (int j = 0; j < V; j++) acc[j] = 0.f;
    if (group < groups)
        for (int i = row; i < per_image; i += 32) {
            load<T, V>(x + (first + i) * xs + c, v);
            load<T, V>(dy + (first + i) * ds + c, d);
#pragma unroll
            for (int j = 0; j < V; j++) acc[j] += v[j] * d[j];
        }
#pragma unroll
    for (int j = 0; j < V; j++) table[threadIdx.x * V + j] = acc[j];
    for (int half = 16; half > 0; half /= 2) {
        __syncthreads();
        if (row < half)
#pragma unroll
            for (int j = 0; j < V; j++) table[threadIdx.x * V + j] += table[(threadIdx.x + half * 8) * V + j];
    }
    if (row > 0 || group >= groups) return;
#pragma unroll
    for (int j = 0; j < V; j++) acc[j] = table[threadIdx.x * V + j];
    if (add) {
        load<T, V>(to + blockIdx.y * fs + c, v);
#pragma unroll
        for (int j = 0; j < V; j++) acc[j] += v[j];
    }
    store<T, V>(to + blockIdx.y * fs + c, acc);
}

// Of each group of `group` channels of x those from `start` on, `len` of them, to y; with `back` added from y to x.
template <typename T, int V>
__device__ void gather_heads(T *x, i64 xs, T *y, i64 ys, int pixels, int heads, int group, int start, int len, int back) {
    int per_head = len / V, groups = heads * per_head;
    LOOP(i, i64(pixels) * groups) {
        i64 p = i / groups;
        int g = int(i - p * groups), head = g / per_head, c = g % per_head * V;
        T *at = x + p * xs + head * group + start + c, *other = y + p * ys + head * len + c;
        float v[V], w[V];
        if (back) {
            load<T, V>(at, v);
            load<T, V>(other, w);
#pragma unroll
            for (int j = 0; j < V; j++) v[j] += w[j];
            store<T, V>(at, v);
        } else {
            load<T, V>(at, v);
            store<T, V>(other, v);
        }
    }
}

// Maxima of windows; where `places` is given, their places in the window instead (the first in reading order).
template <typename T, int V> __device__ void max_pool(const T *x, T *y, u8 *places, const Image &p) {
    LOOP(i, i64(p.n) * p.oh * p.ow * p.groups) {
        i64 pixel = i / p.groups, rest = pixel / p.ow;
        int c = int(i - pixel * p.groups) * V, ox = int(pixel % p.ow), oy = int(rest % p.oh), n = int(rest / p.oh);
        float most[V];
        u8 place[V];
#pragma unroll
        for (int j = 0; j < V; j++) most[j] = -3.402823466e38f * 2.f, place[j] = 0;
        for (int ky = 0; ky < p.kernel; ky++)
            for (int kx = 0; kx < p.kernel; kx++) {
                int iy = oy * p.stride - p.pad + ky, ix = ox * p.stride - p.pad + kx;
                if (u32(iy) >= u32(p.h) || u32(ix) >= u32(p.w)) continue;
                float v[V];
                load<T, V>(x + (i64(n * p.h + iy) * p.w + ix) * p.xs + c, v);
#pragma unroll
                for (int j = 0; j < V; j++)
                    if (v[j] > most[j] || v[j] != v[j]) most[j] = v[j], place[j] = u8(ky * p.kernel + kx);
            }
        if (places) {
#pragma unroll
            for (int j = 0; j < V; j++) places[pixel * p.groups * V + c + j] = place[j];
        } else {
            store<T, V>(y + pixel * p.ys + c, most);
        }
    }
}

// Each input pixel takes the gradients of the windows whose maximum it is.
template <typename T, int V> __device__ void max_pool_grad(const T *dy, const u8 *places, T *dx, const Image &p) {
    LOOP(i, i64(p.n) * p.h * p.w * p.groups) {
        i64 pixel = i / p.groups, rest = pixel / p.w;
        int c = int(i - pixel * p.groups) * V, x = int(pixel % p.w), y = int(rest % p.h), n = int(rest / p.h);
        float acc[V];
#pragma unroll
        for (int j = 0; j < V; j++) acc[j] = 0.f;
        for (int ky = 0; ky < p.kernel; ky++) {
            int ty = y + p.pad - ky, oy = ty / p.stride;
            if (ty < 0 || ty % p.stride || oy >= p.oh) continue;
            for (int kx = 0; kx < p.kernel; kx++) {
                int tx = x + p.pad - kx, ox = tx / p.stride;
                if (tx < 0 || tx % p.stride || ox >= p.ow) continue;
                i64 from = i64(n * p.oh + oy) * p.ow + ox;
                Pack<u8, V> place = *reinterpret_cast<const Pack<u8, V> *>(places + from * p.groups * V + c);
                float v[V];
                load<T, V>(dy + from * p.ys + c, v);
#pragma unroll
                for (int j = 0; j < V; j++) acc[j] += place.at[j] == ky * p.kernel + kx ? v[j] : 0.f;
            }
        }
        T *to = dx + pixel * p.xs + c;
        if (p.add) {
            float other[V];
            load<T, V>(to, other);
#pragma unroll
            for (int j = 0; j < V; j++) acc[j] += other[j];
        }
        store<T, V>(to, acc);
    }
}

// Each pixel of x (h x w) to four of y (2h x 2w).
template <typename T, int V> __device__ void upsample(const T *x, T *y, const Image &p) {
    LOOP(i, i64(p.n) * p.oh * p.ow * p.groups) {
        i64 pixel = i / p.groups, rest = pixel / p.ow;
        int c = int(i - pixel * p.groups) * V, ox = int(pixel % p.ow), oy = int(rest % p.oh), n = int(rest / p.oh);
        float v[V];
        load<T, V>(x + (i64(n * p.h + oy / 2) * p.w + ox / 2) * p.xs + c, v);
        store<T, V>(y + pixel * p.ys + c, v);
    }
}
// Sums of four of dy (2h x 2w) to each of dx (h x w).
template <typename T, int V> __device__ void upsample_grad(const T *dy, T *dx, const Image &p) {
    LOOP(i, i64(p.n) * p.h * p.w * p.groups) {
        i64 pixel = i / p.groups, rest = pixel / p.w;
        int c = int(i - pixel * p.groups) * V, x = int(pixel % p.w), y = int(rest % p.h), n = int(rest / p.h);
        float acc[V], v[V];
        T *to = dx + pixel * p.xs + c;
#pragma unroll
        for (int j = 0; j < V; j++) acc[j] = 0.f;
        if (p.add) load<T, V>(to, acc);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            load<T, V>(dy + (i64(n * p.oh + 2 * y + k / 2) * p.ow + 2 * x + k % 2) * p.ys + c, v);
#pragma unroll
            for (int j = 0; j < V; j++) acc[j] += v[j];
        }
        store<T, V>(to, acc);
    }
}

// The mean over an image's pixels: a warp has V channels of an image.
template <typename T, int V> __device__ void global_mean(const T *x, T *y, const Image &p) {
    int item = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (item >= p.n * p.groups) return;
    int n = item / p.groups, c = item % p.groups * V, pixels = p.h * p.w;
    float acc[V], v[V];
#pragma unroll
    for (int j = 0; j < V; j++) acc[j] = 0.f;
    for (int i = lane; i < pixels; i += 32) {
        load<T, V>(x + (i64(n) * pixels + i) * p.xs + c, v);
#pragma unroll
        for (int j = 0; j < V; j++) acc[j] += v[j];
    }
#pragma unroll
    for (int j = 0; j < V; j++)
#pragma unroll
        for (int far = 16; far > 0; far /= 2) acc[j] += __shfl_xor_sync(0xffffffffu, acc[j], far);
#pragma unroll
    for (int j = 0; j < V; j++) acc[j] /= float(pixels);
    if (lane == 0) store<T, V>(y + n * p.ys + c, acc);
}
template <typename T, int V> __device__ void global_mean_grad(const T *dy, T *dx, const Image &p) {
    int pixels = p.h * p.w;
    LOOP(i, i64(p.n) * pixels * p.groups) {
        i64 pixel = i / p.groups;
        int c = int(i - pixel * p.groups) * V;
        float v[V], other[V];
        load<T, V>(dy + pixel / pixels * p.ys + c, v);
        T *to = dx + pixel * p.xs + c;
#pragma unroll
        for (int j = 0; j < V; j++) v[j] /= float(pixels);
        if (p.add) {
            load<T, V>(to, other);
#pragma unroll
            for (int j = 0; j < V; j++) v[j] += other[j];
        }
        store<T, V>(to, v);
    }
}

#define ELEMENTWISE(T, V)                                                                                              \
    extern "C" __global__ void sum_##T##_##V(const T *x, i64 xs, const T *z, i64 zs, T *y, i64 ys, int pixels,         \
                                             int groups, int add) {                                                    \
        sum<T, V>(x, xs, z, zs, y, ys, pixels, groups, add);                                                           \
    }                                                                                                                  \
    extern "C" __global__ void zero_##T##_##V(T *y, i64 ys, int pixels, int groups) { zero<T, V>(y, ys, pixels, groups); } \
    extern "C" __global__ void activation_##T##_##V(const T *x, i64 xs, const T *dy, i64 ds, T *y, i64 ys, int pixels, \
                                                    int groups, int kind, int add) {                                   \
        activation<T, V>(x, xs, dy, ds, y, ys, pixels, groups, kind, add);                                             \
    }                                                                                                                  \
    extern "C" __global__ void scale_channels_##T##_##V(const T *x, i64 xs, const float *scale, T *y, i64 ys,          \
                                                        int pixels, int groups, int add) {                             \
        scale_channels<T, V>(x, xs, scale, y, ys, pixels, groups, add);                                                \
    }                                                                                                                  \
    extern "C" __global__ void gate_##T##_##V(const T *x, i64 xs, const T *factors, i64 fs, T *y, i64 ys, int pixels,  \
                                              int per_image, int groups, int add) {                                    \
        gate<T, V>(x, xs, factors, fs, y, ys, pixels, per_image, groups, add);                                         \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256) gate_factors_grad_##T##_##V(                                     \
        const T *x, i64 xs, const T *dy, i64 ds, T *to, i64 fs, int per_image, int groups, int add) {                  \
        gate_factors_grad<T, V>(x, xs, dy, ds, to, fs, per_image, groups, add);                                        \
    }                                                                                                                  \
    extern "C" __global__ void gather_heads_##T##_##V(T *x, i64 xs, T *y, i64 ys, int pixels, int heads, int group,    \
                                                      int start, int len, int back) {                                  \
        gather_heads<T, V>(x, xs, y, ys, pixels, heads, group, start, len, back);                                      \
    }                                                                                                                  \
    extern "C" __global__ void max_pool_##T##_##V(const T *x, T *y, u8 *places, const __grid_constant__ Image p) {     \
        max_pool<T, V>(x, y, places, p);                                                                               \
    }                                                                                                                  \
    extern "C" __global__ void max_pool_grad_##T##_##V(const T *dy, const u8 *places, T *dx,                           \
                                                       const __grid_constant__ Image p) {                              \
        max_pool_grad<T, V>(dy, places, dx, p);                                                                        \
    }                                                                                                                  \
    extern "C" __global__ void upsample_##T##_##V(const T *x, T *y, const __grid_constant__ Image p) {                 \
        upsample<T, V>(x, y, p);                                                                                       \
    }                                                                                                                  \
    extern "C" __global__ void upsample_grad_##T##_##V(const T *dy, T *dx, const __grid_constant__ Image p) {          \
        upsample_grad<T, V>(dy, dx, p);                                                                                \
    }                                                                                                                  \
    extern "C" __global__ void global_mean_##T##_##V(const T *x, T *y, const __grid_constant__ Image p) {              \
        global_mean<T, V>(x, y, p);                                                                                    \
    }                                                                                                                  \
    extern "C" __global__ void global_mean_grad_##T##_##V(const T *dy, T *dx, const __grid_constant__ Image p) {       \
        global_mean_grad<T, V>(dy, dx, p);                                                                             \
    }
FOR_TYPES(ELEMENTWISE)

// Host values, float32 and dense, to a view and back.
template <typename T> __device__ void bring(const float *from, T *to, i64 stride, int channels, i64 total) {
    LOOP(i, total) to[i / channels * stride + i % channels] = from_float<T>(from[i]);
}
template <typename T> __device__ void bring_back(const T *from, float *to, i64 stride, int channels, i64 total) {
    LOOP(i, total) to[i] = to_float(from[i / channels * stride + i % channels]);
}
extern "C" __global__ void bring_bf16(const float *from, bf16 *to, i64 stride, int channels, i64 total) { bring(from, to, stride, channels, total); }
extern "C" __global__ void bring_float(const float *from, float *to, i64 stride, int channels, i64 total) { bring(from, to, stride, channels, total); }
extern "C" __global__ void fetch_bf16(const bf16 *from, float *to, i64 stride, int channels, i64 total) { bring_back(from, to, stride, channels, total); }
extern "C" __global__ void fetch_float(const float *from, float *to, i64 stride, int channels, i64 total) { bring_back(from, to, stride, channels, total); }
