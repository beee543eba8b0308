// Colours and the network's input, for all that draws samples.

// A sample's colour tables, as the host's code for the processor makes them.
struct Colours {
    float saturation[256], value[256];
    float fraction[180];
    u32 order[180]; // for R, G and B, in bits 0-1, 2-3 and 4-5: which of v, p, q, t
};

// OpenCV's 8-bit HSV and back, through the sample's tables. `reciprocals`: 255 / i, then 30 / i, in 2^-12.
__device__ inline void jitter(const Colours& colours, const int* reciprocals, u32 p[3]) {
    int r = p[0], g = p[1], b = p[2];
    int v = max(r, max(g, b)), difference = v - min(r, min(g, b));
    int s = (difference * reciprocals[v] + 2048) >> 12;
    int toward = v == r ? g - b : (v == g ? b - r + 2 * difference : r - g + 4 * difference);
    int h = (toward * reciprocals[256 + difference] + 2048) >> 12;
    if (h < 0) h += 180;
    float saturation = colours.saturation[s & 255], value = colours.value[v & 255], fraction = colours.fraction[h];
    u32 order = colours.order[h];
    float mix[4] = {value, value * (1.0f - saturation), value * (1.0f - saturation * fraction),
                    value * (1.0f - saturation * (1.0f - fraction))};
    for (int c = 0; c < 3; c++) {
        u32 which = (order >> (2 * c)) & 3u;
        float chosen = which == 0 ? mix[0] : (which == 1 ? mix[1] : (which == 2 ? mix[2] : mix[3]));
        p[c] = (u32)(chosen * 255.0f);
    }
}

// One pixel into the network's input: `stride` elements, of which the first three are R, G and B and the rest 0. `normal`:
// what is taken from the three fractions of 1, and what they are then multiplied by.
__device__ __forceinline__ void put(void* out, u64 pixel, int stride, int half, const float* normal, const u32 p[3]) {
    float value[3];
    for (int c = 0; c < 3; c++) value[c] = ((float)p[c] / 255.0f - normal[c]) * normal[3 + c];
    if (half && (stride == 4 || stride == 8)) {
        u64 low = (u64)narrow(value[0]) | (u64)narrow(value[1]) << 16 | (u64)narrow(value[2]) << 32;
        u64* at = (u64*)((u16*)out + pixel * stride);
        at[0] = low;
        if (stride == 8) at[1] = 0;
        return;
    }
    for (int c = 0; c < stride; c++) store(out, pixel * stride + c, c < 3 ? value[c] : 0.0f, half);
}
