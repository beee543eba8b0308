// Gradients of dense convolutions' weights as matrix products on the tensor cores, in bfloat16 or TF32.
//
// Rows are the weight's rows (tap and input channel), columns output channels; the inner dimension runs over pixels and is
// cut into splits, each a sum of its own in float32: `reduce_splits` adds them in their order.
#include "common.cuh"

struct WeightGrad {
    const element *x, *dy;
    float *partials; // [splits][rows][out]
    int h, width, xs, cin;
    int oh, ow, ys, out;
    int taps_x, rows; // rows: taps * channels
    int pad_y, pad_x, stride_y, stride_x;
    int pixels, split; // split: pixels of one split, a multiple of 32
    int real;          // channels of the weight; those of x behind them are padding
};

const int BK = 64 / SIZE; // pixels of a stage

// One number of a stage [pixel][column].
template <int COLUMNS> __device__ __forceinline__ u32 word(const u8 *stage, int pixel, int column) {
    return *reinterpret_cast<const u32 *>(stage + swizzled<COLUMNS / CHUNK>(pixel, column / CHUNK) + column % CHUNK * SIZE);
}

// Of a stage [pixel][column] the 16 columns from `first` on as the left factor of a product, over the pixels of its half.
template <int COLUMNS> __device__ __forceinline__ void load_columns(u32 (&r)[4], const u8 *stage, int half, int first) {
    const int lane = threadIdx.x % 32;
    if constexpr (SIZE == 2) {
        load_matrices_transposed(
            r, stage + swizzled<COLUMNS / CHUNK>(half * 16 + lane / 16 * 8 + lane % 8, first / CHUNK + lane / 8 % 2));
    } else {
        // Words are not transposed on the way: each thread picks its own.
#pragma unroll
        for (int e = 0; e < 4; e++) r[e] = word<COLUMNS>(stage, half * 8 + lane % 4 + e / 2 * 4, first + lane / 4 + e % 2 * 8);
        rounded(r);
    }
}
// The same, twice 8 columns as the right factors of two products.
template <int COLUMNS> __device__ __forceinline__ void load_rows(u32 (&r)[4], const u8 *stage, int half, int first) {
    const int lane = threadIdx.x % 32;
    if constexpr (SIZE == 2) {
        load_matrices_transposed(
            r, stage + swizzled<COLUMNS / CHUNK>(half * 16 + lane / 8 % 2 * 8 + lane % 8, first / CHUNK + lane / 16));
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++) r[e] = word<COLUMNS>(stage, half * 8 + lane % 4 + e % 2 * 4, first + lane / 4 + e / 2 * 8);
        rounded(r);
    }
}

template <int BM, int BN, int WM, int WN, int STAGES, int VA, int VB>
__device__ void weight_grad(const WeightGrad &p) {
    constexpr int THREADS = WM * WN * 32;
    constexpr int A_BYTES = BM * 64, B_BYTES = BN * 64, STAGE = A_BYTES + B_BYTES;
    constexpr int MI = BM / WM / 16, NI = BN / WN / 8;
    constexpr int A_COLS = BM / VA, A_STEP = THREADS / A_COLS, A_COUNT = BK / A_STEP;
    constexpr int B_COLS = BN / VB, B_STEP = THREADS / B_COLS, B_COUNT = (BK + B_STEP - 1) / B_STEP;
    static_assert(THREADS % A_COLS == 0 && THREADS % B_COLS == 0 && A_COUNT > 0, "whole passes");
    DYNAMIC_SHARED(stages);

    const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
    const int warp_m = warp % WM * (BM / WM), warp_n = warp / WM * (BN / WN);
    const int first_row = blockIdx.x * BM, column = blockIdx.y * BN;
    const int start = blockIdx.z * p.split, end = min(start + p.split, p.pixels);
    const int depth = (end - start + BK - 1) / BK;

    // The thread's column of A is one tap and channel throughout; its pixels move on with each stage.
    const int a_col = tid % A_COLS, a_row = tid / A_COLS, row = first_row + a_col * VA;
    const bool row_inside = row < p.rows;
    const int tap = row / p.cin, c = row % p.cin;
    const int ky = tap / p.taps_x - p.pad_y, kx = tap % p.taps_x - p.pad_x;
    const int b_col = tid % B_COLS, b_row = tid / B_COLS, col = column + b_col * VB;
    int pixel = start + a_row;
    int ox = pixel % p.ow, rest = pixel / p.ow, oy = rest % p.oh, n = rest / p.oh;

    auto advance = [&](int by) {
        pixel += by;
        ox += by;
        while (ox >= p.ow) {
            ox -= p.ow;
            if (++oy == p.oh) {
                oy = 0;
                n++;
            }
        }
    };
    auto load_stage = [&](int step, int stage) {
        u8 *a = stages + stage * STAGE, *b = a + A_BYTES;
#pragma unroll
        for (int i = 0; i < A_COUNT; i++) {
            int k = a_row + i * A_STEP;
            int iy = oy * p.stride_y + ky, ix = ox * p.stride_x + kx;
            bool valid = row_inside && pixel < end && u32(iy) < u32(p.h) && u32(ix) < u32(p.width);
            const element *from = p.x + (valid ? i64((n * p.h + iy) * p.width + ix) * p.xs + c : 0);
            u8 *to = a + swizzled<BM / CHUNK>(k, a_col * VA / CHUNK) + a_col * VA % CHUNK * SIZE;
            if constexpr (VA > 1)
                copy_async<VA * SIZE>(to, from, valid);
            else
                *reinterpret_cast<element *>(to) = valid ? *from : element{};
            advance(A_STEP);
        }
#pragma unroll
        for (int i = 0; i < B_COUNT; i++) {
            int k = b_row + i * B_STEP, at = start + step * BK + k;
            if (B_STEP > BK && k >= BK) break;
            bool valid = at < end && col < p.out;
            const element *from = p.dy + (valid ? i64(at) * p.ys + col : 0);
            u8 *to = b + swizzled<BN / CHUNK>(k, b_col * VB / CHUNK) + b_col * VB % CHUNK * SIZE;
            if constexpr (VB > 1)
                copy_async<VB * SIZE>(to, from, valid);
            else
                *reinterpret_cast<element *>(to) = valid ? *from : element{};
        }
    };

    float acc[MI][NI][4];
#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int j = 0; j < NI; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) acc[i][j][e] = 0.f;

    for (int s = 0; s < STAGES - 1; s++) {
        if (s < depth) load_stage(s, s);
        copies_commit();
    }
    for (int step = 0; step < depth; step++) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        int next = step + STAGES - 1;
        if (next < depth) load_stage(next, next % STAGES);
        copies_commit();
        const u8 *a = stages + step % STAGES * STAGE, *b = a + A_BYTES;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 fa[MI][4];
#pragma unroll
            for (int i = 0; i < MI; i++) load_columns<BM>(fa[i], a, half, warp_m + i * 16);
#pragma unroll
            for (int j = 0; j < NI; j += 2) {
                u32 fb[4];
                load_rows<BN>(fb, b, half, warp_n + j * 8);
#pragma unroll
                for (int i = 0; i < MI; i++) {
                    product(acc[i][j], fa[i], fb[0], fb[1]);
                    product(acc[i][j + 1], fa[i], fb[2], fb[3]);
                }
            }
        }
    }
    copies_wait<0>();
    float *to = p.partials + i64(blockIdx.z) * (p.rows / p.cin * p.real) * p.out;
#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int j = 0; j < NI; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int r = first_row + warp_m + i * 16 + lane / 4 + e / 2 * 8;
                int o = column + warp_n + j * 8 + lane % 4 * 2 + e % 2;
                int channel = r % p.cin;
                if (r < p.rows && o < p.out && channel < p.real)
                    to[i64(r / p.cin * p.real + channel) * p.out + o] = acc[i][j][e];
            }
}

#define WEIGHT_GRAD(BM, BN, WM, WN, STAGES, VA, VB)                                                                    \
    extern "C" __global__ void __launch_bounds__(WM * WN * 32)                                                         \
        MATRIX_NAME2(weight_grad, BM, BN, VA, VB)(const __grid_constant__ WeightGrad p) {                              \
        weight_grad<BM, BN, WM, WN, STAGES, VA, VB>(p);                                                                \
    }

#ifdef TF32
WEIGHT_GRAD(64, 16, 4, 1, 4, 4, 4)
WEIGHT_GRAD(64, 32, 4, 1, 4, 4, 4)
WEIGHT_GRAD(64, 64, 2, 2, 4, 4, 4)
WEIGHT_GRAD(128, 64, 4, 1, 4, 4, 4)
WEIGHT_GRAD(64, 32, 4, 1, 4, 4, 1)
WEIGHT_GRAD(32, 16, 2, 1, 4, 1, 4)
WEIGHT_GRAD(32, 32, 2, 1, 4, 1, 1)
#else
WEIGHT_GRAD(64, 16, 4, 1, 4, 8, 8)
WEIGHT_GRAD(64, 32, 4, 1, 4, 8, 8)
WEIGHT_GRAD(64, 64, 2, 2, 4, 8, 8)
WEIGHT_GRAD(128, 64, 4, 1, 4, 8, 8)
WEIGHT_GRAD(128, 128, 4, 2, 3, 8, 8)
WEIGHT_GRAD(64, 32, 4, 1, 4, 8, 4)
WEIGHT_GRAD(64, 32, 4, 1, 4, 8, 1)
WEIGHT_GRAD(64, 16, 4, 1, 4, 4, 8)
WEIGHT_GRAD(64, 32, 4, 1, 4, 4, 8)
WEIGHT_GRAD(64, 64, 2, 2, 4, 4, 8)
WEIGHT_GRAD(32, 16, 2, 1, 4, 1, 8)
WEIGHT_GRAD(32, 32, 2, 1, 4, 1, 1)
#endif

#ifndef TF32
// out = the sum of the splits: a warp has 32 elements, each of the block's warps every eighth split.
extern "C" __global__ void __launch_bounds__(256) reduce_splits(const float *partials, float *out, int splits, int len) {
    __shared__ float table[8][32];
    int x = threadIdx.x % 32, y = threadIdx.x / 32, i = blockIdx.x * 32 + x;
    float sum = 0.f;
    if (i < len)
#pragma unroll 8
        for (int s = y; s < splits; s += 8) sum += partials[i64(s) * len + i];
    table[y][x] = sum;
    __syncthreads();
    if (y > 0 || i >= len) return;
#pragma unroll
    for (int other = 1; other < 8; other++) sum += table[other][x];
    out[i] = sum;
}
#endif
