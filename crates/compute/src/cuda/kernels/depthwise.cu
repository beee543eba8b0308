// Depthwise convolutions: a thread has V channels of a strip of output pixels. Weights are float32, [taps][channels].
#include "common.cuh"

struct Depthwise {
    int n, h, w, oh, ow, channels;
    int kh, kw, stride_y, stride_x, pad_y, pad_x;
    i64 xs, ys, rs;
    int activation, add, flipped;
};

// Output pixels of a row that one thread has.
const int STRIP = 4;

// y (+)= act(conv(x) + bias) + residual. K: the window's size, 0 where it is not square or unusual.
template <typename T, int V, int K, int S>
__device__ void depthwise(const T *x, T *y, const T *residual, const float *w, const float *bias, const Depthwise &p) {
    const int groups = p.channels / V, strips = (p.ow + STRIP - 1) / STRIP;
    const int kh = K ? K : p.kh, kw = K ? K : p.kw, sx = K ? S : p.stride_x, sy = K ? S : p.stride_y;
    i64 total = i64(p.n) * p.oh * strips * groups;
    for (i64 i = blockIdx.x * i64(blockDim.x) + threadIdx.x; i < total; i += i64(gridDim.x) * blockDim.x) {
        int c = int(i % groups) * V;
        i64 rest = i / groups;
        int ox = int(rest % strips) * STRIP;
        rest /= strips;
        int oy = int(rest % p.oh), n = int(rest / p.oh);
        float acc[STRIP][V];
#pragma unroll
        for (int s = 0; s < STRIP; s++)
#pragma unroll
            for (int j = 0; j < V; j++) acc[s][j] = bias ? bias[c + j] : 0.f;
        for (int ky = 0; ky < kh; ky++) {
            int iy = oy * sy - p.pad_y + ky;
            if (u32(iy) >= u32(p.h)) continue;
            const T *row = x + i64(n * p.h + iy) * p.w * p.xs + c;
            const float *weights = w + (p.flipped ? kh - 1 - ky : ky) * kw * p.channels + c;
            if constexpr (K > 0) {
                constexpr int WIDE = (STRIP - 1) * S + K;
                float fw[K][V];
#pragma unroll
                for (int kx = 0; kx < K; kx++)
#pragma unroll
                    for (int j = 0; j < V; j++) fw[kx][j] = weights[(p.flipped ? K - 1 - kx : kx) * p.channels + j];
#pragma unroll
                for (int at = 0; at < WIDE; at++) {
                    int ix = ox * S - p.pad_x + at;
                    float v[V];
                    if (u32(ix) < u32(p.w)) {
                        load<T, V>(row + ix * p.xs, v);
                    } else {
#pragma unroll
                        for (int j = 0; j < V; j++) v[j] = 0.f;
                    }
#pragma unroll
                    for (int s = 0; s < STRIP; s++) {
                        int kx = at - s * S;
                        if (kx >= 0 && kx < K)
#pragma unroll
                            for (int j = 0; j < V; j++) acc[s][j] += v[j] * fw[kx][j];
                    }
                }
            } else {
                for (int kx = 0; kx < kw; kx++)
#pragma unroll
                    for (int s = 0; s < STRIP; s++) {
                        int ix = (ox + s) * sx - p.pad_x + kx;
                        if (u32(ix) >= u32(p.w)) continue;
                        float v[V];
                        load<T, V>(row + ix * p.xs, v);
                        const float *fw = weights + (p.flipped ? kw - 1 - kx : kx) * p.channels;
#pragma unroll
                        for (int j = 0; j < V; j++) acc[s][j] += v[j] * fw[j];
                    }
            }
        }
#pragma unroll
        for (int s = 0; s < STRIP; s++) {
            if (ox + s >= p.ow) break;
            i64 pixel = i64(n * p.oh + oy) * p.ow + ox + s;
            float other[V];
            T *to = y + pixel * p.ys + c;
#pragma unroll
            for (int j = 0; j < V; j++) acc[s][j] = activate(p.activation, acc[s][j]);
            if (residual) {
                load<T, V>(residual + pixel * p.rs + c, other);
#pragma unroll
                for (int j = 0; j < V; j++) acc[s][j] += other[j];
            }
            if (p.add) {
                load<T, V>(to, other);
#pragma unroll
                for (int j = 0; j < V; j++) acc[s][j] += other[j];
            }
            store<T, V>(to, acc[s]);
        }
    }
}

// The gradient of the input for any step: each input pixel gathers from the outputs that saw it.
template <typename T, int V> __device__ void depthwise_scatter(const T *dy, T *dx, const float *w, const Depthwise &p) {
    const int groups = p.channels / V;
    i64 total = i64(p.n) * p.h * p.w * groups;
    for (i64 i = blockIdx.x * i64(blockDim.x) + threadIdx.x; i < total; i += i64(gridDim.x) * blockDim.x) {
        int c = int(i % groups) * V;
        i64 pixel = i / groups, rest = pixel / p.w;
        int x = int(pixel % p.w), y = int(rest % p.h), n = int(rest / p.h);
        float acc[V];
#pragma unroll
        for (int j = 0; j < V; j++) acc[j] = 0.f;
        for (int ky = 0; ky < p.kh; ky++) {
            int ty = y + p.pad_y - ky, oy = ty / p.stride_y;
            if (ty < 0 || ty % p.stride_y || oy >= p.oh) continue;
            for (int kx = 0; kx < p.kw; kx++) {
                int tx = x + p.pad_x - kx, ox = tx / p.stride_x;
                if (tx < 0 || tx % p.stride_x || ox >= p.ow) continue;
                float v[V];
                load<T, V>(dy + (i64(n * p.oh + oy) * p.ow + ox) * p.ys + c, v);
#pragma unroll
                for (int j = 0; j < V; j++) acc[j] += v[j] * w[(ky * p.kw + kx) * p.channels + c + j];
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

// The gradient of the input at step 2, for a square window of K: a thread has STRIP input pixels of a row. B: the padding's
// lowest bit, which says which taps meet which pixels.
template <typename T, int V, int K, int B>
__device__ void depthwise_data_grad_2(const T *dy, T *dx, const float *w, const Depthwise &p) {
    const int groups = p.channels / V, strips = (p.w + STRIP - 1) / STRIP;
    i64 total = i64(p.n) * p.h * strips * groups;
    for (i64 i = blockIdx.x * i64(blockDim.x) + threadIdx.x; i < total; i += i64(gridDim.x) * blockDim.x) {
        int c = int(i % groups) * V;
        i64 rest = i / groups;
        int x = int(rest % strips) * STRIP;
        rest /= strips;
        int y = int(rest % p.h), n = int(rest / p.h);
        float acc[STRIP][V];
#pragma unroll
        for (int s = 0; s < STRIP; s++)
#pragma unroll
            for (int j = 0; j < V; j++) acc[s][j] = 0.f;
        for (int ky = (y + p.pad_y) & 1; ky < K; ky += 2) {
            int oy = (y + p.pad_y - ky) >> 1;
            if (u32(oy) >= u32(p.oh)) continue;
            const T *row = dy + i64(n * p.oh + oy) * p.ow * p.ys + c;
            float fw[K][V];
#pragma unroll
            for (int kx = 0; kx < K; kx++)
#pragma unroll
                for (int j = 0; j < V; j++) fw[kx][j] = w[(ky * K + kx) * p.channels + c + j];
            // Output column `first - m` meets pixel s with tap s + B + 2 m.
            const int first = (x >> 1) + (p.pad_x >> 1);
            constexpr int LOW = -(STRIP - 1 + B) / 2, HIGH = (K - 1 - B) / 2;
#pragma unroll
            for (int m = LOW; m <= HIGH; m++) {
                int ox = first - m;
                if (u32(ox) >= u32(p.ow)) continue;
                float v[V];
                load<T, V>(row + ox * p.ys, v);
#pragma unroll
                for (int s = 0; s < STRIP; s++) {
                    int kx = s + B + 2 * m;
                    if (kx >= 0 && kx < K)
#pragma unroll
                        for (int j = 0; j < V; j++) acc[s][j] += v[j] * fw[kx][j];
                }
            }
        }
#pragma unroll
        for (int s = 0; s < STRIP; s++) {
            if (x + s >= p.w) break;
            T *to = dx + (i64(n * p.h + y) * p.w + x + s) * p.xs + c;
            if (p.add) {
                float other[V];
                load<T, V>(to, other);
#pragma unroll
                for (int j = 0; j < V; j++) acc[s][j] += other[j];
            }
            store<T, V>(to, acc[s]);
        }
    }
}

// A block's sums of acc[k] over its rows of threads, for window row `ky` and columns from `first` on, to its partial sums.
template <int V, int K>
__device__ void window_sums(float (&acc)[K][V], float *table, float *partials, const Depthwise &p, int ky, int first, int lanes) {
    const int rows = 256 / lanes, r = threadIdx.x / lanes;
#pragma unroll
    for (int k = 0; k < K; k++) {
        __syncthreads();
#pragma unroll
        for (int j = 0; j < V; j++) table[threadIdx.x * V + j] = acc[k][j];
        int half = 1;
        while (half < rows) half *= 2;
        for (half /= 2; half > 0; half /= 2) {
            __syncthreads();
            if (r < half && r + half < rows)
#pragma unroll
                for (int j = 0; j < V; j++) table[threadIdx.x * V + j] += table[(threadIdx.x + half * lanes) * V + j];
        }
        __syncthreads();
        for (int i = threadIdx.x; i < lanes * V; i += 256) {
            int channel = blockIdx.y * 8 * V + i;
            if (channel < p.channels && first + k < p.kw)
                partials[((i64(blockIdx.x) * p.kh + ky) * p.kw + first + k) * p.channels + channel] = table[i];
        }
    }
}

// The gradient of the weight of a square window of K at step S: as the general one below, but a thread takes STRIP output
// pixels of a row at once, so that neighbours share what they read.
template <typename T, int V, int K, int S>
__device__ void depthwise_weight_grad_strips(const T *x, const T *dy, float *partials, const Depthwise &p) {
    __shared__ float table[256 * V];
    const int groups = p.channels / V, lanes = min(groups, 8), rows = 256 / lanes;
    const int g = threadIdx.x % lanes, r = threadIdx.x / lanes, group = blockIdx.y * 8 + g, c = group * V;
    const int ky = blockIdx.z, strips = (p.ow + STRIP - 1) / STRIP, items = p.n * p.oh * strips;
    constexpr int WIDE = (STRIP - 1) * S + K;
    float acc[K][V];
#pragma unroll
    for (int k = 0; k < K; k++)
#pragma unroll
        for (int j = 0; j < V; j++) acc[k][j] = 0.f;
    if (r < rows && group < groups)
        for (int item = blockIdx.x * rows + r; item < items; item += gridDim.x * rows) {
            int ox = item % strips * STRIP, line = item / strips, oy = line % p.oh, n = line / p.oh;
            int iy = oy * S - p.pad_y + ky, left = ox * S - p.pad_x;
            if (u32(iy) >= u32(p.h)) continue;
            const T *row = x + i64(n * p.h + iy) * p.w * p.xs + c, *grads = dy + (i64(line) * p.ow + ox) * p.ys + c;
            float d[STRIP][V];
#pragma unroll
            for (int s = 0; s < STRIP; s++) {
                if (ox + s < p.ow) {
                    load<T, V>(grads + s * p.ys, d[s]);
                } else {
#pragma unroll
                    for (int j = 0; j < V; j++) d[s][j] = 0.f;
                }
            }
#pragma unroll
            for (int at = 0; at < WIDE; at++) {
                int ix = left + at;
                if (u32(ix) >= u32(p.w)) continue;
                float v[V];
                load<T, V>(row + ix * p.xs, v);
#pragma unroll
                for (int s = 0; s < STRIP; s++) {
                    int k = at - s * S;
                    if (k >= 0 && k < K)
#pragma unroll
                        for (int j = 0; j < V; j++) acc[k][j] += v[j] * d[s][j];
                }
            }
        }
    window_sums<V, K>(acc, table, partials, p, ky, 0, lanes);
}

// The gradient of the weight: a block has one row of the window (blockIdx.z), 8 groups of channels (y) and every so many
// output pixels (x); partial sums [blocks][kh][kw][channels], for `reduce_splits`. K: columns of the window at most.
template <typename T, int V, int K>
__device__ void depthwise_weight_grad(const T *x, const T *dy, float *partials, const Depthwise &p) {
    __shared__ float table[256 * V];
    const int groups = p.channels / V, lanes = min(groups, 8), rows = 256 / lanes;
    const int g = threadIdx.x % lanes, r = threadIdx.x / lanes, group = blockIdx.y * 8 + g, c = group * V;
    const int ky = blockIdx.z, pixels = p.n * p.oh * p.ow;
    for (int first = 0; first < p.kw; first += K) {
        float acc[K][V];
#pragma unroll
        for (int k = 0; k < K; k++)
#pragma unroll
            for (int j = 0; j < V; j++) acc[k][j] = 0.f;
        if (r < rows && group < groups)
            for (int pixel = blockIdx.x * rows + r; pixel < pixels; pixel += gridDim.x * rows) {
                int ox = pixel % p.ow, rest = pixel / p.ow, oy = rest % p.oh, n = rest / p.oh;
                int iy = oy * p.stride_y - p.pad_y + ky;
                if (u32(iy) >= u32(p.h)) continue;
                float d[V];
                load<T, V>(dy + pixel * p.ys + c, d);
                const T *row = x + i64(n * p.h + iy) * p.w * p.xs + c;
#pragma unroll
                for (int k = 0; k < K; k++) {
                    int ix = ox * p.stride_x - p.pad_x + first + k;
                    if (first + k < p.kw && u32(ix) < u32(p.w)) {
                        float v[V];
                        load<T, V>(row + ix * p.xs, v);
#pragma unroll
                        for (int j = 0; j < V; j++) acc[k][j] += v[j] * d[j];
                    }
                }
            }
        window_sums<V, K>(acc, table, partials, p, ky, first, lanes);
    }
}

#define WINDOW(T, V, K, S)                                                                                             \
    extern "C" __global__ void depthwise_##K##_##S##_##T##_##V(const T *x, T *y, const T *r, const float *w,           \
                                                               const float *b, const __grid_constant__ Depthwise p) {  \
        depthwise<T, V, K, S>(x, y, r, w, b, p);                                                                       \
    }
#define WINDOWS(T, V) WINDOW(T, V, 3, 1) WINDOW(T, V, 3, 2) WINDOW(T, V, 5, 1) WINDOW(T, V, 5, 2) WINDOW(T, V, 7, 1)
WINDOWS(bf16, 8)
WINDOWS(float, 4)

#define STRIPS(T, V, K, S)                                                                                             \
    extern "C" __global__ void __launch_bounds__(256) depthwise_weight_grad_##K##_##S##_##T##_##V(                     \
        const T *x, const T *dy, float *partials, const __grid_constant__ Depthwise p) {                               \
        depthwise_weight_grad_strips<T, V, K, S>(x, dy, partials, p);                                                  \
    }
#define SCATTER(T, V, K, B)                                                                                            \
    extern "C" __global__ void depthwise_data_grad_##K##_##B##_##T##_##V(const T *dy, T *dx, const float *w,           \
                                                                         const __grid_constant__ Depthwise p) {        \
        depthwise_data_grad_2<T, V, K, B>(dy, dx, w, p);                                                               \
    }
#define GRADIENTS(T, V)                                                                                                \
    STRIPS(T, V, 3, 1) STRIPS(T, V, 3, 2) STRIPS(T, V, 5, 1) STRIPS(T, V, 5, 2)                                        \
    SCATTER(T, V, 3, 0) SCATTER(T, V, 3, 1) SCATTER(T, V, 5, 0) SCATTER(T, V, 5, 1)
GRADIENTS(bf16, 8)
GRADIENTS(float, 4)

#define DEPTHWISE(T, V)                                                                                                \
    WINDOW(T, V, 0, 0)                                                                                                 \
    extern "C" __global__ void depthwise_scatter_##T##_##V(const T *dy, T *dx, const float *w,                         \
                                                           const __grid_constant__ Depthwise p) {                      \
        depthwise_scatter<T, V>(dy, dx, w, p);                                                                         \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256) depthwise_weight_grad_3_##T##_##V(                               \
        const T *x, const T *dy, float *partials, const __grid_constant__ Depthwise p) {                               \
        depthwise_weight_grad<T, V, 3>(x, dy, partials, p);                                                            \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256) depthwise_weight_grad_7_##T##_##V(                               \
        const T *x, const T *dy, float *partials, const __grid_constant__ Depthwise p) {                               \
        depthwise_weight_grad<T, V, 7>(x, dy, partials, p);                                                            \
    }
FOR_TYPES(DEPTHWISE)
