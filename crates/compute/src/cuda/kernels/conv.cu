// Dense convolutions in bfloat16 as matrix products on the tensor cores: forward, and the gradient of the input.
//
// Rows are output pixels, columns output channels; the inner dimension runs over the window's taps and, for each, the
// input's channels. Input rows are gathered while they are copied to shared memory. A gradient with a step is cut into
// classes, one for each remainder of the output's position: each is a convolution of its own over some of the taps.
#include "common.cuh"

const int MAX_CLASSES = 16;

struct ConvClass {
    int taps_y, taps_x;   // window
    int base_y, base_x;   // input position of tap (0, 0) at grid position (0, 0)
    int grid_h, grid_w;   // grid of output positions
    int phase_y, phase_x; // output position of grid position (0, 0)
    int weights;          // first element of its weights: [out][padded inner]
    int inner, padded;    // taps * channels; the same, to a multiple of 8
    int pixels;           // n * grid_h * grid_w
};

struct ConvProblem {
    const bf16 *x, *w;
    bf16 *y;
    const float *bias;     // or null
    const bf16 *residual;  // or null
    float *partials;       // of the batch statistics, see finish_sums; or null
    u32 *tickets;          // counters, zero between launches
    float *mean, *var;     // the batch statistics, biased
    const float *gamma, *beta;
    float *affine;         // [2][out]: scale and shift
    float eps;
    int h, width, xs, cin; // input, elements from pixel to pixel
    int oh, ow, ys, out;   // output
    int rs;                // elements from pixel to pixel of the residual
    int stride_y, stride_x, step_y, step_x; // of the input and of the output, for one step of the grid
    int activation, add, total;             // total: output pixels
    ConvClass classes[MAX_CLASSES];
};

const int BK = 32; // inner elements of a stage

template <int BM, int BN, int WM, int WN, int STAGES, int V>
__device__ void conv(const ConvProblem &p) {
    constexpr int THREADS = WM * WN * 32;
    constexpr int A_BYTES = BM * BK * 2, B_BYTES = BN * BK * 2, STAGE = A_BYTES + B_BYTES;
    constexpr int MI = BM / WM / 16, NI = BN / WN / 8;
    constexpr int A_COLS = BK / V, A_STEP = THREADS / A_COLS, A_COUNT = BM / A_STEP;
    constexpr int B_COLS = BK / 8, B_STEP = THREADS / B_COLS;
    constexpr int PITCH = BN + 8;
    static_assert(BM * PITCH * 2 <= STAGES * STAGE, "the staged result fits in the stages");
    DYNAMIC_SHARED(shared);
    u8 *stages = shared;
    int4 *rows = reinterpret_cast<int4 *>(shared + STAGES * STAGE);

    const ConvClass &k = p.classes[blockIdx.z];
    const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
    const int warp_m = warp % WM * (BM / WM), warp_n = warp / WM * (BN / WN);
    const int column = blockIdx.y * BN;
    const int tiles = (k.pixels + BM - 1) / BM, depth = (k.inner + BK - 1) / BK;
    const int a_col = tid % A_COLS, a_row = tid / A_COLS, b_col = tid % B_COLS, b_row = tid / B_COLS;

    float sums[NI][2], squares[NI][2];
#pragma unroll
    for (int j = 0; j < NI; j++) sums[j][0] = sums[j][1] = squares[j][0] = squares[j][1] = 0.f;

    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        for (int r = tid; r < BM; r += THREADS) {
            int m = tile * BM + r;
            int4 row = make_int4(0, -(1 << 20), 0, -1);
            if (m < k.pixels) {
                int gx = m % k.grid_w, rest = m / k.grid_w;
                int gy = rest % k.grid_h, n = rest / k.grid_h;
                row.y = gy * p.stride_y + k.base_y;
                row.z = gx * p.stride_x + k.base_x;
                row.x = ((n * p.h + row.y) * p.width + row.z) * p.xs;
                row.w = (n * p.oh + gy * p.step_y + k.phase_y) * p.ow + gx * p.step_x + k.phase_x;
            }
            rows[r] = row;
        }
        __syncthreads();

        // The thread's column of A: tap and channel.
        int inner = a_col * V, ty = 0, tx = 0, c = a_col * V;
        auto settle = [&]() {
            if (c >= p.cin) {
                int taps = c / p.cin;
                c -= taps * p.cin;
                tx += taps;
                ty += tx / k.taps_x;
                tx %= k.taps_x;
            }
        };
        settle();
        auto load_stage = [&](int step, int stage) {
            u8 *a = stages + stage * STAGE, *b = a + A_BYTES;
            int shift = (ty * p.width + tx) * p.xs + c;
            bool inside = inner < k.inner;
#pragma unroll 4
            for (int i = 0; i < A_COUNT; i++) {
                int r = a_row + i * A_STEP;
                int4 row = rows[r];
                bool valid = inside && u32(row.y + ty) < u32(p.h) && u32(row.z + tx) < u32(p.width);
                const bf16 *from = p.x + (valid ? row.x + shift : 0);
                u8 *to = a + swizzled<4>(r, a_col * V / 8) + a_col * V % 8 * 2;
                if constexpr (V > 1)
                    copy_async<V * 2>(to, from, valid);
                else
                    *reinterpret_cast<u16 *>(to) = valid ? from->bits : u16(0);
            }
            inner += BK;
            c += BK;
            settle();
            int at = step * BK + b_col * 8;
#pragma unroll
            for (int r = b_row; r < BN; r += B_STEP) {
                bool valid = at < k.padded && column + r < p.out;
                const bf16 *from = p.w + (valid ? k.weights + (column + r) * k.padded + at : 0);
                copy_async<16>(b + swizzled<4>(r, b_col), from, valid);
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
                    load_matrices(fa[i], a + swizzled<4>(warp_m + i * 16 + lane % 16, half * 2 + lane / 16));
#pragma unroll
                for (int j = 0; j < NI; j += 2) {
                    u32 fb[4];
                    load_matrices(fb, b + swizzled<4>(warp_n + j * 8 + lane % 8 + lane / 16 * 8, half * 2 + lane / 8 % 2));
#pragma unroll
                    for (int i = 0; i < MI; i++) {
                        multiply_add(acc[i][j], fa[i], fb[0], fb[1]);
                        multiply_add(acc[i][j + 1], fa[i], fb[2], fb[3]);
                    }
                }
            }
        }
        copies_wait<0>();
        __syncthreads();

        // Bias and statistics; then through shared memory, so that rows are written whole.
        bf16 *out = reinterpret_cast<bf16 *>(stages);
        bool live[MI][2];
#pragma unroll
        for (int i = 0; i < MI; i++)
#pragma unroll
            for (int e = 0; e < 2; e++) live[i][e] = rows[warp_m + i * 16 + lane / 4 + e * 8].w >= 0;
#pragma unroll
        for (int j = 0; j < NI; j++) {
            int local = warp_n + j * 8 + lane % 4 * 2;
            int col = column + local;
            float bias0 = p.bias && col < p.out ? p.bias[col] : 0.f;
            float bias1 = p.bias && col + 1 < p.out ? p.bias[col + 1] : 0.f;
#pragma unroll
            for (int i = 0; i < MI; i++) {
#pragma unroll
                for (int e = 0; e < 4; e += 2) {
                    float v0 = acc[i][j][e] + bias0, v1 = acc[i][j][e + 1] + bias1;
                    if (live[i][e / 2]) {
                        sums[j][0] += v0;
                        sums[j][1] += v1;
                        squares[j][0] += v0 * v0;
                        squares[j][1] += v1 * v1;
                    }
                    int r = warp_m + i * 16 + lane / 4 + e / 2 * 8;
                    *reinterpret_cast<u32 *>(out + r * PITCH + local) = pack_bf16(v0, v1);
                }
            }
        }
        __syncthreads();
        const bool whole = p.ys % 8 == 0 && p.out % 8 == 0 && reinterpret_cast<u64>(p.y) % 16 == 0 &&
                           (!p.residual || (p.rs % 8 == 0 && reinterpret_cast<u64>(p.residual) % 16 == 0));
        constexpr int CHUNKS = BN / 8;
        for (int i = tid; i < BM * CHUNKS; i += THREADS) {
            int r = i / CHUNKS, chunk = i % CHUNKS * 8, col = column + chunk;
            int pixel = rows[r].w;
            if (pixel < 0 || col >= p.out) continue;
            const bf16 *from = out + r * PITCH + chunk;
            bf16 *to = p.y + i64(pixel) * p.ys + col;
            if (whole) {
                if (!p.add && !p.residual && p.activation == IDENTITY) {
                    *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(from);
                    continue;
                }
                float v[8], other[8];
                load<bf16, 8>(from, v);
                if (p.activation == SILU) {
#pragma unroll
                    for (int e = 0; e < 8; e++) v[e] *= sigmoid(v[e]);
                } else if (p.activation != IDENTITY) {
#pragma unroll
                    for (int e = 0; e < 8; e++) v[e] = activate(p.activation, v[e]);
                }
                if (p.residual) {
                    load<bf16, 8>(p.residual + i64(pixel) * p.rs + col, other);
#pragma unroll
                    for (int e = 0; e < 8; e++) v[e] += other[e];
                }
                if (p.add) {
                    load<bf16, 8>(to, other);
#pragma unroll
                    for (int e = 0; e < 8; e++) v[e] += other[e];
                }
                store<bf16, 8>(to, v);
            } else {
                for (int e = 0; e < 8 && col + e < p.out; e++) {
                    float v = activate(p.activation, to_float(from[e]));
                    if (p.residual) v += to_float(p.residual[i64(pixel) * p.rs + col + e]);
                    if (p.add) v += to_float(to[e]);
                    to[e] = from_float<bf16>(v);
                }
            }
        }
        __syncthreads();
    }
    if (!p.partials) return;

    // The block's sums, then, in the last block of the column, all blocks' in their order.
    float *table = reinterpret_cast<float *>(stages); // [WM][2][BN]
#pragma unroll
    for (int j = 0; j < NI; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float s = sums[j][e], q = squares[j][e];
#pragma unroll
            for (int far = 4; far < 32; far *= 2) {
                s += __shfl_xor_sync(0xffffffffu, s, far);
                q += __shfl_xor_sync(0xffffffffu, q, far);
            }
            if (lane < 4) {
                int local = warp_n + j * 8 + lane * 2 + e;
                table[(warp % WM * 2) * BN + local] = s;
                table[(warp % WM * 2 + 1) * BN + local] = q;
            }
        }
    __syncthreads();
    for (int i = tid; i < 2 * BN; i += THREADS) {
        int which = i / BN, local = i % BN;
        float s = 0.f;
        for (int m = 0; m < WM; m++) s += table[(m * 2 + which) * BN + local];
        if (column + local < p.out) p.partials[(i64(blockIdx.x) * 2 + which) * p.out + column + local] = s;
    }
    double *wide = reinterpret_cast<double *>(stages + 2 * WM * BN * 4);
    static_assert(2 * BN <= THREADS && 2 * WM * BN * 4 + 2 * BN * 8 <= STAGES * STAGE, "fits");
    finish_sums(p.partials, p.tickets, p.out, column, BN, wide, [&](int col, double s, double q) {
        double mean = s / p.total, var = q / p.total - mean * mean;
        if (var < 0) var = 0;
        p.mean[col] = float(mean);
        p.var[col] = float(var);
        if (p.affine) {
            float scale = p.gamma[col] * rsqrtf(float(var) + p.eps);
            p.affine[col] = scale;
            p.affine[p.out + col] = p.beta[col] - float(mean) * scale;
        }
    });
}

#define CONV(BM, BN, WM, WN, STAGES, V)                                                                                \
    extern "C" __global__ void __launch_bounds__(WM * WN * 32)                                                         \
        conv_##BM##_##BN##_##V(const __grid_constant__ ConvProblem p) {                                                \
        conv<BM, BN, WM, WN, STAGES, V>(p);                                                                            \
    }

CONV(128, 16, 4, 1, 4, 8)
CONV(128, 32, 4, 1, 4, 8)
CONV(128, 64, 4, 1, 4, 8)
CONV(128, 128, 4, 2, 3, 8)
CONV(64, 64, 2, 2, 4, 8)
CONV(64, 32, 4, 1, 4, 8)
CONV(128, 32, 4, 1, 4, 4)
CONV(128, 64, 4, 1, 4, 4)
CONV(128, 16, 4, 1, 4, 1)
CONV(128, 64, 4, 1, 4, 1)
