// From raw head maps to the boxes that score above a threshold: crates/tune/src/evaluate/decode.rs, with several
// labels for a box. They come in no particular order; the host sorts and thins them. Uses the head of loss.cu.

struct Candidate {
    float score;
    u32 anchor, cls;
    float x1, y1, x2, y2; // pixels of the network's input
    u32 unused;
};

__device__ inline float expectation(const Level& level, u64 at) {
    float logits[BINS], most = -3.4e38f;
#pragma unroll
    for (int j = 0; j < BINS; j++) {
        logits[j] = load(level.map, at + j, level.map_half);
        most = fmaxf(most, logits[j]);
    }
    float sum = 0.0f, weighted = 0.0f;
#pragma unroll
    for (int j = 0; j < BINS; j++) {
        float e = expf(logits[j] - most);
        sum += e;
        weighted += e * (float)j;
    }
    return weighted / sum;
}

// `counts`: how many of each image scored above `conf`, of which the first `room` are kept. `least`: a logit below
// which no score passes. `bad`: set for an image with a class logit that is not a number, or a passing box that is
// not finite. Grid: (anchors / 256, images).
extern "C" __global__ void find_candidates(const Head* heads, float conf, float least, u32 room, u32* counts, int* bad,
                                           Candidate* out) {
    const Head& head = *heads;
    int anchor = blockIdx.x * blockDim.x + threadIdx.x, image = blockIdx.y;
    if (anchor >= head.anchors) return;
    const Level& level = head.level[level_of(head, anchor)];
    int cell = anchor - level.first;
    u64 at = cell_start(level, image, cell, level.map_pitch);
    bool decoded = false;
    float side[4];
    for (int c = 0; c < head.classes; c++) {
        float logit = load(level.map, at + 4 * BINS + c, level.map_half);
        if (logit < least) continue;
        if (logit != logit) {
            atomicOr(&bad[image], 1);
            continue;
        }
        float score = 1.0f / (1.0f + expf(-logit));
        if (!(score > conf)) continue;
        if (!decoded) {
#pragma unroll
            for (int k = 0; k < 4; k++) side[k] = expectation(level, at + k * BINS);
            decoded = true;
        }
        u32 place = atomicAdd(&counts[image], 1u);
        if (place >= room) continue;
        float cx = (float)(cell % level.w) + 0.5f, cy = (float)(cell / level.w) + 0.5f, stride = (float)level.stride;
        Candidate found;
        found.score = score, found.anchor = (u32)anchor, found.cls = (u32)c, found.unused = 0;
        found.x1 = (cx - side[0]) * stride, found.y1 = (cy - side[1]) * stride;
        found.x2 = (cx + side[2]) * stride, found.y2 = (cy + side[3]) * stride;
        float all = found.x1 + found.y1 + found.x2 + found.y2;
        if (!(all - all == 0.0f)) atomicOr(&bad[image], 1);
        out[(u64)image * room + place] = found;
    }
}

// Nothing found yet.
extern "C" __global__ void clear_candidates(u32* counts, int* bad, int images) {
    for (int i = threadIdx.x; i < images; i += blockDim.x) counts[i] = 0, bad[i] = 0;
}
