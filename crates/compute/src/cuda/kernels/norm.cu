// Batch norm with the activation and residual behind it, and other sums over pixels.
//
// Sums over pixels: a block takes 8 groups of V channels and every so many pixels; `finish_sums` adds the blocks'.
#include "common.cuh"

const int THREADS = 256, LANES = 8; // groups of V channels of a block
const int ANY = -1;                 // an activation that is an argument

// What becomes of the sums of a channel.
struct NormFinish {
    float *mean, *var;         // statistics: out; gradients: in
    const float *gamma, *beta; // in
    float *affine;             // [2][channels] scale and shift: statistics: out, or null; gradients: in
    float *coefficients;       // [2][channels] of the second pass: out
    float *d_gamma, *d_beta;   // gradients: out, or null
    float eps;
    int batch_stats;
};

const int DEEP = 4; // pixels of a thread under way at once
template <int N> struct Count {
    static constexpr int value = N;
};

// Adds up two numbers of all pixels for each channel. `each(pixel, step, channel, a, b, count)` adds those of `count` pixels
// that lie `step` apart; `finish(channel, a, b)` is called once a channel.
template <int V, typename Each, typename Finish>
__device__ void column_sums(int pixels, int channels, float *partials, u32 *tickets, Each each, Finish finish) {
    __shared__ __align__(16) float table[2][THREADS * V];
    __shared__ double wide[2 * LANES * V];
    const int groups = channels / V, lanes = min(groups, LANES), rows = THREADS / lanes;
    const int g = threadIdx.x % lanes, r = threadIdx.x / lanes, group = blockIdx.y * LANES + g;
    float a[V], b[V];
#pragma unroll
    for (int i = 0; i < V; i++) a[i] = b[i] = 0.f;
    // Several pixels' loads are under way before the first is used.
    const int step = gridDim.x * rows;
    if (r < rows && group < groups) {
        int p = blockIdx.x * rows + r;
        for (; p + (DEEP - 1) * step < pixels; p += DEEP * step) each(p, step, group * V, a, b, Count<DEEP>());
        for (; p < pixels; p += step) each(p, step, group * V, a, b, Count<1>());
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        table[0][threadIdx.x * V + i] = a[i];
        table[1][threadIdx.x * V + i] = b[i];
    }
    int half = 1;
    while (half < rows) half *= 2;
    for (half /= 2; half > 0; half /= 2) {
        __syncthreads();
        if (r < half && r + half < rows)
#pragma unroll
            for (int i = 0; i < V; i++) {
                table[0][threadIdx.x * V + i] += table[0][(threadIdx.x + half * lanes) * V + i];
                table[1][threadIdx.x * V + i] += table[1][(threadIdx.x + half * lanes) * V + i];
            }
    }
    __syncthreads();
    const int columns = lanes * V, first = blockIdx.y * LANES * V;
    for (int i = threadIdx.x; i < 2 * columns; i += THREADS) {
        int which = i / columns, c = i % columns;
        if (first + c < channels) partials[(i64(blockIdx.x) * 2 + which) * channels + first + c] = table[which][c];
    }
    __syncthreads();
    finish_sums(partials, tickets, channels, first, columns, wide, finish);
}

// The batch statistics of z, about its first pixel so that a large mean costs no accuracy.
template <typename T, int V>
__device__ void norm_stats(const T *z, i64 zs, int pixels, int channels, float *partials, u32 *tickets, const NormFinish &f) {
    column_sums<V>(
        pixels, channels, partials, tickets,
        [&](int p, int step, int c, float (&a)[V], float (&b)[V], auto count) {
            constexpr int N = decltype(count)::value;
            Pack<T, V> packs[N];
#pragma unroll
            for (int n = 0; n < N; n++) packs[n] = fetch<T, V>(z + i64(p + n * step) * zs + c);
            float origin[V];
            load<T, V>(z + c, origin);
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 0; i < V; i++) {
                    float d = to_float(packs[n].at[i]) - origin[i];
                    a[i] += d;
                    b[i] += d * d;
                }
        },
        [&](int c, double sum, double squares) {
            double shift = sum / pixels, var = squares / pixels - shift * shift;
            if (var < 0) var = 0;
            float mean = float(to_float(z[c]) + shift);
            f.mean[c] = mean;
            f.var[c] = float(var);
            if (f.affine) {
                float scale = f.gamma[c] * rsqrtf(float(var) + f.eps);
                f.affine[c] = scale;
                f.affine[channels + c] = f.beta[c] - mean * scale;
            }
        });
}

// y = act(z * scale + shift) + residual.
template <typename T, int V, int A>
__device__ void norm_apply(const T *z, i64 zs, T *y, i64 ys, const T *residual, i64 rs, int pixels, int channels,
                           const float *affine, int any) {
    const int kind = A == ANY ? any : A;
    const int groups = channels / V, lanes = min(groups, int(blockDim.x)), rows = blockDim.x / lanes;
    const int r = threadIdx.x / lanes;
    if (r >= rows) return;
    for (int group = blockIdx.y * lanes + threadIdx.x % lanes; group < groups; group += gridDim.y * lanes) {
        float scale[V], shift[V];
        int c = group * V;
#pragma unroll
        for (int i = 0; i < V; i++) {
            scale[i] = affine[c + i];
            shift[i] = affine[channels + c + i];
        }
        const int step = gridDim.x * rows;
        auto apply = [&](int p, auto count) {
            constexpr int N = decltype(count)::value;
            Pack<T, V> packs[N], others[N];
#pragma unroll
            for (int n = 0; n < N; n++) {
                packs[n] = fetch<T, V>(z + i64(p + n * step) * zs + c);
                if (residual) others[n] = fetch<T, V>(residual + i64(p + n * step) * rs + c);
            }
#pragma unroll
            for (int n = 0; n < N; n++) {
                float v[V];
#pragma unroll
                for (int i = 0; i < V; i++) {
                    v[i] = activate(kind, to_float(packs[n].at[i]) * scale[i] + shift[i]);
                    if (residual) v[i] += to_float(others[n].at[i]);
                }
                store<T, V>(y + i64(p + n * step) * ys + c, v);
            }
        };
        int p = blockIdx.x * rows + r;
        for (; p + (DEEP - 1) * step < pixels; p += DEEP * step) apply(p, Count<DEEP>());
        for (; p < pixels; p += step) apply(p, Count<1>());
    }
}

// The first pass of the gradient: sums of dL/du and of dL/du * (z - mean), with u = z * scale + shift.
template <typename T, int V, int A>
__device__ void norm_grad_sums(const T *z, i64 zs, const T *dy, i64 ds, int pixels, int channels, float *partials,
                               u32 *tickets, const NormFinish &f, int any) {
    const int kind = A == ANY ? any : A;
    const int groups = channels / V, lanes = min(groups, LANES);
    const int group = blockIdx.y * LANES + threadIdx.x % lanes;
    float scale[V], shift[V], mean[V];
#pragma unroll
    for (int i = 0; i < V; i++) {
        int c = min(group, groups - 1) * V + i;
        scale[i] = f.affine[c];
        shift[i] = f.affine[channels + c];
        mean[i] = f.mean[c];
    }
    column_sums<V>(
        pixels, channels, partials, tickets,
        [&](int p, int step, int c, float (&a)[V], float (&b)[V], auto count) {
            constexpr int N = decltype(count)::value;
            Pack<T, V> zeds[N], grads[N];
#pragma unroll
            for (int n = 0; n < N; n++) {
                zeds[n] = fetch<T, V>(z + i64(p + n * step) * zs + c);
                grads[n] = fetch<T, V>(dy + i64(p + n * step) * ds + c);
            }
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 0; i < V; i++) {
                    float v = to_float(zeds[n].at[i]);
                    float g = to_float(grads[n].at[i]) * slope(kind, v * scale[i] + shift[i]);
                    a[i] += g;
                    b[i] += g * (v - mean[i]);
                }
        },
        [&](int c, double sum, double product) {
            double inverse = rsqrt(double(f.var[c]) + f.eps);
            if (f.d_gamma) {
                f.d_gamma[c] = float(product * inverse);
                f.d_beta[c] = float(sum);
            }
            double factor = f.batch_stats ? f.affine[c] / double(pixels) : 0.;
            f.coefficients[c] = float(factor * sum);
            f.coefficients[channels + c] = float(factor * product * inverse * inverse);
        });
}

// The second pass: dz = scale * dL/du - k0 - k1 * (z - mean).
template <typename T, int V, int A>
__device__ void norm_grad_apply(const T *z, i64 zs, const T *dy, i64 ds, T *dz, i64 os, int pixels, int channels,
                                const float *affine, const float *means, const float *coefficients, int add, int any) {
    const int kind = A == ANY ? any : A;
    const int groups = channels / V, lanes = min(groups, int(blockDim.x)), rows = blockDim.x / lanes;
    const int r = threadIdx.x / lanes;
    if (r >= rows) return;
    for (int group = blockIdx.y * lanes + threadIdx.x % lanes; group < groups; group += gridDim.y * lanes) {
        float scale[V], shift[V], k0[V], k1[V];
        int c = group * V;
#pragma unroll
        for (int i = 0; i < V; i++) {
            scale[i] = affine[c + i];
            shift[i] = affine[channels + c + i];
            k1[i] = coefficients ? coefficients[channels + c + i] : 0.f;
            k0[i] = coefficients ? coefficients[c + i] - k1[i] * means[c + i] : 0.f;
        }
        const int step = gridDim.x * rows;
        // dz may be where dy is: a thread's loads of its pixels come before its stores.
        auto apply = [&](int p, auto count) {
            constexpr int N = decltype(count)::value;
            Pack<T, V> zeds[N], grads[N];
#pragma unroll
            for (int n = 0; n < N; n++) {
                zeds[n] = fetch<T, V>(z + i64(p + n * step) * zs + c);
                grads[n] = fetch<T, V>(dy + i64(p + n * step) * ds + c);
            }
#pragma unroll
            for (int n = 0; n < N; n++) {
                float d[V], other[V];
                T *to = dz + i64(p + n * step) * os + c;
                if (add) load<T, V>(to, other);
#pragma unroll
                for (int i = 0; i < V; i++) {
                    float v = to_float(zeds[n].at[i]);
                    d[i] = scale[i] * to_float(grads[n].at[i]) * slope(kind, v * scale[i] + shift[i]) - k0[i] - k1[i] * v;
                    if (add) d[i] += other[i];
                }
                store<T, V>(to, d);
            }
        };
        int p = blockIdx.x * rows + r;
        for (; p + (DEEP - 1) * step < pixels; p += DEEP * step) apply(p, Count<DEEP>());
        for (; p < pixels; p += step) apply(p, Count<1>());
    }
}

#define NORM_OF(T, V, NAME, A)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS) norm_apply_##NAME##_##T##_##V(                               \
        const T *z, i64 zs, T *y, i64 ys, const T *r, i64 rs, int pixels, int channels, const float *affine, int any) { \
        norm_apply<T, V, A>(z, zs, y, ys, r, rs, pixels, channels, affine, any);                                       \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) norm_grad_sums_##NAME##_##T##_##V(                           \
        const T *z, i64 zs, const T *dy, i64 ds, int pixels, int channels, float *partials, u32 *tickets,              \
        const __grid_constant__ NormFinish f, int any) {                                                               \
        norm_grad_sums<T, V, A>(z, zs, dy, ds, pixels, channels, partials, tickets, f, any);                           \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) norm_grad_apply_##NAME##_##T##_##V(                          \
        const T *z, i64 zs, const T *dy, i64 ds, T *dz, i64 os, int pixels, int channels, const float *affine,         \
        const float *means, const float *coefficients, int add, int any) {                                             \
        norm_grad_apply<T, V, A>(z, zs, dy, ds, dz, os, pixels, channels, affine, means, coefficients, add, any);      \
    }

#define NORM(T, V)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS) norm_stats_##T##_##V(                                        \
        const T *z, i64 zs, int pixels, int channels, float *partials, u32 *tickets,                                   \
        const __grid_constant__ NormFinish f) {                                                                        \
        norm_stats<T, V>(z, zs, pixels, channels, partials, tickets, f);                                               \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) sums_##T##_##V(                                              \
        const T *x, i64 xs, const T *y, i64 ys, int pixels, int channels, float *partials, u32 *tickets, float *out) { \
        column_sums<V>(                                                                                                \
            pixels, channels, partials, tickets,                                                                       \
            [&](int p, int step, int c, float(&a)[V], float(&)[V], auto count) {                                       \
                for (int n = 0; n < decltype(count)::value; n++) {                                                     \
                    float v[V], w[V];                                                                                  \
                    load<T, V>(x + i64(p + n * step) * xs + c, v);                                                     \
                    if (y) load<T, V>(y + i64(p + n * step) * ys + c, w);                                              \
                    for (int i = 0; i < V; i++) a[i] += y ? v[i] * w[i] : v[i];                                        \
                }                                                                                                      \
            },                                                                                                         \
            [&](int c, double sum, double) { out[c] = float(sum); });                                                  \
    }                                                                                                                  \
    NORM_OF(T, V, any, ANY)
FOR_TYPES(NORM)
NORM_OF(bf16, 8, identity, IDENTITY)
NORM_OF(bf16, 8, silu, SILU)

// Moves the running statistics: a block a norm. Nothing where `skip` holds a number other than 0.
struct RunningNorm {
    int mean, var, saved, channels; // places in the parameters, and in the tables of statistics
    float momentum, unbiased;
};
extern "C" __global__ void update_running(const RunningNorm *norms, float *params, const float *means, const float *vars,
                                          const u32 *skip) {
    if (skip && *skip) return;
    RunningNorm n = norms[blockIdx.x];
    for (int c = threadIdx.x; c < n.channels; c += blockDim.x) {
        float &mean = params[n.mean + c], &var = params[n.var + c];
        mean += n.momentum * (means[n.saved + c] - mean);
        var += n.momentum * (vars[n.saved + c] * n.unbiased - var);
    }
}
