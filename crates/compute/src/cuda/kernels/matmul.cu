// Batched matrix products for attention: C[b][h] = A[b][h] B[b][h], float32 sums.
//
// An operand is "tall" where the inner dimension is its slow one in memory: A[k][m], B[k][n]; else A[m][k], B[n][k].
#include "common.cuh"

template <typename T> struct Operand {
    T *data;
    i64 batch, head; // elements from one batch, one head to the next
    int stride;      // elements of a row
};
template <typename T, typename R> struct Product {
    Operand<const T> a, b;
    Operand<R> c;
    int m, n, k, heads, add;
    float scale;
};

const int BM = 64, BN = 64, BK = 32, STAGES = 3;

// One operand's stage, V elements a copy: rows of BK (plain) or of 64 (tall).
template <bool TALL, int V>
__device__ __forceinline__ void load_operand(u8 *to, const bf16 *from, int stride, int first, int rows, int start, int k) {
    constexpr int COLS = (TALL ? 64 : BK) / V, STEP = 128 / COLS, COUNT = (TALL ? BK : 64) / STEP;
    int col = threadIdx.x % COLS * V;
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        int r = threadIdx.x / COLS + i * STEP;
        int outer = first + (TALL ? col : r), inner = start + (TALL ? r : col);
        bool valid = outer < rows && inner < k;
        const bf16 *at = from + (valid ? (TALL ? i64(inner) * stride + outer : i64(outer) * stride + inner) : 0);
        u8 *place = to + swizzled<TALL ? 8 : 4>(r, col / 8) + col % 8 * 2;
        if constexpr (V > 1)
            copy_async<V * 2>(place, at, valid);
        else
            *reinterpret_cast<u16 *>(place) = valid ? at->bits : u16(0);
    }
}

template <bool TA, bool TB, int V, typename R> __device__ void product(const Product<bf16, R> &p) {
    __shared__ __align__(128) u8 stages[STAGES][(BM + BN) * BK * 2];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int warp_m = warp % 2 * 32, warp_n = warp / 2 * 32;
    const int first = blockIdx.x * BM, column = blockIdx.y * BN;
    const int batch = blockIdx.z / p.heads, head = blockIdx.z % p.heads;
    const bf16 *a = p.a.data + batch * p.a.batch + head * p.a.head, *b = p.b.data + batch * p.b.batch + head * p.b.head;
    const int depth = (p.k + BK - 1) / BK;
    float acc[2][4][4] = {};
    auto load_stage = [&](int step) {
        u8 *to = stages[step % STAGES];
        load_operand<TA, V>(to, a, p.a.stride, first, p.m, step * BK, p.k);
        load_operand<TB, V>(to + BM * BK * 2, b, p.b.stride, column, p.n, step * BK, p.k);
    };
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < depth) load_stage(s);
        copies_commit();
    }
    for (int step = 0; step < depth; step++) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < depth) load_stage(step + STAGES - 1);
        copies_commit();
        const u8 *sa = stages[step % STAGES], *sb = sa + BM * BK * 2;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 fa[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int m = warp_m + i * 16;
                if constexpr (TA)
                    load_matrices_transposed(
                        fa[i], sa + swizzled<8>(half * 16 + lane / 16 * 8 + lane % 8, m / 8 + lane / 8 % 2));
                else
                    load_matrices(fa[i], sa + swizzled<4>(m + lane % 16, half * 2 + lane / 16));
            }
#pragma unroll
            for (int j = 0; j < 4; j += 2) {
                int n = warp_n + j * 8;
                u32 fb[4];
                if constexpr (TB)
                    load_matrices_transposed(
                        fb, sb + swizzled<8>(half * 16 + lane / 8 % 2 * 8 + lane % 8, n / 8 + lane / 16));
                else
                    load_matrices(fb, sb + swizzled<4>(n + lane % 8 + lane / 16 * 8, half * 2 + lane / 8 % 2));
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    multiply_add(acc[i][j], fa[i], fb[0], fb[1]);
                    multiply_add(acc[i][j + 1], fa[i], fb[2], fb[3]);
                }
            }
        }
    }
    copies_wait<0>();
    R *c = p.c.data + batch * p.c.batch + head * p.c.head;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int r = first + warp_m + i * 16 + lane / 4 + e / 2 * 8, o = column + warp_n + j * 8 + lane % 4 * 2 + e % 2;
                if (r >= p.m || o >= p.n) continue;
                R *to = c + i64(r) * p.c.stride + o;
                float v = acc[i][j][e] * p.scale;
                if (p.add) v += to_float(*to);
                *to = from_float<R>(v);
            }
}

#define PRODUCT(NAME, TA, TB, V, R)                                                                                    \
    extern "C" __global__ void __launch_bounds__(128) NAME##_##V(const __grid_constant__ Product<bf16, R> p) {         \
        product<TA, TB, V, R>(p);                                                                                      \
    }
PRODUCT(scores_bf16, false, false, 8, float)
PRODUCT(scores_bf16, false, false, 1, float)
PRODUCT(mix_bf16, false, true, 8, bf16)
PRODUCT(mix_bf16, false, true, 1, bf16)
PRODUCT(gather_bf16, true, true, 8, bf16)
PRODUCT(gather_bf16, true, true, 1, bf16)

// The same in float32, element by element.
template <bool TA, bool TB> __device__ void product_float(const Product<float, float> &p) {
    __shared__ float a[16][17], b[16][17];
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const int r = blockIdx.x * 16 + ty, o = blockIdx.y * 16 + tx;
    const int batch = blockIdx.z / p.heads, head = blockIdx.z % p.heads;
    const float *pa = p.a.data + batch * p.a.batch + head * p.a.head, *pb = p.b.data + batch * p.b.batch + head * p.b.head;
    float sum = 0.f;
    for (int start = 0; start < p.k; start += 16) {
        // a[k][row], b[k][column]; the fast thread index runs along memory.
        int outer = TA ? tx : ty, inner = TA ? ty : tx;
        int m = blockIdx.x * 16 + outer, k = start + inner;
        a[inner][outer] = m < p.m && k < p.k ? pa[TA ? i64(k) * p.a.stride + m : i64(m) * p.a.stride + k] : 0.f;
        outer = TB ? tx : ty, inner = TB ? ty : tx;
        int n = blockIdx.y * 16 + outer;
        k = start + inner;
        b[inner][outer] = n < p.n && k < p.k ? pb[TB ? i64(k) * p.b.stride + n : i64(n) * p.b.stride + k] : 0.f;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 16; i++) sum += a[i][ty] * b[i][tx];
        __syncthreads();
    }
    if (r >= p.m || o >= p.n) return;
    float *to = p.c.data + batch * p.c.batch + head * p.c.head + i64(r) * p.c.stride + o;
    *to = sum * p.scale + (p.add ? *to : 0.f);
}
extern "C" __global__ void __launch_bounds__(256) scores_float_1(const __grid_constant__ Product<float, float> p) {
    product_float<false, false>(p);
}
extern "C" __global__ void __launch_bounds__(256) mix_float_1(const __grid_constant__ Product<float, float> p) {
    product_float<false, true>(p);
}
extern "C" __global__ void __launch_bounds__(256) gather_float_1(const __grid_constant__ Product<float, float> p) {
    product_float<true, true>(p);
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int far = 16; far > 0; far /= 2) x += __shfl_xor_sync(0xffffffffu, x, far);
    return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int far = 16; far > 0; far /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, far));
    return x;
}

// Rows of `pitch` elements, `columns` of them real, a warp a row: probabilities; what is behind the real ones becomes 0.
template <typename T> __device__ void softmax(const float *scores, T *out, int rows, int columns, int pitch) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const float *s = scores + i64(row) * pitch;
    T *o = out + i64(row) * pitch;
    float most = -3.4e38f, total = 0.f;
    for (int i = lane; i < columns; i += 32) most = fmaxf(most, s[i]);
    most = warp_max(most);
    for (int i = lane; i < columns; i += 32) total += __expf(s[i] - most);
    float inverse = 1.f / warp_sum(total);
    for (int i = lane; i < pitch; i += 32) o[i] = from_float<T>(i < columns ? __expf(s[i] - most) * inverse : 0.f);
}
extern "C" __global__ void softmax_bf16(const float *s, bf16 *o, int rows, int columns, int pitch) {
    softmax<bf16>(s, o, rows, columns, pitch);
}
extern "C" __global__ void softmax_float(const float *s, float *o, int rows, int columns, int pitch) {
    softmax<float>(s, o, rows, columns, pitch);
}

// From probabilities and their gradients to the gradients of the scores: p * (g - sum(p g)) * scale.
template <typename T>
__device__ void softmax_grad(const T *probabilities, const float *grads, T *out, int rows, int columns, int pitch, float scale) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const T *p = probabilities + i64(row) * pitch;
    const float *g = grads + i64(row) * pitch;
    T *o = out + i64(row) * pitch;
    float sum = 0.f;
    for (int i = lane; i < columns; i += 32) sum += to_float(p[i]) * g[i];
    sum = warp_sum(sum);
    for (int i = lane; i < pitch; i += 32)
        o[i] = from_float<T>(i < columns ? to_float(p[i]) * (g[i] - sum) * scale : 0.f);
}
extern "C" __global__ void softmax_grad_bf16(const bf16 *p, const float *g, bf16 *o, int rows, int columns, int pitch, float scale) {
    softmax_grad<bf16>(p, g, o, rows, columns, pitch, scale);
}
extern "C" __global__ void softmax_grad_float(const float *p, const float *g, float *o, int rows, int columns, int pitch, float scale) {
    softmax_grad<float>(p, g, o, rows, columns, pitch, scale);
}
