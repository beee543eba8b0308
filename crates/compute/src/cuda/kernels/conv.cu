// Dense convolutions as matrix products on the tensor cores, in bfloat16 or TF32: forward, and the gradient of the input.
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
    const element *x, *w;
    element *y;
    const float *bias;     // or null
    const element *residual; // or null
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

const int BK = 64 / SIZE; // inner elements of a stage

// An output position of a tile: the input's element at tap (0, 0), which taps lie inside, the output's pixel or -1.
struct __align__(16) Row {
    u64 taps;
    int base, pixel;
};

template <int BM, int BN, int WM, int WN, int STAGES, int V>
__device__ void conv(const ConvProblem &p) {
    constexpr int THREADS = WM * WN * 32;
    constexpr int A_BYTES = BM * 64, B_BYTES = BN * 64, STAGE = A_BYTES + B_BYTES;
    constexpr int MI = BM / WM / 16, NI = BN / WN / 8;
    constexpr int A_COLS = BK / V, A_STEP = THREADS / A_COLS, A_COUNT = BM / A_STEP;
    constexpr int B_COLS = BK / CHUNK, B_STEP = THREADS / B_COLS;
    constexpr int PITCH = BN + 8;
    static_assert(BM * PITCH * SIZE <= STAGES * STAGE, "the staged result fits in the stages");
    DYNAMIC_SHARED(shared);
    u8 *stages = shared;
    Row *rows = reinterpret_cast<Row *>(shared + STAGES * STAGE);

    const ConvClass &k = p.classes[blockIdx.z];
    const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
    const int warp_m = warp % WM * (BM / WM), warp_n = warp / WM * (BN / WN);
    const int column = blockIdx.y * BN;
    const int tiles = (k.pixels + BM - 1) / BM, depth = (k.inner + BK - 1) / BK;
    const int a_col = tid % A_COLS, a_row = tid / A_COLS, b_col = tid % B_COLS, b_row = tid / B_COLS;
    // Rows a multiple of 8 apart are swizzled alike: one offset serves all that the thread copies.
    constexpr bool EVEN = A_STEP % 8 == 0;
    const int a_place = swizzled<4>(a_row, a_col * V / CHUNK) + a_col * V % CHUNK * SIZE;
    const int b_place = A_BYTES + swizzled<4>(b_row, b_col);
    const element *const weights = p.w + k.weights + (column + b_row) * k.padded + b_col * CHUNK;

    float sums[NI][2], squares[NI][2];
#pragma unroll
    for (int j = 0; j < NI; j++) sums[j][0] = sums[j][1] = squares[j][0] = squares[j][1] = 0.f;

    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        for (int r = tid; r < BM; r += THREADS) {
            int m = tile * BM + r;
            Row row = {0, 0, -1};
            if (m < k.pixels) {
                int gx = m % k.grid_w, rest = m / k.grid_w;
                int gy = rest % k.grid_h, n = rest / k.grid_h;
                int y = gy * p.stride_y + k.base_y, x = gx * p.stride_x + k.base_x;
                row.base = ((n * p.h + y) * p.width + x) * p.xs;
                row.pixel = (n * p.oh + gy * p.step_y + k.phase_y) * p.ow + gx * p.step_x + k.phase_x;
                // Columns of the window inside the input, then the same for each of its rows inside.
                int left = max(0, -x), right = min(k.taps_x, p.width - x);
                u64 inside = right > left ? ((1ull << (right - left)) - 1) << left : 0;
                for (int t = 0; t < k.taps_y; t++)
                    if (u32(y + t) < u32(p.h)) row.taps |= inside << (t * k.taps_x);
            }
            rows[r] = row;
        }
        __syncthreads();

        // Of the rows that the thread copies: first element and which taps lie inside.
        constexpr int KEPT = V > 1 ? A_COUNT : 1;
        const element *from[KEPT];
        u64 inside[KEPT];
        if constexpr (V > 1) {
#pragma unroll
            for (int i = 0; i < A_COUNT; i++) {
                Row row = rows[a_row + i * A_STEP];
                from[i] = p.x + row.base;
                inside[i] = row.taps;
            }
        }
        // The thread's column of A: tap and channel.
        int inner = a_col * V, tap = 0, tx = 0, c = a_col * V, shift = c;
        auto settle = [&]() {
            if (c >= p.cin) {
                int taps = c / p.cin;
                c -= taps * p.cin;
                tap += taps;
                tx += taps;
                if (tx >= k.taps_x) tx %= k.taps_x;
                shift = ((tap - tx) / k.taps_x * p.width + tx) * p.xs + c;
            }
        };
        settle();
        auto load_stage = [&](int step, int stage) {
            u8 *a = stages + stage * STAGE;
            bool real = inner < k.inner;
            if constexpr (V > 1) {
#pragma unroll
                for (int i = 0; i < A_COUNT; i++) {
                    // Where nothing is valid the address is not read.
                    bool valid = real && (inside[i] >> tap & 1);
                    u8 *to = EVEN ? a + a_place + i * A_STEP * 64
                                  : a + swizzled<4>(a_row + i * A_STEP, a_col * V / CHUNK) + a_col * V % CHUNK * SIZE;
                    copy_async<V * SIZE>(to, from[i] + shift, valid);
                }
            } else {
#pragma unroll 4
                for (int i = 0; i < A_COUNT; i++) {
                    Row row = rows[a_row + i * A_STEP];
                    u8 *to = a + swizzled<4>(a_row + i * A_STEP, a_col * V / CHUNK) + a_col * V % CHUNK * SIZE;
                    *reinterpret_cast<element *>(to) = real && (row.taps >> tap & 1) ? p.x[row.base + shift] : element{};
                }
            }
            inner += BK;
            c += BK;
            shift += BK;
            settle();
            bool known = step * BK + b_col * CHUNK < k.padded;
#pragma unroll
            for (int i = 0; i < (BN + B_STEP - 1) / B_STEP; i++) {
                if (B_STEP > BN && b_row >= BN) break;
                bool valid = known && column + b_row + i * B_STEP < p.out;
                copy_async<16>(a + b_place + i * B_STEP * 64, weights + i * B_STEP * k.padded + step * BK, valid);
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
                for (int i = 0; i < MI; i++) {
                    load_matrices(fa[i], a + swizzled<4>(warp_m + i * 16 + lane % 16, half * 2 + lane / 16));
                    rounded(fa[i]);
                }
#pragma unroll
                for (int j = 0; j < NI; j += 2) {
                    u32 fb[4];
                    load_matrices(fb, b + swizzled<4>(warp_n + j * 8 + lane % 8 + lane / 16 * 8, half * 2 + lane / 8 % 2));
                    rounded(fb);
#pragma unroll
                    for (int i = 0; i < MI; i++) {
                        product(acc[i][j], fa[i], fb[0], fb[1]);
                        product(acc[i][j + 1], fa[i], fb[2], fb[3]);
                    }
                }
            }
        }
        copies_wait<0>();
        __syncthreads();

        // Bias and statistics; then through shared memory, so that rows are written whole.
        element *out = reinterpret_cast<element *>(stages);
        bool live[MI][2];
#pragma unroll
        for (int i = 0; i < MI; i++)
#pragma unroll
            for (int e = 0; e < 2; e++) live[i][e] = rows[warp_m + i * 16 + lane / 4 + e * 8].pixel >= 0;
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
                    const float pair[2] = {v0, v1};
                    store<element, 2>(out + r * PITCH + local, pair);
                }
            }
        }
        __syncthreads();
        const bool whole = p.ys % 8 == 0 && p.out % 8 == 0 && reinterpret_cast<u64>(p.y) % (8 * SIZE) == 0 &&
                           (!p.residual || (p.rs % 8 == 0 && reinterpret_cast<u64>(p.residual) % (8 * SIZE) == 0));
        constexpr int CHUNKS = BN / 8;
        for (int i = tid; i < BM * CHUNKS; i += THREADS) {
            int r = i / CHUNKS, chunk = i % CHUNKS * 8, col = column + chunk;
            int pixel = rows[r].pixel;
            if (pixel < 0 || col >= p.out) continue;
            const element *from = out + r * PITCH + chunk;
            element *to = p.y + i64(pixel) * p.ys + col;
            if (whole) {
                if (!p.add && !p.residual && p.activation == IDENTITY) {
                    *reinterpret_cast<Pack<element, 8> *>(to) = *reinterpret_cast<const Pack<element, 8> *>(from);
                    continue;
                }
                float v[8], other[8];
                load<element, 8>(from, v);
                if (p.activation == SILU) {
#pragma unroll
                    for (int e = 0; e < 8; e++) v[e] *= sigmoid(v[e]);
                } else if (p.activation != IDENTITY) {
#pragma unroll
                    for (int e = 0; e < 8; e++) v[e] = activate(p.activation, v[e]);
                }
                if (p.residual) {
                    load<element, 8>(p.residual + i64(pixel) * p.rs + col, other);
#pragma unroll
                    for (int e = 0; e < 8; e++) v[e] += other[e];
                }
                if (p.add) {
                    load<element, 8>(to, other);
#pragma unroll
                    for (int e = 0; e < 8; e++) v[e] += other[e];
                }
                store<element, 8>(to, v);
            } else {
                for (int e = 0; e < 8 && col + e < p.out; e++) {
                    float v = activate(p.activation, to_float(from[e]));
                    if (p.residual) v += to_float(p.residual[i64(pixel) * p.rs + col + e]);
                    if (p.add) v += to_float(to[e]);
                    to[e] = from_float<element>(v);
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
        MATRIX_NAME(conv, BM, BN, V)(const __grid_constant__ ConvProblem p) {                                          \
        conv<BM, BN, WM, WN, STAGES, V>(p);                                                                            \
    }

#ifdef TF32
CONV(128, 16, 4, 1, 4, 4)
CONV(128, 32, 4, 1, 4, 4)
CONV(128, 64, 4, 1, 4, 4)
CONV(64, 64, 2, 2, 4, 4)
CONV(64, 32, 4, 1, 4, 4)
#else
CONV(128, 16, 4, 1, 4, 8)
CONV(128, 32, 4, 1, 4, 8)
CONV(128, 64, 4, 1, 4, 8)
CONV(64, 64, 2, 2, 4, 8)
CONV(64, 32, 4, 1, 4, 8)
CONV(128, 16, 4, 1, 4, 4)
CONV(128, 32, 4, 1, 4, 4)
CONV(128, 64, 4, 1, 4, 4)
#endif
CONV(128, 16, 4, 1, 4, 1)
CONV(128, 64, 4, 1, 4, 1)
