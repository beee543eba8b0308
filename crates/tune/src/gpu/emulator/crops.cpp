#include "emulator.hpp"
namespace {
#include "../kernels/common.cuh"
#include "../kernels/pixels.cuh"
#include "../kernels/crops.cu"
}
const Entry crops_kernels[] = {KERNEL(crop_images), KERNEL(operation_tables), KERNEL(apply_operation), KERNEL(crops_to_input),
                               KERNEL(gather_features), {nullptr, nullptr}};
