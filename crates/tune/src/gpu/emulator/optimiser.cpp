#include "emulator.hpp"
namespace {
#include "../kernels/common.cuh"
#include "../kernels/optimiser.cu"
}
const Entry optimiser_kernels[] = {
    KERNEL(gather_gradients), KERNEL(square_sums), KERNEL(decide_step), KERNEL(look_ahead), KERNEL(update_parameters),
    KERNEL(orthogonal_norms), KERNEL(orthogonal_start), KERNEL(orthogonal_product), KERNEL(orthogonal_finish), {nullptr, nullptr}};
