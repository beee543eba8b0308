// Training samples drawn on the device, straight into the network's input: mosaic, map, mix-up, cut-mix, colour jitter,
// flips and the division by 255 in one pass. The host draws all random numbers and hands them over in tables.

// One image on the canvas: canvas pixels x1..x2, y1..y2 show it; its own column 0 lies at `left`, its row 0 at `top`.
struct Tile {
    const u8* image; // RGB, `width` pixels a row
    int x1, y1, x2, y2, left, top, width, unused;
};

// Images seen through one map.
struct View {
    double back[9]; // from output pixels to canvas pixels
    int kind;       // 0: plain grey, 1: affine, 2: perspective
    int tiles;
    Tile tile[4];
};

struct Sample {
    View view[3];          // the sample, what is blended in, what is pasted in
    int mixup;             // whether view[1] is blended in
    u32 share;             // of view[0], in 2^-16
    int cutmix;            // whether view[2] is pasted in
    int cut[4];            // where: x1, y1, x2, y2
    int hsv;               // whether colours change
    int flip_up_down, flip_left_right;
};

#define FILL 114
#define FRACTION 24
#define WEIGHT 11
#define ONE (1u << WEIGHT)
#define REACH 33554432.0

__device__ __forceinline__ i64 fixed(double v) {
    v = v < -REACH ? -REACH : (v > REACH ? REACH : v);
    return (i64)round(v * 16777216.0);
}

__device__ __forceinline__ u32 weight(i64 v) { return (u32)(v >> (FRACTION - WEIGHT)) & (ONE - 1); }

__device__ __forceinline__ int whole(i64 v) {
    i64 pixel = v >> FRACTION;
    // Far outside every canvas is as good as farther.
    return pixel < -(1 << 29) ? -(1 << 29) : (pixel > (1 << 29) ? (1 << 29) : (int)pixel);
}

__device__ __forceinline__ bool holds(const Tile& t, int x, int y) {
    return x >= t.x1 && x < t.x2 && y >= t.y1 && y < t.y2;
}

__device__ __forceinline__ const u8* place(const Tile& t, int x, int y) {
    return t.image + ((i64)(y - t.top) * t.width + (x - t.left)) * 3;
}

__device__ __forceinline__ void tap(const View& view, int x, int y, u32 out[3]) {
    out[0] = out[1] = out[2] = FILL;
    for (int i = 0; i < view.tiles; i++) {
        const Tile& t = view.tile[i];
        if (holds(t, x, y)) {
            const u8* p = place(t, x, y);
            out[0] = p[0], out[1] = p[1], out[2] = p[2];
            return;
        }
    }
}

__device__ __forceinline__ u32 blend(u32 a, u32 b, u32 c, u32 d, u32 wx, u32 wy) {
    u32 upper = a * (ONE - wx) + b * wx;
    u32 lower = c * (ONE - wx) + d * wx;
    return (upper * (ONE - wy) + lower * wy + (1u << (2 * WEIGHT - 1))) >> (2 * WEIGHT);
}

// The view's pixel at output position (x, y).
__device__ inline void look(const View& view, int x, int y, u32 out[3]) {
    out[0] = out[1] = out[2] = FILL;
    const double* m = view.back;
    i64 u, v;
    if (view.kind == 1) {
        u = fixed(m[1] * y + m[2]) + fixed(m[0]) * x;
        v = fixed(m[4] * y + m[5]) + fixed(m[3]) * x;
    } else if (view.kind == 2) {
        double w = m[6] * x + m[7] * y + m[8];
        double a = (m[0] * x + m[1] * y + m[2]) / w, b = (m[3] * x + m[4] * y + m[5]) / w;
        // A point on the horizon has no place on the canvas.
        if (!(a - a == 0.0) || !(b - b == 0.0)) return;
        u = fixed(a), v = fixed(b);
    } else {
        return;
    }
    int column = whole(u), line = whole(v);
    u32 wx = weight(u), wy = weight(v);
    for (int i = 0; i < view.tiles; i++) {
        const Tile& t = view.tile[i];
        if (holds(t, column, line) && column + 1 < t.x2 && line + 1 < t.y2) {
            const u8* upper = place(t, column, line);
            const u8* lower = upper + (i64)t.width * 3;
            for (int c = 0; c < 3; c++) out[c] = blend(upper[c], upper[c + 3], lower[c], lower[c + 3], wx, wy);
            return;
        }
    }
    u32 a[3], b[3], c[3], d[3];
    tap(view, column, line, a);
    tap(view, column + 1, line, b);
    tap(view, column, line + 1, c);
    tap(view, column + 1, line + 1, d);
    for (int k = 0; k < 3; k++) out[k] = blend(a[k], b[k], c[k], d[k], wx, wy);
}

// Grid: (any, images); a block draws a stretch of one image.
extern "C" __global__ void augment(const Sample* samples, const Colours* colours, const int* reciprocals,
                                   const float* normal, void* out, int half, int stride, int height, int width) {
    __shared__ Sample sample;
    __shared__ Colours own;
    __shared__ int inverse[512];
    int image = blockIdx.y;
    for (u32 i = threadIdx.x; i < sizeof(Sample) / 4; i += blockDim.x)
        ((u32*)&sample)[i] = ((const u32*)&samples[image])[i];
    for (u32 i = threadIdx.x; i < sizeof(Colours) / 4; i += blockDim.x)
        ((u32*)&own)[i] = ((const u32*)&colours[image])[i];
    for (u32 i = threadIdx.x; i < 512; i += blockDim.x) inverse[i] = reciprocals[i];
    __syncthreads();
    int pixels = height * width;
    for (int at = blockIdx.x * blockDim.x + threadIdx.x; at < pixels; at += gridDim.x * blockDim.x) {
        int x = at % width, y = at / width;
        if (sample.flip_left_right) x = width - 1 - x;
        if (sample.flip_up_down) y = height - 1 - y;
        u32 p[3], second[3];
        look(sample.view[0], x, y, p);
        if (sample.mixup) {
            look(sample.view[1], x, y, second);
            for (int c = 0; c < 3; c++) p[c] = (p[c] * sample.share + second[c] * (65536u - sample.share)) >> 16;
        }
        if (sample.cutmix && x >= sample.cut[0] && y >= sample.cut[1] && x < sample.cut[2] && y < sample.cut[3])
            look(sample.view[2], x, y, p);
        if (sample.hsv) jitter(own, inverse, p);
        put(out, (u64)image * pixels + at, stride, half, normal, p);
    }
}

// A step's tables, from the host's pinned memory: a copy by the copy engine would wait for the step before, and the next images,
// which need not, would wait behind it.
extern "C" __global__ void bring_tables(const u64* from, u64* to, int count) {
    for (int at = blockIdx.x * blockDim.x + threadIdx.x; at < count; at += gridDim.x * blockDim.x) to[at] = from[at];
}

// Ready pixels, `count` of them as RGB bytes, into the network's input: validation, and batches that the host drew.
extern "C" __global__ void bytes_to_input(const u8* bytes, const float* normal, void* out, int half, int stride, u64 count) {
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (u64)gridDim.x * blockDim.x) {
        u32 p[3] = {bytes[at * 3], bytes[at * 3 + 1], bytes[at * 3 + 2]};
        put(out, at, stride, half, normal, p);
    }
}
