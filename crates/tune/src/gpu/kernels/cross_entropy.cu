// A classifier's loss: crates/tune/src/train/loss/cross_entropy.rs, in double precision as there. `Target` and `Items` are
// loss.cu's.

// One block of 128 an image: its loss, weighted and not yet divided, and where asked for the gradient of the batch's mean.
// `bad` becomes 1 where a logit is not finite.
extern "C" __global__ void cross_entropy(const void* logits, int half, int pitch, void* grad, int grad_half, int grad_pitch,
                                         int classes, const Target* targets, const int* starts, const float* weights,
                                         double* losses, double* shares, u32* bad) {
    __shared__ double room[128];
    const int image = blockIdx.x, images = gridDim.x, tid = threadIdx.x;
    double own = 0.0, broken = 0.0, most = -1.0e300;
    for (int i = tid; i < images; i += blockDim.x) own += (double)weights[targets[starts[i + 1] - 1].cls];
    const double total = block_sum(own, room);
    const u64 first = (u64)image * (u64)pitch;
    for (int c = tid; c < classes; c += blockDim.x) {
        double v = (double)load(logits, first + c, half);
        if (!(v - v == 0.0)) broken = 1.0;
        if (v > most) most = v;
    }
    broken = block_sum(broken, room);
    __syncthreads();
    room[tid] = most;
    __syncthreads();
    for (u32 part = blockDim.x / 2; part > 0; part /= 2) {
        if (tid < (int)part && room[tid + part] > room[tid]) room[tid] = room[tid + part];
        __syncthreads();
    }
    most = room[0];
    double sum = 0.0;
    for (int c = tid; c < classes; c += blockDim.x) sum += exp((double)load(logits, first + c, half) - most);
    sum = block_sum(sum, room);
    const int truth = targets[starts[image + 1] - 1].cls;
    const double weight = (double)weights[truth], offset = most + log(sum);
    if (tid == 0) {
        losses[image] = weight * (offset - (double)load(logits, first + truth, half));
        shares[image] = weight;
        bad[image] = broken > 0.0;
    }
    if (!grad) return;
    for (int c = tid; c < classes; c += blockDim.x) {
        double share = exp((double)load(logits, first + c, half) - offset) - (c == truth ? 1.0 : 0.0);
        store(grad, (u64)image * (u64)grad_pitch + c, (float)(weight * share / total), grad_half);
    }
}

// One block of 256: the batch's mean.
extern "C" __global__ void cross_entropy_items(const double* losses, const double* shares, const u32* bad, int images,
                                               Items* items) {
    __shared__ double room[256];
    double loss = 0.0, share = 0.0;
    for (int i = threadIdx.x; i < images; i += blockDim.x) loss += losses[i], share += shares[i];
    loss = block_sum(loss, room);
    share = block_sum(share, room);
    if (threadIdx.x > 0) return;
    double mean = loss / (share > 2.2250738585072014e-308 ? share : 2.2250738585072014e-308);
    items->box = items->dfl = 0.0;
    items->cls = items->total = mean;
    items->foreground = images;
    items->bad = 0;
    for (int i = images - 1; i >= 0; i--)
        if (bad[i]) items->bad = (u32)i + 1;
}
