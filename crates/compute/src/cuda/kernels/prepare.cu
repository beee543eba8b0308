// Parameters to what the kernels read: weights by tap in the kernels' types and orders, fixed norms as scale and shift.
#include "common.cuh"

// A norm with fixed statistics; where it is folded into a convolution, that one's bias too.
struct FixedNorm {
    int gamma, beta, mean, var; // places in the parameters
    int saved, channels;        // first place in the tables of statistics, to which mean and variance go where `keep`
    int bias;                   // of the convolution that it is folded into, in the parameters, or -1
    int folded;                 // where that one's new bias goes, or -1
    int keep;
    float eps;
};
extern "C" __global__ void fix_norms(const FixedNorm *norms, const float *params, float *affine, float *means, float *vars,
                                     float *biases) {
    FixedNorm n = norms[blockIdx.x];
    for (int c = threadIdx.x; c < n.channels; c += blockDim.x) {
        float mean = params[n.mean + c], var = params[n.var + c];
        float scale = params[n.gamma + c] * rsqrtf(var + n.eps), shift = params[n.beta + c] - mean * scale;
        affine[2 * n.saved + c] = scale;
        affine[2 * n.saved + n.channels + c] = shift;
        if (n.keep) {
            means[n.saved + c] = mean;
            vars[n.saved + c] = var;
        }
        if (n.folded >= 0) biases[n.folded + c] = shift + (n.bias >= 0 ? params[n.bias + c] * scale : 0.f);
    }
}

// One tap of a dense convolution's weight, [in][out] in the parameters.
struct WeightTap {
    int from, in, out;
    int scale;                          // place of a folded norm's scale, or -1
    int forward, forward_pitch;         // forward: [out][pitch], this tap's channels from `forward` on
    int backward, backward_pitch;       // gradient: [in][pitch], this tap's outputs from `backward` on, or -1
    int first_tile;                     // of its 32x32 tiles among all taps'
};
template <typename T>
__device__ void pack_weights(const WeightTap *taps, int count, const float *params, const float *affine, T *weights) {
    __shared__ float tile[32][33];
    int low = 0, high = count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (taps[middle].first_tile <= int(blockIdx.x)) low = middle;
        else high = middle - 1;
    }
    WeightTap t = taps[low];
    int index = blockIdx.x - t.first_tile, across = (t.out + 31) / 32;
    int first_in = index / across * 32, first_out = index % across * 32;
    int x = threadIdx.x % 32;
    for (int y = threadIdx.x / 32; y < 32; y += blockDim.x / 32) {
        int c = first_in + y, o = first_out + x;
        bool valid = c < t.in && o < t.out;
        float v = valid ? params[t.from + i64(c) * t.out + o] : 0.f;
        tile[y][x] = v;
        if (valid && t.backward >= 0) weights[t.backward + i64(c) * t.backward_pitch + o] = from_float<T>(v);
    }
    __syncthreads();
    for (int y = threadIdx.x / 32; y < 32; y += blockDim.x / 32) {
        int o = first_out + y, c = first_in + x;
        if (c < t.in && o < t.out) {
            float scale = t.scale >= 0 ? affine[t.scale + o] : 1.f;
            weights[t.forward + i64(o) * t.forward_pitch + c] = from_float<T>(tile[x][y] * scale);
        }
    }
}
extern "C" __global__ void pack_weights_bf16(const WeightTap *taps, int count, const float *params, const float *affine, bf16 *weights) {
    pack_weights(taps, count, params, affine, weights);
}
extern "C" __global__ void pack_weights_float(const WeightTap *taps, int count, const float *params, const float *affine, float *weights) {
    pack_weights(taps, count, params, affine, weights);
}

// Depthwise weights [taps][channels] times a folded norm's scale.
extern "C" __global__ void scale_depthwise(const float *from, const float *scale, float *to, int channels, int len) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < len) to[i] = from[i] * scale[i % channels];
}

// Pixels of `channels` elements to pixels of four, the rest zeros: rows of one, two or three channels cannot be copied at once.
extern "C" __global__ void pad_channels_bf16(const bf16 *x, i64 stride, bf16 *y, int channels, int pixels) {
    for (int p = blockIdx.x * blockDim.x + threadIdx.x; p < pixels; p += gridDim.x * blockDim.x) {
        Pack<bf16, 4> pack;
#pragma unroll
        for (int c = 0; c < 4; c++) pack.at[c] = c < channels ? x[p * stride + c] : bf16{0};
        *reinterpret_cast<Pack<bf16, 4> *>(y + i64(p) * 4) = pack;
    }
}
