// Gathering of gradients, clipping by the global norm, SGD, Adam, AdamW and the elementwise part of MuSGD, and the
// moving average: crates/tune/src/train/{clip,optimiser,ema}.rs, which say what is computed. The step's scalars come
// from a small buffer that the host writes and from counters that live here, so that a recorded step can be replayed.

#define CLASSES 128
#define UNTRAINED 255
#define GRANULE 16 // values of the arena that belong to one parameter

enum Kind { SGD = 0, ADAM = 1, ADAMW = 2, MUSGD = 3 };

// What the host says of a step: learning rates and decays of the classes of parameters.
struct Rates {
    double momentum, beta1, max_norm;
    double lr[CLASSES], decay[CLASSES];
};

struct Counters {
    u64 steps;   // of the optimiser
    u64 updates; // of the moving average
};

// What the update needs, rounded as on the processor.
struct Derived {
    int go;       // whether the step is taken
    float factor; // multiplies the gradient
    float keep, take;
    float momentum, rest;
    float keep1, beta2, keep2, bias2_root;
    float lr[CLASSES], decay[CLASSES], shrink[CLASSES], l2[CLASSES], size[CLASSES], muon[CLASSES];
};

// What a step was, for the host.
struct Outcome {
    double norm;
    int stepped; // 0 where the gradient was not finite
    int unused;
};

// gathered += grads, where the batch's loss is finite: `bad` is 0.
extern "C" __global__ void gather_gradients(const float4* grads, float4* gathered, const u32* bad, u64 quads) {
    if (*bad) return;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < quads; i += (u64)gridDim.x * blockDim.x) {
        float4 a = gathered[i], g = grads[i];
        a.x += g.x, a.y += g.y, a.z += g.z, a.w += g.w;
        gathered[i] = a;
    }
}

// Sums of squares of the trained parameters' gradients, by block. 256 threads.
extern "C" __global__ void square_sums(const float4* gathered, const u8* classes, double* sums, u64 quads) {
    __shared__ double room[256];
    double sum = 0.0;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < quads; i += (u64)gridDim.x * blockDim.x) {
        if (classes[i / (GRANULE / 4)] == UNTRAINED) continue;
        float4 g = gathered[i];
        sum += (double)g.x * (double)g.x + (double)g.y * (double)g.y + (double)g.z * (double)g.z + (double)g.w * (double)g.w;
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Whether to step, by which factor, and the scalars of the update. One block of 256.
extern "C" __global__ void decide_step(const double* sums, int blocks, const Rates* rates, int kind, Counters* counters,
                                       Derived* out, Outcome* outcome) {
    __shared__ double room[256];
    double sum = 0.0;
    for (int i = threadIdx.x; i < blocks; i += blockDim.x) sum += sums[i];
    sum = block_sum(sum, room);
    double norm = sqrt(sum);
    const int go = norm - norm == 0.0;
    if (threadIdx.x == 0) {
        outcome->norm = norm;
        outcome->stepped = out->go = go;
    }
    if (!go) return;
    // All threads read the count before one moves it.
    double steps = (double)(counters->steps + 1);
    double bias1 = 1.0 - pow(rates->beta1, steps);
    __syncthreads();
    if (threadIdx.x == 0) {
        counters->steps += 1;
        counters->updates += 1;
        double factor = rates->max_norm / (norm + 1e-6);
        out->factor = factor < 1.0 ? (float)factor : 1.0f;
        double average = 0.9999 * (1.0 - exp(-(double)counters->updates / 2000.0));
        out->keep = (float)average, out->take = (float)(1.0 - average);
        out->bias2_root = (float)sqrt(1.0 - pow(0.999, steps));
        out->momentum = (float)rates->momentum;
        out->rest = (float)(1.0 - rates->momentum);
        out->keep1 = (float)(1.0 - rates->beta1);
        out->beta2 = (float)0.999, out->keep2 = (float)(1.0 - 0.999);
    }
    for (int c = threadIdx.x; c < CLASSES; c += blockDim.x) {
        double lr = rates->lr[c], decay = rates->decay[c];
        out->lr[c] = (float)lr, out->decay[c] = (float)decay;
        out->shrink[c] = kind == ADAMW ? (float)(1.0 - lr * decay) : 1.0f;
        out->l2[c] = kind == ADAMW ? 0.0f : (float)decay;
        out->size[c] = (float)(lr / bias1);
        out->muon[c] = (float)(0.2 * lr);
    }
}

__device__ __forceinline__ float& part(float4& v, int k) { return k == 0 ? v.x : (k == 1 ? v.y : (k == 2 ? v.z : v.w)); }

// MuSGD's look-ahead, for the matrices: b = m b + (1 - m) g and u = m b + (1 - m) g. `scales`: a granule's
// multiplier of the orthogonalised update, 0 where the parameter is no matrix.
extern "C" __global__ void look_ahead(const float4* gathered, const u8* classes, const float* scales,
                                      const Derived* derived, float4* muon, float4* updates, u64 quads) {
    const Derived& d = *derived;
    if (!d.go) return;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < quads; i += (u64)gridDim.x * blockDim.x) {
        u64 granule = i / (GRANULE / 4);
        if (classes[granule] == UNTRAINED || scales[granule] == 0.0f) continue;
        float4 g = gathered[i], b = muon[i], u;
        for (int k = 0; k < 4; k++) {
            float step = d.rest * (d.factor < 1.0f ? part(g, k) * d.factor : part(g, k));
            part(b, k) = d.momentum * part(b, k) + step;
            part(u, k) = d.momentum * part(b, k) + step;
        }
        muon[i] = b;
        updates[i] = u;
    }
}

// The update of all parameters, the moving average of the whole arena, and an empty `gathered`. `first` and `second`
// are the optimiser's states (SGD has one), `updates` MuSGD's orthogonalised ones.
extern "C" __global__ void update_parameters(float4* params, float4* gathered, float4* first, float4* second,
                                             const float4* updates, const float* scales, float4* ema,
                                             const u8* classes, const Derived* derived, int kind, u64 quads) {
    const Derived& d = *derived;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < quads; i += (u64)gridDim.x * blockDim.x) {
        float4 g4 = gathered[i];
        gathered[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (!d.go) continue;
        float4 p4 = params[i];
        u64 granule = i / (GRANULE / 4);
        int c = classes[granule];
        if (c != UNTRAINED) {
            float4 a4 = first[i], b4 = kind == ADAM || kind == ADAMW ? second[i] : a4;
            float scale = kind == MUSGD ? scales[granule] : 0.0f;
            float4 u4 = scale != 0.0f ? updates[i] : a4;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                float g = part(g4, k), p = part(p4, k);
                if (d.factor < 1.0f) g *= d.factor;
                if (kind == ADAM || kind == ADAMW) {
                    float& m = part(a4, k);
                    float& v = part(b4, k);
                    p *= d.shrink[c];
                    g = g + d.l2[c] * p;
                    m += d.keep1 * (g - m);
                    v = d.beta2 * v + d.keep2 * g * g;
                    p -= d.size[c] * m / (sqrtf(v) / d.bias2_root + 1e-8f);
                } else {
                    if (scale != 0.0f) p -= d.muon[c] * (part(u4, k) * scale);
                    float& b = part(a4, k);
                    g = g + d.decay[c] * p;
                    b = d.momentum * b + g;
                    p -= d.lr[c] * (g + d.momentum * b);
                }
                part(p4, k) = p;
            }
            params[i] = p4;
            first[i] = a4;
            if (kind == ADAM || kind == ADAMW) second[i] = b4;
        }
        float4 e = ema[i];
        for (int k = 0; k < 4; k++) part(e, k) = part(e, k) * d.keep + d.take * part(p4, k);
        ema[i] = e;
    }
}

// Newton-Schulz iteration in bfloat16 with float32 sums: crates/tune/src/train/optimiser/newton_schulz.rs. Every sum
// runs in the order of the inner index, so that the result has the processor's bits.

// A matrix [rows, cols] of the arena at `offset`; its smaller side are the rows m of x [m, k] at `x`, its Gram matrix
// [m, m] lies at `gram`.
struct Matrix {
    u64 offset, x, gram;
    int rows, cols, m, k, flip, unused;
};

// 32 x 32 values of a product.
struct Block {
    int matrix, row, column;
};

__device__ __forceinline__ float rounded(float v) { return widen(narrow(v)); }

// Sums of squares of the matrices' values as bfloat16, by block. Grid: (NORM_BLOCKS, matrices) of 256.
extern "C" __global__ void orthogonal_norms(const Matrix* matrices, const float* updates, double* sums, const Derived* derived) {
    __shared__ double room[256];
    if (!derived->go) return;
    const Matrix m = matrices[blockIdx.y];
    const float* values = updates + m.offset;
    u64 len = (u64)m.rows * m.cols;
    double sum = 0.0;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < len; i += (u64)gridDim.x * blockDim.x) {
        double v = (double)rounded(values[i]);
        sum += v * v;
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) sums[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

// x = the matrix over its norm. The same grid.
extern "C" __global__ void orthogonal_start(const Matrix* matrices, const float* updates, const double* sums, float* x,
                                            const Derived* derived) {
    if (!derived->go) return;
    const Matrix m = matrices[blockIdx.y];
    const float* values = updates + m.offset;
    u64 len = (u64)m.rows * m.cols;
    double sum = 0.0;
    for (u32 i = 0; i < gridDim.x; i++) sum += sums[blockIdx.y * gridDim.x + i];
    float norm = rounded(rounded((float)sqrt(sum)) + 1e-7f);
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < len; i += (u64)gridDim.x * blockDim.x) {
        u64 row = i / m.cols, column = i % m.cols;
        x[m.x + (m.flip ? column * m.rows + row : i)] = rounded(rounded(values[i]) / norm);
    }
}

// A block of 64 threads computes one Block. `phase` 0: gram = x x^T. 1: poly = b gram + c gram gram.
// 2: next = a x + poly x.
extern "C" __global__ void orthogonal_product(const Matrix* matrices, const Block* blocks, int phase, const float* x,
                                              float* gram, float* poly, float* next, const Derived* derived) {
    __shared__ float left[16][33], right[16][33];
    if (!derived->go) return;
    const Block block = blocks[blockIdx.x];
    const Matrix m = matrices[block.matrix];
    int columns = phase == 2 ? m.k : m.m, inner = phase == 0 ? m.k : m.m;
    const float* a = phase == 0 ? x + m.x : (phase == 1 ? gram + m.gram : poly + m.gram);
    const float* b = phase == 1 ? gram + m.gram : x + m.x;
    int ty = threadIdx.x / 8, tx = threadIdx.x % 8;
    float sums[4][4];
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++) sums[r][c] = 0.0f;
    // The next stretch is on its way while this one is multiplied.
    float next_left[8], next_right[8];
    for (int begin = -16; begin < inner; begin += 16) {
        if (begin >= 0) {
            __syncthreads();
#pragma unroll
            for (int s = 0; s < 8; s++) {
                int i = threadIdx.x + 64 * s;
                left[i % 16][i / 16] = next_left[s];
                if (phase == 0) right[i % 16][i / 16] = next_right[s];
                else right[i / 32][i % 32] = next_right[s];
            }
            __syncthreads();
        }
        int coming = begin + 16;
#pragma unroll
        for (int s = 0; s < 8; s++) {
            int i = threadIdx.x + 64 * s;
            int p = coming + i % 16, row = block.row + i / 16;
            next_left[s] = row < m.m && p < inner ? a[(u64)row * inner + p] : 0.0f;
            int q = phase == 0 ? p : coming + i / 32;
            int column = block.column + (phase == 0 ? i / 16 : i % 32);
            u64 at = phase == 0 ? (u64)column * inner + q : (u64)q * columns + column;
            next_right[s] = column < columns && q < inner ? b[at] : 0.0f;
        }
        if (begin < 0) continue;
#pragma unroll
        for (int p = 0; p < 16; p++) {
            float u[4], v[4];
#pragma unroll
            for (int k = 0; k < 4; k++) u[k] = left[p][ty + 8 * k], v[k] = right[p][tx + 8 * k];
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) sums[r][c] += u[r] * v[c];
        }
    }
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < 4; c++) {
            int row = block.row + ty + 8 * r, column = block.column + tx + 8 * c;
            if (row >= m.m || column >= columns) continue;
            u64 at = (u64)row * columns + column;
            float sum = sums[r][c];
            if (phase == 0) gram[m.gram + at] = rounded(sum);
            else if (phase == 1) poly[m.gram + at] = rounded(-4.7750f * gram[m.gram + at] + 2.0315f * sum);
            else next[m.x + at] = rounded(3.4445f * x[m.x + at] + sum);
        }
}

// The matrix becomes x. Grid: (any, matrices).
extern "C" __global__ void orthogonal_finish(const Matrix* matrices, const float* x, float* updates, const Derived* derived) {
    if (!derived->go) return;
    const Matrix m = matrices[blockIdx.y];
    u64 len = (u64)m.rows * m.cols;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < len; i += (u64)gridDim.x * blockDim.x) {
        u64 row = i / m.cols, column = i % m.cols;
        updates[m.offset + i] = x[m.x + (m.flip ? column * m.rows + row : i)];
    }
}
