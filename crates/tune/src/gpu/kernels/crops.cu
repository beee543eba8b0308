// A classifier's training samples drawn on the device: crop and resize, flips, RandAugment or colour jitter, erasing, and
// the network's normalisation. The host draws all random numbers; crates/tune/src/data/classify says what is computed.

// The order of `kind_of` in crops.rs.
enum Kind { IDENTITY, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, ROTATE, BRIGHTNESS, COLOUR, CONTRAST, SHARPNESS, POSTERIZE,
            SOLARIZE, AUTO_CONTRAST, EQUALIZE };

struct Operation {
    int kind, level; // of posterize: the bits that stay; of solarize: from where on
    float factor;    // of blends
    int unused;
    double a, b;     // slope or pixels; of rotate cosine and sine
};

struct Crop {
    const u8* image; // RGB, `width` pixels a row
    int width;
    int bits[2];     // of the weights' fractions along x and y
    int flip_left_right, flip_up_down, hsv;
    int erased[4];   // left, top, right, bottom in the result
    Operation operation[2];
};

#define TAPS 8
// What an output row or column is made of.
struct Tap {
    int first, count;
    short weight[TAPS];
};

__device__ __forceinline__ u32 cut_off(int v) { return v > 255 ? 255u : (u32)v; }

// Grid: (any, images). Rows first, rounded to bytes, then columns. `taps`: of each image those of its columns, then of its rows.
extern "C" __global__ void crop_images(const Crop* crops, const Tap* taps, u8* out, int side) {
    const Crop& crop = crops[blockIdx.y];
    const Tap* columns = taps + (u64)blockIdx.y * 2 * side;
    const int pixels = side * side, across = crop.bits[0], down = crop.bits[1];
    u8* to = out + (u64)blockIdx.y * pixels * 3;
    for (int at = blockIdx.x * blockDim.x + threadIdx.x; at < pixels; at += gridDim.x * blockDim.x) {
        int x = at % side, y = at / side;
        if (crop.flip_left_right) x = side - 1 - x;
        if (crop.flip_up_down) y = side - 1 - y;
        const Tap& column = columns[x];
        const Tap& row = columns[side + y];
        int sum[3];
        for (int c = 0; c < 3; c++) sum[c] = 1 << (across - 1);
        for (int i = 0; i < column.count; i++) {
            const u8* from = crop.image + ((i64)row.first * crop.width + column.first + i) * 3;
            int part[3];
            for (int c = 0; c < 3; c++) part[c] = 1 << (down - 1);
            for (int j = 0; j < row.count; j++) {
                int weight = row.weight[j];
                for (int c = 0; c < 3; c++) part[c] += from[c] * weight;
                from += (i64)crop.width * 3;
            }
            int weight = column.weight[i];
            for (int c = 0; c < 3; c++) sum[c] += (int)cut_off(part[c] >> down) * weight;
        }
        for (int c = 0; c < 3; c++) to[3 * at + c] = (u8)cut_off(sum[c] >> across);
    }
}

__device__ __forceinline__ float grey(const u8* p) {
    return floorf(0.2989f * (float)p[0] + 0.587f * (float)p[1] + 0.114f * (float)p[2]);
}

// f * value + (1 - f) * other, cut off.
__device__ __forceinline__ u8 blended(float f, int value, float other) {
    float v = f * (float)value + (1.0f - f) * other;
    return (u8)(v < 0.0f ? 0.0f : (v > 255.0f ? 255.0f : v));
}

__device__ __forceinline__ bool is_moved(int kind) { return kind >= SHEAR_X && kind <= ROTATE; }
__device__ __forceinline__ bool has_table(int kind) { return !is_moved(kind) && kind != COLOUR && kind != SHARPNESS; }

// One block an image: what operation number `which` makes of each value of each channel, where that depends on no more.
extern "C" __global__ void operation_tables(const Crop* crops, int which, const u8* in, u8* tables, int side) {
    __shared__ u32 counts[768];
    __shared__ u8 flat[768];
    __shared__ int lowest[3], highest[3];
    __shared__ u64 greys;
    const Operation& op = crops[blockIdx.x].operation[which];
    const int kind = op.kind, pixels = side * side;
    if (!has_table(kind)) return;
    const u8* from = in + (u64)blockIdx.x * pixels * 3;
    for (u32 i = threadIdx.x; i < 768; i += blockDim.x) counts[i] = 0;
    if (threadIdx.x == 0) greys = 0;
    __syncthreads();
    if (kind == CONTRAST) {
        u64 sum = 0;
        for (int at = threadIdx.x; at < pixels; at += blockDim.x) sum += (u64)grey(from + 3 * at);
        atomicAdd(&greys, sum);
    } else if (kind == AUTO_CONTRAST || kind == EQUALIZE) {
        for (int at = threadIdx.x; at < pixels; at += blockDim.x)
            for (int c = 0; c < 3; c++) atomicAdd(&counts[256 * c + from[3 * at + c]], 1u);
    }
    __syncthreads();
    if (threadIdx.x < 3 && (kind == AUTO_CONTRAST || kind == EQUALIZE)) {
        const u32* own = counts + 256 * threadIdx.x;
        int low = 0, high = 255;
        while (low < 255 && own[low] == 0) low++;
        while (high > 0 && own[high] == 0) high--;
        lowest[threadIdx.x] = low, highest[threadIdx.x] = high;
        if (kind == EQUALIZE) {
            u32 step = ((u32)pixels - own[high]) / 255, sum = step / 2;
            for (int v = 0; v < 256; v++) {
                u32 value = step ? sum / step : (u32)v;
                flat[256 * threadIdx.x + v] = (u8)(value > 255 ? 255 : value);
                sum += own[v];
            }
        }
    }
    __syncthreads();
    float mean = (float)round((double)greys / (double)pixels);
    for (u32 i = threadIdx.x; i < 768; i += blockDim.x) {
        int v = (int)(i & 255u), c = (int)(i >> 8), low = lowest[c], high = highest[c];
        u8 value = (u8)v;
        if (kind == BRIGHTNESS) value = blended(op.factor, v, 0.0f);
        else if (kind == CONTRAST) value = blended(op.factor, v, mean);
        else if (kind == POSTERIZE) value = (u8)(v & op.level);
        else if (kind == SOLARIZE) value = (u8)(v >= op.level ? 255 - v : v);
        else if (kind == AUTO_CONTRAST && low < high)
            value = (u8)(((v < low ? low : (v > high ? high : v)) - low) * 255 / (high - low));
        else if (kind == EQUALIZE) value = flat[i];
        tables[(u64)blockIdx.x * 768 + i] = value;
    }
}

__device__ __forceinline__ float inside(const u8* in, int side, int x, int y, int c) {
    return x >= 0 && y >= 0 && x < side && y < side ? (float)in[(y * side + x) * 3 + c] : 0.0f;
}

// Grid: (any, images): the images after operation number `which`.
extern "C" __global__ void apply_operation(const Crop* crops, int which, const u8* in, const u8* tables, u8* out, int side) {
    __shared__ u8 table[768];
    const Operation& op = crops[blockIdx.y].operation[which];
    const int kind = op.kind, pixels = side * side;
    if (has_table(kind))
        for (u32 i = threadIdx.x; i < 768; i += blockDim.x) table[i] = tables[(u64)blockIdx.y * 768 + i];
    __syncthreads();
    const u8* from = in + (u64)blockIdx.y * pixels * 3;
    u8* to = out + (u64)blockIdx.y * pixels * 3;
    const double middle = ((double)side - 1.0) / 2.0, a = op.a, b = op.b;
    for (int at = blockIdx.x * blockDim.x + threadIdx.x; at < pixels; at += gridDim.x * blockDim.x) {
        const u8* p = from + 3 * at;
        int column = at % side, line = at / side;
        if (is_moved(kind)) {
            double x = (double)column, y = (double)line, u = x, v = y;
            if (kind == SHEAR_X) u = x + a * y;
            else if (kind == SHEAR_Y) v = y + a * x;
            else if (kind == TRANSLATE_X) u = x - a;
            else if (kind == TRANSLATE_Y) v = y - a;
            else {
                double dx = x - middle, dy = y - middle;
                u = middle + a * dx - b * dy, v = middle + b * dx + a * dy;
            }
            double left = floor(u), top = floor(v);
            float fx = (float)(u - left), fy = (float)(v - top);
            int x0 = (int)left, y0 = (int)top;
            for (int c = 0; c < 3; c++) {
                float upper = inside(from, side, x0, y0, c) * (1.0f - fx) + inside(from, side, x0 + 1, y0, c) * fx;
                float lower = inside(from, side, x0, y0 + 1, c) * (1.0f - fx) + inside(from, side, x0 + 1, y0 + 1, c) * fx;
                to[3 * at + c] = (u8)roundf(upper * (1.0f - fy) + lower * fy);
            }
        } else if (kind == COLOUR) {
            float other = grey(p);
            for (int c = 0; c < 3; c++) to[3 * at + c] = blended(op.factor, p[c], other);
        } else if (kind == SHARPNESS) {
            bool edge = column == 0 || line == 0 || column + 1 == side || line + 1 == side;
            for (int c = 0; c < 3; c++) {
                float other = (float)p[c];
                if (!edge) {
                    u32 sum = 4u * p[c];
                    for (int y = -1; y <= 1; y++)
                        for (int x = -1; x <= 1; x++) sum += p[(y * side + x) * 3 + c];
                    other = roundf((float)sum / 13.0f);
                }
                to[3 * at + c] = blended(op.factor, p[c], other);
            }
        } else {
            for (int c = 0; c < 3; c++) to[3 * at + c] = table[256 * c + p[c]];
        }
    }
}

// Grid: (any, images): colour jitter and erasing, then into the network's input.
extern "C" __global__ void crops_to_input(const Crop* crops, const Colours* colours, const int* reciprocals,
                                          const float* normal, const u8* in, void* out, int half, int stride, int side) {
    __shared__ Colours own;
    __shared__ int inverse[512];
    const Crop& crop = crops[blockIdx.y];
    if (crop.hsv) {
        for (u32 i = threadIdx.x; i < sizeof(Colours) / 4; i += blockDim.x)
            ((u32*)&own)[i] = ((const u32*)&colours[blockIdx.y])[i];
        for (u32 i = threadIdx.x; i < 512; i += blockDim.x) inverse[i] = reciprocals[i];
    }
    __syncthreads();
    const int pixels = side * side;
    const u8* from = in + (u64)blockIdx.y * pixels * 3;
    for (int at = blockIdx.x * blockDim.x + threadIdx.x; at < pixels; at += gridDim.x * blockDim.x) {
        int x = at % side, y = at / side;
        u32 p[3] = {from[3 * at], from[3 * at + 1], from[3 * at + 2]};
        if (crop.hsv) jitter(own, inverse, p);
        if (x >= crop.erased[0] && y >= crop.erased[1] && x < crop.erased[2] && y < crop.erased[3]) p[0] = p[1] = p[2] = 0;
        put(out, (u64)blockIdx.y * pixels + at, stride, half, normal, p);
    }
}

// Kept features of a batch's items into an input of the network's trained part: `len` values an item, `channels` a pixel.
// Grid: (any, images).
extern "C" __global__ void gather_features(const float* features, const int* items, void* out, int half, int stride,
                                           int channels, u64 len) {
    const float* from = features + (u64)items[blockIdx.y] * len;
    u64 first = (u64)blockIdx.y * (len / (u64)channels);
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < len; i += (u64)gridDim.x * blockDim.x)
        store(out, (first + i / (u64)channels) * (u64)stride + i % (u64)channels, from[i], half);
}
