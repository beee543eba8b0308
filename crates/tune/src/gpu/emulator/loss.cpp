#include "emulator.hpp"
namespace {
#include "../kernels/common.cuh"
#include "../kernels/loss.cu"
#include "../kernels/candidates.cu"
#include "../kernels/cross_entropy.cu"
}
const Entry loss_kernels[] = {
    KERNEL(loss_decode), KERNEL(loss_search), KERNEL(loss_settle), KERNEL(loss_scores), KERNEL(loss_scales),
    KERNEL(loss_terms), KERNEL(loss_items), KERNEL(find_candidates), KERNEL(clear_candidates), KERNEL(cross_entropy), KERNEL(cross_entropy_items), {nullptr, nullptr}};
