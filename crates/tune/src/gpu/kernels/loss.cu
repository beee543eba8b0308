// The detection loss, its gradient by the head's raw maps, and the task-aligned assignment: crates/tune/src/train/loss
// and assign, which say what is computed and where it comes from, in passes over the whole batch.

#define BINS 16
#define MAX_LEVELS 8
#define TAKEN 16 // anchors that one target takes at most
#define CHUNK 2048
#define EPS 1e-7f
#define PI_F 3.14159274f
#define PI_D 3.14159265358979323846

// One level of the head: raw maps [images, h, w, 64 + classes], and where their gradient goes.
struct Level {
    const void* map;
    void* grad;
    int h, w, stride, first;     // `first`: index of the level's first anchor
    int map_pitch, grad_pitch;   // elements from one cell to the next
    int map_half, grad_half;     // whether bfloat16
};

struct Head {
    int levels, images, classes, anchors;
    int topk, unused;
    float alpha, beta;
    double gain_box, gain_cls, gain_dfl;
    const float* weights; // of the classes' cross-entropy
    Level level[MAX_LEVELS];
};

struct Target {
    int image, cls;
    float x1, y1, x2, y2; // pixels of the network's input
};

// An anchor's side distances in stride units, and the arc tangent of its box's width over its height.
struct Decoded {
    float side[4];
};

// Who holds an anchor.
struct Claim {
    int takers, target;
    float metric, overlap;
};

struct Peak {
    float metric, overlap;
};

struct Items {
    double box, cls, dfl, total;
    int foreground;
    u32 bad; // number, from 1, of the first image whose maps are not finite; 0 for none
};

__device__ __forceinline__ float exp_of_negative(float x) {
    x = fmaxf(x, -87.0f);
    float shifted = x * 1.44269502f + 12582912.0f;
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f - n * -2.12194442e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    u32 exponent = __float_as_uint(shifted) - __float_as_uint(12582912.0f) + 127u;
    return p * __uint_as_float(exponent << 23);
}

__device__ __forceinline__ void sigmoid_softplus(float x, float* sigmoid, float* softplus) {
    float e = exp_of_negative(-fabsf(x));
    *sigmoid = (x >= 0.0f ? 1.0f : e) / (1.0f + e);
    float z = e / (2.0f + e);
    float w = z * z;
    float p = 1.0f / 13.0f;
    p = p * w + 1.0f / 11.0f;
    p = p * w + 1.0f / 9.0f;
    p = p * w + 1.0f / 7.0f;
    p = p * w + 1.0f / 5.0f;
    p = p * w + 1.0f / 3.0f;
    p = p * w + 1.0f;
    *softplus = fmaxf(x, 0.0f) + 2.0f * z * p;
}

__device__ __forceinline__ int level_of(const Head& head, int anchor) {
    int level = 0;
    while (level + 1 < head.levels && anchor >= head.level[level + 1].first) level++;
    return level;
}

// First element of a cell in an array of the level.
__device__ __forceinline__ u64 cell_start(const Level& level, int image, int cell, int pitch) {
    return ((u64)image * level.h * level.w + cell) * pitch;
}

// The logits of one side, the sum of e^(logit - top) and that of j times the j-th; the exponentials in p.
__device__ inline void exponentials(const Level& level, u64 at, float logits[BINS], float p[BINS], float* top,
                                    float* sum, float* moment) {
#pragma unroll
    for (int j = 0; j < BINS; j++) logits[j] = load(level.map, at + j, level.map_half);
    float most = logits[0];
#pragma unroll
    for (int j = 1; j < BINS; j++) most = fmaxf(most, logits[j]);
#pragma unroll
    for (int j = 0; j < BINS; j++) p[j] = exp_of_negative(logits[j] - most);
    float s[8], m[8];
    for (int j = 0; j < 8; j++) {
        s[j] = p[j] + p[j + 8];
        m[j] = p[j] * (float)j + p[j + 8] * (float)(j + 8);
    }
    *top = most;
    *sum = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    *moment = ((m[0] + m[4]) + (m[2] + m[6])) + ((m[1] + m[5]) + (m[3] + m[7]));
}

// Four threads an anchor, one a side. Grid: (4 * anchors / 256, images).
extern "C" __global__ void loss_decode(const Head* heads, Decoded* decoded, float* angles, Claim* claims, int* bad) {
    const Head& head = *heads;
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    int anchor = at / 4, side = at % 4, image = blockIdx.y;
    bool real = anchor < head.anchors;
    if (!real) anchor = head.anchors - 1;
    const Level& level = head.level[level_of(head, anchor)];
    int cell = anchor - level.first;
    float logits[BINS], p[BINS], top, sum, moment;
    exponentials(level, cell_start(level, image, cell, level.map_pitch) + side * BINS, logits, p, &top, &sum, &moment);
    float mean = moment * (1.0f / sum);
    bool finite = true;
#pragma unroll
    for (int j = 0; j < BINS; j++) finite = finite && (__float_as_uint(logits[j]) & 0x7f800000u) != 0x7f800000u;
    // Every block of threads is a multiple of 32, so all lanes take part.
    int lane = threadIdx.x % 32, first = lane & ~3;
    float l = __shfl_sync(0xffffffffu, mean, first), t = __shfl_sync(0xffffffffu, mean, first + 1);
    float r = __shfl_sync(0xffffffffu, mean, first + 2), b = __shfl_sync(0xffffffffu, mean, first + 3);
    if (!real) return;
    u64 slot = (u64)image * head.anchors + anchor;
    decoded[slot].side[side] = mean;
    if (!finite) atomicOr(&bad[image], 1);
    if (side != 0) return;
    float cx = (float)(cell % level.w) + 0.5f, cy = (float)(cell / level.w) + 0.5f, stride = (float)level.stride;
    float x1 = cx - l, y1 = cy - t, x2 = cx + r, y2 = cy + b;
    angles[slot] = atanf((x2 - x1) * stride / ((y2 - y1) * stride + EPS));
    claims[slot].takers = 0;
}

// A target as the overlap needs it.
struct Reference {
    float x1, y1, x2, y2, area, angle;
    float reach[4]; // the box within which an anchor's centre has to lie
};

__device__ inline Reference reference(const Target& t) {
    Reference r;
    r.x1 = t.x1, r.y1 = t.y1, r.x2 = t.x2, r.y2 = t.y2;
    float w = t.x2 - t.x1, h = t.y2 - t.y1 + EPS;
    r.area = w * h;
    r.angle = atanf(w / h);
    float cx = (t.x1 + t.x2) / 2.0f, cy = (t.y1 + t.y2) / 2.0f;
    bool thin = t.x2 - t.x1 < 16.0f, flat = t.y2 - t.y1 < 16.0f;
    r.reach[0] = thin ? cx - 8.0f : t.x1;
    r.reach[2] = thin ? cx + 8.0f : t.x2;
    r.reach[1] = flat ? cy - 8.0f : t.y1;
    r.reach[3] = flat ? cy + 8.0f : t.y2;
    return r;
}

__device__ __forceinline__ bool inside(float low, float high, float at) { return at - low > 1e-9f && high - at > 1e-9f; }

// CIoU with the box of a cell, at least 0.
__device__ inline float overlap_with(const Reference& t, const Level& level, int cell, const Decoded& d, float angle) {
    float cx = (float)(cell % level.w) + 0.5f, cy = (float)(cell / level.w) + 0.5f, stride = (float)level.stride;
    float x1 = (cx - d.side[0]) * stride, y1 = (cy - d.side[1]) * stride;
    float x2 = (cx + d.side[2]) * stride, y2 = (cy + d.side[3]) * stride;
    float iw = fmaxf(fminf(x2, t.x2) - fmaxf(x1, t.x1), 0.0f);
    float ih = fmaxf(fminf(y2, t.y2) - fmaxf(y1, t.y1), 0.0f);
    float inter = iw * ih;
    float iou = inter / ((x2 - x1) * (y2 - y1 + EPS) + t.area - inter + EPS);
    float cw = fmaxf(x2, t.x2) - fminf(x1, t.x1);
    float ch = fmaxf(y2, t.y2) - fminf(y1, t.y1);
    float dx = x1 + x2 - t.x1 - t.x2;
    float dy = y1 + y2 - t.y1 - t.y2;
    float distance = (dx * dx + dy * dy) * 0.25f / (cw * cw + ch * ch + EPS);
    float turn = angle - t.angle;
    float v = 4.0f / (PI_F * PI_F) * turn * turn;
    float alpha = v / (v - iou + (1.0f + EPS));
    return fmaxf(iou - distance - alpha * v, 0.0f);
}

__device__ __forceinline__ float power(float x, float exponent) {
    if (exponent == 6.0f) {
        float cube = x * x * x;
        return cube * cube;
    }
    if (exponent == 0.5f) return sqrtf(x);
    return powf(x, exponent);
}

__device__ __forceinline__ float alignment(const Head& head, const Level& level, int image, int cell, int cls,
                                           float overlap) {
    float logit = load(level.map, cell_start(level, image, cell, level.map_pitch) + 4 * BINS + cls, level.map_half);
    float sigmoid, softplus;
    sigmoid_softplus(logit, &sigmoid, &softplus);
    return power(sigmoid, head.alpha) * power(overlap, head.beta);
}

// First and one past the last of `count` cells whose centres lie between `low` and `high` pixels.
__device__ inline void span(float low, float high, float stride, int count, int* from, int* to) {
    float most = (float)count;
    int a = (int)fminf(fmaxf(floorf(low / stride - 0.5f) - 1.0f, 0.0f), most);
    int b = (int)fminf(fmaxf(floorf(high / stride - 0.5f) + 2.0f, 0.0f), most);
    while (a < b && !inside(low, high, ((float)a + 0.5f) * stride)) a++;
    while (b > a && !inside(low, high, ((float)b - 0.5f) * stride)) b--;
    *from = a, *to = b;
}

// The block's largest key; all threads get it. 128 threads.
__device__ inline u64 block_max(u64 key, u64* room) {
    for (int step = 16; step > 0; step /= 2) {
        u64 other = __shfl_xor_sync(0xffffffffu, key, step);
        key = other > key ? other : key;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = key;
    __syncthreads();
    key = room[0];
    for (u32 i = 1; i < blockDim.x / 32; i++) key = room[i] > key ? room[i] : key;
    return key;
}

// A block of 128 threads a target: takes the anchors of largest positive alignment among those whose centre it holds;
// of equal ones the lower. A candidate's key orders by alignment, then by falling anchor. `starts` holds each image's
// first target, and the number of all at [images].
extern "C" __global__ void loss_search(const Head* heads, const Target* targets, const int* starts,
                                       const Decoded* decoded, const float* angles, Claim* claims, Peak* peaks) {
    __shared__ u64 keys[CHUNK + TAKEN];
    __shared__ u64 room[4];
    __shared__ u64 best[TAKEN];
    __shared__ int spans[MAX_LEVELS][4];
    const Head& head = *heads;
    int all = starts[head.images];
    for (int index = blockIdx.x; index < all; index += gridDim.x) {
        const Target target = targets[index];
        const Reference own = reference(target);
        const u64 image_first = (u64)target.image * head.anchors;
        __syncthreads();
        if (threadIdx.x < head.levels) {
            const Level& level = head.level[threadIdx.x];
            int* s = spans[threadIdx.x];
            span(own.reach[0], own.reach[2], (float)level.stride, level.w, &s[0], &s[1]);
            span(own.reach[1], own.reach[3], (float)level.stride, level.h, &s[2], &s[3]);
        }
        if (threadIdx.x < TAKEN) best[threadIdx.x] = 0;
        if (threadIdx.x == 0) peaks[index].metric = peaks[index].overlap = 0.0f;
        __syncthreads();
        int candidates = 0;
        for (int i = 0; i < head.levels; i++) candidates += (spans[i][1] - spans[i][0]) * (spans[i][3] - spans[i][2]);
        for (int begin = 0; begin < candidates; begin += CHUNK) {
            int count = min(candidates - begin, CHUNK);
            for (int i = threadIdx.x; i < count; i += blockDim.x) {
                int rest = begin + i, l = 0;
                for (;; l++) {
                    int here = (spans[l][1] - spans[l][0]) * (spans[l][3] - spans[l][2]);
                    if (rest < here) break;
                    rest -= here;
                }
                const Level& level = head.level[l];
                int across = spans[l][1] - spans[l][0];
                int cell = (spans[l][2] + rest / across) * level.w + spans[l][0] + rest % across;
                int anchor = level.first + cell;
                float overlap = overlap_with(own, level, cell, decoded[image_first + anchor], angles[image_first + anchor]);
                u64 key = 0;
                if (power(overlap, head.beta) > 0.0f) {
                    float metric = alignment(head, level, target.image, cell, target.cls, overlap);
                    if (metric > 0.0f) key = (u64)__float_as_uint(metric) << 32 | (0xffffffffu - (u32)anchor);
                }
                keys[i] = key;
            }
            // What the chunks before gave competes again.
            if (threadIdx.x < TAKEN) keys[count + threadIdx.x] = best[threadIdx.x];
            count += TAKEN;
            __syncthreads();
            u64 mine = 0;
            int where = -1;
            for (int i = threadIdx.x; i < count; i += blockDim.x)
                if (keys[i] > mine) mine = keys[i], where = i;
            for (int k = 0; k < head.topk; k++) {
                u64 top = block_max(mine, room);
                if (threadIdx.x == 0) best[k] = top;
                if (top == 0) continue;
                if (mine == top) {
                    keys[where] = 0;
                    mine = 0;
                    for (int i = threadIdx.x; i < count; i += blockDim.x)
                        if (keys[i] > mine) mine = keys[i], where = i;
                }
            }
            __syncthreads();
        }
        if (threadIdx.x < head.topk && best[threadIdx.x] != 0) {
            u64 key = best[threadIdx.x];
            int anchor = (int)(0xffffffffu - (u32)key);
            const Level& level = head.level[level_of(head, anchor)];
            u64 slot = image_first + anchor;
            // Where several targets take an anchor, the next pass settles it and what stands here is not read.
            atomicAdd(&claims[slot].takers, 1);
            claims[slot].target = index;
            claims[slot].metric = __uint_as_float((u32)(key >> 32));
            claims[slot].overlap = overlap_with(own, level, anchor - level.first, decoded[slot], angles[slot]);
        }
    }
}

// An anchor that several targets took goes to the one that it overlaps most, among all whose box holds its centre.
// Grid: (anchors / 256, images).
extern "C" __global__ void loss_settle(const Head* heads, const Target* targets, const int* starts,
                                       const Decoded* decoded, const float* angles, Claim* claims, Peak* peaks) {
    const Head& head = *heads;
    int anchor = blockIdx.x * blockDim.x + threadIdx.x, image = blockIdx.y;
    if (anchor >= head.anchors) return;
    u64 slot = (u64)image * head.anchors + anchor;
    Claim claim = claims[slot];
    if (claim.takers == 0) return;
    if (claim.takers > 1) {
        const Level& level = head.level[level_of(head, anchor)];
        int cell = anchor - level.first;
        float stride = (float)level.stride;
        float x = ((float)(cell % level.w) + 0.5f) * stride, y = ((float)(cell / level.w) + 0.5f) * stride;
        int winner = -1;
        float most = 0.0f;
        for (int i = starts[image]; i < starts[image + 1]; i++) {
            const Reference r = reference(targets[i]);
            float overlap = 0.0f;
            if (inside(r.reach[0], r.reach[2], x) && inside(r.reach[1], r.reach[3], y))
                overlap = overlap_with(r, level, cell, decoded[slot], angles[slot]);
            if (winner < 0 || overlap > most) winner = i, most = overlap;
        }
        claim.target = winner;
        claim.overlap = most;
        claim.metric = alignment(head, level, image, cell, targets[winner].cls, most);
        claims[slot] = claim;
    }
    // Neither is negative, so that their bits order as they do.
    atomicMax((int*)&peaks[claim.target].metric, __float_as_int(claim.metric));
    atomicMax((int*)&peaks[claim.target].overlap, __float_as_int(claim.overlap));
}

// Each anchor's class target. Sums and counts by block. Grid: (anchors / 256, images).
extern "C" __global__ void loss_scores(const Head* heads, const Claim* claims, const Peak* peaks, float* scores,
                                       double* sums, int* counts) {
    __shared__ double room[256];
    const Head& head = *heads;
    int anchor = blockIdx.x * blockDim.x + threadIdx.x, image = blockIdx.y;
    float score = 0.0f;
    if (anchor < head.anchors) {
        u64 slot = (u64)image * head.anchors + anchor;
        const Claim claim = claims[slot];
        if (claim.takers > 0) {
            const Peak peak = peaks[claim.target];
            score = claim.metric * (peak.overlap / (peak.metric + 1e-9f));
            if (!(score > 0.0f)) score = 0.0f;
        }
        scores[slot] = score;
    }
    double sum = block_sum((double)score, room);
    double count = block_sum(score > 0.0f ? 1.0 : 0.0, room);
    if (threadIdx.x == 0) {
        sums[image * gridDim.x + blockIdx.x] = sum;
        counts[image * gridDim.x + blockIdx.x] = (int)count;
    }
}

// The weights of the terms in the total: gain * images / max(sum of class targets, 1). One block of 256.
extern "C" __global__ void loss_scales(const Head* heads, const double* sums, const int* counts, int blocks,
                                       double* scales, int* foreground) {
    __shared__ double room[256];
    const Head& head = *heads;
    double sum = 0.0, count = 0.0;
    for (int i = threadIdx.x; i < blocks; i += blockDim.x) sum += sums[i], count += (double)counts[i];
    sum = block_sum(sum, room);
    count = block_sum(count, room);
    if (threadIdx.x == 0) {
        double batch = (double)head.images / (sum > 1.0 ? sum : 1.0);
        scales[0] = head.gain_box * batch;
        scales[1] = head.gain_cls * batch;
        scales[2] = head.gain_dfl * batch;
        *foreground = (int)count;
    }
}

// CIoU of p with t (x1, y1, x2, y2), and its derivative by p; alpha counts as a constant.
__device__ inline double ciou(const double p[4], const double t[4], double slope[4]) {
    const double eps = 1e-7;
    double w = p[2] - p[0], h = p[3] - p[1] + eps, tw = t[2] - t[0], th = t[3] - t[1] + eps;
    double inner[4] = {p[0] > t[0] ? 1.0 : 0.0, p[1] > t[1] ? 1.0 : 0.0, p[2] < t[2] ? 1.0 : 0.0, p[3] < t[3] ? 1.0 : 0.0};
    const double sign[4] = {-1.0, -1.0, 1.0, 1.0};
    double iw = fmin(p[2], t[2]) - fmax(p[0], t[0]), ih = fmin(p[3], t[3]) - fmax(p[1], t[1]);
    bool over = iw > 0.0 && ih > 0.0;
    double inter = over ? iw * ih : 0.0;
    double whole = w * h + tw * th - inter + eps;
    double iou = inter / whole;
    double cw = fmax(p[2], t[2]) - fmin(p[0], t[0]), ch = fmax(p[3], t[3]) - fmin(p[1], t[1]);
    double diagonal = cw * cw + ch * ch + eps;
    double dx = (p[0] + p[2] - t[0] - t[2]) / 2.0, dy = (p[1] + p[3] - t[1] - t[3]) / 2.0;
    double distance = dx * dx + dy * dy;
    double angle = atan(w / h) - atan(tw / th);
    double v = 4.0 / (PI_D * PI_D) * angle * angle;
    double alpha = v / (v - iou + 1.0 + eps);
    for (int i = 0; i < 4; i++) {
        bool horizontal = i % 2 == 0;
        double area = sign[i] * (horizontal ? h : w);
        double d_inter = over ? sign[i] * inner[i] * (horizontal ? ih : iw) : 0.0;
        double d_whole = area - d_inter;
        double d_iou = (d_inter * whole - inter * d_whole) / (whole * whole);
        double d_diagonal = 2.0 * sign[i] * (1.0 - inner[i]) * (horizontal ? cw : ch);
        double d_penalty = ((horizontal ? dx : dy) * diagonal - distance * d_diagonal) / (diagonal * diagonal);
        double d_atan = sign[i] * (horizontal ? h : -w) / (w * w + h * h);
        slope[i] = d_iou - d_penalty - alpha * (8.0 / (PI_D * PI_D) * angle * d_atan);
    }
    return iou - distance / diagonal - alpha * v;
}

// Terms and gradient. Four threads an anchor: each does a side of the box and every fourth class. `learn`: whether to
// write gradients. Grid: (4 * anchors / 256, images); sums by block: box, class, dfl.
extern "C" __global__ void loss_terms(const Head* heads, const Target* targets, const Decoded* decoded,
                                      const Claim* claims, const float* scores, const double* scales, int learn,
                                      double* partial) {
    __shared__ double room[256];
    const Head& head = *heads;
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    int anchor = at / 4, side = at % 4, image = blockIdx.y;
    double box = 0.0, cls = 0.0, dfl = 0.0;
    if (anchor < head.anchors) {
        const Level& level = head.level[level_of(head, anchor)];
        int cell = anchor - level.first;
        u64 slot = (u64)image * head.anchors + anchor;
        u64 map = cell_start(level, image, cell, level.map_pitch);
        u64 grad = cell_start(level, image, cell, level.grad_pitch);
        double score = (double)scores[slot];
        int own = -1;
        if (score > 0.0) {
            const Target target = targets[claims[slot].target];
            own = target.cls;
            float logits[BINS], p[BINS], top, sum, moment;
            exponentials(level, map + side * BINS, logits, p, &top, &sum, &moment);
            float share = 1.0f / sum, mean = moment * share;
            double log_sum = (double)(top + logf(sum));
            double cx = (double)((float)(cell % level.w) + 0.5f), cy = (double)((float)(cell / level.w) + 0.5f);
            double stride = (double)level.stride;
            const Decoded d = decoded[slot];
            double predicted[4] = {cx - (double)d.side[0], cy - (double)d.side[1], cx + (double)d.side[2], cy + (double)d.side[3]};
            double truth[4] = {(double)target.x1 / stride, (double)target.y1 / stride, (double)target.x2 / stride, (double)target.y2 / stride};
            double slope[4];
            double value = ciou(predicted, truth, slope);
            if (side == 0) box = score * (1.0 - value);
            // Left and top grow towards smaller coordinates.
            double by_side = side == 0 ? slope[0] : (side == 1 ? slope[1] : (side == 2 ? -slope[2] : -slope[3]));
            double y = side == 0 ? cx - truth[0] : (side == 1 ? cy - truth[1] : (side == 2 ? truth[2] - cx : truth[3] - cy));
            y = fmin(fmax(y, 0.0), (double)BINS - 1.0 - 0.01);
            int lower = (int)y;
            double upper = y - (double)lower;
            double at_lower = 0.0, at_upper = 0.0;
#pragma unroll
            for (int j = 0; j < BINS; j++) {
                if (j == lower) at_lower = (double)logits[j];
                if (j == lower + 1) at_upper = (double)logits[j];
            }
            double loss = (1.0 - upper) * (log_sum - at_lower);
            if (upper > 0.0) loss += upper * (log_sum - at_upper);
            dfl = score * (loss / 4.0);
            if (learn) {
                float pull = (float)(score * scales[0] * by_side), push = (float)(score * scales[2] / 4.0);
#pragma unroll
                for (int j = 0; j < BINS; j++) {
                    float g = p[j] * share * (pull * ((float)j - mean) + push);
                    if (j == lower) g -= push * (float)(1.0 - upper);
                    if (j == lower + 1 && upper > 0.0) g -= push * (float)upper;
                    store(level.grad, grad + side * BINS + j, g, level.grad_half);
                }
            }
        } else if (learn) {
#pragma unroll
            for (int j = 0; j < BINS; j++) store(level.grad, grad + side * BINS + j, 0.0f, level.grad_half);
        }
        float scale = (float)scales[1];
        float softplus_sum = 0.0f;
        for (int c = side; c < head.classes; c += 4) {
            float x = load(level.map, map + 4 * BINS + c, level.map_half), sigmoid, softplus;
            sigmoid_softplus(x, &sigmoid, &softplus);
            // The last term is 0, or not a number where the logit is not finite.
            float weight = head.weights[c];
            softplus_sum += (softplus + x * 0.0f) * weight;
            float g = sigmoid * scale * weight;
            if (c == own) {
                double weighted = score * (double)weight;
                cls -= weighted * (double)x;
                g -= (float)(weighted * scales[1]);
            }
            if (learn) store(level.grad, grad + 4 * BINS + c, g, level.grad_half);
        }
        cls += (double)softplus_sum;
    }
    box = block_sum(box, room);
    cls = block_sum(cls, room);
    dfl = block_sum(dfl, room);
    if (threadIdx.x == 0) {
        double* sums = partial + (u64)(image * gridDim.x + blockIdx.x) * 3;
        sums[0] = box, sums[1] = cls, sums[2] = dfl;
    }
}

// The batch's items. One block of 256; `blocks`: those of `loss_terms` an image. Clears `bad` for the next batch.
extern "C" __global__ void loss_items(const Head* heads, const double* partial, int blocks, const double* scales,
                                      const int* foreground, int* bad, Items* items) {
    __shared__ double room[256];
    __shared__ int first_bad;
    const Head& head = *heads;
    if (threadIdx.x == 0) first_bad = head.images;
    __syncthreads();
    double sums[3] = {0.0, 0.0, 0.0};
    // A warp an image, in a fixed order.
    int lane = threadIdx.x % 32;
    for (int image = threadIdx.x / 32; image < head.images; image += blockDim.x / 32) {
        double own[3] = {0.0, 0.0, 0.0};
        for (int b = lane; b < blocks; b += 32)
            for (int k = 0; k < 3; k++) own[k] += partial[(u64)(image * blocks + b) * 3 + k];
        for (int step = 16; step > 0; step /= 2)
            for (int k = 0; k < 3; k++) own[k] += __shfl_xor_sync(0xffffffffu, own[k], step);
        if (lane != 0) continue;
        double all = own[0] + own[1] + own[2];
        // Terms that overflow are caught here too.
        if (!(all - all == 0.0) || bad[image]) atomicMin(&first_bad, image);
        bad[image] = 0;
        for (int k = 0; k < 3; k++) sums[k] += own[k];
    }
    for (int k = 0; k < 3; k++) sums[k] = block_sum(sums[k], room);
    if (threadIdx.x == 0) {
        double n = (double)head.images;
        items->box = sums[0] * (scales[0] / n);
        items->cls = sums[1] * (scales[1] / n);
        items->dfl = sums[2] * (scales[2] / n);
        items->total = (items->box + items->cls + items->dfl) * n;
        items->foreground = *foreground;
        items->bad = first_bad < head.images ? (u32)first_bad + 1 : 0;
    }
}
