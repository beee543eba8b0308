// Gradients of dense convolutions' weights in bfloat16 as matrix products on the tensor cores.
//
// Rows are the weight's rows (tap and input channel), columns output channels; the inner dimension runs over pixels and is
// cut into splits, each a sum of its own in float32: `reduce_splits` adds them in their order.
#include "common.cuh"

struct WeightGrad {
    const bf16 *x, *dy;
    float *partials; // [splits][rows][out]
    int h, width, xs, cin;
    int oh, ow, ys, out;
    int taps_x, rows; // rows: taps * channels
    int pad_y, pad_x, stride_y, stride_x;
    int pixels, split; // split: pixels of one split, a multiple of 32
    int real;          // channels of the weight; those of x behind them are padding
};

const int BK = 32; // pixels of a stage

template <int BM, int BN, int WM, int WN, int STAGES, int VA, int VB>
__device__ void weight_grad(const WeightGrad &p) {
    constexpr int THREADS = WM * WN * 32;
    constexpr int A_BYTES = BM * BK * 2, B_BYTES = BN * BK * 2, STAGE = A_BYTES + B_BYTES;
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
            const bf16 *from = p.x + (valid ? i64((n * p.h + iy) * p.width + ix) * p.xs + c : 0);
            u8 *to = a + swizzled<BM / 8>(k, a_col * VA / 8) + a_col * VA % 8 * 2;
            if constexpr (VA > 1)
                copy_async<VA * 2>(to, from, valid);
            else
                *reinterpret_cast<u16 *>(to) = valid ? from->bits : u16(0);
            advance(A_STEP);
        }
#pragma unroll
        for (int i = 0; i < B_COUNT; i++) {
            int k = b_row + i * B_STEP, at = start + step * BK + k;
            if (B_STEP > BK && k >= BK) break;
            bool valid = at < end && col < p.out;
            const bf16 *from = p.dy + (valid ? i64(at) * p.ys + col : 0);
            u8 *to = b + swizzled<BN / 8>(k, b_col * VB / 8) + b_col * VB % 8 * 2;
            if constexpr (VB > 1)
                copy_async<VB * 2>(to, from, valid);
            else
                *reinterpret_cast<u16 *>(to) = valid ? from->bits : u16(0);
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
            for (int i = 0; i < MI; i++)
                load_matrices_transposed(
                    fa[i], a + swizzled<BM / 8>(half * 16 + lane / 16 * 8 + lane % 8,
                                                (warp_m + i * 16) / 8 + lane / 8 % 2));
#pragma unroll
            for (int j = 0; j < NI; j += 2) {
                u32 fb[4];
                load_matrices_transposed(
                    fb, b + swizzled<BN / 8>(half * 16 + lane / 8 % 2 * 8 + lane % 8, (warp_n + j * 8) / 8 + lane / 16));
#pragma unroll
                for (int i = 0; i < MI; i++) {
                    multiply_add(acc[i][j], fa[i], fb[0], fb[1]);
                    multiply_add(acc[i][j + 1], fa[i], fb[2], fb[3]);
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
        weight_grad_##BM##_##BN##_##VA##_##VB(const __grid_constant__ WeightGrad p) {                                  \
        weight_grad<BM, BN, WM, WN, STAGES, VA, VB>(p);                                                                \
    }

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
