// Matrix work without tensor cores, for any element type, alignment and window: the float32 mode, and what the other
// kernels leave.
#include "common.cuh"

// The structures of conv.cu and weight_grad.cu, with any element type.
const int MAX_CLASSES = 16;
struct ConvClass {
    int taps_y, taps_x, base_y, base_x, grid_h, grid_w, phase_y, phase_x, weights, inner, padded, pixels;
};
template <typename T> struct ConvProblem {
    const T *x, *w;
    T *y;
    const float *bias;
    const T *residual;
    float *partials;
    u32 *tickets;
    float *mean, *var;
    const float *gamma, *beta;
    float *affine;
    float eps;
    int h, width, xs, cin, oh, ow, ys, out, rs, stride_y, stride_x, step_y, step_x, activation, add, total;
    ConvClass classes[MAX_CLASSES];
};
template <typename T> struct WeightGrad {
    const T *x, *dy;
    float *partials;
    int h, width, xs, cin, oh, ow, ys, out, taps_x, rows, pad_y, pad_x, stride_y, stride_x, pixels, split, real;
};

const int TILE = 64, DEEP = 16; // a block's rows and columns; inner elements at once

// c[i][j] += sum over DEEP of a[k][row] b[k][column]: 4x4 a thread of 256.
__device__ __forceinline__ void tile_product(const float (&a)[DEEP][TILE + 4], const float (&b)[DEEP][TILE + 4],
                                             float (&c)[4][4]) {
    int r = threadIdx.x / 16 * 4, o = threadIdx.x % 16 * 4;
#pragma unroll
    for (int k = 0; k < DEEP; k++) {
        float fa[4], fb[4];
        load<float, 4>(&a[k][r], fa);
        load<float, 4>(&b[k][o], fb);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) c[i][j] += fa[i] * fb[j];
    }
}

template <typename T> __device__ void conv(const ConvProblem<T> &p) {
    __shared__ __align__(16) float a[DEEP][TILE + 4], b[DEEP][TILE + 4];
    const ConvClass &k = p.classes[blockIdx.z];
    const int tid = threadIdx.x, first = blockIdx.x * TILE, column = blockIdx.y * TILE;
    if (first >= k.pixels) return;
    const int kk = tid % DEEP, rr = tid / DEEP;
    int base[4], ys[4], xs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int m = first + rr + i * 16;
        base[i] = 0, ys[i] = -(1 << 20), xs[i] = 0;
        if (m < k.pixels) {
            int gx = m % k.grid_w, rest = m / k.grid_w, gy = rest % k.grid_h, n = rest / k.grid_h;
            ys[i] = gy * p.stride_y + k.base_y;
            xs[i] = gx * p.stride_x + k.base_x;
            base[i] = n * p.h;
        }
    }
    float c[4][4] = {};
    for (int start = 0; start < k.inner; start += DEEP) {
        int inner = start + kk, tap = inner / p.cin, channel = inner % p.cin;
        int ty = k.taps_x ? tap / k.taps_x : 0, tx = k.taps_x ? tap % k.taps_x : 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int y = ys[i] + ty, x = xs[i] + tx;
            bool valid = inner < k.inner && u32(y) < u32(p.h) && u32(x) < u32(p.width);
            a[kk][rr + i * 16] = valid ? to_float(p.x[(i64(base[i] + y) * p.width + x) * p.xs + channel]) : 0.f;
            int o = column + rr + i * 16;
            bool known = inner < k.inner && o < p.out;
            b[kk][rr + i * 16] = known ? to_float(p.w[k.weights + i64(o) * k.padded + inner]) : 0.f;
        }
        __syncthreads();
        tile_product(a, b, c);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int m = first + tid / 16 * 4 + i;
        if (m >= k.pixels) continue;
        int gx = m % k.grid_w, rest = m / k.grid_w, gy = rest % k.grid_h, n = rest / k.grid_h;
        i64 pixel = i64(n * p.oh + gy * p.step_y + k.phase_y) * p.ow + gx * p.step_x + k.phase_x;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int o = column + tid % 16 * 4 + j;
            if (o >= p.out) continue;
            float v = activate(p.activation, c[i][j] + (p.bias ? p.bias[o] : 0.f));
            if (p.residual) v += to_float(p.residual[pixel * p.rs + o]);
            T *to = p.y + pixel * p.ys + o;
            if (p.add) v += to_float(*to);
            *to = from_float<T>(v);
        }
    }
}
extern "C" __global__ void __launch_bounds__(256) simple_conv_float(const __grid_constant__ ConvProblem<float> p) { conv(p); }
extern "C" __global__ void __launch_bounds__(256) simple_conv_bf16(const __grid_constant__ ConvProblem<bf16> p) { conv(p); }

template <typename T> __device__ void weight_grad(const WeightGrad<T> &p) {
    __shared__ __align__(16) float a[DEEP][TILE + 4], b[DEEP][TILE + 4];
    const int tid = threadIdx.x, first = blockIdx.x * TILE, column = blockIdx.y * TILE;
    const int start = blockIdx.z * p.split, end = min(start + p.split, p.pixels);
    const int at = tid % TILE, row = first + at, tap = row / p.cin, channel = row % p.cin;
    const int ky = tap / p.taps_x - p.pad_y, kx = tap % p.taps_x - p.pad_x;
    float c[4][4] = {};
    for (int from = start; from < end; from += DEEP) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int k = tid / TILE + i * 4, pixel = from + k;
            int ox = pixel % p.ow, rest = pixel / p.ow, oy = rest % p.oh, n = rest / p.oh;
            int y = oy * p.stride_y + ky, x = ox * p.stride_x + kx;
            bool valid = pixel < end && row < p.rows && u32(y) < u32(p.h) && u32(x) < u32(p.width);
            a[k][at] = valid ? to_float(p.x[(i64(n * p.h + y) * p.width + x) * p.xs + channel]) : 0.f;
            bool known = pixel < end && column + at < p.out;
            b[k][at] = known ? to_float(p.dy[i64(pixel) * p.ys + column + at]) : 0.f;
        }
        __syncthreads();
        tile_product(a, b, c);
        __syncthreads();
    }
    float *to = p.partials + i64(blockIdx.z) * p.rows * p.out;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int r = first + tid / 16 * 4 + i, o = column + tid % 16 * 4 + j;
            if (r < p.rows && o < p.out) to[i64(r) * p.out + o] = c[i][j];
        }
}
extern "C" __global__ void __launch_bounds__(256) simple_weight_grad_float(const __grid_constant__ WeightGrad<float> p) {
    weight_grad(p);
}
extern "C" __global__ void __launch_bounds__(256) simple_weight_grad_bf16(const __grid_constant__ WeightGrad<bf16> p) {
    weight_grad(p);
}
